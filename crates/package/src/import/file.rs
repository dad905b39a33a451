//! The bytes of an ONNX file, decoded once: which other files it needs can be asked before it is imported.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::limits::weigh;
use super::onnx::{OnnxModel, build};
use super::{ImportError, ImportLimits, external, pb};
use crate::Digest;

/// A decoded ONNX file. What it says is not checked yet.
#[derive(Debug, Clone)]
pub struct OnnxFile<'b> {
    bytes: &'b [u8],
    model: pb::ModelProto,
    data_files: BTreeSet<String>,
}

impl<'b> OnnxFile<'b> {
    /// Decodes a file.
    ///
    /// # Errors
    /// Bytes that are no ONNX model, end early, are too many or would take more memory than the limits allow.
    pub fn decode(bytes: &'b [u8], limits: &ImportLimits) -> Result<Self, ImportError> {
        limits.check_file(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
        check_framing(bytes)?;
        // Before anything is allocated for what the file says.
        let weight = weigh(bytes);
        limits.check("nodes", "the number of nodes", weight.nodes)?;
        limits.check("decoded_bytes", "the memory for its content in bytes", weight.bytes)?;
        let mut model = pb::ModelProto::decode(bytes).map_err(|error| {
            // The outer frame is whole, so what is inside was written wrong, not cut.
            ImportError::NotOnnx { problem: format!("its content cannot be decoded ({error})") }
        })?;
        let data_files = external::locations(&mut model);
        Ok(Self { bytes, model, data_files })
    }

    /// The files that it keeps data in, as it names them: paths that begin at its folder.
    pub fn data_files(&self) -> &BTreeSet<String> {
        &self.data_files
    }

    /// The digest of the file and of those it keeps data in.
    pub(super) fn digest(&self, files: &BTreeMap<String, Vec<u8>>) -> Digest {
        Digest::of_all(std::iter::once(self.bytes).chain(files.values().map(Vec::as_slice)))
    }

    /// The checked model, with the data that it keeps in other files.
    ///
    /// # Errors
    /// See [`OnnxModel::parse`]; and data that lie outside of their file.
    pub(super) fn check(
        mut self,
        files: &BTreeMap<String, Vec<u8>>,
        limits: &ImportLimits,
    ) -> Result<OnnxModel, ImportError> {
        let length = files.values().fold(self.bytes.len(), |sum, file| sum.saturating_add(file.len()));
        limits.check_file(u64::try_from(length).unwrap_or(u64::MAX))?;
        external::fill(&mut self.model, files, limits)?;
        build(self.model, limits)
    }
}

/// Walks the outermost fields of the protobuf message. A model that was cut shows here as a field that runs past the
/// end; the decoder alone could not tell this from other damage.
fn check_framing(bytes: &[u8]) -> Result<(), ImportError> {
    let not_onnx = |problem: &str| ImportError::NotOnnx { problem: problem.to_owned() };
    if bytes.is_empty() {
        return Err(not_onnx("it is empty"));
    }
    let foreign =
        || not_onnx("its bytes are no ONNX model (a protobuf message that begins with the format's version)");
    // `ir_version`, field 1 as a varint, opens every file: writers put fields in the order of their numbers.
    if bytes.first() != Some(&0x08) {
        return Err(foreign());
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let truncated = || ImportError::Truncated {
            problem: format!("the field that begins at byte {at} runs past the end, byte {}", bytes.len()),
        };
        let (key, after) = varint(rest).ok_or_else(truncated)?;
        let is_length_delimited = match (key >> 3, key & 7) {
            (1 | 5, 0) => false,
            (2..=4 | 6..=8 | 14 | 20 | 25..=30, 2) => true,
            _ => return Err(foreign()),
        };
        let (value, after) = varint(after).ok_or_else(truncated)?;
        rest = if is_length_delimited {
            let len = usize::try_from(value).map_err(|_| truncated())?;
            after.get(len..).ok_or_else(truncated)?
        } else {
            after
        };
    }
    Ok(())
}

pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(7 * index).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}
