//! New settings for a server that runs.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::open::lifetimes;
use super::server::{load_tls, note_certificate};
use crate::config::Config;
use crate::domain::audit::{AuditEvent, AuditKind, By};
use crate::http::listener::Tls;
use crate::service::Services;
use crate::telemetry::LogLevel;

/// Settings that a reload does not change.
const FROM_THE_START_ON: [&str; 8] = [
    "server.listen",
    "server.admin_listen",
    "server.admin_hosts",
    "database.",
    "master_key.",
    "hashing.",
    "log.format",
    "otlp.endpoint",
];

fn counts_at_once(setting: &str) -> bool {
    !FROM_THE_START_ON.iter().any(|fixed| setting.starts_with(fixed))
}

/// Names of settings that a reload changes. Values that are not shown count as equal.
fn changed(old: &Config, new: &Config) -> Vec<String> {
    let pairs = old.effective.iter().zip(&new.effective);
    pairs
        .filter(|(old, new)| old.value != new.value && counts_at_once(&new.setting))
        .map(|(_, new)| new.setting.clone())
        .collect()
}

/// What `config print --running` shows after a reload: of settings that count from the start on, the old.
fn keep_effective(old: &Config, new: &mut Config, tls_stays: bool) {
    for (old, new) in old.effective.iter().zip(&mut new.effective) {
        let tls = ["server.tls_cert", "server.tls_key"].contains(&new.setting.as_str());
        if !counts_at_once(&new.setting) || (tls && tls_stays) {
            new.clone_from(old);
        }
    }
}

/// Takes new settings while the server runs. What only counts at start is named and left as it was;
/// a mistake leaves everything as it was. Returns which settings have changed.
pub async fn reload(
    services: &Services,
    tls: &Tls,
    log: Option<&LogLevel>,
    new: Config,
) -> Result<Vec<String>> {
    let old = services.settings.load_full();
    let changed = changed(&old, &new);
    let mut fixed = Vec::new();
    let (a, b) = (&old.server, &new.server);
    let listeners = (a.listen, a.admin_listen, &a.admin_hosts, a.tls_cert.is_some())
        != (b.listen, b.admin_listen, &b.admin_hosts, b.tls_cert.is_some());
    if listeners {
        fixed.push("server.listen, server.admin_listen, server.admin_hosts, TLS on or off");
    }
    if old.database != new.database {
        fixed.push("database");
    }
    if old.hashing != new.hashing {
        fixed.push("hashing");
    }
    if old.log.format != new.log.format {
        fixed.push("log.format");
    }
    if old.otlp.endpoint != new.otlp.endpoint {
        fixed.push("otlp.endpoint");
    }
    // Before anything changes: longer lifetimes count only once they are written.
    let longest = services.parts.store.keep_lifetimes(lifetimes(&new)).await?;
    if !fixed.is_empty() {
        tracing::warn!(settings = fixed.join("; "), "these settings count from the next start on");
    }
    if old.server.tls_cert.is_some()
        && let Some(until) = load_tls(tls, &new)?
    {
        note_certificate(services, until);
    }
    if let Some(log) = log {
        log.reload(tracing_subscriber::EnvFilter::new(&new.log.level))
            .context("cannot change the log's level")?;
    }
    let mut next = new;
    let tls_stays = old.server.tls_cert.is_none() || next.server.tls_cert.is_none();
    keep_effective(&old, &mut next, tls_stays);
    next.server.listen = old.server.listen;
    next.server.admin_listen = old.server.admin_listen;
    next.server.admin_hosts.clone_from(&old.server.admin_hosts);
    if tls_stays {
        next.server.tls_cert.clone_from(&old.server.tls_cert);
        next.server.tls_key.clone_from(&old.server.tls_key);
    }
    next.database = old.database.clone();
    next.master_key = old.master_key.clone();
    next.hashing = old.hashing.clone();
    next.otlp.endpoint.clone_from(&old.otlp.endpoint);
    *services.parts.longest.lock() = longest;
    services.settings.store(Arc::new(next));
    services.tokens.forget_known();
    services.parts.note(By::OPERATOR, AuditEvent::new(AuditKind::SettingsReloaded));
    Ok(changed)
}
