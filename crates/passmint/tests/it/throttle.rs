//! Contract section 6: who tries too often is held back, at every door that takes a password.

use std::time::Duration;

use crate::harness::{Answer, PASSWORD, Request, Server, post};

const THROTTLED: [(&str, &str); 2] =
    [("THROTTLE__ENABLED", "true"), ("SERVER__TRUSTED_PROXIES", "127.0.0.1")];

fn server() -> Server {
    let server = Server::start_with(&THROTTLED);
    server.add_user("asha");
    server
}

fn login(name: &str, password: &str, from: &str) -> Request {
    let body = serde_json::json!({ "username": name, "password": password }).to_string();
    post("/api/v1/token-auth/").json(&body).header("X-Forwarded-For", from)
}

/// 429 with its body, and the seconds to wait.
#[track_caller]
fn throttled(answer: &Answer) -> u64 {
    answer.is_json(429, r#"{"error":"Too many attempts"}"#);
    answer.header("retry-after").unwrap().parse().unwrap()
}

#[test]
fn five_failures_are_free_then_the_right_password_waits_too_and_success_clears() {
    let server = server();
    for name in ["asha", "nobody-of-that-name"] {
        for _ in 0..5 {
            let answer = server.send(login(name, "wrong", "192.0.2.1"));
            answer.is_json(206, r#"{"error":"Unable to login with provided credential"}"#);
        }
        assert_eq!(throttled(&server.send(login(name, PASSWORD, "192.0.2.1"))), 1);
    }
    assert_eq!(server.send(login("asha", PASSWORD, "192.0.3.1")).status, 200, "another network");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(server.send(login("asha", "wrong", "192.0.2.1")).status, 206);
    assert_eq!(throttled(&server.send(login("asha", PASSWORD, "192.0.2.1"))), 2);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(server.send(login("asha", PASSWORD, "192.0.2.1")).status, 200);
    for _ in 0..5 {
        assert_eq!(server.send(login("asha", "wrong", "192.0.2.1")).status, 206);
    }
}

#[test]
fn guesses_in_parallel_get_no_further_and_right_ones_are_not_held_back() {
    let server = server();
    let in_parallel = |password: &'static str| -> Vec<u16> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..20)
                .map(|_| scope.spawn(|| server.send(login("asha", password, "192.0.2.1")).status))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    assert_eq!(in_parallel(PASSWORD), [200; 20]);
    let wrong = in_parallel("wrong");
    assert_eq!(wrong.iter().filter(|status| **status == 206).count(), 5, "{wrong:?}");
    assert_eq!(wrong.iter().filter(|status| **status == 429).count(), 15, "{wrong:?}");
}

#[test]
fn a_hundred_failures_from_everywhere_hold_strangers_back_and_not_the_owner() {
    let settings = [THROTTLED[0], THROTTLED[1], ("THROTTLE__ACCOUNT_FAILURES", "20")];
    let mut server = Server::start_with(&settings);
    server.add_user("asha");
    assert_eq!(server.send(login("asha", PASSWORD, "198.51.100.7")).status, 200);
    for network in 0..20 {
        let from = format!("203.0.{network}.1");
        assert_eq!(server.send(login("asha", "wrong", &from)).status, 206);
    }
    assert!(throttled(&server.send(login("asha", PASSWORD, "203.0.113.1"))) > 3500);
    for _ in 0..3 {
        assert_eq!(server.send(login("asha", PASSWORD, "198.51.100.200")).status, 200);
    }
    assert!(throttled(&server.send(login("asha", PASSWORD, "203.0.114.1"))) > 3500);

    // A restart lets nobody try again.
    server.stop();
    server.start_again();
    assert!(throttled(&server.send(login("asha", PASSWORD, "203.0.115.1"))) > 3500);

    let shown: serde_json::Value =
        serde_json::from_str(&server.must(&["user", "show", "asha", "--json"])).unwrap();
    let everywhere = &shown["held_back"][0];
    assert_eq!(
        (&everywhere["network"], &everywhere["failures"]),
        (&"everywhere".into(), &20.into())
    );
    assert!(everywhere["until"].is_string());
    let unlock = || {
        let output = server.run(&["user", "unlock", "asha"]);
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(unlock().contains("All failed logins of asha are forgotten"));
    assert!(unlock().contains("asha has no failed logins"));
    assert_eq!(server.send(login("asha", PASSWORD, "203.0.113.1")).status, 200);
}

#[test]
fn changing_a_password_is_the_same_door() {
    let server = server();
    let token = server.login("asha").token;
    let change = |old: &str| {
        let body =
            serde_json::json!({ "old_password": old, "new_password": "another-Long-one-of-24" });
        let request = post("/api/v1/password-change/").json(&body.to_string()).jwt(&token);
        server.send(request.header("X-Forwarded-For", "192.0.2.1"))
    };
    for _ in 0..3 {
        assert_eq!(change("wrong").status, 206);
    }
    for _ in 0..2 {
        assert_eq!(server.send(login("asha", "wrong", "192.0.2.1")).status, 206);
    }
    throttled(&change(PASSWORD));
    throttled(&server.send(login("asha", PASSWORD, "192.0.2.1")));
}

#[test]
fn requests_of_one_address_are_counted_by_endpoint() {
    let server = server();
    let refresh = |from: &str| {
        let request = post("/api/v1/token-refresh/").form("refresh_token=x");
        server.send(request.header("X-Forwarded-For", from))
    };
    let statuses: Vec<u16> = (0..100).map(|_| refresh("192.0.2.1").status).collect();
    let taken = statuses.iter().filter(|status| **status == 206).count();
    assert!((40..70).contains(&taken), "{taken} of 100 were taken");
    assert_eq!(refresh("192.0.2.2").status, 206, "another address");
    assert_eq!(server.send(login("asha", PASSWORD, "192.0.2.1")).status, 200, "another endpoint");
    // While that login was hashed, some requests have become free again.
    let again: Vec<Answer> = (0..100).map(|_| refresh("192.0.2.1")).collect();
    let refused = again.iter().find(|answer| answer.status != 206).unwrap();
    assert_eq!(throttled(refused), 1);
}

#[test]
fn what_others_than_trusted_proxies_say_of_addresses_does_not_count() {
    let server = Server::start_with(&THROTTLED[..1]);
    server.add_user("asha");
    for number in 0..5 {
        let from = format!("203.0.{number}.1");
        assert_eq!(server.send(login("asha", "wrong", &from)).status, 206);
    }
    throttled(&server.send(login("asha", PASSWORD, "203.0.113.1")));
}

#[test]
fn the_audit_log_tells_what_happened_and_holds_together() {
    let server = server();
    server.send(login("asha", "wrong", "192.0.2.1"));
    server.send(login("pass-word-typed-as-name", "wrong", "192.0.2.1"));
    let pair = server.login("asha");
    let logout = post("/api/v1/logout/").jwt(&pair.token).header("X-Request-Id", "a-request-of-1");
    server.send(logout).is_no_content();
    let listed = server.must(&["audit", "list", "--json", "--event", "login."]);
    let records: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let fact = |index: usize, name: &str| records[index][name].as_str().unwrap_or("-").to_owned();
    assert_eq!((fact(0, "event"), fact(0, "actor")), ("login.granted".into(), "user:1".into()));
    assert_eq!((fact(1, "why"), fact(1, "name_digest").len()), ("unknown".into(), 16));
    assert_eq!((fact(2, "why"), fact(2, "address")), ("wrong_password".into(), "192.0.2.1".into()));
    assert!(!listed.contains("pass-word-typed"), "{listed}");
    let unknown = server.run(&["audit", "list", "--event", "logins."]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("no event's name begins so; there are login.granted"), "{said}");
    let ended = server.must(&["audit", "list", "--json", "--event", "session.", "--user", "asha"]);
    assert!(ended.contains("a-request-of-1") && ended.contains("logout"), "{ended}");
    server.must(&["user", "disable", "asha"]);
    server.send(login("asha", PASSWORD, "192.0.2.1"));
    // A refusal is written behind its answer; once this is durable, so is that.
    server.must(&["user", "enable", "asha"]);
    let refused =
        server.must(&["audit", "list", "--json", "--event", "login.refused", "--limit", "1"]);
    assert!(refused.contains(r#""why": "disabled""#), "{refused}");
    let exported = server.must(&["audit", "export"]);
    assert!(exported.lines().count() > 5, "{exported}");
}

#[test]
fn tampering_with_the_audit_log_is_found() {
    let server = server();
    for _ in 0..5 {
        server.send(login("asha", "wrong", "192.0.2.1"));
    }
    let verify = |arguments: &[&str]| {
        let output = server.run(&[&["audit", "verify"], arguments].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text.trim().to_owned() + &String::from_utf8_lossy(&output.stderr))
    };
    let noted = server.must(&["audit", "verify"]).trim().to_owned();
    assert_eq!(noted.split_once(':').unwrap().1.len(), 64, "{noted}");
    assert_eq!(verify(&["--expect", &noted]).0, Some(0));
    assert_eq!(verify(&["--expect", "nonsense"]).0, Some(2));
    let change = |sql: &str| {
        let python =
            "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);c.executescript(sys.argv[2])";
        let changed = std::process::Command::new("python3")
            .args(["-c", python])
            .arg(server.data.join("passmint.db"))
            .arg(sql)
            .status();
        assert!(changed.unwrap().success());
    };
    for (tamper, mend) in [
        (
            "UPDATE audit SET record = replace(record, 'refused', 'granted') WHERE sequence = 8",
            "UPDATE audit SET record = replace(record, 'granted', 'refused') WHERE sequence = 8",
        ),
        (
            "UPDATE audit SET event = 'x.y' WHERE sequence = 8",
            "UPDATE audit SET event = 'login.refused' WHERE sequence = 8",
        ),
        (
            "UPDATE audit SET user_id = 77 WHERE sequence = 8",
            "UPDATE audit SET user_id = 1 WHERE sequence = 8",
        ),
        (
            "UPDATE audit SET at = at + 1 WHERE sequence = 8",
            "UPDATE audit SET at = at - 1 WHERE sequence = 8",
        ),
        (
            "INSERT INTO audit (sequence, at, event, user_id, record, hash) SELECT 0, at, event, user_id, record, hash FROM audit WHERE sequence = 1",
            "DELETE FROM audit WHERE sequence = 0",
        ),
    ] {
        change(tamper);
        let (code, said) = verify(&[]);
        assert_eq!(code, Some(1), "{tamper}: {said}");
        assert!(said.contains("broken at record"), "{tamper}: {said}");
        change(mend);
        assert_eq!(verify(&["--expect", &noted]).0, Some(0), "{mend}");
    }
    // What is cut off at the end follows from nothing that is left.
    change("DELETE FROM audit WHERE sequence >= 9");
    assert_eq!(verify(&[]).0, Some(0));
    let (code, said) = verify(&["--expect", &noted]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is not the one that was noted"), "{said}");
}

#[test]
fn a_repeated_login_needs_no_hash_until_the_password_or_the_user_changes() {
    let server = Server::start_with(&[("LOGIN__REPEAT_WINDOW", "10m")]);
    server.add_user("asha");
    let repeats = || {
        let metrics = server.metrics();
        let line = metrics.lines().find_map(|l| l.strip_prefix("passmint_repeat_logins_total "));
        line.unwrap().parse::<u32>().unwrap()
    };
    let sessions: Vec<String> = (0..3).map(|_| server.login("asha").session()).collect();
    assert_eq!(repeats(), 2);
    assert!(sessions[0] != sessions[1] && sessions[1] != sessions[2]);
    assert_eq!(server.try_login("asha", "wrong").status, 206);
    server.must(&["user", "disable", "asha"]);
    assert_eq!(server.try_login("asha", PASSWORD).status, 206);
    server.must(&["user", "enable", "asha"]);
    server.login("asha");
    assert_eq!(repeats(), 2, "disabling forgets");
    let new = "another-Long-one-of-24";
    let output = server.run_with_input(&["user", "passwd", "asha", "--password-stdin"], new);
    assert!(output.status.success());
    assert_eq!(server.try_login("asha", PASSWORD).status, 206, "a new password forgets");
}
