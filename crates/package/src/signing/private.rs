//! Making and checking signatures with Ed25519, and private keys: PKCS#8 in PEM.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes,
};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::keys::{PUBLIC, block, unreadable};
use super::{KeyError, PublicKey};

/// A key that signs. It shows its id and nothing else, and wipes its bytes when dropped.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

const PRIVATE: (&str, &str) = ("a private key", "PRIVATE KEY");

impl PrivateKey {
    /// The key that these 32 random bytes make.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads a PKCS#8 key in PEM, `-----BEGIN PRIVATE KEY-----`.
    ///
    /// # Errors
    /// Something else than one unencrypted Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = block(text, PRIVATE)?;
        let key = SigningKey::from_pkcs8_pem(block).map_err(|error| unreadable(PRIVATE.0, &error))?;
        Ok(Self(key))
    }

    /// Writes the key in PKCS#8 version 1, which every openssl with Ed25519 reads.
    ///
    /// # Errors
    /// None that is known; the encoder may fail.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        pair.to_pkcs8_pem(LineEnding::LF).map_err(|error| unreadable(PRIVATE.0, &error))
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey::of(&self.0.verifying_key())
    }

    pub(super) fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.0.sign(statement).to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public().id())
    }
}

impl PublicKey {
    fn of(key: &VerifyingKey) -> Self {
        Self::from_bytes(key.to_bytes())
    }

    /// Reads a SubjectPublicKeyInfo in PEM, `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    /// Something else than one Ed25519 key, or a weak one.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = block(text, PUBLIC)?;
        let key = VerifyingKey::from_public_key_pem(block).map_err(|error| unreadable(PUBLIC.0, &error))?;
        let is_weak = key.is_weak();
        let key = Self::of(&key);
        if is_weak { Err(KeyError::Weak(key.id())) } else { Ok(key) }
    }

    /// Writes the key as SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Bytes that are no key; the encoder may fail.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let key = VerifyingKey::from_bytes(self.as_bytes()).map_err(|error| unreadable(PUBLIC.0, &error))?;
        key.to_public_key_pem(LineEnding::LF).map_err(|error| unreadable(PUBLIC.0, &error))
    }

    /// Whether `signature` is one of `statement` by this key. Stricter than RFC 8032 asks: signatures that other
    /// implementations might judge differently are no signatures.
    pub fn verifies(&self, statement: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        VerifyingKey::from_bytes(self.as_bytes())
            .is_ok_and(|key| key.verify_strict(statement, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use crate::signing::KeyId;

    /// The key of RFC 8032, section 7.1, test 2, as openssl 3.0 writes it.
    const PRIVATE_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n-----END PRIVATE KEY-----\n";

    fn seed() -> [u8; 32] {
        let mut seed = [0; 32];
        hex::decode_to_slice("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", &mut seed)
            .unwrap();
        seed
    }

    #[test]
    fn keys_come_back_from_pem() {
        let key = PrivateKey::from_seed(&seed());
        // RFC 8032 gives this public key, and this signature of the byte 0x72.
        assert_eq!(
            hex::encode(key.public().as_bytes()),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert_eq!(
            hex::encode(key.sign(&[0x72])),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert_eq!(key.to_pem().unwrap().as_str(), PRIVATE_PEM);
        assert_eq!(PrivateKey::from_pem(PRIVATE_PEM).unwrap().public(), key.public());
        assert_eq!(PublicKey::from_pem(&key.public().to_pem().unwrap()).unwrap(), key.public());
        assert_eq!(PublicKey::find_in_pem(&key.public().to_pem().unwrap()).unwrap(), key.public());
        assert_eq!(key.public().id().to_string().parse(), Ok(key.public().id()));
        assert_eq!(key.public().id().0, Digest::of(key.public().as_bytes()).0[..8]);
        assert_eq!(format!("{key:?}"), format!("PrivateKey({})", key.public().id()));
        // Windows line ends, and what `openssl pkey -text` writes around the block.
        let wrapped = format!("ED25519 Private-Key:\n{PRIVATE_PEM}pub:\n").replace('\n', "\r\n");
        assert!(PrivateKey::from_pem(&PRIVATE_PEM.replace('\n', "\r\n")).is_ok());
        assert!(PrivateKey::from_pem(&wrapped).is_ok(), "{:?}", PrivateKey::from_pem(&wrapped));
    }

    #[test]
    fn what_is_no_key_is_named() {
        let check_public = |text: &str, expected: &str| {
            assert_eq!(PublicKey::from_pem(text).unwrap_err().to_string(), expected);
        };
        check_public(
            "hello",
            "expected a public key in PEM (`-----BEGIN PUBLIC KEY-----`), found no PEM block",
        );
        check_public(
            PRIVATE_PEM,
            "expected a public key (`-----BEGIN PUBLIC KEY-----`), found `-----BEGIN PRIVATE KEY-----`; \
             write its public key with `openssl pkey -in FILE -pubout`",
        );
        let public = PrivateKey::from_seed(&seed()).public().to_pem().unwrap();
        check_public(
            &format!("{public}{public}"),
            "expected one PEM block, found 2; give each key a file of its own",
        );
        let damaged = public.replacen("MC", "MD", 1);
        assert!(matches!(PublicKey::from_pem(&damaged), Err(KeyError::Unreadable { .. })));
        // The identity point: every signature of a certain form verifies under it.
        let mut weak = [0; 32];
        weak[0] = 1;
        let weak = PublicKey::from_bytes(weak);
        check_public(
            &weak.to_pem().unwrap(),
            &format!(
                "the public key {} is weak: signatures for it can be made without its private key",
                weak.id()
            ),
        );
        let error = PrivateKey::from_pem("-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap_err().to_string();
        assert!(error.ends_with("decrypt it with `openssl pkey -in FILE -out DECRYPTED` first"), "{error}");
        // An X25519 key from openssl.
        let other = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEA7vrfR29WvciLOYujhD3U2I7wilnmt+1+EKZaDZo+EQM=\n\
                     -----END PUBLIC KEY-----\n";
        let error = PublicKey::from_pem(other).unwrap_err().to_string();
        assert!(error.starts_with("a public key cannot be read: "), "{error}");
        let error = PublicKey::find_in_pem(other).unwrap_err().to_string();
        assert!(error.starts_with("a public key cannot be read: it is of another algorithm"), "{error}");
        assert!("abc".parse::<KeyId>().is_err());
    }
}
