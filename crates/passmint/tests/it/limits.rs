//! What a connection may take: deadlines that a drip of bytes does not renew, and how many there may be.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Server, get};

const QUICK: [(&str, &str); 4] = [
    ("SERVER__HEADER_TIMEOUT", "1s"),
    ("SERVER__BODY_TIMEOUT", "1s"),
    ("SERVER__WRITE_TIMEOUT", "1s"),
    ("SERVER__IDLE_TIMEOUT", "3s"),
];

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.public).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream
}

/// Sends `drip` again and again until the server cuts; how long that took, and what it said.
fn drip(mut stream: &TcpStream, drip: &[u8]) -> (Duration, String) {
    let started = Instant::now();
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    while started.elapsed() < Duration::from_secs(10) {
        if stream.write_all(drip).is_err() {
            break;
        }
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    (started.elapsed(), String::from_utf8(said).unwrap())
}

#[track_caller]
fn is_about(took: Duration, seconds: f64) {
    let took = took.as_secs_f64();
    assert!((seconds * 0.8..seconds + 1.5).contains(&took), "{took} s");
}

#[test]
fn a_dripping_head_is_cut() {
    let server = Server::start_with(&QUICK);
    let stream = connect(&server);
    (&stream).write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").unwrap();
    let (took, said) = drip(&stream, b"X-A: b\r\n");
    is_about(took, 1.0);
    assert_eq!(said, "");
    let (took, _) = drip(&connect(&server), b"");
    is_about(took, 1.0);
}

#[test]
fn a_head_that_drips_after_a_good_request_is_cut_too() {
    let server = Server::start_with(&QUICK);
    let stream = connect(&server);
    (&stream).write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    (&stream).write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").unwrap();
    let (took, said) = drip(&stream, b"X-A: b\r\n");
    is_about(took, 1.0);
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[test]
fn a_dripping_body_is_answered_and_cut() {
    let server = Server::start_with(&QUICK);
    let stream = connect(&server);
    let head = "POST /api/v1/token-auth/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 1000\r\n\r\n";
    (&stream).write_all(head.as_bytes()).unwrap();
    let (took, said) = drip(&stream, b" ");
    is_about(took, 1.0);
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(said.ends_with(r#"{"detail":"The request body did not arrive in time."}"#), "{said}");
}

#[test]
fn an_idle_connection_lives_longer_and_then_ends() {
    let server = Server::start_with(&QUICK);
    let stream = connect(&server);
    (&stream).write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let (took, said) = drip(&stream, b"");
    is_about(took, 3.0);
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[test]
fn a_client_that_takes_no_answers_is_cut() {
    let server = Server::start_with(&QUICK);
    let mut stream = connect(&server);
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let requests = "GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let started = Instant::now();
    let cut = loop {
        match stream.write_all(requests.as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break true,
            _ if started.elapsed() > Duration::from_secs(15) => break false,
            _ => {}
        }
    };
    assert!(cut, "still there after {:?}", started.elapsed());
    let metrics = server.metrics();
    assert!(metrics.contains(r#"passmint_connections_cut_total{outcome="write"} 1"#), "{metrics}");
}

#[test]
fn a_connection_of_http_2_that_takes_no_answers_gets_few_and_is_cut() {
    let server = Server::start_with(&[QUICK.as_slice(), &[("HASHING__MEMORY_KIB", "64")]].concat());
    server.add_user("asha");
    for _ in 0..100 {
        server.login("asha");
    }
    let token = server.login("asha").token;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let public = server.public;
    let started = Instant::now();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.public).await.unwrap();
        // Its streams have no window: an answer's head comes, and nothing of its body.
        let (client, connection) =
            hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                .initial_stream_window_size(0)
                .handshake(hyper_util::rt::TokioIo::new(stream))
                .await
                .unwrap();
        for _ in 0..24 {
            let request = hyper::Request::get(format!("http://{}/api/v1/sessions/", server.public))
                .header("authorization", format!("JWT {token}"))
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            let mut client = client.clone();
            tokio::spawn(async move {
                let answer = client.send_request(request).await;
                // Kept, and not read.
                std::future::pending::<()>().await;
                drop(answer);
            });
        }
        // Short answers pass meanwhile, and renew nothing.
        let mut client = client;
        let others = tokio::spawn(async move {
            let mut answered = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let url = format!("http://{public}/healthz");
                let request = hyper::Request::head(url).body(http_body_util::Empty::new()).unwrap();
                match client.send_request(request).await {
                    Ok(answer) if answer.status() == 200 => answered += 1,
                    _ => return answered,
                }
            }
        });
        let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
        assert!(ended.is_ok(), "still there after {:?}", started.elapsed());
        let answered = others.await.unwrap();
        assert!(answered >= 2, "{answered} short answers");
    });
    is_about(started.elapsed(), 1.0);
    let metrics = server.metrics();
    let answered = r#"passmint_http_request_duration_seconds_count{route="sessions"}"#;
    let line = metrics.lines().find(|line| line.starts_with(answered)).unwrap();
    let answered: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..=4).contains(&answered), "{answered} of 24 lists were made");
    assert!(metrics.contains(r#"passmint_connections_cut_total{outcome="write"} 1"#), "{metrics}");
}

#[test]
fn one_connection_too_many_is_told_so() {
    let server = Server::start_with(&[("SERVER__MAX_CONNECTIONS_PER_ADDRESS", "5")]);
    let held: Vec<TcpStream> = (0..5).map(|_| connect(&server)).collect();
    std::thread::sleep(Duration::from_millis(100));
    let answer = get("/healthz").try_send(server.public).unwrap();
    answer_is_503(&answer.body, answer.status, answer.header("retry-after"));
    drop(held);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(get("/healthz").try_send(server.public).unwrap().status, 200);
}

#[test]
fn without_descriptors_new_connections_are_told_so_and_operators_get_in() {
    let server = Server::start();
    let pid = server.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--nofile=120:20000"]).status();
    assert!(limited.unwrap().success());
    let held: Vec<TcpStream> = (0..24).map(|_| connect(&server)).collect();
    std::thread::sleep(Duration::from_millis(100));
    let answer = get("/healthz").try_send(server.public).unwrap();
    answer_is_503(&answer.body, answer.status, answer.header("retry-after"));
    assert_eq!(get("/healthz").try_send(server.admin).unwrap().status, 200);
    drop(held);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(get("/healthz").try_send(server.public).unwrap().status, 200);
}

#[track_caller]
fn answer_is_503(body: &str, status: u16, retry_after: Option<&str>) {
    assert_eq!((status, body), (503, r#"{"detail":"Temporarily unavailable"}"#));
    assert_eq!(retry_after, Some("1"));
}

#[test]
fn a_body_that_is_too_long_is_taken_to_its_end_before_the_answer() {
    let server = Server::start();
    let stream = TcpStream::connect(server.public).unwrap();
    let body = vec![b' '; 200 * 1024];
    let head = format!(
        "POST /api/v1/token-auth/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    (&stream).write_all(head.as_bytes()).unwrap();
    for piece in body.chunks(16 * 1024) {
        std::thread::sleep(Duration::from_millis(5));
        (&stream).write_all(piece).unwrap();
    }
    let mut answer = [0; 12];
    (&stream).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

/// Binds the client's side to an address of its own.
fn connect_from(server: &Server, address: [u8; 4]) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&server.public.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.into()
}

/// Sends one request and reads one answer of a connection that stays open; its status, 0 when there is
/// none.
fn ask(mut stream: &TcpStream, head: &str, body: &str) -> u16 {
    if stream.write_all(head.as_bytes()).is_err() {
        return 0;
    }
    // Apart from the head, as many clients do.
    std::thread::sleep(Duration::from_millis(1));
    if stream.write_all(body.as_bytes()).is_err() {
        return 0;
    }
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => said.extend_from_slice(&chunk[..count]),
            _ => return 0,
        }
        let text = String::from_utf8_lossy(&said);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
}

#[test]
fn an_early_refusal_leaves_the_connection_good_for_the_next_request() {
    let throttled = [
        ("THROTTLE__ENABLED", "true"),
        ("THROTTLE__REQUESTS_PER_SECOND", "1"),
        ("THROTTLE__BURST", "5"),
    ];
    let server = Server::start_with(&throttled);
    let body = "refresh_token=x";
    let head = format!(
        "POST /api/v1/token-refresh/ HTTP/1.1\r\nHost: x\r\nContent-Type: \
         application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let stream = connect_from(&server, [127, 0, 0, 1]);
    let statuses: Vec<u16> = (0..50).map(|_| ask(&stream, &head, body)).collect();
    assert!(
        statuses.contains(&429) && statuses.iter().all(|s| [206, 429].contains(s)),
        "{statuses:?}"
    );
}

#[test]
fn a_full_listener_closes_the_longest_idle_connection_of_the_busiest_neighbourhood() {
    let server = Server::start_with(&[("SERVER__MAX_CONNECTIONS", "20")]);
    let health = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let flood: Vec<TcpStream> = (1..=20)
        .map(|host| {
            let stream = connect_from(&server, [127, 0, 0, host]);
            assert_eq!(ask(&stream, health, ""), 200);
            stream
        })
        .collect();
    let other = connect_from(&server, [127, 0, 1, 1]);
    assert_eq!(ask(&other, health, ""), 200, "another neighbourhood is let in");
    assert_eq!(ask(&flood[0], health, ""), 0, "the longest idle one made room");
    assert_eq!(ask(&flood[19], health, ""), 200);
    let one_more = connect_from(&server, [127, 0, 0, 99]);
    assert_ne!(ask(&one_more, health, ""), 200, "nobody displaces its own neighbours");
}

#[test]
fn exactly_one_valid_host_is_needed_over_http_1_1() {
    let server = Server::start();
    for (hosts, status) in [
        ("Host: x\r\n", 200),
        ("Host: [::1]:8080\r\n", 200),
        ("", 400),
        ("Host: x\r\nHost: x\r\n", 400),
        ("Host: \r\n", 400),
        ("Host: a b\r\n", 400),
        ("Host: u@x\r\n", 400),
    ] {
        let stream = connect_from(&server, [127, 0, 0, 1]);
        let head = format!("GET /api/v1/me/ HTTP/1.1\r\n{hosts}\r\n");
        let expected = if status == 200 { 401 } else { status };
        assert_eq!(ask(&stream, &head, ""), expected, "{hosts:?}");
    }
}

#[test]
fn no_page_of_another_site_turns_the_demos_clock() {
    let server = Server::demo(&[]);
    let turn = crate::harness::post("/demo/clock");
    let body = r#"{"advance":"1h"}"#;
    let status = |request: crate::harness::Request| request.try_send(server.admin).unwrap().status;
    assert_eq!(status(turn.clone().body("text/plain", body)), 415);
    assert_eq!(status(turn.clone().json(body).header("Origin", "https://evil.example")), 403);
    assert_eq!(status(turn.clone().json(body).header("Sec-Fetch-Site", "cross-site")), 403);
    let own = format!("http://{}", server.admin);
    assert_eq!(status(turn.clone().json(body).header("Origin", own)), 200);
    assert_eq!(status(turn.json(body)), 200);
}
