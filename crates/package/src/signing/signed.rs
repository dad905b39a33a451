//! An envelope's list of signatures: reading it, and adding to it.

#[cfg(feature = "signing")]
use rmp::encode;

use super::KeyId;
#[cfg(feature = "signing")]
use super::PrivateKey;
use crate::envelope::Sealed;
use crate::{Digest, EnvelopeError, Kind, MessagePackReader, UnexpectedMessagePack};

/// The one algorithm that is made and checked: Ed25519 of RFC 8032.
pub const ALGORITHM: &str = "ed25519";

/// What separates these statements from everything else that somebody may sign with the same key.
const DOMAIN: &[u8; 21] = b"lockgate/signature/1\0";

/// The length of a [`statement`].
pub const STATEMENT_LEN: usize = DOMAIN.len() + 4 + 32;

/// An envelope has at most this many signatures.
const MOST_SIGNATURES: u32 = 64;

/// The bytes that a signature signs: `lockgate/signature/1`, a zero byte, the kind's number (32 bits, little-endian), and the
/// 32 bytes of the digest.
pub fn statement(kind: Kind, digest: &Digest) -> [u8; STATEMENT_LEN] {
    let mut bytes = [0; STATEMENT_LEN];
    bytes[..DOMAIN.len()].copy_from_slice(DOMAIN);
    bytes[DOMAIN.len()..DOMAIN.len() + 4].copy_from_slice(&kind.number().to_le_bytes());
    bytes[DOMAIN.len() + 4..].copy_from_slice(&digest.0);
    bytes
}

/// An entry of the list. Nothing is said about whether it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeSignature {
    /// The key that it claims to be by.
    pub key: KeyId,
    /// The algorithm; a later Lockgate may know others than [`ALGORITHM`].
    pub algorithm: String,
    /// The signature; 64 bytes if the algorithm is [`ALGORITHM`].
    pub signature: Vec<u8>,
    /// The entry as it stands in the trailer, with fields of later minor versions.
    encoded: Vec<u8>,
}

/// An envelope of any kind, its digest checked, with its signatures.
#[derive(Debug, Clone)]
pub struct Signed<'a> {
    kind: Kind,
    digest: Digest,
    #[cfg_attr(not(feature = "signing"), expect(dead_code, reason = "whoever signs writes it again"))]
    content: &'a [u8],
    signatures: Vec<EnvelopeSignature>,
    /// Fields of the trailer that a later minor version added: key and value as they stand there.
    #[cfg_attr(not(feature = "signing"), expect(dead_code, reason = "whoever signs writes it again"))]
    others: Vec<&'a [u8]>,
}

impl<'a> Signed<'a> {
    /// Reads the outermost layer of an envelope; what the content says is not looked at.
    ///
    /// # Errors
    /// Bytes that are no envelope, are damaged, or have a malformed list of signatures.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let sealed = Sealed::split(bytes, "envelope")?;
        let kind = Kind::from_number(sealed.kind()).ok_or_else(|| EnvelopeError::WrongKind {
            expected: "policy bundle, model package or unit list",
            found: format!("unknown kind {}", sealed.kind()),
        })?;
        let (what, len) = (kind.name(), bytes.len());
        let (signatures, others) = read_trailer(sealed.trailer).map_err(|problem| match problem {
            Some(problem) => EnvelopeError::Malformed { what, problem },
            None => EnvelopeError::Truncated { what, len },
        })?;
        Ok(Self { kind, digest: sealed.digest(what)?, content: sealed.content, signatures, others })
    }

    /// What the envelope holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// SHA-256 of the content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The signatures, by key id once this crate has written them.
    pub fn signatures(&self) -> &[EnvelopeSignature] {
        &self.signatures
    }

    /// The bytes that each signature signs.
    pub fn statement(&self) -> [u8; STATEMENT_LEN] {
        statement(self.kind, &self.digest)
    }
}

#[cfg(feature = "signing")]
impl Signed<'_> {
    /// The envelope with a signature by `key`, which takes the place of an earlier one by the same key. The signatures
    /// are ordered by key id, so that the order of signing leaves no trace.
    ///
    /// # Errors
    /// More signatures than an envelope may have.
    pub fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>, EnvelopeError> {
        let id = key.public().id();
        let signature = key.sign(&self.statement());
        let others =
            self.signatures.iter().filter(|one| (one.key, one.algorithm.as_str()) != (id, ALGORITHM));
        let mut entries: Vec<(KeyId, &str, Vec<u8>)> =
            others.map(|one| (one.key, one.algorithm.as_str(), one.encoded.clone())).collect();
        entries.push((id, ALGORITHM, encode_entry(id, &signature)));
        self.write(entries)
    }

    /// The envelope without any signature.
    ///
    /// # Errors
    /// None that is known.
    pub fn strip(&self) -> Result<Vec<u8>, EnvelopeError> {
        self.write(Vec::new())
    }

    fn write(&self, mut entries: Vec<(KeyId, &str, Vec<u8>)>) -> Result<Vec<u8>, EnvelopeError> {
        entries.sort();
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        if count > MOST_SIGNATURES {
            let problem =
                format!("it would have {count} signatures, an envelope has at most {MOST_SIGNATURES}");
            return Err(EnvelopeError::Malformed { what: self.kind.name(), problem });
        }
        let fields = u32::try_from(self.others.len()).unwrap_or(u32::MAX).saturating_add(2);
        let mut out = self.content.to_vec();
        // Writing to memory does not fail.
        let _ = encode::write_map_len(&mut out, fields);
        let _ = encode::write_str(&mut out, "sha256");
        let _ = encode::write_bin(&mut out, &self.digest.0);
        let _ = encode::write_str(&mut out, "signatures");
        let _ = encode::write_array_len(&mut out, count);
        for (_, _, entry) in &entries {
            out.extend_from_slice(entry);
        }
        for field in &self.others {
            out.extend_from_slice(field);
        }
        Ok(out)
    }
}

#[cfg(feature = "signing")]
fn encode_entry(key: KeyId, signature: &[u8; 64]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = encode::write_map_len(&mut out, 3);
    let _ = encode::write_str(&mut out, "key");
    let _ = encode::write_bin(&mut out, &key.0);
    let _ = encode::write_str(&mut out, "algorithm");
    let _ = encode::write_str(&mut out, ALGORITHM);
    let _ = encode::write_str(&mut out, "signature");
    let _ = encode::write_bin(&mut out, signature);
    out
}

type Trailer<'a> = (Vec<EnvelopeSignature>, Vec<&'a [u8]>);

/// Reads a trailer. There is no word on what is wrong with one that is no trailer at all: it is cut off.
fn read_trailer(bytes: &[u8]) -> Result<Trailer<'_>, Option<String>> {
    let cut = |_: UnexpectedMessagePack| None;
    let mut reader = MessagePackReader::new(bytes);
    let (mut signatures, mut others, mut has_digest) = (None, Vec::new(), false);
    for _ in 0..reader.map().map_err(cut)? {
        let field = reader.rest();
        match reader.text().map_err(cut)? {
            "sha256" if has_digest => return Err(Some("its trailer has `sha256` twice".to_owned())),
            "sha256" => {
                has_digest = true;
                reader.skip().map_err(cut)?;
            }
            "signatures" if signatures.is_some() => {
                return Err(Some("its trailer has `signatures` twice".to_owned()));
            }
            "signatures" => signatures = Some(read_signatures(&mut reader).map_err(Some)?),
            _ => {
                reader.skip().map_err(cut)?;
                others.push(consumed(field, &reader));
            }
        }
    }
    Ok((signatures.unwrap_or_default(), others))
}

fn read_signatures(reader: &mut MessagePackReader<'_>) -> Result<Vec<EnvelopeSignature>, String> {
    let count = reader.array().map_err(|_| "`signatures` in its trailer is not a list".to_owned())?;
    if count > MOST_SIGNATURES {
        return Err(format!("it has {count} signatures, an envelope has at most {MOST_SIGNATURES}"));
    }
    let mut signatures: Vec<EnvelopeSignature> = Vec::new();
    for index in 0..count {
        let at = |problem: &str| format!("its signature {} of {count} {problem}", index.saturating_add(1));
        let signature = read_signature(reader).map_err(|problem| at(&problem))?;
        let same =
            |have: &EnvelopeSignature| (have.key, &have.algorithm) == (signature.key, &signature.algorithm);
        if signatures.iter().any(same) {
            return Err(at(&format!("is a second one by key {}", signature.key)));
        }
        signatures.push(signature);
    }
    Ok(signatures)
}

fn read_signature(reader: &mut MessagePackReader<'_>) -> Result<EnvelopeSignature, String> {
    let entry = reader.rest();
    let (mut key, mut algorithm, mut signature) = (None, None, None);
    let fields = reader.map().map_err(|_| "is not a map of `key`, `algorithm` and `signature`".to_owned())?;
    for _ in 0..fields {
        let name = reader.text().map_err(|_| "has a field whose name is not text".to_owned())?;
        let is_second = match name {
            "key" => key.is_some(),
            "algorithm" => algorithm.is_some(),
            "signature" => signature.is_some(),
            _ => false,
        };
        if is_second {
            return Err(format!("has `{name}` twice"));
        }
        match name {
            "key" => {
                let bytes = reader.bytes().map_err(|_| "has a `key` that is not bytes".to_owned())?;
                let id = bytes
                    .try_into()
                    .map_err(|_| format!("has a `key` of {} bytes, a key id has 8", bytes.len()))?;
                key = Some(KeyId(id));
            }
            "algorithm" => {
                let text = reader.text().map_err(|_| "has an `algorithm` that is not text".to_owned())?;
                algorithm = Some(text.to_owned());
            }
            "signature" => {
                let bytes = reader.bytes().map_err(|_| "has a `signature` that is not bytes".to_owned())?;
                signature = Some(bytes.to_vec());
            }
            _ => reader.skip().map_err(|_| format!("has a field `{name}` that cannot be read"))?,
        }
    }
    let key = key.ok_or("has no `key`")?;
    let algorithm = algorithm.ok_or("has no `algorithm`")?;
    let signature = signature.ok_or("has no `signature`")?;
    if algorithm == ALGORITHM && signature.len() != 64 {
        let len = signature.len();
        return Err(format!("by key {key} has {len} bytes, an {ALGORITHM} signature has 64"));
    }
    Ok(EnvelopeSignature { key, algorithm, signature, encoded: consumed(entry, reader).to_vec() })
}

/// The bytes from `start` to where the reader is now.
fn consumed<'a>(start: &'a [u8], reader: &MessagePackReader<'_>) -> &'a [u8] {
    start.get(..start.len().saturating_sub(reader.rest().len())).unwrap_or_default()
}
