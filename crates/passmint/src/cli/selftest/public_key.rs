//! A public key in every encoding that a careless verifier could take for an HMAC secret, and a
//! self-signed certificate for `x5c`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use passmint_verify::Algorithm;
use serde_json::Value;

use super::forge::OwnKey;
use super::judgement::Fault;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const VERSION: u8 = 0xa0;
/// id-ecPublicKey with the curve P-256 (RFC 5480 section 2.1.1).
const EC_P256: &[u8] =
    b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// id-Ed25519 (RFC 8410 section 3).
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
/// rsaEncryption with NULL (RFC 3279 section 2.3.1).
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// ecdsa-with-SHA256 (RFC 5758 section 3.2).
const ECDSA_SHA256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
/// sha256WithRSAEncryption with NULL (RFC 4055 section 5).
const RSA_SHA256: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
/// id-at-commonName.
const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";

/// One DER value (X.690 section 8.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut value = vec![tag];
    match (content.len(), u8::try_from(length.len())) {
        (0, _) => value.push(0),
        (1..=127, _) => value.extend(length),
        (_, count) => {
            value.push(0x80 | count.unwrap_or(8));
            value.extend(length);
        }
    }
    value.extend_from_slice(content);
    value
}

/// An unsigned big-endian number as a DER INTEGER.
fn integer(number: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    if digits.first().is_none_or(|first| first & 0x80 != 0) {
        digits.insert(0, 0);
    }
    der(INTEGER, &digits)
}

fn bits(content: &[u8]) -> Vec<u8> {
    der(BIT_STRING, &[&[0], content].concat())
}

/// An ES256 signature as X.509 writes it: ECDSA-Sig-Value (RFC 3279 section 2.2.3).
pub(super) fn ecdsa_der(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    der(SEQUENCE, &[integer(r), integer(s)].concat())
}

/// PEM with lines of 64 characters (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = String::new();
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

/// The parts of a JWK, decoded; only those of its kind are there.
struct Parts {
    kty: String,
    x: Vec<u8>,
    y: Vec<u8>,
    n: Vec<u8>,
    e: Vec<u8>,
}

impl Parts {
    fn of(jwk: &Value) -> Self {
        let text = |member: &str| jwk.get(member).and_then(Value::as_str).unwrap_or_default();
        let bytes = |member: &str| URL_SAFE_NO_PAD.decode(text(member)).unwrap_or_default();
        let kty = text("kty").to_owned();
        Self { kty, x: bytes("x"), y: bytes("y"), n: bytes("n"), e: bytes("e") }
    }

    /// `RSAPublicKey` (RFC 8017 appendix A.1.1).
    fn pkcs1(&self) -> Vec<u8> {
        der(SEQUENCE, &[integer(&self.n), integer(&self.e)].concat())
    }

    fn point(&self) -> Vec<u8> {
        [&[4], &*self.x, &*self.y].concat()
    }

    /// `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7).
    fn spki(&self) -> Vec<u8> {
        let (algorithm, key) = match self.kty.as_str() {
            "EC" => (EC_P256, self.point()),
            "OKP" => (ED25519, self.x.clone()),
            _ => (RSA, self.pkcs1()),
        };
        der(SEQUENCE, &[der(SEQUENCE, algorithm), bits(&key)].concat())
    }
}

/// A secret that a careless verifier could use, and what it is.
pub(super) type Encoding = (&'static str, Vec<u8>);

/// The key in every encoding.
pub(super) fn encodings(jwk: &Value) -> Vec<Encoding> {
    let parts = Parts::of(jwk);
    let spki = parts.spki();
    let text = pem("PUBLIC KEY", &spki);
    let bytes = |text: &str| text.as_bytes().to_vec();
    let mut all = vec![
        ("PEM", bytes(&text)),
        ("PEM without last newline", bytes(text.trim_end())),
        ("PEM after a space", bytes(&format!(" {text}"))),
        ("PEM with CR LF", bytes(&text.replace('\n', "\r\n"))),
        ("DER", spki.clone()),
        ("DER in base64", bytes(&STANDARD.encode(&spki))),
        ("JWK", bytes(&jwk.to_string())),
        ("JWK set", bytes(&format!(r#"{{"keys":[{jwk}]}}"#))),
        ("kid", bytes(jwk.get("kid").and_then(Value::as_str).unwrap_or_default())),
    ];
    match parts.kty.as_str() {
        "EC" => {
            all.push(("point 04 || x || y", parts.point()));
            all.push(("x || y", [&*parts.x, &*parts.y].concat()));
            all.push(("x", parts.x));
        }
        "OKP" => all.push(("x", parts.x)),
        _ => {
            all.push(("PKCS#1 PEM", bytes(&pem("RSA PUBLIC KEY", &parts.pkcs1()))));
            all.push(("PKCS#1 DER", parts.pkcs1()));
            all.push(("modulus", parts.n));
        }
    }
    for (name, member) in [("x in base64url", "x"), ("modulus in base64url", "n")] {
        if let Some(value) = jwk.get(member).and_then(Value::as_str) {
            all.push((name, bytes(value)));
        }
    }
    all
}

/// A certificate of the attacker's own key, signed by itself, in DER (RFC 5280 section 4.1).
pub(super) fn certificate(own: &OwnKey) -> Result<Vec<u8>, Fault> {
    let algorithm = der(
        SEQUENCE,
        match own.algorithm {
            Algorithm::EdDsa => ED25519,
            Algorithm::Rs256 => RSA_SHA256,
            Algorithm::Es256 | Algorithm::Hs256 => ECDSA_SHA256,
        },
    );
    let common_name = [COMMON_NAME, &der(UTF8, b"selftest")].concat();
    let name = der(SEQUENCE, &der(SET, &der(SEQUENCE, &common_name)));
    let validity = [der(UTC_TIME, b"200101000000Z"), der(UTC_TIME, b"491231235959Z")].concat();
    let body = [
        der(VERSION, &integer(&[2])),
        integer(&[1]),
        algorithm.clone(),
        name.clone(),
        der(SEQUENCE, &validity),
        name,
        Parts::of(&own.jwk).spki(),
    ];
    let body = der(SEQUENCE, &body.concat());
    let signature = own.signature(&body)?;
    let signature = match own.algorithm {
        Algorithm::Es256 => ecdsa_der(&signature),
        _ => signature,
    };
    Ok(der(SEQUENCE, &[body, algorithm, bits(&signature)].concat()))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use serde_json::json;
    use tokio_rustls::rustls::RootCertStore;

    use super::*;

    // Keys made by OpenSSL, their PEM as `openssl pkey -pubout` and `openssl rsa -RSAPublicKey_out`
    // print it, their JWK by hand.
    const EC: &str = "-----BEGIN PUBLIC KEY-----\n\
         MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE5M3pnVX51ZWwyxgWq28AeUk4l065\n\
         q8WzXcN7numcZaY/Fu7f7ocXR5n5DjHllNjPnp1+WZySw1weSy43RemnAQ==\n\
         -----END PUBLIC KEY-----\n";
    const ED: &str = "-----BEGIN PUBLIC KEY-----\n\
         MCowBQYDK2VwAyEAeo7vL1ucjTj6hM4ywIIvTz3x9KjihuHViQt0/sxuURg=\n\
         -----END PUBLIC KEY-----\n";
    const RSA_SPKI: &str = "-----BEGIN PUBLIC KEY-----\n\
         MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAq12+rmKAwTY8ELDG1qWQ\n\
         cy+5/m6V9IYKC8LchTmWs4AyWdjhRcavMk6zNTgi4ZFiMsUHqQBWLl9Fdctpgjd+\n\
         TO2MCGOtwTtazXCqv02ByiX9tbhT6fispbGSXujREqMaoU0hnPjlymRg8izSAYGZ\n\
         K3PDIM3fwgJdpdsb2Toz/GMMsAF+LiBMlkGdDGfUX6sDbfUt+gYIg3sw4YAvqg3q\n\
         Ic38gxtwXJ542/mk1apaPHFqPCK0HsTORr2HH2SRNiN6mcQx1ZBzwZOowfFCb5HB\n\
         jjPZUyH/FmGe0TPZT4snA7xoiWBBnpjQLGv0NyZ2O1aa+pROMTcqJFl3EwxUfNSt\n\
         sQIDAQAB\n\
         -----END PUBLIC KEY-----\n";
    const RSA_PKCS1: &str = "-----BEGIN RSA PUBLIC KEY-----\n\
         MIIBCgKCAQEAq12+rmKAwTY8ELDG1qWQcy+5/m6V9IYKC8LchTmWs4AyWdjhRcav\n\
         Mk6zNTgi4ZFiMsUHqQBWLl9Fdctpgjd+TO2MCGOtwTtazXCqv02ByiX9tbhT6fis\n\
         pbGSXujREqMaoU0hnPjlymRg8izSAYGZK3PDIM3fwgJdpdsb2Toz/GMMsAF+LiBM\n\
         lkGdDGfUX6sDbfUt+gYIg3sw4YAvqg3qIc38gxtwXJ542/mk1apaPHFqPCK0HsTO\n\
         Rr2HH2SRNiN6mcQx1ZBzwZOowfFCb5HBjjPZUyH/FmGe0TPZT4snA7xoiWBBnpjQ\n\
         LGv0NyZ2O1aa+pROMTcqJFl3EwxUfNStsQIDAQAB\n\
         -----END RSA PUBLIC KEY-----\n";
    const MODULUS: &str = "q12-rmKAwTY8ELDG1qWQcy-5_m6V9IYKC8LchTmWs4AyWdjhRcavMk6zNTgi4ZFiMsUHqQ\
         BWLl9Fdctpgjd-TO2MCGOtwTtazXCqv02ByiX9tbhT6fispbGSXujREqMaoU0hnPjlymRg\
         8izSAYGZK3PDIM3fwgJdpdsb2Toz_GMMsAF-LiBMlkGdDGfUX6sDbfUt-gYIg3sw4YAvqg\
         3qIc38gxtwXJ542_mk1apaPHFqPCK0HsTORr2HH2SRNiN6mcQx1ZBzwZOowfFCb5HBjjPZ\
         UyH_FmGe0TPZT4snA7xoiWBBnpjQLGv0NyZ2O1aa-pROMTcqJFl3EwxUfNStsQ";

    fn encoding(jwk: &Value, name: &str) -> Vec<u8> {
        encodings(jwk).into_iter().find(|(n, _)| *n == name).unwrap().1
    }

    #[track_caller]
    fn is(jwk: &Value, name: &str, wanted: &str) {
        assert_eq!(String::from_utf8(encoding(jwk, name)).unwrap(), wanted);
    }

    #[test]
    fn encodings_are_those_of_openssl() {
        let ec = json!({
            "kty": "EC", "crv": "P-256", "kid": "k",
            "x": "5M3pnVX51ZWwyxgWq28AeUk4l065q8WzXcN7numcZaY",
            "y": "Pxbu3-6HF0eZ-Q4x5ZTYz56dflmcksNcHksuN0XppwE",
        });
        is(&ec, "PEM", EC);
        is(&ec, "JWK", &ec.to_string());
        is(&ec, "kid", "k");
        assert_eq!(encoding(&ec, "point 04 || x || y").len(), 65);
        let ed = json!({ "kty": "OKP", "x": "eo7vL1ucjTj6hM4ywIIvTz3x9KjihuHViQt0_sxuURg" });
        is(&ed, "PEM", ED);
        assert_eq!(encoding(&ed, "x").len(), 32);
        let rsa = json!({ "kty": "RSA", "n": MODULUS, "e": "AQAB" });
        is(&rsa, "PEM", RSA_SPKI);
        is(&rsa, "PKCS#1 PEM", RSA_PKCS1);
        assert_eq!(encoding(&rsa, "modulus").len(), 256);
        is(&rsa, "modulus in base64url", MODULUS);
    }

    #[test]
    fn a_certificate_is_one() {
        for alg in ["ES256", "EdDSA", "RS256"] {
            let own = OwnKey::like(alg).unwrap();
            let certificate = CertificateDer::from(certificate(&own).unwrap());
            RootCertStore::empty().add(certificate).unwrap();
        }
    }
}
