//! Keys that sign access tokens, parsed once and kept: re-parsing an RSA key for every signature
//! costs more than the signature.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use passmint_verify::{Algorithm, Jwk, KeyError, VerifyingKey};

use super::random;
use crate::domain::secret::SecretBytes;

/// What a private key of that algorithm is.
const fn kind_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Es256 => "one on the curve P-256",
        Algorithm::EdDsa => "one of Ed25519",
        Algorithm::Rs256 => "an RSA key of 2,048 to 4,096 bits",
        Algorithm::Hs256 => "a secret of at least 32 bytes",
    }
}

/// Something went wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The bytes are not a private key of the algorithm.
    #[error("not a private {0} key, which is {kind}", kind = kind_of(*.0))]
    Malformed(Algorithm),
    /// The library refused.
    #[error("the key could not be made or used")]
    Refused,
    /// As it says.
    #[error(transparent)]
    Randomness(#[from] random::NoRandomness),
    /// The public part is not usable.
    #[error(transparent)]
    Public(#[from] KeyError),
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
    Hs256(Box<hmac::Key>),
}

/// A private key with its id and the encoded header that every token of it begins with.
pub struct SigningKey {
    kid: String,
    pair: Pair,
    header: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// A key that was just made: what to seal.
pub struct NewSecret {
    /// PKCS#8, or the raw secret for HS256.
    pub secret: SecretBytes,
    /// `kid`.
    pub kid: String,
    /// Public part, encoded as [`public_bytes`] does; empty for HS256.
    pub public: Vec<u8>,
}

/// Makes a new key.
pub fn generate(algorithm: Algorithm) -> Result<NewSecret, SigningError> {
    let refused = |_| SigningError::Refused;
    let secret = match algorithm {
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(refused)?;
            pair.to_pkcs8v1().map_err(refused)?.as_ref().to_vec()
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().map_err(refused)?;
            pair.to_pkcs8v1().map_err(refused)?.as_ref().to_vec()
        }
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::generate(rsa::KeySize::Rsa2048).map_err(refused)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(refused)?.as_ref().to_vec()
        }
        Algorithm::Hs256 => random::bytes::<32>()?.to_vec(),
    };
    from_secret(algorithm, SecretBytes::new(secret))
}

/// Names a private key and takes out its public part.
pub fn from_secret(algorithm: Algorithm, secret: SecretBytes) -> Result<NewSecret, SigningError> {
    if algorithm.is_symmetric() {
        VerifyingKey::hs256(secret.expose())?;
        let kid = URL_SAFE_NO_PAD.encode(random::bytes::<16>()?);
        return Ok(NewSecret { secret, kid, public: Vec::new() });
    }
    let public = public_of(&parse(algorithm, secret.expose())?);
    let kid = public_jwk(algorithm, &public)?.kid;
    Ok(NewSecret { secret, kid, public })
}

fn parse(algorithm: Algorithm, secret: &[u8]) -> Result<Pair, SigningError> {
    let malformed = |_| SigningError::Malformed(algorithm);
    Ok(match algorithm {
        Algorithm::Es256 => Pair::Es256(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, secret)
                .or_else(|_| {
                    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, secret)
                })
                .map_err(malformed)?,
        ),
        Algorithm::EdDsa => {
            Pair::EdDsa(Ed25519KeyPair::from_pkcs8_maybe_unchecked(secret).map_err(malformed)?)
        }
        Algorithm::Rs256 => Pair::Rs256(Box::new(
            RsaKeyPair::from_pkcs8(secret)
                .or_else(|_| RsaKeyPair::from_der(secret))
                .map_err(malformed)?,
        )),
        Algorithm::Hs256 => {
            VerifyingKey::hs256(secret)?;
            Pair::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
        }
    })
}

/// The public part as the store keeps it: the point, the 32 bytes, or an RSA key in DER.
fn public_of(pair: &Pair) -> Vec<u8> {
    match pair {
        Pair::Es256(pair) => pair.public_key().as_ref().to_vec(),
        Pair::EdDsa(pair) => pair.public_key().as_ref().to_vec(),
        Pair::Rs256(pair) => pair.public_key().as_ref().to_vec(),
        Pair::Hs256(_) => Vec::new(),
    }
}

/// The JWK of a stored public part; its `kid` is the thumbprint.
pub fn public_jwk(algorithm: Algorithm, public: &[u8]) -> Result<Jwk, KeyError> {
    let malformed = |why| KeyError::Malformed(algorithm, why);
    match algorithm {
        Algorithm::Es256 => {
            let (x, y) = public
                .strip_prefix(&[4])
                .filter(|point| point.len() == 64)
                .map(|point| point.split_at(32))
                .ok_or(malformed("the point is not 65 bytes"))?;
            Ok(Jwk::es256(x, y))
        }
        Algorithm::EdDsa => Ok(Jwk::ed25519(public)),
        Algorithm::Rs256 => {
            let key = rsa_public(public)?;
            Ok(Jwk::rs256(
                key.modulus().big_endian_without_leading_zero(),
                key.exponent().big_endian_without_leading_zero(),
            ))
        }
        Algorithm::Hs256 => Err(malformed("a symmetric key has no public part")),
    }
}

/// The verifying key of a stored public part.
pub fn public_key(algorithm: Algorithm, public: &[u8]) -> Result<VerifyingKey, KeyError> {
    match algorithm {
        Algorithm::Es256 => VerifyingKey::es256(public),
        Algorithm::EdDsa => VerifyingKey::ed25519(public),
        Algorithm::Rs256 => {
            let key = rsa_public(public)?;
            VerifyingKey::rs256(
                key.modulus().big_endian_without_leading_zero(),
                key.exponent().big_endian_without_leading_zero(),
            )
        }
        Algorithm::Hs256 => {
            Err(KeyError::Malformed(algorithm, "a symmetric key has no public part"))
        }
    }
}

/// How long the modulus of a stored RSA key is, in bytes; so long is a signature. 0: it is none.
pub fn modulus_bytes(public: &[u8]) -> usize {
    rsa_public(public).map_or(0, |key| key.modulus().big_endian_without_leading_zero().len())
}

fn rsa_public(der: &[u8]) -> Result<rsa::PublicKey, KeyError> {
    rsa::PublicKey::from_der(der)
        .map_err(|_| KeyError::Malformed(Algorithm::Rs256, "not an RSA public key"))
}

impl SigningKey {
    /// Parses a private key that [`generate`] or [`from_secret`] made.
    pub fn new(algorithm: Algorithm, kid: String, secret: &[u8]) -> Result<Self, SigningError> {
        let pair = parse(algorithm, secret)?;
        let header = format!(r#"{{"typ":"JWT","alg":"{algorithm}","kid":"{kid}"}}"#);
        Ok(Self { kid, pair, header: URL_SAFE_NO_PAD.encode(header) })
    }

    /// `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A JWS in compact form over those claims (RFC 7515 section 7.1).
    pub fn sign(&self, claims: &[u8]) -> Result<String, SigningError> {
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 400);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The JWS signature over `message` (RFC 7518 section 3).
    pub fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        Ok(match &self.pair {
            Pair::Es256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map_err(|_| SigningError::Refused)?
                .as_ref()
                .to_vec(),
            Pair::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .map_err(|_| SigningError::Refused)?;
                signature
            }
            Pair::Hs256(key) => hmac::sign(key, message).as_ref().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use passmint_verify::{KeySet, Rules, verify};

    use super::*;

    #[test]
    fn what_a_key_signs_its_public_part_verifies_and_no_other() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
            let [one, other] = [(); 2].map(|()| generate(algorithm).unwrap());
            assert_ne!(one.kid, other.kid);
            let signing = SigningKey::new(algorithm, one.kid.clone(), one.secret.expose()).unwrap();
            assert_eq!(signing.kid(), one.kid);
            assert_eq!(format!("{signing:?}"), format!("SigningKey {{ kid: {:?}, .. }}", one.kid));
            let claims =
                br#"{"iss":"us","sub":"7","sid":"a","token_type":"access","iat":1000,"exp":2000}"#;
            let token = signing.sign(claims).unwrap();
            let rules = Rules { issuer: "us".to_owned(), audience: None, max_lifetime: 1000 };
            let is_verified_by = |key: &NewSecret| {
                let mut keys = KeySet::default();
                keys.insert(one.kid.clone(), public_key(algorithm, &key.public).unwrap());
                verify(&token, &keys, &rules, 1500).is_ok()
            };
            assert!(is_verified_by(&one) && !is_verified_by(&other), "{algorithm}");
            assert_eq!(public_jwk(algorithm, &one.public).unwrap().kid, one.kid);
            let length = if algorithm == Algorithm::Rs256 { 256 } else { 0 };
            assert_eq!(modulus_bytes(&one.public), length);
        }
    }

    #[test]
    fn a_secret_is_named_at_random_and_has_no_public_part() {
        let [one, other] = [(); 2].map(|()| generate(Algorithm::Hs256).unwrap());
        assert_eq!((one.secret.expose().len(), one.public.len()), (32, 0));
        assert!(one.kid != other.kid && one.secret.expose() != other.secret.expose());
        assert!(
            public_jwk(Algorithm::Hs256, &[]).is_err()
                && public_key(Algorithm::Hs256, &[]).is_err()
        );
        let signing =
            SigningKey::new(Algorithm::Hs256, "a".to_owned(), one.secret.expose()).unwrap();
        let signature = signing.signature(b"any").unwrap();
        assert!(VerifyingKey::hs256(one.secret.expose()).unwrap().accepts(b"any", &signature));
        assert!(from_secret(Algorithm::Hs256, SecretBytes::new(vec![7; 31])).is_err());
        let other = SigningKey::new(Algorithm::Es256, "any".to_owned(), b"no key");
        let said = other.err().unwrap().to_string();
        assert_eq!(said, "not a private ES256 key, which is one on the curve P-256");
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let key = generate(Algorithm::EdDsa).unwrap();
        let signing = SigningKey::new(Algorithm::EdDsa, "some-kid".to_owned(), key.secret.expose());
        assert_eq!(format!("{:?}", signing.unwrap()), r#"SigningKey { kid: "some-kid", .. }"#);
    }
}
