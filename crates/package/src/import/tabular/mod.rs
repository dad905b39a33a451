//! From a checked ONNX graph to a [`TabularPlan`].
//!
//! Nodes are taken in order. Every value has one row per row of the request; what only renames or reshapes it (`Identity`,
//! `Reshape` of one column, `ZipMap`) becomes no step. A node that cannot be taken leaves its results unknown, and of nodes
//! that read unknown values only the operator is judged, so that one run shows every place there is to change, each once.

pub(super) mod classic;
pub(super) mod dense;
pub(super) mod trees;

use std::collections::BTreeMap;

use lockgate_onnx::{Data, Tensor};

use super::onnx::{Attributes, Dimension, ElementType, Node, OnnxModel, integers};
use super::operators::{self, NEWEST_OPSETS};
use super::{Refusal, about_graph};
use crate::plan::tabular::{
    Array, ArrayKind, Kind, MOST_COLUMNS, Operand, Rounding, Step, Table, TabularPlan, Trees, Value,
};
use crate::{Datatype, TensorSpec};

/// How one operator becomes steps.
pub(super) type Lower = for<'m> fn(&mut Lowering<'m>, &'m Node, &Attributes<'m>) -> Result<(), Refusal>;

/// A tabular model, ready to be sealed into a package.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ImportedTabular {
    pub(super) plan: TabularPlan,
    pub(super) arrays: Vec<Vec<u8>>,
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    /// The classes, in the order of the scores; empty when the model gives none.
    pub(super) classes: Vec<Label>,
    /// The model was made to be given missing values.
    pub(super) accepts_missing: bool,
    pub(super) operations_per_row: u64,
}

/// A class as the model calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label {
    Integer(i64),
    Text(String),
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Symbol {
    Constant(Tensor),
    Value(Tracked),
    /// A node that could not be taken writes it.
    Unknown,
}

/// A value of the plan, as the graph sees it.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) value: u32,
    pub(super) form: Form,
    /// Integers of both sizes share a kind.
    pub(super) element: ElementType,
    /// What its columns, or the labels it holds, are called.
    pub(super) classes: Option<Vec<Label>>,
}

/// The shape that the graph sees. The value always holds one row per row of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[N, columns]`
    Matrix,
    /// `[N]`, of one column.
    Vector,
    /// `[1, N]`, of one column.
    Across,
    /// `[N · columns, 1]`: what `Reshape` makes of several columns. Can only be given out.
    StretchedMatrix,
    /// `[N · columns]`, likewise.
    StretchedVector,
}

/// The plan under construction.
pub(super) struct Lowering<'m> {
    model: &'m OnnxModel,
    symbols: BTreeMap<&'m str, Symbol>,
    uses: BTreeMap<&'m str, usize>,
    values: Vec<Value>,
    arrays: Vec<(Array, Vec<u8>)>,
    texts: Vec<String>,
    steps: Vec<Step>,
    accepts_missing: bool,
    operations: u64,
}

/// Imports a pipeline of tabular operators. `features` is how many features the manifest names, which settles the width of an
/// input that declares none.
///
/// # Errors
/// Everything that cannot be imported, in the order of the nodes.
pub(super) fn import_tabular(model: &OnnxModel, features: usize) -> Result<ImportedTabular, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut lowering = Lowering::new(model);
    let inputs = lowering.inputs(features, &mut refusals);
    for node in &model.nodes {
        if let Err(more) = lowering.node(node) {
            refusals.extend(more);
            for output in node.outputs.iter().filter(|output| !output.is_empty()) {
                lowering.symbols.insert(output, Symbol::Unknown);
            }
        }
    }
    let outputs = lowering.outputs(&inputs, &mut refusals);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    lowering.finish(inputs, outputs)
}

impl<'m> Lowering<'m> {
    fn new(model: &'m OnnxModel) -> Self {
        let mut uses = BTreeMap::new();
        let reads = model
            .nodes
            .iter()
            .flat_map(|node| &node.inputs)
            .chain(model.outputs.iter().map(|output| &output.name));
        for name in reads {
            *uses.entry(name.as_str()).or_insert(0) += 1;
        }
        let constants =
            model.initializers.iter().map(|(name, value)| (name.as_str(), Symbol::Constant(value.clone())));
        Self {
            model,
            symbols: constants.collect(),
            uses,
            values: Vec::new(),
            arrays: Vec::new(),
            texts: Vec::new(),
            steps: Vec::new(),
            accepts_missing: false,
            operations: 0,
        }
    }

    fn inputs(&mut self, features: usize, refusals: &mut Vec<Refusal>) -> Vec<TensorSpec> {
        let mut specs = Vec::new();
        for input in &self.model.inputs {
            let name = &input.name;
            let mut refuse = |message: String, hint: &str| {
                refusals.push(about_graph(format!("input `{name}`: {message}"), hint));
            };
            self.symbols.insert(name, Symbol::Unknown);
            let element = input.element.unwrap_or(ElementType::Other(0));
            let (kind, datatype) = match element {
                ElementType::Float => (Kind::F32, Datatype::Fp32),
                ElementType::Double => (Kind::F64, Datatype::Fp64),
                ElementType::Int64 => (Kind::I64, Datatype::Int64),
                ElementType::Int32 => (Kind::I64, Datatype::Int32),
                ElementType::Bool => (Kind::Bool, Datatype::Bool),
                ElementType::String => {
                    refuse(
                        "text is not supported".to_owned(),
                        "encode categories and text as numbers before the model",
                    );
                    continue;
                }
                other => {
                    refuse(
                        format!("{other} is not supported, expected float, double, int32, int64 or bool"),
                        "export the model with float inputs",
                    );
                    continue;
                }
            };
            let Some([batch, width]) = input.shape.as_deref().and_then(|shape| shape.as_array::<2>()) else {
                refuse(
                    "expected the shape [rows, columns]".to_owned(),
                    "export with an input of two dimensions, FloatTensorType([None, n_features])",
                );
                continue;
            };
            let named = if self.model.inputs.len() == 1 { features } else { 0 };
            let columns = match width {
                Dimension::Fixed(columns) => u32::try_from(*columns).unwrap_or(u32::MAX),
                _ if named > 0 => u32::try_from(named).unwrap_or(u32::MAX),
                _ => self.width_from_readers(name).unwrap_or(0),
            };
            if columns == 0 || columns > MOST_COLUMNS {
                refuse(
                    "the number of columns is not declared, or too large".to_owned(),
                    "export with FloatTensorType([None, n_features]), or name the features in the manifest",
                );
                continue;
            }
            let batch = if let Dimension::Fixed(rows) = batch { *rows } else { -1 };
            let value = self.value(kind, columns);
            self.bind(name, Tracked { value, form: Form::Matrix, element, classes: None });
            specs.push(TensorSpec { name: name.clone(), datatype, shape: vec![batch, i64::from(columns)] });
        }
        specs
    }

    /// The width of an input as the first node that reads it knows it.
    fn width_from_readers(&self, name: &str) -> Option<u32> {
        let constant_rows = |name: Option<&str>| {
            let constant = name.and_then(|name| self.model.constant(name))?;
            constant.shape().first().copied().filter(|_| constant.rank() == 2)
        };
        let width = self.model.nodes.iter().filter(|node| node.input(0) == Some(name)).find_map(|node| {
            let attributes = node.attributes();
            match node.operator.as_str() {
                "Scaler" => Some(attributes.floats("offset").len().max(attributes.floats("scale").len()))
                    .filter(|&n| n > 1),
                "LinearRegressor" => {
                    let targets = usize::try_from(attributes.int_or("targets", 1)).ok()?;
                    attributes.floats("coefficients").len().checked_div(targets)
                }
                "LinearClassifier" => {
                    attributes.floats("coefficients").len().checked_div(attributes.floats("intercepts").len())
                }
                "MatMul" => constant_rows(node.input(1)),
                "Gemm" if attributes.int_or("transB", 0) == 0 => constant_rows(node.input(1)),
                _ => None,
            }
        });
        u32::try_from(width?).ok()
    }

    fn node(&mut self, node: &'m Node) -> Result<(), Vec<Refusal>> {
        let Some(support) = operators::support(node) else {
            return Err(vec![
                node.refusal("this operator is not supported", operators::hint(&node.operator)),
            ]);
        };
        if node.opset < support.since || node.opset > support.until {
            return Err(vec![node.refusal(
                format!("this operator is understood from opset {} to {}", support.since, support.until),
                "export with another target_opset",
            )]);
        }
        if node.inputs.iter().any(|input| matches!(self.symbols.get(input.as_str()), Some(Symbol::Unknown))) {
            return Err(Vec::new());
        }
        let attributes = node.attributes();
        let result = (support.lower)(self, node, &attributes);
        debug_assert!(
            attributes.reads().iter().all(|name| support.attributes.contains(&name.as_str())),
            "{support:?} reads {:?}",
            attributes.reads()
        );
        if result.is_err() {
            // It stopped early: what it had not read by then is no more unsupported than before.
            attributes.has_no_effect(support.attributes);
        }
        let mut refusals = attributes.finish();
        match result {
            Ok(()) if refusals.is_empty() => Ok(()),
            Ok(()) => Err(refusals),
            Err(refusal) => {
                // An attribute that was refused explains the rest.
                if refusals.is_empty() {
                    refusals.push(refusal);
                }
                Err(refusals)
            }
        }
    }

    fn outputs(&mut self, inputs: &[TensorSpec], refusals: &mut Vec<Refusal>) -> Vec<(TensorSpec, Tracked)> {
        for (domain, newest) in NEWEST_OPSETS {
            if let Some(version) = self.model.newest_opset(domain).filter(|&version| version > newest) {
                refusals.push(operators::newer_opset(domain, version, newest));
            }
        }
        let batch = inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(-1);
        if inputs.iter().any(|input| input.shape.first() != Some(&batch)) {
            refusals.push(about_graph(
                "the inputs have different numbers of rows",
                "export with a free batch dimension",
            ));
        }
        let mut outputs = Vec::new();
        for output in &self.model.outputs {
            let name = &output.name;
            let mut refuse = |message: &str, hint: &str| {
                refusals.push(about_graph(format!("output `{name}`: {message}"), hint));
            };
            let tracked = match self.symbols.get(name.as_str()) {
                Some(Symbol::Value(tracked)) => tracked.clone(),
                Some(Symbol::Constant(_)) => {
                    refuse(
                        "it does not depend on the inputs",
                        "leave constant outputs out of the exported model",
                    );
                    continue;
                }
                _ => continue,
            };
            let Some(&Value { columns, .. }) = self.values.get(tracked.value as usize) else {
                continue;
            };
            let columns = i64::from(columns);
            let rows = |factor: i64| if batch == -1 { -1 } else { batch.saturating_mul(factor) };
            let shape = match tracked.form {
                Form::Matrix => vec![rows(1), columns],
                Form::Vector => vec![rows(1)],
                Form::StretchedMatrix => vec![rows(columns), 1],
                Form::StretchedVector => vec![rows(columns)],
                Form::Across => {
                    refuse(
                        "its rows lie in the second dimension",
                        "give it the shape [rows] or [rows, columns]",
                    );
                    continue;
                }
            };
            let datatype = match tracked.element {
                ElementType::Double => Datatype::Fp64,
                ElementType::Int64 => Datatype::Int64,
                ElementType::Int32 => Datatype::Int32,
                ElementType::Bool => Datatype::Bool,
                ElementType::String => Datatype::Bytes,
                _ => Datatype::Fp32,
            };
            outputs.push((TensorSpec { name: name.clone(), datatype, shape }, tracked));
        }
        outputs
    }

    /// Leaves out what no output needs, numbers the rest anew, and closes the plan.
    fn finish(
        self,
        inputs: Vec<TensorSpec>,
        outputs: Vec<(TensorSpec, Tracked)>,
    ) -> Result<ImportedTabular, Vec<Refusal>> {
        let mut needed = vec![false; self.values.len()];
        let mut mark = |value: u32| {
            if let Some(needed) = needed.get_mut(value as usize) {
                *needed = true;
            }
        };
        (0..inputs.len()).for_each(|input| mark(u32::try_from(input).unwrap_or(u32::MAX)));
        outputs.iter().for_each(|(_, tracked)| mark(tracked.value));
        let mut steps = Vec::new();
        for step in self.steps.into_iter().rev() {
            let is_needed = |value: &u32| needed.get(*value as usize).copied().unwrap_or(false);
            if step.writes().iter().any(is_needed) {
                for value in step.reads().into_iter().chain(step.writes()) {
                    if let Some(needed) = needed.get_mut(value as usize) {
                        *needed = true;
                    }
                }
                steps.push(step);
            }
        }
        steps.reverse();
        let mut values = Vec::new();
        let mut renamed = vec![0; needed.len()];
        for ((value, needed), new) in self.values.iter().zip(&needed).zip(&mut renamed) {
            if *needed {
                *new = u32::try_from(values.len()).unwrap_or(u32::MAX);
                values.push(*value);
            }
        }
        let mut arrays = Vec::new();
        let mut moved: BTreeMap<u32, u32> = BTreeMap::new();
        for step in &mut steps {
            rename(
                step,
                &mut |value| *value = renamed.get(*value as usize).copied().unwrap_or(*value),
                &mut |array| {
                    let next = u32::try_from(moved.len()).unwrap_or(u32::MAX);
                    let old = *array;
                    *array = *moved.entry(old).or_insert_with(|| {
                        arrays.extend(self.arrays.get(old as usize).cloned());
                        next
                    });
                },
            );
        }
        let (arrays, bytes): (Vec<Array>, Vec<Vec<u8>>) = arrays.into_iter().unzip();
        let classes = outputs.iter().find_map(|(_, tracked)| tracked.classes.clone()).unwrap_or_default();
        let plan = TabularPlan::new(
            u32::try_from(inputs.len()).unwrap_or(u32::MAX),
            values,
            arrays,
            self.texts,
            steps,
            outputs
                .iter()
                .map(|(_, tracked)| renamed.get(tracked.value as usize).copied().unwrap_or(0))
                .collect(),
        );
        Ok(ImportedTabular {
            plan,
            arrays: bytes,
            inputs,
            outputs: outputs.into_iter().map(|(spec, _)| spec).collect(),
            classes,
            accepts_missing: self.accepts_missing,
            operations_per_row: self.operations,
        })
    }

    // What operators build with.

    /// A new value.
    pub(super) fn value(&mut self, kind: Kind, columns: u32) -> u32 {
        self.values.push(Value { kind, columns });
        u32::try_from(self.values.len() - 1).unwrap_or(u32::MAX)
    }

    /// A value's kind and width.
    pub(super) fn form(&self, value: u32) -> Value {
        self.values.get(value as usize).copied().unwrap_or(Value { kind: Kind::F32, columns: 1 })
    }

    /// A constant; equal ones share their section.
    pub(super) fn array<T: bytemuck::NoUninit>(&mut self, kind: ArrayKind, elements: &[T]) -> u32 {
        let bytes = bytemuck::cast_slice(elements).to_vec();
        let array = Array { kind, len: u64::try_from(elements.len()).unwrap_or(u64::MAX) };
        let index =
            self.arrays.iter().position(|have| have.0 == array && have.1 == bytes).unwrap_or_else(|| {
                self.arrays.push((array, bytes));
                self.arrays.len() - 1
            });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// A constant in the kind of a value.
    pub(super) fn floats(&mut self, kind: Kind, elements: &[f64]) -> u32 {
        if kind == Kind::F64 {
            return self.array(ArrayKind::F64, elements);
        }
        let narrow: Vec<f32> = elements.iter().map(|&element| element as f32).collect();
        self.array(ArrayKind::F32, &narrow)
    }

    /// Adds a step that costs so many operations per row.
    pub(super) fn step(&mut self, step: Step, operations: u64) {
        self.operations = self.operations.saturating_add(operations);
        self.steps.push(step);
    }

    /// The step that wrote last.
    pub(super) fn last_step(&mut self) -> Option<&mut Step> {
        self.steps.last_mut()
    }

    /// How many nodes and outputs read a name.
    pub(super) fn uses(&self, name: &str) -> usize {
        self.uses.get(name).copied().unwrap_or(0)
    }

    /// Gives a name to a value.
    pub(super) fn bind(&mut self, name: &'m str, tracked: Tracked) {
        self.symbols.insert(name, Symbol::Value(tracked));
    }

    /// Gives a name to whatever another name stands for.
    pub(super) fn bind_symbol(&mut self, name: &'m str, symbol: Symbol) {
        self.symbols.insert(name, symbol);
    }

    /// Whether a name stands for a constant.
    pub(super) fn constant_named(&self, name: &str) -> bool {
        matches!(self.symbols.get(name), Some(Symbol::Constant(_)))
    }

    /// The number of elements of an array.
    pub(super) fn array_len(&self, array: u32) -> u64 {
        self.arrays.get(array as usize).map_or(0, |(array, _)| array.len)
    }

    /// Gives a node's output its value; nothing for an output that is left out.
    pub(super) fn bind_output(&mut self, node: &'m Node, index: usize, tracked: Tracked) {
        if let Some(name) = node.output(index) {
            self.bind(name, tracked);
        }
    }

    /// What a node's input stands for.
    pub(super) fn symbol(&self, node: &Node, index: usize) -> Result<Symbol, Refusal> {
        let name = node
            .input(index)
            .ok_or_else(|| node.refusal(format!("input {index} is missing"), "export it again"))?;
        let symbol = self.symbols.get(name).cloned();
        symbol.ok_or_else(|| node.refusal(format!("`{name}` is not known"), "export it again"))
    }

    /// A node's input that varies with the request.
    pub(super) fn tracked(&self, node: &Node, index: usize) -> Result<Tracked, Refusal> {
        match self.symbol(node, index)? {
            Symbol::Value(tracked) => Ok(tracked),
            _ => Err(node.refusal(
                format!("input {index} is a constant where a value is expected"),
                "simplify the model first: onnxsim folds constants",
            )),
        }
    }

    /// A node's input of the form `[rows, columns]`.
    pub(super) fn matrix(&self, node: &Node, index: usize) -> Result<Tracked, Refusal> {
        let tracked = self.tracked(node, index)?;
        match tracked.form {
            Form::Matrix => Ok(tracked),
            form => Err(node.refusal(
                format!("input {index} has the form {form}, expected [rows, columns]"),
                "the tabular engine works on rows of columns; give the value two dimensions before this node",
            )),
        }
    }

    /// A node's input of the form `[rows, columns]` in floating point.
    pub(super) fn float_matrix(&self, node: &Node, index: usize) -> Result<Tracked, Refusal> {
        let tracked = self.matrix(node, index)?;
        if self.form(tracked.value).kind.is_float() {
            return Ok(tracked);
        }
        Err(node.refusal(
            format!("input {index} is {}, expected float or double", tracked.element),
            "cast it to float first",
        ))
    }

    /// A node's input of the form `[rows, columns]` in single precision, cast when it is another number.
    pub(super) fn single_matrix(&mut self, node: &Node, index: usize) -> Result<Tracked, Refusal> {
        let tracked = self.matrix(node, index)?;
        let Value { kind, columns } = self.form(tracked.value);
        match kind {
            Kind::F32 => Ok(tracked),
            Kind::Text => {
                Err(node.refusal(format!("input {index} is text, expected numbers"), "encode it first"))
            }
            _ => {
                let output = self.value(Kind::F32, columns);
                let step = Step::Cast { input: tracked.value, output, rounding: Rounding::Nearest };
                self.step(step, columns.into());
                Ok(Tracked { value: output, element: ElementType::Float, ..tracked })
            }
        }
    }

    /// A node's constant input.
    pub(super) fn constant(&self, node: &Node, index: usize) -> Result<Tensor, Refusal> {
        match self.symbol(node, index)? {
            Symbol::Constant(constant) => Ok(constant),
            _ => Err(node.refusal(
                format!("input {index} varies with the request, expected a constant"),
                "the tabular engine needs constant weights and shapes",
            )),
        }
    }

    /// The elements of a constant of integers.
    pub(super) fn integers(&self, node: &Node, index: usize) -> Result<Vec<i64>, Refusal> {
        let constant = self.constant(node, index)?;
        integers(&constant).ok_or_else(|| {
            node.refusal(
                format!("input {index} is {}, expected int64", ElementType::of(&constant)),
                "export it again",
            )
        })
    }

    /// Text as an index into the plan's texts.
    fn text(&mut self, text: &str) -> u32 {
        let index = self.texts.iter().position(|have| have == text).unwrap_or_else(|| {
            self.texts.push(text.to_owned());
            self.texts.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// Labels chosen by an index.
    pub(super) fn labels(&mut self, index: u32, labels: &[Label], form: Form) -> Tracked {
        let columns = self.form(index).columns;
        let integers: Option<Vec<i64>> = labels
            .iter()
            .map(|label| if let Label::Integer(value) = label { Some(*value) } else { None })
            .collect();
        let (table, kind, element) = match integers {
            Some(integers) => (Table::Integers(integers), Kind::I64, ElementType::Int64),
            None => {
                let texts = labels.iter().map(|label| self.text(&label.to_string())).collect();
                (Table::Texts(texts), Kind::Text, ElementType::String)
            }
        };
        let output = self.value(kind, columns);
        self.step(Step::Lookup { input: index, table, output }, columns.into());
        Tracked { value: output, form, element, classes: Some(labels.to_vec()) }
    }

    /// The model was made to be given missing values.
    pub(super) fn accept_missing(&mut self) {
        self.accepts_missing = true;
    }
}

/// Renames the values and arrays of a step.
fn rename(step: &mut Step, value: &mut dyn FnMut(&mut u32), array: &mut dyn FnMut(&mut u32)) {
    let mut operand = |operand: &mut Operand| match operand {
        Operand::Value(index) => value(index),
        Operand::Array(index) => array(index),
    };
    match step {
        Step::Binary { left, right, output, .. } => {
            operand(left);
            operand(right);
            value(output);
        }
        Step::Concat { inputs, output } => {
            inputs.iter_mut().for_each(&mut *value);
            value(output);
        }
        Step::Scale { input, offset, scale, output } => {
            value(input);
            array(offset);
            array(scale);
            value(output);
        }
        Step::Dense { input, weights, bias, output } => {
            value(input);
            array(weights);
            if let Some(bias) = bias {
                array(bias);
            }
            value(output);
        }
        Step::Impute { replacement, input, output, .. } => {
            value(input);
            array(replacement);
            value(output);
        }
        Step::Trees(trees) => {
            let Trees { input, scores, class, nodes, roots, leaves, covers, .. } = &mut **trees;
            value(input);
            value(scores);
            if let Some(class) = class {
                value(class);
            }
            array(nodes);
            array(roots);
            if let Some(covers) = covers {
                array(covers);
            }
            match leaves {
                crate::plan::tabular::Leaves::One => {}
                crate::plan::tabular::Leaves::Dense { weights } => array(weights),
                crate::plan::tabular::Leaves::Sparse { starts, targets, weights } => {
                    array(starts);
                    array(targets);
                    array(weights);
                }
            }
        }
        Step::Cast { input, output, .. }
        | Step::Unary { input, output, .. }
        | Step::Softmax { input, output }
        | Step::Normalize { input, output, .. }
        | Step::Reduce { input, output, .. }
        | Step::Clip { input, output, .. }
        | Step::Select { input, output, .. }
        | Step::ArgMax { input, output }
        | Step::IsPositive { input, output }
        | Step::Lookup { input, output, .. }
        | Step::Transform { input, output, .. } => {
            value(input);
            value(output);
        }
    }
}

/// The labels that a constant holds.
pub(super) fn labels_of(constant: &Tensor) -> Option<Vec<Label>> {
    match constant.data() {
        Data::Text(texts) => Some(texts.iter().cloned().map(Label::Text).collect()),
        _ => Some(integers(constant)?.into_iter().map(Label::Integer).collect()),
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Matrix => "[rows, columns]",
            Self::Vector => "[rows]",
            Self::Across => "[1, rows]",
            Self::StretchedMatrix => "[rows × columns, 1]",
            Self::StretchedVector => "[rows × columns]",
        })
    }
}
