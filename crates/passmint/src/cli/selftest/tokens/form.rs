//! The compact form: padding, white space, spare bits, dots, another alphabet, other serialisations,
//! far too long (RFC 7515 sections 2 and 7, RFC 4648 section 3.5; CVE-2025-30204).
//!
//! Where only the signature's text is changed, a lenient decoder finds a genuine token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;

use super::{Attack, Forgery, Material};
use crate::cli::selftest::forge::{assemble, encode, hex};

/// Longer tokens are invalid (contract section 0).
const MAX_TOKEN_BYTES: usize = 8 * 1024;

pub(super) fn attacks(material: &Material) -> Vec<Attack> {
    vec![
        padding(material),
        white_space(material),
        spare_bits(material),
        alphabet(material),
        dots(material),
        other_serialisations(material),
        too_long(material),
    ]
}

fn padding(material: &Material) -> Attack {
    let token = &material.genuine;
    let (header, claims, signature) = (token.part(0), token.part(1), token.part(2));
    let forgeries = vec![
        Forgery::new("`=` at the end", format!("{}=", token.text)),
        Forgery::new("`==` at the end", format!("{}==", token.text)),
        Forgery::new("`%3D` at the end", format!("{}%3D", token.text)),
        Forgery::new("`=` after the header", format!("{header}=.{claims}.{signature}")),
        Forgery::new("`==` after the claims", format!("{header}.{claims}==.{signature}")),
    ];
    Attack::new("padding", forgeries)
}

fn white_space(material: &Material) -> Attack {
    let token = &material.genuine;
    let mut forgeries = Vec::new();
    for space in [" ", "\n", "\r\n", "\t", "\u{a0}", "\u{feff}", "\u{200b}"] {
        let half = token.part(2).len() / 2;
        let (start, end) = token.part(2).split_at_checked(half).unwrap_or_default();
        for (place, text) in [
            ("in front of the token", format!("{space}{}", token.text)),
            ("behind the token", format!("{}{space}", token.text)),
            ("in front of the signature", token.signed_as(&format!("{space}{start}{end}"))),
            ("inside the signature", token.signed_as(&format!("{start}{space}{end}"))),
        ] {
            forgeries.push(Forgery::new(format!("{space:?} {place}"), text));
        }
    }
    Attack::new("white space", forgeries)
}

/// The last character of base64url holds bits that belong to no byte.
fn spare_bits(material: &Material) -> Attack {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let signature = material.genuine.part(2);
    let spare = match signature.len() % 4 {
        2 => 4,
        3 => 2,
        _ => 0,
    };
    let mut forgeries = Vec::new();
    if let Some(last) = signature.chars().last()
        && let Some(value) = ALPHABET.find(last)
        && let Some(rest) = signature.strip_suffix(last)
    {
        for bits in 1..1_usize << spare {
            let Some(other) = ALPHABET.chars().nth(value | bits) else { continue };
            let token = material.genuine.signed_as(&format!("{rest}{other}"));
            forgeries.push(Forgery::new(format!("{last} is {other}"), token));
        }
    }
    Attack::new("spare bits in the signature", forgeries)
}

fn alphabet(material: &Material) -> Attack {
    let token = &material.genuine;
    let signature = STANDARD_NO_PAD.encode(&token.signature);
    let hex = hex(&token.signature);
    let forgeries = vec![
        Forgery::new("the signature with + and /", token.signed_as(&signature)),
        Forgery::new("the signature in hexadecimal", token.signed_as(&hex)),
        Forgery::new("the signature encoded twice", token.signed_as(&encode(token.part(2)))),
        Forgery::new("`!` inside the signature", token.signed_as(&format!("!{}", token.part(2)))),
        Forgery::new("percent-encoded dots", token.text.replace('.', "%2E")),
        Forgery::new("full-width dots", token.text.replace('.', "\u{ff0e}")),
    ];
    Attack::new("another alphabet", forgeries)
}

fn dots(material: &Material) -> Attack {
    let token = &material.genuine;
    let (header, claims, signature) = (token.part(0), token.part(1), token.part(2));
    let texts = [
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{}.", token.text),
        format!(".{}", token.text),
        format!("{}..", token.text),
        format!("{}.{signature}", token.text),
        format!("{header}.{claims}.{signature}.{claims}.{signature}"),
        header.to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "....".to_owned(),
        "a.b.c".to_owned(),
        "a.b.c.d.e".to_owned(),
        "0".to_owned(),
    ];
    let forgeries = texts
        .into_iter()
        .map(|text| {
            let parts: Vec<&str> =
                text.split('.').map(|part| part.get(..4).unwrap_or(part)).collect();
            Forgery::new(format!("the form {}", parts.join(".")), text)
        })
        .collect();
    Attack::new("too few and too many dots", forgeries)
}

fn other_serialisations(material: &Material) -> Attack {
    let token = &material.genuine;
    let (header, claims, signature) = (token.part(0), token.part(1), token.part(2));
    let flat = json!({ "payload": claims, "protected": header, "signature": signature });
    let general = json!({
        "payload": claims,
        "signatures": [{ "protected": header, "signature": signature }],
    });
    let jwe = encode(r#"{"alg":"dir","enc":"A128GCM"}"#);
    let forgeries = vec![
        Forgery::new("flattened JSON", flat.to_string()),
        Forgery::new("general JSON", general.to_string()),
        Forgery::new("JWE", format!("{jwe}..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA")),
        Forgery::new("a quoted token", format!("\"{}\"", token.text)),
        Forgery::new("two tokens", format!("{},{}", token.text, token.text)),
        Forgery::new("the scheme again", format!("JWT:{}", token.text)),
    ];
    Attack::new("other serialisations", forgeries)
}

fn too_long(material: &Material) -> Attack {
    let token = &material.genuine;
    let pad = "x".repeat(MAX_TOKEN_BYTES);
    let padded = token.claims_with(&[("pad", json!(pad))]);
    let header = token.header_with(&[]);
    let forgeries = vec![
        Forgery::new("padded claims", assemble(&header, &padded, &token.signature)),
        Forgery::new("a signature of 8 KiB", format!("{}{pad}", token.text)),
        Forgery::new("8 KiB of dots", ".".repeat(MAX_TOKEN_BYTES + 1)),
        Forgery::new("8 KiB of one letter", "A".repeat(MAX_TOKEN_BYTES + 1)),
        Forgery::new("3,000 dots", ".".repeat(3000)),
    ];
    Attack::new("far too long", forgeries)
}
