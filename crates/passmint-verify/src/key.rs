//! Verifying keys: one key has one algorithm, parsed once and used many times.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey};
use aws_lc_rs::{hmac, rsa};
use serde::{Deserialize, Serialize};

use crate::jwk::{Jwk, JwkSet};

/// A JWS signature algorithm (RFC 7518 section 3, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 to 8192 bits.
    #[serde(rename = "RS256")]
    Rs256,
    /// HMAC with SHA-256. Only to share a secret with an existing service.
    #[serde(rename = "HS256")]
    Hs256,
}

impl Algorithm {
    /// The name as it stands in a JWS header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }

    /// The algorithm of that exact name, or `None`. Ed25519 has two: `EdDSA` (RFC 8037), under which
    /// tokens are signed here, and `Ed25519` (RFC 9864).
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        [Self::Es256, Self::EdDsa, Self::Rs256, Self::Hs256].into_iter().find(|a| a.name() == name)
    }

    /// Whether one secret both signs and verifies.
    pub fn is_symmetric(self) -> bool {
        self == Self::Hs256
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a key was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not a key of the algorithm.
    #[error("not a valid {0} key: {1}")]
    Malformed(Algorithm, &'static str),
    /// The JWK's `kty`, `crv` or `alg` is not one that is supported.
    #[error("unsupported JWK: {0}")]
    Unsupported(&'static str),
}

enum Material {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

/// One key that checks signatures, bound to one algorithm.
pub struct VerifyingKey {
    algorithm: Algorithm,
    material: Material,
}

impl VerifyingKey {
    /// A P-256 key from its uncompressed point (65 bytes, SEC 1 section 2.3.3).
    pub fn es256(point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != 65 {
            return Err(KeyError::Malformed(Algorithm::Es256, "the point is not 65 bytes"));
        }
        let key = ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
            .map_err(|_| KeyError::Malformed(Algorithm::Es256, "the point is not on the curve"))?;
        Ok(Self { algorithm: Algorithm::Es256, material: Material::Public(key) })
    }

    /// An Ed25519 key from its 32 bytes (RFC 8032 section 5.1.5).
    pub fn ed25519(public: &[u8]) -> Result<Self, KeyError> {
        if public.len() != 32 {
            return Err(KeyError::Malformed(Algorithm::EdDsa, "the key is not 32 bytes"));
        }
        let key = ParsedPublicKey::new(&signature::ED25519, public)
            .map_err(|_| KeyError::Malformed(Algorithm::EdDsa, "not a point on the curve"))?;
        Ok(Self { algorithm: Algorithm::EdDsa, material: Material::Public(key) })
    }

    /// An RSA key from modulus and exponent, big-endian. 2048 to 8192 bits (RFC 7518 section 3.3).
    pub fn rs256(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let key = rsa::PublicKeyComponents { n, e }
            .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| KeyError::Malformed(Algorithm::Rs256, "modulus or exponent"))?;
        if !(256..=1024).contains(&n.iter().skip_while(|b| **b == 0).count()) {
            return Err(KeyError::Malformed(Algorithm::Rs256, "fewer than 2048 bits"));
        }
        Ok(Self { algorithm: Algorithm::Rs256, material: Material::Public(key) })
    }

    /// A shared secret of at least 32 bytes (RFC 7518 section 3.2).
    pub fn hs256(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < 32 {
            return Err(KeyError::Malformed(Algorithm::Hs256, "fewer than 32 bytes"));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Ok(Self { algorithm: Algorithm::Hs256, material: Material::Secret(Box::new(key)) })
    }

    /// The one algorithm of this key.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` over `message` was made with this key.
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Whose tokens a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The issuer's own: all claims are believed.
    Own,
    /// Another service's: believed is only who a token is for, from when and until when.
    Foreign,
}

/// The keys a verifier trusts, found by `kid`.
#[derive(Debug, Default)]
pub struct KeySet {
    by_kid: HashMap<String, (VerifyingKey, Signer)>,
    /// Secrets of another service.
    without_kid: Vec<VerifyingKey>,
}

impl KeySet {
    /// The keys of a JWK set. Keys of a type this crate does not know are left out, as RFC 7517
    /// section 5 asks; a known type with bad parameters is an error.
    pub fn from_jwks(set: &JwkSet) -> Result<Self, KeyError> {
        let mut keys = Self::default();
        for jwk in &set.keys {
            match VerifyingKey::try_from(jwk) {
                Ok(key) => keys.insert(jwk.kid.clone(), key),
                Err(KeyError::Unsupported(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(keys)
    }

    /// Trusts `key` for tokens that name `kid`.
    pub fn insert(&mut self, kid: String, key: VerifyingKey) {
        self.by_kid.insert(kid, (key, Signer::Own));
    }

    /// Trusts `key` for tokens of another service that name `kid`: who they are for, and until when.
    pub fn insert_foreign(&mut self, kid: String, key: VerifyingKey) {
        self.by_kid.insert(kid, (key, Signer::Foreign));
    }

    /// Tries an HS256 key of another service on tokens that name no key (an imported Django secret).
    /// Tokens that name a key are never checked against it.
    pub fn accept_without_kid(&mut self, key: VerifyingKey) {
        self.without_kid.push(key);
    }

    /// The key of that exact id, and whose it is.
    pub(crate) fn get(&self, kid: &str) -> Option<(&VerifyingKey, Signer)> {
        self.by_kid.get(kid).map(|(key, signer)| (key, *signer))
    }

    /// The HS256 keys that tokens without `kid` are tried against.
    pub(crate) fn for_tokens_without_kid(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.without_kid.iter().filter(|key| key.algorithm().is_symmetric())
    }
}

impl TryFrom<&Jwk> for VerifyingKey {
    type Error = KeyError;

    fn try_from(jwk: &Jwk) -> Result<Self, KeyError> {
        jwk.verifying_key()
    }
}
