//! Verifying access tokens (contract sections 4 and 5). Never reads the database.

use std::sync::Arc;

use aws_lc_rs::digest;
use passmint_verify::{Claims, Rejection, Rules};

use super::TokenService;
use crate::crypto::key_ring::KeyRing;
use crate::domain::revocation::TokenSubject;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::UserId;
use crate::telemetry::VerifyOutcome;

/// Why an access token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not one of ours.
    #[error("not a valid token")]
    Invalid,
    /// Genuine, past its `exp`.
    #[error("the token has expired")]
    Expired,
    /// Genuine, but its session or user is ended.
    #[error("the token has been revoked")]
    Revoked,
}

/// An access token that was found genuine.
#[derive(Debug)]
pub struct Verified {
    /// What it says.
    pub claims: Claims,
    /// The part that revocation looks at.
    pub subject: TokenSubject,
    ring: u64,
}

impl TokenService {
    /// Whether `token` counts now. A token seen before is recognised by its SHA-256; the revocation
    /// view is asked every time. Never reads the database.
    pub fn verify(&self, token: &str) -> Result<Arc<Verified>, VerifyError> {
        let outcome = self.try_verify(token);
        self.parts.metrics.verification(match &outcome {
            Ok(_) => VerifyOutcome::Valid,
            Err(VerifyError::Invalid) => VerifyOutcome::Invalid,
            Err(VerifyError::Expired) => VerifyOutcome::Expired,
            Err(VerifyError::Revoked) => VerifyOutcome::Revoked,
        });
        outcome
    }

    /// Has every token checked anew: the rules may have changed.
    pub fn forget_known(&self) {
        self.known.clear();
    }

    fn try_verify(&self, token: &str) -> Result<Arc<Verified>, VerifyError> {
        if token.len() > passmint_verify::MAX_TOKEN_BYTES {
            return Err(VerifyError::Invalid);
        }
        let parts = &self.parts;
        let now = parts.clock.now();
        let ring = parts.ring.load();
        let mut name = [0; 32];
        name.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let known = self.known.get(&name).filter(|known| known.ring == ring.version);
        let verified = match known {
            Some(known) if known.claims.expires_at > now.seconds() => known,
            Some(_) => {
                self.known.remove(&name);
                return Err(VerifyError::Expired);
            }
            None => {
                let verified = Arc::new(self.examine(token, &ring, now)?);
                self.known.insert(name, Arc::clone(&verified));
                verified
            }
        };
        if parts.revocations.is_revoked(&verified.subject, now) {
            return Err(VerifyError::Revoked);
        }
        Ok(verified)
    }

    fn examine(
        &self,
        token: &str,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<Verified, VerifyError> {
        let config = self.parts.settings.load();
        let lifetime = config.tokens.access_lifetime.as_secs();
        let rules = Rules {
            issuer: config.server.issuer.clone(),
            audience: config.tokens.audience.clone(),
            max_lifetime: i64::try_from(lifetime).unwrap_or(i64::MAX),
        };
        let claims = passmint_verify::verify(token, &ring.verifying, &rules, now.seconds())
            .map_err(|rejection| match rejection {
                Rejection::Expired => VerifyError::Expired,
                Rejection::Invalid(why) => {
                    tracing::debug!(why, "token refused");
                    VerifyError::Invalid
                }
            })?;
        let session = match claims.session.as_deref().map(SessionId::parse) {
            Some(None) => return Err(VerifyError::Invalid),
            Some(Some(id)) => Some(id),
            None => None,
        };
        let subject = TokenSubject {
            user: Some(UserId::of_subject(&claims.subject)),
            session,
            generation: claims.generation,
            user_epoch: claims.user_epoch,
        };
        Ok(Verified { claims, subject, ring: ring.version })
    }
}
