//! What a verified token says.

use std::borrow::Cow;

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

/// The payload of a token in compact form, decoded; `None` where it is no base64url. **Checks nothing.**
pub fn payload_of(token: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()
}

/// What is read again of a token that [`verify`](crate::verify) accepted before, to the last byte the same, as
/// one of our own ([`Claims::foreign`] was false). Each claim has its only type; see [`Claims`].
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "as in `Claims`")]
pub struct KnownClaims<'a> {
    #[serde(borrow, rename = "sub")]
    pub subject: Cow<'a, str>,
    #[serde(borrow, rename = "sid")]
    pub session: Cow<'a, str>,
    #[serde(rename = "gen")]
    pub generation: u32,
    #[serde(rename = "uep")]
    pub user_epoch: u64,
    #[serde(rename = "exp")]
    pub expires_at: i64,
    #[serde(borrow)]
    pub username: Cow<'a, str>,
    #[serde(borrow)]
    pub email: Cow<'a, str>,
    #[serde(borrow)]
    pub roles: Vec<Role<'a>>,
}

/// One role of [`KnownClaims`].
#[derive(Clone, Debug, Deserialize)]
pub struct Role<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'a> KnownClaims<'a> {
    /// Reads the [`payload_of`] a token. **Checks nothing**: not the signature, not the times. `None` where a
    /// claim is not as this server writes it; verify such a token anew.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
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
