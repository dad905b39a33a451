//! An ONNX file, parsed and checked: every value is written once and before it is read, every node's operator set is known,
//! all data are in the file. Nothing is interpreted yet; attributes are handed out through [`Attributes`], which
//! notices the ones that nobody asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use lockgate_onnx::{Element, Kind, Tensor};

use super::external::{is_external, location};
use super::file::OnnxFile;
use super::functions::without_version;
use super::{ImportError, ImportLimits, Refusal, containers, functions, pb};

/// A checked ONNX model.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxModel {
    /// Operator-set versions by domain; the default domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// The program that wrote the file and its version, `skl2onnx 1.20.0`; may be empty.
    pub producer: String,
    /// What the caller must bring: the graph's inputs that no initializer fills.
    pub inputs: Vec<ValueInfo>,
    /// What the graph gives. Exporters sometimes declare a wrong shape here; trust what the nodes compute.
    pub outputs: Vec<ValueInfo>,
    /// Constants by name: the graph's initializers and the values of `Constant` nodes that hold a plain tensor.
    pub initializers: BTreeMap<String, Tensor>,
    /// The nodes, each behind those whose values it reads. `Constant` nodes that became initializers are left out.
    pub nodes: Vec<Node>,
    /// What the columns of the only input are called, where the file says so.
    pub columns: Vec<String>,
}

/// A named value with its declared type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    /// The value's name.
    pub name: String,
    /// The element type; `None` for what is no tensor, such as the sequence of maps that `ZipMap` gives.
    pub element: Option<ElementType>,
    /// The dimensions; `None` when the rank is not declared.
    pub shape: Option<Vec<Dimension>>,
}

/// One declared dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// A number.
    Fixed(i64),
    /// A name, `batch_size`.
    Named(String),
    /// Nothing is said.
    Unknown,
}

/// The element types that appear in ONNX files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the format's own names")]
pub enum ElementType {
    Float,
    Double,
    Float16,
    Bfloat16,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Bool,
    String,
    /// One of the rarer types, by its number in the format.
    Other(i32),
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The node's name, or the first value it writes when it has none.
    pub name: String,
    /// The operator, `Gemm`.
    pub operator: String,
    /// `ai.onnx` for the default domain.
    pub domain: String,
    /// The version of the domain's operator set.
    pub opset: i64,
    /// The values it reads; an omitted optional input is empty.
    pub inputs: Vec<String>,
    /// The values it writes; an omitted optional output is empty.
    pub outputs: Vec<String>,
    pub(super) attributes: BTreeMap<String, pb::AttributeProto>,
}

impl OnnxModel {
    /// Parses and checks an ONNX file.
    ///
    /// # Errors
    /// Bytes that are no ONNX model, end early, contradict themselves or exceed a limit; and, all at once, what no part of
    /// this program can read (data in other files, sparse tensors).
    pub fn parse(bytes: &[u8], limits: &ImportLimits) -> Result<Self, ImportError> {
        OnnxFile::decode(bytes, limits)?.check(&BTreeMap::new(), limits)
    }

    /// The newest version of a domain's operators that the model or a function of it uses.
    pub fn newest_opset(&self, domain: &str) -> Option<i64> {
        let versions = self.opsets.iter().filter(|(name, _)| without_version(name) == domain);
        versions.map(|(_, version)| *version).max()
    }

    /// The constant called `name`.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.initializers.get(name)
    }

    /// The names of values that are graph outputs.
    pub fn output_names(&self) -> BTreeSet<&str> {
        self.outputs.iter().map(|output| output.name.as_str()).collect()
    }
}

impl Node {
    /// The node's attributes, each noticed when it is read.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes { node: self, read: RefCell::default(), refusals: RefCell::default() }
    }

    /// The input at `index`, unless it is omitted.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.inputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The output at `index`, unless it is omitted.
    pub fn output(&self, index: usize) -> Option<&str> {
        self.outputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// A refusal of this node.
    pub fn refusal(&self, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal {
            node: self.name.clone(),
            operator: self.operator.clone(),
            domain: self.domain.clone(),
            opset: self.opset,
            attribute: None,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// Reads a node's attributes and remembers which were read. [`Attributes::finish`] refuses those that nobody read:
/// an attribute that is not implemented is never ignored.
#[derive(Debug)]
pub struct Attributes<'n> {
    node: &'n Node,
    read: RefCell<BTreeSet<String>>,
    refusals: RefCell<Vec<Refusal>>,
}

impl<'n> Attributes<'n> {
    /// Whether the attribute is there. Does not count as reading it.
    pub fn has(&self, name: &str) -> bool {
        self.node.attributes.contains_key(name)
    }

    /// An integer, if the attribute is there.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name, pb::attribute_proto::AttributeType::Int, "an integer").map(|attribute| attribute.i)
    }

    /// An integer, or the operator's default.
    pub fn int_or(&self, name: &str, default: i64) -> i64 {
        self.int(name).unwrap_or(default)
    }

    /// A float, if the attribute is there.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.get(name, pb::attribute_proto::AttributeType::Float, "a float").map(|attribute| attribute.f)
    }

    /// A float, or the operator's default.
    pub fn float_or(&self, name: &str, default: f32) -> f32 {
        self.float(name).unwrap_or(default)
    }

    /// A text, if the attribute is there.
    pub fn string(&self, name: &str) -> Option<&'n str> {
        let attribute = self.get(name, pb::attribute_proto::AttributeType::String, "a text")?;
        self.text(name, &attribute.s)
    }

    /// A text, or the operator's default.
    pub fn string_or(&self, name: &str, default: &'n str) -> &'n str {
        self.string(name).unwrap_or(default)
    }

    /// Integers; empty when the attribute is not there.
    pub fn ints(&self, name: &str) -> &'n [i64] {
        self.get(name, pb::attribute_proto::AttributeType::Ints, "a list of integers")
            .map_or(&[], |attribute| attribute.ints.as_slice())
    }

    /// Floats; empty when the attribute is not there.
    pub fn floats(&self, name: &str) -> &'n [f32] {
        self.get(name, pb::attribute_proto::AttributeType::Floats, "a list of floats")
            .map_or(&[], |attribute| attribute.floats.as_slice())
    }

    /// Texts; empty when the attribute is not there.
    pub fn strings(&self, name: &str) -> Vec<&'n str> {
        let Some(attribute) = self.get(name, pb::attribute_proto::AttributeType::Strings, "a list of texts")
        else {
            return Vec::new();
        };
        attribute.strings.iter().filter_map(|bytes| self.text(name, bytes)).collect()
    }

    /// A tensor, if the attribute is there.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let attribute = self.get(name, pb::attribute_proto::AttributeType::Tensor, "a tensor")?;
        let constant = attribute.t.as_ref().ok_or_else(|| "it holds no tensor".to_owned()).and_then(constant);
        constant.map_err(|problem| self.refuse(name, problem, "export the model again")).ok()
    }

    /// Counts the attributes as read although their value makes no difference to the result: hints to an optimiser, or
    /// statistics from training. Say at the call why it is safe.
    pub fn has_no_effect(&self, names: &[&str]) {
        self.read.borrow_mut().extend(names.iter().map(|&name| name.to_owned()));
    }

    /// Refuses one of the values an attribute can have.
    pub fn refuse(&self, name: &str, message: impl Into<String>, hint: impl Into<String>) {
        let refusal = Refusal { attribute: Some(name.to_owned()), ..self.node.refusal(message, hint) };
        self.refusals.borrow_mut().push(refusal);
    }

    /// The attributes that were read so far.
    pub fn reads(&self) -> Vec<String> {
        self.read.borrow().iter().cloned().collect()
    }

    /// Everything that was refused, the attributes that nobody read included; empty when all is well.
    pub fn finish(self) -> Vec<Refusal> {
        let read = self.read.into_inner();
        let mut refusals = self.refusals.into_inner();
        for name in self.node.attributes.keys().filter(|name| !read.contains(*name)) {
            refusals.push(Refusal {
                attribute: Some(name.clone()),
                ..self.node.refusal(
                    "this attribute is not supported",
                    "export without it, or leave it at its default where the exporter can omit it",
                )
            });
        }
        refusals
    }

    fn get(
        &self,
        name: &str,
        wanted: pb::attribute_proto::AttributeType,
        words: &str,
    ) -> Option<&'n pb::AttributeProto> {
        self.read.borrow_mut().insert(name.to_owned());
        let attribute = self.node.attributes.get(name)?;
        if attribute.r#type() != wanted {
            let found = attribute.r#type().name();
            self.refuse(name, format!("expected {words}, found {found}"), "export the model again");
            return None;
        }
        Some(attribute)
    }

    fn text(&self, name: &str, bytes: &'n [u8]) -> Option<&'n str> {
        let text = std::str::from_utf8(bytes).ok();
        if text.is_none() {
            self.refuse(name, "the text is not UTF-8", "export the model again with names in UTF-8");
        }
        text
    }
}

/// The elements of an integer constant, as used for shapes, axes and indices.
pub(super) fn integers(constant: &Tensor) -> Option<Vec<i64>> {
    matches!(constant.kind(), Kind::I32 | Kind::I64).then(|| constant.integers().ok()).flatten()
}

impl ElementType {
    fn from_number(number: i32) -> Self {
        match Kind::from_number(i64::from(number)) {
            Some(Kind::F32) => Self::Float,
            Some(Kind::F64) => Self::Double,
            Some(Kind::F16) => Self::Float16,
            Some(Kind::Bf16) => Self::Bfloat16,
            Some(Kind::I8) => Self::Int8,
            Some(Kind::I16) => Self::Int16,
            Some(Kind::I32) => Self::Int32,
            Some(Kind::I64) => Self::Int64,
            Some(Kind::U8) => Self::Uint8,
            Some(Kind::U16) => Self::Uint16,
            Some(Kind::U32) => Self::Uint32,
            Some(Kind::U64) => Self::Uint64,
            Some(Kind::Bool) => Self::Bool,
            Some(Kind::Text) => Self::String,
            _ => Self::Other(number),
        }
    }

    /// The kind of a tensor's elements; none for those that no operator takes.
    pub fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Float => Kind::F32,
            Self::Double => Kind::F64,
            Self::Float16 => Kind::F16,
            Self::Bfloat16 => Kind::Bf16,
            Self::Int8 => Kind::I8,
            Self::Int16 => Kind::I16,
            Self::Int32 => Kind::I32,
            Self::Int64 => Kind::I64,
            Self::Uint8 => Kind::U8,
            Self::Uint16 => Kind::U16,
            Self::Uint32 => Kind::U32,
            Self::Uint64 => Kind::U64,
            Self::Bool => Kind::Bool,
            Self::String => Kind::Text,
            Self::Other(number) => return Kind::from_number(i64::from(number)),
        })
    }

    /// The element type of a constant.
    pub(super) fn of(constant: &Tensor) -> Self {
        Self::from_onnx(i64::from(constant.kind() as u8))
    }

    /// The element type with this number in the format, as in the `to` attribute of `Cast`.
    pub fn from_onnx(number: i64) -> Self {
        i32::try_from(number).map_or(Self::Other(0), Self::from_number)
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Float => "float",
            Self::Double => "double",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Other(number) => return write!(f, "element type {number}"),
        };
        f.write_str(name)
    }
}

/// The checked model of a decoded one, whose data are all in it.
pub(super) fn build(mut model: pb::ModelProto, limits: &ImportLimits) -> Result<OnnxModel, ImportError> {
    functions::inline(&mut model, limits)?;
    let columns = containers::flatten(&mut model);
    let graph = model
        .graph
        .ok_or_else(|| ImportError::Truncated { problem: "it ends before the graph".to_owned() })?;
    if model.opset_import.is_empty() {
        return Err(ImportError::Truncated {
            problem: "it ends before the list of operator sets".to_owned(),
        });
    }

    let mut opsets = BTreeMap::new();
    for import in &model.opset_import {
        let domain = domain_name(&import.domain);
        // Some exporters list a domain twice; that is harmless as long as they agree.
        if let Some(other) = opsets.insert(domain.to_owned(), import.version)
            && other != import.version
        {
            return Err(malformed(format!(
                "domain {domain} is imported as opset {other} and as {}",
                import.version
            )));
        }
    }

    let mut refusals = Vec::new();
    let mut refuse = |message: String, hint: &str| {
        refusals.push(Refusal { message, hint: hint.to_owned(), ..Refusal::default() });
    };
    if !graph.sparse_initializer.is_empty() {
        refuse("sparse initializers are not supported".to_owned(), "export with dense weights");
    }

    let mut names = Names::default();
    for tensor in graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref()) {
        names.write(&tensor.name, "a sparse initializer")?;
    }
    let mut initializers = BTreeMap::new();
    for tensor in &graph.initializer {
        if is_external(tensor) {
            refuse(
                format!(
                    "initializer `{}` keeps its data in {}, which was not read",
                    tensor.name,
                    location(tensor)
                ),
                "put the file beside the model, or save the model in one file: onnx.save_model(model, path, save_as_external_data=False)",
            );
            names.write(&tensor.name, "an initializer")?;
            continue;
        }
        let constant = constant(tensor)
            .map_err(|problem| malformed(format!("initializer `{}`: {problem}", tensor.name)))?;
        names.write(&tensor.name, "an initializer")?;
        initializers.insert(tensor.name.clone(), constant);
    }

    let mut inputs = Vec::new();
    for input in &graph.input {
        // Before version 4 of the format every initializer was listed among the inputs too.
        if names.written.contains_key(&input.name)
            && !inputs.iter().any(|have: &ValueInfo| have.name == input.name)
        {
            continue;
        }
        names.write(&input.name, "an input")?;
        inputs.push(value_info(input)?);
    }

    let later: BTreeMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.output.iter().map(move |output| (output.as_str(), index)))
        .collect();
    let mut nodes = Vec::new();
    for (index, proto) in graph.node.iter().enumerate() {
        let name = if proto.name.is_empty() {
            proto
                .output
                .iter()
                .find(|output| !output.is_empty())
                .cloned()
                .unwrap_or_else(|| format!("#{index}"))
        } else {
            proto.name.clone()
        };
        for input in proto.input.iter().filter(|input| !input.is_empty()) {
            if names.written.contains_key(input) {
                continue;
            }
            return Err(malformed(match later.get(input.as_str()) {
                Some(_) => format!(
                    "node `{name}` reads `{input}`, which only a later node writes: the graph is cyclic or out of order"
                ),
                None => format!("node `{name}` reads `{input}`, which nothing writes"),
            }));
        }
        for output in proto.output.iter().filter(|output| !output.is_empty()) {
            names.write(output, &format!("node `{name}`"))?;
        }
        let domain = domain_name(&proto.domain).to_owned();
        let Some(&opset) = opsets.get(&domain) else {
            return Err(malformed(format!(
                "node `{name}` uses an operator of domain {domain}, whose version the file does not say"
            )));
        };
        let node = node(proto, name, without_version(&domain).to_owned(), opset)?;
        match plain_constant(&node)? {
            Some(constant) => {
                initializers.extend(node.outputs.first().map(|output| (output.clone(), constant)));
            }
            None => nodes.push(node),
        }
    }

    if graph.output.is_empty() {
        return Err(ImportError::Truncated { problem: "the graph has no outputs".to_owned() });
    }
    let mut outputs: Vec<ValueInfo> = Vec::new();
    let mut listed = BTreeSet::new();
    for output in &graph.output {
        if !names.written.contains_key(&output.name) {
            return Err(malformed(format!("output `{}` is written by no node", output.name)));
        }
        if !listed.insert(&output.name) {
            return Err(malformed(format!("output `{}` is listed twice", output.name)));
        }
        outputs.push(value_info(output)?);
    }
    if !refusals.is_empty() {
        return Err(ImportError::Unsupported { refusals });
    }
    let producer = format!("{} {}", model.producer_name, model.producer_version).trim().to_owned();
    Ok(OnnxModel { opsets, producer, inputs, outputs, initializers, nodes, columns })
}

/// Who writes which value; each value is written once.
#[derive(Default)]
struct Names {
    written: BTreeMap<String, String>,
}

impl Names {
    fn write(&mut self, name: &str, writer: &str) -> Result<(), ImportError> {
        if name.is_empty() {
            return Err(malformed(format!("{writer} has no name")));
        }
        match self.written.insert(name.to_owned(), writer.to_owned()) {
            None => Ok(()),
            Some(other) => {
                Err(malformed(format!("value `{name}` is written twice, by {other} and by {writer}")))
            }
        }
    }
}

pub(super) fn node(
    proto: &pb::NodeProto,
    name: String,
    domain: String,
    opset: i64,
) -> Result<Node, ImportError> {
    let mut attributes = BTreeMap::new();
    for attribute in &proto.attribute {
        if !attribute.ref_attr_name.is_empty() {
            return Err(malformed(format!(
                "attribute `{}` of node `{name}` refers to a function's attribute outside a function",
                attribute.name
            )));
        }
        let mut attribute = attribute.clone();
        if attribute.r#type() == pb::attribute_proto::AttributeType::Undefined {
            attribute.r#type = guessed_type(&attribute).into();
        }
        if attributes.insert(attribute.name.clone(), attribute).is_some() {
            return Err(malformed(format!("node `{name}` has an attribute twice")));
        }
    }
    Ok(Node {
        name,
        operator: proto.op_type.clone(),
        domain,
        opset,
        inputs: proto.input.clone(),
        outputs: proto.output.clone(),
        attributes,
    })
}

/// The oldest files leave an attribute's type out; exactly one field is filled then.
fn guessed_type(attribute: &pb::AttributeProto) -> pb::attribute_proto::AttributeType {
    use pb::attribute_proto::AttributeType;
    if !attribute.floats.is_empty() {
        AttributeType::Floats
    } else if !attribute.ints.is_empty() {
        AttributeType::Ints
    } else if !attribute.strings.is_empty() {
        AttributeType::Strings
    } else if attribute.t.is_some() {
        AttributeType::Tensor
    } else if !attribute.s.is_empty() {
        AttributeType::String
    } else if attribute.f != 0.0 {
        AttributeType::Float
    } else if attribute.i != 0 {
        AttributeType::Int
    } else {
        AttributeType::Undefined
    }
}

/// The tensor of a `Constant` node, in whichever attribute it is.
pub(super) fn plain_constant(node: &Node) -> Result<Option<Tensor>, ImportError> {
    if node.operator != "Constant" || node.domain != "ai.onnx" || node.attributes.len() != 1 {
        return Ok(None);
    }
    let Some((name, attribute)) = node.attributes.iter().next() else {
        return Ok(None);
    };
    Ok(match name.as_str() {
        "value" => match attribute.t.as_ref().filter(|tensor| !is_external(tensor)) {
            Some(tensor) => Some(
                constant(tensor)
                    .map_err(|problem| malformed(format!("constant `{}`: {problem}", node.name)))?,
            ),
            None => None,
        },
        "value_float" => Some(Tensor::scalar(attribute.f)),
        "value_int" => Some(Tensor::scalar(attribute.i)),
        "value_string" => Some(Tensor::scalar(String::from_utf8_lossy(&attribute.s).into_owned())),
        "value_floats" => Some(Tensor::vector(attribute.floats.clone())),
        "value_ints" => Some(Tensor::vector(attribute.ints.clone())),
        "value_strings" => Some(Tensor::vector(
            attribute.strings.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
        )),
        _ => None,
    })
}

/// A tensor's elements, from whichever field holds them; their number must be what the shape asks for.
pub(super) fn constant(tensor: &pb::TensorProto) -> Result<Tensor, String> {
    if is_external(tensor) {
        return Err("its data lie in another file".to_owned());
    }
    if tensor.segment.is_some() {
        return Err("it is stored in segments".to_owned());
    }
    let mut shape = Vec::with_capacity(tensor.dims.len());
    let mut count = 1_usize;
    for &dim in &tensor.dims {
        let dim = usize::try_from(dim).map_err(|_| format!("dimension {dim} is negative"))?;
        count = count.checked_mul(dim).ok_or("its shape has more elements than memory can hold")?;
        shape.push(dim);
    }
    let element = ElementType::from_number(tensor.data_type);
    let raw = tensor.raw_data.as_slice();
    match element {
        ElementType::Float => sized(shape, elements(raw, &tensor.float_data, f32::from_le_bytes)?),
        ElementType::Double => sized(shape, elements(raw, &tensor.double_data, f64::from_le_bytes)?),
        ElementType::Int64 => sized(shape, elements(raw, &tensor.int64_data, i64::from_le_bytes)?),
        ElementType::Int32 => sized(shape, elements(raw, &tensor.int32_data, i32::from_le_bytes)?),
        ElementType::Bool => {
            let numbers = if raw.is_empty() {
                tensor.int32_data.clone()
            } else {
                raw.iter().map(|&b| b.into()).collect()
            };
            sized(shape, numbers.into_iter().map(|number| number != 0).collect())
        }
        ElementType::String => {
            let texts = tensor.string_data.iter().map(|bytes| String::from_utf8(bytes.clone()));
            sized(shape, texts.collect::<Result<_, _>>().map_err(|_| "a text is not UTF-8")?)
        }
        other => other_kind(other, tensor, &shape),
    }
}

/// A tensor whose shape must ask for as many elements as there are.
fn sized<T: Element>(shape: Vec<usize>, elements: Vec<T>) -> Result<Tensor, String> {
    let (count, found) = (shape.iter().product::<usize>(), elements.len());
    let problem = format!("its shape {shape:?} asks for {count} elements, {found} are there");
    Tensor::of(shape, elements).map_err(|_| problem)
}

/// The elements of a kind that has no field of its own in the format.
fn other_kind(element: ElementType, tensor: &pb::TensorProto, shape: &[usize]) -> Result<Tensor, String> {
    let kind = element.kind().ok_or_else(|| format!("its elements are {element}"))?;
    let count: usize = shape.iter().product();
    let raw = &tensor.raw_data;
    // Kinds of 4 and 2 bits lie several in a byte, the first in the lowest bits.
    let per_byte = match kind {
        Kind::U4 | Kind::I4 | Kind::F4E2M1 => 2,
        Kind::U2 | Kind::I2 => 4,
        _ => 1,
    };
    let unpack = |bytes: &[u8]| -> Vec<u8> {
        let bits = 8 / per_byte;
        let mask = u8::MAX >> (8 - bits);
        let parts = bytes.iter().flat_map(|byte| (0..per_byte).map(move |part| byte >> (bits * part) & mask));
        parts.take(count).collect()
    };
    let bytes: Vec<u8> = if !raw.is_empty() {
        if per_byte > 1 { unpack(raw) } else { raw.clone() }
    } else if kind == Kind::U64 || kind == Kind::U32 {
        let size = kind.size();
        tensor.uint64_data.iter().flat_map(|number| number.to_le_bytes().into_iter().take(size)).collect()
    } else if per_byte > 1 {
        unpack(&tensor.int32_data.iter().map(|number| *number as u8).collect::<Vec<_>>())
    } else {
        let size = kind.size();
        tensor.int32_data.iter().flat_map(|number| number.to_le_bytes().into_iter().take(size)).collect()
    };
    Tensor::from_bytes(kind, shape, &bytes).map_err(|problem| problem.to_string())
}

fn elements<T: Copy, const N: usize>(
    raw: &[u8],
    typed: &[T],
    read: fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
    if raw.is_empty() {
        return Ok(typed.to_vec());
    }
    let (chunks, rest) = raw.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(format!("its {} bytes of data are no multiple of {N}", raw.len()));
    }
    Ok(chunks.iter().map(|bytes| read(*bytes)).collect())
}

fn value_info(proto: &pb::ValueInfoProto) -> Result<ValueInfo, ImportError> {
    let name = proto.name.clone();
    if name.is_empty() {
        return Err(malformed("an input or output has no name".to_owned()));
    }
    let Some(pb::type_proto::Value::TensorType(tensor)) =
        proto.r#type.as_ref().and_then(|r#type| r#type.value.as_ref())
    else {
        return Ok(ValueInfo { name, element: None, shape: None });
    };
    let shape = tensor.shape.as_ref().map(|shape| {
        let dimension = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
            Some(pb::tensor_shape_proto::dimension::Value::DimValue(value)) if *value > 0 => {
                Dimension::Fixed(*value)
            }
            Some(pb::tensor_shape_proto::dimension::Value::DimParam(param)) if !param.is_empty() => {
                Dimension::Named(param.clone())
            }
            // Zero and negative sizes are written by exporters that mean "unknown".
            _ => Dimension::Unknown,
        };
        shape.dim.iter().map(dimension).collect()
    });
    Ok(ValueInfo { name, element: Some(ElementType::from_number(tensor.elem_type)), shape })
}

pub(super) fn domain_name(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

fn malformed(problem: String) -> ImportError {
    ImportError::Malformed {
        problem,
        hint: "check the file with onnx.checker.check_model, or export it again".to_owned(),
    }
}
