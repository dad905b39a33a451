//! The operators of the tabular engine: one table, from which nodes are dispatched and reference pages are made.

use lockgate_onnx::operator::{TREE_ENSEMBLE_CLASSIFIER, TREE_ENSEMBLE_REGRESSOR};

use crate::Engine;

use super::onnx::Node;
use super::tabular::{Lower, classic, dense, trees};
use super::{Refusal, about_graph};

/// The newest operator sets whose meaning the importer knows, by domain. A model that uses a newer one is refused,
/// because an operator may have changed.
pub const NEWEST_OPSETS: [(&str, i64); 2] = [("ai.onnx", 28), ("ai.onnx.ml", 5)];

/// The refusal of an operator set that is newer than the newest one known.
pub(super) fn newer_opset(domain: &str, version: i64, newest: i64) -> Refusal {
    about_graph(
        format!(
            "the model uses {domain} opset {version}, which is newer than {newest}, the newest one known"
        ),
        "export with an older target_opset",
    )
}

/// One operator and how much of it is supported.
#[derive(Clone, Copy)]
pub struct OperatorSupport {
    /// The operator, `Scaler`.
    pub operator: &'static str,
    /// Its domain, `ai.onnx.ml`.
    pub domain: &'static str,
    /// The oldest operator set whose form of it is understood.
    pub since: i64,
    /// The newest one.
    pub until: i64,
    /// The attributes that are read; any other is refused.
    pub attributes: &'static [&'static str],
    /// The engine that runs it.
    pub engine: Engine,
    /// What is not supported, and what to do about it; empty when all of it is.
    pub limits: &'static str,
    pub(super) lower: Lower,
}

impl std::fmt::Debug for OperatorSupport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}..={}", self.domain, self.operator, self.since, self.until)
    }
}

const fn core(
    operator: &'static str,
    since: i64,
    attributes: &'static [&'static str],
    limits: &'static str,
    lower: Lower,
) -> OperatorSupport {
    OperatorSupport {
        operator,
        domain: "ai.onnx",
        since,
        until: 28,
        attributes,
        engine: Engine::Tabular,
        limits,
        lower,
    }
}

const fn ml(
    operator: &'static str,
    until: i64,
    attributes: &'static [&'static str],
    limits: &'static str,
    lower: Lower,
) -> OperatorSupport {
    OperatorSupport {
        operator,
        domain: "ai.onnx.ml",
        since: 1,
        until,
        attributes,
        engine: Engine::Tabular,
        limits,
        lower,
    }
}

/// Every operator of the tabular engine, by domain and name.
pub const TABULAR_OPERATORS: &[OperatorSupport] = &[
    core("Abs", 6, &[], "", dense::abs),
    core("Add", 7, &[], "one operand may be a constant row", dense::add),
    core(
        "ArgMax",
        1,
        &["axis", "keepdims", "select_last_index"],
        "along the columns, first of equal ones",
        dense::arg_max,
    ),
    core(
        "Cast",
        6,
        &["to", "saturate", "round_mode"],
        "between float, double, int32, int64 and bool",
        dense::cast,
    ),
    core("Clip", 6, &["min", "max"], "constant bounds", dense::clip),
    core("Concat", 4, &["axis"], "columns", dense::concat),
    core("Div", 7, &[], "floating-point, one operand may be a constant row", dense::divide),
    core("Dropout", 7, &["ratio", "seed"], "as in inference: the input itself", dense::dropout),
    core("Exp", 6, &[], "", dense::exp),
    core("Flatten", 1, &["axis"], "axis 1", dense::flatten),
    core("Gather", 1, &["axis"], "constant columns, or a constant table", dense::gather),
    core("Gemm", 7, &["alpha", "beta", "transA", "transB"], "constant weights, transA = 0", dense::gemm),
    core("Identity", 1, &[], "", dense::identity),
    core("Log", 6, &[], "", dense::log),
    core("LpNormalization", 1, &["axis", "p"], "along the columns", dense::lp_normalization),
    core("MatMul", 1, &[], "constant weights on the right", dense::mat_mul),
    core("Mul", 7, &[], "floating-point, one operand may be a constant row", dense::multiply),
    core("Neg", 6, &[], "", dense::negate),
    core("Not", 1, &[], "", dense::not),
    core("Reciprocal", 6, &[], "", dense::reciprocal),
    core(
        "ReduceMax",
        1,
        &["axes", "keepdims", "noop_with_empty_axes"],
        "along the columns",
        dense::reduce_max,
    ),
    core(
        "ReduceMean",
        1,
        &["axes", "keepdims", "noop_with_empty_axes"],
        "along the columns",
        dense::reduce_mean,
    ),
    core(
        "ReduceMin",
        1,
        &["axes", "keepdims", "noop_with_empty_axes"],
        "along the columns",
        dense::reduce_min,
    ),
    core(
        "ReduceProd",
        1,
        &["axes", "keepdims", "noop_with_empty_axes"],
        "along the columns",
        dense::reduce_product,
    ),
    core(
        "ReduceSum",
        1,
        &["axes", "keepdims", "noop_with_empty_axes"],
        "along the columns",
        dense::reduce_sum,
    ),
    core("Relu", 6, &[], "", dense::relu),
    core("Reshape", 5, &["allowzero"], "a constant shape that keeps the rows", dense::reshape),
    core("Sigmoid", 6, &[], "", dense::sigmoid),
    core("Slice", 1, &["starts", "ends", "axes"], "constant columns", dense::slice),
    core("Softmax", 1, &["axis"], "along the columns", dense::softmax),
    core("Sqrt", 6, &[], "", dense::sqrt),
    core("Squeeze", 1, &["axes"], "a single column", dense::squeeze),
    core("Sub", 7, &[], "floating-point, one operand may be a constant row", dense::subtract),
    core("Sum", 8, &[], "floating-point", dense::sum),
    core("Tanh", 6, &[], "", dense::tanh),
    core("Transpose", 1, &["perm"], "a single column", dense::transpose),
    core("Unsqueeze", 1, &["axes"], "a single column", dense::unsqueeze),
    ml(
        "ArrayFeatureExtractor",
        5,
        &[],
        "constant columns, or a constant table",
        dense::array_feature_extractor,
    ),
    ml("FeatureVectorizer", 5, &["inputdimensions"], "whole inputs", classic::feature_vectorizer),
    ml(
        "Imputer",
        5,
        &["imputed_value_floats", "replaced_value_float", "imputed_value_int64s", "replaced_value_int64"],
        "float",
        classic::imputer,
    ),
    ml(
        "LinearClassifier",
        5,
        &[
            "coefficients",
            "intercepts",
            "classlabels_strings",
            "classlabels_ints",
            "multi_class",
            "post_transform",
        ],
        "",
        classic::linear_classifier,
    ),
    ml(
        "LinearRegressor",
        5,
        &["coefficients", "intercepts", "targets", "post_transform"],
        "",
        classic::linear_regressor,
    ),
    ml("Normalizer", 5, &["norm"], "", classic::normalizer),
    ml("Scaler", 5, &["offset", "scale"], "", classic::scaler),
    ml(
        "TreeEnsembleClassifier",
        4,
        TREE_ENSEMBLE_CLASSIFIER,
        "numbers given as double must be exact in single precision",
        trees::classifier,
    ),
    ml(
        "TreeEnsembleRegressor",
        4,
        TREE_ENSEMBLE_REGRESSOR,
        "numbers given as double must be exact in single precision",
        trees::regressor,
    ),
    ml("ZipMap", 5, &["classlabels_int64s", "classlabels_strings"], "", classic::zip_map),
];

/// The table's entry for a node's operator, whatever its operator set.
pub(super) fn support(node: &Node) -> Option<&'static OperatorSupport> {
    TABULAR_OPERATORS.iter().find(|entry| entry.operator == node.operator && entry.domain == node.domain)
}

/// What to do about an operator that is not in the table.
pub(super) fn hint(operator: &str) -> &'static str {
    match operator {
        "CastMap" | "DictVectorizer" => "give the columns as tensors, and export the model from there on",
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike" | "Bernoulli"
        | "Multinomial" => "export the model for inference: it may not draw random numbers",
        "ImageDecoder" => "decode images before the request is sent",
        operator if operator.starts_with("Sequence") || operator.starts_with("Optional") => {
            "export without sequences and optional values; tensors with one more axis hold the same"
        }
        _ => {
            "export the part of the model that uses supported operators; the reference page of operators lists them"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        let keys: Vec<_> = TABULAR_OPERATORS.iter().map(|entry| (entry.domain, entry.operator)).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
    }
}
