//! The key ring: every key in use, parsed; immutable, and swapped whole.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use passmint_verify::{JwkSet, KeySet};

use super::signing_key::SigningKey;
use crate::domain::user::Username;

/// All keys at one moment.
pub struct KeyRing {
    /// Counts the rings of this process: a verified token is believed again only within one.
    pub version: u64,
    /// Signs new tokens.
    pub signing: SigningKey,
    /// Checks tokens.
    pub verifying: KeySet,
    /// The public keys, as `/.well-known/jwks.json` serves them.
    pub jwks: Arc<[u8]>,
    /// Authenticates new refresh tokens.
    pub refresh_key: u32,
    /// All refresh keys.
    pub refresh_keys: HashMap<u32, hmac::Key>,
    /// Makes digests of usernames.
    pub digest_key: hmac::Key,
}

impl KeyRing {
    /// The refresh key of that number.
    pub fn refresh(&self, number: u32) -> Option<&hmac::Key> {
        self.refresh_keys.get(&number)
    }

    /// A keyed digest of a username: the same for the same name for as long as the key lives, and of
    /// no use to anybody without the key.
    pub fn account(&self, name: &Username) -> u64 {
        let tag = hmac::sign(&self.digest_key, name.as_str().as_bytes());
        tag.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The JWK set as JSON.
pub fn jwks_json(set: &JwkSet) -> Arc<[u8]> {
    serde_json::to_vec(set).unwrap_or_else(|_| br#"{"keys":[]}"#.to_vec()).into()
}
