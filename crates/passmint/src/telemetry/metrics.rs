//! What is counted. Labels are bounded, and counting on a hot path is one atomic addition, timing
//! two.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::exposition::Exposition;
use super::histogram::{self, Histogram};
use super::labels::{Cut, Door, LoginOutcome, RefreshOutcome, RouteClass, Rule, VerifyOutcome};
use super::process::Process;
use crate::domain::session::EndReason;

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

/// Metrics by a closed set of keys, looked up once at start: counting takes no lock.
struct Fixed<K, M>(Vec<(K, M)>);

impl<K: Copy + PartialEq, M: Clone> Fixed<K, M> {
    /// Takes one metric of `family` for each key.
    fn of<L, C>(
        family: &Family<L, M, C>,
        keys: impl IntoIterator<Item = K>,
        label: impl Fn(K) -> L,
    ) -> Self
    where
        L: Clone + std::hash::Hash + Eq,
        C: MetricConstructor<M>,
    {
        let metric = |key| (key, family.get_or_create_owned(&label(key)));
        Self(keys.into_iter().map(metric).collect())
    }

    fn get(&self, key: K) -> Option<&M> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, metric)| metric)
    }
}

impl<K: Copy + PartialEq> Fixed<K, Counter> {
    fn count(&self, key: K) {
        if let Some(counter) = self.get(key) {
            counter.inc();
        }
    }
}

/// A registry that hands back what it registers.
struct Register(Registry);

impl Register {
    fn metric<M>(&mut self, name: &str, help: &str) -> M
    where
        M: Clone + Default + std::fmt::Debug + EncodeMetric + Send + Sync + 'static,
    {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// In seconds, which the name then ends in.
    fn seconds<M>(&mut self, name: &str, help: &str, metric: M) -> M
    where
        M: Clone + std::fmt::Debug + EncodeMetric + Send + Sync + 'static,
    {
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }

    /// Counters by a closed set of keys, all there from the start.
    fn counters<K, L>(
        &mut self,
        name: &str,
        help: &str,
        keys: impl IntoIterator<Item = K>,
        label: impl Fn(K) -> L,
    ) -> Fixed<K, Counter>
    where
        K: Copy + PartialEq,
        L: Clone + std::fmt::Debug + std::hash::Hash + Eq + EncodeLabelSet + Send + Sync + 'static,
    {
        let family: Family<L, Counter> = self.metric(name, help);
        Fixed::of(&family, keys, label)
    }
}

/// Answers by status; the most common one is looked up once.
struct Responses {
    family: Family<StatusLabel, Counter>,
    ok: Counter,
}

impl Responses {
    fn of(family: Family<StatusLabel, Counter>) -> Self {
        let ok = family.get_or_create_owned(&StatusLabel { status: 200 });
        // A rate wants to have seen a counter before it rises, and the first of these matters.
        for status in [500, 503] {
            drop(family.get_or_create(&StatusLabel { status }));
        }
        Self { family, ok }
    }

    fn count(&self, status: u16) {
        if status == 200 {
            self.ok.inc();
        } else {
            self.family.get_or_create(&StatusLabel { status }).inc();
        }
    }
}

/// What is looked up at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading<'a> {
    /// Jobs that wait for a hash.
    pub queued: usize,
    /// What one hash takes, smoothed.
    pub hash_time: Duration,
    /// Entries of the revocation view.
    pub revocations: usize,
    /// How far the revocation view may be behind the store.
    pub revocation_view_age: Duration,
    /// How many keys each table of the limiter holds, by the table's name.
    pub limiter_keys: &'a [(&'static str, usize)],
}

/// Logins, refreshes, verifications, and what became of sessions.
struct Tokens {
    logins: Fixed<LoginOutcome, Counter>,
    repeat_logins: Counter,
    refreshes: Fixed<RefreshOutcome, Counter>,
    verifications: Fixed<VerifyOutcome, Counter>,
    ended: Family<ReasonLabel, Counter>,
    audited: Family<EventLabel, Counter>,
    revocations: Gauge,
    revocation_view_age: Gauge<f64, AtomicU64>,
}

impl Tokens {
    fn register(to: &mut Register) -> Self {
        let outcome = |outcome| OutcomeLabel { outcome };
        let logins = |o: LoginOutcome| outcome(o.label());
        let refreshes = |o: RefreshOutcome| outcome(o.label());
        let verifications = |o: VerifyOutcome| outcome(o.label());
        let repeated = "Logins answered from the one just before, without a hash";
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
            ended: to.metric("sessions_ended", "Sessions ended, by reason"),
            audited: to.metric("audit_events", "Events written to the audit log"),
            revocations: to.metric("revocations", "Entries of the revocation view"),
            revocation_view_age: to.seconds("revocation_view_age", age, Gauge::default()),
        }
    }
}

/// The throttle.
struct Throttle {
    refused: Fixed<(Door, Rule), Counter>,
    keys: Family<TableLabel, Gauge>,
}

impl Throttle {
    fn register(to: &mut Register) -> Self {
        let both = Door::all().flat_map(|door| Rule::all().map(move |rule| (door, rule)));
        let labels =
            |(door, rule): (Door, Rule)| ThrottleLabels { door: door.label(), rule: rule.label() };
        let help = "Requests refused by the throttle, by door and rule";
        Self {
            refused: to.counters("throttled", help, both, labels),
            keys: to.metric("limiter_keys", "Keys that the limiter holds, by table"),
        }
    }
}

/// Requests and connections.
struct Http {
    responses: Responses,
    requests: Fixed<RouteClass, Histogram>,
    connections: Gauge,
    cut: Fixed<Cut, Counter>,
}

impl Http {
    fn register(to: &mut Register) -> Self {
        let new: fn() -> Histogram = || Histogram::new(histogram::REQUEST);
        let help = "From a request's head to its answer's, by kind of call";
        let family = to.seconds("http_request_duration", help, Family::new_with_constructor(new));
        let route = |class: RouteClass| RouteLabel { route: class.label() };
        let reason = |cut: Cut| ReasonLabel { reason: cut.label() };
        let cut = "Connections that the server cut, by reason";
        Self {
            responses: Responses::of(to.metric("http_responses", "HTTP answers by status")),
            requests: Fixed::of(&family, RouteClass::all(), route),
            connections: to.metric("open_connections", "Connections that are open"),
            cut: to.counters("connections_cut", cut, Cut::all(), reason),
        }
    }
}

/// The store.
struct Stored {
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
            commits: to.metric("store_commits", "Durable commits of the store"),
            writes: to.metric("store_writes", "Writes that those commits carried"),
            write_time: to.seconds("store_write_duration", write, new()),
            read_time: to.seconds("store_read_duration", read, new()),
        }
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

    /// Counts a login that was answered from the one just before (`login.repeat_window`).
    pub fn repeat_login(&self) {
        self.tokens.repeat_logins.inc();
    }

    /// Counts a refresh.
    pub fn refresh(&self, outcome: RefreshOutcome) {
        self.tokens.refreshes.count(outcome);
    }

    /// Counts a verification.
    pub fn verification(&self, outcome: VerifyOutcome) {
        self.tokens.verifications.count(outcome);
    }

    /// Counts a request that the throttle refused.
    pub fn throttled(&self, door: Door, rule: Rule) {
        self.throttle.refused.count((door, rule));
    }

    /// Counts sessions that the store has ended.
    pub fn sessions_ended(&self, reason: EndReason, count: u64) {
        self.tokens.ended.get_or_create(&ReasonLabel { reason: reason.name() }).inc_by(count);
    }

    /// Counts an event of the audit log; `event` is its kind.
    pub fn audited(&self, event: &'static str) {
        self.tokens.audited.get_or_create(&EventLabel { event }).inc();
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
    pub fn connection_cut(&self, reason: Cut) {
        self.http.cut.count(reason);
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
    pub fn scrape(&self, now: &Reading<'_>, exposition: Exposition) -> String {
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.hashing.queue.set(whole(now.queued));
        self.hashing.smoothed.set(now.hash_time.as_secs_f64());
        self.tokens.revocations.set(whole(now.revocations));
        self.tokens.revocation_view_age.set(now.revocation_view_age.as_secs_f64());
        for (table, keys) in now.limiter_keys {
            self.throttle.keys.get_or_create(&TableLabel { table }).set(whole(*keys));
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode(&mut text, &self.process);
        exposition.of(text)
    }
}
