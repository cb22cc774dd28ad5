//! The schema of the file: whose it is, which version it has, and how it gets the newest.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::OpenError;

/// The schema, step by step; the database's `user_version` counts the steps it has taken.
const MIGRATIONS: [&str; 7] = [
    FIRST_SCHEMA,
    include_str!("../../../migrations/sqlite/0002_throttle_audit_import.sql"),
    include_str!("../../../migrations/sqlite/0003_session_count.sql"),
    include_str!("../../../migrations/sqlite/0004_lockouts.sql"),
    include_str!("../../../migrations/sqlite/0005_both_clocks.sql"),
    include_str!("../../../migrations/sqlite/0006_ended_before.sql"),
    include_str!("../../../migrations/sqlite/0007_application_id.sql"),
];

/// The first step; the bench harness builds its bare table from it.
pub const FIRST_SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_first.sql");

/// The newest version that this program knows.
pub(super) const NEWEST: usize = MIGRATIONS.len();

/// What the file says whose it is (`PRAGMA application_id`), from version 7 on: `pasm`.
const APPLICATION_ID: i32 = 0x7061_736d;

/// Whether an older schema is brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// It is, and a copy of the file is made first.
    Run,
    /// It is an error: for commands, so that a look at the file does not keep the older program out.
    Refuse,
}

/// The schema's version: 0 for a file that is new or not there.
pub(super) fn version(connection: &Connection) -> Result<usize, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Whether the file is not there, or holds nothing.
pub fn is_nothing(path: &Path) -> bool {
    std::fs::metadata(path).map_or(0, |file| file.len()) == 0
}

/// Looks whether the file may be opened, and migrated, without changing anything, also not to WAL. The
/// connection to look further with; `None` where the file is new or not there.
pub(super) fn look(path: &Path, migration: Migration) -> Result<Option<Connection>, OpenError> {
    // Of an empty file SQLite deletes the WAL, read-only or not; that of one that was moved away or emptied
    // holds what was answered last.
    if is_nothing(path) {
        return Ok(None);
    }
    let wrap = |cause| OpenError::Sqlite { path: path.to_owned(), cause };
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(wrap)?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
    let found = version(&connection).map_err(wrap)?;
    let id = number("PRAGMA application_id").map_err(wrap)?;
    let tables = |filter: &str| {
        number(&format!("SELECT count(*) FROM sqlite_schema WHERE type = 'table' {filter}"))
    };
    let ours = match (id, found) {
        (APPLICATION_ID, _) => true,
        (0, 0) => tables("").map_err(wrap)? == 0,
        // Those of the first step, which no later one drops.
        (0, _) => tables("AND name IN ('user', 'session', 'revocation')").map_err(wrap)? == 3,
        _ => false,
    };
    if !ours {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    if found > NEWEST {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: NEWEST });
    }
    if found > 0 && found < NEWEST && migration == Migration::Refuse {
        return Err(OpenError::Older { path: path.to_owned(), found, known: NEWEST });
    }
    Ok(Some(connection))
}

/// Brings the schema up to date; of a file that has one already, a copy is made first.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let wrap = |cause| OpenError::Sqlite { path: path.to_owned(), cause };
    let found = version(connection).map_err(wrap)?;
    if (1..NEWEST).contains(&found) {
        let copy = copy_aside(connection, path, found)?;
        tracing::info!(
            from = found,
            to = NEWEST,
            copy = %copy.display(),
            "the database's schema is brought up to date; remove the copy when all is well"
        );
    }
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction().map_err(wrap)?;
        transaction.execute_batch(sql).map_err(wrap)?;
        transaction.pragma_update(None, "user_version", step + 1).map_err(wrap)?;
        transaction.commit().map_err(wrap)?;
    }
    Ok(())
}

/// As many steps as that, one after the other.
#[cfg(test)]
pub(super) fn take_steps(connection: &Connection, steps: usize) -> Result<(), rusqlite::Error> {
    for (step, sql) in MIGRATIONS.iter().enumerate().take(steps) {
        connection.execute_batch(sql)?;
        connection.pragma_update(None, "user_version", step + 1)?;
    }
    Ok(())
}

/// A whole copy beside the file, which only its owner may read.
fn copy_aside(connection: &Connection, path: &Path, version: usize) -> Result<PathBuf, OpenError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".schema-{version}"));
    let copy = path.with_file_name(name);
    let io = |cause| OpenError::Io { path: copy.clone(), cause };
    // One that is there is of an attempt that failed. SQLite writes into an empty file, and so with its mode.
    drop(std::fs::remove_file(&copy));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy).map_err(io)?;
    if let Err(cause) = connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]) {
        drop(std::fs::remove_file(&copy));
        return Err(OpenError::Sqlite { path: copy, cause });
    }
    Ok(copy)
}
