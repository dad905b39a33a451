use crate::packed::Packed as _;
use crate::plan::explain::{Explanation, Method, Unexplained};
#[cfg(feature = "graph")]
use crate::plan::graph::{GraphPlan, GraphPlanError};
use crate::plan::tabular::{TabularPlan, TabularPlanError};
use crate::{
    AlignedBytes, Digest, Engine, Envelope, EnvelopeBuilder, EnvelopeError, Kind, Manifest, MessagePackReader,
};

/// The newest format of packages that this crate reads. 1.1 marks mocks; all other packages are still written as 1.0.
pub const PACKAGE_FORMAT: (u16, u16) = (1, 1);

/// An opened model package: its envelope, digest checked, and its manifest. The plan is read by the engine that runs it.
#[derive(Debug, Clone)]
pub struct Package {
    envelope: Envelope,
    manifest: Manifest,
}

/// Why bytes are no usable package.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The container is damaged, of another kind or too new.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The container is whole, but its manifest makes no sense.
    #[error("the model package is malformed: its manifest {problem}")]
    Manifest {
        /// What is wrong.
        problem: String,
    },
    /// The tabular plan cannot be used.
    #[error(transparent)]
    TabularPlan(#[from] TabularPlanError),
    /// The graph plan cannot be used.
    #[cfg(feature = "graph")]
    #[error(transparent)]
    GraphPlan(#[from] GraphPlanError),
}

impl Package {
    /// Opens a package.
    ///
    /// # Errors
    /// Bytes that are no package, are damaged or too new; a manifest that cannot be read.
    #[inline(never)]
    pub fn open(bytes: AlignedBytes) -> Result<Self, PackageError> {
        let envelope = Envelope::open(bytes, Kind::Package, PACKAGE_FORMAT)?;
        let manifest = Manifest::read(&mut MessagePackReader::new(envelope.meta()))
            .map_err(|error| PackageError::Manifest { problem: format!("cannot be read: {error}") })?;
        check(&manifest).map_err(|problem| PackageError::Manifest { problem })?;
        Ok(Self { envelope, manifest })
    }

    /// Seals a tabular model. `arrays` are the arrays of the plan in their order, `sections` further ones, by name, that no engine reads.
    ///
    /// # Errors
    /// A plan that does not check, or a header that is too long.
    pub fn seal_tabular(
        manifest: &Manifest,
        plan: &TabularPlan,
        arrays: Vec<Vec<u8>>,
        sections: Vec<(String, Vec<u8>)>,
    ) -> Result<Vec<u8>, PackageError> {
        seal(manifest, sections, |envelope| Ok(plan.write(arrays, envelope)?))
    }

    /// Seals a graph model. `arrays` are the arrays of the plan in their order, `sections` further ones, by name, that no engine reads.
    ///
    /// # Errors
    /// A plan that does not check, or a header that is too long.
    #[cfg(feature = "graph")]
    pub fn seal_graph(
        manifest: &Manifest,
        plan: &GraphPlan,
        arrays: Vec<Vec<u8>>,
        sections: Vec<(String, Vec<u8>)>,
    ) -> Result<Vec<u8>, PackageError> {
        seal(manifest, sections, |envelope| Ok(plan.write(arrays, envelope)?))
    }

    /// What the package says about its model.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the package is called by: SHA-256 of its content.
    pub fn digest(&self) -> Digest {
        self.envelope.digest()
    }

    /// The container with its sections.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Reads and checks the plan of a package whose engine is [`Engine::Tabular`].
    ///
    /// # Errors
    /// A plan of another engine, a newer version, or one that does not check.
    #[inline(never)]
    pub fn tabular_plan(&self) -> Result<TabularPlan, PackageError> {
        if self.manifest.engine != Engine::Tabular {
            return Err(PackageError::Manifest { problem: "names another engine than `tabular`".to_owned() });
        }
        let plan = TabularPlan::read(&self.envelope)?;
        plan.check_signature(&self.manifest.signature)?;
        Ok(plan)
    }

    /// The ways in which the model can say what each feature contributes, the usual one first.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn contributions(&self) -> Result<Vec<Method>, Unexplained> {
        if self.manifest.engine != Engine::Tabular {
            return Err(Unexplained::graph());
        }
        let unreadable = |error: PackageError| Unexplained { message: error.to_string(), hint: "" };
        let plan = self.tabular_plan().map_err(unreadable)?;
        Explanation::of(&plan, &|array| plan.numbers(&self.envelope, array))?.methods(&plan)
    }

    /// Reads and checks the plan of a package whose engine is [`Engine::Graph`].
    ///
    /// # Errors
    /// A plan of another engine, a newer version, or one that does not check.
    #[cfg(feature = "graph")]
    pub fn graph_plan(&self) -> Result<GraphPlan, PackageError> {
        if self.manifest.engine != Engine::Graph {
            return Err(PackageError::Manifest { problem: "names another engine than `graph`".to_owned() });
        }
        let plan = GraphPlan::read(&self.envelope)?;
        plan.check_signature(&self.manifest.signature)?;
        Ok(plan)
    }
}

fn seal(
    manifest: &Manifest,
    sections: Vec<(String, Vec<u8>)>,
    write: impl FnOnce(&mut EnvelopeBuilder) -> Result<(), PackageError>,
) -> Result<Vec<u8>, PackageError> {
    check(manifest).map_err(|problem| PackageError::Manifest { problem })?;
    semver::Version::parse(&manifest.version).map_err(|error| PackageError::Manifest {
        problem: format!("has version `{}`, which is not semantic: {error}", manifest.version),
    })?;
    let meta = rmp_serde::to_vec_named(manifest)
        .map_err(|error| PackageError::Manifest { problem: format!("cannot be written: {error}") })?;
    let mut envelope = EnvelopeBuilder::new(Kind::Package, (1, u16::from(manifest.mock)), meta);
    write(&mut envelope)?;
    for (name, bytes) in sections {
        envelope.section(name, bytes);
    }
    Ok(envelope.seal()?)
}

/// The most inputs, and the most outputs, that a model may have.
const MOST_TENSORS: usize = 10_000;

/// What everyone who reads a manifest relies on.
fn check(manifest: &Manifest) -> Result<(), String> {
    if manifest.model.is_empty() {
        return Err("has no model name".to_owned());
    }
    if manifest.version.is_empty() {
        return Err("has no version".to_owned());
    }
    // A model without inputs answers every request alike.
    if manifest.signature.outputs.is_empty() {
        return Err("has no output".to_owned());
    }
    for (what, specs) in [("input", &manifest.signature.inputs), ("output", &manifest.signature.outputs)] {
        // Names are compared with each other.
        if specs.len() > MOST_TENSORS {
            return Err(format!("has {} {what}s, at most {MOST_TENSORS} are taken", specs.len()));
        }
        for (index, spec) in specs.iter().enumerate() {
            if specs.iter().take(index).any(|other| other.name == spec.name) {
                return Err(format!("has two {what}s called `{}`", spec.name));
            }
            if spec.shape.iter().any(|&dim| dim < -1) {
                return Err(format!("has {what} `{}` with a dimension below -1", spec.name));
            }
        }
    }
    Ok(())
}
