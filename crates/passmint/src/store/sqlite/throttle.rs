//! The throttle's memory in SQL.

use async_trait::async_trait;
use rusqlite::{Row, params};

use super::SqliteStore;
use super::row;
use super::writer::Write;
use crate::domain::network::Network;
use crate::domain::throttle::Held;
use crate::domain::time::Timestamp;
use crate::domain::user::{UserId, Username};
use crate::store::{StoreError, ThrottleStore};

type Sql<T> = Result<T, rusqlite::Error>;

/// How the table says "from everywhere".
const EVERYWHERE: i64 = 0;
/// How many networks are remembered of one user.
const NETWORKS_PER_USER: u32 = 64;
/// How old a note of a network may get before it is written anew, in microseconds: an hour. A login
/// from the same place again and again writes it once.
const NOTE_AGAIN_AFTER: i64 = 3_600_000_000;

#[async_trait]
impl ThrottleStore for SqliteStore {
    async fn keep_throttles(&self, changed: Vec<Held>) -> Result<(), StoreError> {
        self.writer.write(move |write| changed.iter().try_for_each(|kept| keep(write, kept))).await
    }

    async fn throttles(&self) -> Result<Vec<Held>, StoreError> {
        self.readers
            .read(|db| {
                db.prepare_cached("SELECT account, network, failures, at, until FROM throttle")?
                    .query_map([], kept)?
                    .collect()
            })
            .await
    }

    async fn forget_throttles(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.writer
            .write(move |write| {
                let deleted = write
                    .db
                    .prepare_cached(
                        "DELETE FROM throttle WHERE (account, network) IN \
                         (SELECT account, network FROM throttle WHERE at < ?1 LIMIT 1000)",
                    )?
                    .execute([before.micros()])?;
                Ok(deleted as u64)
            })
            .await
    }

    async fn knows_network(
        &self,
        name: Username,
        network: Network,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        self.readers
            .read(move |db| {
                db.prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM login_network WHERE network = ?2 \
                     AND last_at >= ?3 AND user_id = (SELECT id FROM user WHERE username = ?1))",
                )?
                .query_row(
                    params![name.as_str(), network.number().cast_signed(), since.micros()],
                    |row| row.get(0),
                )
            })
            .await
    }
}

fn keep(write: &Write<'_>, kept: &Held) -> Sql<()> {
    let account = kept.account.cast_signed();
    let network = kept.network.map_or(EVERYWHERE, |network| network.number().cast_signed());
    if kept.failures == 0 {
        return write
            .db
            .prepare_cached("DELETE FROM throttle WHERE account = ?1 AND network = ?2")?
            .execute([account, network])
            .map(drop);
    }
    write
        .db
        .prepare_cached(
            "INSERT OR REPLACE INTO throttle (account, network, failures, at, until) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![account, network, kept.failures, kept.at.micros(), kept.until.micros()])
        .map(drop)
}

fn kept(row: &Row<'_>) -> Sql<Held> {
    let network: i64 = row.get(1)?;
    Ok(Held {
        account: row.get::<_, i64>(0)?.cast_unsigned(),
        network: (network != EVERYWHERE).then(|| Network::from_number(network.cast_unsigned())),
        failures: row.get(2)?,
        at: row::time(row, 3)?,
        until: row::time(row, 4)?,
    })
}

/// Notes from where a user has logged in; of too many networks the oldest goes.
pub(super) fn note_network(write: &Write<'_>, user: UserId, network: Network) -> Sql<()> {
    let now = write.now.micros();
    let noted = write
        .db
        .prepare_cached(
            "INSERT INTO login_network (user_id, network, last_at) VALUES (?1, ?2, ?3) \
             ON CONFLICT DO UPDATE SET last_at = excluded.last_at WHERE last_at < ?4",
        )?
        .execute(params![
            user.0,
            network.number().cast_signed(),
            now,
            now.saturating_sub(NOTE_AGAIN_AFTER)
        ])?;
    if noted > 0 {
        write
            .db
            .prepare_cached(
                "DELETE FROM login_network WHERE user_id = ?1 AND network IN (SELECT network \
                 FROM login_network WHERE user_id = ?1 ORDER BY last_at DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![user.0, NETWORKS_PER_USER])?;
    }
    Ok(())
}
