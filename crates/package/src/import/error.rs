use std::fmt;

/// Why no package could be made from an ONNX file.
///
/// Errors about the file's bytes come first and stand alone, because nothing after a damaged place can be trusted. Everything
/// that the importer understood but does not implement is collected, so that one run shows all there is to change.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The bytes are no ONNX model at all.
    #[error(
        "not an ONNX file: {problem}; hint: give a model exported with skl2onnx, onnxmltools, tf2onnx, torch.onnx or the like"
    )]
    NotOnnx {
        /// What was found instead.
        problem: String,
    },
    /// The bytes begin as an ONNX model and end before it is complete.
    #[error("the ONNX file is truncated: {problem}; hint: copy or export the file again")]
    Truncated {
        /// Where it ends.
        problem: String,
    },
    /// The model is larger than the importer was told to accept.
    #[error(
        "the ONNX file is too large: {what} is {found}, the limit `{name}` is {limit}; hint: export a smaller model, or raise the limit"
    )]
    TooLarge {
        /// What is counted.
        what: String,
        /// The limit, by its name in [`ImportLimits`](super::ImportLimits).
        name: &'static str,
        /// How many there are.
        found: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// The model can be read but contradicts itself.
    #[error("the ONNX file is malformed: {problem}; hint: {hint}")]
    Malformed {
        /// What is wrong and where.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The model uses something that is not implemented. All such places are listed.
    #[error("{}", Listed("the model cannot be packaged", .refusals))]
    Unsupported {
        /// Every place, in the order of the nodes.
        refusals: Vec<Refusal>,
    },
    /// What the manifest says does not fit the model, or makes no sense.
    #[error("{}", Listed("the manifest does not fit", .problems))]
    Manifest {
        /// Every problem, in the order of the fields.
        problems: Vec<ManifestProblem>,
    },
    /// The finished package could not be sealed.
    #[error("the package cannot be written: {problem}")]
    Package {
        /// What the envelope said.
        problem: String,
    },
}

/// One place in a model that the importer does not implement.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Refusal {
    /// The node's name, or the first value it writes when it has none; empty when no node is to blame.
    pub node: String,
    /// The operator, `StringSplit`; empty when no node is to blame.
    pub operator: String,
    /// The operator's domain, `ai.onnx` or `ai.onnx.ml`.
    pub domain: String,
    /// The version of the domain's operator set that the model uses.
    pub opset: i64,
    /// The attribute, when one is to blame.
    pub attribute: Option<String>,
    /// What is not supported, and what was expected.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// One field of the manifest source that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ManifestProblem {
    /// The field, `features[3].min`.
    pub field: String,
    /// What is wrong, and what was expected.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Notes that a field of the manifest source does not fit.
pub(super) fn problem(
    problems: &mut Vec<ManifestProblem>,
    field: &str,
    message: impl Into<String>,
    hint: &str,
) {
    problems.push(ManifestProblem {
        field: field.to_owned(),
        message: message.into(),
        hint: hint.to_owned(),
    });
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.operator.is_empty() {
            f.write_str(&self.message)?;
        } else {
            if let Some(attribute) = &self.attribute {
                write!(f, "attribute `{attribute}` of ")?;
            }
            write!(
                f,
                "operator `{}` (node `{}`, {} opset {}): {}",
                self.operator, self.node, self.domain, self.opset, self.message
            )?;
        }
        if !self.hint.is_empty() {
            write!(f, "; hint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl fmt::Display for ManifestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.message)?;
        if !self.hint.is_empty() {
            write!(f, "; hint: {}", self.hint)?;
        }
        Ok(())
    }
}

/// A heading and one line per item; a single item stays on the heading's line.
struct Listed<'a, T>(&'a str, &'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        match self.1 {
            [only] => write!(f, ": {only}"),
            items => {
                write!(f, ", {} problems:", items.len())?;
                items.iter().try_for_each(|item| write!(f, "\n  {item}"))
            }
        }
    }
}
