//! The file of the write-ahead log, where commits are until a checkpoint has moved them into the database.
//! When it is removed under a running server, its commits are durable for nobody else: SQLite writes on
//! into a file without a name, and a crash would undo what was answered.

use std::fs::metadata;
use std::path::PathBuf;

use rusqlite::Connection;

use super::lock::{Identity, identity};

/// The database's file and its log, as they were at the first commit.
pub(super) struct WalFile {
    database: PathBuf,
    log: PathBuf,
    /// Of both.
    first: Option<(Identity, Identity)>,
}

impl WalFile {
    /// The log of the database that is open there.
    pub(super) fn of(connection: &Connection) -> Self {
        let database = connection.path().unwrap_or_default();
        Self { database: database.into(), log: format!("{database}-wal").into(), first: None }
    }

    /// Whether the log was removed or replaced since this was asked first, and the database was not: where that
    /// is gone, too, nothing that is saved would be found.
    pub(super) fn is_lost(&mut self) -> bool {
        let [database, log] = [&self.database, &self.log].map(|path| identity(metadata(path)));
        match self.first {
            None => {
                self.first = database.zip(log);
                false
            }
            Some((first_database, first_log)) => {
                database == Some(first_database) && log != Some(first_log)
            }
        }
    }

    /// Moves what the log that was lost holds into the database; what has become of it, in words.
    pub(super) fn rescue(&self, connection: &Connection) -> String {
        let moved = connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
            Ok(row.get::<_, i64>(0)? == 0 && row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
        });
        let outcome = match moved {
            Ok(true) => "its commits were moved into the database".to_owned(),
            Ok(false) => "some of its commits may be lost: it was in use".to_owned(),
            Err(error) => format!("its commits may be lost: {error}"),
        };
        format!("{} was removed or replaced; {outcome}", self.log.display())
    }
}
