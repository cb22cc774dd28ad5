//! `passmint selftest`: a healthy server passes, and what it cannot test it says.
//!
//! That each check can fail is shown in `selftest_faults`.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{PASSMINT, PASSWORD, Server, fresh_folder};

/// Runs it as an operator would, against `url`, as the user asha.
pub(crate) fn selftest(url: &str, options: &[&str]) -> Output {
    let mut command = Command::new(PASSMINT);
    command.env_clear().args(["selftest", url, "--username", "asha", "--password-stdin"]);
    crate::harness::run_with_input(&mut command, options, &format!("{PASSWORD}\n"))
}

/// The verdicts of a run with `--json`, by check.
pub(crate) struct Sheet {
    pub(crate) code: Option<i32>,
    pub(crate) verdicts: BTreeMap<String, String>,
    pub(crate) text: String,
}

impl Sheet {
    pub(crate) fn of(url: &str, options: &[&str]) -> Self {
        let output = selftest(url, &[options, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let sheet: Value = serde_json::from_str(&text).unwrap_or_else(|_| {
            panic!("no sheet: {text} {}", String::from_utf8_lossy(&output.stderr))
        });
        let word = |check: &Value, member: &str| check[member].as_str().unwrap().to_owned();
        let checks = sheet["checks"].as_array().unwrap();
        let verdicts: BTreeMap<String, String> =
            checks.iter().map(|check| (word(check, "name"), word(check, "verdict"))).collect();
        assert_eq!(verdicts.len(), checks.len(), "two checks of one name");
        Self { code: output.status.code(), verdicts, text }
    }

    pub(crate) fn with(&self, verdict: &str) -> Vec<&str> {
        let fits = |(_, found): &(&String, &String)| *found == verdict;
        self.verdicts.iter().filter(fits).map(|(name, _)| name.as_str()).collect()
    }
}

fn server(settings: &[(&str, &str)]) -> Server {
    let server = Server::start_with(settings);
    server.add_user("asha");
    server.add_user("gone");
    server.must(&["user", "disable", "gone"]);
    server
}

#[test]
fn a_healthy_server_passes_everything_but_timing() {
    let server = server(&[("THROTTLE__ENABLED", "true")]);
    let groups = ["tokens", "refresh", "bodies", "admin", "headers"];
    let only: Vec<&str> = groups.iter().flat_map(|group| ["--only", group]).collect();
    let sheet = Sheet::of(&server.url(), &only);
    let failed: Vec<&str> = sheet.with("fail");
    assert!(failed.is_empty(), "{failed:?}: {}", sheet.text);
    for header in ["x-forwarded-for", "x-real-ip", "forwarded", "x-client-ip", "cf-connecting-ip"] {
        let name = format!("throttle not dodged by {header}");
        assert!(sheet.verdicts.contains_key(&name), "{name} is missing: {}", sheet.text);
    }
    assert!(sheet.with("pass").len() >= 90, "{}", sheet.text);
    assert_eq!(
        sheet.with("skip"),
        ["Host: evil does not change metadata", "late reuse ends the session"]
    );
    assert_eq!(sheet.code, Some(0));
    // Sessions of the run are ended, and the user is not locked out.
    let live: Value =
        serde_json::from_str(&server.must(&["session", "list", "asha", "--json"])).unwrap();
    assert_eq!(live, serde_json::json!([]));
    server.login("asha");
    assert!(!server.log().contains("request failed"), "a 5xx");
}

#[test]
fn the_sheet_is_on_standard_output_without_secrets() {
    let server = server(&[]);
    let output = selftest(&server.url(), &["--only", "refresh", "--only", "admin"]);
    let (sheet, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{sheet}");
    assert!(errors.contains("Only attack a server that is yours."), "{errors}");
    let (summary, lines) = sheet
        .trim_end()
        .lines()
        .collect::<Vec<_>>()
        .split_last()
        .map(|(a, b)| (*a, b.to_vec()))
        .unwrap();
    for line in &lines {
        assert!(line.starts_with("pass  ") || line.starts_with("skip  "), "{line}");
        assert!(["refresh", "admin"].contains(&line[6..17].trim_end()), "{line}");
    }
    assert_eq!(summary, format!("{} passed, 0 failed, 1 skipped", lines.len() - 1));
    for text in [&sheet, &errors] {
        assert!(!text.contains(PASSWORD) && !text.contains("eyJ") && !text.contains("pmr1_"));
    }
}

#[test]
fn keys_of_every_algorithm_withstand_the_tokens() {
    for (algorithm, encodings) in [("EdDSA", 10), ("RS256", 13), ("HS256", 0)] {
        let server = server(&[("KEYS__ALGORITHM", algorithm)]);
        let sheet = Sheet::of(&server.url(), &["--only", "tokens"]);
        assert_eq!((sheet.code, sheet.with("fail").len()), (Some(0), 0), "{}", sheet.text);
        let passed = sheet.with("pass");
        let tried = passed.iter().filter(|name| name.starts_with("HMAC with public key")).count();
        assert!(tried >= encodings, "{algorithm}: {tried} encodings");
    }
}

#[test]
fn the_times_of_a_healthy_server_tell_nothing() {
    let server = server(&[]);
    let options = ["--only", "enumeration", "--disabled-username", "gone", "--samples", "100"];
    // Machines that share their cores are noisy: a leak would be seen in three runs out of three.
    let mut sheets = (0..3).map(|_| Sheet::of(&server.url(), &options));
    let sheet = sheets.find(|sheet| sheet.code == Some(0)).expect("three runs saw a leak");
    let checks = [
        "answer: disabled user",
        "answer: name in another case",
        "answer: unknown user",
        "answer: wrong password",
        "time: disabled user",
        "time: wrong password",
    ];
    assert_eq!(sheet.with("pass"), checks);
    assert!(sheet.text.contains("AUC 0."), "{}", sheet.text);
}

#[test]
fn late_reuse_is_tested_when_there_is_time() {
    let name = "late reuse ends the session";
    let quick = server(&[("SESSIONS__REUSE_INTERVAL", "1s")]);
    let options = ["--only", "refresh", "--reuse-wait", "2500ms"];
    let sheet = Sheet::of(&quick.url(), &options);
    assert_eq!((sheet.verdicts[name].as_str(), sheet.code), ("pass", Some(0)), "{}", sheet.text);
    let slow = server(&[("SESSIONS__REUSE_INTERVAL", "60s")]);
    let sheet = Sheet::of(&slow.url(), &["--only", "refresh", "--reuse-wait", "1s"]);
    assert_eq!((sheet.with("fail"), sheet.code), (vec![name], Some(1)), "{}", sheet.text);
}

#[test]
fn https_is_believed_by_file_or_not_at_all() {
    let folder = fresh_folder("selftest-tls");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success());
    let cert = cert.to_str().unwrap();
    let settings = [("SERVER__TLS_CERT", cert), ("SERVER__TLS_KEY", key.to_str().unwrap())];
    let server = server(&settings);
    let url = format!("https://127.0.0.1:{}", server.public.port());
    let run = |options: &[&str]| {
        let output = selftest(&url, &[options, &["--only", "tokens"]].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&["--ca", cert]).0, Some(0));
    let (code, errors) = run(&["--insecure"]);
    assert_eq!(code, Some(0));
    assert!(errors.contains("the server's certificate is not checked"), "{errors}");
    let (code, errors) = run(&[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("is not trusted here") && errors.contains("--ca"), "{errors}");
    let (code, errors) = run(&["--ca", key.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("holds no certificate"), "{errors}");
}

#[test]
fn usage_is_2_and_what_cannot_be_tested_is_1() {
    for url in ["ftp://127.0.0.1", "127.0.0.1:8080", "http://asha:x@127.0.0.1"] {
        let output = selftest(url, &[]);
        assert_eq!(output.status.code(), Some(2), "{url}");
        assert!(output.stdout.is_empty());
    }
    for options in [["--only", "nonsense"], ["--samples", "3"], ["--reuse-wait", "125"]] {
        assert_eq!(selftest("http://127.0.0.1:1", &options).status.code(), Some(2), "{options:?}");
    }
    let unasked = Command::new(PASSMINT)
        .args(["selftest", "http://127.0.0.1:1", "--username", "asha"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(unasked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("no password"));
    let output = selftest("http://127.0.0.1:1", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot reach http://127.0.0.1:1"));
    // Nobody of that name.
    let server = Server::start();
    let output = selftest(&server.url(), &["--only", "tokens", "--only", "admin"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "nothing was tried");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot log in as asha: 206"), "{said}");
    assert!(said.contains("is the password right?"), "{said}");
}

#[test]
fn the_help_shows_the_call_for_the_demo() {
    let output = Command::new(PASSMINT).args(["selftest", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let call = "echo 1234Pass | passmint selftest http://127.0.0.1:8080 --username sample_user";
    assert!(help.contains(call) && help.contains("Only attack"), "{help}");
}
