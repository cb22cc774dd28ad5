//! What is counted. Labels are bounded, and counting on a hot path is one atomic addition, timing
//! two.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::exposition::Exposition;
use super::histogram::{self, Histogram};
use super::labels::{
    self, AddressDoubt, CutReason, LoginOutcome, RefreshOutcome, RouteClass, VerifyOutcome,
};
use super::process::Process;
use super::register::{Fixed, Register};
use crate::domain::audit::AuditKind;
use crate::domain::session::EndReason;
use crate::domain::time::Timestamp;
use crate::throttle::{Door, Rule};

macro_rules! label_set {
    ($($name:ident { $($label:ident: $type:ty),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),+ }
    )+};
}

label_set! {
    OutcomeLabel { outcome: &'static str }
    ReasonLabel { reason: &'static str }
    StatusLabel { status: u16 }
    RouteLabel { route: &'static str }
    ThrottleLabels { door: &'static str, rule: &'static str }
    EventLabel { event: &'static str }
    TableLabel { table: &'static str }
    BuildLabels { version: &'static str }
}

/// The lowest status, and how many there are (RFC 9110, section 15).
const STATUSES: (u16, usize) = (100, 500);

/// Answers by status, each looked up when it is first counted.
struct Responses {
    family: Family<StatusLabel, Counter>,
    by_status: Vec<OnceLock<Counter>>,
}

impl Responses {
    fn of(family: Family<StatusLabel, Counter>) -> Self {
        let by_status = (0..STATUSES.1).map(|_| OnceLock::new()).collect();
        // A rate wants to have seen a counter before it rises, and the first of these matters.
        for status in [200, 500, 503] {
            drop(family.get_or_create(&StatusLabel { status }));
        }
        Self { family, by_status }
    }

    fn count(&self, status: u16) {
        let place = usize::from(status.wrapping_sub(STATUSES.0));
        if let Some(counter) = self.by_status.get(place) {
            counter.get_or_init(|| self.family.get_or_create_owned(&StatusLabel { status })).inc();
        }
    }
}

/// What is looked up at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Jobs that wait for a hash.
    pub queued: usize,
    /// What one hash takes, smoothed.
    pub hash_time: Duration,
    /// Entries of the revocation view.
    pub revocations: usize,
    /// How far the revocation view may be behind the store.
    pub revocation_view_age: Duration,
    /// Places in use of the throttle's tables: accounts with networks, accounts, addresses.
    pub throttle_keys: [usize; 3],
}

/// Logins, refreshes, verifications, and what became of sessions.
struct Tokens {
    logins: Fixed<LoginOutcome, Counter>,
    repeat_logins: Counter,
    refreshes: Fixed<RefreshOutcome, Counter>,
    verifications: Fixed<VerifyOutcome, Counter>,
    ended: Fixed<EndReason, Counter>,
    audited: Fixed<AuditKind, Counter>,
    revocations: Gauge,
    revocation_view_age: Gauge<f64, AtomicU64>,
}

impl Tokens {
    fn register(to: &mut Register) -> Self {
        let outcome = |outcome| OutcomeLabel { outcome };
        let logins = |o: LoginOutcome| outcome(o.label());
        let refreshes = |o: RefreshOutcome| outcome(o.label());
        let verifications = |o: VerifyOutcome| outcome(o.label());
        let reason = |reason: EndReason| ReasonLabel { reason: reason.name() };
        let kinds = AuditKind::ALL.iter().copied();
        let event = |kind: AuditKind| EventLabel { event: kind.name() };
        let repeated = "Logins recognised as repeats, without a hash";
        let verified = "Access token verifications by outcome";
        let age = "How far the revocation view may be behind the store";
        Self {
            logins: to.counters("logins", "Logins by outcome", LoginOutcome::all(), logins),
            repeat_logins: to.metric("repeat_logins", repeated),
            refreshes: to.counters(
                "refreshes",
                "Refreshes by outcome",
                RefreshOutcome::all(),
                refreshes,
            ),
            verifications: to.counters(
                "verifications",
                verified,
                VerifyOutcome::all(),
                verifications,
            ),
            ended: to.counters(
                "sessions_ended",
                "Sessions ended, by reason",
                EndReason::ALL,
                reason,
            ),
            audited: to.counters("audit_records", "Audit records, by event", kinds, event),
            revocations: to.metric("revocations", "Entries of the revocation view"),
            revocation_view_age: to.seconds("revocation_view_age", age, Gauge::default()),
        }
    }
}

/// The tables of the throttle, as [`Reading`] has them.
const THROTTLE_TABLES: [&str; 3] = ["account_network", "account", "address"];

/// The throttle.
struct Throttle {
    refused: Fixed<(Door, Rule), Counter>,
    keys: [Gauge; THROTTLE_TABLES.len()],
}

impl Throttle {
    fn register(to: &mut Register) -> Self {
        let both = Door::ALL.into_iter().flat_map(|door| Rule::ALL.map(|rule| (door, rule)));
        let labels =
            |(door, rule)| ThrottleLabels { door: labels::door(door), rule: labels::rule(rule) };
        let help = "Attempts held back, by endpoint and rule";
        let refused = to.counters("throttled", help, both, labels);
        let help = "Keys that the throttle remembers, by table";
        let keys: Family<TableLabel, Gauge> = to.metric("throttle_keys", help);
        let keys = THROTTLE_TABLES.map(|table| keys.get_or_create_owned(&TableLabel { table }));
        Self { refused, keys }
    }
}

/// Requests and connections.
struct Http {
    responses: Responses,
    requests: Fixed<RouteClass, Histogram>,
    connections: Gauge,
    cut: Fixed<CutReason, Counter>,
    in_doubt: Fixed<AddressDoubt, Counter>,
}

impl Http {
    fn register(to: &mut Register) -> Self {
        let new: fn() -> Histogram = || Histogram::new(histogram::REQUEST);
        let help = "From a request's head to its answer's, by kind of call";
        let family = to.seconds("http_request_duration", help, Family::new_with_constructor(new));
        let route = |class: RouteClass| RouteLabel { route: class.label() };
        let reason = |reason: CutReason| OutcomeLabel { outcome: reason.label() };
        let cut = "Connections that the server cut, by reason";
        let doubt = |doubt: AddressDoubt| OutcomeLabel { outcome: doubt.label() };
        let in_doubt = "Requests whose client's address may be that of several clients, by reason";
        Self {
            responses: Responses::of(to.metric("http_responses", "HTTP answers by status")),
            requests: Fixed::of(&family, RouteClass::all(), route),
            connections: to.metric("connections", "Open connections"),
            cut: to.counters("connections_cut", cut, CutReason::all(), reason),
            in_doubt: to.counters("addresses_in_doubt", in_doubt, AddressDoubt::all(), doubt),
        }
    }
}

/// The store.
struct Stored {
    available: Gauge,
    commits: Counter,
    writes: Counter,
    write_time: Histogram,
    read_time: Histogram,
}

impl Stored {
    fn register(to: &mut Register) -> Self {
        let write = "From handing a write to the store until it is durable";
        let read = "A read of the store, with its wait for a connection";
        let new = || Histogram::new(histogram::STORE);
        Self {
            available: to.metric("store_available", "1 while the database can be read and written"),
            commits: to.metric("store_commits", "Durable commits of the store"),
            writes: to.metric("store_writes", "Writes that those commits carried"),
            write_time: to.seconds("store_write_duration", write, new()),
            read_time: to.seconds("store_read_duration", read, new()),
        }
    }
}

/// What the operator looks after: settings, a certificate, the machine's clock.
struct Operator {
    reloaded: Gauge,
    certificate: Gauge,
    clock_jumps: Counter,
    clock_trusted: Gauge,
}

impl Operator {
    fn register(to: &mut Register) -> Self {
        let reloaded = "0 while the settings of the last reload do not count: it failed";
        let certificate = "Until when the certificate that is served is valid, in seconds since 1970; 0 without TLS";
        let jumps = "Times that the wall clock was set by more than a minute";
        let trusted = "0 while nothing is ended or deleted by age, because the wall clock was set";
        let made = Self {
            reloaded: to.metric("settings_last_reload_successful", reloaded),
            certificate: to.metric("tls_certificate_expiry_timestamp_seconds", certificate),
            clock_jumps: to.metric("clock_jumps", jumps),
            clock_trusted: to.metric("clock_trusted", trusted),
        };
        made.reloaded.set(1);
        made
    }
}

/// The hashing pool.
struct Hashing {
    queue: Gauge,
    queue_wait: Histogram,
    time: Histogram,
    smoothed: Gauge<f64, AtomicU64>,
}

impl Hashing {
    fn register(to: &mut Register) -> Self {
        let wait = "How long a job waited for its hash to begin";
        let time = "How long a thread was at one job";
        let smoothed = "What one password hash takes, smoothed";
        Self {
            queue: to.metric("hashing_queue_length", "Logins that wait for a hash"),
            queue_wait: to.seconds(
                "hashing_queue_wait",
                wait,
                Histogram::new(histogram::QUEUE_WAIT),
            ),
            time: to.seconds("hash_duration", time, Histogram::new(histogram::HASH)),
            smoothed: to.seconds("hash", smoothed, Gauge::default()),
        }
    }
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// Under names that all programs share, so without the prefix.
    process: Registry,
    tokens: Tokens,
    throttle: Throttle,
    http: Http,
    store: Stored,
    hashing: Hashing,
    operator: Operator,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut to = Register(Registry::with_prefix("passmint"));
        let build = BuildLabels { version: env!("CARGO_PKG_VERSION") };
        to.0.register("build", "Which build runs", Info::new(build));
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        Self {
            tokens: Tokens::register(&mut to),
            throttle: Throttle::register(&mut to),
            http: Http::register(&mut to),
            store: Stored::register(&mut to),
            hashing: Hashing::register(&mut to),
            operator: Operator::register(&mut to),
            registry: to.0,
            process,
        }
    }
}

impl Metrics {
    /// Counts a login.
    pub fn login(&self, outcome: LoginOutcome) {
        self.tokens.logins.count(outcome);
    }

    /// Counts a login that was recognised as a repeat.
    pub fn repeat_login(&self) {
        self.tokens.repeat_logins.inc();
    }

    /// Notes whether the store can be read and written.
    pub fn store_available(&self, available: bool) {
        self.store.available.set(available.into());
    }

    /// Notes whether the settings were taken when they were last read again.
    pub fn settings_reloaded(&self, taken: bool) {
        self.operator.reloaded.set(taken.into());
    }

    /// Notes until when the certificate is valid that is served.
    pub fn certificate_expires(&self, until: Timestamp) {
        self.operator.certificate.set(until.seconds());
    }

    /// Until when the certificate is valid that is served, if one is.
    pub fn certificate_until(&self) -> Option<Timestamp> {
        let seconds = self.operator.certificate.get();
        (seconds > 0).then(|| Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
    }

    /// Notes whether things may be ended and deleted by age.
    pub fn clock_trusted(&self, trusted: bool) {
        self.operator.clock_trusted.set(trusted.into());
    }

    /// Counts a jump of the wall clock.
    pub fn clock_jump(&self) {
        self.operator.clock_jumps.inc();
    }

    /// Counts a refresh.
    pub fn refresh(&self, outcome: RefreshOutcome) {
        self.tokens.refreshes.count(outcome);
    }

    /// Counts a verification.
    pub fn verification(&self, outcome: VerifyOutcome) {
        self.tokens.verifications.count(outcome);
    }

    /// Counts somebody who is held back.
    pub fn throttled(&self, door: Door, rule: Rule) {
        self.throttle.refused.count((door, rule));
    }

    /// Counts sessions that the store has ended.
    pub fn sessions_ended(&self, reason: EndReason, count: u64) {
        if let Some(ended) = self.tokens.ended.get(reason) {
            ended.inc_by(count);
        }
    }

    /// Counts an audit record.
    pub fn audited(&self, kind: AuditKind) {
        self.tokens.audited.count(kind);
    }

    /// Counts an HTTP answer and how long it took.
    pub fn response(&self, class: RouteClass, status: u16, took: Duration) {
        self.http.responses.count(status);
        if let Some(histogram) = self.http.requests.get(class) {
            histogram.observe(took);
        }
    }

    /// A connection was accepted.
    pub fn connection_opened(&self) {
        self.http.connections.inc();
    }

    /// A connection that [`Metrics::connection_opened`] was told of is over.
    pub fn connection_closed(&self) {
        self.http.connections.dec();
    }

    /// Counts a connection that the server cut.
    pub fn connection_cut(&self, reason: CutReason) {
        self.http.cut.count(reason);
    }

    /// Counts a request whose client's address is in doubt.
    pub fn address_in_doubt(&self, doubt: AddressDoubt) {
        self.http.in_doubt.count(doubt);
    }

    /// Counts a commit of the store and the writes it carried.
    pub fn commit(&self, writes: u64) {
        self.store.commits.inc();
        self.store.writes.inc_by(writes);
    }

    /// Notes what a write took, from handing it in until it was durable.
    pub fn store_write(&self, took: Duration) {
        self.store.write_time.observe(took);
    }

    /// Notes what a read took.
    pub fn store_read(&self, took: Duration) {
        self.store.read_time.observe(took);
    }

    /// Notes how long a password waited for its hash, and how long a thread was at it.
    pub fn hashed(&self, waited: Duration, took: Duration) {
        self.hashing.queue_wait.observe(waited);
        self.hashing.time.observe(took);
    }

    /// The text that Prometheus scrapes, with the gauges set to what is read now.
    pub fn scrape(&self, now: &Reading, exposition: Exposition) -> String {
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.hashing.queue.set(whole(now.queued));
        self.hashing.smoothed.set(now.hash_time.as_secs_f64());
        self.tokens.revocations.set(whole(now.revocations));
        self.tokens.revocation_view_age.set(now.revocation_view_age.as_secs_f64());
        for (gauge, keys) in self.throttle.keys.iter().zip(now.throttle_keys) {
            gauge.set(whole(keys));
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode(&mut text, &self.process);
        exposition.of(text)
    }
}
