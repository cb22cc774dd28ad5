//! `passmint db`

use anyhow::Result;
use clap::Subcommand;

use super::control::{self, Request};
use crate::app::refuse_to_begin_over_another;
use crate::config::Config;
use crate::store::sqlite::{DatabaseLock, SqliteStore};

#[derive(Subcommand)]
pub(super) enum Db {
    /// Bring the database's schema up to date. `serve` does the same at its start.
    Migrate,
}

impl Db {
    pub(super) async fn run(self, config: &Config) -> Result<()> {
        let Self::Migrate = self;
        if control::server_runs(config).await? {
            let version = control::send(config, Request::DatabaseVersion).await?;
            say!("The schema is up to date (version {version}): the running server saw to it.");
            return Ok(());
        }
        let path = &config.database.sqlite;
        refuse_to_begin_over_another(config)?;
        let lock = DatabaseLock::acquire(path)?;
        let (before, after) = SqliteStore::migrate_only(&lock)?;
        if before == 0 {
            say!("There was no database at {}: made one, of version {after}.", path.display());
        } else if before == after {
            say!("The schema is up to date (version {after}).");
        } else {
            say!("The schema went from version {before} to {after}.");
        }
        Ok(())
    }
}
