//! Making tokens from a lineage: pure but for the signature.

use std::sync::Arc;

use super::Pair;
use crate::config::Config;
use crate::crypto::access_token::AccessClaims;
use crate::crypto::key_ring::KeyRing;
use crate::crypto::refresh_token::{RefreshToken, SessionSecret};
use crate::domain::time::Timestamp;
use crate::service::Failure;
use crate::store::Lineage;

/// The keys and settings of one request: both stay the same while it is answered.
pub(super) struct Issuer {
    pub(super) ring: Arc<KeyRing>,
    pub(super) config: Arc<Config>,
}

impl Issuer {
    /// The pair of the lineage's current generation; `now` is only for the seconds that are left.
    pub(super) fn pair(
        &self,
        lineage: &Lineage,
        secret: &SessionSecret,
        now: Timestamp,
    ) -> Result<Pair, Failure> {
        let session = &lineage.session;
        let id = secret.token_id(session.id, session.generation);
        let (token, expires_at) = self.access_token(lineage, &id, session.rotated_at)?;
        let key = self
            .ring
            .refresh(session.refresh_key)
            .ok_or_else(|| Failure::internal("the session's refresh key is gone"))?;
        let refresh_token = RefreshToken {
            key: session.refresh_key,
            session: session.id,
            generation: session.generation,
            issued_at: session.rotated_at,
            expires_at: session.refresh_expires_at,
            secret: secret.clone(),
        };
        Ok(Pair {
            token,
            refresh_token: refresh_token.encode(key),
            // A repeated answer may come after that, where tokens live shorter than the reuse interval.
            expires_in: (expires_at - now.seconds()).max(0),
            refresh_expires_in: session.refresh_expires_at.seconds() - now.seconds(),
        })
    }

    /// An access token of the lineage's current generation and its `exp`. It does not outlive the
    /// session's `max_lifetime`.
    pub(super) fn access_token(
        &self,
        lineage: &Lineage,
        id: &str,
        issued_at: Timestamp,
    ) -> Result<(String, i64), Failure> {
        let config = &self.config;
        let session = &lineage.session;
        let end = session.created_at.plus(config.sessions.max_lifetime);
        let expires_at = issued_at.plus(config.tokens.access_lifetime).min(end).seconds();
        let claims = AccessClaims {
            issuer: &config.server.issuer,
            audience: config.tokens.audience.as_deref(),
            user: &lineage.user,
            session: session.id,
            generation: session.generation,
            id,
            issued_at,
            expires_at,
            session_began_at: session.created_at,
        };
        let json = claims.to_json().map_err(Failure::internal)?;
        let token = self.ring.signing.sign(&json).map_err(Failure::internal)?;
        Ok((token, expires_at))
    }
}
