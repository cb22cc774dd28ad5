//! The bare SQLite writer that durable refreshes are compared with: the server's statement, its
//! settings and its batches in a loop of one thread, without HTTP, tokens or keys.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rusqlite::{CachedStatement, Connection, params};
use uuid::{NoContext, Timestamp, Uuid};

use crate::load::Window;
use crate::report::as_f64;

/// How the write connection is set up: durable commits in WAL mode, the rest as SQLite has it.
const BARE_PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
/// A row of the fresh table. `?1` id, `?2` user, `?3` secret hash, `?4` now, `?5` expiry.
const BARE_INSERT: &str = "
    INSERT INTO session (id, user_id, secret_hash, generation, anchor_generation, anchor_at,
        created_at, rotated_at, refresh_expires_at, refresh_key, address, user_agent)
    VALUES (?1, ?2, ?3, 0, 0, ?4, ?4, ?4, ?5, 1, '192.0.2.7', 'python-requests/2.32.3')";

/// When the sessions of the table began, in microseconds since 1970; any time will do.
const EPOCH: i64 = 1_780_000_000_000_000;
/// Time between two of them, in microseconds.
const SPACING: i64 = 50_000;
/// Lifetime of a refresh token, in microseconds.
const LIFETIME: i64 = 30 * 86_400 * 1_000_000;

/// The writer and the sessions that it rotates.
pub(crate) struct BareWriter {
    db: Connection,
    statement: &'static str,
    rotating: Vec<Session>,
    /// The first session of the next batch.
    next: usize,
    began: Instant,
    /// The clock of the table at `began`.
    base: i64,
}

struct Session {
    id: [u8; 16],
    secret_hash: [u8; 32],
    generation: i64,
}

impl BareWriter {
    /// Makes a fresh table of `sessions` rows in `folder`. The rows that will be rotated, as many
    /// as the load rotates on the server, lie spread over it, as do the server's (`seed`).
    pub(crate) fn create(folder: &Path, sessions: u32, rotated: u32) -> Result<Self> {
        let mut db = Connection::open(folder.join("bare.db")).context("cannot make bare.db")?;
        db.execute_batch(BARE_PRAGMAS)?;
        db.execute_batch(passmint::store::sqlite::FIRST_SCHEMA)?;
        db.execute_batch(
            "ALTER TABLE session ADD COLUMN created_running_time INTEGER NOT NULL DEFAULT 0;
             ALTER TABLE session ADD COLUMN rotated_running_time INTEGER NOT NULL DEFAULT 0;
             ALTER TABLE session ADD COLUMN epoch INTEGER;",
        )?;
        let mut rotating = Vec::new();
        let every = (sessions / rotated).max(1);
        let transaction = db.transaction()?;
        {
            let mut insert = transaction.prepare(BARE_INSERT)?;
            for number in 0..sessions {
                let at = EPOCH + i64::from(number) * SPACING;
                let (id, secret_hash) = (new_id(at)?, random_bytes());
                insert.execute(params![id, number / 2, secret_hash, at, at + LIFETIME])?;
                if number.is_multiple_of(every) {
                    rotating.push(Session { id, secret_hash, generation: 0 });
                }
            }
        }
        transaction.commit()?;
        // In the order of their ids, a batch would find its rows side by side.
        let order = RandomState::new();
        rotating.sort_by_cached_key(|session: &Session| order.hash_one(session.id));
        let base = EPOCH + i64::from(sessions) * SPACING;
        Ok(Self {
            db,
            statement: passmint::store::sqlite::rotation_statement(),
            rotating,
            next: 0,
            began: Instant::now(),
            base,
        })
    }

    /// Rotates the sessions in turn, one batch after the other; durable rotations per second.
    pub(crate) fn run(&mut self, window: Window, batch: usize) -> Result<f64> {
        let counted_from = Instant::now() + window.warm_up;
        let end = counted_from + window.measured;
        let (mut first, mut last, mut count) = (None, counted_from, 0);
        loop {
            let now = Instant::now();
            if now >= counted_from {
                first.get_or_insert(now);
            }
            if now >= end {
                break;
            }
            let rotated = self.batch(now, batch)?;
            if first.is_some() {
                (count, last) = (count + rotated, Instant::now());
            }
        }
        let counted = last.duration_since(first.unwrap_or(last));
        Ok(as_f64(count) / counted.as_secs_f64().max(f64::MIN_POSITIVE))
    }

    fn batch(&mut self, now: Instant, size: usize) -> Result<usize> {
        let elapsed = i64::try_from(now.duration_since(self.began).as_micros())?;
        let time = self.base + elapsed;
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        {
            let mut rotation = self.db.prepare_cached(self.statement)?;
            for _ in 0..size {
                let session = self.rotating.get_mut(self.next).context("no sessions")?;
                rotate(&mut rotation, session, time)?;
                self.next = (self.next + 1) % self.rotating.len();
            }
        }
        self.db.prepare_cached("COMMIT")?.execute([])?;
        Ok(size)
    }
}

fn rotate(statement: &mut CachedStatement<'_>, session: &mut Session, time: i64) -> Result<()> {
    const INTERVAL: i64 = 60 * 1_000_000;
    let Session { id, secret_hash, generation } = session;
    let given = params![
        &id[..],
        *generation,
        &secret_hash[..],
        time,
        INTERVAL,
        LIFETIME,
        LIFETIME * 12,
        1,
        "192.0.2.7",
        time,
    ];
    // All columns are read, as the server must to answer.
    statement
        .query_row(given, |row| {
            for column in 0..18 {
                row.get_ref(column)?;
            }
            Ok(())
        })
        .context("the bare writer rotated nothing")?;
    *generation += 1;
    Ok(())
}

fn new_id(micros: i64) -> Result<[u8; 16]> {
    let micros = u64::try_from(micros)?;
    let nanos = u32::try_from(micros % 1_000_000)? * 1_000;
    Ok(Uuid::new_v7(Timestamp::from_unix(NoContext, micros / 1_000_000, nanos)).into_bytes())
}

/// Bytes that do not repeat; `uuid` brings the randomness anyway.
fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    for (half, value) in bytes.chunks_exact_mut(16).zip([0, 1]) {
        let id = Uuid::new_v7(Timestamp::from_unix(NoContext, value, 0));
        half.copy_from_slice(id.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_counted_rotation_is_in_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = BareWriter::create(folder.path(), 1_000, 100).unwrap();
        let window = Window { warm_up: Duration::ZERO, measured: Duration::from_millis(50) };
        let rate = writer.run(window, 64).unwrap();
        assert!(rate > 0.0);
        let (rows, sum): (i64, i64) = writer
            .db
            .query_row(
                "SELECT count(*), sum(generation) FROM session WHERE generation > 0",
                [],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .unwrap();
        let known: i64 = writer.rotating.iter().map(|session| session.generation).sum();
        assert!(rows > 0 && rows <= 100, "{rows}");
        assert_eq!(sum, known);
    }
}
