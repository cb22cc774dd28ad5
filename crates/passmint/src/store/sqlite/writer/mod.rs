//! The one thread that writes. What has queued up is committed together, and nobody is answered
//! before the commit.

mod job;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::clock::Clock;
use crate::domain::audit::{AuditEvent, AuditKind, ChainLink};
use crate::domain::revocation::{Revocation, RevocationEntry};
use crate::domain::session::EndReason;
use crate::domain::time::{Timestamp, micros};
use crate::store::{By, CommitSink, StoreError, Uncommitted};

use job::{Early, Job, Pending, Scope, Unheard};

/// How many jobs one commit may carry.
const MAX_BATCH: usize = 128;
/// How many jobs may wait. Beyond it callers are told that the store is unavailable.
const MAX_QUEUED: usize = 4096;
/// How soon a failed batch's unheard jobs are tried again, at the latest.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Time that servers on this database have spent running, in microseconds: the base is kept in the
/// database, the rest is counted by the steady clock. No clock step moves it.
#[derive(Clone, Copy)]
pub(super) struct RunningTime {
    base: i64,
    started: Timestamp,
}

impl RunningTime {
    pub(super) fn load(
        connection: &Connection,
        clock: &dyn Clock,
    ) -> Result<Self, rusqlite::Error> {
        let base = connection.query_row(
            "SELECT value FROM meta WHERE name = 'running_time'",
            [],
            |row| row.get(0),
        )?;
        Ok(Self { base, started: clock.steady() })
    }

    pub(super) fn now(&self, clock: &dyn Clock) -> i64 {
        self.base.saturating_add(micros(clock.steady().since(self.started)))
    }
}

/// What a job finds on the writer's thread.
pub(super) struct Write<'a> {
    /// The connection, inside the batch's transaction.
    pub(super) db: &'a Connection,
    /// The database's clock.
    pub(super) now: Timestamp,
    /// Running time, see [`RunningTime`].
    pub(super) running_time: i64,
    done: &'a mut Done,
}

impl Write<'_> {
    /// Appends to the revocation table; the sink hears of it after the commit.
    pub(super) fn revoke(&mut self, revocation: Revocation) -> Result<(), rusqlite::Error> {
        let entry = crate::store::sqlite::revocation::append(self, revocation)?;
        self.done.revoked.push(entry);
        Ok(())
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
#[derive(Clone)]
struct Done {
    revoked: Vec<RevocationEntry>,
    ended: Vec<(EndReason, u64)>,
    audited: Vec<AuditKind>,
    /// The newest link of the audit log.
    last_record: ChainLink,
}

/// How far a batch was before a job.
struct Mark {
    revoked: usize,
    ended: usize,
    audited: usize,
    last_record: ChainLink,
}

impl Done {
    fn after(last_record: ChainLink) -> Self {
        Self { revoked: Vec::new(), ended: Vec::new(), audited: Vec::new(), last_record }
    }

    fn mark(&self) -> Mark {
        Mark {
            revoked: self.revoked.len(),
            ended: self.ended.len(),
            audited: self.audited.len(),
            last_record: self.last_record,
        }
    }

    /// Forgets what came after the mark: its job was undone.
    fn back_to(&mut self, mark: &Mark) {
        self.revoked.truncate(mark.revoked);
        self.ended.truncate(mark.ended);
        self.audited.truncate(mark.audited);
        self.last_record = mark.last_record;
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
    commits: Arc<AtomicU64>,
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
        running_time: RunningTime,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn CommitSink>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(MAX_QUEUED);
        let commits = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&commits);
        let last_record =
            crate::store::sqlite::audit::newest(&connection).map_err(std::io::Error::other)?;
        let mut batches = Batches {
            connection,
            running_time,
            clock,
            sink,
            commits: counter,
            last_record,
            again: Again::new(),
        };
        let thread = thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || batches.run(&queue))?;
        Ok(Self { jobs: Some(jobs), commits, thread: Some(thread) })
    }

    /// How many batches have been committed.
    pub(super) fn commits(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.commits)
    }

    /// Runs several statements as one, all of them or none; returns when they are durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&mut Write<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
        T: Send + 'static,
    {
        let (job, heard) = Pending::new(work);
        self.submit(job)?;
        heard.await.map_err(|_| ended())?
    }

    /// The same for work whose outcome nobody waits for. It is durable with the next commit; if that
    /// fails, with one after it.
    pub(super) fn write_unheard<F>(&self, work: F) -> Result<(), StoreError>
    where
        F: FnMut(&mut Write<'_>) -> Result<(), rusqlite::Error> + Send + 'static,
    {
        self.submit(Box::new(Unheard::new(work)))
    }

    /// Runs work whose failure may fail its whole batch: the hot path, without a savepoint. Returns
    /// when it is executed; the commit is still to be awaited.
    pub(super) async fn write_hot<T, F>(&self, work: F) -> Result<Uncommitted<T>, StoreError>
    where
        F: FnOnce(&mut Write<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
        T: Send + 'static,
    {
        let (job, executed) = Early::new(work);
        self.submit(job)?;
        executed.await.map_err(|_| ended())?
    }

    fn submit(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Unavailable("too many writes wait".to_owned()),
            TrySendError::Disconnected(_) => ended(),
        })
    }
}

/// A job was dropped without an answer: its batch failed before its turn, or the thread is gone.
fn ended() -> StoreError {
    StoreError::Unavailable("the batch of writes failed".to_owned())
}

struct Batches {
    connection: Connection,
    running_time: RunningTime,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn CommitSink>,
    commits: Arc<AtomicU64>,
    /// The newest link of the audit log that is committed.
    last_record: ChainLink,
    again: Again,
}

/// Jobs to be done again: their batch failed. They have batches of their own, behind all others, and
/// smaller ones while those fail, too.
struct Again {
    jobs: VecDeque<Box<dyn Job>>,
    /// Not before then.
    at: Instant,
    /// How many at once.
    size: usize,
}

impl Again {
    fn new() -> Self {
        Self { jobs: VecDeque::new(), at: Instant::now(), size: MAX_BATCH }
    }

    /// Takes jobs whose batch failed for that cause; what is too much is lost, and said to be.
    fn extend(&mut self, jobs: Vec<Box<dyn Job>>, cause: Option<&str>) {
        if jobs.is_empty() {
            return;
        }
        if self.jobs.is_empty() {
            tracing::warn!(cause, "records could not be written; tried again");
        }
        self.at = Instant::now() + AGAIN_AFTER;
        self.jobs.extend(jobs);
        if self.jobs.len() > MAX_QUEUED {
            let lost = self.jobs.split_off(MAX_QUEUED).len();
            tracing::error!(cause, lost, "records could not be written, and are lost");
        }
    }

    /// Those whose time has come.
    fn due(&mut self) -> Vec<Box<dyn Job>> {
        if Instant::now() < self.at {
            return Vec::new();
        }
        let size = self.size.min(self.jobs.len());
        self.jobs.drain(..size).collect()
    }

    fn tried(&mut self, succeeded: bool) {
        self.size = if succeeded { self.size * 2 } else { self.size / 2 }.clamp(1, MAX_BATCH);
    }
}

impl Batches {
    fn run(&mut self, queue: &Receiver<Box<dyn Job>>) {
        loop {
            let first = if self.again.jobs.is_empty() {
                queue.recv().map_err(RecvTimeoutError::from)
            } else {
                queue.recv_timeout(self.again.at.saturating_duration_since(Instant::now()))
            };
            let over = matches!(first, Err(RecvTimeoutError::Disconnected));
            if let Ok(first) = first {
                let mut batch = Vec::with_capacity(MAX_BATCH);
                batch.push(first);
                while batch.len() < MAX_BATCH {
                    match queue.try_recv() {
                        Ok(job) => batch.push(job),
                        Err(_) => break,
                    }
                }
                self.commit(batch);
            }
            let due = self.again.due();
            if !due.is_empty() {
                let succeeded = self.commit(due);
                self.again.tried(succeeded);
            }
            if over {
                break;
            }
        }
        let left: Vec<_> = self.again.jobs.drain(..).collect();
        if !left.is_empty() && !self.commit(left) {
            let lost = self.again.jobs.len();
            tracing::error!(lost, "records could not be written, and are lost");
        }
    }

    /// One transaction for the whole batch; then the sink, then the answers. Whether it is durable.
    fn commit(&mut self, mut batch: Vec<Box<dyn Job>>) -> bool {
        let mut done = Done::after(self.last_record);
        let failure = match self.run_all(&mut batch, &mut done) {
            Ok(()) => {
                self.commits.fetch_add(1, Ordering::Relaxed);
                self.last_record = done.last_record;
                self.tell(&batch, &done);
                None
            }
            Err(error) => {
                // Nothing of the batch may stay; when there is no transaction this fails, rightly.
                drop(self.connection.execute_batch("ROLLBACK"));
                for job in &batch {
                    job.way().span.record("otel.status_code", "ERROR");
                }
                Some(error.to_string())
            }
        };
        let again = batch.into_iter().filter_map(|job| job.finish(failure.as_deref())).collect();
        self.again.extend(again, failure.as_deref());
        failure.is_none()
    }

    /// Tells the sink of a batch that is durable.
    fn tell(&self, batch: &[Box<dyn Job>], done: &Done) {
        let durable = Instant::now();
        done.tell(&*self.sink);
        self.sink.committed(batch.len());
        let size = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        for job in batch {
            let way = job.way();
            way.span.record("db.operation.batch.size", size);
            self.sink.wrote(durable.duration_since(way.since));
        }
    }

    fn run_all(&self, batch: &mut [Box<dyn Job>], done: &mut Done) -> Result<(), rusqlite::Error> {
        let execute = |sql| self.connection.prepare_cached(sql)?.execute([]);
        execute("BEGIN IMMEDIATE")?;
        for job in batch {
            let before = done.mark();
            let alone = job.scope() == Scope::Alone;
            if alone {
                execute("SAVEPOINT job")?;
            }
            let succeeded = job.run(&mut Write {
                db: &self.connection,
                now: self.clock.now(),
                running_time: self.running_time.now(&*self.clock),
                done: &mut *done,
            });
            match (alone, succeeded) {
                (true, true) => drop(execute("RELEASE job")?),
                (true, false) => {
                    done.back_to(&before);
                    execute("ROLLBACK TO job")?;
                    execute("RELEASE job")?;
                }
                (false, true) => {}
                // Its own caller hears the cause.
                (false, false) => {
                    let cause = "another write of the same batch failed";
                    return Err(rusqlite::Error::ToSqlConversionFailure(cause.into()));
                }
            }
        }
        execute("COMMIT")?;
        Ok(())
    }
}
