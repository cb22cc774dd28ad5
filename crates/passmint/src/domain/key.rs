//! Keys: what they are for and the states they pass through.
//!
//! `published -> signing -> verifying -> gone`, driven by time and by what verifiers have cached.

use std::time::Duration;

use passmint_verify::Algorithm;

use super::time::Timestamp;

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Signs access tokens.
    Signing(Algorithm),
    /// Authenticates refresh tokens (HMAC-SHA-256).
    Refresh,
    /// Makes digests of usernames (HMAC-SHA-256), for what must not keep the names themselves.
    Digest,
}

/// Keys that take each other's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Signing keys of all algorithms.
    Signing,
    /// Refresh keys.
    Refresh,
    /// Digest keys.
    Digest,
}

impl KeyUse {
    /// Which keys it can take the place of.
    pub fn kind(self) -> KeyKind {
        match self {
            Self::Signing(_) => KeyKind::Signing,
            Self::Refresh => KeyKind::Refresh,
            Self::Digest => KeyKind::Digest,
        }
    }

    /// The name under which the store keeps it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signing(algorithm) => algorithm.name(),
            Self::Refresh => "refresh",
            Self::Digest => "digest",
        }
    }

    /// The use of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "refresh" => Some(Self::Refresh),
            "digest" => Some(Self::Digest),
            other => Algorithm::from_name(other).map(Self::Signing),
        }
    }
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Verifiers may fetch it; nothing is signed with it before `from`.
    Published {
        /// When it starts to sign.
        from: Timestamp,
    },
    /// New tokens are made with it.
    Signing {
        /// Since when.
        since: Timestamp,
    },
    /// Tokens made with it are accepted until the last of them has run out.
    Verifying {
        /// When nothing it signed can be alive; `None`: for good (imported with `--verify-only`).
        until: Option<Timestamp>,
    },
}

impl KeyState {
    /// The name under which the store keeps it and the operator sees it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Published { .. } => "published",
            Self::Signing { .. } => "signing",
            Self::Verifying { .. } => "verifying",
        }
    }

    /// The time that belongs to the state.
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::Published { from: at } | Self::Signing { since: at } => Some(at),
            Self::Verifying { until } => until,
        }
    }

    /// The state of that name and time.
    pub fn from_parts(name: &str, at: Option<Timestamp>) -> Option<Self> {
        match (name, at) {
            ("published", Some(from)) => Some(Self::Published { from }),
            ("signing", Some(since)) => Some(Self::Signing { since }),
            ("verifying", until) => Some(Self::Verifying { until }),
            _ => None,
        }
    }
}

/// How long a new key is public before anything is signed with it: every verifier that honours the
/// JWKS's `max-age` has it by then.
pub const PUBLISH_AHEAD: Duration = Duration::from_hours(1);

/// What has to happen to the keys of one use now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// Nothing.
    Rest,
    /// Make a key and publish it; it signs after [`PUBLISH_AHEAD`].
    Publish,
    /// The published key starts to sign, the signing one only verifies from now on.
    Promote,
}

/// Decides the next step from the states of the keys of one use.
///
/// `rotate_every` zero means: never by itself. A published key is promoted whatever the setting.
pub fn next_step(states: &[KeyState], rotate_every: Duration, now: Timestamp) -> KeyStep {
    let published = states.iter().find_map(|state| match state {
        KeyState::Published { from } => Some(*from),
        _ => None,
    });
    if let Some(from) = published {
        return if now >= from { KeyStep::Promote } else { KeyStep::Rest };
    }
    let signing_since = states.iter().find_map(|state| match state {
        KeyState::Signing { since } => Some(*since),
        _ => None,
    });
    match signing_since {
        Some(since)
            if !rotate_every.is_zero() && now.since(since) + PUBLISH_AHEAD >= rotate_every =>
        {
            KeyStep::Publish
        }
        _ => KeyStep::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_key_is_published_an_hour_before_it_signs() {
        let start = Timestamp::from_micros(1_000_000);
        let signing = KeyState::Signing { since: start };
        let almost = start.plus(Duration::from_secs(90 * 86_400 - 3601));
        assert_eq!(next_step(&[signing], DAY * 90, almost), KeyStep::Rest);
        let due = start.plus(Duration::from_hours(90 * 24 - 1));
        assert_eq!(next_step(&[signing], DAY * 90, due), KeyStep::Publish);
        let both = [signing, KeyState::Published { from: due.plus(PUBLISH_AHEAD) }];
        assert_eq!(next_step(&both, DAY * 90, due), KeyStep::Rest);
        assert_eq!(next_step(&both, DAY * 90, due.plus(PUBLISH_AHEAD)), KeyStep::Promote);
    }

    #[test]
    fn zero_means_never_by_itself() {
        let signing = KeyState::Signing { since: Timestamp::from_micros(0) };
        assert_eq!(
            next_step(&[signing], Duration::ZERO, Timestamp::from_micros(i64::MAX)),
            KeyStep::Rest
        );
    }
}
