//! `login`, `throttle`, `password` and `hashing`: what stands before a session.

use std::path::Path;
use std::time::Duration;

use super::{HOUR, MINUTE, SECOND};
use crate::config::reader::Reader;
use crate::domain::password::{Blocklist, RECOMMENDED_LENGTH};
use crate::throttle::{Ladder, LoginRules, Rate};

/// Logins.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// How long a login may wait for its hash before it is shed.
    pub max_wait: Duration,
    /// For how long a repeat of the same credentials needs no hash; zero: never.
    pub repeat_window: Duration,
}

impl Login {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let bounds = (Duration::from_millis(10), MINUTE);
        Self {
            max_wait: r.duration("login.max_wait", 2 * SECOND, bounds),
            repeat_window: r.duration(
                "login.repeat_window",
                Duration::ZERO,
                (Duration::ZERO, HOUR),
            ),
        }
    }
}

/// Throttling (contract section 6).
#[derive(Clone, Debug, PartialEq)]
pub struct Throttle {
    /// Whether anybody is throttled.
    pub enabled: bool,
    /// Failures of a username from one network before attempts wait.
    pub free_failures: u32,
    /// Failures of a username from one neighbourhood before attempts wait.
    pub neighbourhood_failures: u32,
    /// The longest wait after a failure.
    pub longest_delay: Duration,
    /// Failures of a username from everywhere before strangers may try once an hour only.
    pub account_failures: u32,
    /// Failures of one network over all usernames before it may try once a minute only.
    pub network_failures: u32,
    /// Requests of one address to one endpoint, a second.
    pub requests_per_second: u32,
    /// The same, at once.
    pub burst: u32,
}

impl Throttle {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        Self {
            enabled: r.switch("throttle.enabled", true),
            free_failures: r.number("throttle.free_failures", 5, (1, 100)),
            neighbourhood_failures: r.number("throttle.neighbourhood_failures", 20, (1, 10_000)),
            longest_delay: r.duration("throttle.longest_delay", 15 * MINUTE, (SECOND, HOUR)),
            account_failures: r.number("throttle.account_failures", 100, (5, 100_000)),
            network_failures: r.number("throttle.network_failures", 100, (5, 100_000)),
            requests_per_second: r.number("throttle.requests_per_second", 20, (1, 1_000_000)),
            burst: r.number("throttle.burst", 40, (1, 1_000_000)),
        }
    }

    /// The rules of failed logins.
    pub fn login_rules(&self) -> LoginRules {
        let longest_delay = self.longest_delay;
        LoginRules {
            network: Ladder { free: self.free_failures, longest_delay },
            neighbourhood: Ladder { free: self.neighbourhood_failures, longest_delay },
            everywhere: self.account_failures,
            all_users: Rate { burst: self.network_failures, every: MINUTE },
        }
    }

    /// The rate of requests from one network to one endpoint.
    pub fn request_rate(&self) -> Rate {
        Rate { burst: self.burst, every: SECOND / self.requests_per_second.max(1) }
    }
}

/// New passwords.
#[derive(Clone, Debug, PartialEq)]
pub struct PasswordSettings {
    /// The fewest characters of a new password.
    pub min_length: u32,
    /// Passwords that nobody may choose.
    pub blocklist: Blocklist,
}

impl PasswordSettings {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        Self {
            min_length: r.number("password.min_length", RECOMMENDED_LENGTH, (8, 64)),
            blocklist: blocklist(r),
        }
    }
}

/// The passwords of `password.blocklist_file`, one a line.
fn blocklist(r: &mut Reader) -> Blocklist {
    let Some(file) = r.optional_text("password.blocklist_file") else {
        return Blocklist::default();
    };
    match r.text_of(Path::new(&file)) {
        Ok(text) => Blocklist::read(&text),
        Err(cause) => {
            r.problem("password.blocklist_file", &format!("cannot read {file}: {cause}"));
            Blocklist::default()
        }
    }
}

/// The hashing pool and the price of a hash (OWASP: 19 MiB, 2 passes, 1 lane).
#[derive(Clone, Debug, PartialEq)]
pub struct HashingSettings {
    /// Threads; 0: one per core.
    pub threads: u32,
    /// Argon2id memory in KiB.
    pub memory_kib: u32,
    /// Argon2id passes.
    pub passes: u32,
    /// Argon2id lanes.
    pub lanes: u32,
}

impl HashingSettings {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        Self {
            threads: r.number("hashing.threads", 0, (0, 256)),
            memory_kib: r.number("hashing.memory_kib", 19 * 1024, (8, 1024 * 1024)),
            passes: r.number("hashing.passes", 2, (1, 20)),
            lanes: r.number("hashing.lanes", 1, (1, 16)),
        }
    }
}
