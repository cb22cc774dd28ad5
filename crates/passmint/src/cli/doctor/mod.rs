//! `passmint doctor`: says what is wrong with this installation, and how to mend it.
//!
//! `data` looks at folder, database and keys, `server` at the one that runs, `advice` at the settings.

mod advice;
mod data;
mod server;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::output;
use crate::app::refuse_to_begin_over_another;
use crate::config::{Config, ConfigError, Sources};
use crate::store::sqlite::SqliteStore;

#[derive(Args)]
pub(super) struct Doctor {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Advice,
    Wrong,
}

struct Finding {
    verdict: Verdict,
    what: &'static str,
    text: String,
}

impl Finding {
    fn new(verdict: Verdict, what: &'static str, text: impl Into<String>) -> Self {
        Self { verdict, what, text: text.into() }
    }
}

impl Doctor {
    pub(super) async fn run(self, sources: &Sources) -> Result<ExitCode> {
        let findings = match Config::load(sources) {
            Err(error) => bad_settings(sources, &error).await,
            Ok(config) => examine(&config).await,
        };
        let wrong = findings.iter().any(|finding| finding.verdict == Verdict::Wrong);
        if self.json {
            output::json(&findings.iter().map(show).collect::<Value>())?;
        } else {
            for finding in &findings {
                let mark = match finding.verdict {
                    Verdict::Good => "ok    ",
                    Verdict::Advice => "advice",
                    Verdict::Wrong => "WRONG ",
                };
                output::line(&format!("{mark}  {}: {}", finding.what, finding.text))?;
            }
        }
        Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn show(finding: &Finding) -> Value {
    let verdict = match finding.verdict {
        Verdict::Good => "ok",
        Verdict::Advice => "advice",
        Verdict::Wrong => "wrong",
    };
    json!({ "verdict": verdict, "what": finding.what, "text": finding.text })
}

/// What can be said where the settings have mistakes: how the server is that runs with those of before.
async fn bad_settings(sources: &Sources, error: &ConfigError) -> Vec<Finding> {
    let mut findings = vec![Finding::new(Verdict::Wrong, "settings", error.to_string())];
    if let Some(config) = Config::to_reach_a_server(sources) {
        let server = server::look(&config, false).await;
        findings.extend(server.findings.into_iter().filter(|_| server.running));
    }
    findings
}

async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![advice::settings(config)];
    findings.extend(data::folder(&config.database.folder()));
    findings.extend(data::free_space(&config.database.folder()));
    let server = server::look(config, true).await;
    // Looked at once: SQLite's quick check reads the whole file.
    let path = &config.database.sqlite;
    match path.try_exists() {
        Err(error) => findings.push(data::unseen(path, &error)),
        Ok(exists) => {
            let begun_over = refuse_to_begin_over_another(config).err();
            let examined = exists.then(|| SqliteStore::examine(path));
            findings.push(match (begun_over, &examined) {
                (Some(_), _) | (None, None) if server.running => data::gone_while_held(path),
                (Some(error), _) => data::must_not_begin(&error),
                (None, examined) => data::database(path, examined.as_ref()),
            });
            let examined = examined.and_then(Result::ok);
            findings.extend(data::highest_user_id(config, examined.as_ref()));
            findings.extend(data::demo_user(examined.as_ref()));
            findings.extend(data::keys(examined.as_ref()));
            findings.push(data::master_key(config, examined));
        }
    }
    findings.extend(server.findings);
    findings.extend(advice::certificate(config));
    findings.push(advice::guessing(config));
    findings.push(advice::issuer(config));
    findings.push(advice::passwords(config));
    findings.extend(advice::hashing(config));
    findings.extend(advice::admin_listener(config));
    findings
}
