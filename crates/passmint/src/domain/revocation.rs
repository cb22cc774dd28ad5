//! What has been ended before its time, and the rule that decides whether a token is concerned.

use std::time::Duration;

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

/// Tokens may be issued so far beyond the high-water mark of issued times before it is moved.
pub const ISSUED_MARGIN: Duration = Duration::from_mins(1);

/// The date of a revocation that is written `now`: after every token that was ever issued, whatever the
/// clock said then. `issued_until` is the high-water mark of issued times.
pub fn dated(now: Timestamp, issued_until: Timestamp) -> Timestamp {
    now.max(issued_until.plus(ISSUED_MARGIN))
}

/// Whether the high-water mark must be moved before a token is issued `now`.
pub fn moves_mark(now: Timestamp, issued_until: Timestamp) -> bool {
    issued_until.micros() == 0 || now > issued_until.plus(ISSUED_MARGIN)
}

/// An entry with what its sweeping needs. It goes only when both clocks agree that no token it
/// concerns can be alive: counted running time (which no clock step moves) and the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationEntry {
    /// Position in the table.
    pub sequence: i64,
    /// What it ends.
    pub revocation: Revocation,
    /// When written, or later: see [`dated`].
    pub at: Timestamp,
}
