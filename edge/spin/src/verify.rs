//! Signatures: of bundles and packages (Ed25519), and of tokens (RS256, ES256, EdDSA). What is to be verified comes from `lockgate-edge`.

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::{Signature, VerifyingKey};
use lockgate_edge::trust::Ed25519Check;
use lockgate_edge::{Algorithm, SignatureCheck};
use num_bigint::BigUint;
use p256::ecdsa::signature::Verifier as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// RSA keys outside of these bounds, in bytes of the modulus, are refused: 2048 to 4096 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// What stands before a SHA-256 digest in a signature by RSASSA-PKCS1-v1_5 (RFC 8017, section 9.2).
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

/// The public parts of a JSON Web Key.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Key {
    n: String,
    e: String,
    x: String,
    y: String,
}

/// Those of the checks that hold.
pub(crate) fn good(checks: Vec<Ed25519Check>) -> Vec<Ed25519Check> {
    let holds = |check: &Ed25519Check| ed25519(&check.key, &check.statement, &check.signature).is_some();
    checks.into_iter().filter(holds).collect()
}

/// Whether a token's signature holds.
pub(crate) fn holds(check: &SignatureCheck) -> bool {
    let Ok(key) = serde_json::from_str::<Key>(&check.key) else { return false };
    let SignatureCheck { input, signature, .. } = check;
    let held = match check.algorithm {
        Algorithm::EdDsa => decode64(&key.x).and_then(|x| ed25519(&x, input, signature)),
        Algorithm::Es256 => es256(&key, input, signature),
        Algorithm::Rs256 => rs256(&key, input, signature),
        // Checked where tokens are read.
        Algorithm::Hs256 => None,
    };
    held.is_some()
}

fn ed25519(key: &[u8], input: &[u8], signature: &[u8]) -> Option<()> {
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    key.verify_strict(input, &Signature::from_slice(signature).ok()?).ok()
}

fn es256(key: &Key, input: &[u8], signature: &[u8]) -> Option<()> {
    let (x, y) = (decode64(&key.x)?, decode64(&key.y)?);
    if (x.len(), y.len()) != (32, 32) {
        return None;
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?;
    key.verify(input, &p256::ecdsa::Signature::from_slice(signature).ok()?).ok()
}

/// Everything here is public, so nothing needs to take the same time.
fn rs256(key: &Key, input: &[u8], signature: &[u8]) -> Option<()> {
    let (modulus, exponent) = (decode64(&key.n)?, decode64(&key.e)?);
    let modulus = BigUint::from_bytes_be(&modulus);
    let exponent = BigUint::from_bytes_be(&exponent);
    let len = usize::try_from(modulus.bits().div_ceil(8)).ok()?;
    let signed = BigUint::from_bytes_be(signature);
    // Larger exponents than anybody uses would only cost time.
    let is_sound = RSA_BYTES.contains(&len) && exponent.bit(0) && (2..=33).contains(&exponent.bits());
    if !is_sound || signature.len() != len || signed >= modulus {
        return None;
    }
    let digest = Sha256::digest(input);
    let padding = len.checked_sub(3 + SHA256_INFO.len() + digest.len())?;
    let mut expected = vec![0, 1];
    expected.resize(2 + padding, 0xff);
    expected.push(0);
    expected.extend_from_slice(&SHA256_INFO);
    expected.extend_from_slice(&digest);
    (signed.modpow(&exponent, &modulus) == BigUint::from_bytes_be(&expected)).then_some(())
}

/// Reads Base64 as programs write it: with padding, over several lines.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_whitespace().collect();
    Base64Unpadded::decode_vec(text.trim_end_matches('=')).ok()
}

/// Reads base64url without padding.
fn decode64(text: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(text).ok()
}
