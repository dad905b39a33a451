//! Pre-initialises the modules of the core: loads a bundle and packages into them once, and writes the modules that wake up with all of
//! it in their memory. A cold start then has nothing to fetch, to check or to parse.
//!
//! ```text
//! plain module ── instrument ──▶ instance ── lockgate_load … ──▶ snapshot ──▶ baked module ──▶ baked component
//! ```
//!
//! What goes in passes the checks of a loader first ([`lockgate_runtime::Checked`]): signatures, versions, pins, signatures of routes. The
//! module is driven through the flat entry point, as any shell drives it, so that a baked module holds exactly what a loaded one holds.
//! wasmtime's Wizer then writes memory and globals back into the module. Types, functions, tables and exports stay as they are, and so
//! does the section that names the core: an image keeps the **identity** of the module that it was made from, and has a digest of its own
//! besides. The same inputs give the same bytes.
//!
//! This crate reads and writes no files; the `lockgate` program does, and [`lockgate_core::BakedModules`] reads them again.

mod bake;
mod error;
mod image;
mod manifest;

pub use bake::{Baked, Options, bake};
pub use error::BakeError;
pub use image::Image;

/// The file that a bundle's names are kept in.
pub const CATALOG: &str = "catalog.json";
