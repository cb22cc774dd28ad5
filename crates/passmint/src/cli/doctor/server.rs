//! The server of this database: whether it runs, how it is, and what it counts with.

use std::collections::HashMap;

use anyhow::Error;
use serde_json::Value;

use super::{Finding, Verdict};
use crate::app::load_tls;
use crate::cli::control::{self, Request};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::http::listener::Tls;
use crate::store::sqlite::DatabaseLock;

const WHAT: &str = "server";

/// What is known of it.
pub(super) struct Looked {
    pub(super) running: bool,
    pub(super) findings: Vec<Finding>,
}

/// Asks it by its socket, and compares what it counts with with the settings here, if those are good.
pub(super) async fn look(config: &Config, good: bool) -> Looked {
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
            match control::send(config, Request::Settings).await {
                Ok(running) => {
                    findings.extend(failed_reload(&running));
                    findings.extend(clock_set(&running));
                    if good {
                        findings.extend(other_settings(config, &running));
                        findings.extend(other_certificate(config, &running));
                    }
                }
                Err(error) => findings.push(wrong(error)),
            }
            Looked { running: true, findings }
        }
    }
}

/// Its settings are older than those that somebody wanted to count.
fn failed_reload(running: &Value) -> Option<Finding> {
    let why = running.get("reload_failed")?.as_str()?;
    let text = format!("its last reload failed, and the settings of before count: {why}");
    Some(Finding::new(Verdict::Wrong, WHAT, text))
}

/// The wall clock was set while it ran, or was behind when it started.
fn clock_set(running: &Value) -> Option<Finding> {
    let trusted = running.get("clock_trusted")?.as_bool()?;
    let now = SystemClock::default().now().iso8601();
    let text = format!(
        "the clock was set by more than a minute, and says {now}: nothing is ended or deleted by age until it \
         is right again, or has been steady for an hour. Correct it if that is wrong"
    );
    (!trusted).then(|| Finding::new(Verdict::Wrong, WHAT, text))
}

/// It serves another certificate than the file holds.
fn other_certificate(config: &Config, running: &Value) -> Option<Finding> {
    let served = running.get("certificate_until")?.as_str()?;
    let here = load_tls(&Tls::default(), config).ok()??.iso8601();
    let text = format!(
        "serves a certificate that is valid until {served}, and the file of server.tls_cert holds one until \
         {here}: send it SIGHUP"
    );
    (served != here).then(|| Finding::new(Verdict::Advice, WHAT, text))
}

/// Settings that count for the server that runs and not for one that were started now.
fn other_settings(config: &Config, running: &Value) -> Option<Finding> {
    let text = |setting: &Value, name: &str| Some(setting.get(name)?.as_str()?.to_owned());
    let running: HashMap<String, String> = running
        .get("settings")?
        .as_array()?
        .iter()
        .filter_map(|setting| Some((text(setting, "setting")?, text(setting, "value")?)))
        .collect();
    let others: Vec<String> = config
        .effective
        .iter()
        // That is the same one, however its path is written: this server was found by it.
        .filter(|here| here.setting != "database.url")
        .filter_map(|here| {
            let there = running.get(&here.setting).filter(|there| **there != here.value)?;
            let shown = |value: &str| {
                if value.is_empty() { "unset".to_owned() } else { value.to_owned() }
            };
            Some(format!("{} ({}, here {})", here.setting, shown(there), shown(&here.value)))
        })
        .collect();
    let text = format!(
        "uses other settings than the file and the environment say here: {}. If those of here are meant, send it \
         SIGHUP, or restart it for those that are read at the start only; if not, give this command the server's \
         --config and environment. `passmint config print --running` shows all",
        others.join(", ")
    );
    (!others.is_empty()).then(|| Finding::new(Verdict::Advice, WHAT, text))
}

fn not_running(config: &Config) -> Finding {
    if DatabaseLock::is_held(&config.database.sqlite) {
        let socket = config.database.socket();
        let text = format!(
            "holds the database, but does not answer on {}, which is gone: restart it",
            socket.display()
        );
        return Finding::new(Verdict::Wrong, WHAT, text);
    }
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
