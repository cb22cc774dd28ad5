//! Metrics: what a scrape tells after real requests, and that dashboard and alerts ask for nothing
//! else.
//!
//! `promtool` is installed by `scripts/test`; without it these tests fail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::{Answer, PASSWORD, Server, fresh_folder, get, note_secret, post, request};

/// A file of `deploy/`.
fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)
}

fn promtool() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("promtool/promtool");
    assert!(program.exists(), "run scripts/test: it installs promtool");
    program
}

#[track_caller]
fn succeeded(output: &Output) {
    let (told, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{errors}");
}

fn answer(server: &Server, accept: &str) -> Answer {
    get("/metrics").header("Accept", accept).try_send(server.admin).unwrap()
}

fn scrape(server: &Server) -> String {
    answer(server, "*/*").body
}

/// The value of one series; 0 when it is not there.
fn value(scrape: &str, series: &str) -> f64 {
    let sample = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    sample.map_or(0.0, |value| value.parse().unwrap())
}

/// Names with their labels, without values.
fn series(scrape: &str) -> BTreeSet<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[track_caller]
fn counted(server: &Server, expected: &[(&str, f64)]) {
    let scrape = scrape(server);
    for (series, count) in expected {
        let found = value(&scrape, series);
        assert!((found - count).abs() < f64::EPSILON, "{series} is {found}, not {count}\n{scrape}");
    }
}

/// Logs in and refreshes, right and wrong, and ends sessions in every way that needs no waiting.
fn bustle() -> Server {
    let server = Server::start_with(&[("SESSIONS__REUSE_INTERVAL", "0")]);
    for user in ["asha", "ravi", "mira"] {
        server.add_user(user);
    }
    let pair = server.login("asha");
    assert_eq!(server.try_login("asha", "wrong-canary").status, 206);
    assert_eq!(server.me(&pair.token).status, 200);
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
    assert_eq!(server.refresh(&pair.refresh_token).status, 206);
    server.login("asha");
    let new = "canary-Password-of-a-change";
    note_secret(new);
    let set = server.run_with_input(&["user", "passwd", "asha", "--password-stdin"], new);
    succeeded(&set);
    for user in ["ravi", "ravi", "mira"] {
        server.login(user);
    }
    server.must(&["user", "disable", "ravi"]);
    server.must(&["user", "delete", "mira"]);
    server
}

#[test]
fn what_happened_is_counted() {
    let server = bustle();
    let (token_auth, refresh) = (r#"{route="token-auth"}"#, r#"{route="token-refresh"}"#);
    let duration =
        |part: &str, labels: &str| format!("passmint_http_request_duration_seconds_{part}{labels}");
    counted(
        &server,
        &[
            (r#"passmint_logins_total{outcome="granted"}"#, 5.0),
            (r#"passmint_logins_total{outcome="refused"}"#, 1.0),
            (r#"passmint_refreshes_total{outcome="rotated"}"#, 1.0),
            (r#"passmint_refreshes_total{outcome="reuse_detected"}"#, 1.0),
            (r#"passmint_sessions_ended_total{reason="reuse_detected"}"#, 1.0),
            (r#"passmint_sessions_ended_total{reason="password_changed"}"#, 1.0),
            (r#"passmint_sessions_ended_total{reason="user_disabled"}"#, 2.0),
            (r#"passmint_sessions_ended_total{reason="user_deleted"}"#, 1.0),
            (&duration("count", token_auth), 6.0),
            (&duration("count", refresh), 2.0),
            (&duration("count", r#"{route="me"}"#), 1.0),
            // Three users, six logins, one new password.
            ("passmint_hash_duration_seconds_count", 10.0),
            ("passmint_hashing_queue_wait_seconds_count", 10.0),
        ],
    );
    let scrape = scrape(&server);
    let of = |series: &str| value(&scrape, series);
    let login = of(&duration("sum", token_auth)) / 6.0;
    let hash = of("passmint_hash_duration_seconds_sum") / 10.0;
    assert!(hash > 0.001 && login > 0.001, "seconds, not another unit: {login} {hash}");
    let writes = of("passmint_store_write_duration_seconds_count");
    assert!((writes - of("passmint_store_writes_total")).abs() < f64::EPSILON, "{scrape}");
    assert!(of("passmint_store_write_duration_seconds_sum") / writes < 1.0);
    assert!(of("passmint_store_read_duration_seconds_count") > 10.0);
    assert!(scrape.contains("\npassmint_revocation_view_age_seconds 0.0\n"), "{scrape}");
    let version = concat!(r#"passmint_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    assert!((of(version) - 1.0).abs() < f64::EPSILON, "{scrape}");
}

#[test]
fn the_process_is_told_as_the_system_sees_it() {
    let server = Server::start();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let scrape = scrape(&server);
    let of = |series: &str| value(&scrape, series);
    let started = of("process_start_time_seconds");
    assert!((now - started).abs() < 30.0, "{started} at {now}");
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    let resident = of("process_resident_memory_bytes");
    assert!((resident / (pages * 4096.0) - 1.0).abs() < 0.5, "{resident} of {pages} pages");
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let open = f64::from(u32::try_from(open).unwrap());
    // The connection of the scrape is one more.
    assert!((of("process_open_fds") - open).abs() <= 2.0, "{} {open}", of("process_open_fds"));
    assert!(of("process_max_fds") > of("process_open_fds"));
    assert!(of("process_cpu_seconds_total") > 0.0 && of("process_cpu_seconds_total") < 20.0);
}

#[test]
fn promtool_accepts_the_text() {
    let server = bustle();
    let folder = fresh_folder("promtool");
    std::fs::write(folder.join("scrape.txt"), scrape(&server)).unwrap();
    let text = std::fs::File::open(folder.join("scrape.txt")).unwrap();
    let mut check = Command::new(promtool());
    let output = check.args(["check", "metrics"]).stdin(Stdio::from(text)).output().unwrap();
    succeeded(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "it complains of nothing");
}

#[test]
fn prometheus_is_given_openmetrics_and_others_plain_text() {
    let server = Server::start();
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.4";
    let open = answer(&server, prometheus);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(kind));
    assert!(open.body.ends_with("\n# EOF\n"));
    assert!(open.body.contains("\n# TYPE passmint_logins counter\n"), "{}", open.body);
    let plain = answer(&server, "*/*");
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(plain.body.contains("\n# TYPE passmint_logins_total counter\n"), "{}", plain.body);
    assert_eq!(series(&open.body), series(&plain.body), "only the comments differ");
}

/// Every expression of the dashboard and of the alerts.
fn expressions() -> Vec<String> {
    fn of_panels(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value.as_str()) {
                        ("expr" | "query" | "definition", Some(text)) => into.push(text.to_owned()),
                        _ => of_panels(value, into),
                    }
                }
            }
            serde_json::Value::Array(values) => {
                for value in values {
                    of_panels(value, into);
                }
            }
            _ => {}
        }
    }
    let dashboard = std::fs::read_to_string(deploy("grafana/passmint.json")).unwrap();
    let mut expressions = Vec::new();
    of_panels(&serde_json::from_str(&dashboard).unwrap(), &mut expressions);
    let panels = expressions.len();
    assert!(panels > 20, "{expressions:?}");
    let alerts = std::fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let lines = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    expressions.extend(lines.map(str::to_owned));
    let rules = alerts.matches("- alert: ").count();
    assert_eq!(
        expressions.len(),
        panels + rules,
        "an expression stands on the line of its `expr:`"
    );
    expressions
}

/// Names of metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(move |c: char| !is_part(c));
    words.filter(|word| word.starts_with("passmint_") || word.starts_with("process_"))
}

/// Labels that an expression compares with one value, as a scrape writes them.
fn labels(expression: &str) -> impl Iterator<Item = String> {
    let parts = expression.split(['{', ',', '}']).map(str::trim);
    parts.filter_map(|part| {
        let (name, value) = part.split_once("=\"")?;
        let value = value.strip_suffix('"')?;
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        // What Prometheus itself adds is not in a scrape.
        let own = is_name && name != "job" && name != "instance";
        own.then(|| format!("{name}=\"{value}\""))
    })
}

#[test]
fn dashboard_and_alerts_ask_for_nothing_that_is_not_there() {
    let scrape = scrape(&bustle());
    let known: BTreeSet<&str> = scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let (mut asked, mut compared) = (BTreeSet::new(), 0);
    let expressions = expressions();
    for expression in &expressions {
        for name in names(expression) {
            assert!(known.contains(name), "{name} is not in a scrape: {expression}");
            asked.insert(name);
        }
        for label in labels(expression) {
            assert!(scrape.contains(&label), "{label} is not in a scrape: {expression}");
            compared += 1;
        }
    }
    assert!(asked.len() > 25 && compared > 10, "{asked:?} {compared}");
}

#[test]
fn alerts_pass_their_tests() {
    for (act, file) in [("check", "prometheus/alerts.yml"), ("test", "prometheus/alerts_test.yml")]
    {
        let mut promtool = Command::new(promtool());
        succeeded(&promtool.args([act, "rules"]).arg(deploy(file)).output().unwrap());
    }
    // Every alert is seen to fire, and not to fire.
    let alerts = std::fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(deploy("prometheus/alerts_test.yml")).unwrap();
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let case = format!("alertname: {alert}\n        exp_alerts:");
        let expected: Vec<&str> =
            tests.split(&case).skip(1).map(|rest| rest.lines().next().unwrap()).collect();
        assert_eq!(expected, ["", " []"], "{alert} is seen to fire and to be quiet");
    }
}

#[test]
fn callers_make_no_new_series() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let odd = |number: usize| {
        let name = format!("odd-{number}");
        let requests = [
            get(&format!("/{name}")),
            get(&format!("/forward-auth/{name}?{name}")),
            get("/api/v1/me/").jwt(&format!("{name}.{name}.{name}")),
            get("/api/v1/me/").jwt(&pair.token).header("X-Request-Id", &name),
            request(&format!("ODD{number}"), "/api/v1/token-auth/"),
            request("DELETE", &format!("/api/v1/sessions/{name}/")).jwt(&pair.token),
            post("/api/v1/token-refresh/").form(&format!("refresh_token={name}")),
            post("/api/v1/token-auth/").form(&format!("{name}={name}")),
            post("/api/v1/token-auth/").body(&format!("text/{name}"), &name),
            get(&format!("/metrics/{name}")).header("User-Agent", &name).header(&name, &name),
        ];
        requests[number % requests.len()].clone()
    };
    for number in 0..20 {
        server.send(odd(number));
    }
    assert_eq!(server.try_login("nobody", PASSWORD).status, 206);
    let before = series(&scrape(&server));
    for number in 20..1020 {
        server.send(odd(number));
    }
    let after = series(&scrape(&server));
    let new: Vec<&String> = after.difference(&before).collect();
    assert_eq!(new, Vec::<&String>::new());
    assert!(after.len() < 500, "{} series", after.len());
}
