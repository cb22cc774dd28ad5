//! Sessions: a login, however often it is refreshed (contract section 3).
//!
//! A session is one row. Its refresh tokens are numbered by generation; the row knows the current
//! one. [`Session::judge`] decides what a presented token means, from values alone.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use super::moment::Moment;
use super::time::{Timestamp, micros};
use super::user::UserId;

/// A session's id: time-ordered and random (UUID version 7, RFC 9562 section 5.7), never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// An id for a session that begins `at`, from ten random bytes.
    pub fn new(at: Timestamp, random: &[u8; 10]) -> Self {
        let millis = u64::try_from(at.micros() / 1000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid().into_bytes())
    }

    /// The id of that text, if it is one in the usual form with hyphens.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 36).then(|| Uuid::try_parse(text).ok())?.map(|id| Self(id.into_bytes()))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

/// Why a session ended. Kept for `sessions.keep_ended`, so that "why was I logged out?" has an
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its own user said so.
    Logout,
    /// Its user ended it from another session.
    LoggedOutElsewhere,
    /// An old refresh token came back later than the reuse interval allows: theft.
    ReuseDetected,
    /// A refresh token from the future: the database lost commits.
    StateLost,
    /// The password was changed.
    PasswordChanged,
    /// The user was disabled.
    UserDisabled,
    /// The user was deleted.
    UserDeleted,
    /// An operator ended it.
    Admin,
    /// Not refreshed for `sessions.idle_lifetime`.
    Idle,
    /// Older than `sessions.max_lifetime`.
    MaxLifetime,
    /// Gave way to a newer session of a user with `sessions.max_per_user`.
    Evicted,
    /// Its refresh key was revoked.
    KeyRevoked,
    /// The database was restored from a backup.
    Restored,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Logout,
        Self::LoggedOutElsewhere,
        Self::ReuseDetected,
        Self::StateLost,
        Self::PasswordChanged,
        Self::UserDisabled,
        Self::UserDeleted,
        Self::Admin,
        Self::Idle,
        Self::MaxLifetime,
        Self::Evicted,
        Self::KeyRevoked,
        Self::Restored,
    ];

    /// The name in the store, in answers and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::LoggedOutElsewhere => "logged_out_elsewhere",
            Self::ReuseDetected => "reuse_detected",
            Self::StateLost => "state_lost",
            Self::PasswordChanged => "password_changed",
            Self::UserDisabled => "user_disabled",
            Self::UserDeleted => "user_deleted",
            Self::Admin => "admin",
            Self::Idle => "idle",
            Self::MaxLifetime => "max_lifetime",
            Self::Evicted => "evicted",
            Self::KeyRevoked => "key_revoked",
            Self::Restored => "restored",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// What to tell the person who asks.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Logout => "The user logged out.",
            Self::LoggedOutElsewhere => "The user ended this session from another one.",
            Self::ReuseDetected => {
                "A refresh token that had long been replaced was used again. Two parties held this \
                 session, so it was ended: either a client keeps old tokens, or one was stolen."
            }
            Self::StateLost => {
                "A refresh token was newer than the database. The database lost commits, for \
                 example by an old copy being put back."
            }
            Self::PasswordChanged => "The user's password was changed.",
            Self::UserDisabled => "The user was disabled.",
            Self::UserDeleted => "The user was deleted.",
            Self::Admin => "An operator ended it.",
            Self::Idle => "It was not refreshed for longer than sessions.idle_lifetime.",
            Self::MaxLifetime => "It reached sessions.max_lifetime.",
            Self::Evicted => {
                "The user had sessions.max_per_user sessions, and this one gave way to a new login."
            }
            Self::KeyRevoked => "The key that its refresh tokens were made with was revoked.",
            Self::Restored => "The database was restored from a backup.",
        }
    }

    /// Whether access tokens of the session are refused too. Those of sessions that merely gave way
    /// or fell asleep run out by themselves.
    pub fn ends_access_tokens(self) -> bool {
        !matches!(self, Self::Evicted | Self::Idle)
    }
}

/// The rules of the `sessions` section that decide over refresh tokens.
#[derive(Clone, Copy, Debug)]
pub struct SessionPolicy {
    /// How long a replaced token still brings the current pair.
    pub reuse_interval: Duration,
    /// How long a refresh token lives; every refresh starts it anew.
    pub idle_lifetime: Duration,
    /// How long a session lives, however often it is refreshed.
    pub max_lifetime: Duration,
    /// How many live sessions one user may have.
    pub max_per_user: u32,
    /// Whether a refresh also ends the access tokens of earlier generations.
    pub end_access_token_on_refresh: bool,
}

impl SessionPolicy {
    /// When a refresh token runs out that is issued `now` for a session begun at `created_at`.
    pub fn refresh_expires_at(&self, created_at: Timestamp, now: Timestamp) -> Timestamp {
        now.plus(self.idle_lifetime).min(created_at.plus(self.max_lifetime))
    }
}

/// The oldest generation that can still have been current of late.
///
/// `generation` was replaced exactly at `at`, and since then no generation stayed current longer
/// than the reuse interval. That, with the time of issue inside every refresh token, is all the
/// memory that the reuse rule needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The first generation of the present run of quick rotations.
    pub generation: u32,
    /// When it was replaced.
    pub at: Timestamp,
}

/// A session as the store keeps it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// SHA-256 of the session secret that only its refresh tokens carry.
    pub secret_hash: [u8; 32],
    /// The current generation; 0 at login.
    pub generation: u32,
    /// Memory of the reuse rule.
    pub anchor: Anchor,
    /// When the user logged in.
    pub created_at: Timestamp,
    /// When the current generation was issued.
    pub rotated_at: Timestamp,
    /// When the current refresh token runs out.
    pub refresh_expires_at: Timestamp,
    /// The refresh key that the current token was made with.
    pub refresh_key: u32,
    /// Where the session was last used from.
    pub address: Option<IpAddr>,
    /// What the client called itself at login.
    pub user_agent: String,
    /// When a replaced token first came from another neighbourhood.
    pub foreign_replay_at: Option<Timestamp>,
    /// When and why it ended.
    pub ended: Option<(Timestamp, EndReason)>,
    /// Running time when it was created, in microseconds.
    pub created_running: i64,
    /// Running time when the current generation was issued.
    pub rotated_running: i64,
    /// The user's epoch in its tokens; `None`: not noted.
    pub epoch: Option<u64>,
}

/// What a genuine, unexpired refresh token means for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presentation {
    /// The current token of a live session.
    Current,
    /// A token that was current within the reuse interval: the current pair is given again.
    Replay,
    /// A token that was replaced longer ago: somebody else holds the lineage.
    Theft,
    /// A token that the row does not know yet: the database lost a commit.
    StateLost,
    /// The session has ended, or the token is none of its tokens.
    Dead,
}

/// The part of a refresh token that decides.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The token's generation.
    pub generation: u32,
    /// When the token was issued.
    pub issued_at: Timestamp,
    /// SHA-256 of the session secret inside the token.
    pub secret_hash: &'a [u8; 32],
}

impl Session {
    /// Decides what `presented` means at `now` (contract section 3, the table of answers).
    ///
    /// A token k older than the current n was current within the reuse interval I if it was replaced
    /// no longer than I ago:
    /// - k = n-1 was replaced at `rotated_at`, and the anchor's generation at `anchor.at`: exact.
    /// - between the two, every generation was current for at most I (or the anchor would have
    ///   moved up to it), so k was replaced at most I after its issue: an issue within 2 I covers
    ///   every such token, and none that was current longer ago than 2 I.
    /// - below the anchor, k was replaced before the anchor, which stood still longer than I.
    pub fn judge(
        &self,
        presented: &Presented<'_>,
        now: Timestamp,
        reuse_interval: Duration,
    ) -> Presentation {
        let generation = presented.generation;
        // A clock that was set back over a rotation: no time has passed since.
        let now = now.max(self.rotated_at);
        if self.ended.is_some() || self.secret_hash != *presented.secret_hash {
            return Presentation::Dead;
        }
        if generation == self.generation {
            return Presentation::Current;
        }
        if generation > self.generation {
            return Presentation::StateLost;
        }
        let recent = if generation + 1 == self.generation {
            now.since(self.rotated_at) <= reuse_interval
        } else if generation == self.anchor.generation {
            now.since(self.anchor.at) <= reuse_interval
        } else {
            generation > self.anchor.generation
                && now.since(presented.issued_at) <= reuse_interval * 2
        };
        if recent && !reuse_interval.is_zero() { Presentation::Replay } else { Presentation::Theft }
    }

    /// Why a session that nobody ended has run out at `now` by both clocks, if it has.
    pub fn run_out(&self, now: Moment, policy: &SessionPolicy) -> Option<EndReason> {
        let end = self.created_at.plus(policy.max_lifetime);
        let expires_at = self.refresh_expires_at.min(end);
        if self.ended.is_some() || now.wall < expires_at {
            return None;
        }
        let passed = |since: i64, span| now.running.saturating_sub(since) >= micros(span);
        if expires_at >= end {
            return passed(self.created_running, policy.max_lifetime)
                .then_some(EndReason::MaxLifetime);
        }
        passed(self.rotated_running, policy.idle_lifetime).then_some(EndReason::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const INTERVAL: Duration = Duration::from_mins(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// A session at generation `n`, last rotated at `rotated`, with that anchor.
    fn session(n: u32, rotated: i64, anchor: (u32, i64)) -> Session {
        Session {
            id: SessionId([1; 16]),
            user: UserId(1),
            secret_hash: SECRET,
            generation: n,
            anchor: Anchor { generation: anchor.0, at: at(anchor.1) },
            created_at: at(0),
            rotated_at: at(rotated),
            refresh_expires_at: at(rotated + 1000),
            refresh_key: 1,
            address: None,
            user_agent: String::new(),
            foreign_replay_at: None,
            ended: None,
            created_running: 0,
            rotated_running: 0,
            epoch: None,
        }
    }

    fn judge(session: &Session, generation: u32, issued: i64, now: i64) -> Presentation {
        let presented = Presented { generation, issued_at: at(issued), secret_hash: &SECRET };
        session.judge(&presented, at(now), INTERVAL)
    }

    #[test]
    fn the_predecessor_is_replayed_for_exactly_the_interval() {
        let session = session(1, 100, (0, 100));
        assert_eq!(judge(&session, 1, 100, 5000), Presentation::Current);
        assert_eq!(judge(&session, 0, 0, 160), Presentation::Replay);
        assert_eq!(judge(&session, 0, 0, 161), Presentation::Theft);
        assert_eq!(judge(&session, 0, 0, 50), Presentation::Replay, "a clock that went back");
        assert_eq!(judge(&session, 2, 100, 101), Presentation::StateLost);
    }

    #[test]
    fn a_quick_run_of_rotations_forgets_nobody_who_was_current_within_the_interval() {
        // Generation 0 replaced at 100, 1 at 159, 2 at 161.
        let session = session(3, 161, (0, 100));
        assert_eq!(judge(&session, 1, 100, 162), Presentation::Replay);
        assert_eq!(judge(&session, 1, 100, 219), Presentation::Replay);
        assert_eq!(judge(&session, 1, 100, 221), Presentation::Theft, "twice the interval is over");
        assert_eq!(judge(&session, 0, 0, 161), Presentation::Theft, "replaced 61 s ago");
    }

    #[test]
    fn ended_sessions_and_foreign_secrets_are_dead() {
        let mut ended = session(1, 100, (0, 100));
        let foreign = Presented { generation: 1, issued_at: at(100), secret_hash: &[8; 32] };
        assert_eq!(ended.judge(&foreign, at(101), INTERVAL), Presentation::Dead);
        ended.ended = Some((at(100), EndReason::Logout));
        assert_eq!(judge(&ended, 1, 100, 101), Presentation::Dead);
    }

    #[test]
    fn no_interval_means_no_second_chance() {
        let session = session(1, 100, (0, 100));
        let presented = Presented { generation: 0, issued_at: at(0), secret_hash: &SECRET };
        assert_eq!(session.judge(&presented, at(100), Duration::ZERO), Presentation::Theft);
    }

    #[test]
    fn ids_are_uuids_of_version_7_in_time_order() {
        let early = SessionId::new(at(1), &[255; 10]);
        let late = SessionId::new(at(2), &[0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().as_bytes()[14], b'7');
        assert_eq!(SessionId::parse(&early.to_string()), Some(early));
        assert_eq!(SessionId::parse("urn:uuid:00000000-0000-7000-8000-000000000000"), None);
    }

    #[test]
    fn every_reason_has_its_own_name() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::from_name(reason.name()), Some(reason));
        }
    }
}
