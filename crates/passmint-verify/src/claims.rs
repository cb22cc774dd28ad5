//! What a verified token says.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// The claims of a verified access token (RFC 7519 section 4; Passmint contract section 5).
///
/// A token that another service's key signed says who it is for, from when and until when, and nothing
/// else counts: [`Claims::foreign`] is true, the session `None`, the numbers 0, names and roles empty,
/// whatever stands in it.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The payload as it was signed: a JSON object.
    pub json: String,
    /// `sub`, or the text of `user_id` where an older token has no `sub`.
    pub subject: String,
    /// `sid`: the session the token belongs to.
    pub session: Option<String>,
    /// `gen`: the session's generation the token was issued at.
    pub generation: u32,
    /// `uep`: the user's epoch at issue.
    pub user_epoch: u64,
    /// Whether another service's key signed it.
    pub foreign: bool,
    /// `iat`, seconds since 1970. Of a foreign token the earlier of `iat` and `orig_iat`, or where it has
    /// neither the earliest time at which it may have been issued.
    pub issued_at: i64,
    /// `exp`, seconds since 1970.
    pub expires_at: i64,
    /// `orig_iat`: when the session began, seconds since 1970.
    pub session_began_at: i64,
    /// `username`, empty when absent.
    pub username: String,
    /// `email`, empty when absent.
    pub email: String,
    /// `roles`, empty when absent.
    pub roles: Vec<String>,
}

impl Claims {
    /// Reads a token again that [`verify`](crate::verify) accepted before as one of our own
    /// ([`Claims::foreign`] was false), to the last byte the same. **Checks nothing**: not the signature, not
    /// the times. `None` where a claim is not as this server writes it; verify such a token anew.
    pub fn of_verified_token(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let own: OwnClaims = serde_json::from_str(&json).ok()?;
        Some(Self {
            subject: own.sub,
            session: Some(own.sid),
            generation: own.generation,
            user_epoch: own.uep,
            foreign: false,
            issued_at: own.iat,
            expires_at: own.exp,
            session_began_at: own.orig_iat,
            username: own.username,
            email: own.email,
            roles: own.roles,
            json,
        })
    }
}

/// The claims of a token as Passmint writes them, each of its only type.
#[derive(Deserialize)]
struct OwnClaims {
    sub: String,
    sid: String,
    #[serde(rename = "gen")]
    generation: u32,
    uep: u64,
    iat: i64,
    exp: i64,
    orig_iat: i64,
    username: String,
    email: String,
    roles: Vec<String>,
}

/// The claims that were signed but are not believed yet.
pub(crate) struct RawClaims(pub(crate) Vec<(String, Value)>);

impl RawClaims {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// `Ok(None)` when absent, `Err` when it is there and not a text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, &'static str> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err("a text claim is not a text"),
        }
    }

    /// A `NumericDate` (RFC 7519 section 2), fractions dropped. Strings, booleans, null and numbers
    /// past 2^53 are refused, never treated as absent.
    pub(crate) fn date(&self, name: &str) -> Result<Option<i64>, &'static str> {
        const LIMIT: i64 = 1 << 53;
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let seconds = match value {
            Value::Number(number) => number.as_i64().or_else(|| whole_seconds(number.as_f64()?)),
            _ => None,
        };
        seconds
            .filter(|seconds| (0..=LIMIT).contains(seconds))
            .map(Some)
            .ok_or("a date claim is not a number of seconds")
    }

    pub(crate) fn count(&self, name: &str) -> Result<Option<u64>, &'static str> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or("a counter claim is not a whole number"),
        }
    }

    pub(crate) fn roles(&self) -> Result<Vec<String>, &'static str> {
        const WRONG: &str = "roles is not a list of texts";
        match self.get("roles") {
            None => Ok(Vec::new()),
            Some(Value::Array(roles)) => {
                roles.iter().map(|role| role.as_str().map(str::to_owned).ok_or(WRONG)).collect()
            }
            Some(_) => Err(WRONG),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn whole_seconds(seconds: f64) -> Option<i64> {
    (seconds.is_finite() && seconds.abs() < 9.0e15).then(|| seconds.floor() as i64)
}
