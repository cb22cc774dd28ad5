//! `passmint doctor`: says what is wrong with this installation, and how to mend it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use rustix::fs::Access;
use serde_json::{Value, json};

use super::control::{self, Request};
use super::output;
use crate::app::{check_files, master_key_file, refuse_to_begin_over_another};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Place, Sources};
use crate::crypto::master_key;
use crate::crypto::sealing::Sealer;
use crate::domain::password::RECOMMENDED_LENGTH;
use crate::domain::secret::SecretBytes;
use crate::store::sqlite::{Examined, OpenError, SqliteStore};

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
            Err(error) => vec![Finding::new(Verdict::Wrong, "settings", error.to_string())],
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

async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![settings(config)];
    findings.push(data_folder(&config.database.folder()));
    findings.extend(free_space(&config.database.folder()));
    let server = server(config).await;
    // Looked at once: SQLite's quick check reads the whole file.
    let path = &config.database.sqlite;
    match path.try_exists() {
        Err(error) => findings.push(unseen(path, &error)),
        Ok(exists) => {
            let begun_over = refuse_to_begin_over_another(config).err();
            let examined = exists.then(|| SqliteStore::examine(path));
            findings.push(match (begun_over, &examined) {
                (Some(_), _) | (None, None) if server.running => {
                    let text = format!(
                        "{} is gone or empty, but the server that runs still holds it: copy it while it \
                         does, from /proc/PID/fd, or restore a backup",
                        path.display()
                    );
                    Finding::new(Verdict::Wrong, DATABASE, text)
                }
                (Some(error), _) => Finding::new(Verdict::Wrong, DATABASE, format!("{error:#}")),
                (None, examined) => database(path, examined.as_ref()),
            });
            findings.push(master_key(config, examined.and_then(Result::ok)));
        }
    }
    findings.push(server.finding);
    findings.push(guessing(config));
    findings.push(issuer(config));
    findings.push(passwords(config));
    findings
}

fn settings(config: &Config) -> Finding {
    const WHAT: &str = "settings";
    if let Err(error) = check_files(config) {
        return Finding::new(Verdict::Wrong, WHAT, format!("{error:#}"));
    }
    let in_file = |setting: &crate::config::Effective| match &setting.place {
        Place::File(path, _) if setting.setting == "master_key.value" => Some(path.clone()),
        _ => None,
    };
    if let Some(file) = config.effective.iter().find_map(in_file)
        && std::fs::metadata(&file).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
    {
        let file = file.display();
        let text = format!("{file} holds the master key and is open to others: `chmod 600 {file}`");
        return Finding::new(Verdict::Advice, WHAT, text);
    }
    Finding::new(Verdict::Good, WHAT, "no mistakes")
}

fn data_folder(folder: &Path) -> Finding {
    const WHAT: &str = "data folder";
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Err(_) => {
            let text = format!(
                "{shown} does not exist: make it, or have it made by `passmint serve --init`"
            );
            Finding::new(Verdict::Advice, WHAT, text)
        }
        Ok(_) if rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() => {
            let text = format!(
                "{shown} is not yours to write: run this as the user that runs Passmint, or give the \
                 folder to it"
            );
            Finding::new(Verdict::Wrong, WHAT, text)
        }
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let text = format!("{shown} is open to other users: run `chmod 700 {shown}`");
            Finding::new(Verdict::Advice, WHAT, text)
        }
        Ok(_) if is_network_file_system(folder) => {
            let text = format!(
                "{shown} is on a network file system, where SQLite can neither lock nor share memory \
                 reliably: put it on a local disk"
            );
            Finding::new(Verdict::Wrong, WHAT, text)
        }
        Ok(_) => Finding::new(Verdict::Good, WHAT, shown.to_string()),
    }
}

/// Whether a folder is on NFS, SMB or CIFS (`statfs(2)`).
fn is_network_file_system(folder: &Path) -> bool {
    const NFS: i64 = 0x6969;
    const SMB: i64 = 0x517b;
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    rustix::fs::statfs(folder).is_ok_and(|found| [NFS, SMB, CIFS, SMB2].contains(&found.f_type))
}

/// The name of the findings about the database file.
const DATABASE: &str = "database";

/// It is not known whether there is a database: that is no first start.
fn unseen(path: &Path, error: &std::io::Error) -> Finding {
    let text = format!(
        "cannot look at {}: {error}. Run this as the user that runs Passmint",
        path.display()
    );
    Finding::new(Verdict::Wrong, DATABASE, text)
}

/// Below this a server is about to fail, or has begun to.
const TOO_LITTLE: u64 = 32 << 20;
/// Below this it is time to look.
const LITTLE: u64 = 512 << 20;

/// What is left on the data's file system for who is not root; `None` where that cannot be told.
fn free_space(folder: &Path) -> Option<Finding> {
    const WHAT: &str = "free space";
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let found = rustix::fs::statvfs(folder).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} MiB are free for {}", free >> 20, folder.display());
    Some(match free {
        0..TOO_LITTLE => {
            Finding::new(Verdict::Wrong, WHAT, text + ": logins and refreshes fail on a full disk")
        }
        TOO_LITTLE..LITTLE => Finding::new(Verdict::Advice, WHAT, text),
        _ => Finding::new(Verdict::Good, WHAT, text),
    })
}

/// How far ahead tokens may have been issued before it is said.
const AHEAD: Duration = Duration::from_hours(24);

fn database(path: &Path, examined: Option<&Result<Examined, OpenError>>) -> Finding {
    const WHAT: &str = DATABASE;
    let shown = path.display();
    let Some(examined) = examined else {
        let text = format!("{shown} does not exist yet; the first start makes it");
        return Finding::new(Verdict::Advice, WHAT, text);
    };
    let newest = SqliteStore::newest_version();
    let now = SystemClock::default().now();
    match examined {
        Err(error) => Finding::new(Verdict::Wrong, WHAT, error.to_string()),
        Ok(Examined { quick_check, .. }) if quick_check != "ok" => {
            let text =
                format!("{shown} is damaged ({quick_check}): stop the server and restore a backup");
            Finding::new(Verdict::Wrong, WHAT, text)
        }
        Ok(Examined { version, .. }) if *version > newest => {
            let text = format!(
                "{shown} has schema {version}, this Passmint knows {newest}: run the newer Passmint"
            );
            Finding::new(Verdict::Wrong, WHAT, text)
        }
        Ok(Examined { version, .. }) if *version < newest => {
            let text =
                format!("schema {version} of {newest}: run `passmint db migrate` or start it");
            Finding::new(Verdict::Advice, WHAT, text)
        }
        Ok(Examined { issued_until: Some(until), .. }) if *until > now.plus(AHEAD) => {
            let text = format!(
                "tokens were issued while the clock was ahead, up to {}: revocations are kept until \
                 after that. Nothing is lost; see docs/explanation/sessions.md",
                until.iso8601()
            );
            Finding::new(Verdict::Advice, WHAT, text)
        }
        Ok(Examined { version, .. }) => {
            Finding::new(Verdict::Good, WHAT, format!("{shown}, schema {version}, undamaged"))
        }
    }
}

fn master_key(config: &Config, examined: Option<Examined>) -> Finding {
    const WHAT: &str = "master key";
    let seal_check = examined.and_then(|examined| examined.seal_check);
    let fits = |key: &SecretBytes| match (&seal_check, Sealer::new(key)) {
        (Some(check), Ok(sealer)) => sealer.passes(check),
        _ => true,
    };
    let wrong = |place: &str| {
        let text = format!(
            "{place} is not the master key that the database's keys are sealed under: put the right \
             one back from its copy"
        );
        Finding::new(Verdict::Wrong, WHAT, text)
    };
    if let Some(key) = &config.master_key.value {
        if !fits(key) {
            return wrong("master_key.value");
        }
        return Finding::new(Verdict::Good, WHAT, "given by master_key.value");
    }
    let file = master_key_file(config);
    match master_key::read(&file) {
        Ok(key) if !fits(&key) => wrong(&file.display().to_string()),
        Ok(_) => {
            let text = format!("{}; keep a copy apart from the database's backups", file.display());
            Finding::new(Verdict::Good, WHAT, text)
        }
        Err(master_key::MasterKeyError::Missing(_)) if seal_check.is_none() => {
            Finding::new(Verdict::Advice, WHAT, "not made yet; the first start makes it")
        }
        Err(error) => Finding::new(Verdict::Wrong, WHAT, error.to_string()),
    }
}

/// The server of this database.
struct Running {
    running: bool,
    finding: Finding,
}

async fn server(config: &Config) -> Running {
    const WHAT: &str = "server";
    let wrong = |error: anyhow::Error| Finding::new(Verdict::Wrong, WHAT, format!("{error:#}"));
    match control::server_runs(config).await {
        Ok(false) => Running { running: false, finding: not_running(config) },
        Err(error) => Running { running: false, finding: wrong(error) },
        Ok(true) => {
            let finding = match control::send(config, Request::StoreCheck).await {
                Ok(_) => {
                    Finding::new(Verdict::Good, WHAT, "runs, and reads and writes its database")
                }
                Err(error) => wrong(error.context("runs, but cannot read or write its database")),
            };
            Running { running: true, finding }
        }
    }
}

fn not_running(config: &Config) -> Finding {
    const WHAT: &str = "server";
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

fn guessing(config: &Config) -> Finding {
    const WHAT: &str = "guessing";
    if !config.throttle.enabled {
        let text = "passwords may be guessed at any rate: throttle.enabled is false";
        return Finding::new(Verdict::Advice, WHAT, text);
    }
    if config.server.listen.ip().is_loopback() && config.server.trusted_proxies.is_empty() {
        let text = "is limited, but server.listen is only reached from this machine: if a proxy stands \
                    in front, name it in server.trusted_proxies, or all its callers share one limit";
        return Finding::new(Verdict::Advice, WHAT, text);
    }
    Finding::new(Verdict::Good, WHAT, "is limited for each user and network")
}

fn passwords(config: &Config) -> Finding {
    const WHAT: &str = "passwords";
    let least = config.password.min_length;
    if least >= RECOMMENDED_LENGTH {
        return Finding::new(
            Verdict::Good,
            WHAT,
            format!("new ones have {least} characters or more"),
        );
    }
    let text = format!(
        "new ones may have {least} characters; where nothing but the password is asked for, \
         {RECOMMENDED_LENGTH} are recommended (NIST SP 800-63B-4): set password.min_length"
    );
    Finding::new(Verdict::Advice, WHAT, text)
}

fn issuer(config: &Config) -> Finding {
    const WHAT: &str = "issuer";
    let issuer = &config.server.issuer;
    if issuer.starts_with("https://") {
        return Finding::new(Verdict::Good, WHAT, issuer.clone());
    }
    let text = format!(
        "tokens say `iss` = \"{issuer}\"; other services tell servers apart by it: set server.issuer \
         to this server's https:// address"
    );
    Finding::new(Verdict::Advice, WHAT, text)
}
