//! Modules that were baked: they wake up with a policy, packages, or both in their memory. `lockgate bake` writes a folder of them
//! with a manifest, which says what they are and what they hold.

use std::fs;
use std::path::{Path, PathBuf};

use lockgate_package::{Digest, Engine};
use serde::{Deserialize, Serialize};

use crate::{MANIFEST, recorded_identity};

/// The format of the manifest of baked modules. Readers of it ignore keys that they do not know.
pub const BAKED_FORMAT: u32 = 1;

/// What stands in the `manifest.json` of baked modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BakedManifest {
    /// [`BAKED_FORMAT`].
    pub lockgate_baked: u32,
    /// The policy module.
    pub policy: BakedModule,
    /// The inference module.
    pub inference: BakedModule,
    /// The names that the bundle gives, for shells; `null` without a bundle.
    pub catalog: BakedFile,
    /// The component that tells an application which core it is composed with; `None` when the core came without components.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<BakedFile>,
    /// The bundle in the policy module; `None` when that is the plain one.
    pub bundle: Option<BakedBundle>,
    /// The packages in the inference module, in the order of their handles.
    pub packages: Vec<BakedPackage>,
}

/// A further file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BakedFile {
    /// The file.
    pub file: String,
    /// SHA-256 of it.
    pub image: Digest,
}

/// A module and its component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BakedModule {
    /// The core module's file.
    pub file: String,
    /// The component's file, when there is one.
    pub component: Option<String>,
    /// The flavour of an inference module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavour: Option<Engine>,
    /// The identity of the released module that it was made from; it stands in the module too.
    pub identity: Digest,
    /// SHA-256 of the core module's file.
    pub image: Digest,
    /// SHA-256 of the component's file.
    pub component_image: Option<Digest>,
    /// The version of the flat entry point, `1.2`.
    pub abi: String,
    /// Size of the core module.
    pub bytes: u64,
    /// Size of the core module after gzip at its highest level.
    pub gzip_bytes: u64,
    /// Memory of a new instance.
    pub memory_bytes: u64,
    /// Memory that an instance may ever have.
    pub memory_limit_bytes: u64,
}

/// A bundle in a policy module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BakedBundle {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its content.
    pub digest: Digest,
    /// The unit lists that it names, which are baked with it.
    pub lists: Vec<Digest>,
}

/// A package in an inference module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BakedPackage {
    /// What a predict request calls it.
    pub handle: u32,
    /// SHA-256 of its content.
    pub digest: Digest,
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The engine that runs it.
    pub engine: Engine,
}

/// Baked modules and what they hold, as a shell loads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakedModules {
    /// What they are.
    pub manifest: BakedManifest,
    /// The policy module.
    pub policy: Vec<u8>,
    /// The inference module.
    pub inference: Vec<u8>,
}

/// Why baked modules cannot be used. [`hint`](Self::hint) says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BakedError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The manifest makes no sense.
    #[error("{} is no manifest of baked modules: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file is not the one that the manifest names.
    #[error("{} is damaged or another file: its SHA-256 is {found}, the manifest says {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SHA-256 of what is there.
        found: Digest,
        /// SHA-256 of what should be there.
        expected: Digest,
    },
    /// A module was made from another core than the manifest says.
    #[error("{} was made from {found}, the manifest says from the module {expected}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What the module says.
        found: String,
        /// What the manifest says.
        expected: Digest,
    },
}

impl BakedError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable_file",
            Self::Manifest { .. } => "malformed_manifest",
            Self::Damaged { .. } => "image_mismatch",
            Self::Identity { .. } => "identity_mismatch",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "`lockgate bake` writes the folder; bake again, and keep its files together"
    }
}

impl BakedManifest {
    /// The manifest in a folder of baked modules.
    ///
    /// # Errors
    /// A file that is missing or makes no sense.
    pub fn from_dir(folder: &Path) -> Result<Self, BakedError> {
        let path = folder.join(MANIFEST);
        let text = read(&path)?;
        Self::from_json(&text).map_err(|problem| BakedError::Manifest { path, problem })
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            lockgate_baked: Option<u32>,
        }
        // A newer manifest may lack what this program looks for; its number says more than the first missing key.
        let format: Format = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match format.lockgate_baked {
            Some(BAKED_FORMAT) => {}
            Some(found) => {
                return Err(format!("it has format {found}, this program reads format {BAKED_FORMAT}"));
            }
            None => return Err("it has no `lockgate_baked`, which gives its format".to_owned()),
        }
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Sees to it that files lie in the folder, and that handles are handles.
    fn check(&self) -> Result<(), String> {
        for file in self.files() {
            let mut parts = Path::new(file).components();
            let only = (parts.next(), parts.next());
            if !matches!(only, (Some(std::path::Component::Normal(_)), None)) {
                return Err(format!("`{file}` is not the name of a file in its folder"));
            }
        }
        for module in [&self.policy, &self.inference] {
            if module.component.is_some() != module.component_image.is_some() {
                return Err(format!(
                    "`{}` has a component and no `component_image`, or the reverse",
                    module.file
                ));
            }
        }
        if self.inference.flavour.is_none() {
            return Err("`inference` has no `flavour`".to_owned());
        }
        for (place, package) in (0_u32..).zip(&self.packages) {
            if package.handle != place {
                return Err(format!("package {place} has handle {}", package.handle));
            }
        }
        Ok(())
    }

    /// The files of the folder, beside the manifest itself.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let modules = [&self.policy, &self.inference].into_iter();
        let modules = modules.flat_map(|module| [Some(&module.file), module.component.as_ref()]);
        let about = self.about.as_ref().map(|about| &about.file);
        modules.chain([Some(&self.catalog.file), about]).flatten().map(String::as_str)
    }

    /// The handle of the package with this digest.
    pub fn handle(&self, package: &Digest) -> Option<u32> {
        self.packages.iter().find(|baked| baked.digest == *package).map(|baked| baked.handle)
    }
}

impl BakedModules {
    /// The modules in a folder that `lockgate bake` wrote, each checked against the manifest. What they hold is for the shell to
    /// ask an instance of them (`lockgate_loaded`).
    ///
    /// # Errors
    /// A file that is missing, makes no sense, is damaged or is another one; the error names it.
    pub fn from_dir(folder: &Path) -> Result<Self, BakedError> {
        let manifest = BakedManifest::from_dir(folder)?;
        let policy = module(folder, &manifest.policy)?;
        let inference = module(folder, &manifest.inference)?;
        Ok(Self { manifest, policy, inference })
    }
}

fn module(folder: &Path, entry: &BakedModule) -> Result<Vec<u8>, BakedError> {
    let path = folder.join(&entry.file);
    let bytes = read(&path)?;
    let found = Digest::of(&bytes);
    if found != entry.image {
        return Err(BakedError::Damaged { path, found, expected: entry.image });
    }
    let found = match recorded_identity(&bytes) {
        Ok(Some(identity)) if identity == entry.identity => return Ok(bytes),
        Ok(Some(identity)) => format!("the module {identity}"),
        Ok(None) => "a module without identity".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(BakedError::Identity { path, found, expected: entry.identity })
}

fn read(path: &Path) -> Result<Vec<u8>, BakedError> {
    fs::read(path).map_err(|error| BakedError::Read { path: path.to_owned(), error })
}
