//! What is counted. Labels are bounded, and counting on a hot path is one atomic addition.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::domain::session::EndReason;
use crate::throttle::{Door, Rule};

macro_rules! outcomes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant),+];

            /// The label's value.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

outcomes!(
    /// How a login ended.
    LoginOutcome {
        Granted = "granted", Refused = "refused", Throttled = "throttled",
        Overloaded = "overloaded", Failed = "failed"
    }
);
outcomes!(
    /// How a refresh ended.
    RefreshOutcome {
        Rotated = "rotated", Replayed = "replayed", Refused = "refused", Expired = "expired",
        ReuseDetected = "reuse_detected", StateLost = "state_lost", Failed = "failed"
    }
);
outcomes!(
    /// Why a connection was cut.
    CutReason {
        Head = "head", Body = "body", Idle = "idle", Write = "write", TooMany = "too_many"
    }
);
outcomes!(
    /// How a verification ended.
    VerifyOutcome {
        Valid = "valid", Invalid = "invalid", Expired = "expired", Revoked = "revoked"
    }
);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ThrottledLabel {
    door: &'static str,
    rule: &'static str,
}

impl ThrottledLabel {
    fn of(door: Door, rule: Rule) -> Self {
        let door = match door {
            Door::TokenAuth => "token_auth",
            Door::TokenRefresh => "token_refresh",
        };
        let rule = match rule {
            Rule::Address => "address",
            Rule::Network => "network",
            Rule::Account => "account",
        };
        Self { door, rule }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    event: &'static str,
}

/// Counters by outcome, looked up once: counting is one atomic addition.
struct ByOutcome<O>(Vec<(O, Counter)>);

impl<O: Copy + PartialEq> ByOutcome<O> {
    fn count(&self, outcome: O) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == outcome) {
            counter.inc();
        }
    }
}

/// Answers by status; the most common one is looked up once.
struct Responses {
    family: Family<StatusLabel, Counter>,
    ok: Counter,
}

impl Default for Responses {
    fn default() -> Self {
        let family = Family::<StatusLabel, Counter>::default();
        let ok = family.get_or_create_owned(&StatusLabel { status: 200 });
        Self { family, ok }
    }
}

impl Responses {
    fn count(&self, status: u16) {
        if status == 200 {
            self.ok.inc();
        } else {
            self.family.get_or_create(&StatusLabel { status }).inc();
        }
    }
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    logins: ByOutcome<LoginOutcome>,
    refreshes: ByOutcome<RefreshOutcome>,
    verifications: ByOutcome<VerifyOutcome>,
    ended: Family<ReasonLabel, Counter>,
    throttled: Family<ThrottledLabel, Counter>,
    audited: Family<EventLabel, Counter>,
    repeat_logins: Counter,
    connections_cut: ByOutcome<CutReason>,
    connections: Gauge,
    responses: Responses,
    commits: Counter,
    writes: Counter,
    hashing_queue: Gauge,
    hash_seconds: Gauge<f64, AtomicU64>,
    revocations: Gauge,
}

impl Default for Metrics {
    #[expect(clippy::too_many_lines, reason = "one list of everything that is counted")]
    fn default() -> Self {
        let mut registry = Registry::with_prefix("passmint");
        macro_rules! by_outcome {
            ($name:literal, $help:literal, $outcome:ty) => {{
                let family = Family::<OutcomeLabel, Counter>::default();
                registry.register($name, $help, family.clone());
                let counter = |outcome: &$outcome| {
                    let label = OutcomeLabel { outcome: outcome.label() };
                    (*outcome, family.get_or_create_owned(&label))
                };
                ByOutcome(<$outcome>::ALL.iter().map(counter).collect())
            }};
        }
        let logins = by_outcome!("logins", "Logins by outcome", LoginOutcome);
        let connections_cut =
            by_outcome!("connections_cut", "Connections cut, by reason", CutReason);
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let refreshes = by_outcome!("refreshes", "Refreshes by outcome", RefreshOutcome);
        let verifications =
            by_outcome!("verifications", "Access token verifications by outcome", VerifyOutcome);
        let (ended, throttled) = (Family::default(), Family::default());
        let audited = Family::default();
        let responses = Responses::default();
        let (commits, writes, repeat_logins) = <(Counter, Counter, Counter)>::default();
        let (hashing_queue, revocations, hash_seconds) = <(Gauge, Gauge, Gauge<f64, _>)>::default();
        registry.register("sessions_ended", "Sessions ended, by reason", ended.clone());
        registry.register(
            "throttled",
            "Attempts held back, by endpoint and rule",
            throttled.clone(),
        );
        registry.register("audit_records", "Audit records, by event", audited.clone());
        registry.register(
            "repeat_logins",
            "Logins recognised as repeats, without a hash",
            repeat_logins.clone(),
        );
        registry.register("http_responses", "HTTP answers by status", responses.family.clone());
        registry.register("store_commits", "Durable commits of the store", commits.clone());
        registry.register("store_writes", "Writes that those commits carried", writes.clone());
        registry.register(
            "hashing_queue_length",
            "Logins that wait for a hash",
            hashing_queue.clone(),
        );
        registry.register_with_unit(
            "hash",
            "What one password hash takes, smoothed",
            Unit::Seconds,
            hash_seconds.clone(),
        );
        registry.register("revocations", "Entries of the revocation view", revocations.clone());
        Self {
            registry,
            logins,
            refreshes,
            verifications,
            ended,
            throttled,
            audited,
            repeat_logins,
            connections_cut,
            connections,
            responses,
            commits,
            writes,
            hashing_queue,
            hash_seconds,
            revocations,
        }
    }
}

impl Metrics {
    /// Counts a login.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.count(outcome);
    }

    /// Counts a refresh.
    pub fn refresh(&self, outcome: RefreshOutcome) {
        self.refreshes.count(outcome);
    }

    /// Counts a verification.
    pub fn verification(&self, outcome: VerifyOutcome) {
        self.verifications.count(outcome);
    }

    /// Counts somebody who is held back.
    pub fn throttled(&self, door: Door, rule: Rule) {
        self.throttled.get_or_create(&ThrottledLabel::of(door, rule)).inc();
    }

    /// Counts a login that was recognised as a repeat.
    pub fn repeat_login(&self) {
        self.repeat_logins.inc();
    }

    /// Counts a connection that was cut.
    pub fn connection_cut(&self, reason: CutReason) {
        self.connections_cut.count(reason);
    }

    /// Counts an open connection.
    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    /// Counts it no more.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// Counts an audit record.
    pub fn audited(&self, event: &'static str) {
        self.audited.get_or_create(&EventLabel { event }).inc();
    }

    /// Counts sessions that ended.
    pub fn sessions_ended(&self, reason: EndReason, count: u64) {
        if count > 0 {
            self.ended.get_or_create(&ReasonLabel { reason: reason.name() }).inc_by(count);
        }
    }

    /// Counts an HTTP answer.
    pub fn response(&self, status: u16) {
        self.responses.count(status);
    }

    /// Counts a commit of the store and the writes it carried.
    pub fn commit(&self, writes: u64) {
        self.commits.inc();
        self.writes.inc_by(writes);
    }

    /// The text that Prometheus scrapes (`OpenMetrics` 1.0), with the gauges set to those values.
    pub fn scrape(&self, queued: usize, hash_seconds: f64, revocations: usize) -> String {
        self.hashing_queue.set(i64::try_from(queued).unwrap_or(i64::MAX));
        self.hash_seconds.set(hash_seconds);
        self.revocations.set(i64::try_from(revocations).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
