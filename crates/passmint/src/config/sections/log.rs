//! `log` and `audit`: what is written down.

use std::time::Duration;

use super::DAY;
use crate::config::reader::Reader;

/// The audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// How long a record is kept.
    pub keep: Duration,
}

impl Audit {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        Self { keep: r.duration("audit.keep", 400 * DAY, (DAY, 36_500 * DAY)) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,passmint=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Log {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let level = r.text("log.level", "info");
        let parts = level.split(',').map(str::trim).filter(|part| !part.is_empty());
        let level = parts.collect::<Vec<_>>().join(",");
        if !is_filter(&level) {
            r.problem("log.level", "must be error, warn, info, debug or trace");
        }
        let choices =
            [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)];
        Self { level, format: r.choice("log.format", LogFormat::Auto, &choices) }
    }
}

/// Whether it is a level, or a list of levels and `target=level`. A word that is no level would be the
/// name of a target, and silence all others.
fn is_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |text: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    let parts = || text.split(',');
    parts().all(|part| is_level(part) || part.contains('='))
        && parts().any(is_level)
        && text.parse::<tracing_subscriber::EnvFilter>().is_ok()
}
