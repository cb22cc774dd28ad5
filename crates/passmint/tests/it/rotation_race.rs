//! Twenty clients refresh one token at once, a thousand times: one lineage, nobody logged out, and
//! after the interval reuse ends the session every time.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::harness::{Pair, Server, claims};

const ROUNDS: usize = 1000;
const CLIENTS: usize = 20;

/// A kept-open connection: a thousand rounds of twenty new ones would exhaust the ports.
struct Connection(TcpStream);

impl Connection {
    fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    /// Status and body of one refresh.
    fn refresh(&mut self, token: &str) -> (u16, String) {
        let body = format!("refresh_token={token}");
        let head = format!(
            "POST /api/v1/token-refresh HTTP/1.1\r\nHost: x\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(head.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let read = self.0.read(&mut chunk).unwrap();
            assert!(read > 0, "the server closed the connection");
            bytes.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.to_ascii_lowercase();
            let length = length.split_once("content-length: ").unwrap().1;
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
            }
        }
    }
}

/// Ends the whole run when a client fails: the others would wait at the barrier for ever.
struct EndsTheRun;

impl Drop for EndsTheRun {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(101);
        }
    }
}

fn pair(body: &str) -> (String, String) {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("token"), text("refresh_token"))
}

#[test]
fn a_thousand_races_of_twenty_leave_one_lineage() {
    let server = Server::start_with(&[("LOG__LEVEL", "info")]);
    server.add_user("asha");
    let current = Mutex::new(server.login("asha").refresh_token);
    let barrier = Barrier::new(CLIENTS);
    let generation = AtomicUsize::new(0);
    let round_pairs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, current, barrier) = (&server, &current, &barrier);
            let (generation, round_pairs) = (&generation, &round_pairs);
            scope.spawn(move || {
                let _guard = EndsTheRun;
                let mut connection = Connection::open(server.public);
                for _ in 0..ROUNDS {
                    barrier.wait();
                    let token = current.lock().clone();
                    barrier.wait();
                    let (status, body) = connection.refresh(&token);
                    assert_eq!(status, 200, "{body}");
                    let first = pair(&body);
                    round_pairs.lock().push(first.clone());
                    // Some go on with the successor while others still send the old one.
                    if client % 7 == 0 {
                        let (status, body) = connection.refresh(&first.1);
                        assert_eq!(status, 200, "{body}");
                        round_pairs.lock().push(pair(&body));
                    }
                    if barrier.wait().is_leader() {
                        let newest = check_round(&mut round_pairs.lock(), generation);
                        *current.lock() = newest;
                    }
                }
            });
        }
    });
    assert_eq!(server.refresh(&current.into_inner()).status, 200);
    assert!(!server.log().contains("\"ERROR\""));
}

/// All pairs of a round are of one lineage: each generation has one refresh token and one `jti`.
/// Returns the newest refresh token.
fn check_round(pairs: &mut Vec<(String, String)>, generation: &AtomicUsize) -> String {
    let mut seen = HashSet::new();
    let mut newest = (0, String::new());
    for (token, refresh) in pairs.drain(..) {
        let claims = claims(&token);
        let number = claims["gen"].as_u64().unwrap();
        seen.insert((number, claims["jti"].to_string(), refresh.clone()));
        if number >= newest.0 {
            newest = (number, refresh);
        }
    }
    let generations: HashSet<u64> = seen.iter().map(|(number, ..)| *number).collect();
    assert_eq!(seen.len(), generations.len(), "one generation has two pairs: {seen:?}");
    let before = generation.swap(usize::try_from(newest.0).unwrap(), Ordering::Relaxed) as u64;
    // One rotation by the crowd and at most one more by those that went on.
    assert!((before + 1..=before + 4).contains(&newest.0), "{before} to {}", newest.0);
    newest.1
}

#[test]
fn after_the_interval_reuse_ends_the_session_every_time() {
    let server = Server::start_with(&[("SESSIONS__REUSE_INTERVAL", "1s")]);
    server.add_user("asha");
    let lineages: Vec<(Pair, Pair)> = (0..50)
        .map(|_| {
            let first = server.login("asha");
            let second = Pair::of(&server.refresh(&first.refresh_token));
            (first, second)
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1200));
    for (first, second) in &lineages {
        assert_eq!(server.refresh(&first.refresh_token).status, 206);
        assert_eq!(server.refresh(&second.refresh_token).status, 206);
        server.me(&second.token).is_unauthorized("Token has been revoked.");
    }
}
