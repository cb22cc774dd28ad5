//! Header members that bring a key along, name one elsewhere, or change how the token is read
//! (RFC 7515 section 4.1, RFC 7797, RFC 8725 sections 3.6 and 3.10; CVE-2018-0114, CVE-2026-32597).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Attack, Forgery, Material};
use crate::cli::selftest::forge::{assemble, encode, hmac_signed};
use crate::cli::selftest::judgement::Fault;
use crate::cli::selftest::public_key::certificate;

pub(super) fn attacks(material: &Material, url: &str) -> Result<Vec<Attack>, Fault> {
    Ok(vec![
        embedded_key(material)?,
        certificate_chain(material)?,
        url_of_key("jku", material, url)?,
        url_of_key("x5u", material, url)?,
        not_understood(material),
        twice(material),
    ])
}

/// The header of the genuine token with more members, once with its `kid` and once with the
/// attacker's.
fn with(material: &Material, members: &[(&str, Value)]) -> [String; 2] {
    let own_kid = ("kid", json!(material.own.kid()));
    [
        material.genuine.header_with(members),
        material.genuine.header_with(&[members, &[own_kid]].concat()),
    ]
}

fn embedded_key(material: &Material) -> Result<Attack, Fault> {
    let claims = material.genuine.claims_text();
    let mut forgeries = Vec::new();
    for header in with(material, &[("jwk", material.own.jwk.clone())]) {
        let token = material.own.signed(&header, &claims)?;
        forgeries.push(Forgery::new("a token signed with the jwk in it", token));
    }
    let secret = encode(b"k");
    let jwk = json!({ "kty": "oct", "k": secret, "alg": "HS256" });
    for header in with(material, &[("alg", json!("HS256")), ("jwk", jwk)]) {
        let token = hmac_signed("HS256", &header, &claims, b"k");
        forgeries.push(Forgery::new("a token keyed with the secret jwk in it", token));
    }
    for jwk in [json!({}), json!([]), json!("")] {
        let header = material.genuine.header_with(&[("jwk", jwk.clone())]);
        let token = assemble(&header, &claims, &material.genuine.signature);
        forgeries.push(Forgery::new(format!("jwk {jwk}"), token));
    }
    Ok(Attack::new("jwk in the token", forgeries))
}

fn certificate_chain(material: &Material) -> Result<Attack, Fault> {
    let claims = material.genuine.claims_text();
    let chain = json!([STANDARD.encode(certificate(&material.own)?)]);
    let mut forgeries = Vec::new();
    for header in with(material, &[("x5c", chain)]) {
        let token = material.own.signed(&header, &claims)?;
        forgeries.push(Forgery::new("a token signed with the certificate in it", token));
    }
    Ok(Attack::new("x5c in the token", forgeries))
}

fn url_of_key(member: &str, material: &Material, url: &str) -> Result<Attack, Fault> {
    let claims = material.genuine.claims_text();
    let mut forgeries = Vec::new();
    for header in with(material, &[(member, json!(url))]) {
        let token = material.own.signed(&header, &claims)?;
        forgeries.push(Forgery::new(format!("{member} {url}"), token));
    }
    let header = material.genuine.header_with(&[(member, json!("file:///dev/null"))]);
    let token = hmac_signed("HS256", &header, &claims, b"");
    forgeries.push(Forgery::new(format!("{member} file:///dev/null"), token));
    Ok(Attack::new(format!("{member} in the token"), forgeries))
}

fn not_understood(material: &Material) -> Attack {
    let claims = material.genuine.claims_text();
    let members = [
        ("crit", json!(["exp"])),
        ("crit", json!(["x-unknown"])),
        ("crit", json!([])),
        ("crit", json!("exp")),
        ("zip", json!("DEF")),
        ("b64", json!(false)),
        ("enc", json!("A256GCM")),
        ("cty", json!("JWT")),
        ("p2c", json!(2_000_000_000)),
    ];
    let mut forgeries: Vec<Forgery> = Vec::new();
    for member in members {
        let what = format!("{} {}", member.0, member.1);
        let header = material.genuine.header_with(&[member]);
        let token = assemble(&header, &claims, &material.genuine.signature);
        forgeries.push(Forgery::new(what, token));
    }
    let unencoded =
        material.genuine.header_with(&[("b64", json!(false)), ("crit", json!(["b64"]))]);
    let token = format!("{}.{claims}.{}", encode(unencoded), material.genuine.part(2));
    forgeries.push(Forgery::new("claims that are not encoded (b64 false)", token));
    Attack::new("crit, zip, b64 and others", forgeries)
}

/// Members named twice: whichever a parser keeps, the other one is believed elsewhere.
fn twice(material: &Material) -> Attack {
    let (alg, kid) = (material.genuine.header_text("alg"), material.kid());
    let claims = material.genuine.claims_text();
    let headers = [
        format!(r#"{{"alg":"none","typ":"JWT","alg":"{alg}","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"{alg}","typ":"JWT","alg":"none","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"{alg}","typ":"JWT","\u0061lg":"none","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"{kid}","kid":"x"}}"#),
        format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"{kid}"}} {{"alg":"none"}}"#),
    ];
    let mut forgeries = Vec::new();
    for header in headers {
        for signature in [&[][..], &material.genuine.signature] {
            forgeries.push(Forgery::new(&*header, assemble(&header, &claims, signature)));
        }
    }
    let first = claims.replacen('{', r#"{"exp":9999999999,"#, 1);
    let last = claims.trim_end_matches('}').to_owned() + r#","exp":9999999999}"#;
    for claims in [first, last] {
        let header = material.genuine.header_with(&[]);
        let token = assemble(&header, &claims, &material.genuine.signature);
        forgeries.push(Forgery::new("exp twice", token));
    }
    Attack::new("members named twice", forgeries)
}
