//! The operators of `ai.onnx` that surround tabular models.

use lockgate_onnx::{Data, Tensor};

use super::{Form, Lowering, Symbol, Tracked, labels_of};
use crate::import::Refusal;
use crate::import::onnx::{Attributes, ElementType, Node};
use crate::plan::tabular::{Binary, Kind, Norm, Operand, Reduction, Rounding, Step, Unary, Value};

type Lowered = Result<(), Refusal>;

const EXPORT_AGAIN: &str = "export the model again";
const ROWS_STAY: &str = "the tabular engine keeps rows apart; leave this node out of the exported model";

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $function:ident, $operations:literal;)*) => {$(
        $(#[$doc])*
        pub(in crate::import) fn $name<'m>(l: &mut Lowering<'m>, node: &'m Node, _: &Attributes<'m>) -> Lowered {
            elementwise(l, node, Unary::$function, $operations)
        }
    )*};
}

unary! {
    /// The magnitude.
    abs => Abs, 1;
    /// e to the power of the element.
    exp => Exp, 15;
    /// The natural logarithm.
    log => Log, 15;
    /// The element with the other sign.
    negate => Negate, 1;
    /// The other truth.
    not => Not, 1;
    /// 1 / x.
    reciprocal => Reciprocal, 1;
    /// The element, or 0 when it is negative.
    relu => Relu, 1;
    /// 1 / (1 + e⁻ˣ).
    sigmoid => Logistic, 18;
    /// The square root.
    sqrt => Sqrt, 4;
    /// The hyperbolic tangent.
    tanh => Tanh, 25;
}

fn elementwise<'m>(l: &mut Lowering<'m>, node: &'m Node, function: Unary, operations: u64) -> Lowered {
    let input = l.tracked(node, 0)?;
    let Value { kind, columns } = l.form(input.value);
    let fits = if function == Unary::Not { kind == Kind::Bool } else { kind.is_float() };
    if !fits {
        let expected = if function == Unary::Not { "bool" } else { "float or double" };
        return Err(
            node.refusal(format!("input 0 is {}, expected {expected}", input.element), "cast it first")
        );
    }
    let output = l.value(kind, columns);
    l.step(Step::Unary { function, input: input.value, output }, operations * u64::from(columns));
    l.bind_output(node, 0, Tracked { value: output, classes: None, ..input });
    Ok(())
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $function:ident;)*) => {$(
        $(#[$doc])*
        pub(in crate::import) fn $name<'m>(l: &mut Lowering<'m>, node: &'m Node, _: &Attributes<'m>) -> Lowered {
            let (left, right) = (l.symbol(node, 0)?, l.symbol(node, 1)?);
            let result = combine(l, node, Binary::$function, &left, &right)?;
            l.bind_output(node, 0, result);
            Ok(())
        }
    )*};
}

binary! {
    /// x + y.
    add => Add;
    /// x − y.
    subtract => Subtract;
    /// x · y.
    multiply => Multiply;
    /// x / y.
    divide => Divide;
}

/// The sum of any number of values.
pub(in crate::import) fn sum<'m>(l: &mut Lowering<'m>, node: &'m Node, _: &Attributes<'m>) -> Lowered {
    let mut total = l.symbol(node, 0)?;
    for index in 1..node.inputs.len() {
        let next = l.symbol(node, index)?;
        total = Symbol::Value(combine(l, node, Binary::Add, &total, &next)?);
    }
    match total {
        Symbol::Value(total) => l.bind_output(node, 0, total),
        _ => return Err(node.refusal("it sums constants", "fold constants before packaging: onnxsim")),
    }
    Ok(())
}

/// Two operands, of which at least one varies with the request.
fn combine(
    l: &mut Lowering<'_>,
    node: &Node,
    function: Binary,
    left: &Symbol,
    right: &Symbol,
) -> Result<Tracked, Refusal> {
    let ((Symbol::Value(like), _) | (_, Symbol::Value(like))) = (left, right) else {
        return Err(node.refusal("both inputs are constants", "fold constants before packaging: onnxsim"));
    };
    let Value { kind, columns } = l.form(like.value);
    let whole = matches!(like.form, Form::Matrix | Form::Vector | Form::Across);
    if !kind.is_float() || !whole {
        let message =
            format!("an input is {} of the form {}, expected float or double rows", like.element, like.form);
        return Err(node.refusal(message, "cast integers to float first"));
    }
    let mut widest = columns;
    let mut operand = |l: &mut Lowering<'_>, symbol: &Symbol| match symbol {
        Symbol::Value(tracked) => {
            let form = l.form(tracked.value);
            if form.kind != kind
                || tracked.form != like.form
                || (form.columns != columns && form.columns.min(columns) != 1)
            {
                return Err(node.refusal("the inputs do not have the same type and form", EXPORT_AGAIN));
            }
            widest = widest.max(form.columns);
            Ok(Operand::Value(tracked.value))
        }
        Symbol::Constant(constant) => {
            let row = constant_row(node, constant, like.form)?;
            let len = u32::try_from(row.len()).unwrap_or(u32::MAX);
            if len != 1 && columns != 1 && len != columns {
                let message =
                    format!("a constant of shape {:?} does not fit {columns} columns", constant.shape());
                return Err(node.refusal(message, EXPORT_AGAIN));
            }
            widest = widest.max(len);
            Ok(Operand::Array(l.floats(kind, &row)))
        }
        Symbol::Unknown => Err(node.refusal("an input is not known", EXPORT_AGAIN)),
    };
    let left = operand(l, left)?;
    let right = operand(l, right)?;
    // The bias behind a product with constant weights belongs to the same step.
    if function == Binary::Add
        && let Some(result) = fused_bias(l, node, like, left, right)
    {
        return Ok(result);
    }
    let output = l.value(kind, widest);
    l.step(Step::Binary { function, left, right, output }, widest.into());
    Ok(Tracked { value: output, form: like.form, element: like.element, classes: None })
}

fn fused_bias(
    l: &mut Lowering<'_>,
    node: &Node,
    like: &Tracked,
    left: Operand,
    right: Operand,
) -> Option<Tracked> {
    let ((Operand::Value(value), Operand::Array(array)) | (Operand::Array(array), Operand::Value(value))) =
        (left, right)
    else {
        return None;
    };
    let read_once = node.inputs.iter().all(|name| l.constant_named(name) || l.uses(name) == 1);
    let columns = u64::from(l.form(value).columns);
    if !read_once || l.array_len(array) != columns {
        return None;
    }
    match l.last_step() {
        Some(Step::Dense { bias: bias @ None, output, .. }) if *output == value => {
            *bias = Some(array);
            Some(Tracked { value, form: like.form, element: like.element, classes: None })
        }
        _ => None,
    }
}

/// The numbers of a constant that goes with every row.
fn constant_row(node: &Node, constant: &Tensor, form: Form) -> Result<Vec<f64>, Refusal> {
    let numbers: Option<Vec<f64>> = match constant.data() {
        Data::F32(values) => Some(values.iter().map(|&value| value.into()).collect()),
        Data::F64(values) => Some(values.clone()),
        _ => None,
    };
    let numbers = numbers.ok_or_else(|| {
        node.refusal(
            format!("a constant is {}, expected float or double", ElementType::of(constant)),
            EXPORT_AGAIN,
        )
    })?;
    let scalar = matches!(constant.shape(), [] | [1]);
    let is_row = match form {
        Form::Matrix => scalar || matches!(constant.shape(), [_] | [1, _]),
        Form::Across => scalar || matches!(constant.shape(), [1, 1]),
        _ => scalar,
    };
    if is_row {
        return Ok(numbers);
    }
    Err(node.refusal(
        format!("a constant of shape {:?} is not the same for every row", constant.shape()),
        ROWS_STAY,
    ))
}

/// The same value under another name.
pub(in crate::import) fn identity<'m>(l: &mut Lowering<'m>, node: &'m Node, _: &Attributes<'m>) -> Lowered {
    let symbol = l.symbol(node, 0)?;
    if let Some(name) = node.output(0) {
        l.bind_symbol(name, symbol);
    }
    Ok(())
}

/// Nothing, as always outside of training.
pub(in crate::import) fn dropout<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    // They say how training drops values.
    a.has_no_effect(&["ratio", "seed"]);
    if node.output(1).is_some() || node.input(2).is_some() {
        return Err(
            node.refusal("a mask or a training mode is not supported", "export the model for inference")
        );
    }
    identity(l, node, a)
}

/// Another element type.
pub(in crate::import) fn cast<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let to = ElementType::from_onnx(a.int_or("to", 0));
    // These change casts to 8-bit floats only, which are refused below.
    a.has_no_effect(&["saturate", "round_mode"]);
    let kind = match to {
        ElementType::Float => Kind::F32,
        ElementType::Double => Kind::F64,
        ElementType::Int64 | ElementType::Int32 => Kind::I64,
        ElementType::Bool => Kind::Bool,
        ElementType::String => Kind::Text,
        other => {
            a.refuse(
                "to",
                format!("{other} is not supported"),
                "cast to float, double, int32, int64 or bool",
            );
            return Ok(());
        }
    };
    let input = l.tracked(node, 0)?;
    let Value { kind: from, columns } = l.form(input.value);
    let same = kind == from && (input.element == to || to == ElementType::Int64 || kind != Kind::I64);
    if same {
        l.bind_output(node, 0, Tracked { element: to, ..input });
        return Ok(());
    }
    if from == Kind::Text || kind == Kind::Text {
        let message = format!("a cast from {} to {to} is not supported", input.element);
        a.refuse("to", message, "leave the cast out of the exported model");
        return Ok(());
    }
    // Integers of both sizes are kept in 64 bits; narrowing them keeps the value of every label.
    let output = l.value(kind, columns);
    l.step(Step::Cast { input: input.value, output, rounding: Rounding::Nearest }, columns.into());
    l.bind_output(node, 0, Tracked { value: output, element: to, ..input });
    Ok(())
}

/// Elements moved between two bounds.
pub(in crate::import) fn clip<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    if node.opset < 11 {
        low = a.float("min").map_or(low, f64::from);
        high = a.float("max").map_or(high, f64::from);
    } else {
        for (index, bound) in [(1, &mut low), (2, &mut high)] {
            if node.input(index).is_some() {
                let constant = l.constant(node, index)?;
                match constant_row(node, &constant, Form::Vector)?.as_slice() {
                    [only] => *bound = *only,
                    _ => return Err(node.refusal(format!("input {index} is no single number"), EXPORT_AGAIN)),
                }
            }
        }
    }
    let input = l.float_matrix(node, 0)?;
    let Value { kind, columns } = l.form(input.value);
    let output = l.value(kind, columns);
    l.step(Step::Clip { low, high, input: input.value, output }, 2 * u64::from(columns));
    l.bind_output(node, 0, Tracked { value: output, ..input });
    Ok(())
}

/// Columns side by side.
pub(in crate::import) fn concat<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let axis = a.int("axis");
    if !matches!(axis, Some(1 | -1)) {
        a.refuse("axis", format!("only columns can be put together, found axis {axis:?}"), ROWS_STAY);
    }
    let mut inputs = Vec::new();
    let mut columns = 0_u32;
    let first = l.matrix(node, 0)?;
    let kind = l.form(first.value).kind;
    for index in 0..node.inputs.len() {
        let input = l.matrix(node, index)?;
        if l.form(input.value).kind != kind {
            return Err(node.refusal("the inputs have different types", "cast them to float first"));
        }
        columns = columns.saturating_add(l.form(input.value).columns);
        inputs.push(input.value);
    }
    if inputs.len() == 1 {
        l.bind_output(node, 0, first);
        return Ok(());
    }
    let output = l.value(kind, columns);
    l.step(Step::Concat { inputs, output }, columns.into());
    l.bind_output(node, 0, Tracked { value: output, classes: None, ..first });
    Ok(())
}

/// x · W with constant weights.
pub(in crate::import) fn mat_mul<'m>(l: &mut Lowering<'m>, node: &'m Node, _: &Attributes<'m>) -> Lowered {
    let weights = l.constant(node, 1)?;
    product(l, node, &weights, false, 1.0, None)
}

/// α · x · W + β · b with constant weights.
pub(in crate::import) fn gemm<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let (alpha, beta) = (a.float_or("alpha", 1.0), a.float_or("beta", 1.0));
    let transposed = a.int_or("transB", 0) != 0;
    if a.int_or("transA", 0) != 0 {
        a.refuse("transA", "only 0 is supported", ROWS_STAY);
    }
    let weights = l.constant(node, 1)?;
    let bias = match node.input(2) {
        Some(_) => {
            let constant = l.constant(node, 2)?;
            let row = constant_row(node, &constant, Form::Matrix)?;
            Some(row.into_iter().map(|value| value * f64::from(beta)).collect())
        }
        None => None,
    };
    product(l, node, &weights, transposed, alpha, bias)
}

fn product<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    weights: &Tensor,
    transposed: bool,
    alpha: f32,
    bias: Option<Vec<f64>>,
) -> Lowered {
    let input = l.float_matrix(node, 0)?;
    let Value { kind, columns } = l.form(input.value);
    let (rows, outputs, form) = match (weights.shape(), transposed) {
        ([rows, outputs], false) | ([outputs, rows], true) => (*rows, *outputs, Form::Matrix),
        ([rows], false) => (*rows, 1, Form::Vector),
        _ => {
            return Err(node.refusal(
                format!("weights of shape {:?}, expected a matrix", weights.shape()),
                EXPORT_AGAIN,
            ));
        }
    };
    let numbers = match (&weights.data(), kind) {
        (Data::F32(values), Kind::F32) => values.iter().map(|&value| f64::from(value)).collect(),
        (Data::F64(values), Kind::F64) => values.clone(),
        _ => {
            let message =
                format!("weights are {} and the input is {}", ElementType::of(weights), input.element);
            return Err(node.refusal(message, EXPORT_AGAIN));
        }
    };
    if rows != columns as usize || outputs == 0 {
        let message = format!("weights of shape {:?} do not fit {columns} columns", weights.shape());
        return Err(node.refusal(message, EXPORT_AGAIN));
    }
    let scaled = |value: f64| value * f64::from(alpha);
    let ordered: Vec<f64> = if transposed {
        (0..rows).flat_map(|row| numbers.iter().skip(row).step_by(rows).copied().map(scaled)).collect()
    } else {
        numbers.into_iter().map(scaled).collect()
    };
    let operations = u64::try_from(ordered.len()).unwrap_or(u64::MAX).saturating_mul(2);
    let outputs = u32::try_from(outputs).unwrap_or(u32::MAX);
    let bias = match bias {
        Some(row) if row.len() == 1 && outputs > 1 => {
            Some(vec![row.first().copied().unwrap_or(0.0); outputs as usize])
        }
        Some(row) if row.len() == outputs as usize => Some(row),
        None => None,
        Some(row) => {
            return Err(node.refusal(
                format!("a bias of {} numbers does not fit {outputs} outputs", row.len()),
                EXPORT_AGAIN,
            ));
        }
    };
    let weights = l.floats(kind, &ordered);
    let bias = bias.map(|row| l.floats(kind, &row));
    let output = l.value(kind, outputs);
    l.step(Step::Dense { input: input.value, weights, bias, output }, operations);
    l.bind_output(node, 0, Tracked { value: output, form, element: input.element, classes: None });
    Ok(())
}

/// The softmax of each row.
pub(in crate::import) fn softmax<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let default = if node.opset < 13 { 1 } else { -1 };
    if !matches!(a.int_or("axis", default), 1 | -1) {
        a.refuse("axis", "only the columns of a row are supported (1 or -1)", ROWS_STAY);
    }
    let input = l.float_matrix(node, 0)?;
    let Value { kind, columns } = l.form(input.value);
    let output = l.value(kind, columns);
    l.step(Step::Softmax { input: input.value, output }, 20 * u64::from(columns));
    l.bind_output(node, 0, Tracked { value: output, ..input });
    Ok(())
}

/// Each row divided by its norm.
pub(in crate::import) fn lp_normalization<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Lowered {
    if !matches!(a.int_or("axis", -1), 1 | -1) {
        a.refuse("axis", "only the columns of a row are supported (1 or -1)", ROWS_STAY);
    }
    let norm = match a.int_or("p", 2) {
        1 => Norm::L1,
        2 => Norm::L2,
        other => {
            a.refuse("p", format!("expected 1 or 2, found {other}"), EXPORT_AGAIN);
            Norm::L2
        }
    };
    let input = l.float_matrix(node, 0)?;
    let Value { kind, columns } = l.form(input.value);
    let output = l.value(kind, columns);
    l.step(Step::Normalize { norm, input: input.value, output }, 3 * u64::from(columns));
    l.bind_output(node, 0, Tracked { value: output, ..input });
    Ok(())
}

/// The index of each row's largest element.
pub(in crate::import) fn arg_max<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    if !matches!(a.int_or("axis", 0), 1 | -1) {
        a.refuse("axis", "only the columns of a row are supported (1 or -1)", ROWS_STAY);
    }
    if a.int_or("select_last_index", 0) != 0 {
        a.refuse("select_last_index", "only 0 is supported", "leave it at its default");
    }
    let form = if a.int_or("keepdims", 1) == 0 { Form::Vector } else { Form::Matrix };
    let input = l.float_matrix(node, 0)?;
    let columns = l.form(input.value).columns;
    let output = l.value(Kind::I64, 1);
    l.step(Step::ArgMax { input: input.value, output }, columns.into());
    l.bind_output(node, 0, Tracked { value: output, form, element: ElementType::Int64, classes: None });
    Ok(())
}

macro_rules! reduce {
    ($($(#[$doc:meta])* $name:ident => $reduction:ident, $axes_as_input:literal;)*) => {$(
        $(#[$doc])*
        pub(in crate::import) fn $name<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
            fold(l, node, a, Reduction::$reduction, $axes_as_input)
        }
    )*};
}

reduce! {
    /// The largest element of each row.
    reduce_max => Max, 18;
    /// The mean of each row.
    reduce_mean => Mean, 18;
    /// The smallest element of each row.
    reduce_min => Min, 18;
    /// The product of each row.
    reduce_product => Product, 18;
    /// The sum of each row.
    reduce_sum => Sum, 13;
}

/// Each row folded. The axes are an attribute until the opset in which they became an input.
fn fold<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
    reduction: Reduction,
    axes_as_input: i64,
) -> Lowered {
    let axes = if node.opset < axes_as_input { a.ints("axes").to_vec() } else { optional_axes(l, node)? };
    if !matches!(axes.as_slice(), [1 | -1]) {
        return Err(node.refusal(format!("only axis 1 can be reduced, found {axes:?}"), ROWS_STAY));
    }
    // It matters only when there are no axes.
    a.has_no_effect(&["noop_with_empty_axes"]);
    let form = if a.int_or("keepdims", 1) == 0 { Form::Vector } else { Form::Matrix };
    let input = l.float_matrix(node, 0)?;
    let Value { kind, columns } = l.form(input.value);
    let output = l.value(kind, 1);
    l.step(Step::Reduce { reduction, input: input.value, output }, columns.into());
    l.bind_output(node, 0, Tracked { value: output, form, element: input.element, classes: None });
    Ok(())
}

fn optional_axes(l: &Lowering<'_>, node: &Node) -> Result<Vec<i64>, Refusal> {
    if node.input(1).is_some() { l.integers(node, 1) } else { Ok(Vec::new()) }
}

/// Another shape for the same elements.
pub(in crate::import) fn reshape<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let shape = l.integers(node, 1)?;
    if a.int_or("allowzero", 0) != 0 && shape.contains(&0) {
        a.refuse("allowzero", "empty dimensions are not supported", "leave it at its default");
    }
    let input = l.tracked(node, 0)?;
    let columns = i64::from(l.form(input.value).columns);
    let form = match (input.form, shape.as_slice()) {
        (Form::Matrix, [-1] | [0]) if columns == 1 => Form::Vector,
        (Form::Matrix, [-1]) => Form::StretchedVector,
        (Form::Matrix, [0, -1]) => Form::Matrix,
        (Form::Matrix, [-1 | 0, width]) if *width == columns => Form::Matrix,
        (Form::Matrix, [-1, 1]) => Form::StretchedMatrix,
        (Form::Vector | Form::Across, [-1]) => Form::Vector,
        (Form::Vector, [0]) => Form::Vector,
        (Form::Vector | Form::Across, [-1, 1]) => Form::Matrix,
        (Form::Vector | Form::Across, [1, -1]) => Form::Across,
        (form, _) => {
            let message =
                format!("a value of the form {form} with {columns} columns cannot become {shape:?}");
            return Err(node.refusal(message, ROWS_STAY));
        }
    };
    let classes = input.classes.filter(|_| !matches!(form, Form::StretchedMatrix | Form::StretchedVector));
    l.bind_output(node, 0, Tracked { form, classes, ..input });
    Ok(())
}

/// All dimensions behind the rows as one.
pub(in crate::import) fn flatten<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    if !matches!(a.int_or("axis", 1), 1 | -1) {
        a.refuse("axis", "only axis 1 is supported", ROWS_STAY);
    }
    let input = l.matrix(node, 0)?;
    l.bind_output(node, 0, input);
    Ok(())
}

/// A dimension of one removed.
pub(in crate::import) fn squeeze<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let axes = if node.opset < 13 { a.ints("axes").to_vec() } else { optional_axes(l, node)? };
    let input = l.tracked(node, 0)?;
    let columns = l.form(input.value).columns;
    let fits = match input.form {
        Form::Matrix => columns == 1 && matches!(axes.as_slice(), [1 | -1]),
        Form::Across => matches!(axes.as_slice(), [0 | -2]),
        _ => false,
    };
    if !fits {
        let message = format!(
            "a value of the form {} with {columns} columns cannot lose the axes {axes:?}",
            input.form
        );
        return Err(node.refusal(message, ROWS_STAY));
    }
    l.bind_output(node, 0, Tracked { form: Form::Vector, ..input });
    Ok(())
}

/// A dimension of one added.
pub(in crate::import) fn unsqueeze<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let axes = if node.opset < 13 { a.ints("axes").to_vec() } else { optional_axes(l, node)? };
    let input = l.tracked(node, 0)?;
    let form = match (input.form, axes.as_slice()) {
        (Form::Vector, [1 | -1]) => Form::Matrix,
        (Form::Vector, [0 | -2]) => Form::Across,
        (form, _) => {
            return Err(
                node.refusal(format!("a value of the form {form} cannot gain the axes {axes:?}"), ROWS_STAY)
            );
        }
    };
    l.bind_output(node, 0, Tracked { form, ..input });
    Ok(())
}

/// Rows and columns exchanged, which a single column survives.
pub(in crate::import) fn transpose<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let permutation = a.ints("perm");
    let input = l.tracked(node, 0)?;
    let columns = l.form(input.value).columns;
    let form = match (input.form, permutation) {
        (form, [0, 1]) => form,
        (Form::Matrix, [] | [1, 0]) if columns == 1 => Form::Across,
        (Form::Across, [] | [1, 0]) => Form::Matrix,
        (form, _) => {
            let message = format!("a value of the form {form} with {columns} columns cannot be transposed");
            return Err(node.refusal(message, ROWS_STAY));
        }
    };
    l.bind_output(node, 0, Tracked { form, ..input });
    Ok(())
}

/// A range of columns.
pub(in crate::import) fn slice<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let (starts, ends, axes, steps) = if node.opset < 10 {
        (a.ints("starts").to_vec(), a.ints("ends").to_vec(), a.ints("axes").to_vec(), Vec::new())
    } else {
        let axes = if node.input(3).is_some() { l.integers(node, 3)? } else { Vec::new() };
        let steps = if node.input(4).is_some() { l.integers(node, 4)? } else { Vec::new() };
        (l.integers(node, 1)?, l.integers(node, 2)?, axes, steps)
    };
    let ([start], [end], [1 | -1], [] | [1]) =
        (starts.as_slice(), ends.as_slice(), axes.as_slice(), steps.as_slice())
    else {
        return Err(node.refusal("only a range of columns is supported (axis 1, step 1)", ROWS_STAY));
    };
    let input = l.matrix(node, 0)?;
    let width = i64::from(l.form(input.value).columns);
    let clamp = |bound: i64| (if bound < 0 { bound.saturating_add(width) } else { bound }).clamp(0, width);
    let columns: Vec<i64> = (clamp(*start)..clamp(*end)).collect();
    select(l, node, &input, &columns, Form::Matrix)
}

/// Columns, or entries of a table, by index.
pub(in crate::import) fn gather<'m>(l: &mut Lowering<'m>, node: &'m Node, a: &Attributes<'m>) -> Lowered {
    let axis = a.int_or("axis", 0);
    match l.symbol(node, 0)? {
        Symbol::Constant(table) => {
            let index = l.tracked(node, 1)?;
            if axis != 0 {
                a.refuse("axis", "a table has only axis 0", EXPORT_AGAIN);
            }
            lookup(l, node, &table, &index, index.form)
        }
        _ => {
            let input = l.matrix(node, 0)?;
            if !matches!(axis, 1 | -1) {
                a.refuse("axis", "only columns can be chosen (1 or -1)", ROWS_STAY);
            }
            let constant = l.constant(node, 1)?;
            let columns = l.integers(node, 1)?;
            let form = match constant.shape() {
                [] => Form::Vector,
                [_] => Form::Matrix,
                shape => {
                    let message = format!("indices of the shape {shape:?} would give a row more dimensions");
                    return Err(node.refusal(message, ROWS_STAY));
                }
            };
            select(l, node, &input, &columns, form)
        }
    }
}

/// Columns, or entries of a table, by index.
pub(in crate::import) fn array_feature_extractor<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    _: &Attributes<'m>,
) -> Lowered {
    match l.symbol(node, 0)? {
        Symbol::Constant(table) => {
            let index = l.tracked(node, 1)?;
            lookup(l, node, &table, &index, Form::Across)
        }
        _ => {
            let input = l.matrix(node, 0)?;
            let columns = l.integers(node, 1)?;
            select(l, node, &input, &columns, Form::Matrix)
        }
    }
}

fn select<'m>(l: &mut Lowering<'m>, node: &'m Node, input: &Tracked, columns: &[i64], form: Form) -> Lowered {
    let Value { kind, columns: width } = l.form(input.value);
    let chosen: Option<Vec<u32>> = columns
        .iter()
        .map(|&column| {
            let column = if column < 0 { column.checked_add(width.into())? } else { column };
            u32::try_from(column).ok().filter(|&column| column < width)
        })
        .collect();
    let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) else {
        return Err(node.refusal(format!("columns {columns:?} of {width} do not exist"), EXPORT_AGAIN));
    };
    let output = l.value(kind, u32::try_from(chosen.len()).unwrap_or(u32::MAX));
    let operations = u64::try_from(chosen.len()).unwrap_or(u64::MAX);
    l.step(Step::Select { input: input.value, columns: chosen, output }, operations);
    l.bind_output(node, 0, Tracked { value: output, form, element: input.element, classes: None });
    Ok(())
}

fn lookup<'m>(l: &mut Lowering<'m>, node: &'m Node, table: &Tensor, index: &Tracked, form: Form) -> Lowered {
    let flat = matches!(table.shape(), [_] | [1, _]);
    let labels = labels_of(table).filter(|labels| flat && !labels.is_empty());
    let Some(labels) = labels else {
        let message =
            format!("a table of {} with shape {:?} is not supported", ElementType::of(table), table.shape());
        return Err(node.refusal(message, "use a list of integers or texts"));
    };
    let Value { kind, columns } = l.form(index.value);
    if kind != Kind::I64 || columns != 1 {
        return Err(node.refusal("an index into a table must be one integer per row", EXPORT_AGAIN));
    }
    let mut label = l.labels(index.value, &labels, form);
    if ElementType::of(table) == ElementType::Int32 {
        label.element = ElementType::Int32;
    }
    l.bind_output(node, 0, label);
    Ok(())
}
