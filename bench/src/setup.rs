use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lockgate_package::AlignedBytes;
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
    /// The policies that are decided with; the first is the one that other evaluators have too.
    pub(crate) policies: Vec<PolicyFiles>,
    /// Contexts to decide for, JSON.
    pub(crate) contexts: PathBuf,
    pub(crate) route: String,
    pub(crate) models: Vec<Model>,
}

/// A compiled policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PolicyFiles {
    pub(crate) name: String,
    pub(crate) bundle: PathBuf,
    /// The unit lists that the bundle names.
    pub(crate) lists: Vec<PathBuf>,
}

impl PolicyFiles {
    /// The bundle's bytes and its lists'.
    pub(crate) fn read(&self) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
        let read =
            |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok((read(&self.bundle)?, self.lists.iter().map(read).collect::<Result<_>>()?))
    }

    /// The evaluator with it, native.
    pub(crate) fn native(&self) -> Result<lockgate_policy::Bundle> {
        let (bundle, lists) = self.read()?;
        let lists = lists.iter().map(|list| AlignedBytes::copy_of(list)).collect();
        lockgate_policy::Bundle::load_with(AlignedBytes::copy_of(&bundle), lists)
            .map_err(|error| anyhow::anyhow!("{} does not load: {error}", self.name))
    }
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
