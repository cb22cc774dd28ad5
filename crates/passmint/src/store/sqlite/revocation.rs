//! The revocation table in SQL.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::Type;
use rusqlite::{Row, params};

use super::writer::Write;
use super::{SqliteStore, row};
use crate::domain::revocation::{Revocation, RevocationEntry};
use crate::domain::session::SessionId;
use crate::domain::time::{Timestamp, micros};
use crate::domain::user::UserId;
use crate::store::{RevocationStore, StoreError};

type Sql<T> = Result<T, rusqlite::Error>;

#[async_trait]
impl RevocationStore for SqliteStore {
    async fn revocations(&self) -> Result<Vec<RevocationEntry>, StoreError> {
        self.readers
            .read(|db| {
                db.prepare_cached(
                    "SELECT sequence, kind, user_id, epoch, session_id, generation, effective_at, at \
                     FROM revocation ORDER BY sequence",
                )?
                .query_map([], entry)?
                .collect()
            })
            .await
    }

    async fn sweep_revocations(
        &self,
        lifetime: Duration,
        keep_users: bool,
    ) -> Result<Vec<i64>, StoreError> {
        self.writer
            .write(move |write| {
                let lifetime = longest_lifetime(write, micros(lifetime))?;
                write
                    .db
                    .prepare_cached(
                        "DELETE FROM revocation WHERE sequence IN (SELECT sequence FROM revocation \
                         WHERE running_time < ?1 AND at < ?2 AND NOT (?3 AND kind = 'user') \
                         LIMIT 500) RETURNING sequence",
                    )?
                    .query_map(
                        params![
                            write.running_time.saturating_sub(lifetime),
                            write.now.micros().saturating_sub(lifetime),
                            keep_users
                        ],
                        |row| row.get(0),
                    )?
                    .collect()
            })
            .await
    }

    async fn keep_running_time(&self) -> Result<(), StoreError> {
        self.writer
            .write(|write| {
                write
                    .db
                    .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'running_time'")?
                    .execute([write.running_time])
                    .map(drop)
            })
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.readers.read(|db| db.query_row("SELECT 1", [], |_| Ok(()))).await
    }
}

/// The longest lifetime that a sweep of this database was ever called with: shortening the setting
/// and lengthening it again must not bring an ended token back.
fn longest_lifetime(write: &Write<'_>, lifetime: i64) -> Sql<i64> {
    write
        .db
        .prepare_cached(
            "INSERT INTO meta (name, value) VALUES ('longest_lifetime', ?1) \
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value) RETURNING value",
        )?
        .query_row([lifetime], |row| row.get(0))
}

/// Appends an entry; its position is its sequence number.
pub(super) fn append(write: &Write<'_>, revocation: Revocation) -> Sql<RevocationEntry> {
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
                write.now.micros(),
                write.running_time
            ],
            |row| row.get(0),
        )?;
    Ok(RevocationEntry { sequence, revocation, at: write.now })
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
