//! Exchanging refresh tokens (contract sections 2 and 3).

use std::net::IpAddr;
use std::time::Duration;

use super::issue::Issuer;
use super::{Pair, TokenService, VerifyError};
use crate::crypto::random;
use crate::crypto::refresh_token::RefreshToken;
use crate::domain::audit::Actor;
use crate::domain::session::SessionId;
use crate::service::Failure;
use crate::store::{Lineage, RotateRefresh, Rotation};
use crate::telemetry::RefreshOutcome;

/// How long after a session began its access tokens may be renewed by themselves
/// (`sessions.refresh_with_access_token`), as the original's first version allowed.
const RENEWABLE_FOR: Duration = Duration::from_hours(168);

/// Why a refresh gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Not a live refresh token of ours.
    #[error("the refresh token is refused")]
    Refused,
    /// Genuine, past its lifetime.
    #[error("the refresh token has expired")]
    Expired,
    /// As it says.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl TokenService {
    /// Exchanges a refresh token (contract section 3, the table of answers).
    pub async fn refresh(
        &self,
        token: &str,
        address: Option<IpAddr>,
    ) -> Result<Pair, RefreshError> {
        let outcome = self.try_refresh(token, address).await;
        // What the store decided is counted there.
        let counted = match &outcome {
            Err(RefreshError::Failed(_)) => Some(RefreshOutcome::Failed),
            Err(RefreshError::Expired) => Some(RefreshOutcome::Expired),
            _ => None,
        };
        if let Some(counted) = counted {
            self.parts.metrics.refresh(counted);
        }
        outcome
    }

    async fn try_refresh(&self, text: &str, address: Option<IpAddr>) -> Result<Pair, RefreshError> {
        let parts = &self.parts;
        let in_use = parts.keys_in_use.read().await;
        let issuer = Issuer { ring: parts.ring.load_full(), config: parts.settings.load_full() };
        let token = RefreshToken::decode(text, |number| issuer.ring.refresh(number));
        let Some(token) = token else {
            parts.metrics.refresh(RefreshOutcome::Refused);
            return Err(RefreshError::Refused);
        };
        if parts.clock.now() >= token.expires_at {
            return Err(RefreshError::Expired);
        }
        let executed = parts
            .store
            .rotate_refresh(RotateRefresh {
                session: token.session,
                generation: token.generation,
                issued_at: token.issued_at,
                secret_hash: token.secret.hash(),
                refresh_key: issuer.ring.refresh_key,
                address,
                policy: issuer.config.sessions.policy(),
                by: parts.by(Actor::Nobody),
            })
            .await
            .map_err(Failure::from)?;
        drop(in_use);
        // Signed while the commit is under way; nobody sees it before that is done.
        let pair = match executed.peek() {
            Rotation::Rotated(lineage) => {
                Some(issuer.pair(lineage, &token.secret, lineage.session.rotated_at))
            }
            Rotation::Replayed(lineage) => {
                Some(issuer.pair(lineage, &token.secret, parts.clock.now()))
            }
            _ => None,
        };
        let outcome = executed.committed().await.map_err(Failure::from)?;
        self.note_rotation(&outcome, token.session);
        match outcome {
            Rotation::Expired => Err(RefreshError::Expired),
            _ => Ok(pair.ok_or(RefreshError::Refused)??),
        }
    }

    /// Counts what became of a refresh token, and says aloud what an operator should hear.
    fn note_rotation(&self, outcome: &Rotation, session: SessionId) {
        let metrics = &self.parts.metrics;
        match outcome {
            Rotation::Rotated(_) => metrics.refresh(RefreshOutcome::Rotated),
            Rotation::Replayed(_) => metrics.refresh(RefreshOutcome::Replayed),
            Rotation::Reused => {
                tracing::warn!(%session, "a replaced refresh token was used again: session ended");
                metrics.refresh(RefreshOutcome::ReuseDetected);
            }
            Rotation::StateLost => {
                tracing::error!(
                    %session,
                    "a refresh token is newer than the database: the database lost commits, was an \
                     old copy put back? The session was ended"
                );
                metrics.refresh(RefreshOutcome::StateLost);
            }
            Rotation::Dead => metrics.refresh(RefreshOutcome::Refused),
            // Counted by its error.
            Rotation::Expired => {}
        }
    }

    /// Renews an unexpired access token of a live session without its refresh token, until seven
    /// days after the session began (`sessions.refresh_with_access_token`).
    pub async fn renew_access_token(&self, token: &str) -> Result<String, RefreshError> {
        let parts = &self.parts;
        let verified = self.verify(token).await.map_err(|error| match error {
            VerifyError::Expired => RefreshError::Expired,
            VerifyError::Invalid | VerifyError::Revoked => RefreshError::Refused,
            VerifyError::Undecided(failure) => RefreshError::Failed(failure),
        })?;
        let session = verified.subject.session.ok_or(RefreshError::Refused)?;
        let found = parts.store.session(session).await.map_err(Failure::from)?;
        let (session, user) = found.ok_or(RefreshError::Refused)?;
        let user = user.ok_or(RefreshError::Refused)?;
        // Session and user are of one moment; what ended all sessions since raised the user's epoch.
        let of_another_epoch = session.epoch.is_some_and(|epoch| epoch != user.epoch);
        if session.ended.is_some() || user.disabled_at.is_some() || of_another_epoch {
            return Err(RefreshError::Refused);
        }
        let now = parts.clock.now();
        if now > session.created_at.plus(RENEWABLE_FOR) || now >= session.refresh_expires_at {
            return Err(RefreshError::Expired);
        }
        let id = random::bytes::<16>().map_err(Failure::internal)?;
        let id = format!("{:032x}", u128::from_be_bytes(id));
        let lineage = Lineage { session, user };
        parts.store.note_issue(now).await.map_err(Failure::from)?;
        let issuer = Issuer { ring: parts.ring.load_full(), config: parts.settings.load_full() };
        let (token, _) = issuer.access_token(&lineage, &id, now)?;
        Ok(token)
    }
}
