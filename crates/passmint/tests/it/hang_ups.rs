//! A client that goes away at any moment of a request changes nothing of what the server does once it
//! has decided: guesses are counted and audited, endings hold.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use crate::harness::{PASSWORD, Server, get, post};

/// Of `victim`: as expensive as Django's, so that a refusal is answered later than a success.
const IMPORTED: &str = r#"{"username":"victim","password_hash":"pbkdf2_sha256$400000$seasalt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso="}"#;

fn server(settings: &[(&str, &str)]) -> Server {
    let server = Server::start_with(settings);
    server.add_user("asha");
    let imported = server.run_with_input(&["user", "import", "-"], IMPORTED);
    assert!(imported.status.success());
    server
}

/// The raw request of a POST with a JSON body.
fn request(path: &str, token: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Authorization: JWT {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a request over HTTP/1.1 and closes the connection after that long.
fn hang_up(server: &Server, request: &str, after: Duration) {
    let mut stream = TcpStream::connect(server.public).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    std::thread::sleep(after);
}

/// Sends a login over HTTP/2 and resets its stream after that long.
fn reset(server: &Server, body: &'static str, after: Duration) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.public).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::post(format!("http://{}/api/v1/token-auth", server.public))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .unwrap();
        let answer = client.send_request(request);
        // Dropped unanswered, it is reset.
        drop(tokio::time::timeout(after, answer).await);
    });
}

/// The sum of a counter over the series that contain `labels`.
fn counted(server: &Server, name: &str, labels: &str) -> u64 {
    let metrics = get("/metrics").try_send(server.admin).unwrap().body;
    let of_name = metrics.lines().filter(|line| line.starts_with(name) && line.contains(labels));
    of_name.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn audited(server: &Server, event: &str) -> usize {
    let listed = server.must(&["audit", "list", "--json", "--event", event, "--limit", "1000"]);
    serde_json::from_str::<Vec<Value>>(&listed).unwrap().len()
}

/// Waits until no login is under way any more: a request that was cut before its head came is none, so
/// their number is not known.
fn wait_for_outcomes(server: &Server) {
    let mut last = (0, Instant::now());
    while last.1.elapsed() < Duration::from_millis(800) {
        let outcomes = counted(server, "passmint_logins_total", "");
        if outcomes != last.0 {
            last = (outcomes, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn whoever_hangs_up_gets_no_more_guesses_and_is_seen() {
    let server = server(&[("THROTTLE__ENABLED", "true")]);
    let guess = request("/api/v1/token-auth/", "x", r#"{"username":"victim","password":"wrong"}"#);
    for after in [0, 1, 2, 5, 10, 20, 50, 80, 120, 150] {
        hang_up(&server, &guess, Duration::from_millis(after));
        reset(&server, r#"{"username":"victim","password":"wrong"}"#, Duration::from_millis(after));
    }
    wait_for_outcomes(&server);
    let refused = counted(&server, "passmint_logins_total", r#"outcome="refused""#);
    assert!((5..=6).contains(&refused), "{refused} guesses were checked");
    let shown: Value =
        serde_json::from_str(&server.must(&["user", "show", "victim", "--json"])).unwrap();
    let failures: Vec<_> =
        shown["held_back"].as_array().unwrap().iter().map(|l| &l["failures"]).collect();
    assert!(failures.iter().any(|failures| **failures == refused), "{shown}");
    assert_eq!(audited(&server, "login.refused") as u64, refused);
}

#[test]
fn every_millisecond_of_a_login_leaves_counts_and_audit_exact() {
    let server = server(&[]);
    let body = serde_json::json!({ "username": "asha", "password": PASSWORD }).to_string();
    let right = request("/api/v1/token-auth/", "x", &body);
    let wrong = request("/api/v1/token-auth/", "x", r#"{"username":"asha","password":"wrong"}"#);
    for after in 0..60 {
        hang_up(&server, &right, Duration::from_millis(after));
        hang_up(&server, &wrong, Duration::from_millis(after));
    }
    wait_for_outcomes(&server);
    let of = |outcome: &str| {
        counted(&server, "passmint_logins_total", &format!(r#"outcome="{outcome}""#))
    };
    let (granted, refused, gone) = (of("granted"), of("refused"), of("client_gone"));
    assert_eq!(granted + refused + gone, counted(&server, "passmint_logins_total", ""));
    assert!(granted > 5 && refused > 5, "{granted} granted, {refused} refused, {gone} gone");
    assert_eq!(audited(&server, "login.granted") as u64, granted);
    assert_eq!(audited(&server, "login.refused") as u64, refused);
}

#[test]
fn password_changes_refreshes_and_logouts_happen_whole_or_not_at_all() {
    let server = server(&[("SESSIONS__REUSE_INTERVAL", "0s")]);
    let newer = "another-Long-one-of-24";
    let body = serde_json::json!({ "old_password": PASSWORD, "new_password": newer });
    for after in [0, 2, 4, 8, 12, 16, 24, 32, 48] {
        let name = format!("user-{after}");
        server.add_user(&name);
        let (mine, other) = (server.login(&name), server.login(&name));
        let change = request("/api/v1/password-change/", &mine.token, &body.to_string());
        hang_up(&server, &change, Duration::from_millis(after));
        let refresh = serde_json::json!({ "refresh_token": other.refresh_token }).to_string();
        hang_up(
            &server,
            &request("/api/v1/token-refresh/", "x", &refresh),
            Duration::from_millis(after),
        );
        std::thread::sleep(Duration::from_millis(300));
        let changed = server.try_login(&name, newer).status == 200;
        assert_eq!(server.try_login(&name, PASSWORD).status == 200, !changed, "{after} ms");
        assert_eq!(server.me(&other.token).status == 401, changed, "{after} ms");
        let logout = post("/api/v1/logout/").jwt(&mine.token);
        server.send(logout).is_no_content();
        assert_eq!(server.me(&mine.token).status, 401);
    }
    assert!(audited(&server, "password.changed") > 0);
}
