//! The output that holds a model's scores.

use super::super::error::{ManifestProblem, problem};
use super::super::onnx::ElementType;
use super::{AnswerSource, Known, shown};
use crate::{Datatype, TensorSpec};

/// The output with the scores.
pub(super) struct Scores {
    /// Its place among the outputs.
    pub(super) position: usize,
    pub(super) name: String,
    pub(super) element: ElementType,
    /// 1: the second class's of two.
    pub(super) columns: usize,
    /// Of the shape `[rows]`.
    pub(super) is_vector: bool,
}

impl Scores {
    /// The one that was named, or the only one that can be it. `is_certain`: there must be scores, even if they are one column.
    pub(super) fn find(
        answer: &AnswerSource,
        known: &Known<'_>,
        classes: Option<usize>,
        is_certain: bool,
        problems: &mut Vec<ManifestProblem>,
    ) -> Option<Self> {
        let outputs = &known.signature.outputs;
        let fits = |scores: &Self| match classes {
            Some(classes) => scores.columns == classes || scores.columns == 1 && classes == 2,
            None => true,
        };
        let of_classes = || classes.map_or_else(String::new, |classes| format!(" of {classes} classes"));
        if let Some(wanted) = &answer.scores {
            let position = outputs.iter().position(|spec| spec.name == *wanted);
            let found = position.and_then(|at| Self::of(at, outputs.get(at)?)).filter(fits);
            if found.is_none() {
                let outputs = shown(outputs);
                let message = match position {
                    Some(_) => {
                        format!(
                            "`{wanted}` cannot hold the scores{}; the outputs are {outputs}",
                            of_classes()
                        )
                    }
                    None => format!("the model has no output `{wanted}`; its outputs are {outputs}"),
                };
                let hint = "name the FP32 or FP64 output with a score per class";
                problem(problems, "answer.scores", message, hint);
            }
            return found;
        }
        let mut found: Vec<Self> =
            outputs.iter().enumerate().filter_map(|(at, spec)| Self::of(at, spec)).filter(fits).collect();
        // A single column may be anything; labels, a threshold or a calibration say that it is a score.
        if classes.is_none() && (!is_certain || found.iter().any(|scores| scores.columns > 1)) {
            found.retain(|scores| scores.columns > 1);
        }
        if found.len() == 1 {
            return found.pop();
        }
        let outputs = shown(outputs);
        let (message, hint) = if found.is_empty() {
            (
                format!("no output of the model holds scores{}; its outputs are {outputs}", of_classes()),
                "export the model with its probabilities; of a single column, list the two labels in the manifest",
            )
        } else {
            (
                format!("several outputs can hold the scores; the outputs are {outputs}"),
                "name the one that is meant: answer.scores",
            )
        };
        problem(problems, "answer.scores", message, hint);
        None
    }

    /// An output as scores, if its form allows it.
    fn of(position: usize, spec: &TensorSpec) -> Option<Self> {
        let element = match spec.datatype {
            Datatype::Fp32 => ElementType::Float,
            Datatype::Fp64 => ElementType::Double,
            _ => return None,
        };
        let (columns, is_vector) = match spec.shape.as_slice() {
            [_] => (1, true),
            [_, columns] => (usize::try_from(*columns).ok().filter(|&columns| columns > 0)?, false),
            _ => return None,
        };
        Some(Self { position, name: spec.name.clone(), element, columns, is_vector })
    }
}
