//! Contract section 3: what is ended is refused at once, durably, and stays so.

use std::time::Duration;

use crate::harness::{PASSWORD, Pair, Server};

const REVOKED: &str = "Token has been revoked.";

#[test]
fn ended_tokens_are_refused_at_once_and_after_a_kill() {
    let mut server = Server::start();
    for name in ["disabled", "deleted", "password", "session", "all", "alive"] {
        server.add_user(name);
    }
    let login = |name: &str| server.login(name);
    let pairs: Vec<Pair> =
        ["disabled", "deleted", "password", "session", "all", "alive"].map(login).into();
    server.must(&["user", "disable", "disabled"]);
    server.must(&["user", "delete", "deleted"]);
    let output = server.run_with_input(
        &["user", "passwd", "password", "--password-stdin"],
        "a-new-password-of-mine",
    );
    assert!(output.status.success());
    server.must(&["session", "end", &pairs[3].session()]);
    server.must(&["session", "end", "--user", "all"]);
    let check = |server: &Server| {
        for pair in &pairs[..5] {
            server.me(&pair.token).is_unauthorized(REVOKED);
            assert_eq!(server.refresh(&pair.refresh_token).status, 206);
        }
        assert_eq!(server.me(&pairs[5].token).status, 200);
    };
    check(&server);
    server.kill();
    server.start_again();
    check(&server);
    server.must(&["user", "enable", "disabled"]);
    check(&server);
    let again = server.login("disabled");
    assert_eq!(server.me(&again.token).status, 200);
}

/// Puts 300,000 ended sessions before the one that was ended last.
const MANY_REVOCATIONS: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
columns = 'kind, user_id, epoch, session_id, generation, effective_at, at, running_time'
of_others = columns.replace('session_id', 'randomblob(16)')
last = f'(SELECT {columns} FROM revocation ORDER BY sequence DESC LIMIT 1)'
numbers = 'WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number LIMIT 300000)'
database.execute(f'{numbers} INSERT INTO revocation ({columns}) SELECT {of_others} FROM {last}, number')
database.execute('UPDATE revocation SET sequence = 1000000 WHERE sequence = 1')
database.commit()
";

#[test]
fn ended_tokens_are_refused_in_the_first_moments_of_a_start_with_many_revocations() {
    let mut server = Server::start();
    server.add_user("asha");
    let (ended, alive) = (server.login("asha"), server.login("asha"));
    server.must(&["session", "end", &ended.session()]);
    server.stop();
    let python = std::process::Command::new("python3")
        .args(["-c", MANY_REVOCATIONS])
        .arg(server.data.join("passmint.db"))
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    server.start_again();
    // The view is being filled, and this one comes last.
    server.me(&ended.token).is_unauthorized(REVOKED);
    assert_eq!(server.me(&alive.token).status, 200);
    let all = || {
        let metrics = server.metrics();
        metrics.contains("\npassmint_revocations 300001\n")
    };
    for _ in 0..600 {
        if all() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(all(), "the view is never filled");
    server.me(&ended.token).is_unauthorized(REVOKED);
    assert_eq!(server.me(&alive.token).status, 200);
}

#[test]
fn a_login_right_after_log_out_everywhere_works() {
    let server = Server::start();
    server.add_user("asha");
    for _ in 0..20 {
        let old = server.login("asha");
        server.must(&["session", "end", "--user", "asha"]);
        let new = server.login("asha");
        server.me(&old.token).is_unauthorized(REVOKED);
        assert_eq!(server.me(&new.token).status, 200);
    }
}

#[test]
fn a_clock_that_jumps_ahead_and_back_revives_nothing() {
    let mut server = Server::demo(&[]);
    let pair = server.login_with("sample_user", "1234Pass");
    let alive = server.login_with("sample_user", "1234Pass");
    server.must(&["session", "end", &pair.session()]);
    // With a round of maintenance under the wrong time.
    server.advance("2000d");
    // Without --clock's offset the restarted server is back in the present.
    server.stop();
    server.start_again();
    server.me(&pair.token).is_unauthorized(REVOKED);
    assert_eq!(server.refresh(&pair.refresh_token).status, 206);
    assert_eq!(server.me(&alive.token).status, 200);
}

#[test]
fn a_login_under_way_when_its_user_is_disabled_starts_no_session() {
    // One slow hash: there is time to disable the user while it is computed.
    let slow =
        [("HASHING__MEMORY_KIB", "524288"), ("HASHING__PASSES", "3"), ("LOGIN__MAX_WAIT", "30s")];
    let server = Server::start_with(&slow);
    server.add_user("asha");
    std::thread::scope(|scope| {
        let login = scope.spawn(|| server.try_login("asha", PASSWORD));
        std::thread::sleep(Duration::from_millis(150));
        server.must(&["user", "disable", "asha"]);
        server.must(&["user", "enable", "asha"]);
        let answer = login.join().unwrap();
        answer.is_json(206, r#"{"error":"Unable to login with provided credential"}"#);
    });
    assert_eq!(server.try_login("asha", PASSWORD).status, 200);
}

#[test]
fn verification_reads_no_database() {
    const VERIFICATIONS: usize = 1_000;
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let verify = || {
        let request = crate::harness::get("/forward-auth").jwt(&pair.token);
        assert_eq!(server.send(request).status, 200);
    };
    verify();
    // Every read of the database takes a lock on its `-shm` file, which a tracer sees also where the
    // pages come from memory. Background jobs read a few times, too, so that it is the number that
    // tells: a verification that reads makes at least one such call.
    let trace = server.data.join("trace.txt");
    let mut strace = std::process::Command::new("strace")
        .args(["-f", "-e", "trace=pread64,read,recvfrom,openat,fcntl", "-y", "-o"])
        .arg(&trace)
        .args(["-p", &server.pid().to_string()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..VERIFICATIONS {
        verify();
    }
    std::process::Command::new("kill").args(["-INT", &strace.id().to_string()]).status().unwrap();
    strace.wait().unwrap();
    let seen = std::fs::read_to_string(&trace).unwrap();
    assert!(seen.lines().count() > VERIFICATIONS, "the tracer saw too little");
    let reads: Vec<&str> = seen.lines().filter(|line| line.contains("passmint.db")).collect();
    assert!(reads.len() < VERIFICATIONS / 10, "{} of the database: {reads:?}", reads.len());
}
