//! Batches of jobs: run in one transaction, committed, reported.
//!
//! A job that fails is taken out and the others are run anew, so that it fails nobody but its own caller.
//! A commit whose outcome is unknown (a failed fsync: SQLite cannot say what is on the disk) ends the
//! process: what is on the disk decides, and no answer contradicts it. So does a write-ahead log that was removed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::job::Job;
use super::{Done, MAX_QUEUED, RunningTime, Write};
use crate::clock::Clock;
use crate::domain::audit::ChainLink;
use crate::domain::time::Timestamp;
use crate::store::sqlite::health::Health;
use crate::store::sqlite::user_ids::HighestUserId;
use crate::store::sqlite::wal::WalFile;
use crate::store::{CommitSink, StoreError};

/// How many jobs one commit may carry.
const MAX_BATCH: usize = 128;
/// A commit that takes longer is a stall.
const STALLED_AFTER: Duration = Duration::from_millis(500);
/// How soon a failed batch's detached jobs are tried again, at the latest.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Batches {
    pub(super) connection: Connection,
    pub(super) wal: WalFile,
    pub(super) running_time: RunningTime,
    pub(super) user_ids: HighestUserId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sink: Arc<dyn CommitSink>,
    pub(super) commits: Arc<AtomicU64>,
    pub(super) issued_until: Arc<AtomicI64>,
    pub(super) health: Arc<Health>,
    /// The newest link of the audit log that is committed.
    pub(super) last_record: ChainLink,
    pub(super) again: Again,
    pub(super) stall: Option<(Timestamp, Timestamp)>,
}

/// Jobs to be done again: their batch failed. They have batches of their own, behind all others, and
/// smaller ones while those fail, too.
pub(super) struct Again {
    jobs: VecDeque<Box<dyn Job>>,
    /// Not before then.
    at: Instant,
    /// How many at once.
    size: usize,
}

impl Again {
    pub(super) fn new() -> Self {
        Self { jobs: VecDeque::new(), at: Instant::now(), size: MAX_BATCH }
    }

    /// Takes jobs whose batch failed for that cause; what is too much is lost, and said to be.
    fn extend(&mut self, jobs: Vec<Box<dyn Job>>, cause: Option<&StoreError>) {
        if jobs.is_empty() {
            return;
        }
        let cause = cause.map(ToString::to_string);
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

/// How a batch ended that was not committed.
enum Failed {
    /// The job of that number, and nothing else.
    One(usize, StoreError),
    /// Everything.
    All(StoreError),
}

impl Batches {
    pub(super) fn run(&mut self, queue: &Receiver<Box<dyn Job>>) {
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
                batch.extend(queue.try_iter().take(MAX_BATCH - 1));
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
        let began = self.clock.steady();
        let began_wall = self.clock.now();
        self.health.begin();
        let mut again = Vec::new();
        let failure = loop {
            let mut done = Done::after(self.last_record, self.issued_until.load(Ordering::Relaxed));
            match self.try_commit(&mut batch, &mut done) {
                Ok(()) => {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    self.last_record = done.last_record;
                    self.issued_until.store(done.issued_until, Ordering::Relaxed);
                    self.tell(&batch, &done);
                    break None;
                }
                Err(failed) => {
                    // Nothing of the batch may stay; when there is no transaction this fails, rightly.
                    drop(self.connection.execute_batch("ROLLBACK"));
                    match failed {
                        Failed::One(number, error) => {
                            self.health.note(&error);
                            let job = batch.remove(number);
                            job.way().span.record("otel.status_code", "ERROR");
                            again.extend(job.finish(Err(error)));
                        }
                        Failed::All(error) => break Some(error),
                    }
                }
            }
        };
        self.health.end(failure.as_ref());
        if self.clock.steady().since(began) > STALLED_AFTER {
            self.stall = Some((began_wall, self.clock.now()));
        }
        for job in batch {
            if failure.is_some() {
                job.way().span.record("otel.status_code", "ERROR");
            }
            again.extend(job.finish(failure.clone().map_or(Ok(()), Err)));
        }
        self.again.extend(again, failure.as_ref());
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

    fn try_commit(&mut self, batch: &mut [Box<dyn Job>], done: &mut Done) -> Result<(), Failed> {
        if batch.is_empty() {
            return Ok(());
        }
        let all = |error: rusqlite::Error| Failed::All(error.into());
        let execute = |sql| self.connection.prepare_cached(sql)?.execute([]);
        execute("BEGIN IMMEDIATE").map_err(all)?;
        for (number, job) in batch.iter_mut().enumerate() {
            let ran = job.run(&mut Write {
                db: &self.connection,
                now: self.clock.now(),
                running_time: self.running_time.now(&*self.clock),
                really_passed: self.running_time.really_passed(&*self.clock),
                stall: self.stall,
                done: &mut *done,
            });
            // A full or broken disk is everybody's; anything else, also a damaged page, is this job's own.
            ran.map_err(|error| match StoreError::from(error) {
                error @ (StoreError::Failed(_) | StoreError::Damaged(_)) => {
                    Failed::One(number, error)
                }
                error => Failed::All(error),
            })?;
        }
        self.user_ids.raise(done.highest_user).map_err(|error| {
            let why = format!("cannot note the highest id of a user: {error}");
            Failed::All(StoreError::Unavailable(why))
        })?;
        for job in batch.iter_mut() {
            job.executed();
        }
        execute("COMMIT").map(drop).map_err(|error| self.not_committed(&error))?;
        if self.wal.is_lost() {
            let why = self.wal.rescue(&self.connection);
            self.sink.fatal(&why);
            return Err(Failed::All(StoreError::OutcomeUnknown(why)));
        }
        Ok(())
    }

    /// What a failed COMMIT means. After an I/O error nobody can say whether it will be found on the
    /// disk, and trying again would only look as if it helped.
    fn not_committed(&self, error: &rusqlite::Error) -> Failed {
        if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
            let why =
                format!("a commit failed, and whether it is on the disk is not known: {error}");
            self.sink.fatal(&why);
            return Failed::All(StoreError::OutcomeUnknown(why));
        }
        Failed::All(StoreError::Unavailable(error.to_string()))
    }
}
