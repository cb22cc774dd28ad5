//! The claims of an access token, in the contract's order (section 5).

use std::io;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::ser::Formatter;

use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::User;

/// All that an access token says.
pub struct AccessClaims<'a> {
    /// `iss`
    pub issuer: &'a str,
    /// `aud`
    pub audience: Option<&'a str>,
    /// Whose token it is.
    pub user: &'a User,
    /// `sid`
    pub session: SessionId,
    /// `gen`
    pub generation: u32,
    /// `jti`
    pub id: &'a str,
    /// `iat`
    pub issued_at: Timestamp,
    /// `exp`, in whole seconds.
    pub expires_at: i64,
    /// `orig_iat`
    pub session_began_at: Timestamp,
}

impl AccessClaims<'_> {
    /// As compact JSON in ASCII.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = Vec::with_capacity(512);
        self.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Ascii))?;
        Ok(json)
    }
}

/// Compact JSON in which every character beyond ASCII is escaped (RFC 8259 section 7), as the original's
/// library writes it.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if character.is_ascii() {
                writer.write_all(&[character as u8])?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for AccessClaims<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let user = self.user;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("iss", self.issuer)?;
        map.serialize_entry("sub", &user.subject())?;
        if let Some(audience) = self.audience {
            map.serialize_entry("aud", audience)?;
        }
        map.serialize_entry("iat", &self.issued_at.seconds())?;
        map.serialize_entry("exp", &self.expires_at)?;
        map.serialize_entry("jti", self.id)?;
        map.serialize_entry("sid", &self.session.to_string())?;
        map.serialize_entry("gen", &self.generation)?;
        map.serialize_entry("uep", &user.epoch)?;
        map.serialize_entry("roles", &user.roles)?;
        map.serialize_entry("user_id", &user.public_id())?;
        map.serialize_entry("username", user.username.as_str())?;
        map.serialize_entry("email", &user.email)?;
        map.serialize_entry("orig_iat", &self.session_began_at.seconds())?;
        map.serialize_entry("token_type", "access")?;
        for (name, value) in user.claims.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::user::{Claims, UserId, Username};

    #[test]
    fn what_is_beyond_ascii_is_escaped_as_in_the_original() {
        let mut claims = Claims::default();
        claims.set("city", "पुणे".into()).unwrap();
        let user = User {
            id: UserId(7),
            imported_id: None,
            username: Username::stored("zoë 🔑".to_owned()),
            email: "\"é\"@x.example".to_owned(),
            first_name: String::new(),
            last_name: String::new(),
            roles: vec!["größer".to_owned()],
            claims,
            epoch: 0,
            password_version: 0,
            disabled_at: None,
            created_at: Timestamp::from_micros(0),
            sessions_ended_at: Timestamp::from_micros(0),
        };
        let json = AccessClaims {
            issuer: "passmint",
            audience: None,
            user: &user,
            session: SessionId::new(Timestamp::from_micros(0), &[0; 10]),
            generation: 0,
            id: "id",
            issued_at: Timestamp::from_micros(0),
            expires_at: 1,
            session_began_at: Timestamp::from_micros(0),
        }
        .to_json()
        .unwrap();
        let text = std::str::from_utf8(&json).unwrap();
        assert!(text.is_ascii());
        for written in [
            r#""roles":["gr\u00f6\u00dfer"]"#,
            r#""username":"zo\u00eb \ud83d\udd11""#,
            r#""email":"\"\u00e9\"@x.example""#,
            r#""city":"\u092a\u0941\u0923\u0947""#,
        ] {
            assert!(text.contains(written), "{written} in {text}");
        }
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(read["username"], "zoë 🔑");
    }
}
