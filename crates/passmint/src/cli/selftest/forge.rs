//! What forged tokens are made of: a genuine token taken apart, and the attacker's own signatures.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use passmint_verify::Algorithm;
use serde_json::{Map, Value};

use super::judgement::Fault;
use crate::crypto::signing_key::{self, SigningKey};

/// A JSON object with its members in order.
pub(super) type Object = Map<String, Value>;

/// A genuine token, taken apart (RFC 7515 section 7.1).
#[derive(Clone)]
pub(super) struct Compact {
    /// As the server gave it.
    pub(super) text: String,
    /// The header.
    pub(super) header: Object,
    /// The claims.
    pub(super) claims: Object,
    /// The signature, decoded.
    pub(super) signature: Vec<u8>,
}

impl Compact {
    /// `None` when it is no compact JWS over JSON objects.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let (header, claims, signature) = (parts.next()??, parts.next()??, parts.next()??);
        if parts.next().is_some() {
            return None;
        }
        let header = serde_json::from_slice(&header).ok()?;
        let claims = serde_json::from_slice(&claims).ok()?;
        Some(Self { text: text.to_owned(), header, claims, signature })
    }

    /// One of its three parts as it stands in the token.
    pub(super) fn part(&self, index: usize) -> &str {
        self.text.split('.').nth(index).unwrap_or_default()
    }

    /// A text member of the header.
    pub(super) fn header_text(&self, member: &str) -> &str {
        self.header.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// The header with these members set, or taken away where null is given.
    pub(super) fn header_with(&self, changes: &[(&str, Value)]) -> String {
        changed(&self.header, changes)
    }

    /// The claims with these members set, or taken away where null is given.
    pub(super) fn claims_with(&self, changes: &[(&str, Value)]) -> String {
        changed(&self.claims, changes)
    }

    /// The claims as they were signed.
    pub(super) fn claims_text(&self) -> String {
        changed(&self.claims, &[])
    }

    /// The genuine header and claims under another signature, already encoded.
    pub(super) fn signed_as(&self, signature: &str) -> String {
        format!("{}.{}.{signature}", self.part(0), self.part(1))
    }
}

fn changed(object: &Object, changes: &[(&str, Value)]) -> String {
    let mut object = object.clone();
    for (member, value) in changes {
        if value.is_null() {
            object.shift_remove(*member);
        } else {
            object.insert((*member).to_owned(), value.clone());
        }
    }
    Value::Object(object).to_string()
}

/// base64url without padding.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A token of a header, claims and signature.
pub(super) fn assemble(header: &str, claims: &str, signature: &[u8]) -> String {
    format!("{}.{}.{}", encode(header), encode(claims), encode(signature))
}

/// A token signed with an HMAC. `name` is `HS256`, `HS384` or `HS512`.
pub(super) fn hmac_signed(name: &str, header: &str, claims: &str, key: &[u8]) -> String {
    let algorithm = match name {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    let message = format!("{}.{}", encode(header), encode(claims));
    let tag = hmac::sign(&hmac::Key::new(algorithm, key), message.as_bytes());
    format!("{message}.{}", encode(tag.as_ref()))
}

/// A key of the attacker's own, of the same kind as the server's.
pub(super) struct OwnKey {
    /// Its algorithm.
    pub(super) algorithm: Algorithm,
    /// The public part as a JWK.
    pub(super) jwk: Value,
    key: SigningKey,
}

impl OwnKey {
    /// Makes one. For a server with a shared secret it is an ES256 key.
    pub(super) fn like(alg: &str) -> Result<Self, Fault> {
        let algorithm = Algorithm::from_name(alg).filter(|known| !known.is_symmetric());
        let algorithm = algorithm.unwrap_or(Algorithm::Es256);
        let failed = |error: &dyn std::fmt::Display| Fault::Untested(error.to_string());
        let made = signing_key::generate(algorithm).map_err(|error| failed(&error))?;
        let jwk = signing_key::public_jwk(algorithm, &made.public).map_err(|e| failed(&e))?;
        let jwk = serde_json::to_value(jwk).map_err(|error| failed(&error))?;
        let key = SigningKey::new(algorithm, made.kid, made.secret.expose());
        Ok(Self { algorithm, jwk, key: key.map_err(|error| failed(&error))? })
    }

    /// The key's id.
    pub(super) fn kid(&self) -> &str {
        self.key.kid()
    }

    /// The signature over those bytes.
    pub(super) fn signature(&self, message: &[u8]) -> Result<Vec<u8>, Fault> {
        self.key.signature(message).map_err(|error| Fault::Untested(error.to_string()))
    }

    /// A token signed with it.
    pub(super) fn signed(&self, header: &str, claims: &str) -> Result<String, Fault> {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(message.as_bytes())?;
        Ok(format!("{message}.{}", encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use passmint_verify::{Jwk, VerifyingKey};
    use serde_json::json;

    use super::*;

    #[test]
    fn hmac_with_the_empty_key_is_the_known_one() {
        // HMAC-SHA-256 of key "" over "e30.e30", by Python's hmac.
        let token = hmac_signed("HS256", "{}", "{}", b"");
        let signature = URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
        assert_eq!(
            hex(&signature),
            "e8477d326e0a8adaa3c6b402059b3b0191f0df5c0d8ac28d991f9b2e81c28395"
        );
    }

    #[test]
    fn an_own_key_signs_what_its_jwk_verifies() {
        for alg in ["ES256", "EdDSA", "RS256", "HS256"] {
            let own = OwnKey::like(alg).unwrap();
            let token = own.signed("{}", r#"{"sub":"1"}"#).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let jwk: Jwk = serde_json::from_value(own.jwk.clone()).unwrap();
            let key = VerifyingKey::try_from(&jwk).unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(key.accepts(message.as_bytes(), &signature), "{alg}");
        }
    }

    #[test]
    fn a_token_is_taken_apart_and_changed() {
        let text = assemble(r#"{"alg":"ES256","kid":"k"}"#, r#"{"sub":"1","exp":2}"#, b"sig");
        let token = Compact::read(&text).unwrap();
        assert_eq!((token.header_text("alg"), &*token.signature), ("ES256", &b"sig"[..]));
        assert_eq!(
            token.claims_with(&[("exp", json!(9)), ("uep", json!(1))]).matches(',').count(),
            2
        );
        assert_eq!(token.header_with(&[("kid", Value::Null)]), r#"{"alg":"ES256"}"#);
        for no_token in ["", "a.b", "a.b.c", &format!("{text}.x")] {
            assert!(Compact::read(no_token).is_none(), "{no_token}");
        }
    }
}
