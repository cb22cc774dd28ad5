//! Tokens: logging in, refreshing, verifying (contract sections 1 to 5).

mod issue;
mod known;
mod login;
mod refresh;
mod repeat;
mod verified;
mod verify;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{Failure, Parts};
use crate::crypto::refresh_token::RefreshToken;
use crate::domain::session::SessionId;
use crate::domain::user::User;

pub use self::login::{Login, LoginError};
pub use self::refresh::RefreshError;
pub use self::verified::{Names, Verified};
pub use self::verify::VerifyError;

use self::known::KnownTokens;
use self::repeat::Repeats;
use self::verify::ForeignTokens;

/// An access token with its refresh token.
#[derive(Debug)]
pub struct Pair {
    /// The access token.
    pub token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// Seconds the access token still lives.
    pub expires_in: i64,
    /// Seconds the refresh token still lives.
    pub refresh_expires_in: i64,
}

/// Gives out and checks tokens.
#[derive(Clone)]
pub struct TokenService {
    parts: Arc<Parts>,
    known: Arc<KnownTokens>,
    foreign: Arc<ForeignTokens>,
    /// How often the settings that tokens are checked by have changed.
    rules: Arc<AtomicU64>,
    repeats: Arc<Repeats>,
}

impl TokenService {
    /// Made of `parts`.
    pub fn new(parts: Arc<Parts>) -> Self {
        Self {
            parts,
            known: Arc::default(),
            foreign: Arc::default(),
            rules: Arc::default(),
            repeats: Arc::default(),
        }
    }

    /// The live user behind a verified token, from the store.
    pub async fn user_of(&self, verified: &Verified) -> Result<Option<User>, Failure> {
        let Some(id) = verified.subject.user else {
            return Ok(None);
        };
        let found = self.parts.store.credentials_of(id).await?;
        Ok(found.map(|credentials| credentials.user).filter(|user| user.disabled_at.is_none()))
    }

    /// The session of a genuine refresh token, expired or not; `None` for anything else.
    pub fn session_of_refresh_token(&self, token: &str) -> Option<SessionId> {
        let ring = self.parts.ring.load();
        RefreshToken::decode(token, |number| ring.refresh(number)).map(|token| token.session)
    }
}
