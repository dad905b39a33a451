//! Signatures of envelopes, the keys that make and check them, and what a loader may demand of what it loads.
//!
//! A signature stands in the envelope's trailer, outside the content, so that signing never changes a digest. What is
//! signed is a short statement of kind and digest ([`statement`]), so that a signature of a package is none of a bundle,
//! nor of anything that another program signs with the same key. `docs/trust.md` gives the bytes.
//!
//! Reading order: [`keys`](PrivateKey), [`Signed`] (an envelope with its signatures), [`TrustedKeys`] (who may sign what),
//! [`Demands`] (everything that a loader can ask for, and [`TrustError`], how it refuses).

mod demands;
mod keys;
#[cfg(feature = "signing")]
mod private;
mod signed;
mod trusted;

pub use demands::{Accepted, Demands, ExpectedParent, TrustError};
pub use keys::{KeyError, KeyId, PublicKey};
#[cfg(feature = "signing")]
pub use private::PrivateKey;
pub use signed::{ALGORITHM, EnvelopeSignature, STATEMENT_LEN, Signed, statement};
pub use trusted::{Judgement, TrustedKey, TrustedKeys, Verdict, Verifies};
