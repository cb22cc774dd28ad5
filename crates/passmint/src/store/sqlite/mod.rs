//! The store on one SQLite file.
//!
//! One thread owns the write connection and commits together what has queued up (`writer`);
//! checkpoints run on another (`checkpoint`); reads have connections of their own (`reader`). WAL
//! with `synchronous=FULL`: what was answered survives a power cut. A lock on the file keeps a second
//! server away (`lock`); `schema` tells whose file it is, `health` how it is, and `user_ids` which ids of
//! users were ever given.

mod audit;
mod checkpoint;
mod health;
mod key;
mod lock;
mod reader;
mod revocation;
mod row;
mod schema;
mod session;
mod session_walk;
#[cfg(test)]
mod tests;
mod throttle;
mod user;
mod user_ids;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::{CommitSink, StoreError};
use crate::clock::Clock;
use crate::domain::time::Timestamp;

pub use lock::{DatabaseLock, LockError};
pub use schema::{FIRST_SCHEMA, Migration, is_nothing};
pub use session::rotation_statement;
pub use user_ids::{BadMark, HighestUserId};

use checkpoint::Checkpointer;
use health::Health;
use reader::Readers;
use schema::version;
use writer::{RunningTime, Writer};

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// Written by a newer Passmint.
    #[error(
        "{path} has schema version {found}, but this Passmint knows only up to {known}: run the \
         newer Passmint that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// Written by an older Passmint, and not to be migrated now.
    #[error(
        "{path} has schema version {found} of {known}: run `passmint db migrate`, or start the server, \
         first; the Passmint that wrote it cannot open it after that"
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// Another program's.
    #[error("{0} is a database of another program: give another file with --data or database.url")]
    Foreign(PathBuf),
    /// SQLite said no.
    #[error("cannot open the database {path}: {cause}{}", what_to_do(cause))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        cause: rusqlite::Error,
    },
    /// Not noted outside the database.
    #[error(transparent)]
    Mark(#[from] BadMark),
    /// The folder or a thread could not be had.
    #[error("cannot open the database {path}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
}

/// What helps against SQLite's refusal to open a file, as the end of a sentence.
fn what_to_do(cause: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseCorrupt, DiskFull, NotADatabase, PermissionDenied, ReadOnly,
    };
    match cause.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            ". The file is damaged: move it and its -wal and -shm away, and restore a backup"
        }
        Some(CannotOpen | PermissionDenied | ReadOnly) => {
            ". Run this as the user that runs Passmint, who must own the file, its -wal and -shm, and the folder"
        }
        Some(DiskFull) => ". Make room on the disk",
        _ => "",
    }
}

/// A SQLite file that this process holds alone.
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    running_time: RunningTime,
    clock: Arc<dyn Clock>,
    /// Ends with the store, after the writer.
    _checkpointer: Checkpointer,
    lock: DatabaseLock,
}

impl SqliteStore {
    /// Opens (and at need creates and migrates) the file that `lock` holds. In the folders `marks_in` the
    /// highest id of a user is noted.
    pub fn open(
        lock: DatabaseLock,
        migration: Migration,
        marks_in: &[PathBuf],
        clock: Arc<dyn Clock>,
        sink: Arc<dyn CommitSink>,
    ) -> Result<Self, OpenError> {
        let path = lock.database().to_owned();
        let wrap = |cause| OpenError::Sqlite { path: path.clone(), cause };
        schema::look(&path, migration)?;
        let mut connection = connect(&path).map_err(wrap)?;
        schema::migrate(&mut connection, &path)?;
        let database_id = user_ids::database_id(&connection).map_err(wrap)?;
        let user_ids = HighestUserId::read(marks_in, database_id)?;
        if let Some(behind) = user_ids.agree(&connection).map_err(wrap)? {
            tracing::error!(
                behind,
                "the database is an old copy: users were added after it was made. Their ids are not given \
                 to others, but sessions that were ended since live again: `passmint session end --user`, \
                 or `passmint key revoke` of the refresh and the signing key"
            );
        }
        let io = |cause| OpenError::Io { path: path.clone(), cause };
        let readers_sink = Arc::clone(&sink);
        let health = Arc::new(Health::default());
        let writer =
            Writer::start(connection, user_ids, Arc::clone(&clock), sink, Arc::clone(&health))
                .map_err(io)?;
        let running_time = writer.running_time();
        let checkpointer =
            Checkpointer::start(connect(&path).map_err(wrap)?, writer.commits()).map_err(io)?;
        let readers = Readers::open(&path, readers_sink, health).map_err(wrap)?;
        Ok(Self { writer, readers, running_time, clock, _checkpointer: checkpointer, lock })
    }

    /// Opens the file, migrates it, closes it: the versions before and after.
    pub fn migrate_only(lock: &DatabaseLock) -> Result<(usize, usize), OpenError> {
        let path = lock.database();
        let wrap = |cause| OpenError::Sqlite { path: path.to_owned(), cause };
        schema::look(path, Migration::Run)?;
        let mut connection = connect(path).map_err(wrap)?;
        let before = version(&connection).map_err(wrap)?;
        schema::migrate(&mut connection, path)?;
        Ok((before, version(&connection).map_err(wrap)?))
    }

    /// Looks at the file without holding it.
    pub fn examine(path: &Path) -> Result<Examined, OpenError> {
        let wrap = |cause| OpenError::Sqlite { path: path.to_owned(), cause };
        let Some(connection) = schema::look(path, Migration::Run)? else {
            return Ok(Examined { quick_check: "ok".to_owned(), ..Examined::default() });
        };
        let version = version(&connection).map_err(wrap)?;
        let quick_check =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(wrap)?;
        let mut examined = Examined { version, quick_check, ..Examined::default() };
        if version > 0 {
            let issued_until = writer::number(&connection, "issued_until").map_err(wrap)?;
            examined.issued_until = issued_until.map(Timestamp::from_micros);
            examined.seal_check = key::seal_check(&connection).map_err(wrap)?;
            examined.keys_for_good = key::for_good(&connection).map_err(wrap)?;
            examined.database_id = writer::number(&connection, "database_id").map_err(wrap)?;
            examined.has_demo_user = user::has_demo_user(&connection).map_err(wrap)?;
        }
        Ok(examined)
    }

    /// Whether a database that is there holds keys, and so has had a master key.
    pub fn holds_keys(path: &Path) -> Result<bool, OpenError> {
        let wrap = |cause| OpenError::Sqlite { path: path.to_owned(), cause };
        let Some(connection) = schema::look(path, Migration::Run)? else {
            return Ok(false);
        };
        if version(&connection).map_err(wrap)? == 0 {
            return Ok(false);
        }
        Ok(key::seal_check(&connection).map_err(wrap)?.is_some())
    }

    /// The newest schema version this program knows.
    pub const fn newest_version() -> usize {
        schema::NEWEST
    }
}

/// What a database file says of itself.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// Of the schema.
    pub version: usize,
    /// `ok`, or what SQLite's quick check complains of.
    pub quick_check: String,
    /// Tells whether a master key is the right one; `None` before the first start.
    pub seal_check: Option<Vec<u8>>,
    /// Up to when tokens have been issued, by the clock of then.
    pub issued_until: Option<Timestamp>,
    /// Keys that verify until somebody revokes them: `kid` and use.
    pub keys_for_good: Vec<(String, String)>,
    /// Whether the demo's user is there and may log in.
    pub has_demo_user: bool,
    /// Its own number; `None` before the first start of this version.
    pub database_id: Option<i64>,
}

/// A connection with the settings that every writing connection shares.
fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    // Every connection stays with one thread, so SQLite need not lock it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -8192;
         PRAGMA secure_delete = ON;
         PRAGMA trusted_schema = OFF;",
    )?;
    Ok(connection)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull,
            FileLockingProtocolFailed, NotADatabase, OutOfMemory, PermissionDenied, ReadOnly,
            SystemIoFailure,
        };
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
            Some(
                DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | SystemIoFailure
                | CannotOpen
                | ReadOnly
                | PermissionDenied
                | FileLockingProtocolFailed,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
