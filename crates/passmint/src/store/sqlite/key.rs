//! Keys in SQL.

use async_trait::async_trait;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::writer::{Write, set_meta};
use super::{SqliteStore, row};
use crate::domain::audit::{AuditEvent, AuditKind};
use crate::domain::key::{KeyState, KeyUse};
use crate::domain::time::{Timestamp, micros};
use crate::store::{By, KeyChange, KeyStore, StoreError, StoredKey};

type Sql<T> = Result<T, rusqlite::Error>;

#[async_trait]
impl KeyStore for SqliteStore {
    async fn keys(&self) -> Result<(Vec<StoredKey>, Option<Vec<u8>>), StoreError> {
        self.readers.read(|db| Ok((all(db)?, seal_check(db)?))).await
    }

    async fn change_keys(&self, change: KeyChange, by: By) -> Result<bool, StoreError> {
        self.writer.write(move |write| change_keys(write, &change, &by)).await
    }
}

fn all(db: &Connection) -> Sql<Vec<StoredKey>> {
    db.prepare_cached(
        "SELECT number, kid, use, state, state_at, created_at, public, sealed, imported, \
         until_running_time FROM key ORDER BY number",
    )?
    .query_map([], stored_key)?
    .collect()
}

pub(super) fn seal_check(db: &Connection) -> Sql<Option<Vec<u8>>> {
    db.prepare_cached("SELECT value FROM meta WHERE name = 'seal_check'")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// Keys that verify until somebody revokes them: `kid` and use.
pub(super) fn for_good(db: &Connection) -> Sql<Vec<(String, String)>> {
    db.prepare_cached(
        "SELECT kid, use FROM key WHERE state = 'verifying' AND state_at IS NULL ORDER BY number",
    )?
    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

fn stored_key(row: &Row<'_>) -> Sql<StoredKey> {
    let unknown = |column, what: &str| {
        let cause = format!("unknown {what}: written by a newer Passmint?");
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, cause.into())
    };
    let use_: String = row.get(2)?;
    let state: String = row.get(3)?;
    let at = row.get::<_, Option<i64>>(4)?.map(Timestamp::from_micros);
    Ok(StoredKey {
        number: row.get(0)?,
        kid: row.get(1)?,
        use_: KeyUse::from_name(&use_).ok_or_else(|| unknown(2, "key use"))?,
        state: KeyState::from_parts(&state, at).ok_or_else(|| unknown(3, "key state"))?,
        created_at: row::time(row, 5)?,
        public: row.get(6)?,
        sealed: row.get(7)?,
        imported: row.get(8)?,
        until_running: row.get(9)?,
    })
}

fn change_keys(write: &mut Write<'_>, change: &KeyChange, by: &By) -> Sql<bool> {
    for key in &change.add {
        let exists: bool = write
            .db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM key WHERE kid = ?1)")?
            .query_row([&key.kid], |row| row.get(0))?;
        if exists {
            return Ok(false);
        }
    }
    for key in &change.add {
        write
            .db
            .prepare_cached(
                "INSERT INTO key (kid, use, state, state_at, created_at, public, sealed, imported) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                key.kid,
                key.use_.name(),
                key.state.name(),
                key.state.at().map(Timestamp::micros),
                write.now.micros(),
                key.public,
                key.sealed,
                key.imported
            ])?;
    }
    for (kid, state) in &change.states {
        write
            .db
            .prepare_cached(
                "UPDATE key SET state = ?2, state_at = ?3, until_running_time = ?4 WHERE kid = ?1",
            )?
            .execute(params![
                kid,
                state.name(),
                state.at().map(Timestamp::micros),
                until_running(write, *state)
            ])?;
    }
    for (kid, sealed) in &change.reseal {
        write
            .db
            .prepare_cached("UPDATE key SET sealed = ?2 WHERE kid = ?1")?
            .execute(params![kid, sealed])?;
    }
    for kid in &change.drop {
        write.db.prepare_cached("DELETE FROM key WHERE kid = ?1")?.execute([kid])?;
    }
    keep_marks(write, change)?;
    note_change(write, change, by)?;
    Ok(true)
}

/// What is kept beside the keys: the seal check, and which refresh keys were revoked.
fn keep_marks(write: &Write<'_>, change: &KeyChange) -> Sql<()> {
    if let Some(check) = &change.seal_check {
        set_meta(write.db, "seal_check", check)?;
    }
    if let Some(number) = change.revoked_refresh_key {
        write
            .db
            .prepare_cached("INSERT OR IGNORE INTO revoked_key (number, at) VALUES (?1, ?2)")?
            .execute(params![number, write.now.micros()])?;
    }
    Ok(())
}

/// When a key may be dropped by running time, if it verifies until some time from now.
fn until_running(write: &Write<'_>, state: KeyState) -> Option<i64> {
    let KeyState::Verifying { until: Some(until) } = state else { return None };
    Some(write.running_time.saturating_add(micros(until.since(write.now))))
}

fn note_change(write: &mut Write<'_>, change: &KeyChange, by: &By) -> Sql<()> {
    let about = |kind, kid: &str| AuditEvent::new(kind).with("kid", kid);
    for key in &change.add {
        let event = about(AuditKind::KeyAdded, &key.kid)
            .with("use", key.use_.name())
            .with("state", key.state.name())
            .with("imported", key.imported);
        write.note(by, &event)?;
    }
    for (kid, state) in &change.states {
        write.note(by, &about(AuditKind::KeyMoved, kid).with("state", state.name()))?;
    }
    for kid in &change.drop {
        write.note(by, &about(AuditKind::KeyDropped, kid))?;
    }
    if !change.reseal.is_empty() {
        let count = change.reseal.len();
        write.note(by, &AuditEvent::new(AuditKind::KeysResealed).with("count", count))?;
    }
    Ok(())
}
