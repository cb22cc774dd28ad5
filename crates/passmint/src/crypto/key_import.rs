//! Reads keys that an operator brings: PEM private or public keys, raw secrets for HS256.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use passmint_verify::Algorithm;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use super::signing_key::{NewSecret, SigningError, from_secret, public_jwk};
use crate::domain::secret::SecretBytes;

/// Why a file is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No PEM in it.
    #[error(
        "the file holds no PEM key (-----BEGIN PRIVATE KEY----- or -----BEGIN PUBLIC KEY-----)"
    )]
    NotPem,
    /// A private key under a password.
    #[error(
        "this private key is encrypted: decrypt it first, with `openssl pkey -in FILE -out DECRYPTED`"
    )]
    Encrypted,
    /// Another kind of key where a raw secret was wanted. A public key must never become a secret
    /// (CVE-2015-9235 and its kin).
    #[error(
        "the file holds a key in PEM, DER or JWK, but HS256 takes a raw secret: give the key's own \
         algorithm with --alg (ES256, EdDSA, RS256), or the bytes of the secret alone"
    )]
    NotRaw,
    /// A secret that anybody would try.
    #[error(
        "this secret can be guessed: it is a published example or has too few different bytes. Whoever \
         knows it can make tokens for every user"
    )]
    Guessable,
    /// A PEM section of another kind.
    #[error("the file holds no private or public key but another PEM section")]
    OtherSection,
    /// The key does not fit.
    #[error("this is not a usable {0} key: {1}")]
    NotThatKey(Algorithm, String),
    /// A signing key was wanted.
    #[error("this is a public key: it can only be imported with --verify-only")]
    PublicOnly,
}

/// A key as it came.
pub enum Imported {
    /// Can sign.
    Private(NewSecret),
    /// Can only verify.
    Public {
        /// `kid`.
        kid: String,
        /// As the store keeps it.
        public: Vec<u8>,
    },
}

/// Reads the file's `content` as a key of that algorithm. A raw HS256 secret loses one line end,
/// which editors and shells add.
pub fn read(algorithm: Algorithm, content: &[u8]) -> Result<Imported, ImportError> {
    if algorithm.is_symmetric() {
        let secret = content.strip_suffix(b"\n").unwrap_or(content);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if is_encoded_key(content) {
            return Err(ImportError::NotRaw);
        }
        if is_guessable(secret) {
            return Err(ImportError::Guessable);
        }
        return private(algorithm, secret);
    }
    if is_encrypted(content) {
        return Err(ImportError::Encrypted);
    }
    let (kind, der) =
        <(SectionKind, Vec<u8>)>::from_pem_slice(content).map_err(|_| ImportError::NotPem)?;
    let imported = match kind {
        SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
            private(algorithm, &der)
        }
        SectionKind::PublicKey => public(algorithm, &der),
        _ => Err(ImportError::OtherSection),
    }?;
    let (Imported::Private(NewSecret { public, .. }) | Imported::Public { public, .. }) = &imported;
    if public.len() > LONGEST_PUBLIC_KEY {
        let why = "it has more than 4096 bits, and tokens would be too long to be read".to_owned();
        return Err(ImportError::NotThatKey(algorithm, why));
    }
    Ok(imported)
}

/// Bytes of an RSA key of 4,096 bits in DER, as a `SubjectPublicKeyInfo`, with a long exponent.
const LONGEST_PUBLIC_KEY: usize = 560;

/// Whether a secret is one of those that examples publish, or hardly varies.
fn is_guessable(secret: &[u8]) -> bool {
    const LEAST_DIFFERENT: usize = 8;
    let different: std::collections::HashSet<&u8> = secret.iter().collect();
    let text = String::from_utf8_lossy(secret).to_lowercase();
    different.len() < LEAST_DIFFERENT || text.contains("your-256-bit-secret")
}

/// Whether this is an asymmetric key or a certificate in one of the usual encodings: PEM, DER, a JWK or
/// JWKS, SSH's, or the base64 of DER.
fn is_encoded_key(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let text = text.trim_start_matches('\u{feff}').trim();
    let bare: Vec<u8> =
        content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = STANDARD.decode(&bare).unwrap_or_default();
    is_der(content)
        || is_der(&decoded)
        || text.contains("-----BEGIN ")
        || text.starts_with(['{', '[']) && text.contains("\"kty\"")
        || ["ssh-", "ecdsa-sha2-"].iter().any(|kind| text.starts_with(kind))
}

/// Whether this is a private key that only a password opens: PKCS #8 (RFC 7468 section 11), or OpenSSL's own
/// way (RFC 1421 section 4.6.1.1).
fn is_encrypted(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// Keys in DER are sequences that begin with a sequence or a number.
fn is_der(content: &[u8]) -> bool {
    let sequence = match content {
        [0x30, 0x82, high, low, rest @ ..] => {
            Some((usize::from(u16::from_be_bytes([*high, *low])), rest))
        }
        [0x30, 0x81, length, rest @ ..] | [0x30, length @ 0..=0x7f, rest @ ..] => {
            Some((usize::from(*length), rest))
        }
        _ => None,
    };
    sequence.is_some_and(|(length, rest)| {
        length <= rest.len() && length + 1 >= rest.len() && matches!(rest, [0x30 | 0x02, ..])
    })
}

fn private(algorithm: Algorithm, secret: &[u8]) -> Result<Imported, ImportError> {
    from_secret(algorithm, SecretBytes::new(secret.to_vec()))
        .map(Imported::Private)
        .map_err(|error: SigningError| ImportError::NotThatKey(algorithm, error.to_string()))
}

/// What stands before the key in a `SubjectPublicKeyInfo` of P-256 (RFC 5480): the same 26 bytes for
/// every uncompressed point, the last of them already the point's.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same of Ed25519 (RFC 8410).
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn public(algorithm: Algorithm, spki: &[u8]) -> Result<Imported, ImportError> {
    let wrong = |why: &str| ImportError::NotThatKey(algorithm, why.to_owned());
    let bytes = match algorithm {
        Algorithm::Es256 => spki.strip_prefix(&P256_SPKI),
        Algorithm::EdDsa => spki.strip_prefix(&ED25519_SPKI),
        Algorithm::Rs256 | Algorithm::Hs256 => Some(spki),
    };
    let bytes = bytes.ok_or_else(|| wrong("the public key is of another type"))?;
    super::signing_key::public_key(algorithm, bytes).map_err(|error| wrong(&error.to_string()))?;
    let jwk = public_jwk(algorithm, bytes).map_err(|error| wrong(&error.to_string()))?;
    Ok(Imported::Public { kid: jwk.kid, public: bytes.to_vec() })
}
