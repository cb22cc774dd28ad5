//! A client that goes away at any moment of a request changes nothing of what the server does once it
//! has decided: guesses are counted and audited, endings hold.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use crate::harness::{PASSWORD, Server, post};

/// Of `victim`: as expensive as Django's, so that a refusal is answered later than a success.
const IMPORTED: &str = r#"{"username":"victim","password_hash":"pbkdf2_sha256$400000$seasalt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso="}"#;

/// Nobody is turned away because the machine is busy.
const PATIENT: (&str, &str) = ("LOGIN__MAX_WAIT", "60s");

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

/// Sends the same over HTTP/2 and resets its stream after that long.
fn reset(server: &Server, path: &str, token: &str, body: &str, after: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.public).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::post(format!("http://{}{path}", server.public))
            .header("content-type", "application/json")
            .header("authorization", format!("JWT {token}"))
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let answer = client.send_request(request);
        // Dropped unanswered, it is reset.
        drop(tokio::time::timeout(after, answer).await);
    });
}

/// How a client goes away.
#[derive(Clone, Copy, Debug)]
enum Going {
    /// Closes the connection of HTTP/1.1.
    Close,
    /// Resets the stream of HTTP/2.
    Reset,
}

/// Every millisecond of a call and half as long again, both ways of going away. What the call takes is
/// measured: where that is more than `MOST` milliseconds, the machine is busy, and some are left out.
fn goings(call: impl FnOnce()) -> impl Iterator<Item = (Going, Duration)> {
    const MOST: u32 = 40;
    let began = Instant::now();
    call();
    let whole = began.elapsed() * 3 / 2;
    let step = (whole / MOST).max(Duration::from_millis(1));
    let both = [Going::Close, Going::Reset];
    both.into_iter().flat_map(move |going| {
        let moments = (0..).map(move |number| step * number);
        moments.take_while(move |after| *after <= whole).map(move |after| (going, after))
    })
}

/// Asks, and goes away after that long.
fn go_away(
    server: &Server,
    (going, after): (Going, Duration),
    path: &str,
    token: &str,
    body: &str,
) {
    match going {
        Going::Close => hang_up(server, &request(path, token, body), after),
        Going::Reset => reset(server, path, token, body, after),
    }
}

/// The sum of a counter over the series that contain `labels`.
fn counted(server: &Server, name: &str, labels: &str) -> u64 {
    let metrics = server.metrics();
    let of_name = metrics.lines().filter(|line| line.starts_with(name) && line.contains(labels));
    of_name.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn audited(server: &Server, event: &str) -> usize {
    let listed = server.must(&["audit", "list", "--json", "--event", event, "--limit", "1000"]);
    serde_json::from_str::<Vec<Value>>(&listed).unwrap().len()
}

/// The logins with that outcome.
fn logins(server: &Server, outcome: &str) -> u64 {
    counted(server, "passmint_logins_total", &format!(r#"outcome="{outcome}""#))
}

/// The logins with that outcome, of which there must be as many audit records. A refusal is audited when
/// its hash is done and counted when it is answered, on a busy machine much later.
fn counted_as_audited(server: &Server, outcome: &str, event: &str) -> u64 {
    let began = Instant::now();
    loop {
        let (counted, audited) = (logins(server, outcome), audited(server, event) as u64);
        if counted == audited {
            return counted;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{audited} {event}, {counted} counted");
    }
}

/// Waits until the server does nothing any more and `count` does not change: a request that was cut before
/// its head came is none, so how many there will be is not known.
fn settled(server: &Server, count: impl Fn() -> u64) -> u64 {
    const CALM: Duration = Duration::from_millis(700);
    let mut last = (count(), Instant::now());
    while last.1.elapsed() < CALM {
        // The look before is over by then.
        std::thread::sleep(Duration::from_millis(20));
        let works = works(server) || counted(server, "passmint_hashing_queue_length", "") > 0;
        let now = count();
        if now != last.0 || works {
            last = (now, Instant::now());
        }
    }
    last.0
}

/// Whether a thread of the server runs, or would if it had a core.
fn works(server: &Server) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    threads.flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // Behind the name in brackets comes the state: S for asleep.
        !stat.contains(") S ")
    })
}

#[test]
fn whoever_hangs_up_gets_no_more_guesses_and_is_seen() {
    let server = server(&[("THROTTLE__ENABLED", "true")]);
    let began = Instant::now();
    let guess = r#"{"username":"victim","password":"wrong"}"#;
    for after in [0, 1, 2, 5, 10, 20, 50, 80, 120, 150] {
        for going in [Going::Close, Going::Reset] {
            let after = Duration::from_millis(after);
            go_away(&server, (going, after), "/api/v1/token-auth/", "x", guess);
        }
    }
    settled(&server, || counted(&server, "passmint_logins_total", ""));
    // On a busy machine most of them went before their hash began, and count for nothing.
    let guess = || server.try_login("victim", "wrong").status;
    while guess() == 206 {}
    let refused = counted_as_audited(&server, "refused", "login.refused");
    // Five are free; the next come after waits that double, from a second on.
    let most = 6 + u64::from((began.elapsed().as_secs() + 1).ilog2());
    assert!((5..=most).contains(&refused), "{refused} guesses were checked");
    let shown: Value =
        serde_json::from_str(&server.must(&["user", "show", "victim", "--json"])).unwrap();
    let failures: Vec<_> =
        shown["held_back"].as_array().unwrap().iter().map(|l| &l["failures"]).collect();
    assert!(failures.iter().any(|failures| **failures == refused), "{shown}");
}

#[test]
fn every_millisecond_of_a_login_leaves_counts_and_audit_exact() {
    let server = server(&[PATIENT]);
    let right = serde_json::json!({ "username": "asha", "password": PASSWORD }).to_string();
    for going in goings(|| drop(server.login("asha"))) {
        for body in [&right, r#"{"username":"asha","password":"wrong"}"#] {
            go_away(&server, going, "/api/v1/token-auth/", "x", body);
        }
    }
    settled(&server, || counted(&server, "passmint_logins_total", ""));
    let granted = counted_as_audited(&server, "granted", "login.granted");
    let refused = counted_as_audited(&server, "refused", "login.refused");
    let gone = logins(&server, "client_gone");
    assert_eq!(granted + refused + gone, counted(&server, "passmint_logins_total", ""));
    assert!(granted > 5 && refused > 5, "{granted} granted, {refused} refused, {gone} gone");
}

#[test]
fn every_millisecond_of_a_password_change_leaves_one_password_and_one_record() {
    // Without imported users, whose hashes would slow refusals down.
    let server = Server::start_with(&[("HASHING__PASSES", "1"), PATIENT]);
    let newer = "another-Long-one-of-24";
    let body = serde_json::json!({ "old_password": PASSWORD, "new_password": newer }).to_string();
    server.add_user("first");
    let first = server.login("first").token;
    let change = || {
        let answer = server.send(post("/api/v1/password-change/").jwt(&first).json(&body));
        assert_eq!(answer.status, 204, "{}", answer.body);
    };
    let users: Vec<_> = goings(change)
        .enumerate()
        .map(|(number, going)| {
            let name = format!("user-{number}");
            server.add_user(&name);
            let (mine, other) = (server.login(&name), server.login(&name));
            (name, going, mine, other)
        })
        .collect();
    for (_, going, mine, _) in &users {
        go_away(&server, *going, "/api/v1/password-change/", &mine.token, &body);
    }
    let records = settled(&server, || audited(&server, "password.changed") as u64);
    let mut changed = 0;
    for (name, going, mine, other) in &users {
        let new = server.try_login(name, newer).status == 200;
        changed += u64::from(new);
        assert_eq!(server.try_login(name, PASSWORD).status == 200, !new, "{going:?}");
        assert_eq!(server.me(&mine.token).status, 200, "{going:?}: the session that changed it");
        assert_eq!(server.me(&other.token).status == 401, new, "{going:?}: the other one");
    }
    assert!(changed > 5, "{changed} of {}", users.len());
    assert_eq!(records, changed + 1, "and the one that was not hurried");
}

#[test]
fn every_millisecond_of_a_refresh_and_a_logout_happens_once() {
    let server = server(&[("HASHING__MEMORY_KIB", "64")]);
    let mut sessions = 0;
    let first = server.login("asha");
    for going in goings(|| drop(server.refresh(&first.refresh_token))) {
        sessions += 1;
        let pair = server.login("asha");
        let body = serde_json::json!({ "refresh_token": pair.refresh_token }).to_string();
        go_away(&server, going, "/api/v1/token-refresh/", "x", &body);
        // The client asks again, with the token it has.
        assert_eq!(server.refresh(&pair.refresh_token).status, 200, "{going:?}");
        assert_eq!(counted(&server, "passmint_refreshes_total", r#""rotated""#), sessions + 1);
        go_away(&server, going, "/api/v1/logout/", &pair.token, "{}");
        let again = server.send(post("/api/v1/logout/").jwt(&pair.token));
        assert!([204, 401].contains(&again.status), "{going:?}: {}", again.status);
        assert_eq!(server.me(&pair.token).status, 401, "{going:?}");
    }
    let ended = || counted(&server, "passmint_sessions_ended_total", r#"reason="logout""#);
    assert_eq!(settled(&server, ended), sessions);
    assert_eq!(audited(&server, "session.ended") as u64, sessions);
}
