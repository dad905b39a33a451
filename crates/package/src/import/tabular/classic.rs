//! The operators of `ai.onnx.ml` other than trees.

use super::{Form, Label, Lowering, Tracked};
use crate::import::Refusal;
use crate::import::onnx::{Attributes, ElementType, Node};
use crate::plan::tabular::{ArrayKind, Kind, Norm, Step, Transform};

const EXPORT_AGAIN: &str = "export the model again";

/// `(x − offset) · scale`; the result is single precision whatever the input.
pub(in crate::import) fn scaler<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let (offset, scale) = (a.floats("offset"), a.floats("scale"));
    let mut input = l.matrix(node, 0)?;
    if !l.form(input.value).kind.is_float() {
        input = l.single_matrix(node, 0)?;
    }
    let columns = l.form(input.value).columns;
    for (name, values) in [("offset", offset), ("scale", scale)] {
        if ![1, columns as usize].contains(&values.len()) {
            a.refuse(name, format!("expected 1 or {columns} numbers, found {}", values.len()), EXPORT_AGAIN);
        }
    }
    let (offset, scale) = (l.array(ArrayKind::F32, offset), l.array(ArrayKind::F32, scale));
    let output = l.value(Kind::F32, columns);
    l.step(Step::Scale { input: input.value, offset, scale, output }, 2 * u64::from(columns));
    l.bind_output(node, 0, Tracked { value: output, element: ElementType::Float, ..input });
    Ok(())
}

/// Each row divided by its norm.
pub(in crate::import) fn normalizer<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let norm = match a.string_or("norm", "MAX") {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        other => {
            a.refuse("norm", format!("expected MAX, L1 or L2, found `{other}`"), EXPORT_AGAIN);
            Norm::Max
        }
    };
    let input = l.single_matrix(node, 0)?;
    let columns = l.form(input.value).columns;
    let output = l.value(Kind::F32, columns);
    l.step(Step::Normalize { norm, input: input.value, output }, 3 * u64::from(columns));
    l.bind_output(node, 0, Tracked { value: output, ..input });
    Ok(())
}

/// Missing values replaced by constants.
pub(in crate::import) fn imputer<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let values = a.floats("imputed_value_floats");
    let marker = a.float_or("replaced_value_float", 0.0);
    if !a.ints("imputed_value_int64s").is_empty() {
        a.refuse(
            "imputed_value_int64s",
            "integers are not supported",
            "cast the input to float before the imputer",
        );
    }
    // The marker for integers means nothing to a float input.
    a.has_no_effect(&["replaced_value_int64"]);
    let input = l.single_matrix(node, 0)?;
    let columns = l.form(input.value).columns;
    if ![1, columns as usize].contains(&values.len()) {
        let message = format!("expected 1 or {columns} numbers, found {}", values.len());
        a.refuse("imputed_value_floats", message, EXPORT_AGAIN);
    }
    if marker.is_nan() {
        l.accept_missing();
    }
    let replacement = l.array(ArrayKind::F32, values);
    let output = l.value(Kind::F32, columns);
    l.step(Step::Impute { marker, replacement, input: input.value, output }, u64::from(columns));
    l.bind_output(node, 0, Tracked { value: output, ..input });
    Ok(())
}

/// Inputs side by side, in single precision.
pub(in crate::import) fn feature_vectorizer<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let declared = a.ints("inputdimensions");
    let mut inputs = Vec::new();
    let mut columns = 0_u32;
    for index in 0..node.inputs.len() {
        let input = l.single_matrix(node, index)?;
        let width = l.form(input.value).columns;
        if !declared.is_empty() && declared.get(index) != Some(&i64::from(width)) {
            let message = format!("input {index} has {width} columns, found {declared:?}");
            a.refuse(
                "inputdimensions",
                message,
                "export each input with the width that the model was trained with",
            );
        }
        columns = columns.saturating_add(width);
        inputs.push(input.value);
    }
    let output = l.value(Kind::F32, columns);
    l.step(Step::Concat { inputs, output }, columns.into());
    l.bind_output(
        node,
        0,
        Tracked { value: output, form: Form::Matrix, element: ElementType::Float, classes: None },
    );
    Ok(())
}

/// Scores of linear functions and the class with the largest.
pub(in crate::import) fn linear_classifier<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let labels = class_labels(a, "classlabels_ints", "classlabels_strings");
    let (coefficients, intercepts) = (a.floats("coefficients"), a.floats("intercepts"));
    let transform = post_transform(a);
    // One-versus-rest or multinomial changes how a model is trained; scores are computed alike.
    a.has_no_effect(&["multi_class"]);
    let input = l.single_matrix(node, 0)?;
    let outputs = intercepts.len();
    let second_class = outputs == 1 && labels.len() == 2;
    if !second_class && (outputs < 2 || outputs != labels.len()) {
        let message = format!("expected one per class ({}), found {outputs}", labels.len());
        a.refuse("intercepts", message, EXPORT_AGAIN);
    }
    if second_class && transform == Transform::Probit {
        a.refuse("post_transform", "PROBIT of a single score is not defined", "train with a score per class");
    }
    let scores = linear(l, node, a, input.value, coefficients, Some(intercepts), outputs)?;
    let index = l.value(Kind::I64, 1);
    l.step(
        if second_class {
            Step::IsPositive { input: scores, output: index }
        } else {
            Step::ArgMax { input: scores, output: index }
        },
        u64::try_from(outputs).unwrap_or(u64::MAX),
    );
    let label = l.labels(index, &labels, Form::Vector);
    l.bind_output(node, 0, label);
    let scores = transformed(l, scores, transform, second_class);
    let scores =
        Tracked { value: scores, form: Form::Matrix, element: ElementType::Float, classes: Some(labels) };
    l.bind_output(node, 1, scores);
    Ok(())
}

/// Linear functions.
pub(in crate::import) fn linear_regressor<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let targets = usize::try_from(a.int_or("targets", 1)).unwrap_or(0);
    let (coefficients, intercepts) = (a.floats("coefficients"), a.floats("intercepts"));
    let transform = of_targets(post_transform(a), targets);
    let input = l.single_matrix(node, 0)?;
    // skl2onnx writes a single zero for any number of targets without intercepts.
    let intercepts =
        Some(intercepts).filter(|intercepts| intercepts.iter().any(|&intercept| intercept != 0.0));
    if let Some(intercepts) = intercepts.filter(|intercepts| intercepts.len() != targets) {
        a.refuse("intercepts", format!("expected {targets}, found {}", intercepts.len()), EXPORT_AGAIN);
    }
    let scores = linear(l, node, a, input.value, coefficients, intercepts, targets)?;
    let value = transformed(l, scores, transform, false);
    l.bind_output(node, 0, Tracked { value, form: Form::Matrix, element: ElementType::Float, classes: None });
    Ok(())
}

/// Scores with the names of their classes: a sequence of maps in ONNX, a plain matrix here.
pub(in crate::import) fn zip_map<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let labels = class_labels(a, "classlabels_int64s", "classlabels_strings");
    let scores = l.float_matrix(node, 0)?;
    let columns = l.form(scores.value).columns as usize;
    if columns != labels.len() {
        let message = format!("there are {columns} scores and {} labels", labels.len());
        return Err(node.refusal(message, EXPORT_AGAIN));
    }
    l.bind_output(node, 0, Tracked { classes: Some(labels), ..scores });
    Ok(())
}

/// The attribute that says what happens to scores at the end.
pub(super) fn post_transform(a: &Attributes<'_>) -> Transform {
    match a.string_or("post_transform", "NONE") {
        "NONE" => Transform::None,
        "LOGISTIC" => Transform::Logistic,
        "SOFTMAX" => Transform::Softmax,
        "SOFTMAX_ZERO" => Transform::SoftmaxZero,
        "PROBIT" => Transform::Probit,
        other => {
            let expected = "NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT";
            a.refuse("post_transform", format!("expected {expected}, found `{other}`"), EXPORT_AGAIN);
            Transform::None
        }
    }
}

/// What becomes of a regressor's scores: onnxruntime transforms a single one by PROBIT only.
pub(super) fn of_targets(transform: Transform, targets: usize) -> Transform {
    if targets == 1 && transform != Transform::Probit { Transform::None } else { transform }
}

/// The labels, which must be given in exactly one of the two attributes.
pub(super) fn class_labels(a: &Attributes<'_>, integers: &str, texts: &str) -> Vec<Label> {
    let from_integers: Vec<Label> = a.ints(integers).iter().copied().map(Label::Integer).collect();
    let from_texts: Vec<Label> =
        a.strings(texts).into_iter().map(|text| Label::Text(text.to_owned())).collect();
    match (from_integers.is_empty(), from_texts.is_empty()) {
        (false, true) => from_integers,
        (true, false) => from_texts,
        (true, true) => {
            a.refuse(integers, "there are no class labels", EXPORT_AGAIN);
            Vec::new()
        }
        (false, false) => {
            a.refuse(texts, "there are integers and texts as class labels", "export with one kind of label");
            from_integers
        }
    }
}

/// A dense layer from coefficients that ONNX stores as a row per output.
fn linear(
    l: &mut Lowering<'_>,
    node: &Node,
    a: &Attributes<'_>,
    input: u32,
    coefficients: &[f32],
    intercepts: Option<&[f32]>,
    outputs: usize,
) -> Result<u32, Refusal> {
    let columns = l.form(input).columns as usize;
    if outputs == 0 || columns.checked_mul(outputs) != Some(coefficients.len()) {
        let message = format!("expected {outputs} × {columns} numbers, found {}", coefficients.len());
        a.refuse(
            "coefficients",
            message.clone(),
            "check that the input has as many columns as the model was trained with",
        );
        return Err(node.refusal(message, EXPORT_AGAIN));
    }
    let mut weights = vec![0.0_f32; coefficients.len()];
    for (output, row) in coefficients.chunks_exact(columns).enumerate() {
        for (place, &weight) in weights.iter_mut().skip(output).step_by(outputs).zip(row) {
            *place = weight;
        }
    }
    let weights = l.array(ArrayKind::F32, &weights);
    let bias = intercepts.map(|intercepts| l.array(ArrayKind::F32, intercepts));
    let output = l.value(Kind::F32, u32::try_from(outputs).unwrap_or(u32::MAX));
    let operations = u64::try_from(coefficients.len()).unwrap_or(u64::MAX).saturating_mul(2);
    l.step(Step::Dense { input, weights, bias, output }, operations);
    Ok(output)
}

fn transformed(l: &mut Lowering<'_>, scores: u32, transform: Transform, second_class: bool) -> u32 {
    if transform == Transform::None && !second_class {
        return scores;
    }
    let columns = if second_class { 2 } else { l.form(scores).columns };
    let output = l.value(Kind::F32, columns);
    l.step(Step::Transform { transform, second_class, input: scores, output }, 20 * u64::from(columns));
    output
}
