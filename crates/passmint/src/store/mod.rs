//! What is kept, and the verbs by which it changes: one trait per noun.
//!
//! Every verb is atomic and durable when it returns: a crash after the answer loses nothing. A
//! missing row is `Ok(None)`. Verbs that end access tokens write the revocations in the same
//! transaction and hand them to the [`CommitSink`] after the commit and before they return.
//! Only `service` calls this room; only the folders below it know SQL.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::domain::key::{KeyState, KeyUse};
use crate::domain::revocation::RevocationEntry;
use crate::domain::secret::PasswordHash;
use crate::domain::session::{EndReason, Session, SessionId, SessionPolicy};
use crate::domain::time::Timestamp;
use crate::domain::user::{Claims, Credentials, User, UserId, Username};

#[cfg(test)]
mod conformance;
pub mod sqlite;

/// What a caller can do about a failed verb.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot answer now: full queue, full disk, locked. Worth another try.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Anything else: a fault of ours or of the data.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Who is told of what the store has committed. Called on the store's own thread, after the commit
/// and before any answer, so that no caller can forget it or be cancelled in between.
pub trait CommitSink: Send + Sync {
    /// Takes revocations that are durable now.
    fn revoked(&self, entries: &[RevocationEntry]);

    /// Hears how many writes one commit carried.
    fn committed(&self, writes: usize);

    /// Hears of sessions whose end is durable now. One that had merely given way or fallen asleep
    /// may end once more, by a reason that ends its access tokens too.
    fn ended(&self, reason: EndReason, sessions: u64);

    /// Hears what one write took, from handing it in until it was durable.
    fn wrote(&self, took: Duration);

    /// Hears what one read took, on the task that asked for it.
    fn read(&self, took: Duration);
}

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
        let lost = |_| StoreError::Failed("the writer has ended".to_owned());
        self.committed.await.map_err(lost)??;
        Ok(self.outcome)
    }
}

/// Which live sessions to end.
#[derive(Clone, Copy, Debug)]
pub enum Sessions {
    /// One, of whomever.
    One(SessionId),
    /// One, if it is this user's.
    OneOf(UserId, SessionId),
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
    async fn start_session(&self, start: StartSession) -> Result<Option<Lineage>, StoreError>;

    /// Exchanges a refresh token by one conditional write. Returns when that has been executed, so
    /// that the new tokens can be signed while the commit is under way.
    async fn rotate_refresh(
        &self,
        rotate: RotateRefresh,
    ) -> Result<Uncommitted<Rotation>, StoreError>;

    /// Ends live sessions; how many.
    async fn end_sessions(&self, which: Sessions, reason: EndReason) -> Result<u64, StoreError>;

    /// One session, ended or not, with its user unless that was deleted.
    async fn session(&self, id: SessionId) -> Result<Option<(Session, Option<User>)>, StoreError>;

    /// The user's sessions, newest first; with `ended`, ended ones too.
    async fn sessions_of(&self, user: UserId, ended: bool) -> Result<Vec<Session>, StoreError>;

    /// Walks the table once more from where it stopped, over at most `batch` rows: ends what has run
    /// out, deletes what ended longer than `keep_ended` (of running time) ago.
    async fn sweep_sessions(&self, sweep: SweepSessions) -> Result<SweptSessions, StoreError>;
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
}

/// What one step of the walk did.
#[derive(Clone, Copy, Debug, Default)]
pub struct SweptSessions {
    /// Where to go on; `None` when the walk is through.
    pub next: Option<SessionId>,
    /// How many ran out.
    pub ended: u64,
    /// How many were deleted.
    pub deleted: u64,
}

/// A user to add.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Checked for a new user.
    pub username: Username,
    /// The password's hash.
    pub hash: PasswordHash,
    /// May be empty.
    pub email: String,
    /// In their order.
    pub roles: Vec<String>,
}

/// What became of a user to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Added under this id.
    User(UserId),
    /// A user of that name, or of one that differs only in case, exists.
    NameTaken,
}

/// What to change about a user; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// New e-mail address.
    pub email: Option<String>,
    /// New first name.
    pub first_name: Option<String>,
    /// New last name.
    pub last_name: Option<String>,
    /// New roles, all of them.
    pub roles: Option<Vec<String>>,
    /// New own claims, all of them.
    pub claims: Option<Claims>,
}

/// A new password.
#[derive(Clone, Debug)]
pub struct PasswordChange {
    /// Whose.
    pub user: UserId,
    /// Its hash.
    pub hash: PasswordHash,
    /// The version that the check of the old password saw; `None` when an operator sets it.
    pub expected_version: Option<u64>,
    /// The session that is kept.
    pub keep: Option<SessionId>,
}

/// Users and their passwords.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// The user of that name with its hash.
    async fn credentials(&self, name: Username) -> Result<Option<Credentials>, StoreError>;

    /// The user of that id with its hash.
    async fn credentials_of(&self, id: UserId) -> Result<Option<Credentials>, StoreError>;

    /// The user of that name, or `None`.
    async fn user_named(&self, name: Username) -> Result<Option<User>, StoreError>;

    /// Up to `limit` users in the order of their ids, beginning after `after`.
    async fn users(&self, after: UserId, limit: u32) -> Result<Vec<User>, StoreError>;

    /// Adds a user.
    async fn add_user(&self, user: NewUser) -> Result<Added, StoreError>;

    /// Changes what is set in `change`; whether the user exists.
    async fn change_user(&self, id: UserId, change: UserChange) -> Result<bool, StoreError>;

    /// Sets a password and ends all other sessions; `false` when the user is gone, disabled, or its
    /// password was changed meanwhile.
    async fn change_password(&self, change: PasswordChange) -> Result<bool, StoreError>;

    /// Disables (ending all sessions) or enables; whether the user exists.
    async fn set_disabled(&self, id: UserId, disabled: bool) -> Result<bool, StoreError>;

    /// Deletes a user, ending all sessions; whether it existed. The id is not given again.
    async fn delete_user(&self, id: UserId) -> Result<bool, StoreError>;
}

/// A key as the store keeps it: the secret part sealed.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// Row number; the key id inside refresh tokens.
    pub number: u32,
    /// `kid`.
    pub kid: String,
    /// What for.
    pub use_: KeyUse,
    /// Where it stands.
    pub state: KeyState,
    /// When it was made or imported.
    pub created_at: Timestamp,
    /// The public part as SPKI or raw; empty for symmetric keys.
    pub public: Vec<u8>,
    /// The secret part, sealed; empty for an imported public key.
    pub sealed: Vec<u8>,
    /// Whether it was imported: then an HS256 key also answers for tokens without `kid`.
    pub imported: bool,
}

/// A key to keep.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// `kid`.
    pub kid: String,
    /// What for.
    pub use_: KeyUse,
    /// Where it starts.
    pub state: KeyState,
    /// As in [`StoredKey`].
    pub public: Vec<u8>,
    /// As in [`StoredKey`].
    pub sealed: Vec<u8>,
    /// As in [`StoredKey`].
    pub imported: bool,
}

/// What to change about keys, all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// Keys to add.
    pub add: Vec<NewKey>,
    /// New states, by `kid`.
    pub states: Vec<(String, KeyState)>,
    /// Keys to drop, by `kid`.
    pub drop: Vec<String>,
    /// New sealed secrets, by `kid`.
    pub reseal: Vec<(String, Vec<u8>)>,
    /// Ends the live sessions of this refresh key as `key_revoked`.
    pub end_sessions_of: Option<u32>,
    /// The seal check to keep with the keys (proves that a master key is the right one).
    pub seal_check: Option<Vec<u8>>,
}

/// Keys.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// All keys and the seal check, `None` on a new database.
    async fn keys(&self) -> Result<(Vec<StoredKey>, Option<Vec<u8>>), StoreError>;

    /// Changes keys; `false` when a `kid` to add exists, and nothing was changed.
    async fn change_keys(&self, change: KeyChange) -> Result<bool, StoreError>;
}

/// The revocation table, its counted running time, and the store's own health.
#[async_trait]
pub trait RevocationStore: Send + Sync {
    /// All live entries in their order.
    async fn revocations(&self) -> Result<Vec<RevocationEntry>, StoreError>;

    /// Drops entries older than `lifetime`, or the longest one this was ever called with, by running time and by the wall clock; those dropped. With
    /// `keep_users`, what ends all of a user's tokens stays for good.
    async fn sweep_revocations(
        &self,
        lifetime: Duration,
        keep_users: bool,
    ) -> Result<Vec<i64>, StoreError>;

    /// Makes the running time counted so far durable.
    async fn keep_running_time(&self) -> Result<(), StoreError>;

    /// Answers when the database answers: for readiness.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// A whole store.
pub trait Store: SessionStore + UserStore + KeyStore + RevocationStore {}

impl<T: SessionStore + UserStore + KeyStore + RevocationStore> Store for T {}
