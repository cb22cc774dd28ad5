//! `database` and `master_key`: where the data is, and what seals its keys.

use std::path::PathBuf;

use base64::Engine as _;

use crate::config::reader::Reader;
use crate::domain::secret::SecretBytes;

/// `database.url` when nothing else is said: a file in the working folder.
pub(in crate::config) const DEFAULT_DATABASE: &str = "sqlite://passmint.db";

/// Where the data is.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The SQLite file.
    pub sqlite: PathBuf,
}

impl Database {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let url = r.url("database.url").unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
        let sqlite = Self::sqlite_path(&url);
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            r.problem(
                "database.url",
                "PostgreSQL is not supported by this version: use sqlite:///path/to/passmint.db",
            );
        } else if sqlite.is_none() {
            r.problem("database.url", "must look like sqlite:///var/lib/passmint/passmint.db");
        }
        Self { sqlite: sqlite.unwrap_or_default() }
    }

    /// The file of a `sqlite://` URL: `sqlite:///abs/olute.db` or `sqlite://rela/tive.db`.
    pub(in crate::config) fn sqlite_path(url: &str) -> Option<PathBuf> {
        url.strip_prefix("sqlite://").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The folder of the data.
    pub fn folder(&self) -> PathBuf {
        self.sqlite.parent().map(std::path::Path::to_owned).unwrap_or_default()
    }

    /// The socket by which commands reach a running server.
    pub fn socket(&self) -> PathBuf {
        self.sqlite.with_extension("sock")
    }
}

/// The key that seals all others.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// The file it is in; beside the data when not given, made at first start.
    pub file: Option<PathBuf>,
    /// The key itself.
    pub value: Option<SecretBytes>,
}

impl MasterKey {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let file = r.optional_text("master_key.file").map(PathBuf::from);
        let value = r.secret("master_key.value").and_then(|text| {
            let key = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok();
            let key = key.filter(|key| key.len() == 32);
            if key.is_none() {
                r.problem(
                    "master_key.value",
                    "must be 32 bytes in base64, as `openssl rand -base64 32` prints",
                );
            }
            key.map(SecretBytes::new)
        });
        if file.is_some() && value.is_some() {
            r.problem("master_key.file", "give master_key.file or master_key.value, not both");
        }
        Self { file, value }
    }
}
