//! `alg`: none at all, a public key taken for a shared secret, a signature of another kind
//! (RFC 8725 section 2.1; CVE-2015-9235, CVE-2016-10555, CVE-2022-29217, CVE-2026-34950).

use serde_json::{Value, json};

use super::{Attack, Forgery, Material};
use crate::cli::selftest::forge::{assemble, hmac_signed};
use crate::cli::selftest::public_key::encodings;

const HASHES: [&str; 3] = ["HS256", "HS384", "HS512"];

pub(super) fn attacks(material: &Material) -> Vec<Attack> {
    let mut attacks = vec![none(material), of_another_type(material), of_another_name(material)];
    attacks.extend(public_key_as_secret(material));
    attacks.push(guessed_secret(material));
    attacks
}

/// The genuine header with another `alg`, and the same without `kid`.
fn headers(material: &Material, alg: &Value) -> [String; 2] {
    let alg = ("alg", alg.clone());
    [
        material.genuine.header_with(std::slice::from_ref(&alg)),
        material.genuine.header_with(&[alg, ("kid", Value::Null)]),
    ]
}

fn none(material: &Material) -> Attack {
    let claims = material.genuine.claims_text();
    let mut forgeries = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "NoNe", "none ", " none", "none\0", "nonе"] {
        for header in headers(material, &json!(alg)) {
            for signature in [&[][..], &[0], &material.genuine.signature] {
                let bytes = signature.len();
                let what = format!("alg {alg:?} with a signature of {bytes} bytes");
                forgeries.push(Forgery::new(what, assemble(&header, &claims, signature)));
            }
        }
    }
    Attack::new("alg none in every case", forgeries)
}

fn of_another_type(material: &Material) -> Attack {
    let claims = material.genuine.claims_text();
    let mut forgeries = Vec::new();
    let genuine = json!(material.genuine.header_text("alg"));
    for alg in [json!(""), json!(0), json!(false), json!(["none"]), json!([genuine]), json!({})] {
        for signature in [&[][..], &material.genuine.signature] {
            let header = material.genuine.header_with(&[("alg", alg.clone())]);
            let token = assemble(&header, &claims, signature);
            forgeries.push(Forgery::new(format!("alg {alg}"), token));
        }
    }
    for (what, header) in [
        ("no alg", material.genuine.header_with(&[("alg", Value::Null)])),
        ("alg null", format!(r#"{{"typ":"JWT","alg":null,"kid":"{}"}}"#, material.kid())),
        ("an empty header", "{}".to_owned()),
    ] {
        for signature in [&[][..], &material.genuine.signature] {
            forgeries.push(Forgery::new(what, assemble(&header, &claims, signature)));
        }
    }
    Attack::new("alg absent or of another type", forgeries)
}

fn of_another_name(material: &Material) -> Attack {
    let genuine = material.genuine.header_text("alg");
    let claims = material.genuine.claims_text();
    let mut forgeries = Vec::new();
    for alg in [
        "ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519", "RS256", "RS512", "PS256",
        "HS256", "es256", "ES256 ",
    ] {
        if alg != genuine {
            for header in headers(material, &json!(alg)) {
                let token = assemble(&header, &claims, &material.genuine.signature);
                forgeries.push(Forgery::new(format!("alg {alg:?}"), token));
            }
        }
    }
    Attack::new("another alg over the genuine signature", forgeries)
}

/// One attack per encoding; of a server with several keys, every key in it.
fn public_key_as_secret(material: &Material) -> Vec<Attack> {
    let claims = material.genuine.claims_text();
    let mut attacks: Vec<Attack> = Vec::new();
    for jwk in &material.keys {
        let kid = jwk.get("kid").cloned().unwrap_or(Value::Null);
        for (encoding, secret) in encodings(jwk) {
            let name = format!("HMAC with public key: {encoding}");
            let mut forgeries = Vec::new();
            for hash in HASHES {
                for kid in [&kid, &Value::Null] {
                    let changes = [("alg", json!(hash)), ("kid", kid.clone())];
                    let header = material.genuine.header_with(&changes);
                    let token = hmac_signed(hash, &header, &claims, &secret);
                    forgeries.push(Forgery::new(format!("{hash}, kid {kid}"), token));
                }
            }
            match attacks.iter_mut().find(|attack| attack.name == name) {
                Some(attack) => attack.forgeries.extend(forgeries),
                None => attacks.push(Attack::new(name, forgeries)),
            }
        }
    }
    if attacks.is_empty() {
        attacks.push(Attack::new("HMAC with public key", Vec::new()));
    }
    attacks
}

fn guessed_secret(material: &Material) -> Attack {
    let claims = material.genuine.claims_text();
    let issuer = material.genuine.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    let mut forgeries = Vec::new();
    for (what, secret) in [
        ("the empty key", &b""[..]),
        ("32 zero bytes", &[0; 32]),
        ("`secret`", b"secret"),
        ("`changeme`", b"changeme"),
        ("`null`", b"null"),
        ("`undefined`", b"undefined"),
        ("the issuer", issuer.as_bytes()),
        ("the kid", material.kid().as_bytes()),
    ] {
        for hash in HASHES {
            for header in headers(material, &json!(hash)) {
                let token = hmac_signed(hash, &header, &claims, secret);
                forgeries.push(Forgery::new(format!("{hash} keyed with {what}"), token));
            }
        }
    }
    Attack::new("HMAC with nothing or a guess", forgeries)
}
