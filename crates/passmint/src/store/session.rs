//! What a store does with sessions and refresh tokens.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use super::{By, StoreError, Uncommitted};
use crate::domain::secret::PasswordHash;
use crate::domain::session::{EndReason, Session, SessionId, SessionPolicy};
use crate::domain::time::Timestamp;
use crate::domain::user::{User, UserId};

/// A session to begin.
#[derive(Clone, Debug)]
pub struct StartSession {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// The epoch that the login saw: the session starts only if it still holds.
    pub epoch: u64,
    /// The password version that the login saw, likewise.
    pub password_version: u64,
    /// SHA-256 of the session secret.
    pub secret_hash: [u8; 32],
    /// The refresh key of its first token.
    pub refresh_key: u32,
    /// Where the login came from.
    pub address: Option<IpAddr>,
    /// What the client called itself.
    pub user_agent: String,
    /// The rules in force.
    pub policy: SessionPolicy,
    /// A better hash of the same password: replaces exactly the one that was verified.
    pub rehash: Option<(PasswordHash, PasswordHash)>,
    /// Whether the credentials were recognised as a repeat of a login just before.
    pub repeat: bool,
    /// The request.
    pub by: By,
}

/// A refresh token to exchange; its MAC has been checked.
#[derive(Clone, Debug)]
pub struct RotateRefresh {
    /// Its session.
    pub session: SessionId,
    /// Its generation.
    pub generation: u32,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// SHA-256 of the session secret inside it.
    pub secret_hash: [u8; 32],
    /// The refresh key of its successor.
    pub refresh_key: u32,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// The rules in force.
    pub policy: SessionPolicy,
    /// The request.
    pub by: By,
}

/// A session and its user at one moment: all that a pair of tokens is made from.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// The session, at its current generation.
    pub session: Session,
    /// Its user.
    pub user: User,
}

/// What became of a presented refresh token.
#[derive(Clone, Debug)]
pub enum Rotation {
    /// It was current; the lineage is one generation further.
    Rotated(Box<Lineage>),
    /// It was current within the reuse interval; the lineage stays.
    Replayed(Box<Lineage>),
    /// Theft: the session was ended by this call.
    Reused,
    /// The row is older than the token: the session was ended by this call.
    StateLost,
    /// The session had outlived a maximal lifetime that was lowered: it was ended by this call.
    Expired,
    /// The session had ended before, or never was.
    Dead,
}

/// Which live sessions to end.
#[derive(Clone, Copy, Debug)]
pub enum Sessions {
    /// One, of whomever.
    One(SessionId),
    /// One, if it is this user's.
    OneOf(UserId, SessionId),
    /// One whose token was presented and is genuine: its access tokens end even where its row is gone.
    Proven(SessionId),
    /// All of the user but one; raises the user's epoch for all but that one.
    AllOfExcept(UserId, SessionId),
    /// All of the user; raises the user's epoch.
    AllOf(UserId),
}

/// Sessions and refresh tokens.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Begins a session if its user is still enabled with the epoch and password version that the
    /// login saw; `None` otherwise. Over `max_per_user`, the sessions that give way end as `evicted`.
    /// Returns when that has been executed, so that the tokens can be signed while the commit is under
    /// way.
    async fn start_session(
        &self,
        start: StartSession,
    ) -> Result<Uncommitted<Option<Lineage>>, StoreError>;

    /// Exchanges a refresh token by one conditional write. Returns when that has been executed, so
    /// that the new tokens can be signed while the commit is under way.
    async fn rotate_refresh(
        &self,
        rotate: RotateRefresh,
    ) -> Result<Uncommitted<Rotation>, StoreError>;

    /// Ends live sessions; how many. Where nothing ends, nothing is written.
    async fn end_sessions(
        &self,
        which: Sessions,
        reason: EndReason,
        by: By,
    ) -> Result<u64, StoreError>;

    /// One session, ended or not, with its user unless that was deleted.
    async fn session(&self, id: SessionId) -> Result<Option<(Session, Option<User>)>, StoreError>;

    /// The user's sessions, newest first.
    async fn sessions_of(
        &self,
        user: UserId,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError>;

    /// Walks the table once more from where it stopped, over at most `batch` rows: ends what has run
    /// out and what was made with a revoked refresh key, deletes what ended longer than `keep_ended`
    /// ago. What goes by age goes only when both clocks say so.
    async fn sweep_sessions(&self, sweep: SweepSessions) -> Result<SweptSessions, StoreError>;
}

/// Which of a user's sessions to read.
#[derive(Clone, Copy, Debug)]
pub struct SessionPage {
    /// Ended ones too.
    pub ended: bool,
    /// Only those that began before this one.
    pub before: Option<SessionId>,
    /// At most so many.
    pub limit: u32,
}

/// One step of the background walk over the sessions.
#[derive(Clone, Copy, Debug)]
pub struct SweepSessions {
    /// The last id of the step before; `None` at the start of a walk.
    pub after: Option<SessionId>,
    /// How many rows to look at.
    pub batch: u32,
    /// The rules in force.
    pub policy: SessionPolicy,
    /// How long an ended session is kept.
    pub keep_ended: Duration,
    /// Whether anything may be ended or deleted by its age now.
    pub by_age: bool,
}

/// What one step of the walk did.
#[derive(Clone, Copy, Debug, Default)]
pub struct SweptSessions {
    /// Where to go on; `None` when the walk is through.
    pub next: Option<SessionId>,
    /// How many ran out, or had been made with a revoked refresh key.
    pub ended: u64,
    /// How many were deleted.
    pub deleted: u64,
}
