//! The server of this database: whether it runs, how it is, and what it counts with.

use std::collections::HashMap;

use anyhow::{Error, Result};
use serde_json::Value;

use super::{Finding, Verdict};
use crate::cli::control::{self, Request};
use crate::config::Config;

const WHAT: &str = "server";

/// What is known of it.
pub(super) struct Looked {
    pub(super) running: bool,
    pub(super) findings: Vec<Finding>,
}

/// Asks it by its socket.
pub(super) async fn look(config: &Config) -> Looked {
    let wrong = |error: Error| Finding::new(Verdict::Wrong, WHAT, format!("{error:#}"));
    match control::server_runs(config).await {
        Ok(false) => Looked { running: false, findings: vec![not_running(config)] },
        Err(error) => Looked { running: false, findings: vec![wrong(error)] },
        Ok(true) => {
            let mut findings = vec![match control::send(config, Request::StoreCheck).await {
                Ok(_) => {
                    Finding::new(Verdict::Good, WHAT, "runs, and reads and writes its database")
                }
                Err(error) => wrong(error.context("runs, but cannot read or write its database")),
            }];
            findings
                .extend(other_settings(config).await.unwrap_or_else(|error| Some(wrong(error))));
            Looked { running: true, findings }
        }
    }
}

/// Settings that count for the server that runs and not for one that were started now.
async fn other_settings(config: &Config) -> Result<Option<Finding>> {
    let running = control::send(config, Request::Settings).await?;
    let text = |setting: &Value, name: &str| Some(setting.get(name)?.as_str()?.to_owned());
    let running: HashMap<String, String> = running
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|setting| Some((text(setting, "setting")?, text(setting, "value")?)))
        .collect();
    let others: Vec<String> = config
        .effective
        .iter()
        .filter_map(|here| {
            let there = running.get(&here.setting).filter(|there| **there != here.value)?;
            Some(format!("{} ({there}, here {})", here.setting, here.value))
        })
        .collect();
    if others.is_empty() {
        return Ok(None);
    }
    let text = format!(
        "counts with other settings than the file and the environment say here: {}. If those are to \
         count, send it SIGHUP and look at its log, or restart it; `passmint config print --running` shows \
         all",
        others.join(", ")
    );
    Ok(Some(Finding::new(Verdict::Advice, WHAT, text)))
}

fn not_running(config: &Config) -> Finding {
    let listeners = [config.server.listen, config.server.admin_listen];
    for address in listeners {
        if let Err(error) = std::net::TcpListener::bind(address) {
            let text = format!(
                "is not running, and could not listen on {address}: {error}. Stop what uses it, or \
                 set another server.listen or server.admin_listen"
            );
            return Finding::new(Verdict::Wrong, WHAT, text);
        }
    }
    Finding::new(Verdict::Advice, WHAT, "is not running; `passmint serve` starts it")
}
