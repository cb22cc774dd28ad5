//! Users: who may log in, under which name, and what their tokens say about them.

use std::fmt;

use aws_lc_rs::digest;
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::secret::PasswordHash;
use super::time::Timestamp;

/// A user's id: never reused. `sub` and `user_id` of the user's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub i64);

impl UserId {
    /// The largest number that every reader of JSON takes as it is (RFC 8259 section 6).
    pub const LARGEST: i64 = 1 << 53;

    /// The id behind `sub` of a token: the number itself, or the id of an imported text.
    pub fn of_subject(subject: &str) -> Self {
        ImportedId::read(subject).user_id()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id that a user had in the system it came from. Tokens go on saying it as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportedId {
    /// A whole number from 0 on: taken over as the user's own id.
    Number(i64),
    /// Anything else, as in a UUID.
    Text(String),
}

impl ImportedId {
    /// The most bytes that an imported id may have.
    pub const MAX_BYTES: usize = 128;

    /// The id of that text; what is written as a plain number counts as one.
    pub fn read(text: &str) -> Self {
        number(text).map_or_else(|| Self::Text(text.to_owned()), Self::Number)
    }

    /// The id under which the user is kept. That of a text is a negative number made from its
    /// SHA-256, so that a token's `sub` leads to it without a look-up.
    pub fn user_id(&self) -> UserId {
        let text = match self {
            Self::Number(number) => return UserId(*number),
            Self::Text(text) => text,
        };
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(hash.as_ref().get(..8).unwrap_or(&[0; 8]));
        UserId(i64::from_be_bytes(head) | i64::MIN)
    }
}

/// A whole number from 0 on, written as it is always written.
fn number(text: &str) -> Option<i64> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

/// As it was written.
impl fmt::Display for ImportedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The most characters a new username may have.
pub const MAX_USERNAME_CHARS: usize = 150;

/// A username in its one canonical form: outer white space dropped, then NFKC. Case counts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Username(String);

/// Why a new username is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUsername {
    /// Nothing but white space.
    #[error("a username needs at least one character")]
    Empty,
    /// Over [`MAX_USERNAME_CHARS`].
    #[error("a username has at most {MAX_USERNAME_CHARS} characters")]
    TooLong,
    /// A control, format or unassigned character, or a line or paragraph separator.
    #[error("a username may not hold control or invisible characters")]
    Invisible,
}

impl Username {
    /// The canonical form of what somebody typed, for look-up. Any text has one.
    pub fn canonical(typed: &str) -> Self {
        Self(typed.trim().nfkc().collect::<String>().trim().to_owned())
    }

    /// The canonical form, if it may be the name of a new user.
    pub fn for_new_user(typed: &str) -> Result<Self, BadUsername> {
        let name = Self::canonical(typed);
        if name.0.is_empty() {
            return Err(BadUsername::Empty);
        }
        if name.0.chars().count() > MAX_USERNAME_CHARS {
            return Err(BadUsername::TooLong);
        }
        if name.0.chars().any(is_invisible) {
            return Err(BadUsername::Invisible);
        }
        Ok(name)
    }

    /// A name that was canonical when it was stored.
    pub fn stored(name: String) -> Self {
        Self(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which two names that differ only in case are the same. Going up first makes
    /// `ß` and `ss`, or the two small sigmas, the same too.
    pub fn folded(&self) -> String {
        // Down before that: the capital `ẞ` stays what it is when it goes up.
        let lower = self.0.chars().flat_map(char::to_lowercase);
        let upper: String = lower.flat_map(char::to_uppercase).collect();
        upper.chars().flat_map(char::to_lowercase).nfkc().collect()
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_invisible(character: char) -> bool {
    // Letters and marks that are drawn as nothing although their category is visible.
    const BLANK: [char; 7] =
        ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{034f}', '\u{2800}', '\u{17b4}'];
    let variation_selector =
        matches!(character, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}');
    variation_selector
        || BLANK.contains(&character)
        || matches!(
            character.general_category(),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::Unassigned
                | GeneralCategory::PrivateUse
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
        )
}

/// A user as the store keeps it.
#[derive(Clone, Debug)]
pub struct User {
    /// Never reused.
    pub id: UserId,
    /// The id it had elsewhere, where that was no number.
    pub imported_id: Option<String>,
    /// Canonical.
    pub username: Username,
    /// May be empty; not unique.
    pub email: String,
    /// May be empty.
    pub first_name: String,
    /// May be empty.
    pub last_name: String,
    /// In the order they were given.
    pub roles: Vec<String>,
    /// Own claims that every token of the user carries.
    pub claims: Claims,
    /// Raised by whatever ends all of the user's sessions; `uep` in tokens.
    pub epoch: u64,
    /// Raised by every change of the password.
    pub password_version: u64,
    /// Set while the user may not log in.
    pub disabled_at: Option<Timestamp>,
    /// When the user was added.
    pub created_at: Timestamp,
    /// When all of its sessions were last ended.
    pub sessions_ended_at: Timestamp,
}

impl User {
    /// The id as the outside knows it: a number, or the imported text as it was.
    pub fn public_id(&self) -> Value {
        self.imported_id.as_ref().map_or_else(|| self.id.0.into(), |id| id.as_str().into())
    }

    /// The same as text: `sub`.
    pub fn subject(&self) -> String {
        self.imported_id.clone().unwrap_or_else(|| self.id.to_string())
    }
}

/// The most that tokens may say of one user beside its id. In base64, with a long imported id, 350 bytes of
/// other claims, the longest `iss` and `aud`, a header and the signature of an RSA key of 4,096 bits it is below
/// the 8 KiB that Passmint reads.
pub const MAX_TOKEN_PROFILE_BYTES: usize = 4_500;

/// Whether tokens of a user stay readable, whatever else they say.
pub fn fits_a_token(username: &str, email: &str, roles: &[String], claims: &Claims) -> bool {
    let roles = roles.iter().map(|role| escaped(role) + 3).sum::<usize>();
    let claims = in_ascii(&claims.to_json());
    escaped(username) + escaped(email) + roles + claims <= MAX_TOKEN_PROFILE_BYTES
}

/// Bytes of a text in JSON that is ASCII.
pub fn escaped(text: &str) -> usize {
    in_ascii(text) + text.matches(['"', '\\']).count()
}

/// Bytes of JSON where everything beyond ASCII is escaped: `\u…`, twice beyond the first plane.
fn in_ascii(json: &str) -> usize {
    json.chars().map(|c| if c.is_ascii() { 1 } else { 6 * c.len_utf16() }).sum()
}

/// A user together with the hash that a login is checked against.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who it is.
    pub user: User,
    /// What the password must match.
    pub hash: PasswordHash,
}

/// Names that a user's own claims may not take: those the server writes itself, and those that
/// clients of this API read as something else (contract section 0).
const RESERVED_CLAIMS: [&str; 22] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "gen",
    "uep",
    "roles",
    "user_id",
    "username",
    "email",
    "orig_iat",
    "token_type",
    "client_id",
    "scope",
    "access",
    "access_token",
    "first_name",
    "last_name",
];

/// Why an own claim is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadClaim {
    /// The server writes this one itself.
    #[error("`{0}` is a claim that Passmint writes itself; choose another name")]
    Reserved(String),
    /// Names are plain: letters, digits, `_`, `-`, `.`, `:`, `/`, at most 64.
    #[error("`{0}` is no name for a claim: use 1 to 64 letters, digits, `_`, `-`, `.`, `:` or `/`")]
    Name(String),
    /// All own claims together are too large for a header.
    #[error("the claims of one user may take at most 2048 bytes together")]
    TooLarge,
}

/// A user's own claims, in the order they were set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// From the JSON object the store keeps; anything else counts as none.
    pub fn from_json(json: &str) -> Self {
        Self(serde_json::from_str(json).unwrap_or_default())
    }

    /// As the JSON object the store keeps.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }

    /// Sets one claim; a JSON null takes it away.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), BadClaim> {
        const MAX_BYTES: usize = 2048;
        if RESERVED_CLAIMS.contains(&name) {
            return Err(BadClaim::Reserved(name.to_owned()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(BadClaim::Name(name.to_owned()));
        }
        if value.is_null() {
            self.0.shift_remove(name);
            return Ok(());
        }
        let before = self.0.insert(name.to_owned(), value);
        if self.to_json().len() > MAX_BYTES {
            match before {
                Some(value) => self.0.insert(name.to_owned(), value),
                None => self.0.shift_remove(name),
            };
            return Err(BadClaim::TooLarge);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_canonical_form() {
        assert_eq!(Username::canonical("  Ａsha\u{3000}").as_str(), "Asha");
        assert_ne!(Username::canonical("Asha"), Username::canonical("asha"));
        for spelling in ["STRASSE", "STRAẞE", "straSSe"] {
            let folded = Username::canonical(spelling).folded();
            assert_eq!(folded, Username::canonical("straße").folded(), "{spelling}");
        }
    }

    #[test]
    fn new_names_are_visible_and_bounded() {
        assert_eq!(Username::for_new_user(" \u{a0} "), Err(BadUsername::Empty));
        assert_eq!(Username::for_new_user(&"x".repeat(151)), Err(BadUsername::TooLong));
        for hidden in ["a\u{200b}b", "a\u{7}b", "a\u{202e}b", "a\u{feff}b", "a\u{3164}b", "a\nb"] {
            assert_eq!(Username::for_new_user(hidden), Err(BadUsername::Invisible), "{hidden:?}");
        }
        assert_eq!(Username::for_new_user(&"é".repeat(150)).map(|n| n.as_str().len()), Ok(300));
    }

    #[test]
    fn an_imported_id_leads_to_its_user_by_what_tokens_say() {
        assert_eq!(UserId::of_subject("42"), UserId(42));
        let uuid = "6f1c0de2-0f5f-4f0e-9c39-9f7b1f0a7a11";
        let id = ImportedId::read(uuid).user_id();
        assert!(id.0 < 0);
        assert_eq!(UserId::of_subject(uuid), id);
        for other in ["042", "-1", "", "1.0", "99999999999999999999"] {
            assert!(matches!(ImportedId::read(other), ImportedId::Text(_)), "{other}");
            assert!(UserId::of_subject(other).0 < 0, "{other}");
        }
    }

    #[test]
    fn characters_beyond_ascii_count_as_what_they_take_in_a_token() {
        let fits = |username: &str, role: &str| {
            fits_a_token(username, "", &vec![role.to_owned(); 31], &Claims::default())
        };
        assert!(fits("asha", &"r".repeat(64)));
        assert!(fits("asha", &"é".repeat(20)));
        assert!(!fits("asha", &"é".repeat(64)));
        assert!(!fits(&"🔑".repeat(150), &"é".repeat(20)));
        assert!(!fits("asha", &"\\\"".repeat(40)), "escaped, too");
    }

    #[test]
    fn reserved_claims_are_refused_and_null_removes() {
        let mut claims = Claims::default();
        assert_eq!(claims.set("uep", 1.into()), Err(BadClaim::Reserved("uep".into())));
        assert_eq!(claims.set("a b", 1.into()), Err(BadClaim::Name("a b".into())));
        claims.set("org_id", 7.into()).unwrap();
        assert_eq!(claims.set("big", "x".repeat(3000).into()), Err(BadClaim::TooLarge));
        assert_eq!(claims.to_json(), r#"{"org_id":7}"#);
        claims.set("org_id", Value::Null).unwrap();
        assert_eq!(claims.to_json(), "{}");
    }
}
