//! The two modules, as a shell holds them.

use lockgate_abi::Malformed;
use lockgate_package::Digest;
use lockgate_shell::RequestError;

/// The two modules of the core. A shell implements it over whatever its platform calls them with.
///
/// Requests and responses are those of `docs/abi.md`; `response` is cleared by the callee and holds one response from its first byte. A
/// module that trapped is not called again: after a fault, or a response that makes no sense, the state machine asks to drop the
/// instance, and the next call gets a new one with the same content.
pub trait Core {
    /// Whether the indices in its decisions are those of the bundle. Where they are not, because a component answers by names, compact
    /// decisions are not asked for and indices are not looked at.
    fn is_flat(&self) -> bool {
        true
    }

    /// Calls the policy module.
    ///
    /// # Errors
    /// A call that gave no response.
    fn decide(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault>;

    /// Calls the inference module.
    ///
    /// # Errors
    /// A call that gave no response.
    fn predict(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault>;

    /// The handle of a package that the inference module holds, or would hold once made anew.
    fn handle(&mut self, package: &Digest) -> Option<u32>;

    /// Lets go of the policy module's instance.
    fn drop_policy(&mut self);

    /// Lets go of the inference module's instance.
    fn drop_inference(&mut self);

    /// The identity of the policy module.
    fn policy_identity(&self) -> Digest;

    /// The identity of the inference module.
    fn inference_identity(&self) -> Digest;

    /// Microseconds of any clock that only rises, for latencies; `None` where none goes on while code runs.
    fn micros(&self) -> Option<u64> {
        None
    }
}

/// Why a call gave no response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CoreFault {
    /// The module trapped.
    Trap(String),
    /// It wanted more memory than it may have, `limit` in bytes.
    Memory(usize),
    /// It has no room for the request; the instance is sound.
    NoRoom,
    /// It ran out of the time that the platform gives.
    CutOff,
    /// The response makes no sense.
    Malformed(Malformed),
    /// There is no instance, and none can be made.
    Unavailable(String),
}

impl CoreFault {
    /// Whether the instance is of no more use.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::NoRoom | Self::Unavailable(_))
    }

    pub(crate) fn into_error(self, module: &str, stage: &'static str, hint: &str) -> RequestError {
        let module = module.to_owned();
        match self {
            Self::Trap(message) => RequestError::Trap { module, message },
            Self::Memory(limit) => RequestError::MemoryLimit { module, limit },
            Self::NoRoom => RequestError::no_room(hint),
            Self::CutOff => RequestError::DeadlineExceeded { after: std::time::Duration::ZERO, stage },
            Self::Malformed(problem) => RequestError::MalformedResponse { module, problem },
            Self::Unavailable(message) => {
                RequestError::Internal { message: format!("no instance of {module}: {message}") }
            }
        }
    }
}
