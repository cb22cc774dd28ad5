//! kill -9 under load: nothing that was acknowledged is lost, nothing that was ended comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{PASSWORD, Pair, Request, Server, post};

const ROUNDS: usize = 20;
const WRITERS: usize = 8;

/// What one writer was told before the server died.
#[derive(Default)]
struct Acknowledged {
    /// Sessions that live, with their newest pair.
    live: Vec<Pair>,
    /// Pairs of sessions whose end was acknowledged.
    ended: Vec<Pair>,
    /// A request was under way when the server died: its session may be either.
    unknown: Vec<Pair>,
}

/// One writer: logs in, refreshes some times, ends every other session, until the server is gone.
fn write_until_killed(server: &Server, stop: &AtomicBool, acknowledged: &mut Acknowledged) {
    let send = |request: Request| request.try_send(server.public).ok().filter(|a| a.status < 300);
    let login = || {
        let body = serde_json::json!({ "username": "asha", "password": PASSWORD }).to_string();
        send(post("/api/v1/token-auth/").json(&body)).map(|answer| Pair::of(&answer))
    };
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(mut pair) = login() else { return };
        for _ in 0..3 {
            let form = format!("refresh_token={}", pair.refresh_token);
            let Some(answer) = send(post("/api/v1/token-refresh/").form(&form)) else {
                // The pair before is still good: a cut answer costs nothing.
                acknowledged.live.push(pair);
                return;
            };
            pair = Pair::of(&answer);
        }
        number += 1;
        if number % 2 == 0 {
            acknowledged.live.push(pair);
            continue;
        }
        if let Some(answer) = send(post("/api/v1/logout/").jwt(&pair.token)) {
            assert_eq!(answer.status, 204);
            acknowledged.ended.push(pair);
        } else {
            acknowledged.unknown.push(pair);
            return;
        }
    }
}

#[test]
fn twenty_kills_under_eight_writers_lose_nothing() {
    // Cheap hashes: the more writes a round carries, the more a kill can hit.
    let mut server = Server::start_with(&[
        ("HASHING__MEMORY_KIB", "64"),
        ("SESSIONS__REUSE_INTERVAL", "10m"),
        ("SESSIONS__MAX_PER_USER", "100000"),
        ("LOG__LEVEL", "info"),
    ]);
    server.add_user("asha");
    let (mut kept, mut ended): (Vec<Pair>, Vec<Pair>) = (Vec::new(), Vec::new());
    let mut acknowledged_in_all = 0;
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let written: Vec<Acknowledged> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut acknowledged = Acknowledged::default();
                        write_until_killed(&server, &stop, &mut acknowledged);
                        acknowledged
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(60 + 23 * (round as u64 % 7)));
            server.signal("KILL");
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        server.kill();
        server.start_again();
        for acknowledged in written {
            acknowledged_in_all += acknowledged.live.len() + acknowledged.ended.len();
            for pair in acknowledged.live {
                assert_eq!(server.me(&pair.token).status, 200, "an acknowledged login is lost");
                let again = server.refresh(&pair.refresh_token);
                assert_eq!(again.status, 200, "round {round}: a refresh is lost: {}", again.body);
                kept.push(Pair::of(&again));
            }
            ended.extend(acknowledged.ended);
        }
        for pair in &ended {
            server.me(&pair.token).is_unauthorized("Token has been revoked.");
            assert_eq!(server.refresh(&pair.refresh_token).status, 206);
        }
    }
    for pair in kept.iter().step_by(7) {
        assert_eq!(server.refresh(&pair.refresh_token).status, 200);
    }
    let (sessions, enough) = (acknowledged_in_all, ROUNDS * WRITERS * 2);
    assert!(sessions > enough && !ended.is_empty(), "only {sessions} acknowledged sessions");
    let check = std::process::Command::new("python3")
        .args(["-c", "import sqlite3,sys;print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0])"])
        .arg(server.data.join("passmint.db"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&check.stdout).trim(), "ok");
}

#[test]
fn a_failed_fsync_ends_the_process_and_what_is_on_the_disk_decides() {
    let mut server = Server::start();
    server.add_user("asha");
    server.login("asha");
    let mut strace = std::process::Command::new("strace")
        .args(["-f", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO"])
        .args(["-o", "/dev/null", "-p", &server.pid().to_string()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let gone = (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        // Any write will do; the server's own heartbeat is one.
        !crate::harness::get("/healthz").try_send(server.public).is_ok_and(|a| a.status == 200)
    });
    assert!(gone, "the server goes on after a failed fsync");
    drop(strace.kill());
    strace.wait().unwrap();
    server.wait();
    assert!(server.log().contains("whether it is on the disk is not known"));
    server.start_again();
    server.login("asha");
    server.must(&["audit", "verify"]);
}

#[test]
fn a_removed_write_ahead_log_is_saved_and_the_process_ends_before_more_is_answered() {
    for removed in [&["passmint.db-wal"][..], &["passmint.db-wal", "passmint.db-shm"]] {
        let mut server = Server::start();
        server.add_user("asha");
        let [before, after] = [(); 2].map(|()| server.login("asha"));
        let logout = |pair: &Pair| post("/api/v1/logout/").jwt(&pair.token);
        assert_eq!(server.send(logout(&before)).status, 204);
        for name in removed {
            std::fs::remove_file(server.data.join(name)).unwrap();
        }
        let answer = logout(&after).try_send(server.public);
        assert!(!answer.is_ok_and(|answer| answer.status == 204), "answered as durable");
        server.wait();
        let log = server.log();
        assert!(log.contains("was removed or replaced; its commits were moved"), "{log}");
        server.start_again();
        server.me(&before.token).is_unauthorized("Token has been revoked.");
        server.login("asha");
        server.must(&["audit", "verify"]);
    }
}
