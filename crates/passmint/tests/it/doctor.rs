//! `passmint doctor`, and what metrics say of the same: each thing that can be wrong is told once it is, with
//! the way to mend it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Server, fresh_folder, get, reload};

/// The exit code, and what is printed.
pub(crate) fn doctor(server: &Server) -> (Option<i32>, String) {
    let output = server.run(&["doctor"]);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Doctor on settings that no server runs with.
fn doctor_on(settings: &str) -> (Option<i32>, String) {
    let folder = fresh_folder("doctor");
    std::fs::write(folder.join("passmint.toml"), settings).unwrap();
    let mut command = Command::new(crate::harness::PASSMINT);
    let output = command.arg("--data").arg(&folder).arg("doctor").output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
fn tells(text: &str, line: &str) {
    assert!(text.lines().any(|told| told.starts_with(line)), "no line `{line}`:\n{text}");
}

#[track_caller]
fn does_not_tell(text: &str, what: &str) {
    assert!(!text.contains(what), "`{what}` is told:\n{text}");
}

#[test]
fn doctor_says_what_is_wrong_and_how_to_mend_it() {
    let mut server = Server::start();
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ok      server: runs, and reads and writes its database"), "{text}");
    server.stop();
    let key = server.data.join("master.key");
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n").unwrap();
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("is not the master key that the database's keys are sealed under"),
        "{text}"
    );
    std::fs::write(&key, &right).unwrap();
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(0), "{text}");
    std::fs::remove_file(&key).unwrap();
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(1));
    assert!(text.contains("WRONG   master key:") && text.contains("put the file back"), "{text}");
    std::fs::write(server.data.join("passmint.db"), "this is no database, whatever its name says")
        .unwrap();
    std::fs::write(&key, right).unwrap();
    let (_, text) = doctor(&server);
    assert_eq!(text.matches("can be read by others").count(), 1, "said once: {text}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(1));
    assert!(text.contains("WRONG   database:") && text.contains("restore a backup"), "{text}");
    assert_eq!(text.matches("WRONG").count(), 1, "said once: {text}");
    let start = server.run(&["serve"]);
    assert_eq!(start.status.code(), Some(1));
    let said = String::from_utf8_lossy(&start.stderr);
    assert!(said.contains("file is not a database. The file is damaged: move it"), "{said}");
}

#[test]
fn weak_hashes_and_an_open_admin_listener_are_advised_against() {
    let (_, text) = doctor_on("[hashing]\nmemory_kib = 8\npasses = 1\n");
    tells(&text, "advice  hashing: 8 KiB and 1 passes are less than OWASP recommends");
    let (_, text) = doctor_on("[server]\nadmin_listen = \"0.0.0.0:8081\"\n");
    tells(&text, "advice  admin listener: server.admin_listen = 0.0.0.0:8081 is reached");
    let (_, text) = doctor_on("[hashing]\nmemory_kib = 12288\npasses = 3\n");
    does_not_tell(&text, "hashing:");
    does_not_tell(&text, "admin listener:");
}

#[test]
fn the_demos_user_and_keys_that_verify_for_good_are_told() {
    let server = Server::start();
    let (_, text) = doctor(&server);
    does_not_tell(&text, "sample_user");
    does_not_tell(&text, "verify for good");
    let secret = server.data.join("secret");
    std::fs::write(&secret, "kq83-nfu2-9dd1-xx0p-77aa-zi4m-secret").unwrap();
    let path = secret.to_str().unwrap();
    server.must(&["key", "import", path, "--alg", "HS256", "--verify-only"]);
    server.add_user("sample_user");
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(0), "{text}");
    tells(&text, "advice  keys: verify for good: ");
    tells(&text, "advice  users: the demo's user sample_user");
    server.must(&["user", "disable", "sample_user"]);
    does_not_tell(&doctor(&server).1, "sample_user");
}

/// What the running server counts with is seen, and that it did not take what was written since.
#[test]
fn other_settings_than_those_that_count_and_a_failed_reload_are_told() {
    let folder = fresh_folder("other-settings");
    let file = folder.join("passmint.toml");
    std::fs::write(&file, "[login]\nmax_wait = \"1s\"\n").unwrap();
    let server = Server::start_on(&folder, &[]);
    let running = |setting: &str| {
        let text = server.must(&["config", "print", "--running", "--json"]);
        let all: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let found = all.iter().find(|one| one["setting"] == setting).unwrap();
        found["value"].as_str().unwrap().to_owned()
    };
    let last_reload = || {
        let metrics = server.metrics();
        let line = metrics.lines().find(|line| line.starts_with("passmint_settings_last_reload"));
        line.unwrap().to_owned()
    };
    std::fs::write(&file, "[login]\nmax_wait = \"3s\"\n[hashing]\npasses = 3\n").unwrap();
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(0), "{text}");
    tells(&text, "advice  server: uses other settings than the file");
    assert!(text.contains("login.max_wait (1s, here 3s)"), "{text}");
    assert!(text.contains("hashing.passes (2, here 3)"), "{text}");
    assert_eq!(running("login.max_wait"), "1s");
    reload(&server);
    // Hashing counts from the next start on, and is shown as it counts.
    assert_eq!((running("login.max_wait"), running("hashing.passes")), ("3s".into(), "2".into()));
    let (_, text) = doctor(&server);
    does_not_tell(&text, "login.max_wait");
    assert!(text.contains("hashing.passes (2, here 3)"), "{text}");
    assert_eq!(last_reload(), "passmint_settings_last_reload_successful 1");

    std::fs::remove_file(&file).unwrap();
    reload(&server);
    assert_eq!(last_reload(), "passmint_settings_last_reload_successful 0");
    assert!(server.log().contains("settings not reloaded, the old ones stay"), "{}", server.log());
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(1), "{text}");
    tells(
        &text,
        "WRONG   server: its last reload failed, and the settings of before count: 1 mistake",
    );
    assert_eq!(running("login.max_wait"), "3s");
    assert_eq!(server.send(get("/readyz")).status, 200, "it goes on with the old ones");

    // A mistake in the file keeps nobody from reaching the server that runs well without it.
    std::fs::write(&file, "[login]\nmax_wait = \"soon\"\n").unwrap();
    reload(&server);
    assert_eq!(running("login.max_wait"), "3s");
    server.add_user("asha");
    server.must(&["user", "disable", "asha"]);
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(1), "{text}");
    tells(&text, "WRONG   settings: 1 mistake");
    tells(&text, "ok      server: runs, and reads and writes its database");

    std::fs::write(&file, "[login]\nmax_wait = \"3s\"\n").unwrap();
    reload(&server);
    assert_eq!(last_reload(), "passmint_settings_last_reload_successful 1");
    assert_eq!(doctor(&server).0, Some(0));
}

#[test]
fn a_server_whose_socket_is_gone_is_not_taken_for_none() {
    let server = Server::start();
    std::fs::remove_file(server.data.join("passmint.sock")).unwrap();
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(1), "{text}");
    tells(&text, "WRONG   server: holds the database, but does not answer on ");
}

fn openssl(arguments: &[&str], folder: &Path) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate for `days`, and its key.
fn certificate(folder: &Path, days: &str) -> (PathBuf, PathBuf) {
    let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let names = ["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "made.pem"];
    openssl(&[&key[..], &names[..]].concat(), folder);
    // `req` makes none that has expired.
    let again =
        ["x509", "-in", "made.pem", "-signkey", "key.pem", "-days", days, "-out", "cert.pem"];
    openssl(&again, folder);
    (folder.join("cert.pem"), folder.join("key.pem"))
}

#[test]
fn an_expired_certificate_is_told_by_log_metric_and_doctor_and_a_new_one_counts() {
    let folder = fresh_folder("expired");
    let (cert, key) = certificate(&folder, "-1");
    let settings = format!("[server]\ntls_cert = {cert:?}\ntls_key = {key:?}\n");
    std::fs::write(folder.join("passmint.toml"), settings).unwrap();
    let server = Server::start_on(&folder, &[]);
    let left = || {
        let metrics = server.metrics();
        let name = "passmint_tls_certificate_expiry_timestamp_seconds ";
        let until: i64 =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap();
        until - jiff::Timestamp::now().as_second()
    };
    assert!((-90_000..0).contains(&left()), "{}", left());
    assert!(server.log().contains("has expired: clients refuse it"), "{}", server.log());
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(1));
    tells(&text, "WRONG   certificate: has expired on ");

    certificate(&folder, "10");
    assert!(left() < 0, "it is not read before it is asked to be");
    tells(&doctor(&server).1, "advice  server: serves a certificate that is valid until ");
    reload(&server);
    does_not_tell(&doctor(&server).1, "serves a certificate");
    assert!((800_000..900_000).contains(&left()), "{}", left());
    assert!(server.log().contains("expires soon"), "{}", server.log());
    tells(&doctor(&server).1, "advice  certificate: expires on ");
    certificate(&folder, "90");
    reload(&server);
    assert!(server.log().contains("serves the certificate of server.tls_cert"), "{}", server.log());
    let (code, text) = doctor(&server);
    assert_eq!(code, Some(0), "{text}");
    tells(&text, "ok      certificate: is valid until ");
}
