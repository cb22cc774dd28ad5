//! The throttle's memory in SQL.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Row, params};

use super::SqliteStore;
use super::row;
use super::writer::Write;
use crate::domain::network::{Neighbourhood, Network};
use crate::domain::throttle::{KnownOrigin, LockoutEntry, Scope};
use crate::domain::time::{Timestamp, micros};
use crate::domain::user::{UserId, Username};
use crate::store::{StoreError, ThrottleStore};

type Sql<T> = Result<T, rusqlite::Error>;

/// How many networks are remembered of one user.
const NETWORKS_PER_USER: u32 = 256;
/// How old a note of a network may get before it is written anew, in microseconds: an hour. A login
/// from the same place again and again writes it once.
const NOTE_AGAIN_AFTER: i64 = 3_600_000_000;

#[async_trait]
impl ThrottleStore for SqliteStore {
    async fn keep_throttles(&self, changed: Vec<LockoutEntry>) -> Result<(), StoreError> {
        self.writer.write(move |write| changed.iter().try_for_each(|kept| keep(write, kept))).await
    }

    async fn throttles(&self) -> Result<Vec<LockoutEntry>, StoreError> {
        let (now, running_time) = (self.clock.now(), self.running_time.now(&*self.clock));
        self.readers
            .read(move |db| {
                db.prepare_cached(
                    "SELECT account, scope, place, failures, until, \
                     max(at, ?1 - max(?2 - running_time, 0)) FROM lockout",
                )?
                .query_map(params![now.micros(), running_time], kept)?
                .collect()
            })
            .await
    }

    async fn forget_throttles(&self, keep: Duration) -> Result<u64, StoreError> {
        let keep = micros(keep);
        self.writer
            .write(move |write| {
                let deleted = write
                    .db
                    .prepare_cached(
                        "DELETE FROM lockout WHERE (account, scope, place) IN \
                         (SELECT account, scope, place FROM lockout INDEXED BY lockout_at \
                         WHERE at < ?1 AND running_time < ?2 LIMIT 1000)",
                    )?
                    .execute([write.now.micros() - keep, write.running_time - keep])?;
                Ok(deleted as u64)
            })
            .await
    }

    async fn knows_origin(
        &self,
        name: Username,
        network: Network,
        since: Timestamp,
    ) -> Result<KnownOrigin, StoreError> {
        let neighbourhood = network.neighbourhood().networks();
        let [first, last] = [neighbourhood.start(), neighbourhood.end()].map(|n| n.cast_signed());
        self.readers
            .read(move |db| {
                db.prepare_cached(
                    "SELECT count(*) > 0, coalesce(max(network = ?2), 0) FROM login_network \
                     WHERE user_id = (SELECT id FROM user WHERE username = ?1) \
                     AND network BETWEEN ?3 AND ?4 AND last_at >= ?5",
                )?
                .query_row(
                    params![
                        name.as_str(),
                        network.number().cast_signed(),
                        first,
                        last,
                        since.micros()
                    ],
                    |row| Ok(KnownOrigin { neighbourhood: row.get(0)?, network: row.get(1)? }),
                )
            })
            .await
    }
}

/// How the table calls a scope, and the number of its place.
fn columns(scope: Scope) -> (&'static str, i64) {
    match scope {
        Scope::Everywhere => ("everywhere", 0),
        Scope::Neighbourhood(neighbourhood) => {
            ("neighbourhood", neighbourhood.number().cast_signed())
        }
        Scope::Network(network) => ("network", network.number().cast_signed()),
    }
}

fn keep(write: &Write<'_>, kept: &LockoutEntry) -> Sql<()> {
    let account = kept.account.cast_signed();
    let (scope, place) = columns(kept.scope);
    if kept.failures == 0 {
        return write
            .db
            .prepare_cached("DELETE FROM lockout WHERE account = ?1 AND scope = ?2 AND place = ?3")?
            .execute(params![account, scope, place])
            .map(drop);
    }
    write
        .db
        .prepare_cached(
            "INSERT OR REPLACE INTO lockout \
             (account, scope, place, failures, at, until, running_time) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            account,
            scope,
            place,
            kept.failures,
            kept.at.micros(),
            kept.until.micros(),
            write.running_time
        ])
        .map(drop)
}

fn kept(row: &Row<'_>) -> Sql<LockoutEntry> {
    let scope: String = row.get(1)?;
    let place = row.get::<_, i64>(2)?.cast_unsigned();
    Ok(LockoutEntry {
        account: row.get::<_, i64>(0)?.cast_unsigned(),
        scope: match scope.as_str() {
            "network" => Scope::Network(Network::from_number(place)),
            "neighbourhood" => Scope::Neighbourhood(Neighbourhood::from_number(place)),
            _ => Scope::Everywhere,
        },
        failures: row.get(3)?,
        until: row::time(row, 4)?,
        at: row::time(row, 5)?,
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
