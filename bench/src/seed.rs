//! Fills the server's database directly, while the server is stopped: with users, so that the
//! start is measured on a real table, and with sessions, so that refreshes meet one.
//!
//! **To adapt** when the server's schema changes: the constants, nothing else. Rows are copies of
//! a row that the server made itself, so columns that are not named here need no care.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OptionalExtension as _, ToSql, Transaction, params};
use uuid::{NoContext, Timestamp, Uuid};

/// The table of users.
const USERS: &str = "user";
/// Its integer key; new rows leave it to the database.
const USER_ID: &str = "id";
/// The columns that hold the name or a form of it; each new row gets a name of its own in all.
const USER_NAMES: &[&str] = &["username", "username_folded"];
/// The column that holds the hash, as a PHC string.
const USER_HASH: &str = "password_hash";
/// The column that says since when a user is disabled, in microseconds since 1970; null: enabled.
const USER_DISABLED: &str = "disabled_at";
/// The table of sessions.
const SESSIONS: &str = "session";
/// Its key, a version 7 UUID in 16 bytes.
const SESSION_ID: &str = "id";
/// The column that says whose session it is.
const SESSION_USER: &str = "user_id";

/// The table of revocations.
const REVOCATIONS: &str = "revocation";
/// Its integer key; new rows leave it to the database.
const REVOCATION_NUMBER: &str = "sequence";
/// The column that says which session was ended; null in those of users.
const REVOCATION_SESSION: &str = "session_id";

/// How far behind the last session the copies that follow it are spread.
const TAIL_MILLIS: u64 = 5;

/// Adds `count` users named `seeded-0…`, copies of the user `template` but for their names and
/// ids.
pub(crate) fn seed_users(db: &Path, template: &str, count: u32) -> Result<()> {
    seed_named(db, template, (0..count).map(|number| format!("seeded-{number}")))
}

/// **To adapt.** Adds users of these names, copies of the user `template` but for their names and
/// ids.
pub(crate) fn seed_named(
    db: &Path,
    template: &str,
    names: impl Iterator<Item = String>,
) -> Result<()> {
    let mut connection = open(db)?;
    let transaction = connection.transaction()?;
    let copied = other_columns(&transaction, USERS, &[&[USER_ID], USER_NAMES].concat())?;
    let columns = USER_NAMES.join(", ");
    let placeholders = vec!["?1"; USER_NAMES.len()].join(", ");
    let by_name = USER_NAMES.first().context("no name column")?;
    {
        let mut insert = transaction.prepare(&format!(
            "INSERT INTO {USERS} ({columns}{copied}) SELECT {placeholders}{copied} \
             FROM {USERS} WHERE {by_name} = ?2"
        ))?;
        for name in names {
            let rows = insert.execute(params![name, template])?;
            ensure!(rows == 1, "there is no user {template} to copy");
        }
    }
    finish(transaction)
}

/// Disables these users.
pub(crate) fn disable(db: &Path, names: impl Iterator<Item = String>) -> Result<()> {
    const SINCE: i64 = 1_780_000_000_000_000;
    set_column(db, USER_DISABLED, SINCE, names)
}

/// Gives these users another hash, a PHC string.
pub(crate) fn set_hash(db: &Path, phc: &str, names: impl Iterator<Item = String>) -> Result<()> {
    set_column(db, USER_HASH, phc, names)
}

fn set_column(
    db: &Path,
    column: &str,
    value: impl ToSql,
    names: impl Iterator<Item = String>,
) -> Result<()> {
    let mut connection = open(db)?;
    let transaction = connection.transaction()?;
    let by_name = USER_NAMES.first().context("no name column")?;
    {
        let mut update = transaction
            .prepare(&format!("UPDATE {USERS} SET {column} = ?1 WHERE {by_name} = ?2"))?;
        for name in names {
            let rows = update.execute(params![value, name])?;
            ensure!(rows == 1, "there is no user {name}");
        }
    }
    finish(transaction)
}

/// **To adapt.** Adds about `count` sessions of all users, copies of an existing one, with ids
/// spread between those of the `newest` sessions that exist: a refresh then finds its row on a
/// page of its own, as among the sessions of many users, not beside those of the other
/// connections.
pub(crate) fn fill_sessions(db: &Path, newest: u32, count: u32) -> Result<()> {
    let mut connection = open(db)?;
    let transaction = connection.transaction()?;
    let users: Vec<i64> = transaction
        .prepare(&format!("SELECT {USER_ID} FROM {USERS}"))?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut ids: Vec<[u8; 16]> = transaction
        .prepare(&format!(
            "SELECT {SESSION_ID} FROM {SESSIONS} ORDER BY {SESSION_ID} DESC LIMIT ?1"
        ))?
        .query_map([newest], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    ids.reverse();
    let template = ids.first().context("there is no session to copy")?;
    let each = count / u32::try_from(ids.len())?;
    let copied = other_columns(&transaction, SESSIONS, &[SESSION_ID, SESSION_USER])?;
    {
        let mut insert = transaction.prepare(&format!(
            "INSERT INTO {SESSIONS} ({SESSION_ID}, {SESSION_USER}{copied}) \
             SELECT ?1, ?2{copied} FROM {SESSIONS} WHERE {SESSION_ID} = ?3"
        ))?;
        let mut owners = users.iter().cycle();
        for (index, id) in ids.iter().enumerate() {
            let from = millis(id);
            let until = ids.get(index + 1).map_or(from + TAIL_MILLIS, millis);
            for number in 0..each {
                let at = from + (until - from) * u64::from(number) / u64::from(each);
                let timestamp = Timestamp::from_unix(
                    NoContext,
                    at / 1000,
                    u32::try_from(at % 1000)? * 1_000_000,
                );
                let copy = Uuid::new_v7(timestamp).into_bytes();
                insert.execute(params![copy, owners.next(), template])?;
            }
        }
    }
    finish(transaction)
}

/// **To adapt.** Adds `count` ended sessions to the revocations, copies of the last one but for the
/// session.
pub(crate) fn fill_revocations(db: &Path, count: u32) -> Result<()> {
    let mut connection = open(db)?;
    let transaction = connection.transaction()?;
    let copied =
        other_columns(&transaction, REVOCATIONS, &[REVOCATION_NUMBER, REVOCATION_SESSION])?;
    let last: i64 = transaction.query_row(
        &format!(
            "SELECT max({REVOCATION_NUMBER}) FROM {REVOCATIONS} WHERE {REVOCATION_SESSION} NOT NULL"
        ),
        [],
        |row| row.get(0),
    )?;
    {
        let mut insert = transaction.prepare(&format!(
            "INSERT INTO {REVOCATIONS} ({REVOCATION_SESSION}{copied}) SELECT ?1{copied} \
             FROM {REVOCATIONS} WHERE {REVOCATION_NUMBER} = ?2"
        ))?;
        for number in 1..=count {
            insert.execute(params![u128::from(number).to_be_bytes(), last])?;
        }
    }
    finish(transaction)
}

fn open(db: &Path) -> Result<Connection> {
    ensure!(db.exists(), "the server made no database at {}", db.display());
    Connection::open(db).with_context(|| format!("cannot open {}", db.display()))
}

/// Commits, and leaves nothing in the log: the server must start as after a clean stop.
fn finish(transaction: Transaction<'_>) -> Result<()> {
    let path = transaction.path().map(str::to_owned).context("a database without a path")?;
    transaction.commit()?;
    let connection = Connection::open(path)?;
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .optional()
        .context("cannot checkpoint")?;
    Ok(())
}

/// The columns of `table` that are not `replaced`, each with a comma before it. Generated columns
/// are left to the database (`table_info` does not list them).
fn other_columns(db: &Connection, table: &str, replaced: &[&str]) -> Result<String> {
    let columns: Vec<String> = db
        .prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    ensure!(!columns.is_empty(), "the database has no table {table}");
    let others = columns.iter().filter(|column| !replaced.contains(&column.as_str()));
    Ok(others.fold(String::new(), |list, column| list + ", \"" + column + "\""))
}

/// When a version 7 UUID was made, in milliseconds since 1970.
fn millis(id: &[u8; 16]) -> u64 {
    id.iter().take(6).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_users_can_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passmint.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE user (id INTEGER PRIMARY KEY, username TEXT UNIQUE,
                 username_folded TEXT UNIQUE, password_hash TEXT, disabled_at INTEGER);
             INSERT INTO user VALUES (7, 'ann', 'ann', 'h', NULL);",
        )
        .unwrap();
        let names = ["bea", "cyd"].map(str::to_owned);
        seed_named(&path, "ann", names.clone().into_iter()).unwrap();
        disable(&path, names.iter().take(1).cloned()).unwrap();
        set_hash(&path, "other", names.iter().skip(1).cloned()).unwrap();
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
        let of = |what: &str| count(&format!("SELECT count(*) FROM user WHERE {what}"));
        assert_eq!(of("username = 'ann' AND password_hash = 'h' AND disabled_at IS NULL"), 1);
        assert_eq!(of("username = 'bea' AND password_hash = 'h' AND disabled_at > 0"), 1);
        assert_eq!(of("username = 'cyd' AND password_hash = 'other' AND disabled_at IS NULL"), 1);
        assert!(disable(&path, ["dot".to_owned()].into_iter()).is_err());
    }

    #[test]
    fn copies_differ_only_in_what_identifies_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passmint.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE user (id INTEGER PRIMARY KEY, username TEXT UNIQUE,
                 username_folded TEXT UNIQUE, hash TEXT);
             CREATE TABLE session (id BLOB PRIMARY KEY, user_id INTEGER, generation INTEGER);
             INSERT INTO user VALUES (7, 'ann', 'ann', 'h');
             INSERT INTO session VALUES (x'0190000000007000a000000000000000', 7, 3),
                                        (x'0190000001007000a000000000000000', 7, 3);",
        )
        .unwrap();
        seed_users(&path, "ann", 10).unwrap();
        fill_sessions(&path, 2, 100).unwrap();
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM user WHERE hash = 'h'"), 11);
        assert_eq!(count("SELECT count(*) FROM session WHERE generation = 3"), 102);
        assert_eq!(count("SELECT count(DISTINCT user_id) FROM session"), 11);
        let between = "SELECT count(*) FROM session WHERE id > x'0190000000007000a000000000000000'
                       AND id < x'0190000001007000a000000000000000'";
        assert!(count(between) >= 49, "{}", count(between));
        assert!(seed_users(&path, "bob", 1).is_err());
        db.execute_batch(
            "CREATE TABLE revocation (sequence INTEGER PRIMARY KEY, session_id BLOB, at INTEGER);
             INSERT INTO revocation VALUES (1, x'01', 5), (2, NULL, 6);",
        )
        .unwrap();
        fill_revocations(&path, 9).unwrap();
        assert_eq!(count("SELECT count(DISTINCT session_id) FROM revocation WHERE at = 5"), 10);
    }
}
