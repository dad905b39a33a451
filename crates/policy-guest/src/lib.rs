//! The `policy` module of the core: [`lockgate_policy`]'s evaluator behind the flat entry point of `docs/abi.md` and
//! the world `policy-core` of `wit/core.wit`. Both give the same answers.
//!
//! A module imports nothing, so it can do nothing but compute: bytes come in, bytes go out.

mod component;
pub mod flat;

use lockgate_abi::{ErrorCode, Failure};
use lockgate_package::AlignedBytes;
use lockgate_policy::{Bundle, LoadError};

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: lockgate_abi::OutlinedAllocator = lockgate_abi::OutlinedAllocator;

fn load(bytes: AlignedBytes) -> Result<Bundle, Failure> {
    Bundle::load(bytes).map_err(|error| {
        let code = match &error {
            LoadError::Envelope(error) => error.into(),
            _ => ErrorCode::MalformedContent,
        };
        Failure { code, message: error.to_string(), hint: String::new() }
    })
}

/// What is said about an unknown route. A route that the caller may not know gives the same words.
fn unknown_route() -> Failure {
    Failure {
        code: ErrorCode::UnknownRoute,
        message: "the bundle has no such route".to_owned(),
        hint: String::new(),
    }
}
