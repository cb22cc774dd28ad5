//! The audit log: who did what, from where, under which request. Append-only and hash-chained: a
//! record that is changed, taken out or put in breaks every hash after it.
//!
//! What is here is the record and its chain; the store appends, in the transaction of the act itself.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde_json::{Map, Value};

use super::session::SessionId;
use super::time::Timestamp;
use super::user::UserId;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Somebody who has not shown who it is.
    Nobody,
    /// A user.
    User(UserId),
    /// Whoever may use the command line.
    Operator,
    /// The server by itself.
    Server,
}

impl Actor {
    /// As records name it.
    fn name(self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::User(id) => format!("user:{id}"),
            Self::Operator => "operator".to_owned(),
            Self::Server => "server".to_owned(),
        }
    }
}

/// Who acts, from where, under which request.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The request id.
    pub request: Option<Arc<str>>,
}

impl By {
    /// The server by itself.
    pub const SERVER: Self = Self { actor: Actor::Server, address: None, request: None };
    /// Whoever may use the command line.
    pub const OPERATOR: Self = Self { actor: Actor::Operator, address: None, request: None };
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal),+ $(,)?) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AuditKind { $($(#[$doc])* $kind),+ }

        impl AuditKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The name in records, in metrics and for `audit list --event`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),+ }
            }
        }
    };
}

kinds!(
    /// A login began a session.
    LoginGranted = "login.granted",
    /// Unknown, wrong or disabled.
    LoginRefused = "login.refused",
    /// The old password of a password change was wrong.
    PasswordRefused = "password.refused",
    /// A replaced refresh token came within the reuse interval.
    RefreshReplayed = "refresh.replayed",
    /// One session ended, for the reason in the record.
    SessionEnded = "session.ended",
    /// All sessions of a user, perhaps but one, ended.
    SessionsEnded = "sessions.ended",
    /// A user was added.
    UserAdded = "user.added",
    /// A user was imported with its hash.
    UserImported = "user.imported",
    /// Profile, roles or own claims were changed.
    UserChanged = "user.changed",
    /// A password was set.
    PasswordChanged = "password.changed",
    /// A user was disabled.
    UserDisabled = "user.disabled",
    /// A user was enabled.
    UserEnabled = "user.enabled",
    /// A user was deleted.
    UserDeleted = "user.deleted",
    /// An operator lifted a throttle.
    UserUnlocked = "user.unlocked",
    /// A key was made or imported.
    KeyAdded = "key.added",
    /// A key went on to another state.
    KeyMoved = "key.moved",
    /// A key was dropped.
    KeyDropped = "key.dropped",
    /// All keys were sealed under another master key.
    KeysResealed = "keys.resealed",
    /// A server began to serve.
    ServerStarted = "server.started",
    /// The settings were loaded anew.
    SettingsReloaded = "settings.reloaded",
);

/// Something to write down.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// What happened.
    pub kind: AuditKind,
    /// To which user.
    pub user: Option<UserId>,
    /// To which session.
    pub session: Option<SessionId>,
    detail: Map<String, Value>,
}

impl AuditEvent {
    /// An event of that kind, about nobody yet.
    pub fn new(kind: AuditKind) -> Self {
        Self { kind, user: None, session: None, detail: Map::new() }
    }

    /// About a user.
    #[must_use]
    pub fn of(mut self, user: UserId) -> Self {
        self.user = Some(user);
        self
    }

    /// About a session.
    #[must_use]
    pub fn in_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// With one more fact. Never a secret, and no name that was merely typed.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(name.to_owned(), value.into());
        self
    }

    /// The record's text: one JSON object. It is what the chain covers.
    pub fn record(&self, by: &By, at: Timestamp) -> String {
        let mut record = Map::new();
        record.insert("at".to_owned(), at.iso8601_micros().into());
        record.insert("event".to_owned(), self.kind.name().into());
        record.insert("actor".to_owned(), by.actor.name().into());
        if let Some(user) = self.user {
            record.insert("user_id".to_owned(), user.0.into());
        }
        if let Some(session) = self.session {
            record.insert("session_id".to_owned(), session.to_string().into());
        }
        if let Some(address) = by.address {
            record.insert("address".to_owned(), address.to_canonical().to_string().into());
        }
        if let Some(request) = &by.request {
            record.insert("request_id".to_owned(), (**request).into());
        }
        record.extend(self.detail.clone());
        Value::Object(record).to_string()
    }
}

/// A position in the chain: a record's number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLink {
    /// The record's number; records are numbered without gaps.
    pub sequence: i64,
    /// SHA-256 of the hash before, the number and the record's text.
    pub hash: [u8; 32],
}

impl ChainLink {
    /// Before the first record.
    pub const START: Self = Self { sequence: 0, hash: [0; 32] };

    /// The link of the record that follows this one.
    #[must_use]
    pub fn next(&self, record: &str) -> Self {
        let sequence = self.sequence.saturating_add(1);
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.hash);
        context.update(&sequence.to_be_bytes());
        context.update(record.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self { sequence, hash }
    }

    /// The link of that number and hash, the hash in hexadecimal digits.
    pub fn read(sequence: i64, hex: &str) -> Option<Self> {
        let hash = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?.try_into().ok()?;
        Some(Self { sequence, hash })
    }

    /// The hash in hexadecimal digits.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.hash)
    }
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its link.
    pub link: ChainLink,
    /// Its text: a JSON object.
    pub text: String,
    /// What it is found by.
    pub index: AuditIndex,
}

/// What of a record is kept apart from its text, so that it can be found and swept. The chain covers
/// the text alone, and so this must say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditIndex {
    /// When.
    pub at: Timestamp,
    /// The kind's name.
    pub event: String,
    /// About which user.
    pub user: Option<UserId>,
}

impl AuditIndex {
    fn agrees_with(&self, text: &str) -> bool {
        let Ok(Value::Object(record)) = serde_json::from_str(text) else {
            return false;
        };
        let says = |name: &str, value: Option<Value>| record.get(name) == value.as_ref();
        says("at", Some(self.at.iso8601_micros().into()))
            && says("event", Some(self.event.as_str().into()))
            && says("user_id", self.user.map(|user| user.0.into()))
    }
}

/// The first place where records do not follow from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is broken at record {0}: it was changed, or records are missing before it")]
pub struct BrokenChain(pub i64);

/// Checks that `records` follow `from` without a gap, and are found by what they say; the last link.
pub fn follow(from: ChainLink, records: &[AuditRecord]) -> Result<ChainLink, BrokenChain> {
    records.iter().try_fold(from, |link, record| {
        let expected = link.next(&record.text);
        let holds = expected == record.link && record.index.agrees_with(&record.text);
        if holds { Ok(expected) } else { Err(BrokenChain(record.link.sequence)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<AuditRecord> {
        let mut link = ChainLink::START;
        let record = |number: i64| {
            let event = AuditEvent::new(AuditKind::UserAdded).of(UserId(number)).with("by", "x");
            let at = Timestamp::from_micros(number);
            let text = event.record(&By::OPERATOR, at);
            link = link.next(&text);
            let index =
                AuditIndex { at, event: event.kind.name().to_owned(), user: Some(UserId(number)) };
            AuditRecord { link, text, index }
        };
        (1..=5).map(record).collect()
    }

    #[test]
    fn a_record_says_who_what_and_when() {
        let by = By {
            actor: Actor::User(UserId(7)),
            address: "::ffff:192.0.2.1".parse().ok(),
            request: Some("r1".into()),
        };
        let event = AuditEvent::new(AuditKind::SessionEnded)
            .of(UserId(7))
            .in_session(SessionId([0; 16]))
            .with("reason", "logout");
        assert_eq!(
            event.record(&by, Timestamp::from_micros(1_764_000_000_900_000)),
            r#"{"at":"2025-11-24T16:00:00.900000Z","event":"session.ended","actor":"user:7","user_id":7,"session_id":"00000000-0000-0000-0000-000000000000","address":"192.0.2.1","request_id":"r1","reason":"logout"}"#
        );
    }

    #[test]
    fn a_link_is_read_as_it_was_written_and_nothing_else_is() {
        let link = ChainLink::START.next("a record");
        let hex = link.hex();
        assert_eq!(hex.len(), 64);
        assert_eq!(ChainLink::read(1, &hex), Some(link));
        assert_eq!(ChainLink::read(1, &hex.to_uppercase()), Some(link));
        let others = ["", &hex[2..], &hex[1..], &format!("{hex}00"), &format!("+1{}", &hex[2..])];
        for other in others.into_iter().chain([format!("\u{e9}{}", &hex[2..]).as_str()]) {
            assert_eq!(ChainLink::read(1, other), None, "{other}");
        }
    }

    #[test]
    fn whatever_is_changed_left_out_or_put_in_is_found() {
        let whole = chain();
        assert_eq!(follow(ChainLink::START, &whole).map(|link| link.sequence), Ok(5));
        let mut changed = whole.clone();
        changed[2].text = changed[2].text.replace("operator", "nobody");
        assert_eq!(follow(ChainLink::START, &changed), Err(BrokenChain(3)));
        let mut missing = whole.clone();
        missing.remove(1);
        assert_eq!(follow(ChainLink::START, &missing), Err(BrokenChain(3)));
        let hidings: [fn(&mut AuditIndex); 4] = [
            |index| index.at = Timestamp::from_micros(0),
            |index| index.event = "user.changed".to_owned(),
            |index| index.user = None,
            |index| index.user = Some(UserId(9)),
        ];
        for hide in hidings {
            let mut hidden = whole.clone();
            hide(&mut hidden[2].index);
            assert_eq!(follow(ChainLink::START, &hidden), Err(BrokenChain(3)));
        }
        let mut swapped = whole.clone();
        swapped.swap(3, 4);
        assert!(follow(ChainLink::START, &swapped).is_err());
        assert_eq!(follow(whole[1].link, &whole[2..]).map(|link| link.sequence), Ok(5));
    }
}
