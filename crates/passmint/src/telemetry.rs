//! Log and metrics: how the server tells what it does. Labels are bounded, secrets have no way in.

use std::io::IsTerminal as _;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

use crate::config::{Log, LogFormat};
use crate::domain::session::EndReason;

/// Changes the log's filter while the server runs.
pub type LogLevel = reload::Handle<EnvFilter, tracing_subscriber::Registry>;

/// Starts logging to standard error. `None` when a log was started before (in tests).
pub fn start_log(log: &Log) -> Option<LogLevel> {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&log.level));
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let lines = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .ok()?;
    Some(handle)
}

macro_rules! outcomes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant),+];

            /// The label's value.
            fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

outcomes!(
    /// How a login ended.
    LoginOutcome {
        Granted = "granted", Refused = "refused", Overloaded = "overloaded", Failed = "failed"
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

/// Counters by outcome, looked up once: counting is one atomic addition.
struct ByOutcome<O>(Vec<(O, Counter)>);

impl<O: Copy + PartialEq> ByOutcome<O> {
    fn count(&self, outcome: O) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == outcome) {
            counter.inc();
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
    responses: Family<StatusLabel, Counter>,
    hashing_queue: Gauge,
    hash_seconds: Gauge<f64, AtomicU64>,
    revocations: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("passmint");
        macro_rules! by_outcome {
            ($name:literal, $help:literal, $outcome:ty) => {{
                let family = Family::<OutcomeLabel, Counter>::default();
                registry.register($name, $help, family.clone());
                let counter = |outcome: &$outcome| {
                    let label = OutcomeLabel {
                        outcome: outcome.label(),
                    };
                    (*outcome, family.get_or_create_owned(&label))
                };
                ByOutcome(<$outcome>::ALL.iter().map(counter).collect())
            }};
        }
        let logins = by_outcome!("logins", "Logins by outcome", LoginOutcome);
        let refreshes = by_outcome!("refreshes", "Refreshes by outcome", RefreshOutcome);
        let verifications = by_outcome!(
            "verifications",
            "Access token verifications by outcome",
            VerifyOutcome
        );
        let (ended, responses) = (Family::default(), Family::default());
        let (hashing_queue, revocations) = (Gauge::default(), Gauge::default());
        let hash_seconds = Gauge::default();
        registry.register(
            "sessions_ended",
            "Sessions ended by request, by reason",
            ended.clone(),
        );
        registry.register(
            "http_responses",
            "HTTP answers by status",
            responses.clone(),
        );
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
        registry.register(
            "revocations",
            "Entries of the revocation view",
            revocations.clone(),
        );
        Self {
            registry,
            logins,
            refreshes,
            verifications,
            ended,
            responses,
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

    /// Counts sessions that a request ended.
    pub fn sessions_ended(&self, reason: EndReason, count: u64) {
        if count > 0 {
            self.ended
                .get_or_create(&ReasonLabel {
                    reason: reason.name(),
                })
                .inc_by(count);
        }
    }

    /// Counts an HTTP answer.
    pub fn response(&self, status: u16) {
        self.responses.get_or_create(&StatusLabel { status }).inc();
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0), with the gauges set to those values.
    pub fn scrape(&self, queued: usize, hash_seconds: f64, revocations: usize) -> String {
        self.hashing_queue
            .set(i64::try_from(queued).unwrap_or(i64::MAX));
        self.hash_seconds.set(hash_seconds);
        self.revocations
            .set(i64::try_from(revocations).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
