//! What has been ended before its time, and the rule that decides whether a token is concerned.

use super::session::SessionId;
use super::time::Timestamp;
use super::user::UserId;

/// The part of a verified access token that decides whether it still counts.
#[derive(Clone, Copy, Debug)]
pub struct TokenSubject {
    /// `sub`; `None` for a subject that is not one of our users.
    pub user: Option<UserId>,
    /// `sid`.
    pub session: Option<SessionId>,
    /// `gen`.
    pub generation: u32,
    /// `uep`.
    pub user_epoch: u64,
}

/// One entry of the append-only revocation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Every access token of the session.
    Session(SessionId),
    /// Every access token of the user with an epoch below `epoch`, but for those of `except`
    /// (a password change keeps the session it was made from).
    User {
        /// Whose.
        user: UserId,
        /// The first epoch that still counts.
        epoch: u64,
        /// The session that is kept.
        except: Option<SessionId>,
    },
    /// Access tokens of the session with a generation below `generation`, from `from` on
    /// (`sessions.end_access_token_on_refresh`).
    Generation {
        /// Which session.
        session: SessionId,
        /// The first generation that still counts.
        generation: u32,
        /// When the grace of the reuse interval is over.
        from: Timestamp,
    },
}

/// An entry with what its sweeping needs. It goes only when both clocks agree that no token it
/// concerns can be alive: counted running time (which no clock step moves) and the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationEntry {
    /// Position in the table.
    pub sequence: i64,
    /// What it ends.
    pub revocation: Revocation,
    /// When written.
    pub at: Timestamp,
}
