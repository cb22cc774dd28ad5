//! The revocation table in SQL, and what the store keeps of its clocks.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::Type;
use rusqlite::{Row, params};

use super::writer::{Write, number, raise_number, set_meta};
use super::{SqliteStore, row};
use crate::domain::clock_guard::{Doubt, LastWallClock};
use crate::domain::moment::Moment;
use crate::domain::revocation::{Revocation, RevocationEntry};
use crate::domain::session::SessionId;
use crate::domain::time::{Timestamp, micros};
use crate::domain::user::UserId;
use crate::store::{LongestLifetimes, RevocationStore, StoreError};

type Sql<T> = Result<T, rusqlite::Error>;

/// The columns that [`entry`] reads, in its order.
const ENTRY: &str = "sequence, kind, user_id, epoch, session_id, generation, effective_at, at";
/// How many entries one step of a sweep looks at.
const BATCH: u32 = 500;

#[async_trait]
impl RevocationStore for SqliteStore {
    async fn revocations(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<RevocationEntry>, StoreError> {
        self.readers
            .read(move |db| {
                db.prepare_cached(&format!(
                    "SELECT {ENTRY} FROM revocation WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"
                ))?
                .query_map(params![after, limit], entry)?
                .collect()
            })
            .await
    }

    async fn count_revocations(&self) -> Result<u64, StoreError> {
        self.readers
            .read(|db| {
                // What sequence numbers leave room for: counting would read the whole table.
                db.query_row(
                    "SELECT coalesce(max(sequence) - min(sequence) + 1, 0) FROM revocation",
                    [],
                    |row| row.get(0),
                )
            })
            .await
    }

    async fn revocations_about(
        &self,
        user: Option<UserId>,
        session: Option<SessionId>,
    ) -> Result<Vec<RevocationEntry>, StoreError> {
        self.readers
            .read(move |db| {
                db.prepare_cached(&format!(
                    "SELECT {ENTRY} FROM revocation WHERE kind = 'user' AND user_id = ?1 \
                     UNION ALL \
                     SELECT {ENTRY} FROM revocation WHERE kind <> 'user' AND session_id = ?2 \
                     ORDER BY sequence"
                ))?
                .query_map(params![user.map(|id| id.0), session.map(|id| id.0)], entry)?
                .collect()
            })
            .await
    }

    async fn sweep_revocations(
        &self,
        margin: Duration,
    ) -> Result<Vec<RevocationEntry>, StoreError> {
        let kinds = ["session", "user", "generation"];
        self.writer
            .write(move |write| {
                let mut swept = Vec::new();
                for kind in kinds {
                    swept.extend(sweep(write, kind, margin)?);
                }
                if !swept.is_empty() {
                    raise_number(write.db, "swept_until", write.now.micros())?;
                }
                Ok(swept)
            })
            .await
    }

    async fn keep_lifetimes(
        &self,
        lifetimes: LongestLifetimes,
    ) -> Result<LongestLifetimes, StoreError> {
        self.writer
            .write(move |write| {
                let keep = |name, span| {
                    let kept = raise_number(write.db, name, micros(span))?;
                    Ok::<_, rusqlite::Error>(Duration::from_micros(kept.unsigned_abs()))
                };
                Ok(LongestLifetimes {
                    access: keep("longest_lifetime", lifetimes.access)?,
                    refresh: keep("longest_refresh_lifetime", lifetimes.refresh)?,
                })
            })
            .await
    }

    async fn note_issue(&self, now: Timestamp) -> Result<(), StoreError> {
        if self.writer.covers_issue(now) {
            return Ok(());
        }
        self.writer.write(|write| write.note_issue().map(drop)).await
    }

    fn running_time(&self) -> i64 {
        self.running_time.now(&*self.clock)
    }

    async fn keep_clocks(&self, doubt: Doubt) -> Result<(), StoreError> {
        self.writer
            .write(move |write| {
                raise_number(write.db, "running_time", write.running_time)?;
                set_meta(write.db, "wall_clock", write.now.micros())?;
                set_meta(write.db, "clock_correction", doubt.correction)?;
                set_meta(write.db, "clock_agreed", micros(doubt.agreed))
            })
            .await
    }

    async fn swept_until(&self) -> Result<Option<Timestamp>, StoreError> {
        let until = self.readers.read(|db| number(db, "swept_until")).await?;
        Ok(until.map(Timestamp::from_micros))
    }

    async fn last_wall_clock(&self) -> Result<Option<LastWallClock>, StoreError> {
        let last = |db: &_| {
            let Some(said) = number(db, "wall_clock")? else { return Ok(None) };
            let agreed = number(db, "clock_agreed")?.unwrap_or_default();
            let doubt = Doubt {
                correction: number(db, "clock_correction")?.unwrap_or_default(),
                agreed: Duration::from_micros(agreed.unsigned_abs()),
            };
            Ok::<_, rusqlite::Error>(Some(LastWallClock {
                said: Timestamp::from_micros(said),
                doubt,
            }))
        };
        self.readers.read(last).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.writer.health()?;
        if !self.lock.is_in_place() {
            let path = self.lock.database().display();
            let text = format!("the database file {path} was removed or replaced");
            return Err(StoreError::Unavailable(text));
        }
        self.readers.read(|db| number(db, "running_time").map(drop)).await
    }
}

/// Drops the oldest entries of one kind up to the first that is not due: entries are in the order of
/// both clocks.
fn sweep(write: &Write<'_>, kind: &str, margin: Duration) -> Sql<Vec<RevocationEntry>> {
    let longest = number(write.db, "longest_lifetime")?.unwrap_or(0);
    let longest = Duration::from_micros(longest.unsigned_abs());
    let now = Moment { wall: write.now, running: write.really_passed };
    let before = now.minus(longest.saturating_add(margin));
    let due: Vec<(i64, bool)> = write
        .db
        .prepare_cached(
            "SELECT sequence, at < ?2 AND running_time < ?3 FROM revocation \
             WHERE kind = ?1 ORDER BY sequence LIMIT ?4",
        )?
        .query_map(params![kind, before.wall.micros(), before.running, BATCH], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Sql<_>>()?;
    let Some((last, _)) = due.into_iter().take_while(|(_, due)| *due).last() else {
        return Ok(Vec::new());
    };
    write
        .db
        .prepare_cached(&format!(
            "DELETE FROM revocation WHERE kind = ?1 AND sequence <= ?2 RETURNING {ENTRY}"
        ))?
        .query_map(params![kind, last], entry)?
        .collect()
}

/// Appends an entry dated `at`; its position is its sequence number. Entries that it makes needless are
/// deleted.
pub(super) fn append(
    write: &Write<'_>,
    revocation: Revocation,
    at: Timestamp,
) -> Sql<RevocationEntry> {
    let (kind, user, epoch, session, generation, from) = match revocation {
        Revocation::Session(id) => ("session", None, None, Some(id), None, None),
        Revocation::User { user, epoch, except } => {
            ("user", Some(user.0), Some(epoch), except, None, None)
        }
        Revocation::Generation { session, generation, from } => {
            ("generation", None, None, Some(session), Some(generation), Some(from.micros()))
        }
    };
    let sequence = write
        .db
        .prepare_cached(
            "INSERT INTO revocation (kind, user_id, epoch, session_id, generation, effective_at, \
             at, running_time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING sequence",
        )?
        .query_row(
            params![
                kind,
                user,
                epoch,
                session.map(|id| id.0),
                generation,
                from,
                at.micros(),
                write.really_passed
            ],
            |row| row.get(0),
        )?;
    swallow(write, revocation, sequence)?;
    Ok(RevocationEntry { sequence, revocation, at })
}

/// Deletes what the entry of that number says, too: of one user, all that end less, but for the newest
/// with another exception; of one session, generations whose grace is over, but for the highest.
fn swallow(write: &Write<'_>, revocation: Revocation, sequence: i64) -> Sql<()> {
    match revocation {
        Revocation::Session(_) => Ok(()),
        Revocation::User { user, except, .. } => write
            .db
            .prepare_cached(
                "DELETE FROM revocation WHERE kind = 'user' AND user_id = ?1 AND sequence < ?2 \
                 AND (?3 IS NULL OR sequence <> coalesce((SELECT max(sequence) FROM revocation \
                 WHERE kind = 'user' AND user_id = ?1 AND sequence < ?2 \
                 AND session_id IS NOT ?3), 0))",
            )?
            .execute(params![user.0, sequence, except.map(|id| id.0)])
            .map(drop),
        Revocation::Generation { session, .. } => write
            .db
            .prepare_cached(
                "DELETE FROM revocation WHERE kind = 'generation' AND session_id = ?1 \
                 AND effective_at <= ?2 AND sequence < (SELECT max(sequence) FROM revocation \
                 WHERE kind = 'generation' AND session_id = ?1 AND effective_at <= ?2)",
            )?
            .execute(params![session.0, write.now.micros()])
            .map(drop),
    }
}

fn entry(row: &Row<'_>) -> Sql<RevocationEntry> {
    let kind: String = row.get(1)?;
    let session = |row: &Row<'_>| row.get::<_, Option<[u8; 16]>>(4).map(|id| id.map(SessionId));
    let needed = || rusqlite::Error::InvalidColumnType(4, "session_id".into(), Type::Null);
    let revocation = match kind.as_str() {
        "session" => Revocation::Session(session(row)?.ok_or_else(needed)?),
        "user" => Revocation::User {
            user: UserId(row.get(2)?),
            epoch: row.get(3)?,
            except: session(row)?,
        },
        "generation" => Revocation::Generation {
            session: session(row)?.ok_or_else(needed)?,
            generation: row.get(5)?,
            from: Timestamp::from_micros(row.get(6)?),
        },
        // Ignoring it would let an ended token live.
        _ => {
            let cause = "unknown kind of revocation: written by a newer Passmint?".into();
            return Err(rusqlite::Error::FromSqlConversionFailure(1, Type::Text, cause));
        }
    };
    Ok(RevocationEntry { sequence: row.get(0)?, revocation, at: row::time(row, 7)? })
}
