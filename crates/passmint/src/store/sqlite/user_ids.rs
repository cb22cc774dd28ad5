//! The highest id that a user ever got, kept in a file outside the database.
//!
//! An old copy of the database that is put back knows nothing of users who were added after it was made.
//! Without this file it would give their ids to others, and tokens that still live would change persons.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Connection;

/// Its name.
const FILE: &str = "highest-user-id";

/// The mark, in one or two folders.
pub struct HighestUserId {
    files: Vec<PathBuf>,
    highest: AtomicI64,
}

/// Why it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadMark {
    /// The system said no.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, io::Error),
    /// Somebody wrote something else.
    #[error(
        "{0} holds no number: write the highest id that `passmint user list` has ever shown into it, or a \
         higher one"
    )]
    NoNumber(PathBuf),
}

impl HighestUserId {
    /// Reads the marks of those folders: beside the database, and beside the master key, where no copy of
    /// the database's folder overwrites it. The highest counts.
    pub fn read(folders: &[PathBuf]) -> Result<Self, UnreadMark> {
        let mut files: Vec<PathBuf> = folders.iter().map(|folder| folder.join(FILE)).collect();
        files.dedup();
        let mut highest = 0;
        for file in &files {
            let number = match fs::read_to_string(file) {
                Ok(text) => text.trim().parse::<i64>().ok().filter(|number| *number >= 0),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
                Err(error) => return Err(UnreadMark::Unreadable(file.clone(), error)),
            };
            highest = highest.max(number.ok_or_else(|| UnreadMark::NoNumber(file.clone()))?);
        }
        Ok(Self { files, highest: AtomicI64::new(highest) })
    }

    /// Has the database give only higher ids from now on. How far it was behind, if it was: then an old
    /// copy was put back.
    pub(super) fn raise_in(&self, db: &Connection) -> rusqlite::Result<Option<i64>> {
        let known: i64 = db.query_row(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'user'",
            [],
            |row| row.get(0),
        )?;
        let highest = self.highest.load(Ordering::Relaxed);
        if known >= highest {
            return Ok(None);
        }
        let raised =
            db.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'user'", [highest])?;
        if raised == 0 {
            db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('user', ?1)", [highest])?;
        }
        Ok(Some(highest - known))
    }

    /// Notes, durably, that a user is about to get that id. An error where no file could be written.
    pub(super) fn raise(&self, id: i64) -> io::Result<()> {
        if id <= self.highest.load(Ordering::Relaxed) {
            return Ok(());
        }
        let written: Vec<io::Result<()>> =
            self.files.iter().map(|file| replace(file, id)).collect();
        // One of the folders may be read-only: a mounted secret.
        if written.iter().all(Result::is_err)
            && let Some(error) = written.into_iter().find_map(Result::err)
        {
            return Err(error);
        }
        self.highest.store(id, Ordering::Relaxed);
        Ok(())
    }
}

/// The new content or the old one, never half of it.
fn replace(path: &Path, id: i64) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
