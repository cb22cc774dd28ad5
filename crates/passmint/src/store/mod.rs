//! What is kept, and the verbs by which it changes: one trait per noun.
//!
//! Every verb is atomic and durable when it returns: a crash after the answer loses nothing. A
//! missing row is `Ok(None)`. Verbs that end access tokens write the revocations in the same
//! transaction and hand them to the [`CommitSink`] after the commit and before they return. What
//! is worth an audit record writes it in the same transaction: whoever acts is told with `By`.
//! Only `service` calls this room; only the folders below it know SQL.

mod audit;
#[cfg(test)]
mod conformance;
mod key;
mod revocation;
mod session;
pub mod sqlite;
mod throttle;
mod user;

use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::audit::AuditKind;
use crate::domain::revocation::RevocationEntry;
use crate::domain::session::EndReason;

pub use crate::domain::audit::By;
pub use audit::{AuditQuery, AuditStore};
pub use key::{KeyChange, KeyStore, NewKey, StoredKey};
pub use revocation::{LongestLifetimes, RevocationStore};
pub use session::{
    Lineage, RotateRefresh, Rotation, SessionPage, SessionStore, Sessions, StartSession,
    SweepSessions, SweptSessions,
};
pub use throttle::ThrottleStore;
pub use user::{Added, ImportConflict, ImportUser, NewUser, PasswordChange, UserChange, UserStore};

/// What a caller can do about a failed verb.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot answer now: full queue, full disk, locked. Nothing was changed; worth another
    /// try.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The file is damaged where it was read or written. Nothing was changed.
    #[error("the database is damaged ({0}): stop the server and restore a backup")]
    Damaged(String),
    /// A write may or may not have happened: ask again before doing it again.
    #[error("whether it was written is not known: {0}")]
    OutcomeUnknown(String),
    /// Anything else: a fault of ours or of the data.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// A write that is not durable in time.
    pub(crate) fn late() -> Self {
        Self::OutcomeUnknown("the disk has not answered in time".to_owned())
    }
}

/// How long a caller waits until its write is durable. A disk that takes longer is stuck.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// Who is told of what the store has committed. Called on the store's own thread, after the commit
/// and before any answer, so that no caller can forget it or be cancelled in between.
pub trait CommitSink: Send + Sync {
    /// Takes revocations that are durable now.
    fn revoked(&self, entries: &[RevocationEntry]);

    /// Hears how many writes one commit carried.
    fn committed(&self, writes: usize);

    /// Hears what one write took, from handing it in until it was durable.
    fn wrote(&self, took: Duration);

    /// Hears what one read took, on the task that asked for it.
    fn read(&self, took: Duration);

    /// Hears that sessions were ended, for whatever reason. One that had merely given way or fallen
    /// asleep may end once more, by a reason that ends its access tokens too.
    fn sessions_ended(&self, reason: EndReason, count: u64);

    /// Hears of an audit record.
    fn audited(&self, kind: AuditKind);

    /// The store cannot go on: the process is to end, and to start anew from what is on the disk.
    fn fatal(&self, why: &str);
}

/// The outcome of a write that has been executed but may not be durable yet. It can be looked at to
/// prepare an answer; to have it, and to give the answer, the commit must be awaited.
#[derive(Debug)]
pub struct Uncommitted<T> {
    outcome: T,
    committed: oneshot::Receiver<Result<(), StoreError>>,
}

impl<T> Uncommitted<T> {
    /// An outcome whose commit `committed` will tell of.
    pub fn new(outcome: T, committed: oneshot::Receiver<Result<(), StoreError>>) -> Self {
        Self { outcome, committed }
    }

    /// What will hold if the commit succeeds.
    pub fn peek(&self) -> &T {
        &self.outcome
    }

    /// Waits until it is durable.
    pub async fn committed(self) -> Result<T, StoreError> {
        let lost = |_| StoreError::OutcomeUnknown("the writer has ended".to_owned());
        match tokio::time::timeout(COMMIT_WITHIN, self.committed).await {
            Ok(committed) => committed.map_err(lost)??,
            Err(_) => return Err(StoreError::late()),
        }
        Ok(self.outcome)
    }
}

/// A whole store.
pub trait Store:
    SessionStore + UserStore + KeyStore + RevocationStore + AuditStore + ThrottleStore
{
}

impl<T> Store for T where
    T: SessionStore + UserStore + KeyStore + RevocationStore + AuditStore + ThrottleStore
{
}
