//! One process at a time: a lock file beside the database, held for as long as the store is open.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has the database open.
    #[error(
        "another Passmint is already running on {0}: stop it first, or give this one another \
         database.url"
    )]
    Held(PathBuf),
    /// The lock file could not be made.
    #[error("cannot use the folder of {0}: {1}")]
    Io(PathBuf, std::io::Error),
}

/// The right to open one SQLite file. Given back when dropped, also by a crash.
#[derive(Debug)]
pub struct DatabaseLock {
    database: PathBuf,
    _file: File,
}

impl DatabaseLock {
    /// Takes the lock of `database`, creating its folder (mode 0700) at need.
    pub fn acquire(database: &Path) -> Result<Self, LockError> {
        let io = |cause| LockError::Io(database.to_owned(), cause);
        if let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            create_private(folder).map_err(io)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(database.with_extension("lock"))
            .map_err(io)?;
        // The database itself must not be readable by others either; SQLite gives its WAL the mode
        // of the database file.
        OpenOptions::new().create(true).append(true).mode(0o600).open(database).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { database: database.to_owned(), _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(database.to_owned())),
            Err(TryLockError::Error(cause)) => Err(io(cause)),
        }
    }

    /// The file that is locked.
    pub fn database(&self) -> &Path {
        &self.database
    }
}

fn create_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
