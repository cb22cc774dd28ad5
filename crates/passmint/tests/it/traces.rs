//! Traces, as a collector receives them (`otlp` in the settings).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use crate::harness::{PASSWORD, Pair, Server, get, post};

/// What a caller that is traced sends: its trace, its span, and that it is sampled.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// An OTLP/HTTP receiver that keeps what it is sent.
struct Collector {
    endpoint: String,
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let into = Arc::clone(&into);
                std::thread::spawn(move || receive(stream, &into));
            }
        });
        Self { endpoint, received }
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap().clone();
        let scopes = received.into_iter().flat_map(|request| request.resource_spans);
        scopes.flat_map(|of| of.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// The only span of that name.
    #[track_caller]
    fn span(&self, name: &str) -> Span {
        let spans = self.spans();
        let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(found.len(), 1, "{name} in {names:?}");
        found[0].clone()
    }
}

/// Answers the requests of one connection (OTLP/HTTP: protobuf in, protobuf out, empty if all is
/// well).
fn receive(stream: TcpStream, into: &Mutex<Vec<ExportTraceServiceRequest>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
        let length = head.split("\r\ncontent-length: ").nth(1).unwrap();
        let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        into.lock().unwrap().push(ExportTraceServiceRequest::decode(body.as_slice()).unwrap());
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\
                      content-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
    }
}

/// An attribute as text; `None` when there is none.
fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_inside(child: &Span, parent: &Span) {
    assert_eq!(child.trace_id, parent.trace_id);
    assert_eq!(child.parent_span_id, parent.span_id, "{} in {}", child.name, parent.name);
    assert!(child.start_time_unix_nano >= parent.start_time_unix_nano, "{child:?} {parent:?}");
    assert!(child.end_time_unix_nano > child.start_time_unix_nano, "{child:?}");
    // It may be closed just after its answer has been handed over.
    let slack = 50_000_000;
    assert!(child.end_time_unix_nano <= parent.end_time_unix_nano + slack, "{child:?} {parent:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn login(server: &Server, header: Option<(&str, &str)>) -> Pair {
    let body = serde_json::json!({ "username": "asha", "password": PASSWORD }).to_string();
    let request = post("/api/v1/token-auth/").json(&body);
    Pair::of(&server.send(match header {
        Some((name, value)) => request.header(name, value),
        None => request,
    }))
}

#[test]
fn a_login_is_a_span_with_its_hash_and_its_write() {
    let collector = Collector::start();
    let mut server = Server::start_with(&[("OTLP__ENDPOINT", &collector.endpoint)]);
    server.add_user("asha");
    let pair = login(&server, Some(("traceparent", &format!("00-{TRACE}-{CALLER}-01"))));
    server.stop();

    let request = collector.span("POST /api/v1/token-auth");
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(hex(&request.parent_span_id), CALLER);
    let expected = [
        ("http.request.method", "POST"),
        ("http.route", "/api/v1/token-auth"),
        ("http.response.status_code", "200"),
    ];
    for (key, value) in expected {
        assert_eq!(attribute(&request, key).as_deref(), Some(value), "{key}");
    }
    let id = attribute(&request, "passmint.request_id").unwrap();
    assert_eq!(id.len(), 24, "{id}");

    let hash = collector.span("hash password");
    is_inside(&hash, &request);
    let waited: f64 = attribute(&hash, "passmint.queue_wait_ms").unwrap().parse().unwrap();
    assert!((0.0..1000.0).contains(&waited), "{waited}");
    let write = collector.span("store write");
    is_inside(&write, &request);
    assert_eq!(attribute(&write, "db.system.name").as_deref(), Some("sqlite"));
    assert_eq!(attribute(&write, "db.operation.batch.size").as_deref(), Some("1"));
    is_inside(&collector.span("store read"), &request);
    let mut names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    names.sort_unstable();
    // The harness scrapes before it stops; commands and the background make no spans.
    let scraped = "GET /metrics";
    let login = "POST /api/v1/token-auth";
    assert_eq!(names, [scraped, login, "hash password", "store read", "store write"]);

    let received = format!("{:?}", collector.received.lock().unwrap());
    // For `secrets`, which looks through everything that a run leaves behind.
    std::fs::write(server.data.join("spans.txt"), &received).unwrap();
    for private in ["asha", PASSWORD, &pair.token, &pair.refresh_token, &pair.session()] {
        assert!(!received.contains(private), "{private} was sent");
    }
    assert!(received.contains(r#"StringValue("passmint")"#), "{received}");
}

#[test]
fn a_session_and_a_made_up_path_are_named_by_their_route() {
    let collector = Collector::start();
    let mut server = Server::start_with(&[("OTLP__ENDPOINT", &collector.endpoint)]);
    server.add_user("asha");
    let pair = login(&server, None);
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
    let session = pair.session();
    let path = format!("/api/v1/sessions/{session}/?token=canary-in-a-query");
    let end = crate::harness::request("DELETE", &path).jwt(&pair.token);
    assert_eq!(server.send(end).status, 204);
    server
        .send(crate::harness::request("BREW", "/canary-path/"))
        .is_json(404, r#"{"detail":"Not found."}"#);
    server.stop();

    let refresh = collector.span("POST /api/v1/token-refresh");
    let spans = collector.spans();
    let writes = spans.iter().filter(|span| span.name == "store write");
    let of_refresh: Vec<&Span> =
        writes.filter(|span| span.parent_span_id == refresh.span_id).collect();
    assert_eq!(of_refresh.len(), 1);
    is_inside(of_refresh[0], &refresh);
    assert!(refresh.parent_span_id.is_empty(), "nobody called with a trace");
    collector.span("DELETE /api/v1/sessions/{id}");
    let unknown = collector.span("_OTHER");
    assert_eq!(attribute(&unknown, "http.route"), None);
    assert_eq!(attribute(&unknown, "http.response.status_code").as_deref(), Some("404"));
    let received = format!("{:?}", collector.received.lock().unwrap());
    for private in ["canary-in-a-query", "canary-path", &session] {
        assert!(!received.contains(private), "{private} was sent");
    }
}

#[test]
fn the_caller_or_the_percentage_decides_what_is_traced() {
    let collector = Collector::start();
    let endpoint = ("OTLP__ENDPOINT", collector.endpoint.as_str());
    let mut server = Server::start_with(&[endpoint, ("OTLP__SAMPLE_PERCENT", "0")]);
    server.send(get("/healthz"));
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    server.send(get("/healthz").header("traceparent", &sampled));
    server.stop();
    assert_eq!(hex(&collector.span("GET /healthz").trace_id), TRACE);

    let collector = Collector::start();
    let mut server = Server::start_with(&[("OTLP__ENDPOINT", &collector.endpoint)]);
    let not_sampled = format!("00-{TRACE}-{CALLER}-00");
    server.send(get("/healthz").header("traceparent", &not_sampled));
    server.send(get("/readyz").header("traceparent", "00-nonsense"));
    server.stop();
    let ready = collector.span("GET /readyz");
    assert_ne!(hex(&ready.trace_id), TRACE);
    assert!(collector.spans().iter().all(|span| span.name != "GET /healthz"));
}

/// Logs in and stops beside a collector that is not there; what the server logged.
fn without_a_collector(endpoint: &str) -> String {
    let mut server = Server::start_with(&[("OTLP__ENDPOINT", endpoint)]);
    server.add_user("asha");
    let started = Instant::now();
    for _ in 0..20 {
        login(&server, None);
    }
    // A batch of 512 spans is full: it is being sent in vain while these come.
    for _ in 0..600 {
        assert_eq!(server.send(get("/healthz")).status, 200);
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    let (took, code) = server.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
    server.log()
}

#[test]
fn a_collector_that_is_gone_slows_and_stops_nothing() {
    // Bound and let go: nobody listens there.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = without_a_collector(&format!("http://{gone}"));
    let told = log.lines().filter(|line| line.contains("traces do not reach the collector"));
    assert_eq!(told.count(), 1, "{log}");
}

#[test]
fn a_collector_that_never_answers_slows_and_stops_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    without_a_collector(&format!("http://{}", silent.local_addr().unwrap()));
}

#[test]
fn a_collector_is_named_by_a_plain_url() {
    let server = Server::start();
    for wrong in ["https://127.0.0.1:4318", "127.0.0.1:4318", "http://user:secret@host"] {
        let mut command = server.command();
        command.env("PASSMINT_OTLP__ENDPOINT", wrong).args(["config", "check"]);
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("PASSMINT_OTLP__ENDPOINT: must look like http://"), "{error}");
    }
}
