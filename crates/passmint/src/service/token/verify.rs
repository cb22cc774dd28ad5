//! Verifying access tokens (contract sections 4 and 5). Reads the database only for tokens that another
//! service signed, the first time and once a minute, and in the first moments after a start.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use passmint_verify::{Claims, Rejection, Rules};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::json;

use super::TokenService;
use super::known::{Basis, TokenDigest};
use super::verified::{LookedUp, Verified};
use crate::crypto::key_ring::KeyRing;
use crate::domain::revocation::TokenSubject;
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

/// Tokens that another service signed, with what the user table says of their users.
pub(super) struct ForeignTokens(Cache<String, (Basis, Arc<Verified>), Bytes>);

/// The most bytes of foreign tokens that are remembered.
const MAX_FOREIGN_BYTES: u64 = 16 * 1024 * 1024;
/// How many of them to expect.
const FOREIGN_TOKENS: usize = 8_192;

#[derive(Clone)]
struct Bytes;

impl Weighter<String, (Basis, Arc<Verified>)> for Bytes {
    fn weight(&self, token: &String, (_, verified): &(Basis, Arc<Verified>)) -> u64 {
        // What stands in the JSON stands in the names, too.
        let json = verified.foreign.as_ref().map_or(0, |looked_up| looked_up.json.len());
        (512 + token.len() + 2 * json) as u64
    }
}

impl Default for ForeignTokens {
    fn default() -> Self {
        Self(Cache::with_weighter(FOREIGN_TOKENS, MAX_FOREIGN_BYTES, Bytes))
    }
}

impl TokenService {
    /// Whether `token` counts now. A token seen before is recognised by a digest; the revocation view is
    /// asked every time.
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
    }

    async fn try_verify(&self, token: &str) -> Result<Arc<Verified>, VerifyError> {
        if token.len() > passmint_verify::MAX_TOKEN_BYTES {
            return Err(VerifyError::Invalid);
        }
        let parts = &self.parts;
        let now = parts.clock.now();
        let digest = TokenDigest::of(token);
        let verified = match self.recognise(token, digest) {
            Some(known) => known,
            None => self.examine(token, digest, now).await?,
        };
        if verified.expires_at <= now.seconds() {
            return Err(VerifyError::Expired);
        }
        if parts.is_revoked(&verified.subject, now).await? {
            return Err(VerifyError::Revoked);
        }
        Ok(verified)
    }

    /// A token that was found genuine before by the keys and rules that count now.
    fn recognise(&self, token: &str, digest: TokenDigest) -> Option<Arc<Verified>> {
        let basis = self.basis(&self.parts.ring.load());
        if self.known.contains(digest, basis) {
            return Verified::of_known(token).map(Arc::new);
        }
        let (of, verified) = self.foreign.0.get(token)?;
        (of == basis && self.is_up_to_date(&verified)).then_some(verified)
    }

    /// Checks a token by its keys, and remembers a genuine one.
    async fn examine(
        &self,
        token: &str,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Arc<Verified>, VerifyError> {
        let (claims, basis) = {
            let ring = self.parts.ring.load();
            // Before the rules are read: when they change meanwhile, the token is checked again.
            let basis = self.basis(&ring);
            (self.checked(token, &ring, now)?, basis)
        };
        if claims.foreign {
            let verified = Arc::new(self.look_up(claims).await?);
            self.foreign.0.insert(token.to_owned(), (basis, Arc::clone(&verified)));
            return Ok(verified);
        }
        let verified = Verified::of(&claims, None)?;
        let most = self.parts.settings.load().tokens.cache_mib as usize * 1024 * 1024;
        self.known.insert(digest.expiring_at(verified.expires_at), basis, now.seconds(), most);
        Ok(Arc::new(verified))
    }

    /// What a token is checked by now.
    fn basis(&self, ring: &KeyRing) -> Basis {
        Basis { ring: ring.version, rules: self.rules.load(Ordering::Acquire) }
    }

    /// Whether what was looked up for a foreign token still holds.
    fn is_up_to_date(&self, verified: &Verified) -> bool {
        let Some(looked_up) = &verified.foreign else { return true };
        let parts = &self.parts;
        let user = verified.subject.user;
        let newest = user.and_then(|user| parts.revocations.newest_ending(user));
        let age = parts.clock.steady().since(looked_up.at);
        newest == looked_up.ending && age < LOOKED_UP_FOR
    }

    fn checked(&self, token: &str, ring: &KeyRing, now: Timestamp) -> Result<Claims, VerifyError> {
        let config = self.parts.settings.load();
        let lifetime = config.tokens.access_lifetime.as_secs();
        let rules = Rules {
            issuer: config.server.issuer.clone(),
            audience: config.tokens.audience.clone(),
            max_lifetime: i64::try_from(lifetime).unwrap_or(i64::MAX),
        };
        let checked = passmint_verify::verify(token, &ring.verifying, &rules, now.seconds());
        checked.map_err(|rejection| match rejection {
            Rejection::Expired => VerifyError::Expired,
            Rejection::Invalid(why) => {
                tracing::debug!(why, "token refused");
                VerifyError::Invalid
            }
        })
    }

    /// A token that another service signed says only who it is for. Whether that is a user of ours who may
    /// log in, its names and its roles are looked up; endings are judged by time, for such tokens know
    /// nothing of sessions and epochs.
    async fn look_up(&self, mut claims: Claims) -> Result<Verified, VerifyError> {
        let parts = &self.parts;
        let id = UserId::of_subject(&claims.subject);
        let ending = parts.revocations.newest_ending(id);
        let at = parts.clock.steady();
        let found = parts.store.credentials_of(id).await.map_err(Failure::from)?;
        let Some(user) = found.map(|credentials| credentials.user) else {
            return Err(if ending.is_some() { VerifyError::Revoked } else { VerifyError::Invalid });
        };
        let ended = user.sessions_ended_at.seconds();
        if user.disabled_at.is_some() || (ended > 0 && claims.issued_at <= ended) {
            return Err(VerifyError::Revoked);
        }
        let json = json!({
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
        claims.user_epoch = user.epoch;
        Verified::of(&claims, Some(LookedUp { at, ending, json }))
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
