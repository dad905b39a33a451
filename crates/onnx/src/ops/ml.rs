//! The operators of ai.onnx.ml, which classical models are exported to.
//!
//! Rows are the first axis and columns the second; a tensor of one axis is a single row. Numbers of other kinds become single precision first, except where
//! the modules say otherwise. Where the specification leaves room, results are those of onnxruntime, with which people compare.
//!
//! Maps are no tensors: `CastMap`, `DictVectorizer` and `ZipMap` are not here.

use std::borrow::Cow;
pub use trees::{CLASSIFIER as TREE_ENSEMBLE_CLASSIFIER, REGRESSOR as TREE_ENSEMBLE_REGRESSOR};

use lockgate_onnx_ml::transform::{self, Transform};

use crate::operator::ai;
use crate::{Attributes, Build, Data, Kernel, Meter, Numbers, Operator, Problem, Tensor};

mod encode;
mod labels;
mod linear;
mod rows;
#[cfg(test)]
mod tests;
mod trees;
mod vectors;

pub(super) const TABLE: &[Operator] = &[
    ml("ArrayFeatureExtractor", 1, &[], encode::array_feature_extractor),
    ml("Binarizer", 1, &["threshold"], rows::binarizer),
    ml(
        "CategoryMapper",
        1,
        &["cats_int64s", "cats_strings", "default_int64", "default_string"],
        encode::category_mapper,
    ),
    ml("FeatureVectorizer", 1, &["inputdimensions"], rows::feature_vectorizer),
    ml(
        "Imputer",
        1,
        &["imputed_value_floats", "imputed_value_int64s", "replaced_value_float", "replaced_value_int64"],
        rows::imputer,
    ),
    ml(
        "LabelEncoder",
        1,
        &["classes_strings", "default_int64", "default_string"],
        labels::first_label_encoder,
    ),
    ml(
        "LabelEncoder",
        2,
        &[
            "default_float",
            "default_int64",
            "default_string",
            "default_tensor",
            "keys_floats",
            "keys_int64s",
            "keys_strings",
            "keys_tensor",
            "values_floats",
            "values_int64s",
            "values_strings",
            "values_tensor",
        ],
        labels::label_encoder,
    ),
    ml(
        "LinearClassifier",
        1,
        &[
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "intercepts",
            "multi_class",
            "post_transform",
        ],
        linear::classifier,
    )
    .but("with one score for two classes: post_transform PROBIT, which gives the second class no score"),
    ml("LinearRegressor", 1, &["coefficients", "intercepts", "post_transform", "targets"], linear::regressor),
    ml("Normalizer", 1, &["norm"], rows::normalizer),
    ml("OneHotEncoder", 1, &["cats_int64s", "cats_strings", "zeros"], encode::one_hot_encoder),
    ml("SVMClassifier", 1, vectors::CLASSIFIER, vectors::classifier).but(
        "with two classes and no probabilities: post_transform PROBIT, which gives the second class no score",
    ),
    ml("SVMRegressor", 1, vectors::REGRESSOR, vectors::regressor),
    ml("Scaler", 1, &["offset", "scale"], rows::scaler),
    ml("TreeEnsemble", 5, trees::ENSEMBLE, trees::ensemble),
    ml("TreeEnsembleClassifier", 1, trees::CLASSIFIER, trees::classifier)
        .but("fewer than two classes; post_transform PROBIT when only the first of two classes gets votes"),
    ml("TreeEnsembleRegressor", 1, trees::REGRESSOR, trees::regressor),
];

const fn ml(
    name: &'static str,
    since: i64,
    attributes: &'static [&'static str],
    make: fn(&Build<'_>) -> Result<Kernel, Problem>,
) -> Operator {
    ai(name, since, attributes, make).of("ai.onnx.ml")
}

const EXPORT_AGAIN: &str = "export the model again";

/// How many rows and columns there are.
fn matrix(x: &Tensor) -> Result<(usize, usize), Problem> {
    match *x.shape() {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        ref shape => Err(Problem::invalid(format!("expected rows and columns, found the shape {shape:?}"))),
    }
}

/// As many rows as there are, if each has as many columns as the model.
fn rows_of(x: &Tensor, columns: usize) -> Result<usize, Problem> {
    match matrix(x)? {
        (rows, found) if found == columns => Ok(rows),
        (_, found) => Err(Problem::invalid(format!("expected {columns} columns, found {found}"))),
    }
}

/// The elements in single precision.
fn singles(x: &Tensor) -> Result<Cow<'_, [f32]>, Problem> {
    Ok(match x.numbers()? {
        Numbers::F32(all) => all,
        Numbers::F64(all) => all.iter().map(|&x| x as f32).collect(),
        Numbers::I64(all) => all.iter().map(|&x| x as f32).collect(),
        Numbers::U64(all) => all.iter().map(|&x| x as f32).collect(),
    })
}

/// Counts `one * other` operations.
fn work(meter: &mut Meter, one: usize, other: usize) -> Result<(), Problem> {
    meter.work(u64::try_from(one.saturating_mul(other)).unwrap_or(u64::MAX))
}

/// The values at these places. Texts take more room than their number tells, so their bytes are asked for too.
fn choose(values: &Data, shape: &[usize], places: &[usize], meter: &mut Meter) -> Result<Tensor, Problem> {
    meter.room(shape, values.kind().size())?;
    if let Data::Text(texts) = values {
        let bytes = places
            .iter()
            .filter_map(|&place| texts.get(place))
            .fold(places.len().saturating_mul(crate::meter::PLACE), |bytes, text| {
                bytes.saturating_add(text.len())
            });
        meter.room(&[bytes], 1)?;
    }
    Tensor::new(shape, values.take(places.iter().copied()))
}

/// The labels, which must be given in exactly one of the two attributes.
fn class_labels(a: &Attributes<'_>, integers: &str, texts: &str) -> Result<Data, Problem> {
    let from_integers = a.ints(integers)?.unwrap_or_default();
    let from_texts = a.texts(texts)?.unwrap_or_default();
    match (from_integers.is_empty(), from_texts.is_empty()) {
        (false, true) => Ok(Data::I64(from_integers.to_vec())),
        (true, false) => Ok(Data::Text(from_texts.to_vec())),
        (true, true) => Err(Problem::attribute(integers, "there are no class labels", EXPORT_AGAIN)),
        (false, false) => Err(Problem::attribute(
            texts,
            "there are integers and texts as class labels",
            "export with one kind of label",
        )),
    }
}

/// The attribute that says what happens to scores at the end.
fn post_transform(a: &Attributes<'_>) -> Result<Transform, Problem> {
    match a.text_or("post_transform", "NONE")? {
        "NONE" => Ok(Transform::None),
        "LOGISTIC" => Ok(Transform::Logistic),
        "SOFTMAX" => Ok(Transform::Softmax),
        "SOFTMAX_ZERO" => Ok(Transform::SoftmaxZero),
        "PROBIT" => Ok(Transform::Probit),
        other => Err(Problem::attribute(
            "post_transform",
            format!("expected NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT, found `{other}`"),
            EXPORT_AGAIN,
        )),
    }
}

/// What becomes of rows of this many scores. onnxruntime transforms a single score by PROBIT only, and its answers are what models are compared with.
fn of_scores(transform: Transform, count: usize) -> Transform {
    if count == 1 && transform != Transform::Probit { Transform::None } else { transform }
}

/// Transforms rows of scores.
fn transform_rows(transform: Transform, scores: &mut [f32], columns: usize) {
    transform::transform_rows(of_scores(transform, columns), scores, columns);
}
