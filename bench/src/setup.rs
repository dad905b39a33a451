use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// What `cargo xtask bench` prepared. The Node peers read the same file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Turns per peer and case.
    pub(crate) rounds: usize,
    /// How long a turn takes, about.
    pub(crate) turn_ms: u64,
    /// Rows in a batch.
    pub(crate) batch: usize,
    pub(crate) core_folder: PathBuf,
    pub(crate) node_folder: PathBuf,
    /// onnxruntime's shared library.
    pub(crate) onnxruntime: PathBuf,
    /// A compiled bundle.
    pub(crate) bundle: PathBuf,
    /// Contexts to decide for, JSON.
    pub(crate) contexts: PathBuf,
    pub(crate) route: String,
    pub(crate) models: Vec<Model>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// The Lockgate package.
    pub(crate) package: PathBuf,
    /// The ONNX file for the peers.
    pub(crate) onnx: PathBuf,
    /// `tabular` or `graph`.
    pub(crate) engine: String,
    /// The dimensions behind the rows.
    pub(crate) row_shape: Vec<usize>,
    /// A pool of rows, little-endian f32.
    pub(crate) inputs: PathBuf,
}

/// Somebody to decide for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) symbol: String,
    pub(crate) strategy: Option<String>,
}

impl Setup {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no benchmark setup", path.display()))
    }

    pub(crate) fn callers(&self) -> Result<Vec<Caller>> {
        let bytes = std::fs::read(&self.contexts)
            .with_context(|| format!("cannot read {}", self.contexts.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

impl Model {
    pub(crate) fn row_len(&self) -> usize {
        self.row_shape.iter().product()
    }

    /// The pool of rows.
    pub(crate) fn pool(&self) -> Result<Vec<f32>> {
        let bytes =
            std::fs::read(&self.inputs).with_context(|| format!("cannot read {}", self.inputs.display()))?;
        let (chunks, rest) = bytes.as_chunks::<4>();
        ensure!(rest.is_empty(), "{} holds no whole number of floats", self.inputs.display());
        Ok(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}
