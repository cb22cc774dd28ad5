//! The highest id that a user ever got, kept in a file outside the database.
//!
//! An old copy of the database that is put back knows nothing of users who were added after it was made.
//! Without this file it would give their ids to others, and tokens that still live would change persons.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Connection;

use super::writer::{number, raise_number};
use crate::domain::user::UserId;

/// Its name, before the database's own number: several databases may share the folder of a master key.
const FILE: &str = "highest-user-id";

/// The mark, in one or two folders.
pub struct HighestUserId {
    files: Vec<PathBuf>,
    /// What the file says that says least.
    lowest: i64,
    highest: AtomicI64,
}

/// Why it could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BadMark {
    /// The system said no.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// Somebody wrote something else.
    #[error(
        "{0} holds no number up to 2^53: write the highest id that `passmint user list` has ever shown into \
         it"
    )]
    NoNumber(PathBuf),
}

impl HighestUserId {
    /// Reads the marks of a database in those folders: beside it, and beside the master key, where no copy of
    /// the database's folder overwrites it. The highest counts.
    pub fn read(folders: &[PathBuf], database_id: i64) -> Result<Self, BadMark> {
        let name = format!("{FILE}.{database_id:016x}");
        let mut files: Vec<PathBuf> = folders.iter().map(|folder| folder.join(&name)).collect();
        files.dedup();
        let (mut lowest, mut highest) = (i64::MAX, 0);
        for file in &files {
            let number = match fs::read_to_string(file) {
                Ok(text) => text.trim().parse::<i64>().ok(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
                Err(error) => return Err(BadMark::Io(file.clone(), error)),
            };
            let number = number.filter(|number| (0..=UserId::LARGEST).contains(number));
            let number = number.ok_or_else(|| BadMark::NoNumber(file.clone()))?;
            (lowest, highest) = (lowest.min(number), highest.max(number));
        }
        Ok(Self { files, lowest, highest: AtomicI64::new(highest) })
    }

    /// Has database and files agree on the higher of what they know. How far the database was behind, if it
    /// was: then an old copy was put back.
    pub(super) fn agree(&self, db: &Connection) -> rusqlite::Result<Option<i64>> {
        let known: i64 = db.query_row(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'user'",
            [],
            |row| row.get(0),
        )?;
        let highest = self.highest.load(Ordering::Relaxed);
        if known >= highest {
            // A file is behind or missing: an upgrade, or one that was lost.
            if known > self.lowest
                && let Err(error) = self.write(known)
            {
                tracing::warn!(%error, "the highest id of a user cannot be noted outside the database");
            }
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
    pub(super) fn raise(&self, id: i64) -> Result<(), BadMark> {
        if id <= self.highest.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.write(id)
    }

    fn write(&self, id: i64) -> Result<(), BadMark> {
        let write =
            |file: &PathBuf| replace(file, id).map_err(|error| BadMark::Io(file.clone(), error));
        let written: Vec<Result<(), BadMark>> = self.files.iter().map(write).collect();
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
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The database's own number, by which its marks are told from those of others; a copy has it, too.
pub(super) fn database_id(db: &Connection) -> rusqlite::Result<i64> {
    if let Some(id) = number(db, "database_id")? {
        return Ok(id);
    }
    let id = db.query_row("SELECT random() & 0x7fffffffffffffff", [], |row| row.get(0))?;
    raise_number(db, "database_id", id)
}
