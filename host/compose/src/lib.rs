//! Composes an application with the components of the core, for hosts that compose nothing themselves, and writes the component that tells
//! the application which core it is composed with.
//!
//! ```text
//! policy.component.wasm ───────▶ lockgate:core/{types, policy} ──┐
//! inference.component.wasm ────▶ lockgate:core/inference ────────┼─▶ application ──▶ one component
//! both ── about ──▶ about.component.wasm ▶ lockgate:about/about ─┘
//! ```
//!
//! An application imports the interface of the inference component under the plain name `inference`: Spin, which composes what `spin.toml` lists
//! under `dependencies`, takes each WIT package from one component only, and both components of the core export `lockgate:core`.
//!
//! This crate reads and writes no files.

mod about;
mod graph;

pub use about::about;
pub use graph::compose;

/// The file that [`about`]'s component is kept in.
pub const ABOUT: &str = "about.component.wasm";

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// One of those given is no component, or not the one that it should be.
    #[error("{name} is unusable: {problem}")]
    Unusable {
        /// `the policy component`, `the inference component`, `the component about them`, `the catalog` or `the application`.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// They do not fit together.
    #[error("{0}")]
    Mismatch(String),
}

impl ComposeError {
    fn unusable(name: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Unusable { name, problem: problem.to_string() }
    }
}
