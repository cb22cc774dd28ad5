//! Logging in (contract section 1): throttle, password, session.

use std::net::IpAddr;

use super::issue::Issuer;
use super::repeat::Granted;
use super::{Pair, TokenService};
use crate::crypto::hasher::{AnswerTime, NotHashed, Overloaded, Verification};
use crate::crypto::random;
use crate::crypto::refresh_token::SessionSecret;
use crate::domain::audit::{Actor, AuditEvent, AuditKind};
use crate::domain::secret::{Password, PasswordHash};
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::{UserId, Username};
use crate::service::Failure;
use crate::service::credential_digest::Digest;
use crate::service::throttle::{Attempted, NotAdmitted, client_gone, neighbourhood};
use crate::store::{Lineage, StartSession};
use crate::telemetry::LoginOutcome;
use crate::throttle::{Door, Throttled};

/// A login.
#[derive(Debug)]
pub struct Login {
    /// As typed.
    pub username: String,
    /// As typed.
    pub password: Password,
    /// From where.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: String,
}

/// Why a login gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Unknown, wrong or disabled; nobody is told which.
    #[error("the credentials are refused")]
    Refused,
    /// Too many attempts.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The hashing queue is full.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// Its client went away before anything was checked; nobody is answered.
    #[error("the client went away")]
    ClientGone,
    /// As it says.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<NotAdmitted> for LoginError {
    fn from(error: NotAdmitted) -> Self {
        match error {
            NotAdmitted::Throttled(throttled) => Self::Throttled(throttled),
            NotAdmitted::ClientGone => Self::ClientGone,
            NotAdmitted::Failed(failure) => Self::Failed(failure),
        }
    }
}

impl From<NotHashed> for LoginError {
    fn from(error: NotHashed) -> Self {
        match error {
            NotHashed::Overloaded(overloaded) => Self::Overloaded(overloaded),
            NotHashed::ClientGone => Self::ClientGone,
        }
    }
}

/// Credentials that were found right.
struct Right {
    granted: Granted,
    /// The hash that was verified, and a better one of the same password.
    rehash: Option<(PasswordHash, PasswordHash)>,
    /// Recognised as a repeat, without a hash.
    repeat: bool,
}

/// Credentials that were refused: of which user, and why, for the audit log only; and when that may be
/// answered.
struct Refusal {
    user: Option<UserId>,
    why: &'static str,
    answer_time: AnswerTime,
}

impl TokenService {
    /// Checks credentials and begins a session. Unknown, wrong and disabled cost the same hash.
    pub async fn login(&self, login: Login) -> Result<Pair, LoginError> {
        let outcome = self.try_login(login).await;
        self.parts.metrics.login(match &outcome {
            Ok(_) => LoginOutcome::Granted,
            // Counted before its answer was due.
            Err(LoginError::Refused) => return outcome,
            Err(LoginError::Throttled(_)) => LoginOutcome::Throttled,
            Err(LoginError::Overloaded(_)) => LoginOutcome::Overloaded,
            Err(LoginError::ClientGone) => LoginOutcome::ClientGone,
            Err(LoginError::Failed(_)) => LoginOutcome::Failed,
        });
        outcome
    }

    async fn try_login(&self, login: Login) -> Result<Pair, LoginError> {
        let parts = &self.parts;
        let name = Username::canonical(&login.username);
        let attempted = Attempted {
            door: Door::TokenAuth,
            name: &name,
            password: &login.password,
            address: login.address,
            user_agent: &login.user_agent,
        };
        // An attempt counts only once its outcome is recorded: what is shed or fails costs nobody one.
        let attempt = parts.admit_password(attempted).await?;
        let repeat = self.repeat(&name, &login.password)?;
        if let Some(pair) = self.begin_again(&login, repeat).await? {
            attempt.succeeded();
            return Ok(pair);
        }
        let refusal = match self.check(&name, &login).await? {
            Ok(right) => {
                let granted = right.granted;
                if let Some(pair) = self.begin(&login, right).await? {
                    attempt.succeeded();
                    if let Some(digest) = repeat {
                        let window = parts.settings.load().login.repeat_window;
                        self.repeats.remember(digest, granted, parts.clock.steady().plus(window));
                    }
                    return Ok(pair);
                }
                let answer_time = AnswerTime::default();
                Refusal { user: Some(granted.user), why: "changed_meanwhile", answer_time }
            }
            Err(refusal) => refusal,
        };
        let waits_until = attempt.failed();
        self.note_refusal(&name, &refusal, waits_until);
        parts.metrics.login(LoginOutcome::Refused);
        refusal.answer_time.reached(&client_gone()).await;
        Err(LoginError::Refused)
    }

    /// Under what a repeat of these credentials is remembered; `None` where repeats are not wanted.
    fn repeat(&self, name: &Username, password: &Password) -> Result<Option<Digest>, Failure> {
        if self.parts.settings.load().login.repeat_window.is_zero() {
            return Ok(None);
        }
        Ok(Some(self.parts.credential_digests()?.credentials(name, password)))
    }

    /// Begins a session for credentials that were right a moment ago.
    async fn begin_again(
        &self,
        login: &Login,
        repeat: Option<Digest>,
    ) -> Result<Option<Pair>, Failure> {
        let Some(digest) = repeat else {
            return Ok(None);
        };
        let Some(granted) = self.repeats.find(&digest, self.parts.clock.steady()) else {
            return Ok(None);
        };
        let pair = self.begin(login, Right { granted, rehash: None, repeat: true }).await?;
        if pair.is_none() {
            // The user was disabled or got another password: from here on as if it were no repeat.
            self.repeats.forget(&digest);
        }
        Ok(pair)
    }

    /// Looks the user up and checks the password, at the same price whatever there is to find.
    async fn check(
        &self,
        name: &Username,
        login: &Login,
    ) -> Result<Result<Right, Refusal>, LoginError> {
        let parts = &self.parts;
        let turn = parts.turn(login.address);
        parts.hashing.admit(&turn)?;
        let found = parts.store.credentials(name.clone()).await.map_err(Failure::from)?;
        let user = found.as_ref().map(|credentials| credentials.user.id);
        let usable = found.filter(|credentials| credentials.user.disabled_at.is_none());
        let hash = usable.as_ref().map(|credentials| credentials.hash.clone());
        let checked = parts.hashing.verify(login.password.clone(), hash, &turn).await?;
        let answer_time = checked.answer_time;
        Ok(match (usable, checked.verification) {
            (Some(credentials), Verification::Match(better)) => {
                let granted = Granted::from(&credentials);
                let rehash = better.map(|better| (credentials.hash, better));
                Ok(Right { granted, rehash, repeat: false })
            }
            (Some(_), Verification::NoMatch) => {
                Err(Refusal { user, why: "wrong_password", answer_time })
            }
            (None, _) => {
                let why = if user.is_some() { "disabled" } else { "unknown" };
                Err(Refusal { user, why, answer_time })
            }
        })
    }

    /// Begins a session; `None` when the user was disabled or got another password while the
    /// credentials were checked.
    async fn begin(&self, login: &Login, right: Right) -> Result<Option<Pair>, Failure> {
        let parts = &self.parts;
        let granted = right.granted;
        let secret = SessionSecret::new(random::bytes().map_err(Failure::internal)?);
        let in_use = parts.keys_in_use.read().await;
        let issuer = Issuer { ring: parts.ring.load_full(), config: parts.settings.load_full() };
        let random = random::bytes().map_err(Failure::internal)?;
        let start = StartSession {
            id: SessionId::new(parts.clock.now(), &random),
            user: granted.user,
            epoch: granted.epoch,
            password_version: granted.password_version,
            secret_hash: secret.hash(),
            refresh_key: issuer.ring.refresh_key,
            address: login.address,
            user_agent: login.user_agent.clone(),
            policy: issuer.config.sessions.policy(),
            rehash: right.rehash,
            repeat: right.repeat,
            by: parts.by(Actor::User(granted.user)),
        };
        let executed = parts.store.start_session(start).await?;
        drop(in_use);
        // Signed while the commit is under way; nobody sees it before that is done.
        let pair = |lineage: &Lineage| issuer.pair(lineage, &secret, lineage.session.rotated_at);
        let pair = executed.peek().as_ref().map(pair).transpose();
        let lineage = executed.committed().await?;
        if right.repeat && lineage.is_some() {
            parts.metrics.repeat_login();
        }
        pair
    }

    /// Writes a refused login down, or counts it where there are too many. A name that is nobody's may be a
    /// mistyped password: of those only a keyed digest is kept.
    fn note_refusal(&self, name: &Username, refusal: &Refusal, waits_until: Option<Timestamp>) {
        let parts = &self.parts;
        let by = parts.by(Actor::Nobody);
        if !parts.refusals.admit(neighbourhood(by.address), parts.clock.steady()) {
            return;
        }
        let event = AuditEvent::new(AuditKind::LoginRefused).with("why", refusal.why);
        let event = match waits_until {
            Some(until) => event.with("held_back_until", until.iso8601()),
            None => event,
        };
        let event = if let Some(user) = refusal.user {
            event.of(user)
        } else {
            let account = parts.ring.load().account(name);
            event.with("name_digest", format!("{account:016x}"))
        };
        parts.note(by, event);
    }
}
