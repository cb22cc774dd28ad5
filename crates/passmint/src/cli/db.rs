//! `passmint db`

use anyhow::Result;
use clap::Subcommand;

use crate::config::Config;
use crate::store::sqlite::{DatabaseLock, SqliteStore};

#[derive(Subcommand)]
pub(super) enum Db {
    /// Bring the database's schema up to date. `serve` does the same at its start.
    Migrate,
}

impl Db {
    pub(super) fn run(self, config: &Config) -> Result<()> {
        let Self::Migrate = self;
        let lock = DatabaseLock::acquire(&config.database.sqlite)?;
        let (before, after) = SqliteStore::migrate_only(&lock)?;
        if before == after {
            eprintln!("The schema is up to date (version {after}).");
        } else {
            eprintln!("The schema went from version {before} to {after}.");
        }
        Ok(())
    }
}
