//! Refresh tokens: derived, not drawn (contract section 3).
//!
//! `pmr1_` + base64url of fixed-width fields and an HMAC-SHA-256 over them + 8 hex digits of a
//! CRC-32 over the text before. Prefix and checksum let secret scanners recognise a leaked one. The
//! session secret inside is drawn once at login and kept nowhere else, so that neither the database
//! nor the server key, nor both, can make a token. The time of issue is there so that a session row
//! needs but one anchor to tell a late retry from theft.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;

use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;

/// What every refresh token begins with.
pub const PREFIX: &str = "pmr1_";
/// key 4, session 16, generation 4, issued 8, expiry 8, secret 16.
const FIELDS: usize = 56;
const MAC: usize = 32;
/// The MAC also says what it is for, so that no other use of a key can be turned into a token.
const PURPOSE: &[u8] = b"passmint refresh token 1\0";

/// The session's own secret. Never stored; only its SHA-256 is.
#[derive(Clone)]
pub struct SessionSecret([u8; 16]);

impl SessionSecret {
    /// From 16 random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What the session's row keeps.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        hash
    }

    /// The `jti` of the access token of a generation: the same each time the pair is given again.
    pub fn token_id(&self, session: SessionId, generation: u32) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&key);
        context.update(b"passmint jti\0");
        context.update(&session.0);
        context.update(&generation.to_be_bytes());
        let mut id = HEXLOWER.encode(context.sign().as_ref());
        id.truncate(32);
        id
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// What a refresh token says.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    /// The refresh key that authenticates it.
    pub key: u32,
    /// Its session.
    pub session: SessionId,
    /// Its generation.
    pub generation: u32,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it runs out.
    pub expires_at: Timestamp,
    /// The session's secret.
    pub secret: SessionSecret,
}

impl RefreshToken {
    /// The token as its holder gets it, authenticated with `key`.
    pub fn encode(&self, key: &hmac::Key) -> String {
        let mut bytes = Vec::with_capacity(FIELDS + MAC);
        bytes.extend_from_slice(&self.key.to_be_bytes());
        bytes.extend_from_slice(&self.session.0);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.issued_at.micros().to_be_bytes());
        bytes.extend_from_slice(&self.expires_at.micros().to_be_bytes());
        bytes.extend_from_slice(&self.secret.0);
        let tag = authenticate(key, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        let checksum = crc32fast::hash(text.as_bytes());
        format!("{text}{checksum:08x}")
    }

    /// Reads a token strictly and checks its MAC with the key it names. `None` is all that a caller
    /// learns about a token that is not genuine.
    pub fn decode<'k>(text: &str, key: impl FnOnce(u32) -> Option<&'k hmac::Key>) -> Option<Self> {
        let body = text.len().checked_sub(8).and_then(|end| text.split_at_checked(end));
        let (body, checksum) = body?;
        if checksum != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(body.strip_prefix(PREFIX)?).ok()?;
        let (fields, mac) = bytes.split_at_checked(FIELDS)?;
        let mut rest = fields;
        let token = Self {
            key: u32::from_be_bytes(take(&mut rest)?),
            session: SessionId(take(&mut rest)?),
            generation: u32::from_be_bytes(take(&mut rest)?),
            issued_at: Timestamp::from_micros(i64::from_be_bytes(take(&mut rest)?)),
            expires_at: Timestamp::from_micros(i64::from_be_bytes(take(&mut rest)?)),
            secret: SessionSecret(take(&mut rest)?),
        };
        let expected = authenticate(key(token.key)?, fields);
        constant_time::verify_slices_are_equal(expected.as_ref(), mac).ok()?;
        Some(token)
    }
}

fn authenticate(key: &hmac::Key, fields: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(PURPOSE);
    context.update(fields);
    context.sign()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[9; 32])
    }

    fn token() -> RefreshToken {
        RefreshToken {
            key: 3,
            session: SessionId([5; 16]),
            generation: 7,
            issued_at: Timestamp::from_micros(1_000_000),
            expires_at: Timestamp::from_micros(2_000_000),
            secret: SessionSecret::new([6; 16]),
        }
    }

    #[test]
    fn a_token_says_what_was_put_into_it() {
        let key = key();
        let text = token().encode(&key);
        let read = RefreshToken::decode(&text, |number| (number == 3).then_some(&key)).unwrap();
        assert_eq!(
            (read.session, read.generation, read.secret.0),
            (SessionId([5; 16]), 7, [6; 16])
        );
        assert!(RefreshToken::decode(&text, |_| None).is_none());
    }

    #[test]
    fn what_is_derived_from_a_sessions_secret_is_its_own() {
        let [one, other] = [6, 7].map(|byte| SessionSecret::new([byte; 16]));
        let sha256 = "344676f277e8e49a34ac18103730d162";
        assert_eq!(HEXLOWER.encode(&one.hash()[..16]), sha256);
        assert_ne!(one.hash(), other.hash());
        let [session, strange] = [5, 4].map(|byte| SessionId([byte; 16]));
        let id = one.token_id(session, 7);
        assert_eq!(id.len(), 32);
        assert_eq!(id, one.token_id(session, 7));
        let others =
            [one.token_id(session, 8), one.token_id(strange, 7), other.token_id(session, 7)];
        assert!(!others.contains(&id), "{others:?}");
        assert!(!format!("{:?}", token()).contains("6, 6"), "a secret is shown");
    }

    #[test]
    fn every_changed_character_makes_it_invalid() {
        let key = key();
        let text = token().encode(&key);
        for position in 0..text.len() {
            for replacement in ["A", "_", "=", "\u{e9}", ""] {
                let mut changed = text.clone();
                changed.replace_range(position..=position, replacement);
                if changed != text {
                    assert!(RefreshToken::decode(&changed, |_| Some(&key)).is_none(), "{changed}");
                }
            }
        }
    }

    #[test]
    fn a_right_checksum_does_not_replace_the_mac() {
        let (key, other) = (key(), hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]));
        let forged = token().encode(&other);
        assert!(RefreshToken::decode(&forged, |_| Some(&key)).is_none());
    }

    #[test]
    fn truncated_and_padded_tokens_are_invalid() {
        let key = key();
        let text = token().encode(&key);
        for end in 0..text.len() {
            assert!(RefreshToken::decode(&text[..end], |_| Some(&key)).is_none());
        }
        for padded in [format!(" {text}"), format!("{text} "), format!("{text}=")] {
            assert!(RefreshToken::decode(&padded, |_| Some(&key)).is_none());
        }
    }
}
