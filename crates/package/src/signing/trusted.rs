//! Whose signatures count, and for what.

use super::{ALGORITHM, KeyId, PublicKey, Signed, TrustError};
use crate::Kind;

/// A public key that may sign some kinds of envelopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// What people call it; may be empty.
    pub name: String,
    /// What it may sign.
    pub kinds: Vec<Kind>,
}

/// Several keys, so that they can be rotated: add the new one, sign with it, remove the old one. Removing a key revokes
/// it: its signatures count for nothing from then on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedKeys(Vec<TrustedKey>);

/// Whether a signature is one of a statement by a key: the cryptography, which a platform may bring.
pub type Verifies<'a> = dyn Fn(&PublicKey, &[u8], &[u8; 64]) -> bool + 'a;

/// What one signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// By a trusted key that may sign this kind of envelope, and it verifies.
    Good,
    /// It claims to be by a trusted key and does not verify.
    Bad,
    /// It verifies, but that key may not sign this kind of envelope.
    NotAllowed,
    /// By a key that is not trusted; it cannot be checked.
    UnknownKey,
    /// By an algorithm that this program does not know.
    UnknownAlgorithm,
}

impl Verdict {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::NotAllowed => "not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::UnknownAlgorithm => "unknown_algorithm",
        }
    }
}

/// What one signature of an envelope is worth, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// The key that the signature names.
    pub key: KeyId,
    /// What people call that key; empty when it is unknown or has no name.
    pub name: &'a str,
    /// What the signature is worth.
    pub verdict: Verdict,
}

impl TrustedKey {
    /// A key that may sign anything.
    pub fn for_everything(key: PublicKey, name: impl Into<String>) -> Self {
        Self { key, name: name.into(), kinds: Kind::ALL.to_vec() }
    }
}

impl TrustedKeys {
    /// These keys. Of two with one id, the first counts: [`add`](Self::add) says whether there were two.
    pub fn new(keys: impl IntoIterator<Item = TrustedKey>) -> Self {
        let mut all = Self::default();
        for key in keys {
            all.add(key);
        }
        all
    }

    /// Adds a key; returns whether it was new.
    pub fn add(&mut self, key: TrustedKey) -> bool {
        let is_new = self.get(key.key.id()).is_none();
        if is_new {
            self.0.push(key);
        }
        is_new
    }

    /// The key with this id.
    pub fn get(&self, id: KeyId) -> Option<&TrustedKey> {
        self.0.iter().find(|key| key.key.id() == id)
    }

    /// The keys in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &TrustedKey> {
        self.0.iter()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says what every signature of an envelope is worth. `verifies` says whether a signature is one of a statement by a key.
    pub fn judge_with<'a>(&'a self, signed: &Signed<'_>, verifies: &Verifies<'_>) -> Vec<Judgement<'a>> {
        let statement = signed.statement();
        let judge = |one: &super::EnvelopeSignature| {
            let trusted = self.get(one.key);
            let verdict = match (trusted, one.signature.as_slice().try_into()) {
                _ if one.algorithm != ALGORITHM => Verdict::UnknownAlgorithm,
                (None, _) => Verdict::UnknownKey,
                (Some(trusted), Ok(signature)) if verifies(&trusted.key, &statement, signature) => {
                    if trusted.kinds.contains(&signed.kind()) { Verdict::Good } else { Verdict::NotAllowed }
                }
                (Some(_), _) => Verdict::Bad,
            };
            Judgement { key: one.key, name: trusted.map_or("", |trusted| &trusted.name), verdict }
        };
        signed.signatures().iter().map(judge).collect()
    }

    /// Asks for a good signature. A bad one by a trusted key is refused even beside a good one: somebody has
    /// tampered with the file.
    ///
    /// # Errors
    /// No signature, a bad one, or none by a trusted key that may sign this kind of envelope.
    pub fn require_with(&self, signed: &Signed<'_>, verifies: &Verifies<'_>) -> Result<(), TrustError> {
        let judgements = self.judge_with(signed, verifies);
        let (what, digest) = (signed.kind().name(), signed.digest());
        let find = |verdict| judgements.iter().find(|one| one.verdict == verdict);
        if let Some(bad) = find(Verdict::Bad) {
            return Err(TrustError::BadSignature { what, digest, key: self.describe(bad.key) });
        }
        if find(Verdict::Good).is_some() {
            return Ok(());
        }
        let trusted = self.describe_those_for(signed.kind());
        if let Some(one) = find(Verdict::NotAllowed) {
            return Err(TrustError::KeyNotAllowed { what, digest, key: self.describe(one.key), trusted });
        }
        match judgements.as_slice() {
            [] => Err(TrustError::Unsigned { what, digest, trusted }),
            unknown => {
                let describe =
                    |(one, signature): (&Judgement<'_>, &super::EnvelopeSignature)| match one.verdict {
                        Verdict::UnknownAlgorithm => {
                            format!("{} by the unknown algorithm `{}`", one.key, signature.algorithm)
                        }
                        _ => one.key.to_string(),
                    };
                let keys: Vec<_> = unknown.iter().zip(signed.signatures()).map(describe).collect();
                Err(TrustError::UnknownKey { what, digest, keys: keys.join(", "), trusted })
            }
        }
    }

    /// [`judge_with`](Self::judge_with) Ed25519 as this crate verifies it.
    #[cfg(feature = "signing")]
    pub fn judge<'a>(&'a self, signed: &Signed<'_>) -> Vec<Judgement<'a>> {
        self.judge_with(signed, &PublicKey::verifies)
    }

    /// [`require_with`](Self::require_with) Ed25519 as this crate verifies it.
    ///
    /// # Errors
    /// The same.
    #[cfg(feature = "signing")]
    pub fn require(&self, signed: &Signed<'_>) -> Result<(), TrustError> {
        self.require_with(signed, &PublicKey::verifies)
    }

    /// `0123456789abcdef (name)`.
    fn describe(&self, id: KeyId) -> String {
        match self.get(id).map(|key| key.name.as_str()) {
            None | Some("") => id.to_string(),
            Some(name) => format!("{id} ({name})"),
        }
    }

    fn describe_those_for(&self, kind: Kind) -> String {
        let those = self.0.iter().filter(|key| key.kinds.contains(&kind));
        let names: Vec<String> = those.map(|key| self.describe(key.key.id())).collect();
        if names.is_empty() {
            "a trusted key, and none is trusted for this".to_owned()
        } else {
            names.join(", ")
        }
    }
}
