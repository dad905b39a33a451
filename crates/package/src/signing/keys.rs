//! Keys in the forms that openssl, WebCrypto and everyone else read: SubjectPublicKeyInfo in PEM. What signs and verifies is behind the
//! feature `signing`.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};

use crate::Digest;

/// The short name of a key: the first 8 bytes of the SHA-256 of the raw public key, written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

/// Why a text is no usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No PEM block.
    #[error("expected {expected} in PEM (`-----BEGIN {label}-----`), found no PEM block")]
    NotPem {
        /// What was wanted.
        expected: &'static str,
        /// Its PEM label.
        label: &'static str,
    },
    /// A PEM block of something else.
    #[error("expected {expected} (`-----BEGIN {label}-----`), found `-----BEGIN {found}-----`{advice}")]
    WrongLabel {
        /// What was wanted.
        expected: &'static str,
        /// Its PEM label.
        label: &'static str,
        /// The label that is there.
        found: String,
        /// What to do about it; may be empty.
        advice: &'static str,
    },
    /// Several PEM blocks.
    #[error("expected one PEM block, found {0}; give each key a file of its own")]
    Several(usize),
    /// The block is damaged, or holds a key of another algorithm.
    #[error(
        "{what} cannot be read: {problem}; Lockgate signs with Ed25519 (`openssl genpkey -algorithm ed25519`)"
    )]
    Unreadable {
        /// What was wanted.
        what: &'static str,
        /// What the decoder said.
        problem: String,
    },
    /// A key under which anybody can make signatures.
    #[error("the public key {0} is weak: signatures for it can be made without its private key")]
    Weak(KeyId),
    /// A text that is no key id.
    #[error("expected a key id of 16 hexadecimal digits, found `{0}`")]
    NotAnId(String),
}

/// A key that checks signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: [u8; 32],
    id: KeyId,
}

pub(super) const PUBLIC: (&str, &str) = ("a public key", "PUBLIC KEY");

/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl PublicKey {
    /// The key with these 32 bytes of RFC 8032. Nothing is said about whether they are a point of the curve.
    pub fn from_bytes(key: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(&key).0;
        Self { key, id: KeyId([a, b, c, d, e, f, g, h]) }
    }

    /// Finds the key in a SubjectPublicKeyInfo in PEM, `-----BEGIN PUBLIC KEY-----`, for a caller that checks signatures elsewhere.
    ///
    /// # Errors
    /// Something else than one Ed25519 key.
    pub fn find_in_pem(text: &str) -> Result<Self, KeyError> {
        let block = block(text, PUBLIC)?;
        let lines: Vec<&str> =
            block.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let unreadable = |problem: &str| unreadable(PUBLIC.0, &problem);
        let bytes = Base64::decode_vec(&lines.concat()).map_err(|_| unreadable("it is not base64"))?;
        let key = bytes.strip_prefix(&SPKI).and_then(|key| key.try_into().ok());
        Ok(Self::from_bytes(key.ok_or_else(|| unreadable("it is of another algorithm, or damaged"))?))
    }

    /// What signatures by this key are marked with.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The 32 bytes of RFC 8032.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::NotAnId(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl serde::Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The one PEM block of a text, without what `openssl pkey -text` and people write around it. Says what a file holds
/// instead, before a decoder says something about lengths and tags.
pub(super) fn block<'a>(
    text: &'a str,
    (expected, label): (&'static str, &'static str),
) -> Result<&'a str, KeyError> {
    let not_pem = KeyError::NotPem { expected, label };
    let start = text.find("-----BEGIN ").ok_or_else(|| not_pem.clone())?;
    let block = text.get(start..).unwrap_or_default();
    let found = block.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")).ok_or(not_pem)?.0;
    if found != label {
        let advice = match found {
            "ENCRYPTED PRIVATE KEY" => "; decrypt it with `openssl pkey -in FILE -out DECRYPTED` first",
            "PRIVATE KEY" => "; write its public key with `openssl pkey -in FILE -pubout`",
            "OPENSSH PRIVATE KEY" => "; make a key with `lockgate keys new`",
            "PUBLIC KEY" => "; the private key is in another file",
            _ => "",
        };
        return Err(KeyError::WrongLabel { expected, label, found: found.to_owned(), advice });
    }
    match block.matches("-----BEGIN ").count() {
        1 => {
            let end = format!("-----END {label}-----");
            let len = block.find(&end).map_or(block.len(), |at| at.saturating_add(end.len()));
            Ok(block.get(..len).unwrap_or_default())
        }
        several => Err(KeyError::Several(several)),
    }
}

pub(super) fn unreadable(what: &'static str, problem: &dyn fmt::Display) -> KeyError {
    KeyError::Unreadable { what, problem: problem.to_string() }
}
