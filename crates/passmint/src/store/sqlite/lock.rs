//! One process at a time: a lock on the database file itself, held for as long as the store is open.
//!
//! It is a lock of `flock(2)`, which belongs to the file and not to its name: a link to the file, or
//! another way to write its path, leads to the same lock. SQLite's own locks are of another kind (POSIX),
//! and closing a descriptor of the file would release those: so this one stays open until the store is
//! closed.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt};
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
    /// The folder could not be made.
    #[error("cannot make the folder of {0}: {1}")]
    Folder(PathBuf, std::io::Error),
    /// The file could not be made, opened or locked.
    #[error(
        "cannot open {0} to write: {1}. It must be yours: run this as the user that runs Passmint"
    )]
    Io(PathBuf, std::io::Error),
}

/// The right to open one SQLite file. Given back when dropped, also by a crash.
#[derive(Debug)]
pub struct DatabaseLock {
    database: PathBuf,
    file: File,
}

impl DatabaseLock {
    /// Takes the lock of `database`, creating it (mode 0600) and its folder (mode 0700) at need.
    pub fn acquire(database: &Path) -> Result<Self, LockError> {
        let io = |cause| LockError::Io(database.to_owned(), cause);
        if let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            create_private(folder)
                .map_err(|cause| LockError::Folder(database.to_owned(), cause))?;
        }
        // Not readable by others; SQLite gives its WAL the mode of the database file.
        let file =
            OpenOptions::new().create(true).append(true).mode(0o600).open(database).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { database: database.to_owned(), file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(database.to_owned())),
            Err(TryLockError::Error(cause)) => Err(io(cause)),
        }
    }

    /// Whether some process holds the lock of a database that is there.
    pub fn is_held(database: &Path) -> bool {
        let file = File::open(database);
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The file that is locked.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Whether the path still leads to the file that is locked: it may have been removed or replaced.
    pub fn is_in_place(&self) -> bool {
        let held = identity(self.file.metadata());
        held.is_some() && held == identity(std::fs::metadata(&self.database))
    }
}

/// Device and inode of a file: the same for as long as it is the same file.
pub(super) type Identity = (u64, u64);

/// The identity of a file that was looked at; `None` where it could not be.
pub(super) fn identity(found: std::io::Result<Metadata>) -> Option<Identity> {
    found.ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn create_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
