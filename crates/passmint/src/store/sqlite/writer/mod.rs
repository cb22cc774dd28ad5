//! The one thread that writes. What has queued up is committed together, and nobody is answered
//! before the commit.
//!
//! `job` is what it is given, `batch` runs and commits.

mod batch;
mod job;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::health::Health;
use super::user_ids::HighestUserId;
use super::wal::WalFile;
use crate::clock::Clock;
use crate::domain::audit::{AuditEvent, AuditKind, ChainLink};
use crate::domain::moment::Moment;
use crate::domain::revocation::{Revocation, RevocationEntry, dated, moves_mark};
use crate::domain::session::EndReason;
use crate::domain::time::{Timestamp, micros};
use crate::domain::user::UserId;
use crate::store::{By, COMMIT_WITHIN, CommitSink, StoreError, Uncommitted};

use batch::Batches;
use job::{Detached, Early, Job, Pending};

/// How many jobs may wait. Beyond it callers are told that the store is unavailable.
const MAX_QUEUED: usize = 4096;

/// Time that servers on this database have spent running, in microseconds: the base is kept in the
/// database, the rest is counted by the steady clock. No clock step moves it.
#[derive(Clone, Copy)]
pub(super) struct RunningTime {
    base: i64,
    started: Timestamp,
    elapsed_before: Duration,
}

impl RunningTime {
    fn load(connection: &Connection, clock: &dyn Clock) -> Result<Self, rusqlite::Error> {
        let base = number(connection, "running_time")?.unwrap_or(0);
        Ok(Self { base, started: clock.steady(), elapsed_before: clock.elapsed() })
    }

    pub(super) fn now(&self, clock: &dyn Clock) -> i64 {
        self.base.saturating_add(micros(clock.steady().since(self.started)))
    }

    /// The same without what a demo's clock was turned by: no revocation is swept on its word, for its
    /// tokens are good again when the demo is started anew.
    pub(super) fn really_passed(&self, clock: &dyn Clock) -> i64 {
        self.base.saturating_add(micros(clock.elapsed().saturating_sub(self.elapsed_before)))
    }
}

/// A number that is kept in `meta`.
pub(super) fn number(db: &Connection, name: &str) -> Result<Option<i64>, rusqlite::Error> {
    db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Keeps a number in `meta`, unless a greater one is kept. Returns what is kept then.
pub(super) fn raise_number(
    db: &Connection,
    name: &str,
    value: i64,
) -> Result<i64, rusqlite::Error> {
    db.prepare_cached(
        "INSERT INTO meta (name, value) VALUES (?1, ?2) \
         ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value) RETURNING value",
    )?
    .query_row((name, value), |row| row.get(0))
}

/// Keeps a value in `meta`, in the place of what is kept.
pub(super) fn set_meta(
    db: &Connection,
    name: &str,
    value: impl rusqlite::ToSql,
) -> Result<(), rusqlite::Error> {
    db.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute((name, value))
        .map(drop)
}

/// What a job finds on the writer's thread.
pub(super) struct Write<'a> {
    /// The connection, inside the batch's transaction.
    pub(super) db: &'a Connection,
    /// The database's clock.
    pub(super) now: Timestamp,
    /// Running time, see [`RunningTime`].
    pub(super) running_time: i64,
    /// Running time that has really passed.
    pub(super) really_passed: i64,
    /// The last commit that took long: from when until when.
    stall: Option<(Timestamp, Timestamp)>,
    done: &'a mut Done,
}

impl Write<'_> {
    /// Now, less the time that a write of `written_at` waited for the disk: nobody had its answer in that
    /// time, so none of it counts against whoever asks again.
    pub(super) fn less_stall(&self, written_at: Timestamp) -> Timestamp {
        match self.stall {
            Some((from, until)) if written_at >= from && written_at <= until => {
                self.now.minus(until.since(written_at))
            }
            _ => self.now,
        }
    }

    /// Now, by both clocks.
    pub(super) fn moment(&self) -> Moment {
        Moment { wall: self.now, running: self.running_time }
    }

    /// Appends to the revocation table; the sink hears of it after the commit. It is dated after every
    /// token that was ever issued, whatever the clock said then.
    pub(super) fn revoke(&mut self, revocation: Revocation) -> Result<(), rusqlite::Error> {
        let at = dated(self.now, Timestamp::from_micros(self.done.issued_until));
        let entry = crate::store::sqlite::revocation::append(self, revocation, at)?;
        self.done.revoked.push(entry);
        Ok(())
    }

    /// Notes that a token is issued now: moves the high-water mark, once a minute.
    pub(super) fn note_issue(&mut self) -> Result<(), rusqlite::Error> {
        if moves_mark(self.now, Timestamp::from_micros(self.done.issued_until)) {
            self.done.issued_until = raise_number(self.db, "issued_until", self.now.micros())?;
        }
        Ok(())
    }

    /// Notes that a user gets that id: outside the database, before the commit. Ids below 0 are made of
    /// those that users had elsewhere, and are nobody else's.
    pub(super) fn give_user_id(&mut self, id: UserId) {
        self.done.highest_user = self.done.highest_user.max(id.0);
    }

    /// Appends to the audit log.
    pub(super) fn note(&mut self, by: &By, event: &AuditEvent) -> Result<(), rusqlite::Error> {
        self.note_at(self.now, by, event)
    }

    /// The same of what happened before.
    pub(super) fn note_at(
        &mut self,
        at: Timestamp,
        by: &By,
        event: &AuditEvent,
    ) -> Result<(), rusqlite::Error> {
        let last = self.done.last_record;
        let at = Moment { wall: at, running: self.running_time };
        self.done.last_record = crate::store::sqlite::audit::append(self.db, last, at, by, event)?;
        self.done.audited.push(event.kind);
        Ok(())
    }

    /// Tells the sink, after the commit, that sessions ended.
    pub(super) fn sessions_ended(&mut self, reason: EndReason, count: u64) {
        if count > 0 {
            self.done.ended.push((reason, count));
        }
    }
}

/// What the jobs of a batch have done that others hear of after the commit.
struct Done {
    revoked: Vec<RevocationEntry>,
    ended: Vec<(EndReason, u64)>,
    audited: Vec<AuditKind>,
    /// The newest link of the audit log.
    last_record: ChainLink,
    /// The high-water mark of issued times.
    issued_until: i64,
    /// The highest id that a user got; 0: none did.
    highest_user: i64,
}

impl Done {
    fn after(last_record: ChainLink, issued_until: i64) -> Self {
        let (revoked, ended, audited) = (Vec::new(), Vec::new(), Vec::new());
        Self { revoked, ended, audited, last_record, issued_until, highest_user: 0 }
    }

    fn tell(&self, sink: &dyn CommitSink) {
        if !self.revoked.is_empty() {
            sink.revoked(&self.revoked);
        }
        for (reason, count) in &self.ended {
            sink.sessions_ended(*reason, *count);
        }
        for kind in &self.audited {
            sink.audited(*kind);
        }
    }
}

/// The handle by which jobs reach the thread. When it is dropped, what has queued up is still written,
/// and the connection is closed: a server that stops in order leaves no WAL behind.
pub(super) struct Writer {
    /// `None` while it is dropped.
    jobs: Option<SyncSender<Box<dyn Job>>>,
    running_time: RunningTime,
    commits: Arc<AtomicU64>,
    issued_until: Arc<AtomicI64>,
    health: Arc<Health>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        user_ids: HighestUserId,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn CommitSink>,
        health: Arc<Health>,
    ) -> std::io::Result<Self> {
        let other = std::io::Error::other::<rusqlite::Error>;
        let (jobs, queue) = sync_channel(MAX_QUEUED);
        let commits = Arc::new(AtomicU64::new(0));
        let last_record = crate::store::sqlite::audit::newest(&connection).map_err(other)?;
        let running_time = RunningTime::load(&connection, &*clock).map_err(other)?;
        let issued = number(&connection, "issued_until").map_err(other)?.unwrap_or(0);
        let issued_until = Arc::new(AtomicI64::new(issued));
        let mut batches = Batches {
            wal: WalFile::of(&connection),
            connection,
            running_time,
            user_ids,
            clock,
            sink,
            commits: Arc::clone(&commits),
            issued_until: Arc::clone(&issued_until),
            health: Arc::clone(&health),
            last_record,
            again: batch::Again::new(),
            stall: None,
        };
        let thread = thread::Builder::new().name("sqlite-writer".into()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| batches.run(&queue))).is_err() {
                // Nothing could be written any more, and nobody knows what was half done.
                batches.sink.fatal("the thread that writes ended in a panic");
            }
        })?;
        let (jobs, thread) = (Some(jobs), Some(thread));
        Ok(Self { jobs, running_time, commits, issued_until, health, thread })
    }

    /// The running time, which goes on by itself.
    pub(super) fn running_time(&self) -> RunningTime {
        self.running_time
    }

    /// How many batches have been committed.
    pub(super) fn commits(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.commits)
    }

    /// Whether a token may be issued at `now` without a write that moves the high-water mark.
    pub(super) fn covers_issue(&self, now: Timestamp) -> bool {
        !moves_mark(now, Timestamp::from_micros(self.issued_until.load(Ordering::Relaxed)))
    }

    /// How it is: an error says why nothing can be written.
    pub(super) fn health(&self) -> Result<(), StoreError> {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        if ended {
            return Err(StoreError::Unavailable("the writer has ended".to_owned()));
        }
        self.health.check()
    }

    /// Runs several statements as one, all of them or none; returns when they are durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnMut(&mut Write<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
        T: Send + 'static,
    {
        let (job, answer) = Pending::new(work);
        self.submit(job)?;
        match tokio::time::timeout(COMMIT_WITHIN, answer).await {
            Ok(answer) => answer.map_err(|_| ended())?,
            Err(_) => Err(StoreError::late()),
        }
    }

    /// The same for work whose outcome nobody waits for. It is durable with the next commit; if that
    /// fails, with one after it.
    pub(super) fn write_detached<F>(&self, work: F) -> Result<(), StoreError>
    where
        F: FnMut(&mut Write<'_>) -> Result<(), rusqlite::Error> + Send + 'static,
    {
        self.submit(Box::new(Detached::new(work)))
    }

    /// Runs work of the hot path. Returns when it is executed; the commit is still to be awaited.
    pub(super) async fn write_hot<T, F>(&self, work: F) -> Result<Uncommitted<T>, StoreError>
    where
        F: FnMut(&mut Write<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
        T: Send + 'static,
    {
        let (job, executed) = Early::new(work);
        self.submit(job)?;
        match tokio::time::timeout(COMMIT_WITHIN, executed).await {
            Ok(executed) => executed.map_err(|_| ended())?,
            Err(_) => Err(StoreError::late()),
        }
    }

    fn submit(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Unavailable("too many writes wait".to_owned()),
            TrySendError::Disconnected(_) => ended(),
        })
    }
}

/// A job was dropped without an answer: the thread is gone, and perhaps with the job done.
fn ended() -> StoreError {
    StoreError::OutcomeUnknown("the writer has ended".to_owned())
}
