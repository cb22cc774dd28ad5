//! Access tokens: nothing that was not signed is believed, and what is believed was said.
//!
//! The first byte says what follows: `t` the text of a token; `p` its three parts, each in a line of
//! its own: `@2` is that part of genuine token 2, `.` comes before what is already encoded, and all
//! else is encoded; `s` header and payload, in a line each, that are signed with the shared secret.
//!
//! The genuine tokens are in `fuzz/genuine/`. Of their keys only the public parts are left, so that
//! nobody can make others; the shared secret is `SHARED`.

use std::sync::LazyLock;

use crate::json_tree::Json;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use passmint_verify::{Claims, JwkSet, KeySet, Rejection, Rules, VerifyingKey, verify};

const SHARED: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: i64 = 1_700_000_200;
const ISSUER: &str = "https://passmint.example";
const AUDIENCE: &str = "api";
const MAX_LIFETIME: i64 = 86_400;

static GENUINE: [&str; 5] = [
    include_str!("../../../fuzz/genuine/es256.jwt").trim_ascii_end(),
    include_str!("../../../fuzz/genuine/eddsa.jwt").trim_ascii_end(),
    include_str!("../../../fuzz/genuine/rs256.jwt").trim_ascii_end(),
    include_str!("../../../fuzz/genuine/django.jwt").trim_ascii_end(),
    include_str!("../../../fuzz/genuine/expired.jwt").trim_ascii_end(),
];

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let set: JwkSet =
        serde_json::from_str(include_str!("../../../fuzz/genuine/jwks.json")).expect("a set");
    let mut keys = KeySet::from_jwks(&set).expect("keys");
    keys.insert("shared".to_owned(), VerifyingKey::hs256(SHARED).expect("32 bytes"));
    keys.accept_without_kid(VerifyingKey::hs256(SHARED).expect("32 bytes"));
    keys
});

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    issuer: ISSUER.to_owned(),
    audience: Some(AUDIENCE.to_owned()),
    max_lifetime: MAX_LIFETIME,
});

/// Ends in a panic when something of the above does not hold of this input.
pub fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
    match (kind, lines.as_slice()) {
        (b't', _) => {
            if let Ok(token) = std::str::from_utf8(rest) {
                forged(token);
            }
        }
        (b'p', [header, payload, signature]) => {
            if let (Some(header), Some(payload), Some(signature)) =
                (part(0, header), part(1, payload), part(2, signature))
            {
                forged(&format!("{header}.{payload}.{signature}"));
            }
        }
        (b's', [header, payload]) => signed(header, payload),
        _ => {}
    }
}

fn verdict_on(token: &str, now: i64) -> Result<Claims, Rejection> {
    verify(token, &KEYS, &RULES, now)
}

/// Otherwise a target that refuses everything would find nothing.
pub fn accepts_what_is_genuine() {
    for (number, token) in GENUINE.into_iter().enumerate() {
        let verdict = verdict_on(token, NOW);
        let right =
            if number == 4 { matches!(verdict, Err(Rejection::Expired)) } else { verdict.is_ok() };
        assert!(right, "genuine token {number}: {verdict:?}");
    }
}

fn part(position: usize, line: &[u8]) -> Option<String> {
    match line {
        [b'@', number] => {
            let token = GENUINE.get(usize::from(number.checked_sub(b'0')?))?;
            token.split('.').nth(position).map(str::to_owned)
        }
        [b'.', encoded @ ..] => String::from_utf8(encoded.to_vec()).ok(),
        plain => Some(URL_SAFE_NO_PAD.encode(plain)),
    }
}

/// Nobody signs here: what is believed, or called expired, is one of the genuine tokens.
fn forged(token: &str) {
    if let Ok(_) | Err(Rejection::Expired) = verdict_on(token, NOW) {
        let genuine = GENUINE.contains(&token) || GENUINE.iter().any(|one| is_twin(one, token));
        assert!(genuine, "nobody signed {token}");
    }
}

/// Whoever has an ECDSA signature (r, s) can write it as (r, n - s) too (SEC 1 section 4.1): another
/// text, the same header and claims. No verifier can tell which of the two was given out.
fn is_twin(genuine: &str, token: &str) -> bool {
    /// The order of P-256 (SEC 2 section 2.4.2).
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let split = |token: &str| {
        let (message, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let (r, s) = signature.split_at_checked(32)?;
        Some((message.to_owned(), r.to_owned(), <[u8; 32]>::try_from(s).ok()?))
    };
    let (Some(one), Some(other)) = (split(genuine), split(token)) else {
        return false;
    };
    let mut carry = 0;
    let mut sum = [0; 32];
    for (at, place) in sum.iter_mut().enumerate().rev() {
        carry += u16::from(one.2[at]) + u16::from(other.2[at]);
        *place = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    one.0 == other.0 && one.1 == other.1 && sum == ORDER && carry == 0
}

/// A signer that says whatever it likes.
fn signed(header: &[u8], payload: &[u8]) {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SHARED), message.as_bytes());
    let tag = URL_SAFE_NO_PAD.encode(tag);
    let token = format!("{message}.{tag}");
    match verdict_on(&token, NOW) {
        Ok(claims) => {
            assert_eq!(claims.json.as_bytes(), payload);
            header_is_strict(header);
            claims_were_said(&claims, &Json::read(payload).expect("JSON"), has_kid(header));
            assert_eq!(verdict_on(&token, claims.expires_at).err(), Some(Rejection::Expired));
            assert!(verdict_on(&token, claims.expires_at - 1).is_ok(), "there is no leeway");
        }
        Err(Rejection::Expired) => {
            header_is_strict(header);
            let exp = Json::read(payload).and_then(|json| json.get("exp")?.seconds());
            assert!(exp.is_some_and(|exp| exp <= NOW.into()));
        }
        Err(Rejection::Invalid(_)) => return,
    }
    let rest = tag.get(1..).expect("43 letters");
    let first = if tag.starts_with('A') { 'B' } else { 'A' };
    for broken in
        [format!("{message}.{first}{rest}"), format!("{message}.{rest}"), format!("{token}=")]
    {
        assert!(matches!(verdict_on(&broken, NOW), Err(Rejection::Invalid(_))), "{broken}");
    }
}

fn has_kid(header: &[u8]) -> bool {
    Json::read(header).is_some_and(|header| header.get("kid").is_some())
}

fn header_is_strict(header: &[u8]) {
    let header = Json::read(header).expect("JSON");
    assert!(header.is_unambiguous());
    for (name, value) in header.members().expect("an object") {
        let text = value.text().expect("all members are texts");
        let known = match name.as_str() {
            "alg" => text == "HS256",
            "typ" => text.eq_ignore_ascii_case("JWT"),
            "kid" => text == "shared",
            _ => false,
        };
        assert!(known, "{name}: {text}");
    }
}

/// Contract section 5. `own`: the token names its key; otherwise an existing service signed it.
fn claims_were_said(claims: &Claims, said: &Json, own: bool) {
    assert!(said.is_unambiguous(), "two parsers could read it differently");
    let text = |name: &str| said.get(name).map(|value| value.text().expect("a text"));
    let date = |name: &str| said.get(name).map(|value| value.seconds().expect("a number"));
    let now = i128::from(NOW);
    let expires = date("exp").expect("exp");
    assert!(expires == claims.expires_at.into() && expires > now);
    assert!(date("iat").is_none_or(|iat| iat <= now + 60 && expires - iat <= MAX_LIFETIME.into()));
    assert!(date("nbf").is_none_or(|nbf| nbf <= now));
    assert!(text("iss").map_or(!own, |issuer| issuer == ISSUER));
    assert!(text("token_type").map_or(!own, |kind| kind == "access"));
    let audience_fits = match said.get("aud") {
        None => !own,
        Some(Json::List(all)) => all.iter().any(|one| one.text() == Some(AUDIENCE)),
        Some(one) => one.text() == Some(AUDIENCE),
    };
    assert!(audience_fits);
    if own {
        assert!(text("sub").is_some() && text("sid").is_some() && date("iat").is_some());
    }
    if let Some(subject) = text("sub") {
        assert_eq!(claims.subject, subject);
    }
    assert_eq!(claims.foreign, !own);
    if !own {
        // Whom it is for and until when; what else it says counts for nothing.
        assert!(claims.session.is_none() && claims.roles.is_empty() && claims.username.is_empty());
        return;
    }
    assert_eq!(claims.session.as_deref(), text("sid"));
    let roles: Vec<_> = claims.roles.iter().map(|role| Json::Text(role.clone())).collect();
    assert!(said.get("roles").is_none_or(|said| *said == Json::List(roles)));
}
