//! Verifying access tokens (contract sections 4 and 5). Reads the database only for tokens that another
//! service signed, the first time and once a minute, and in the first moments after a start.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest;
use passmint_verify::{Claims, Rejection, Rules};
use serde_json::json;

use super::TokenService;
use crate::crypto::key_ring::KeyRing;
use crate::domain::revocation::TokenSubject;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::UserId;
use crate::revocation::RevocationView;
use crate::service::{Failure, Parts};
use crate::telemetry::VerifyOutcome;

/// How long what the user table says of a foreign token's user is believed.
const LOOKED_UP_FOR: Duration = Duration::from_mins(1);

/// Why an access token is not accepted.
#[derive(Debug, thiserror::Error)]
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
    /// It cannot be decided now.
    #[error(transparent)]
    Undecided(#[from] Failure),
}

/// An access token that was found genuine.
#[derive(Debug)]
pub struct Verified {
    /// What it says; of a foreign one, its times and who its user is by this server's own table.
    pub claims: Claims,
    /// The part that revocation looks at.
    pub subject: TokenSubject,
    ring: u64,
    /// Of which settings, counted by their reloads.
    rules: u64,
    /// When the user of a foreign token was looked up (by the steady clock), and the newest ending of its
    /// sessions then.
    looked_up: Option<(Timestamp, Option<i64>)>,
}

impl TokenService {
    /// Whether `token` counts now. A token seen before is recognised by its SHA-256; the revocation
    /// view is asked every time.
    pub async fn verify(&self, token: &str) -> Result<Arc<Verified>, VerifyError> {
        let outcome = self.try_verify(token).await;
        let counted = match &outcome {
            Ok(_) => Some(VerifyOutcome::Valid),
            Err(VerifyError::Invalid) => Some(VerifyOutcome::Invalid),
            Err(VerifyError::Expired) => Some(VerifyOutcome::Expired),
            Err(VerifyError::Revoked) => Some(VerifyOutcome::Revoked),
            Err(VerifyError::Undecided(_)) => None,
        };
        if let Some(counted) = counted {
            self.parts.metrics.verification(counted);
        }
        outcome
    }

    /// Has every token checked anew: the rules may have changed.
    pub fn forget_known(&self) {
        // What is being checked by the old ones meanwhile is not recognised either.
        self.rules.fetch_add(1, Ordering::AcqRel);
        self.known.clear();
    }

    async fn try_verify(&self, token: &str) -> Result<Arc<Verified>, VerifyError> {
        if token.len() > passmint_verify::MAX_TOKEN_BYTES {
            return Err(VerifyError::Invalid);
        }
        let parts = &self.parts;
        let now = parts.clock.now();
        let ring = parts.ring.load();
        let rules = self.rules.load(Ordering::Acquire);
        let mut name = [0; 32];
        name.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let current = |known: &Arc<Verified>| known.ring == ring.version && known.rules == rules;
        let known = self.known.get(&name).filter(current);
        let verified = match known {
            Some(known) if known.claims.expires_at <= now.seconds() => {
                self.known.remove(&name);
                return Err(VerifyError::Expired);
            }
            Some(known) if self.is_up_to_date(&known) => known,
            _ => {
                let examined = self.examine(token, (&ring, rules), now)?;
                drop(ring);
                let verified = Arc::new(self.look_up(examined).await?);
                self.known.insert(name, Arc::clone(&verified));
                verified
            }
        };
        if parts.is_revoked(&verified.subject, now).await? {
            return Err(VerifyError::Revoked);
        }
        Ok(verified)
    }

    /// Whether what was looked up for a foreign token still holds.
    fn is_up_to_date(&self, verified: &Verified) -> bool {
        let Some((at, ending)) = verified.looked_up else { return true };
        let parts = &self.parts;
        let user = verified.subject.user;
        let newest = user.and_then(|user| parts.revocations.newest_ending(user));
        newest == ending && parts.clock.steady().since(at) < LOOKED_UP_FOR
    }

    fn examine(
        &self,
        token: &str,
        (ring, rules_version): (&KeyRing, u64),
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
        Ok(Verified { claims, subject, ring: ring.version, rules: rules_version, looked_up: None })
    }

    /// A token that another service signed says only who it is for. Whether that is a user of ours who may
    /// log in, its names and its roles are looked up; endings are judged by time, for such tokens know
    /// nothing of sessions and epochs.
    async fn look_up(&self, mut verified: Verified) -> Result<Verified, VerifyError> {
        if !verified.claims.foreign {
            return Ok(verified);
        }
        let parts = &self.parts;
        let id = verified.subject.user.ok_or(VerifyError::Invalid)?;
        let ending = parts.revocations.newest_ending(id);
        let looked_up_at = parts.clock.steady();
        let found = parts.store.credentials_of(id).await.map_err(Failure::from)?;
        let Some(user) = found.map(|credentials| credentials.user) else {
            return Err(if ending.is_some() { VerifyError::Revoked } else { VerifyError::Invalid });
        };
        let ended = user.sessions_ended_at.seconds();
        if user.disabled_at.is_some() || (ended > 0 && verified.claims.issued_at <= ended) {
            return Err(VerifyError::Revoked);
        }
        let claims = &mut verified.claims;
        claims.json = json!({
            "sub": user.subject(),
            "iat": claims.issued_at,
            "exp": claims.expires_at,
            "roles": user.roles,
            "user_id": user.public_id(),
            "username": user.username.as_str(),
            "email": user.email,
        })
        .to_string();
        claims.subject = user.subject();
        claims.username = user.username.to_string();
        claims.email = user.email;
        claims.roles = user.roles;
        // What was ended before it was issued does not concern it.
        verified.subject.user_epoch = user.epoch;
        verified.looked_up = Some((looked_up_at, ending));
        Ok(verified)
    }
}

impl Parts {
    /// Whether the session's own row says that a token is ended: for a clock that was set back behind the
    /// last sweep, where the view does not know. In doubt it is.
    async fn is_ended_by_its_row(&self, token: &TokenSubject) -> Result<bool, Failure> {
        // Foreign tokens have no session; they were judged by their user's row.
        let Some(id) = token.session else { return Ok(false) };
        let Some((session, Some(user))) = self.store.session(id).await? else { return Ok(true) };
        let of_another_epoch = session.epoch.is_some_and(|epoch| epoch != user.epoch);
        let generations_end = self.settings.load().sessions.end_access_token_on_refresh;
        let of_an_old_one = generations_end && token.generation < session.generation;
        Ok(session.ended.is_some() || of_another_epoch || of_an_old_one)
    }

    /// Asks the view, or in the first moments of a long start the table that it is filled from.
    pub(in crate::service) async fn is_revoked(
        &self,
        token: &TokenSubject,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        if self.revocations.is_revoked(token, now) {
            return Ok(true);
        }
        if !self.revocations.is_complete_at(now) {
            return self.is_ended_by_its_row(token).await;
        }
        if self.revocations.is_loaded() {
            return Ok(false);
        }
        let view = RevocationView::default();
        view.apply(&self.store.revocations_about(token.user, token.session).await?, now);
        Ok(view.is_revoked(token, now))
    }
}
