//! The audit log in SQL.

use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::writer::{Write, set_meta};
use crate::domain::audit::{AuditEvent, AuditIndex, AuditKind, AuditRecord, ChainLink, follow};
use crate::domain::moment::Moment;
use crate::domain::time::Timestamp;
use crate::domain::user::{UserId, Username};
use crate::store::{AuditQuery, AuditStore, By, StoreError};

type Sql<T> = Result<T, rusqlite::Error>;

#[async_trait]
impl AuditStore for SqliteStore {
    fn note(&self, by: By, event: AuditEvent) -> Result<(), StoreError> {
        // When it happened, not when it is written: that may be later.
        let at = self.clock.now();
        self.writer.write_detached(move |write| write.note_at(at, &by, &event))
    }

    async fn audit_records(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        self.readers.read(move |db| records(db, &query)).await
    }

    async fn audited_user(&self, name: Username) -> Result<Option<UserId>, StoreError> {
        self.readers.read(move |db| audited_user(db, &name)).await
    }

    async fn audit_ends(&self) -> Result<(ChainLink, ChainLink), StoreError> {
        self.readers.read(|db| Ok((anchor(db)?, newest(db)?))).await
    }

    async fn sweep_audit(&self, keep: Duration) -> Result<u64, StoreError> {
        self.writer.write(move |write| sweep(write, keep)).await
    }
}

/// Appends a record behind `last`; the new link.
pub(super) fn append(
    db: &Connection,
    last: ChainLink,
    at: Moment,
    by: &By,
    event: &AuditEvent,
) -> Sql<ChainLink> {
    let record = event.record(by, at.wall);
    let link = last.next(&record);
    db.prepare_cached(
        "INSERT INTO audit (sequence, at, event, user_id, record, hash, running_time) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        link.sequence,
        at.wall.micros(),
        event.kind.name(),
        event.user.map(|user| user.0),
        record,
        link.hash,
        at.running
    ])?;
    Ok(link)
}

/// The newest link: that of the last record, or where the sweep has left off.
pub(super) fn newest(db: &Connection) -> Sql<ChainLink> {
    let last = db
        .prepare_cached("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| Ok(ChainLink { sequence: row.get(0)?, hash: row.get(1)? }))
        .optional()?;
    last.map_or_else(|| anchor(db), Ok)
}

/// The link that the oldest kept record follows.
fn anchor(db: &Connection) -> Sql<ChainLink> {
    let sequence = meta(db, "audit_swept")?;
    let hash = meta(db, "audit_swept_hash")?;
    Ok(match (sequence, hash) {
        (Some(sequence), Some(hash)) => ChainLink { sequence, hash },
        _ => ChainLink::START,
    })
}

fn meta<T: FromSql>(db: &Connection, name: &str) -> Sql<Option<T>> {
    db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn records(db: &Connection, query: &AuditQuery) -> Sql<Vec<AuditRecord>> {
    let order = if query.newest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT sequence, hash, record, at, event, user_id FROM audit \
         WHERE sequence > ?1 AND sequence < ?2 \
         AND (?3 IS NULL OR user_id = ?3) AND substr(event, 1, length(?4)) = ?4 \
         ORDER BY sequence {order} LIMIT ?5"
    );
    let before = query.before.unwrap_or(i64::MAX);
    let user = query.user.map(|user| user.0);
    db.prepare_cached(&sql)?
        .query_map(params![query.after, before, user, query.event, query.limit], record)?
        .collect()
}

fn audited_user(db: &Connection, name: &Username) -> Sql<Option<UserId>> {
    let [added, imported] = [AuditKind::UserAdded, AuditKind::UserImported].map(AuditKind::name);
    db.query_row(
        "SELECT user_id FROM audit WHERE event IN (?1, ?2) AND json_extract(record, '$.username') = ?3 \
         ORDER BY sequence DESC LIMIT 1",
        params![added, imported, name.as_str()],
        |row| row.get(0).map(UserId),
    )
    .optional()
}

fn record(row: &Row<'_>) -> Sql<AuditRecord> {
    let link = ChainLink { sequence: row.get(0)?, hash: row.get(1)? };
    let index = AuditIndex {
        at: Timestamp::from_micros(row.get(3)?),
        event: row.get(4)?,
        user: row.get::<_, Option<i64>>(5)?.map(UserId),
    };
    Ok(AuditRecord { link, text: row.get(2)?, index })
}

/// Deletes from the old end only, and never the newest record: the chain stays whole. A record that
/// does not hold is kept, and all after it: the sweep removes no trace of tampering.
fn sweep(write: &Write<'_>, keep: Duration) -> Sql<u64> {
    const BATCH: i64 = 1000;
    let from = anchor(write.db)?;
    let newest = newest(write.db)?.sequence;
    let mut statement = write.db.prepare_cached(
        "SELECT sequence, hash, record, at, event, user_id, running_time FROM audit \
         WHERE sequence <= ?1 ORDER BY sequence",
    )?;
    let oldest = statement.query_map([(from.sequence + BATCH).min(newest - 1)], |row| {
        Ok((record(row)?, row.get(6)?))
    })?;
    let mut last = from;
    for oldest in oldest {
        let (record, running): (AuditRecord, i64) = oldest?;
        if !(Moment { wall: record.index.at, running }).is_older_than(keep, write.moment()) {
            break;
        }
        match follow(last, slice::from_ref(&record)) {
            Ok(link) => last = link,
            Err(error) => {
                tracing::error!(%error, "the audit log is not swept any more");
                break;
            }
        }
    }
    if last.sequence == from.sequence {
        return Ok(0);
    }
    set_meta(write.db, "audit_swept", last.sequence)?;
    set_meta(write.db, "audit_swept_hash", last.hash)?;
    let deleted = write
        .db
        .prepare_cached("DELETE FROM audit WHERE sequence <= ?1")?
        .execute([last.sequence])?;
    Ok(deleted as u64)
}
