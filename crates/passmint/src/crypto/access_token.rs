//! The claims of an access token, in the contract's order (section 5).

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

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
    /// As compact JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
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
