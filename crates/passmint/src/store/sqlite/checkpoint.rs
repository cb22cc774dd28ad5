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
const TOO_LONG: i64 = if cfg!(test) { 64 } else { 16_000 };
/// Pages that a busy writer adds while a checkpoint runs.
const LATELY: i64 = if cfg!(test) { 16 } else { 4_000 };
/// How often a log that cannot be shortened is reported.
const WARN_EVERY: Duration = Duration::from_mins(1);
/// How long a restart of the log may wait for the readers of one moment: they hold the writer up.
const RESTART_WITHIN: Duration = Duration::from_millis(50);

/// Keeps the WAL short for as long as it lives.
pub(super) struct Checkpointer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// `commits` counts what the writer has committed.
    pub(super) fn start(connection: Connection, commits: Arc<AtomicU64>) -> std::io::Result<Self> {
        connection.busy_timeout(RESTART_WITHIN).map_err(std::io::Error::other)?;
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
    let mut warned: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        thread::park_timeout(PERIOD);
        let new = commits.load(Ordering::Relaxed) - done;
        if new < MANY_COMMITS && (new == 0 || last.elapsed() < AT_LEAST_EVERY) {
            continue;
        }
        done += new;
        last = Instant::now();
        match shorten(connection) {
            Ok(Outcome::Short) => {}
            Ok(Outcome::HeldByReader(pages)) => {
                if warned.is_none_or(|warned| warned.elapsed() > WARN_EVERY) {
                    warned = Some(Instant::now());
                    tracing::warn!(
                        pages,
                        "the write-ahead log grows: another program has been reading the database \
                         for long"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "checkpoint failed"),
        }
    }
}

/// What became of a checkpoint.
enum Outcome {
    Short,
    /// The log is long, and a reader needs its beginning; how many pages it has.
    HeldByReader(i64),
}

/// Moves what can be moved; where that is everything and the log is long, begins it anew. It never waits
/// for a reader: the writer would wait with it.
fn shorten(connection: &Connection) -> Result<Outcome, rusqlite::Error> {
    let passive = checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
    if passive.pages <= TOO_LONG {
        return Ok(Outcome::Short);
    }
    if passive.moved < passive.pages.saturating_sub(LATELY) {
        return Ok(Outcome::HeldByReader(passive.pages));
    }
    let truncate = checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(if truncate.busy { Outcome::HeldByReader(passive.pages) } else { Outcome::Short })
}

struct Checkpoint {
    /// It could not be finished.
    busy: bool,
    /// Pages in the WAL.
    pages: i64,
    /// Those that are in the database.
    moved: i64,
}

fn checkpoint(connection: &Connection, pragma: &str) -> Result<Checkpoint, rusqlite::Error> {
    connection.query_row(pragma, [], |row| {
        Ok(Checkpoint { busy: row.get(0)?, pages: row.get(1)?, moved: row.get(2)? })
    })
}
