//! Moves committed pages from the WAL into the database on a thread of its own, so that no commit
//! pays for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// How often it is asked whether a checkpoint is due.
const PERIOD: Duration = Duration::from_millis(250);
/// Commits after which one is due at once.
const MANY_COMMITS: u64 = 500;
/// How long a single commit may wait for one.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// Pages in the WAL (64 MiB) past which the writer has to wait for a checkpoint. One beside a writer
/// that never rests can never finish, and an unfinished one lets the WAL grow.
const TOO_LONG: i64 = 16_000;

/// Keeps the WAL short for as long as it lives.
pub(super) struct Checkpointer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// `commits` counts what the writer has committed.
    pub(super) fn start(connection: Connection, commits: Arc<AtomicU64>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || run(&connection, &commits, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}

fn run(connection: &Connection, commits: &AtomicU64, stop: &AtomicBool) {
    let mut done = 0;
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::park_timeout(PERIOD);
        let new = commits.load(Ordering::Relaxed) - done;
        if new < MANY_COMMITS && (new == 0 || last.elapsed() < AT_LEAST_EVERY) {
            continue;
        }
        done += new;
        last = Instant::now();
        match checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)") {
            Ok(pages) if pages > TOO_LONG => {
                if let Err(error) = checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)") {
                    tracing::warn!(%error, "could not shorten the write-ahead log");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "checkpoint failed"),
        }
    }
}

/// Runs one checkpoint; how many pages the WAL holds.
fn checkpoint(connection: &Connection, pragma: &str) -> Result<i64, rusqlite::Error> {
    connection.query_row(pragma, [], |row| row.get(1))
}
