//! The decision itself.

use serde_json::Value;

use crate::claims::{Claims, RawClaims};
use crate::compact::{Compact, unique_members};
use crate::key::{Algorithm, KeySet, Signer, VerifyingKey};

/// Longer strings are not looked at.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How far ahead of `now` the `iat` of an own token may lie, in seconds: clocks of other nodes.
const IAT_AHEAD_SECONDS: i64 = 60;

/// What a token must say besides being signed. All times in seconds.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The exact `iss`.
    pub issuer: String,
    /// When set, `aud` must be this or hold it (RFC 7519 section 4.1.3).
    pub audience: Option<String>,
    /// The longest `exp - iat` accepted.
    pub max_lifetime: i64,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Genuine, but past its `exp`.
    #[error("expired")]
    Expired,
    /// Anything else. The text is for logs; callers are all told the same.
    #[error("invalid: {0}")]
    Invalid(&'static str),
}

/// Checks signature, form and claims of `token` at `now` (seconds since 1970), with no leeway on
/// `exp`. Whether the session still lives is not asked here.
pub fn verify(token: &str, keys: &KeySet, rules: &Rules, now: i64) -> Result<Claims, Rejection> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Rejection::Invalid("longer than 8 KiB"));
    }
    let compact = Compact::parse(token).ok_or(Rejection::Invalid("not a compact JWS"))?;
    let signed_by = signer(&compact, keys).map_err(Rejection::Invalid)?;
    let members =
        unique_members(&compact.payload).ok_or(Rejection::Invalid("payload is not an object"))?;
    let raw = RawClaims(members);
    let own = signed_by == Signer::Own;
    let mut claims = read(&raw, compact.payload, own).map_err(Rejection::Invalid)?;
    check(&raw, &claims, rules, own, now).map_err(Rejection::Invalid)?;
    if claims.issued_at == 0 {
        claims.issued_at = claims.expires_at.saturating_sub(rules.max_lifetime);
    }
    if claims.expires_at <= now { Err(Rejection::Expired) } else { Ok(claims) }
}

/// Whose key signed: one that the token names, or an imported secret tried without name.
fn signer(compact: &Compact<'_>, keys: &KeySet) -> Result<Signer, &'static str> {
    let header = &compact.header;
    let accepts = |key: &VerifyingKey| {
        Algorithm::from_name(&header.alg) == Some(key.algorithm())
            && key.accepts(compact.signing_input, &compact.signature)
    };
    if header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err("another typ");
    }
    if let Some(kid) = &header.kid {
        let (key, signer) = keys.get(kid).ok_or("unknown kid")?;
        if header.typ.is_none() {
            return Err("no typ");
        }
        return if accepts(key) { Ok(signer) } else { Err("signature does not match") };
    }
    if header.alg != Algorithm::Hs256.name() {
        return Err("no kid");
    }
    if keys.for_tokens_without_kid().any(accepts) {
        Ok(Signer::Foreign)
    } else {
        Err("signature does not match")
    }
}

fn read(raw: &RawClaims, payload: Vec<u8>, own: bool) -> Result<Claims, &'static str> {
    let expires_at = raw.date("exp")?.ok_or("no exp")?;
    let issued_at = raw.date("iat")?;
    let began_at = raw.date("orig_iat")?;
    let user_id = match raw.get("user_id") {
        Some(Value::String(id)) => Some(id.clone()),
        // 1.0 and 1e0 are no ids.
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Some(id.to_string()),
        Some(_) => return Err("user_id is neither number nor text"),
        None => None,
    };
    let subject = raw.text("sub")?.or(user_id).ok_or("no subject")?;
    let session = raw.text("sid")?;
    if own && (session.is_none() || issued_at.is_none() || raw.get("sub").is_none()) {
        return Err("a required claim is missing");
    }
    let json = String::from_utf8(payload).map_err(|_| "payload is not UTF-8")?;
    if !own {
        let issued_at = [issued_at, began_at].into_iter().flatten().min().unwrap_or(0);
        return Ok(Claims {
            json,
            subject,
            session: None,
            generation: 0,
            user_epoch: 0,
            foreign: true,
            issued_at,
            expires_at,
            session_began_at: began_at.unwrap_or(issued_at),
            username: String::new(),
            email: String::new(),
            roles: Vec::new(),
        });
    }
    Ok(Claims {
        json,
        subject,
        foreign: false,
        session,
        generation: u32::try_from(raw.count("gen")?.unwrap_or(0)).map_err(|_| "gen")?,
        user_epoch: raw.count("uep")?.unwrap_or(0),
        issued_at: issued_at.or(began_at).unwrap_or(0),
        expires_at,
        session_began_at: began_at.or(issued_at).unwrap_or(0),
        username: raw.text("username")?.unwrap_or_default(),
        email: raw.text("email").unwrap_or_default().unwrap_or_default(),
        roles: raw.roles()?,
    })
}

/// Everything but `exp`, so that "expired" is said of genuine tokens only.
fn check(
    raw: &RawClaims,
    claims: &Claims,
    rules: &Rules,
    own: bool,
    now: i64,
) -> Result<(), &'static str> {
    let issuer = raw.text("iss")?;
    if issuer.as_deref().map_or(own, |issuer| issuer != rules.issuer) {
        return Err("another iss");
    }
    if !audience_fits(raw.get("aud"), rules.audience.as_deref(), own) {
        return Err("another aud");
    }
    let token_type = raw.text("token_type")?;
    if token_type.as_deref().map_or(own, |kind| kind != "access") {
        return Err("not an access token");
    }
    // A foreign token is judged by when it was issued: one from the future would outlive an ending of today.
    let ahead = if own { IAT_AHEAD_SECONDS } else { 0 };
    if raw.date("iat")?.is_some_and(|iat| iat > now + ahead) || (!own && claims.issued_at > now) {
        return Err("iat lies in the future");
    }
    if raw.date("nbf")?.is_some_and(|nbf| nbf > now) {
        return Err("nbf lies in the future");
    }
    let from = raw.date("iat")?.unwrap_or(now);
    if claims.expires_at.saturating_sub(from) > rules.max_lifetime {
        return Err("lives longer than configured");
    }
    Ok(())
}

fn audience_fits(claim: Option<&Value>, configured: Option<&str>, own: bool) -> bool {
    match (claim, configured) {
        (None, None) => true,
        (None, Some(_)) => !own,
        (Some(Value::String(one)), Some(wanted)) => one == wanted,
        (Some(Value::Array(all)), Some(wanted)) => {
            all.iter().all(Value::is_string) && all.iter().any(|one| one == wanted)
        }
        (Some(_), _) => false,
    }
}
