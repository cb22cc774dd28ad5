//! Tokens: logging in, refreshing, verifying (contract sections 1 to 5).

mod issue;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use passmint_verify::{Claims, Rejection, Rules};
use quick_cache::sync::Cache;

use self::issue::Issuer;
use super::{Failure, Parts, Shed};
use crate::crypto::hasher::Verification;
use crate::crypto::key_ring::KeyRing;
use crate::crypto::random;
use crate::crypto::refresh_token::{RefreshToken, SessionSecret};
use crate::domain::revocation::TokenSubject;
use crate::domain::secret::Password;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::{Credentials, User, UserId, Username};
use crate::store::{Lineage, RotateRefresh, Rotation, StartSession};
use crate::telemetry::{LoginOutcome, RefreshOutcome, VerifyOutcome};

/// How many verified tokens are remembered. One takes 1 to 5 KiB, by its claims.
const REMEMBERED_TOKENS: usize = 32_768;

/// How long after a session began its access tokens may be renewed by themselves
/// (`sessions.refresh_with_access_token`), as the original's first version allowed.
const RENEWABLE_FOR: Duration = Duration::from_hours(168);

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

/// Why a login gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Unknown, wrong or disabled; nobody is told which.
    #[error("the credentials are refused")]
    Refused,
    /// The hashing queue is full.
    #[error(transparent)]
    Overloaded(#[from] Shed),
    /// As it says.
    #[error(transparent)]
    Failed(#[from] Failure),
}

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

/// Gives out and checks tokens.
#[derive(Clone)]
pub struct TokenService {
    parts: Arc<Parts>,
    known: Arc<Cache<[u8; 32], Arc<Verified>>>,
}

impl TokenService {
    /// Made of `parts`.
    pub fn new(parts: Arc<Parts>) -> Self {
        Self { parts, known: Arc::new(Cache::new(REMEMBERED_TOKENS)) }
    }

    /// Checks credentials and begins a session. Unknown, wrong and disabled cost the same hash.
    pub async fn login(&self, login: Login) -> Result<Pair, LoginError> {
        let outcome = self.try_login(login).await;
        self.parts.metrics.login(match &outcome {
            Ok(_) => LoginOutcome::Granted,
            Err(LoginError::Refused) => LoginOutcome::Refused,
            Err(LoginError::Overloaded(_)) => LoginOutcome::Overloaded,
            Err(LoginError::Failed(_)) => LoginOutcome::Failed,
        });
        outcome
    }

    async fn try_login(&self, login: Login) -> Result<Pair, LoginError> {
        let parts = &self.parts;
        let config = parts.settings.load_full();
        let name = Username::canonical(&login.username);
        let found = parts.store.credentials(name).await.map_err(Failure::from)?;
        let usable = found.filter(|credentials| credentials.user.disabled_at.is_none());
        let hash = usable.as_ref().map(|credentials| credentials.hash.clone());
        let verification =
            parts.hashing.verify(login.password, hash, config.login.max_wait).await?;
        let (Some(credentials), Verification::Match(better)) = (usable, verification) else {
            return Err(LoginError::Refused);
        };
        let rehash = better.map(|better| (credentials.hash.clone(), better));
        let secret = SessionSecret::new(random::bytes().map_err(Failure::internal)?);
        let in_use = parts.keys_in_use.read().await;
        let issuer = Issuer { ring: parts.ring.load_full(), config };
        let start = StartSession {
            rehash,
            address: login.address,
            user_agent: login.user_agent,
            ..self.start(&credentials, &secret, &issuer)?
        };
        let lineage = parts.store.start_session(start).await.map_err(Failure::from)?;
        drop(in_use);
        // The user was disabled or got another password while the hash was computed.
        let lineage = lineage.ok_or(LoginError::Refused)?;
        let now = lineage.session.rotated_at;
        Ok(issuer.pair(&lineage, &secret, now)?)
    }

    fn start(
        &self,
        credentials: &Credentials,
        secret: &SessionSecret,
        issuer: &Issuer,
    ) -> Result<StartSession, Failure> {
        let random = random::bytes().map_err(Failure::internal)?;
        Ok(StartSession {
            id: SessionId::new(self.parts.clock.now(), &random),
            user: credentials.user.id,
            epoch: credentials.user.epoch,
            password_version: credentials.user.password_version,
            secret_hash: secret.hash(),
            refresh_key: issuer.ring.refresh_key,
            address: None,
            user_agent: String::new(),
            policy: issuer.config.sessions.policy(),
            rehash: None,
        })
    }

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
        let verified = self.verify(token).map_err(|error| match error {
            VerifyError::Expired => RefreshError::Expired,
            VerifyError::Invalid | VerifyError::Revoked => RefreshError::Refused,
        })?;
        let session = verified.subject.session.ok_or(RefreshError::Refused)?;
        let found = parts.store.session(session).await.map_err(Failure::from)?;
        let (session, user) = found.ok_or(RefreshError::Refused)?;
        let user = user.ok_or(RefreshError::Refused)?;
        if session.ended.is_some() {
            return Err(RefreshError::Refused);
        }
        let now = parts.clock.now();
        if now > session.created_at.plus(RENEWABLE_FOR) || now >= session.refresh_expires_at {
            return Err(RefreshError::Expired);
        }
        let id = random::bytes::<16>().map_err(Failure::internal)?;
        let id = format!("{:032x}", u128::from_be_bytes(id));
        let lineage = Lineage { session, user };
        let issuer = Issuer { ring: parts.ring.load_full(), config: parts.settings.load_full() };
        let (token, _) = issuer.access_token(&lineage, &id, now)?;
        Ok(token)
    }

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
                let verified = Arc::new(self.check(token, &ring, now)?);
                self.known.insert(name, Arc::clone(&verified));
                verified
            }
        };
        if parts.revocations.is_revoked(&verified.subject, now) {
            return Err(VerifyError::Revoked);
        }
        Ok(verified)
    }

    fn check(&self, token: &str, ring: &KeyRing, now: Timestamp) -> Result<Verified, VerifyError> {
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
            user: claims.subject.parse().ok().map(UserId),
            session,
            generation: claims.generation,
            user_epoch: claims.user_epoch,
        };
        Ok(Verified { claims, subject, ring: ring.version })
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
