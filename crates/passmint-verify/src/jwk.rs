//! Public keys as JSON (RFC 7517) and their thumbprints (RFC 7638).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};

use crate::key::{Algorithm, KeyError, VerifyingKey};

/// One public key of a JWK set. Symmetric keys have no place here and cannot be expressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Key type: `EC`, `OKP` or `RSA`.
    pub kty: String,
    /// `sig`.
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub use_: Option<String>,
    /// What the key is for (RFC 7517 section 4.3); absent in the sets that Passmint serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    /// The one algorithm of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// Key id: the RFC 7638 thumbprint.
    #[serde(default)]
    pub kid: String,
    /// Curve, for `EC` and `OKP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// X coordinate or public key, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Y coordinate, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// RSA modulus, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// RSA exponent, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
}

/// A JWK set as `/.well-known/jwks.json` serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys, in no meaningful order. What is no key in this form is left out when a set is read
    /// (RFC 7517 section 5).
    #[serde(deserialize_with = "readable_keys")]
    pub keys: Vec<Jwk>,
}

fn readable_keys<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Jwk>, D::Error> {
    let members = Vec::<serde_json::Value>::deserialize(from)?;
    Ok(members.into_iter().filter_map(|member| serde_json::from_value(member).ok()).collect())
}

impl Jwk {
    fn bare(kty: &str, algorithm: Algorithm) -> Self {
        Self {
            kty: kty.to_owned(),
            use_: Some("sig".to_owned()),
            key_ops: None,
            alg: Some(algorithm.name().to_owned()),
            kid: String::new(),
            crv: None,
            x: None,
            y: None,
            n: None,
            e: None,
        }
    }

    fn named_by_thumbprint(mut self) -> Self {
        self.kid = thumbprint(&self);
        self
    }

    /// The JWK of a P-256 key, from its coordinates (32 bytes each).
    pub fn es256(x: &[u8], y: &[u8]) -> Self {
        let mut jwk = Self::bare("EC", Algorithm::Es256);
        jwk.crv = Some("P-256".to_owned());
        jwk.x = Some(URL_SAFE_NO_PAD.encode(x));
        jwk.y = Some(URL_SAFE_NO_PAD.encode(y));
        jwk.named_by_thumbprint()
    }

    /// The JWK of an Ed25519 key, from its 32 bytes (RFC 8037).
    pub fn ed25519(public: &[u8]) -> Self {
        let mut jwk = Self::bare("OKP", Algorithm::EdDsa);
        jwk.crv = Some("Ed25519".to_owned());
        jwk.x = Some(URL_SAFE_NO_PAD.encode(public));
        jwk.named_by_thumbprint()
    }

    /// The JWK of an RSA key, from modulus and exponent without leading zeros.
    pub fn rs256(n: &[u8], e: &[u8]) -> Self {
        let mut jwk = Self::bare("RSA", Algorithm::Rs256);
        jwk.n = Some(URL_SAFE_NO_PAD.encode(n));
        jwk.e = Some(URL_SAFE_NO_PAD.encode(e));
        jwk.named_by_thumbprint()
    }

    /// The key to verify with. `alg`, when given, must be the one of the key type; a key that its owner
    /// gave out for something else, as encryption, verifies nothing (RFC 7517 sections 4.2 and 4.3).
    pub(crate) fn verifying_key(&self) -> Result<VerifyingKey, KeyError> {
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            ("RSA", _) => Algorithm::Rs256,
            _ => return Err(KeyError::Unsupported("kty or crv")),
        };
        if self.alg.as_deref().is_some_and(|alg| Algorithm::from_name(alg) != Some(algorithm)) {
            return Err(KeyError::Unsupported("alg"));
        }
        if self.use_.as_deref().is_some_and(|use_| use_ != "sig") {
            return Err(KeyError::Unsupported("use"));
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err(KeyError::Unsupported("key_ops"));
        }
        let part = |member: &Option<String>| {
            member
                .as_deref()
                .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
                .ok_or(KeyError::Malformed(algorithm, "a member is missing or not base64url"))
        };
        match algorithm {
            Algorithm::Es256 => {
                let point = [vec![4], part(&self.x)?, part(&self.y)?].concat();
                VerifyingKey::es256(&point)
            }
            Algorithm::EdDsa => VerifyingKey::ed25519(&part(&self.x)?),
            Algorithm::Rs256 | Algorithm::Hs256 => {
                VerifyingKey::rs256(&part(&self.n)?, &part(&self.e)?)
            }
        }
    }
}

/// The SHA-256 thumbprint of the key, base64url (RFC 7638 section 3): its required members only,
/// in lexicographic order, without white space.
pub fn thumbprint(jwk: &Jwk) -> String {
    let members: &[(&str, &Option<String>)] = &match jwk.kty.as_str() {
        "EC" => vec![("crv", &jwk.crv), ("x", &jwk.x), ("y", &jwk.y)],
        "OKP" => vec![("crv", &jwk.crv), ("x", &jwk.x)],
        _ => vec![("e", &jwk.e), ("n", &jwk.n)],
    };
    let mut named: Vec<(&str, &str)> =
        members.iter().map(|(name, value)| (*name, value.as_deref().unwrap_or_default())).collect();
    named.push(("kty", &jwk.kty));
    named.sort_unstable();
    let body: Vec<String> =
        named.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
    let json = format!("{{{}}}", body.join(","));
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, json.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_of_the_rfc_7638_example() {
        // RFC 7638 section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let mut jwk = Jwk::bare("RSA", Algorithm::Rs256);
        jwk.n = Some(n.to_owned());
        jwk.e = Some("AQAB".to_owned());
        assert_eq!(thumbprint(&jwk), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_key_that_cannot_be_read_costs_no_other() {
        let set = r#"{"keys":[
            {"kty":"OKP","crv":"Ed25519","kid":null,"x":"AA"},
            {"crv":"Ed25519","kid":"a"},
            "what",
            {"kty":"OKP","crv":"Ed25519","kid":"b","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
        ]}"#;
        let set: JwkSet = serde_json::from_str(set).unwrap();
        let kids: Vec<&str> = set.keys.iter().map(|key| key.kid.as_str()).collect();
        assert_eq!(kids, ["b"]);
        assert!(serde_json::from_str::<JwkSet>(r#"{"keys":7}"#).is_err());
    }

    #[test]
    fn what_a_key_is_given_out_for_is_obeyed() {
        const KEY: &str =
            r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
        let usable = |members: &str| {
            let jwk: Jwk = serde_json::from_str(&format!("{{{KEY}{members}}}")).unwrap();
            jwk.verifying_key().is_ok()
        };
        for good in [
            "",
            r#","use":"sig""#,
            r#","key_ops":["verify"]"#,
            r#","key_ops":["sign","verify"],"use":"sig""#,
            r#","alg":"EdDSA""#,
            r#","alg":"Ed25519""#,
        ] {
            assert!(usable(good), "{good}");
        }
        for bad in [
            r#","use":"enc""#,
            r#","key_ops":["encrypt"]"#,
            r#","key_ops":[]"#,
            r#","use":"sig","key_ops":["sign"]"#,
            r#","alg":"Ed448""#,
            r#","alg":"ES256""#,
        ] {
            assert!(!usable(bad), "{bad}");
        }
    }

    #[test]
    fn a_weak_rsa_key_is_refused() {
        assert!(VerifyingKey::rs256(&[0xff; 128], &[1, 0, 1]).is_err());
    }
}
