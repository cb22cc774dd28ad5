//! Changed claims under the genuine signature, and under a foreign one (CVE-2026-25537,
//! CVE-2024-51744 for the expired token).

use serde_json::{Value, json};

use super::{Attack, Forgery, Material};
use crate::cli::selftest::forge::assemble;
use crate::cli::selftest::judgement::Fault;

pub(super) fn attacks(material: &Material) -> Result<Vec<Attack>, Fault> {
    let changes: [(&str, &[(&str, Value)]); 7] = [
        ("exp changed", &[("exp", json!(9_999_999_999_u64))]),
        ("sub changed", &[("sub", json!("1")), ("user_id", json!(1)), ("pad", json!(1))]),
        ("uep changed", &[("uep", json!(4_294_967_295_u32))]),
        ("roles changed", &[("roles", json!(["admin", "staff", "superuser"]))]),
        ("username changed", &[("username", json!("admin"))]),
        ("session changed", &[("sid", json!("00000000-0000-7000-8000-000000000000"))]),
        ("iss and aud changed", &[("iss", json!("evil")), ("aud", json!("evil"))]),
    ];
    let mut attacks = Vec::new();
    for (name, changes) in changes {
        let claims = material.genuine.claims_with(changes);
        attacks.push(Attack::new(format!("claims: {name}"), both(material, name, &claims)?));
    }
    attacks.push(of_another_type(material)?);
    attacks.push(expired(material)?);
    attacks.push(no_object(material)?);
    Ok(attacks)
}

/// The claims under the genuine signature and under the attacker's.
fn both(material: &Material, what: &str, claims: &str) -> Result<Vec<Forgery>, Fault> {
    let header = material.genuine.header_with(&[]);
    let genuine = assemble(&header, claims, &material.genuine.signature);
    Ok(vec![
        Forgery::new(format!("{what}, the genuine signature"), genuine),
        Forgery::new(format!("{what}, a foreign signature"), material.own.signed(&header, claims)?),
    ])
}

fn of_another_type(material: &Material) -> Result<Attack, Fault> {
    let mut forgeries = Vec::new();
    for exp in [json!("9999999999"), json!(true), json!([]), json!({}), json!(1e300), json!(-1)] {
        let claims = material.genuine.claims_with(&[("exp", exp.clone())]);
        forgeries.extend(both(material, &format!("exp {exp}"), &claims)?);
    }
    let claims = material.genuine.claims_with(&[("exp", Value::Null)]);
    forgeries.extend(both(material, "no exp", &claims)?);
    let null = claims.replacen('{', r#"{"exp":null,"#, 1);
    forgeries.extend(both(material, "exp null", &null)?);
    let huge = claims.replacen('{', r#"{"exp":1e999,"#, 1);
    forgeries.extend(both(material, "exp 1e999", &huge)?);
    Ok(Attack::new("claims: exp absent or of another type", forgeries))
}

/// "Expired" is said of genuine tokens only: a caller that lets expired ones through would let any.
fn expired(material: &Material) -> Result<Attack, Fault> {
    let claims = material.genuine.claims_with(&[("exp", json!(1)), ("iat", json!(0))]);
    Ok(Attack::new("expired and forged is forged", both(material, "expired", &claims)?))
}

fn no_object(material: &Material) -> Result<Attack, Fault> {
    let mut forgeries = Vec::new();
    for claims in ["", "null", "[]", "1", "\"text\"", "{", "{}", "{}{}"] {
        forgeries.extend(both(material, &format!("claims {claims:?}"), claims)?);
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    forgeries.extend(both(material, "claims 2,000 deep", &deep)?);
    Ok(Attack::new("claims that are no object", forgeries))
}
