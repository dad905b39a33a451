//! The `policy` module of the core: [`lockgate_policy`]'s evaluator behind the flat entry point of `docs/abi.md` and
//! the world `policy-core` of `wit/core.wit`. Both give the same answers.
//!
//! A module imports nothing, so it can do nothing but compute: bytes come in, bytes go out.

mod component;
pub mod flat;
mod view;

use lockgate_abi::{ErrorCode, Failure};
use lockgate_package::{AlignedBytes, Kind};
use lockgate_policy::{Bundle, LoadError};

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: lockgate_abi::OutlinedAllocator = lockgate_abi::OutlinedAllocator;

fn load(bytes: AlignedBytes, lists: Vec<AlignedBytes>) -> Result<Bundle, Failure> {
    Bundle::load_with(bytes, lists).map_err(failure)
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn failure(error: LoadError) -> Failure {
    let code = match &error {
        LoadError::Envelope(error) => error.into(),
        LoadError::OldFormat { .. } => ErrorCode::UnsupportedVersion,
        LoadError::MissingObject { .. } => ErrorCode::MissingObject,
        _ => ErrorCode::MalformedContent,
    };
    let hint = match code {
        ErrorCode::MissingObject => "load the bundle's unit lists before the bundle",
        _ => "",
    };
    Failure { code, message: error.to_string(), hint: hint.to_owned() }
}

/// Whether bytes say that they are a unit list.
fn is_unit_list(bytes: &[u8]) -> bool {
    bytes.starts_with(b"LOCKGATE") && bytes.get(12..16) == Some(&Kind::UnitList.number().to_le_bytes())
}

/// What is said about an unknown route. A route that the caller may not know gives the same words.
fn unknown_route() -> Failure {
    Failure {
        code: ErrorCode::UnknownRoute,
        message: "the bundle has no such route".to_owned(),
        hint: String::new(),
    }
}
