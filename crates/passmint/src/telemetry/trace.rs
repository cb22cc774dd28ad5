//! Traces, when `otlp.endpoint` asks for them: spans go to an OpenTelemetry collector over OTLP/HTTP.
//!
//! `request_span` makes the span of a request that is sampled. The rooms below it make theirs with
//! `tracing::info_span!` and need not know of traces: such a span exists only inside one of a
//! request. Events are never sent, so nothing that is logged gets into a trace. A collector that is
//! slow or gone costs spans and nothing else: they wait in a bounded queue on a thread of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::{self, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Otlp;

/// The name of the one span that may stand alone.
const ROOT: &str = "request";
/// How long sending one batch may take, retries included.
const EXPORT_DEADLINE: Duration = Duration::from_secs(3);
/// How long the last spans may hold up the end of the process.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// Whether requests have spans: looked at before anything else, so that without traces there is no
/// cost.
static ON: AtomicBool = AtomicBool::new(false);

/// Why there are no traces though they were asked for.
#[derive(Debug, thiserror::Error)]
#[error("otlp.endpoint: {0}")]
pub struct TraceError(#[from] ExporterBuildError);

/// The making and sending of spans. Once a process.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// `None` without `otlp.endpoint`. Does not look whether the collector is there.
    pub(super) fn start(otlp: &Otlp) -> Result<Option<Self>, TraceError> {
        let Some(endpoint) = &otlp.endpoint else { return Ok(None) };
        let collector = Collector {
            runtime: Handle::current(),
            client: HyperClient::with_default_connector(EXPORT_DEADLINE, None),
            reached: AtomicBool::new(true),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_DEADLINE)
            .build()?;
        let resource = Resource::builder_empty()
            .with_service_name("passmint")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_detector(Box::new(TelemetryResourceDetector))
            // What the operator says in OTEL_RESOURCE_ATTRIBUTES counts.
            .with_detector(Box::new(EnvResourceDetector::new()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .build();
        ON.store(true, Ordering::Relaxed);
        Ok(Some(Self(provider)))
    }

    /// What makes spans of `tracing` into spans of a trace.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let filter = dynamic_filter_fn(|metadata, context: &layer::Context<'_, S>| {
            is_ours(metadata) && (metadata.name() == ROOT || context.lookup_current().is_some())
        });
        let by_place = |metadata: &'static Metadata<'static>| {
            if is_ours(metadata) { Interest::sometimes() } else { Interest::never() }
        };
        OpenTelemetryLayer::new(self.0.tracer("passmint"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(
                filter.with_max_level_hint(LevelFilter::INFO).with_callsite_filter(by_place),
            )
    }

    /// Sends what is left, and makes no more spans. Takes a second at most.
    pub async fn flush(self) {
        ON.store(false, Ordering::Relaxed);
        let flush = move || self.0.shutdown_with_timeout(FLUSH_DEADLINE);
        // The SDK waits on the thread that calls it.
        if !matches!(tokio::task::spawn_blocking(flush).await, Ok(Ok(()))) {
            tracing::warn!("the last traces did not reach the collector in time");
        }
    }
}

/// A span that this server makes, none of its libraries.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("passmint")
}

/// The way to the collector.
#[derive(Debug)]
struct Collector {
    /// The SDK calls from a thread that knows no runtime, and hyper wants one.
    runtime: Handle,
    client: HyperClient,
    /// Whether the last batch arrived, so that the log tells of a change and not of every batch.
    reached: AtomicBool,
}

impl Collector {
    fn note(&self, sent: &Result<Response<Bytes>, HttpError>) {
        let why = match sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let reached = why.is_none();
        if self.reached.swap(reached, Ordering::Relaxed) == reached {
            return;
        }
        match why {
            None => tracing::info!("traces reach the collector again"),
            Some(why) => tracing::warn!(why, "traces do not reach the collector and are dropped"),
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await });
        let sent = sent.await.unwrap_or_else(|error| Err(error.into()));
        self.note(&sent);
        sent
    }
}

/// What the span of a request tells of it. No path and no query: they may name a user or a session.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// As sent.
    pub method: &'a str,
    /// The route's template; `None` for a path that is not served.
    pub route: Option<&'static str>,
    /// As in the log.
    pub request_id: &'a str,
    /// The header of that name.
    pub traceparent: Option<&'a str>,
}

/// The span of a request if it is sampled: its caller decides (W3C Trace Context, the flag
/// `sampled`), or `percent` of a hundred. The attributes are those of OpenTelemetry's semantic
/// conventions for HTTP servers. Without traces `incoming` is not called.
pub fn request_span<'a>(incoming: impl FnOnce() -> Incoming<'a>, percent: u32) -> Span {
    if !ON.load(Ordering::Relaxed) {
        return Span::none();
    }
    let incoming = incoming();
    let parent = incoming.traceparent.and_then(parent);
    if !parent.as_ref().map_or_else(|| is_chosen(percent), SpanContext::is_sampled) {
        return Span::none();
    }
    let method = method(incoming.method);
    let name =
        incoming.route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let span = tracing::info_span!(
        ROOT,
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        error.type = Empty,
        http.request.method = method,
        http.route = incoming.route,
        http.response.status_code = Empty,
        passmint.request_id = incoming.request_id,
    );
    if let Some(parent) = parent {
        // Fails only for a span that has begun.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    span
}

/// Notes how a request was answered.
pub fn note_answer(span: &Span, status: u16) {
    if span.is_none() {
        return;
    }
    span.record("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.record("error.type", status.to_string());
        span.record("otel.status_code", "ERROR");
    }
}

/// Whether the next request is among `percent` of a hundred. Spread evenly by the golden ratio
/// (Weyl's sequence) instead of by chance.
fn is_chosen(percent: u32) -> bool {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let point = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    point * 100 < u64::from(percent) << 32
}

/// Other methods are one, so that a caller cannot make new names.
fn method(sent: &str) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == sent).unwrap_or("_OTHER")
}

/// The caller's span; `None` when the header is not as W3C Trace Context, section 3.2, wants it. Read
/// here, because the library's reader takes ids that are too short.
fn parent(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let mut hex = |length: usize| {
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        parts.next().filter(|part| part.len() == length && part.chars().all(is_hex))
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    // A later version may say more behind what this one knows.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let parent = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    parent.is_valid().then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_hundred_are_chosen() {
        for percent in [0, 1, 10, 50, 99, 100] {
            let chosen = (0..10_000).filter(|_| is_chosen(percent)).count();
            let expected = percent as usize * 100;
            assert!(chosen.abs_diff(expected) <= 20, "{chosen} for {percent} percent");
        }
        assert!((0..1000).all(|_| is_chosen(100)) && !(0..1000).any(|_| is_chosen(0)));
    }

    #[test]
    fn a_callers_span_is_read_from_its_header() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = parent(header).unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.is_sampled());
        assert!(!parent(&header.replace("-01", "-00")).unwrap().is_sampled());
        for bad in ["", "00", &header[..52], &header.to_uppercase(), &header.replace("-00f0", "-")]
        {
            assert!(parent(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn without_traces_there_is_no_span() {
        assert!(request_span(|| panic!("looked at a request"), 100).is_none());
    }
}
