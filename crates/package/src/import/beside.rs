//! What was put around a model, kept in the package for people to read.

use serde::{Deserialize, Serialize};

use super::{AnswerSource, Scaler};
use crate::Package;

const SECTION: &str = "beside";

/// What a package does before and behind its model. The plan computes it; this says so, with the numbers as they were given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Beside {
    /// What is done to the inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaler: Option<Scaler>,
    /// What is made of the scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerSource>,
}

impl Beside {
    /// What a package holds; nothing for a model that stands alone.
    ///
    /// # Errors
    /// A section that cannot be read.
    pub fn read(package: &Package) -> Result<Self, String> {
        let envelope = package.envelope();
        let Some(section) = envelope.section(SECTION) else {
            return Ok(Self::default());
        };
        rmp_serde::from_slice(envelope.bytes_of(section))
            .map_err(|error| format!("the section `{SECTION}` cannot be read: {error}"))
    }

    /// The section that holds it; none for a model that stands alone, whose package stays as it always was.
    pub(super) fn sections(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        if *self == Self::default() {
            return Ok(Vec::new());
        }
        let bytes = rmp_serde::to_vec_named(self).map_err(|error| error.to_string())?;
        Ok(vec![(SECTION.to_owned(), bytes)])
    }
}
