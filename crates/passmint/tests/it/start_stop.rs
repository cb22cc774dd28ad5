//! The demo, starting and stopping.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{PASSMINT, Pair, Server, fresh_folder, get};

#[test]
fn the_demo_is_ready_within_a_second() {
    let started = Instant::now();
    let server = Server::demo(&[]);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let pair = server.login_with("sample_user", "1234Pass");
    assert_eq!(server.me(&pair.token).status, 200);
    server.advance("25h");
    server.me(&pair.token).is_unauthorized("Signature has expired.");
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
}

#[test]
fn the_banners_calls_work_when_pasted() {
    let folder = fresh_folder("banner");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let script = format!(
        r"
        set -eu
        PASSMINT_SERVER__LISTEN={free} PASSMINT_SERVER__ADMIN_LISTEN=127.0.0.1:0 {binary} demo > banner 2> errors &
        SERVER=$!
        trap 'kill $SERVER' EXIT
        for i in $(seq 100); do grep -q Ctrl-C banner && break; sleep 0.05; done
        grep -E '^    [A-Zce]' banner > calls
        . ./calls
        ",
        binary = crate::harness::PASSMINT,
    );
    let output = Command::new("bash").arg("-c").arg(script).current_dir(&folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(r#""username":"sample_user""#), "{text}{errors}");
    assert_eq!(text.matches(r#""refresh_token":"pmr1_"#).count(), 2, "{text}{errors}");
}

#[test]
fn a_taken_port_is_named_and_another_one_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = Server::demo(&[("SERVER__LISTEN", &address)]);
    assert_ne!(server.public.to_string(), address);
    server.login_with("sample_user", "1234Pass");
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.log().contains(&format!("{address} is taken")), "{}", server.log());
    let output = server.run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_demos_data_can_be_kept() {
    let mut server = Server::demo(&[]);
    let pair = server.login_with("sample_user", "1234Pass");
    server.stop();
    server.start_again();
    assert_eq!(server.me(&pair.token).status, 200);
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
    assert!(!server.log().contains("cannot log in"), "{}", server.log());
    server.must(&["user", "disable", "sample_user"]);
    server.stop();
    server.start_again();
    // Its log is copied on a thread of its own.
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.log().contains("cannot log in with 1234Pass any more"), "{}", server.log());
}

#[test]
fn the_demos_own_folder_goes_with_it() {
    let folder = fresh_folder("temporary");
    let script = format!(
        r"
        TMPDIR=$PWD PASSMINT_SERVER__LISTEN=127.0.0.1:0 PASSMINT_SERVER__ADMIN_LISTEN=127.0.0.1:0 {} demo > banner &
        for i in $(seq 100); do grep -q Ctrl-C banner && break; sleep 0.05; done
        stat -c %a passmint-demo-*; kill -$SIGNAL $!; wait $!; ls -d passmint-demo-*
        ",
        crate::harness::PASSMINT
    );
    // HUP: its terminal was closed.
    for signal in ["TERM", "HUP"] {
        let mut command = Command::new("timeout");
        command.args(["30", "bash", "-c", &script]).env("SIGNAL", signal).current_dir(&folder);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "700\n", "{signal}");
        std::fs::remove_file(folder.join("banner")).unwrap();
    }
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let server = Server::start();
    let output = server.run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("another Passmint is already running on"), "{error}");
    assert_eq!(server.send(get("/healthz")).status, 200);
}

#[test]
fn sigterm_answers_what_was_accepted() {
    let mut server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let address = server.public;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let answered: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answered = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        match get("/api/v1/me/").jwt(&pair.token).try_send(address) {
                            Ok(answer) => {
                                assert_eq!(answer.status, 200);
                                answered += 1;
                            }
                            // The listener is closed: a connection that came in the moment
                            // between its last look and its end was never accepted.
                            Err(error) => {
                                let again = std::net::TcpStream::connect(address);
                                let refused = std::io::ErrorKind::ConnectionRefused;
                                assert_eq!(again.unwrap_err().kind(), refused, "{error}");
                                break;
                            }
                        }
                    }
                    answered
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let (took, code) = server.stop();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(code, Some(0));
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answered > 50, "{answered}");
}

#[test]
fn readiness_goes_off_first() {
    let mut server = Server::start();
    let address = server.public;
    server.signal("TERM");
    let mut answer = get("/readyz").try_send(address).unwrap();
    while answer.status == 200 {
        std::thread::sleep(Duration::from_millis(10));
        answer = get("/readyz").try_send(address).unwrap();
    }
    answer.is_json(503, r#"{"status":"not ready","because":"draining"}"#);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(get("/healthz").try_send(address).unwrap().status, 200);
    server.kill();
}

#[test]
fn a_restart_loses_nothing() {
    let mut server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let (_, code) = server.stop();
    assert_eq!(code, Some(0));
    assert!(!server.data.join("passmint.db-wal").exists(), "all of it is in the database");
    server.start_again();
    assert_eq!(server.me(&pair.token).status, 200);
    Pair::of(&server.refresh(&pair.refresh_token));
}

#[test]
fn one_database_has_one_server_however_its_path_is_written() {
    let server = Server::start();
    let other = fresh_folder("link");
    std::os::unix::fs::symlink(server.data.join("passmint.db"), other.join("passmint.db")).unwrap();
    let second = |path: &Path| {
        let mut command = Command::new(PASSMINT);
        command.env_clear().env("PASSMINT_SERVER__LISTEN", "127.0.0.1:0");
        command.env("PASSMINT_SERVER__ADMIN_LISTEN", "127.0.0.1:0");
        command.env("PASSMINT_MASTER_KEY__FILE", server.data.join("master.key"));
        command.arg("--data").arg(path).arg("serve").output().unwrap()
    };
    for path in [other, server.data.join("..").join(server.data.file_name().unwrap())] {
        let output = second(&path);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("already running"), "{errors}");
    }
}

#[test]
fn a_database_that_was_only_migrated_or_just_made_starts() {
    for prepare in [&["db", "migrate"][..], &[]] {
        let data = fresh_folder("begun");
        if prepare.is_empty() {
            // As a crash right after the file was made leaves it.
            std::fs::write(data.join("passmint.db"), "").unwrap();
        } else {
            let output = Command::new(PASSMINT).arg("--data").arg(&data).args(prepare).output();
            assert!(output.unwrap().status.success());
        }
        let server = Server::start_on(&data, &[]);
        server.add_user("asha");
        server.login("asha");
    }
}

#[test]
fn a_database_that_is_replaced_while_it_runs_is_not_ready() {
    let server = Server::start();
    let ready = || get("/readyz").try_send(server.public).unwrap();
    assert_eq!(ready().status, 200);
    let path = server.data.join("passmint.db");
    std::fs::rename(&path, server.data.join("elsewhere.db")).unwrap();
    assert_eq!(ready().status, 503, "{}", ready().body);
    std::fs::write(&path, "").unwrap();
    assert_eq!(ready().status, 503);
    std::fs::rename(server.data.join("elsewhere.db"), &path).unwrap();
    assert_eq!(ready().status, 200);
}
