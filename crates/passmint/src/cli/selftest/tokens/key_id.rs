//! `kid`: absent, unknown, a path, SQL, of another type (RFC 8725 section 3.10).
//!
//! Each is signed with what a careless server would find there: nothing in `/dev/null`, the value that
//! an injected query gives, or the attacker's own key.

use serde_json::{Value, json};

use super::{Attack, Forgery, Material};
use crate::cli::selftest::forge::{assemble, hmac_signed};
use crate::cli::selftest::judgement::Fault;

pub(super) fn attacks(material: &Material) -> Result<Vec<Attack>, Fault> {
    Ok(vec![
        absent_or_unknown(material)?,
        path(material),
        query(material),
        of_another_type(material),
        almost_right(material),
    ])
}

fn absent_or_unknown(material: &Material) -> Result<Attack, Fault> {
    let claims = material.genuine.claims_text();
    let mut forgeries = Vec::new();
    for kid in [Value::Null, json!(""), json!(material.nobody), json!(material.own.kid())] {
        let header = material.genuine.header_with(&[("kid", kid.clone())]);
        let genuine = assemble(&header, &claims, &material.genuine.signature);
        let own = material.own.signed(&header, &claims)?;
        forgeries.push(Forgery::new(format!("kid {kid} under the genuine signature"), genuine));
        forgeries.push(Forgery::new(format!("kid {kid} under a foreign one"), own));
    }
    Ok(Attack::new("kid absent or unknown", forgeries))
}

/// The genuine signature, and an HMAC with `secret`, under that `kid`.
fn both(material: &Material, kid: &Value, secret: &[u8]) -> [Forgery; 2] {
    let claims = material.genuine.claims_text();
    let kept = material.genuine.header_with(&[("kid", kid.clone())]);
    let hmac = material.genuine.header_with(&[("alg", json!("HS256")), ("kid", kid.clone())]);
    [
        Forgery::new(
            format!("kid {kid} under the genuine signature"),
            assemble(&kept, &claims, &material.genuine.signature),
        ),
        Forgery::new(
            format!("kid {kid} under an HMAC"),
            hmac_signed("HS256", &hmac, &claims, secret),
        ),
    ]
}

fn path(material: &Material) -> Attack {
    let paths = [
        "/dev/null",
        "../../../../../../../../dev/null",
        "..%2f..%2f..%2f..%2f..%2fdev%2fnull",
        "....//....//....//....//dev/null",
        "..\\..\\..\\..\\nul",
        "file:///dev/null",
        "/dev/null\0.pem",
        "| true",
        "$(true)",
    ];
    let forgeries = paths.iter().flat_map(|path| both(material, &json!(path), b"")).collect();
    Attack::new("kid that is a path", forgeries)
}

fn query(material: &Material) -> Attack {
    let queries = [
        "' OR '1'='1",
        "x' UNION ALL VALUES('k')-- ",
        "\" OR \"\"=\"",
        "1; DROP TABLE keys",
        "x') OR ('1'='1",
        "*",
        "%",
        "{\"$ne\":null}",
    ];
    let forgeries = queries.iter().flat_map(|query| both(material, &json!(query), b"k")).collect();
    Attack::new("kid that is a query", forgeries)
}

fn of_another_type(material: &Material) -> Attack {
    let kid = material.kid();
    let kids = [
        json!(0),
        json!(-1),
        json!(true),
        json!([]),
        json!([kid]),
        json!({}),
        json!({ "kid": kid }),
        json!(1e300),
    ];
    let mut forgeries: Vec<Forgery> =
        kids.iter().flat_map(|kid| both(material, kid, b"")).collect();
    let null = r#"{"typ":"JWT","alg":"HS256","kid":null}"#;
    let claims = material.genuine.claims_text();
    forgeries.push(Forgery::new("kid null", hmac_signed("HS256", null, &claims, b"")));
    Attack::new("kid of another type", forgeries)
}

fn almost_right(material: &Material) -> Attack {
    let kid = material.kid();
    let shorter: String = kid.chars().skip(1).collect();
    let kids = [
        format!("{kid}\0"),
        format!("{kid} "),
        format!(" {kid}"),
        format!("{kid}="),
        format!("{kid}/../{kid}"),
        kid.to_uppercase(),
        shorter,
        kid.repeat(60),
    ];
    let forgeries = kids.iter().flat_map(|kid| both(material, &json!(kid), b"")).collect();
    Attack::new("kid that is almost right", forgeries)
}
