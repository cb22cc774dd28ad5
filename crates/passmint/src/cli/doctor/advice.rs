//! What the settings could do better.

use std::os::unix::fs::PermissionsExt as _;

use super::{Finding, Verdict};
use crate::app::{CERTIFICATE_IS_DUE, load_tls};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Place};
use crate::domain::password::RECOMMENDED_LENGTH;
use crate::http::listener::Tls;

pub(super) fn settings(config: &Config) -> Finding {
    const WHAT: &str = "settings";
    // The master key has a finding of its own.
    if let Err(error) = load_tls(&Tls::default(), config) {
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

pub(super) fn guessing(config: &Config) -> Finding {
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

pub(super) fn passwords(config: &Config) -> Finding {
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

pub(super) fn issuer(config: &Config) -> Finding {
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

/// Whether clients will go on accepting the certificate. One that cannot be read is a mistake of the
/// settings.
pub(super) fn certificate(config: &Config) -> Option<Finding> {
    const WHAT: &str = "certificate";
    let until = load_tls(&Tls::default(), config).ok()??;
    let now = SystemClock::default().now();
    let date = until.iso8601();
    Some(if until <= now {
        let text =
            format!("has expired on {date}, and clients refuse it: renew it, then send SIGHUP");
        Finding::new(Verdict::Wrong, WHAT, text)
    } else if until <= now.plus(CERTIFICATE_IS_DUE) {
        let text = format!("expires on {date}: renew it, then send SIGHUP to the server");
        Finding::new(Verdict::Advice, WHAT, text)
    } else {
        Finding::new(Verdict::Good, WHAT, format!("is valid until {date}"))
    })
}

/// Whether a hash costs whoever steals the database less than OWASP's Password Storage Cheat Sheet wants:
/// 19 MiB and 2 passes, or as much work with less memory.
pub(super) fn hashing(config: &Config) -> Option<Finding> {
    const ENOUGH: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];
    let (memory, passes) = (config.hashing.memory_kib, config.hashing.passes);
    let enough = |(least, of): &(u32, u32)| memory >= *least && passes >= *of;
    if ENOUGH.iter().any(enough) {
        return None;
    }
    let text = format!(
        "{memory} KiB and {passes} passes are less than OWASP recommends: whoever steals the database \
         guesses passwords quickly. Set hashing.memory_kib = 19456 and hashing.passes = 2"
    );
    Some(Finding::new(Verdict::Advice, "hashing", text))
}

/// The admin listener has neither TLS nor a login.
pub(super) fn admin_listener(config: &Config) -> Option<Finding> {
    let address = config.server.admin_listen;
    let text = format!(
        "server.admin_listen = {address} is reached from other machines, and has neither TLS nor a login: \
         set 127.0.0.1, or see to it that only those who may read metrics reach it"
    );
    (!address.ip().is_loopback()).then(|| Finding::new(Verdict::Advice, "admin listener", text))
}
