//! `passmint config`

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::control::{self, Request, show_settings};
use super::{block_on, output, settings};
use crate::app;
use crate::config::{Config, Sources};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Check all settings; say every mistake with its place.
    Check,
    /// Print every setting as it counts, with where it comes from; secrets hidden.
    Print(Print),
}

#[derive(Args)]
pub(super) struct Print {
    /// What the server that runs counts with, instead of what one that is started now would.
    #[arg(long)]
    running: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<()> {
        match self {
            Self::Check => {
                app::check_files(&Config::load(sources)?)?;
                say!("The configuration is good.");
                Ok(())
            }
            Self::Print(Print { running: false, json }) => {
                print(&show_settings(&Config::load(sources)?), json)
            }
            Self::Print(Print { running: true, json }) => {
                let running = block_on(running(&settings(sources)?))?;
                print(running.get("settings").unwrap_or(&Value::Null), json)
            }
        }
    }
}

/// What the server that runs counts with.
async fn running(config: &Config) -> Result<Value> {
    let database = config.database.sqlite.display();
    let runs = control::server_runs(config).await?;
    ensure!(runs, "no server runs on {database}: name its folder with --data");
    control::send(config, Request::Settings).await
}

fn print(settings: &Value, json: bool) -> Result<()> {
    if json {
        return output::json(settings);
    }
    let columns = [("setting", "SETTING"), ("value", "VALUE"), ("place", "FROM")];
    output::table(settings.as_array().map_or(&[], Vec::as_slice), &columns)
}
