//! Requests with tokens that are none: all of these must be refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::dice::Dice;
use super::{Maker, REFRESH, Then, Tokens, VERIFY, with_body};

/// The kinds, by what is wrong.
pub(super) const KINDS: &[(&str, Maker)] = &[
    ("an access token with a changed character", access_changed),
    ("a part of an access token", access_cut),
    ("an access token of other parts", access_parts),
    ("an access token with another header", access_header),
    ("an access token with other claims", access_claims),
    ("a strange scheme", scheme),
    ("two authorizations", two_authorizations),
    ("a token too large", large),
    ("a refresh token with a changed character", refresh_changed),
    ("a part of a refresh token", refresh_cut),
    ("a refresh token made up", refresh_made_up),
    ("an access token to refresh", refresh_access),
];

const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Presents an access token in one of the ways there are.
fn present(dice: &mut Dice, token: &str) -> (Vec<u8>, Then) {
    let scheme = dice.pick(&["JWT", "Bearer", "jwt", "JWT  "]);
    let line = format!("Authorization: {scheme} {token}\r\n");
    let bytes = match dice.below(4) {
        0 => with_body("GET", "/api/v1/me/", &line, b""),
        1 => with_body("GET", "/forward-auth", &line, b""),
        2 => with_body("GET", "/forward-auth-roles/admin/x", &line, b""),
        _ => {
            let body = format!(r#"{{"token":"{token}"}}"#);
            with_body("POST", VERIFY, "Content-Type: application/json\r\n", body.as_bytes())
        }
    };
    (bytes, Then::Answer)
}

/// The text with one character replaced by another.
fn changed(dice: &mut Dice, text: &str) -> String {
    let place = dice.below(text.len());
    let old = text.as_bytes().get(place).copied().unwrap_or_default();
    let mut others = BASE64URL.to_vec();
    others.retain(|character| *character != old);
    let new = dice.text(&others, 1);
    let (before, after) = (text.get(..place), text.get(place + 1..));
    format!("{}{new}{}", before.unwrap_or_default(), after.unwrap_or_default())
}

/// The text without some of its end or its start.
fn cut(dice: &mut Dice, text: &str) -> String {
    let place = dice.between(1, text.len() - 1);
    let kept = if dice.one_in(2) { text.get(..place) } else { text.get(place..) };
    kept.unwrap_or_default().to_owned()
}

fn access_changed(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let token = changed(dice, &tokens.access);
    present(dice, &token)
}

fn access_cut(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let token = cut(dice, &tokens.access);
    present(dice, &token)
}

fn access_parts(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    // Never the genuine three in their order: it begins and ends otherwise.
    let mut parts = vec![".", "."];
    for _ in 0..dice.between(0, 12) {
        let genuine: Vec<_> = tokens.access.split('.').collect();
        parts.push(dice.pick(&[".", "..", "e30", "="]));
        parts.push(dice.pick(&genuine));
    }
    let token = parts.concat();
    present(dice, &token)
}

fn access_header(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let header = dice.pick(&[
        r#"{"alg":"none"}"#,
        r#"{"alg":"None","typ":"JWT"}"#,
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":["ES256"],"typ":"JWT"}"#,
        r#"{"alg":"ES256","alg":"none"}"#,
        r#"{"alg":"ES256","crit":["x"],"x":1}"#,
        r#"{"alg":"ES256","jku":"http://127.0.0.1:1/"}"#,
        r#"{"alg":"ES256","kid":"../../../etc/passwd"}"#,
        r#"{"alg":"ES256","kid":"' OR 1=1 --"}"#,
        r#"{"alg":"ES256","kid":7}"#,
        r#"{"alg":"ES256","zip":"DEF"}"#,
        r#"{"alg":"dir","enc":"A128GCM"}"#,
        "[]",
        "null",
        "{",
        "",
    ]);
    let mut rest = tokens.access.split('.').skip(1).collect::<Vec<_>>();
    if dice.one_in(3) {
        rest = vec![rest.first().copied().unwrap_or_default(), ""];
    }
    let token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), rest.join("."));
    present(dice, &token)
}

fn access_claims(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let number = dice.below(1_000_000);
    let claims = match dice.below(6) {
        0 => format!(r#"{{"sub":"{number}","exp":9999999999,"roles":["admin"]}}"#),
        1 => format!(r#"{{"sub":{number},"exp":"never"}}"#),
        2 => format!(r#"{{"exp":1e{number}}}"#),
        3 => "[".repeat(number % 3_000),
        4 => format!(r#"{{"a":"{number}","a":1}}"#),
        _ => String::new(),
    };
    let mut parts: Vec<_> = tokens.access.split('.').collect();
    let claims = URL_SAFE_NO_PAD.encode(claims);
    if let Some(place) = parts.get_mut(1) {
        *place = &claims;
    }
    let token = parts.join(".");
    present(dice, &token)
}

fn scheme(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let scheme = dice.pick(&[
        "",
        "Basic ",
        "JWT\t",
        "JWT,",
        "Token ",
        "JWTBearer ",
        "JWT JWT ",
        "=",
        "JWT: ",
    ]);
    let count = dice.between(0, 20);
    let behind = dice.text(b"abc=, ", count);
    let line = format!("Authorization: {scheme}{} x{behind}\r\n", tokens.access);
    (with_body("GET", "/forward-auth", &line, b""), Then::Answer)
}

fn two_authorizations(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let other = changed(dice, &tokens.access);
    let mut lines = [tokens.access.as_str(), &other].map(|token| {
        let name = if token == other { "authorization" } else { "Authorization" };
        format!("{name}: JWT {token}\r\n")
    });
    dice.shuffle(&mut lines);
    (with_body("GET", "/api/v1/me/", &lines.concat(), b""), Then::Answer)
}

fn large(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(8_193, 14_000);
    let filler = match dice.below(3) {
        0 => ".".repeat(count),
        1 => "A".repeat(count),
        _ => format!("{}{}", tokens.access, "A".repeat(count)),
    };
    present(dice, &filler)
}

fn refresh(path: &str, token: &str) -> (Vec<u8>, Then) {
    let body = format!(r#"{{"refresh_token":"{token}"}}"#);
    (with_body("POST", path, "Content-Type: application/json\r\n", body.as_bytes()), Then::Answer)
}

fn refresh_changed(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    refresh(REFRESH, &changed(dice, &tokens.refresh))
}

fn refresh_cut(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    refresh(REFRESH, &cut(dice, &tokens.refresh))
}

fn refresh_made_up(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(0, tokens.refresh.len() * 2);
    let prefix = tokens.refresh.get(..dice.between(0, 6)).unwrap_or_default();
    let token = format!("{prefix}{}", dice.text(BASE64URL, count));
    refresh(REFRESH, &token)
}

fn refresh_access(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let token = changed(dice, &tokens.access);
    refresh(dice.pick(&[REFRESH, "/api/v2/token-refresh/"]), &token)
}
