//! `passmint config`

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::output;
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<()> {
        let config = Config::load(sources)?;
        match self {
            Self::Check => {
                app::check_files(&config)?;
                eprintln!("The configuration is good.");
            }
            Self::Print(Print { json }) => {
                let rows: Vec<_> = config
                    .effective
                    .iter()
                    .map(|setting| {
                        json!({
                            "setting": setting.setting,
                            "value": setting.value,
                            "place": setting.place.to_string(),
                        })
                    })
                    .collect();
                if json {
                    output::json(&rows.into())?;
                } else {
                    let columns = [("setting", "SETTING"), ("value", "VALUE"), ("place", "FROM")];
                    output::table(&rows, &columns)?;
                }
            }
        }
        Ok(())
    }
}
