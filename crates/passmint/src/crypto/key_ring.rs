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
        tag.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
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

#[cfg(test)]
mod tests {
    use passmint_verify::Algorithm;

    use super::super::signing_key::generate;
    use super::*;

    fn ring(digest_secret: u8) -> KeyRing {
        let key = |byte: u8| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
        let made = generate(Algorithm::EdDsa).unwrap();
        KeyRing {
            version: 3,
            signing: SigningKey::new(Algorithm::EdDsa, made.kid, made.secret.expose()).unwrap(),
            verifying: KeySet::default(),
            jwks: jwks_json(&JwkSet::default()),
            refresh_key: 2,
            refresh_keys: HashMap::from([(2, key(2))]),
            digest_key: key(digest_secret),
        }
    }

    #[test]
    fn a_digest_of_a_name_depends_on_the_name_and_the_key() {
        let name = |text: &str| Username::canonical(text);
        let (one, other) = (ring(1), ring(9));
        let digest = one.account(&name("a.buyer"));
        // The first eight bytes of the HMAC-SHA-256, as a number.
        let tag = hmac::sign(&one.digest_key, b"a.buyer");
        assert_eq!(digest.to_be_bytes(), tag.as_ref()[..8]);
        assert_ne!(digest, one.account(&name("a.seller")));
        assert_ne!(digest, other.account(&name("a.buyer")));
    }

    #[test]
    fn refresh_keys_are_found_by_number_and_nothing_is_shown_of_them() {
        let ring = ring(1);
        assert!(ring.refresh(2).is_some() && ring.refresh(1).is_none());
        assert_eq!(format!("{ring:?}"), "KeyRing { version: 3, .. }");
    }
}
