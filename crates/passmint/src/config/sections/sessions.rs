//! `tokens`, `sessions` and `revocation`: how long things live.

use std::time::Duration;

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::config::reader::Reader;
use crate::domain::session::SessionPolicy;

/// Access tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// How long one lives.
    pub access_lifetime: Duration,
    /// `aud`, when set.
    pub audience: Option<String>,
    /// The most memory, in MiB, for recognising tokens whose signature was checked before.
    pub cache_mib: u32,
}

impl Tokens {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        Self {
            access_lifetime: r.duration("tokens.access_lifetime", DAY, (SECOND, 30 * DAY)),
            audience: r.optional_text("tokens.audience"),
            cache_mib: r.number("tokens.cache_mib", 64, (1, 65_536)),
        }
    }
}

/// Sessions and refresh tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Sessions {
    /// See [`SessionPolicy::reuse_interval`].
    pub reuse_interval: Duration,
    /// See [`SessionPolicy::idle_lifetime`].
    pub idle_lifetime: Duration,
    /// See [`SessionPolicy::max_lifetime`].
    pub max_lifetime: Duration,
    /// See [`SessionPolicy::max_per_user`].
    pub max_per_user: u32,
    /// See [`SessionPolicy::end_access_token_on_refresh`].
    pub end_access_token_on_refresh: bool,
    /// Accept an unexpired access token for refreshing, as the original's first version did.
    pub refresh_with_access_token: bool,
    /// How long an ended session is kept, to tell why.
    pub keep_ended: Duration,
}

impl Sessions {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let long = (SECOND, 3650 * DAY);
        Self {
            reuse_interval: r.duration(
                "sessions.reuse_interval",
                MINUTE,
                (Duration::ZERO, 10 * MINUTE),
            ),
            idle_lifetime: r.duration("sessions.idle_lifetime", 30 * DAY, long),
            max_lifetime: r.duration("sessions.max_lifetime", 365 * DAY, long),
            max_per_user: r.number("sessions.max_per_user", 1000, (1, 1_000_000)),
            end_access_token_on_refresh: r.switch("sessions.end_access_token_on_refresh", false),
            refresh_with_access_token: r.switch("sessions.refresh_with_access_token", false),
            keep_ended: r.duration("sessions.keep_ended", 90 * DAY, long),
        }
    }

    /// The rules as the store applies them.
    pub fn policy(&self) -> SessionPolicy {
        SessionPolicy {
            reuse_interval: self.reuse_interval,
            idle_lifetime: self.idle_lifetime,
            max_lifetime: self.max_lifetime,
            max_per_user: self.max_per_user,
            end_access_token_on_refresh: self.end_access_token_on_refresh,
        }
    }
}

/// The revocation view and feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Revocation {
    /// How old a node's view may be before it answers 503.
    pub max_staleness: Duration,
    /// `max-age` of the feed.
    pub feed_max_age: Duration,
}

impl Revocation {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let bounds = (SECOND, HOUR);
        Self {
            max_staleness: r.duration("revocation.max_staleness", 30 * SECOND, bounds),
            feed_max_age: r.duration("revocation.feed_max_age", 5 * SECOND, bounds),
        }
    }
}
