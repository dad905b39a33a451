//! The built core, for programs that embed it.
//!
//! `cargo xtask build` writes the modules with a manifest into a folder: [`CoreModules::from_dir`] reads it. A program
//! that is compiled where such a folder exists also carries the modules inside: [`CoreModules::embedded`].
//!
//! Every module names itself: its **identity** is the SHA-256 of its bytes without the custom section
//! `lockgate-identity`, which records that same digest. [`Module::new`] recomputes it, so a damaged module is noticed
//! before it runs, and answers can say which core gave them.
//!
//! Modules that were baked, which have another digest and the same identity, are [`BakedModules`].
//!
//! This crate runs nothing; `lockgate-runtime` does.

mod baked;
mod component;

use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use lockgate_package::Digest;
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};

pub use baked::{
    BAKED_FORMAT, BakedBundle, BakedError, BakedFile, BakedManifest, BakedModule, BakedModules, BakedPackage,
};

/// The name of the custom section that records a module's identity.
pub const IDENTITY_SECTION: &str = "lockgate-identity";

/// The name of the manifest in a folder of modules.
pub const MANIFEST: &str = "manifest.json";

/// The modules of the core.
#[derive(Debug, Clone)]
pub struct CoreModules {
    /// Decides.
    pub policy: Module,
    /// Predicts, tabular plans only.
    pub tabular: Module,
    /// Predicts, graph plans too. It is large; a core may do without.
    pub graph: Option<Module>,
}

/// One module and its identity.
#[derive(Debug, Clone)]
pub struct Module {
    bytes: Cow<'static, [u8]>,
    identity: Digest,
    component: Component,
}

/// Where the component around a module is.
#[derive(Debug, Clone, Default)]
enum Component {
    #[default]
    None,
    File(PathBuf),
    /// What it has before its module, and behind it.
    Around(&'static [u8], &'static [u8]),
}

/// A module, and what its component has around it.
type EmbeddedModule = (&'static [u8], Option<(&'static [u8], &'static [u8])>);

/// What `manifest.json` says about a folder of modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreManifest {
    /// The version of the flat entry point, `1.0`.
    pub abi: String,
    /// The WIT package that the components implement, `lockgate:core@0.1.0`.
    pub wit: String,
    /// The modules.
    pub modules: Vec<ModuleEntry>,
}

/// What `manifest.json` says about one module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleEntry {
    /// `policy`, `inference-tabular` or `inference-graph`.
    pub name: String,
    /// The core module's file.
    pub file: String,
    /// The component's file.
    pub component: String,
    /// The module's identity.
    pub identity: Digest,
    /// Size of the core module.
    pub bytes: u64,
    /// Size of the core module after gzip at its highest level.
    pub gzip_bytes: u64,
    /// Size of the component.
    pub component_bytes: u64,
    /// The Cargo profile it was built with.
    pub profile: String,
}

/// Why modules cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}; `cargo xtask build` writes the core modules", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The manifest makes no sense.
    #[error("{} is no manifest of core modules: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The manifest lacks a module.
    #[error("{} lists no module `{name}`", path.display())]
    Missing {
        /// The manifest.
        path: PathBuf,
        /// The module.
        name: &'static str,
    },
    /// The bytes are no WebAssembly module, or have no identity.
    #[error("{name} is no module of the core: {problem}")]
    NotAModule {
        /// The file or module.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The module is not the one it says it is.
    #[error("{name} is damaged: its identity is {found}, expected {expected}")]
    Damaged {
        /// The file or module.
        name: String,
        /// The identity of the bytes.
        found: Digest,
        /// The identity that the module or the manifest records.
        expected: Digest,
    },
}

impl CoreModules {
    /// The modules that were there when this crate was compiled; `None` when there were none.
    ///
    /// # Errors
    /// A module that was damaged then.
    pub fn embedded() -> Result<Option<Self>, CoreError> {
        let (Some(policy), Some(tabular)) = (embedded::POLICY, embedded::TABULAR) else { return Ok(None) };
        let module = |name: &str, (bytes, around): EmbeddedModule| {
            let mut module = Module::new(name, Cow::Borrowed(bytes))?;
            module.component =
                around.map_or(Component::None, |(before, behind)| Component::Around(before, behind));
            Ok(module)
        };
        Ok(Some(Self {
            policy: module("the embedded policy.wasm", policy)?,
            tabular: module("the embedded inference-tabular.wasm", tabular)?,
            graph: embedded::GRAPH
                .map(|embedded| module("the embedded inference-graph.wasm", embedded))
                .transpose()?,
        }))
    }

    /// The modules in a folder that `cargo xtask build` wrote.
    ///
    /// # Errors
    /// A file that is missing, makes no sense or is damaged; the error names it.
    pub fn from_dir(folder: &Path) -> Result<Self, CoreError> {
        let manifest = CoreManifest::from_dir(folder)?;
        let read = |entry: &ModuleEntry| {
            let path = folder.join(&entry.file);
            let bytes = fs::read(&path).map_err(|error| CoreError::Read { path: path.clone(), error })?;
            let name = path.display().to_string();
            let mut module = Module::new(&name, Cow::Owned(bytes))?;
            if module.identity != entry.identity {
                return Err(CoreError::Damaged { name, found: module.identity, expected: entry.identity });
            }
            module.component = Component::File(folder.join(&entry.component));
            Ok(module)
        };
        let find = |name| manifest.modules.iter().find(|entry| entry.name == name);
        let needed = |name| find(name).ok_or(CoreError::Missing { path: folder.join(MANIFEST), name });
        Ok(Self {
            policy: read(needed("policy")?)?,
            tabular: read(needed("inference-tabular")?)?,
            graph: find("inference-graph").map(read).transpose()?,
        })
    }
}

impl CoreManifest {
    /// The manifest in a folder of modules.
    ///
    /// # Errors
    /// A file that is missing or makes no sense.
    pub fn from_dir(folder: &Path) -> Result<Self, CoreError> {
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(|error| CoreError::Read { path: path.clone(), error })?;
        serde_json::from_slice(&text)
            .map_err(|error| CoreError::Manifest { path, problem: error.to_string() })
    }
}

impl Module {
    /// Takes a module's bytes and checks that they are what their identity section says. `name` is for errors.
    ///
    /// # Errors
    /// Bytes that are no module, have no identity section, or another identity than it records.
    pub fn new(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, CoreError> {
        let bytes = bytes.into();
        let not_a_module = |problem: String| CoreError::NotAModule { name: name.to_owned(), problem };
        let (identity, recorded) = identify(&bytes).map_err(not_a_module)?;
        let recorded =
            recorded.ok_or_else(|| not_a_module(format!("it has no section `{IDENTITY_SECTION}`")))?;
        if identity != recorded {
            return Err(CoreError::Damaged { name: name.to_owned(), found: identity, expected: recorded });
        }
        Ok(Self { bytes, identity, component: Component::None })
    }

    /// The module's bytes, identity section included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the module without its identity section.
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// The module's component with `module` in its place: a baked image of it, which has the same exports. `None` when this core came
    /// without components.
    ///
    /// # Errors
    /// A component that cannot be read, or that is not this module's.
    pub fn component_with(&self, module: &[u8]) -> Result<Option<Vec<u8>>, CoreError> {
        let file;
        let (before, behind) = match &self.component {
            Component::None => return Ok(None),
            Component::Around(before, behind) => (*before, *behind),
            Component::File(path) => {
                file = fs::read(path).map_err(|error| CoreError::Read { path: path.clone(), error })?;
                component::split(&file, &self.bytes).ok_or_else(|| CoreError::NotAModule {
                    name: path.display().to_string(),
                    problem: format!("it is not the component of the module {}", self.identity),
                })?
            }
        };
        let header = component::header(module).ok_or_else(|| CoreError::NotAModule {
            name: "the module".to_owned(),
            problem: "it has more than 4 GiB".to_owned(),
        })?;
        Ok(Some([before, &header, module, behind].concat()))
    }
}

/// The identity of a module: SHA-256 of its bytes without the section `lockgate-identity`, whether there is one or not.
///
/// # Errors
/// Bytes that are no WebAssembly module.
pub fn identity_of(module: &[u8]) -> Result<Digest, CoreError> {
    match identify(module) {
        Ok((identity, _)) => Ok(identity),
        Err(problem) => Err(CoreError::NotAModule { name: "the module".to_owned(), problem }),
    }
}

/// The identity that a module's section `lockgate-identity` records, unchecked: a baked image keeps the section of the module that it was
/// made from, and has other bytes. `None` without such a section.
///
/// # Errors
/// Bytes that are no WebAssembly module.
pub fn recorded_identity(module: &[u8]) -> Result<Option<Digest>, CoreError> {
    match identify(module) {
        Ok((_, recorded)) => Ok(recorded),
        Err(problem) => Err(CoreError::NotAModule { name: "the module".to_owned(), problem }),
    }
}

/// The identity of the bytes, and the one that their section records.
fn identify(module: &[u8]) -> Result<(Digest, Option<Digest>), String> {
    let mut recorded = None;
    let mut without: Option<Range<u64>> = None;
    let mut end_of_previous = 8_u64;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| error.to_string())?;
        match &payload {
            Payload::Version { encoding: wasmparser::Encoding::Component, .. } => {
                return Err("it is a component, not a core module".to_owned());
            }
            Payload::CustomSection(section) if section.name() == IDENTITY_SECTION => {
                let digest =
                    section.data().try_into().map_err(|_| "its identity is not 32 bytes".to_owned())?;
                if recorded.replace(Digest(digest)).is_some() {
                    return Err(format!("it has two sections `{IDENTITY_SECTION}`"));
                }
                without = Some(end_of_previous..section.range().end);
            }
            _ => {}
        }
        if let Some((_, range)) = payload.as_section() {
            end_of_previous = range.end;
        }
    }
    let halves = without.and_then(|range| {
        let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        Some((module.get(..start)?, module.get(end..)?))
    });
    let identity = match halves {
        Some((before, behind)) => Digest::of(&[before, behind].concat()),
        None => Digest::of(module),
    };
    Ok((identity, recorded))
}

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{CustomSection, Module as Encoder, TypeSection};

    use super::*;

    fn plain() -> Encoder {
        let mut module = Encoder::new();
        let mut types = TypeSection::new();
        types.ty().function([], []);
        module.section(&types);
        module
    }

    fn with_identity(identity: &[u8]) -> Vec<u8> {
        let mut module = plain();
        module.section(&CustomSection { name: IDENTITY_SECTION.into(), data: identity.into() });
        module.section(&CustomSection { name: "producers".into(), data: (&[0]).into() });
        module.finish()
    }

    fn identity() -> Digest {
        let mut module = plain();
        module.section(&CustomSection { name: "producers".into(), data: (&[0]).into() });
        Digest::of(&module.finish())
    }

    #[test]
    fn the_identity_leaves_its_own_section_out() {
        let bytes = with_identity(&identity().0);
        assert_eq!(identity_of(&bytes).unwrap(), identity());
        assert_eq!(Module::new("m", bytes).unwrap().identity(), identity());
    }

    #[test]
    fn another_module_is_told_from_a_damaged_one() {
        let check = |bytes: Vec<u8>, expected: &str| {
            assert_eq!(Module::new("m.wasm", bytes).unwrap_err().to_string(), expected);
        };
        check(plain().finish(), "m.wasm is no module of the core: it has no section `lockgate-identity`");
        check(with_identity(&[1]), "m.wasm is no module of the core: its identity is not 32 bytes");
        let other = Digest([1; 32]);
        check(
            with_identity(&other.0),
            &format!("m.wasm is damaged: its identity is {}, expected {other}", identity()),
        );
        assert!(matches!(Module::new("m.wasm", b"no wasm".to_vec()), Err(CoreError::NotAModule { .. })));
    }

    #[test]
    fn a_folder_is_read_by_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let missing = CoreModules::from_dir(folder.path()).unwrap_err().to_string();
        assert!(missing.ends_with("`cargo xtask build` writes the core modules"), "{missing}");

        let bytes = with_identity(&identity().0);
        let entry = |name: &str| ModuleEntry {
            name: name.to_owned(),
            file: format!("{name}.wasm"),
            component: format!("{name}.component.wasm"),
            identity: identity(),
            bytes: bytes.len() as u64,
            gzip_bytes: 0,
            component_bytes: 0,
            profile: "core".to_owned(),
        };
        let write = |modules| {
            let manifest =
                CoreManifest { abi: "1.0".to_owned(), wit: "lockgate:core@0.1.0".to_owned(), modules };
            fs::write(folder.path().join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
        };
        write(vec![entry("policy")]);
        fs::write(folder.path().join("policy.wasm"), &bytes).unwrap();
        let error = CoreModules::from_dir(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("lists no module `inference-tabular`"), "{error}");

        write(vec![entry("policy"), entry("inference-tabular")]);
        fs::write(folder.path().join("inference-tabular.wasm"), &bytes).unwrap();
        let core = CoreModules::from_dir(folder.path()).unwrap();
        assert_eq!(core.policy.bytes(), bytes);
        assert!(core.graph.is_none());

        let mut damaged = bytes.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        fs::write(folder.path().join("inference-tabular.wasm"), damaged).unwrap();
        let error = CoreModules::from_dir(folder.path()).unwrap_err().to_string();
        assert!(error.contains("inference-tabular.wasm is damaged: its identity is "), "{error}");
    }
}
