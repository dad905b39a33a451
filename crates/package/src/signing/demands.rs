//! Everything that a loader may demand of a bundle and its packages, and how it refuses.

#[cfg(feature = "signing")]
use super::PublicKey;
use super::{Signed, TrustedKeys, Verifies};
use crate::{Digest, EnvelopeError, Kind};

/// A bundle that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its content.
    pub digest: Digest,
}

/// What the bundle must say about the one it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpectedParent {
    /// Anything.
    #[default]
    Any,
    /// The newest accepted bundle; anything while none was accepted.
    Newest,
    /// This bundle.
    Exactly(Digest),
}

/// What a loader demands. The default demands nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demands {
    /// A bundle must have a good signature by one of these keys.
    pub keys: Option<TrustedKeys>,
    /// So must every package. Without this, a package is accepted because the signed bundle names its digest, as a unit list
    /// always is.
    pub sign_packages: bool,
    /// The bundle must be this one.
    pub pin: Option<Digest>,
    /// The bundle's version must be this one or higher.
    pub min_version: Option<u64>,
    /// The newest bundle ever accepted: another one must have a higher version.
    pub newest: Option<Accepted>,
    /// What the bundle's `parent` must be.
    pub parent: ExpectedParent,
}

/// Why something is not trusted. What was loaded before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The bytes are no sound envelope, or its list of signatures is malformed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// There is no signature.
    #[error("the {what} sha256:{} is not signed; expected a signature by {trusted}", digest.short())]
    Unsigned {
        /// The kind of envelope.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The keys that may sign it.
        trusted: String,
    },
    /// A signature that names a trusted key does not verify.
    #[error(
        "the {what} sha256:{} has a signature by the trusted key {key} that does not verify: \
         it was made for something else, or was changed",
        digest.short()
    )]
    BadSignature {
        /// The kind of envelope.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The key that the signature names.
        key: String,
    },
    /// Something is demanded of a bundle, and there is none.
    #[error("there is no policy bundle, but its digest, version or parent is demanded")]
    NoBundle,
    /// Nobody who is trusted has signed it.
    #[error("the {what} sha256:{} is signed by {keys}, which is not trusted; expected a signature by {trusted}", digest.short())]
    UnknownKey {
        /// The kind of envelope.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The keys that the signatures name.
        keys: String,
        /// The keys that may sign it.
        trusted: String,
    },
    /// The key that has signed it is trusted for other things.
    #[error("the {what} sha256:{} is signed by {key}, which may not sign it; expected a signature by {trusted}", digest.short())]
    KeyNotAllowed {
        /// The kind of envelope.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The key that has signed.
        key: String,
        /// The keys that may sign it.
        trusted: String,
    },
    /// Not the content that was demanded.
    #[error("the {what} is sha256:{found}, pinned is sha256:{expected}")]
    WrongPin {
        /// The kind of envelope.
        what: &'static str,
        /// Its digest.
        found: Digest,
        /// The digest that was demanded.
        expected: Digest,
    },
    /// The version is below the lowest that is acceptable.
    #[error("the policy bundle has version {found}, expected {minimum} or higher")]
    BelowMinimum {
        /// The bundle's version.
        found: u64,
        /// The lowest acceptable version.
        minimum: u64,
    },
    /// The version is below that of a bundle that was accepted.
    #[error(
        "the policy bundle has version {} (sha256:{}), which is older than version {} (sha256:{}), which was accepted before",
        found.version, found.digest.short(), newest.version, newest.digest.short()
    )]
    Older {
        /// The bundle.
        found: Accepted,
        /// The newest accepted one.
        newest: Accepted,
    },
    /// The version is that of a bundle that was accepted, the content is not.
    #[error(
        "the policy bundle has version {} but is sha256:{}, accepted as version {} was sha256:{}",
        found.version, found.digest.short(), newest.version, newest.digest.short()
    )]
    OtherContent {
        /// The bundle.
        found: Accepted,
        /// The newest accepted one.
        newest: Accepted,
    },
    /// The bundle replaces another one than it should.
    #[error("the policy bundle version {version} replaces {}, expected it to replace sha256:{expected}",
        found.map_or_else(|| "none".to_owned(), |found| format!("sha256:{found}")))]
    WrongParent {
        /// The bundle's version.
        version: u64,
        /// Its parent.
        found: Option<Digest>,
        /// The parent that was demanded.
        expected: Digest,
    },
}

impl TrustError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope(_) => "malformed",
            Self::NoBundle => "no_bundle",
            Self::Unsigned { .. } => "unsigned",
            Self::BadSignature { .. } => "bad_signature",
            Self::UnknownKey { .. } => "unknown_key",
            Self::KeyNotAllowed { .. } => "key_not_allowed",
            Self::WrongPin { .. } => "wrong_pin",
            Self::BelowMinimum { .. } => "below_min_version",
            Self::Older { .. } => "older_version",
            Self::OtherContent { .. } => "version_conflict",
            Self::WrongParent { .. } => "wrong_parent",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Envelope(EnvelopeError::NewerFormat { .. }) => "use a newer Lockgate",
            Self::Envelope(_) => "get the file again from whoever made it",
            Self::NoBundle => "give a bundle, or demand nothing of it",
            Self::Unsigned { .. } => "sign it with `lockgate keys sign --key KEY FILE`",
            Self::BadSignature { .. } => {
                "do not use the file; get it again from whoever signed it, or sign it again"
            }
            Self::UnknownKey { .. } => {
                "have it signed by a trusted key; or, if that key is to be trusted, add its public key to the trusted keys"
            }
            Self::KeyNotAllowed { .. } => {
                "have it signed by a key for this kind; or let that key sign it by `signs` in the trust file"
            }
            Self::WrongPin { .. } => "give the pinned file, or change the pin",
            Self::BelowMinimum { .. } | Self::Older { .. } | Self::OtherContent { .. } => {
                "compile it under a higher version; a rollback, too, is old content under a higher version"
            }
            Self::WrongParent { .. } => {
                "compile it with `--parent` naming the expected bundle, or install the bundles between first"
            }
        }
    }
}

impl Demands {
    /// Checks the bytes of an envelope before anything in its content is believed: the signatures, and whether the bundle is
    /// the pinned one.
    ///
    /// # Errors
    /// See [`TrustError`].
    #[cfg(feature = "signing")]
    pub fn check_bytes(&self, bytes: &[u8], kind: Kind) -> Result<(), TrustError> {
        self.check_bytes_with(bytes, kind, &PublicKey::verifies)
    }

    /// The same for a caller that verifies signatures elsewhere: `verifies` says whether a signature is one of a statement by a key.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn check_bytes_with(
        &self,
        bytes: &[u8],
        kind: Kind,
        verifies: &Verifies<'_>,
    ) -> Result<(), TrustError> {
        let is_signed = match kind {
            Kind::Bundle => true,
            Kind::Package => self.sign_packages,
            Kind::UnitList => false,
        };
        let keys = self.keys.as_ref().filter(|_| is_signed);
        let pin = self.pin.filter(|_| kind == Kind::Bundle);
        if keys.is_none() && pin.is_none() {
            return Ok(());
        }
        let signed = Signed::read(bytes)?;
        if signed.kind() != kind {
            let found = signed.kind().name().to_owned();
            return Err(EnvelopeError::WrongKind { expected: kind.name(), found }.into());
        }
        if let Some(keys) = keys {
            keys.require_with(&signed, verifies)?;
        }
        match pin {
            Some(expected) if expected != signed.digest() => {
                Err(TrustError::WrongPin { what: kind.name(), found: signed.digest(), expected })
            }
            _ => Ok(()),
        }
    }

    /// Whether something is demanded of a bundle, so that there must be one.
    pub fn is_of_bundle(&self) -> bool {
        self.pin.is_some() || self.min_version.is_some() || self.parent != ExpectedParent::Any
    }

    /// Checks what a bundle, whose bytes were checked, says about its version and parent. The newest accepted bundle is
    /// always acceptable again.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn check_version(&self, found: Accepted, parent: Option<Digest>) -> Result<(), TrustError> {
        if let Some(minimum) = self.min_version.filter(|minimum| found.version < *minimum) {
            return Err(TrustError::BelowMinimum { found: found.version, minimum });
        }
        if self.newest == Some(found) && !matches!(self.parent, ExpectedParent::Exactly(_)) {
            return Ok(());
        }
        match self.newest {
            Some(newest) if found.version < newest.version => {
                return Err(TrustError::Older { found, newest });
            }
            Some(newest) if found.version == newest.version && found.digest != newest.digest => {
                return Err(TrustError::OtherContent { found, newest });
            }
            _ => {}
        }
        let expected = match self.parent {
            ExpectedParent::Any => None,
            ExpectedParent::Newest => self.newest.map(|newest| newest.digest),
            ExpectedParent::Exactly(digest) => Some(digest),
        };
        match expected {
            Some(expected) if parent != Some(expected) => {
                Err(TrustError::WrongParent { version: found.version, found: parent, expected })
            }
            _ => Ok(()),
        }
    }
}
