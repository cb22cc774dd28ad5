//! The log: one line an event on standard error, JSON or text, with the id of the request it belongs
//! to.
//!
//! The request id travels in a task-local value instead of a `tracing` span: a span per request costs
//! as much as a tenth of a verification. Spans are for traces alone (`trace`); without them no span is
//! ever made.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, registry, reload};

use tokio_util::sync::CancellationToken;

use super::trace::Traces;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Log, LogFormat};

/// What log lines and audit records say of the request that a task answers.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The request's id.
    pub id: Arc<str>,
    /// The client's address.
    pub address: IpAddr,
    /// Says that the client went away. What it asked for is only given up where nothing has begun. `None`
    /// where its going away ends the request.
    pub client_gone: Option<CancellationToken>,
}

tokio::task_local! {
    /// The request that the current task answers.
    pub static REQUEST: RequestContext;
}

/// Changes the log's filter while the server runs.
pub type LogLevel = reload::Handle<EnvFilter, Registry>;

/// Starts logging to standard error, and with `traces` the making of spans. `None` when a log was
/// started before (in tests).
pub(super) fn start(log: &Log, traces: Option<&Traces>) -> Option<LogLevel> {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&log.level));
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = Lines { json };
    let started = match traces {
        None => registry().with(filter).with(lines).with(NoSpans).try_init(),
        Some(traces) => {
            // Each layer has its own filter: the log's level is not the traces'.
            let events = filter.and(filter_fn(|metadata| !metadata.is_span()));
            registry().with(lines.with_filter(events)).with(traces.layer()).try_init()
        }
    };
    started.ok()?;
    Some(handle)
}

/// Refuses every span, once for each place that would make one: from then on making none costs as
/// much as looking at a number.
struct NoSpans;

impl<S: Subscriber> Layer<S> for NoSpans {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_span() { Interest::never() } else { Interest::always() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !metadata.is_span()
    }
}

/// Writes events as lines.
struct Lines {
    json: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        fields
            .0
            .insert("timestamp".to_owned(), SystemClock::default().now().iso8601_micros().into());
        fields.0.insert("level".to_owned(), event.metadata().level().as_str().into());
        // Its place is here, whatever position it has in the event.
        fields.0.insert("message".to_owned(), Value::Null);
        if let Ok(id) = REQUEST.try_with(|request| Value::from(&*request.id)) {
            fields.0.insert("request_id".to_owned(), id);
        }
        event.record(&mut fields);
        let mut line = if self.json { Value::Object(fields.0).to_string() } else { text(fields.0) };
        line.push('\n');
        super::log_writer::write(line);
    }
}

/// For people: time, level, message, then the fields. Values are shown as JSON, so that no name or
/// header can forge a line or move the cursor.
fn text(mut fields: Map<String, Value>) -> String {
    let mut take = |name: &str| match fields.shift_remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let mut line = format!("{} {:>5} {}", take("timestamp"), take("level"), take("message"));
    for (name, value) in fields {
        let _ = write!(line, " {name}={value}");
    }
    line
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}
