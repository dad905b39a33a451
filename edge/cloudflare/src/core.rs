//! The two modules of the core, each an instance that `glue.js` holds under a number.

use std::rc::Rc;

use lockgate_abi::{Malformed, Reply, Response};
use lockgate_edge::{Core, CoreFault};
use lockgate_package::Digest;

use crate::glue::{self, outcome};

/// Which module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Policy = 0,
    Inference = 1,
}

impl Which {
    /// The most memory that its module may have; it is linked in (`xtask/src/core.rs`).
    const fn memory_limit(self) -> usize {
        match self {
            Self::Policy => 64 << 20,
            Self::Inference => 128 << 20,
        }
    }
}

/// Bytes that the decision for a row or a few of their scores fit into.
const ROOM: usize = 1024;

/// A core of one module. Dropping it forgets the instance; requests that still use the core hold it.
#[derive(Debug)]
pub(crate) struct Handle {
    which: Which,
    id: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {
        glue::close_core(self.id);
    }
}

impl Handle {
    pub(crate) fn open(which: Which) -> Self {
        Self { which, id: glue::open_core(which as u32) }
    }

    /// What it holds as content number `index`; none when it holds nothing there.
    pub(crate) fn loaded(&self, index: u32, response: &mut Vec<u8>) -> Result<Option<Held>, CoreFault> {
        self.take(glue::core_loaded(self.id, index), response)?;
        match Reply::read(response, 0).map_err(CoreFault::Malformed)? {
            Reply::Done(done) => Ok(Some(Held::of(&done))),
            Reply::Failed(_) => Ok(None),
        }
    }

    fn call(&self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        // Room for what most calls answer, so that it comes along with the call.
        response.resize(response.capacity().max(ROOM), 0);
        let length = glue::call_core(self.id, request, response);
        match usize::try_from(length) {
            Ok(length) if length <= response.len() => {
                response.truncate(length);
                Ok(())
            }
            _ => self.take(length, response),
        }
    }

    fn take(&self, length: i32, response: &mut Vec<u8>) -> Result<(), CoreFault> {
        response.clear();
        match usize::try_from(length) {
            Ok(length) => {
                response.resize(length, 0);
                glue::take_response(self.id, response);
                Ok(())
            }
            Err(_) => Err(self.fault(length)),
        }
    }

    fn fault(&self, outcome: i32) -> CoreFault {
        match outcome {
            outcome::NO_ROOM => CoreFault::NoRoom,
            outcome::OUT_OF_MEMORY => CoreFault::Memory(self.which.memory_limit()),
            outcome::MALFORMED => CoreFault::Malformed(Malformed {
                problem: "the response does not lie within the memory",
                at: 0,
            }),
            outcome::UNKNOWN => CoreFault::Unavailable("it was replaced meanwhile".to_owned()),
            _ => CoreFault::Trap(glue::core_fault()),
        }
    }
}

/// What a shell needs that loads what it fetched.
#[cfg(feature = "fetched")]
impl Handle {
    /// A core that another shell has opened.
    pub(crate) const fn found(which: Which, id: u32) -> Self {
        Self { which, id }
    }

    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// What was loaded into it, in order.
    pub(crate) fn contents(&self) -> Vec<Vec<u8>> {
        (0..).map_while(|index| glue::core_content(self.id, index)).map(|bytes| bytes.to_vec()).collect()
    }

    /// Loads a bundle, a unit list or a package.
    pub(crate) fn load(&self, content: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        self.take(glue::load_core(self.id, content), response)
    }
}

/// What a module says of a content that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// The handle of a package.
    pub(crate) handle: u32,
    /// The version of a bundle.
    pub(crate) version: u64,
    /// Its digest.
    pub(crate) digest: Digest,
}

impl Held {
    pub(crate) fn of(response: &Response<'_>) -> Self {
        Self { handle: response.count, version: response.bundle_version, digest: Digest(response.digest) }
    }
}

/// A pair of cores at work. A clone is the same pair.
#[derive(Debug, Clone)]
pub(crate) struct Cores {
    pub(crate) policy: Rc<Handle>,
    pub(crate) inference: Rc<Handle>,
    /// The packages in the order of their handles.
    pub(crate) packages: Rc<[Digest]>,
    identities: [Digest; 2],
}

impl Cores {
    pub(crate) fn new(policy: Rc<Handle>, inference: Rc<Handle>, packages: &[Digest]) -> Self {
        let identities =
            [Which::Policy, Which::Inference].map(|which| identity(which).unwrap_or(Digest([0; 32])));
        Self { policy, inference, packages: packages.into(), identities }
    }

    /// Plain modules, which hold nothing.
    pub(crate) fn plain() -> Self {
        Self::new(Rc::new(Handle::open(Which::Policy)), Rc::new(Handle::open(Which::Inference)), &[])
    }
}

/// The identity that the build recorded in a module.
pub(crate) fn identity(which: Which) -> Option<Digest> {
    <[u8; 32]>::try_from(glue::core_identity(which as u32).to_vec()).ok().map(Digest)
}

impl Core for Cores {
    fn decide(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        self.policy.call(request, response)
    }

    fn predict(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        self.inference.call(request, response)
    }

    fn handle(&mut self, package: &Digest) -> Option<u32> {
        let place = self.packages.iter().position(|have| have == package)?;
        u32::try_from(place).ok()
    }

    fn drop_policy(&mut self) {
        glue::drop_core(self.policy.id);
    }

    fn drop_inference(&mut self) {
        glue::drop_core(self.inference.id);
    }

    fn policy_identity(&self) -> Digest {
        self.identities[0]
    }

    fn inference_identity(&self) -> Digest {
        self.identities[1]
    }
}
