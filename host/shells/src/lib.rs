//! The shells for Cloudflare Workers and Spin as they were built, so that whoever has the program needs no Rust toolchain to start a
//! project there.
//!
//! `cargo xtask build --shells` leaves them in `target/shells`; a program that is compiled where they lie carries them. They hold no core, no policy
//! and no model: `lockgate bake` puts those beside them.

mod names;

use std::fmt;
use std::path::{Path, PathBuf};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// A platform whose shell is not this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// Cloudflare Workers.
    Cloudflare,
    /// Spin.
    Spin,
}

/// Files by name.
pub type Files = Vec<(String, Vec<u8>)>;

/// Why there are no files.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShellError {
    /// This program was compiled where no shell had been built.
    NotCarried(Shell),
    /// A file of a folder cannot be read.
    Read(PathBuf, std::io::Error),
}

impl fmt::Display for ShellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCarried(shell) => {
                write!(f, "this program was built without the shell for {}", shell.name())
            }
            Self::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for ShellError {}

impl Shell {
    /// The name of its folder among the shells.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloudflare => "cloudflare",
            Self::Spin => "spin",
        }
    }

    /// What its files are called.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Cloudflare => names::CLOUDFLARE,
            Self::Spin => names::SPIN,
        }
    }

    /// Its files, from a folder of shells or, without one, from inside this program.
    pub fn files(self, folder: Option<&Path>) -> Result<Files, ShellError> {
        let Some(folder) = folder else {
            let carried = match self {
                Self::Cloudflare => embedded::CLOUDFLARE,
                Self::Spin => embedded::SPIN,
            };
            if carried.is_empty() {
                return Err(ShellError::NotCarried(self));
            }
            return Ok(carried.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect());
        };
        let read = |name: &&str| {
            let path = folder.join(self.name()).join(name);
            std::fs::read(&path)
                .map(|bytes| ((*name).to_owned(), bytes))
                .map_err(|error| ShellError::Read(path, error))
        };
        self.names().iter().map(read).collect()
    }
}
