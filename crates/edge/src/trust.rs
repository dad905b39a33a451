//! Whose bundles and packages count, on a platform that has its own cryptography: what to verify comes out as data, and which of it held
//! goes back in. `docs/trust.md` says what is demanded; this asks for the same.

use lockgate_package::Kind;
use lockgate_package::signing::{
    ALGORITHM, Accepted, Demands, KeyError, PublicKey, Signed, TrustError, TrustedKey, TrustedKeys,
};

use crate::Settings;
use crate::settings::{Signatures, Value};

/// The keys that may sign bundles and packages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustKeys(Vec<PublicKey>);

impl TrustKeys {
    /// Whether nobody's signature is demanded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value for TrustKeys {
    const EXPECTED: &'static str = "public keys in PEM, one after the other (`-----BEGIN PUBLIC KEY-----`)";

    fn parse(text: &str) -> Result<Self, Option<String>> {
        const BEGIN: &str = "-----BEGIN ";
        if text.is_empty() {
            return Ok(Self::default());
        }
        // A variable is often one line: whoever set it wrote `\n` where the lines end.
        let text = text.replace("\\n", "\n");
        let starts: Vec<usize> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
        if starts.is_empty() {
            return Err(None);
        }
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let keys = starts
            .iter()
            .zip(ends)
            .map(|(start, end)| PublicKey::find_in_pem(text.get(*start..end).unwrap_or_default()));
        let keys = keys.collect::<Result<Vec<_>, KeyError>>().map_err(|error| Some(error.to_string()))?;
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().take(index).any(|other| other == key) {
                return Err(Some(format!("the key {} twice", key.id())));
            }
        }
        Ok(Self(keys))
    }
}

/// A signature to be verified with Ed25519.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ed25519Check {
    /// The public key.
    pub key: [u8; 32],
    /// What was signed.
    pub statement: Vec<u8>,
    /// The signature.
    pub signature: [u8; 64],
}

/// What these settings demand of content, given the newest bundle that was ever accepted.
pub fn demands(settings: &Settings, newest: Option<Accepted>) -> Demands {
    let keys = settings.trust.0.iter().map(|key| TrustedKey::for_everything(key.clone(), String::new()));
    Demands {
        keys: (!settings.trust.is_empty()).then(|| TrustedKeys::new(keys)),
        sign_packages: settings.require_signatures == Signatures::All,
        pin: settings.pin,
        min_version: settings.min_version,
        newest,
        ..Demands::default()
    }
}

/// The signatures of an envelope that a trusted key claims to have made. None where none is demanded.
///
/// # Errors
/// Bytes that are no sound envelope.
pub fn checks(demands: &Demands, bytes: &[u8], kind: Kind) -> Result<Vec<Ed25519Check>, TrustError> {
    let is_demanded = match kind {
        Kind::Bundle => true,
        Kind::Package => demands.sign_packages,
        Kind::UnitList => false,
    };
    let Some(keys) = demands.keys.as_ref().filter(|_| is_demanded) else { return Ok(Vec::new()) };
    let signed = Signed::read(bytes)?;
    let statement = signed.statement();
    let check = |one: &lockgate_package::signing::EnvelopeSignature| {
        let key = keys.get(one.key).filter(|_| one.algorithm == ALGORITHM)?;
        Some(Ed25519Check {
            key: *key.key.as_bytes(),
            statement: statement.to_vec(),
            signature: one.signature.as_slice().try_into().ok()?,
        })
    };
    Ok(signed.signatures().iter().filter_map(check).collect())
}

/// Judges an envelope: `good` are those of its [`checks`] that held.
///
/// # Errors
/// What is demanded and not met, in the words and codes of every other loader.
pub fn judge(demands: &Demands, bytes: &[u8], kind: Kind, good: &[Ed25519Check]) -> Result<(), TrustError> {
    let holds = |key: &PublicKey, statement: &[u8], signature: &[u8; 64]| {
        good.iter().any(|check| {
            check.key == *key.as_bytes() && check.statement == statement && check.signature == *signature
        })
    };
    demands.check_bytes_with(bytes, kind, &holds)
}
