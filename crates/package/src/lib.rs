//! What travels between the machine that builds and the machines that run: envelopes and model packages.
//!
//! A policy bundle and a model package are both an [`Envelope`]: a MessagePack header with a section table, 64-byte-aligned
//! little-endian sections that are used where they lie, and a trailer with the content's SHA-256. Equal content gives equal
//! bytes, so the digest names the content.
//!
//! A model package holds a [`Manifest`] (what the model is called, takes and gives) and a [`plan`] (how to compute it). The
//! importer, which writes packages from ONNX files, sits behind the `import` feature: the core carries no ONNX. So does what
//! makes and checks signatures, behind `signing`: shells verify, the core never sees a key. `trust` alone reads signatures and judges
//! them with somebody else's cryptography, as a shell does on a platform that has its own.
//!
//! This crate knows nothing of files, key stores or networks; it turns bytes into values and back.

mod aligned;
mod digest;
mod envelope;
#[cfg(feature = "import")]
pub mod import;
mod manifest;
mod msgpack;
mod package;
mod packed;
pub mod plan;
mod signature;
#[cfg(feature = "trust")]
pub mod signing;
mod tensor;

pub use aligned::AlignedBytes;
pub use digest::{Digest, ParseDigestError};
pub use envelope::{Envelope, EnvelopeBuilder, EnvelopeError, Kind, SectionRange};
pub use manifest::{Engine, Feature, Manifest, Scope};
pub use msgpack::{MessagePackReader, UnexpectedMessagePack};
pub use package::{PACKAGE_FORMAT, Package, PackageError};
pub use signature::{Datatype, Signature, TensorSpec, UnknownDatatype};
pub use tensor::{Tensor, TensorView};
