//! What is handed to an installation: contents with the names that errors call them by, and what is demanded of them.

use lockgate_core::BakedModules;
use lockgate_package::signing::{Accepted, Demands};

/// A file's worth of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// What errors call it, usually the file's name.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What is installed together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The policy bundle. Without one there are no routes, and the packages answer predictions alone.
    pub bundle: Option<Content>,
    /// The unit lists that the bundle names.
    pub lists: Vec<Content>,
    /// The packages that the bundle pins, and perhaps others, which are left out.
    pub packages: Vec<Content>,
    /// Modules that hold this bundle, packages of it, or both. New instances are made from them instead of being loaded. What they do not
    /// hold is loaded as ever.
    pub baked: Option<BakedModules>,
}

impl Content {
    /// Bytes with a name.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes }
    }
}

impl Contents {
    /// A bundle and packages that have no names; errors count them.
    pub fn unnamed(bundle: Option<Vec<u8>>, packages: Vec<Vec<u8>>) -> Self {
        let packages = packages.into_iter().enumerate();
        Self {
            bundle: bundle.map(|bytes| Content::new("the bundle", bytes)),
            lists: Vec::new(),
            packages: packages.map(|(i, b)| Content::new(format!("number {}", i + 1), b)).collect(),
            baked: None,
        }
    }
}

/// What is demanded of an installation, and where it is remembered.
pub struct Trust<'a> {
    /// Signatures, versions, pins. The newest accepted bundle is the one named here or the one that this runtime installed, whichever
    /// has the higher version.
    pub demands: Demands,
    /// Called with a bundle that passed all checks and is about to serve, unless it is the newest accepted one: remember it. If this
    /// fails, the bundle is not installed, because a restart would forget that it was.
    pub record: &'a mut dyn FnMut(Accepted) -> Result<(), String>,
}

impl std::fmt::Debug for Trust<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("demands", &self.demands).finish_non_exhaustive()
    }
}
