//! Contract sections 8 and 9: settings, their sources, and what the operator reads about mistakes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::harness::{PASSWORD, Pair, Server, fresh_folder, get, post, reload};

#[test]
fn mistakes_are_all_told_at_once_with_their_places() {
    let server = Server::start();
    let toml = "[sessions]\nreuse_interval = \"1 minute\"\n[server]\nlisten = \"nowhere\"\nfoo = 1\n\
                issuer = \"\"\n[log]\nlevel = \"warning\"\n";
    std::fs::write(server.data.join("passmint.toml"), toml).unwrap();
    let mut command = server.command();
    command.env_remove("PASSMINT_SERVER__LISTEN").env_remove("PASSMINT_LOG__LEVEL");
    command.env("PASSMINT_KEYS__ALGORITHM", "none");
    let output = command.args(["config", "check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    for part in [
        "6 mistakes",
        "passmint.toml:2: sessions.reuse_interval: `1 minute` is no duration: write 60s, 15m, 24h or 30d",
        "passmint.toml:4: server.listen: must look like 127.0.0.1:8080",
        "passmint.toml:5: server.foo: unknown setting",
        "passmint.toml:6: server.issuer: must not be empty",
        "passmint.toml:8: log.level: must be error, warn, info, debug or trace",
        "PASSMINT_KEYS__ALGORITHM: must be ES256 or EdDSA or RS256 or HS256",
    ] {
        assert!(error.contains(part), "{part:?} is not in:\n{error}");
    }
    let places: Vec<_> =
        error.match_indices("passmint.toml:").map(|(at, _)| &error[at..at + 16]).collect();
    assert!(places.is_sorted(), "in the order of the file: {error}");
}

#[test]
fn what_serve_would_refuse_is_found_by_config_check() {
    let server = Server::start();
    let check = |toml: &str| {
        let file = server.data.join("tried.toml");
        std::fs::write(&file, toml).unwrap();
        let mut command = server.command();
        for set in ["SERVER__LISTEN", "SERVER__ADMIN_LISTEN", "LOG__LEVEL"] {
            command.env_remove(format!("PASSMINT_{set}"));
        }
        let output = command.args(["config", "check", "--config", "tried.toml"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    std::fs::write(server.data.join("no.pem"), "nothing").unwrap();
    for (toml, part) in [
        (
            "[server]\nlisten = \"127.0.0.1:81\"\nadmin_listen = \"127.0.0.1:81\"\n",
            "tried.toml:3: server.admin_listen: is the same",
        ),
        (
            "[sessions]\n\nidle_lifetime = \"400d\"\n",
            "tried.toml:3: sessions.idle_lifetime: sessions.max_lifetime must not be shorter",
        ),
        (
            "[server]\ntls_cert = \"/nowhere\"\ntls_key = \"/nowhere\"\n",
            "server.tls_cert: /nowhere cannot be read",
        ),
        (
            "[server]\ntls_cert = \"no.pem\"\ntls_key = \"no.pem\"\n",
            "server.tls_cert: no.pem holds no certificate",
        ),
        (
            "[otlp]\nendpoint = \"http://127.0.0.1:4318/v1/traces\"\n",
            "tried.toml:2: otlp.endpoint: must leave out /v1/traces",
        ),
        ("[log]\nlevel = \"infoo\"\n", "tried.toml:2: log.level: must be"),
        ("[log]\nlevel = \"passmint=debug\"\n", "tried.toml:2: log.level: must be"),
    ] {
        let (code, error) = check(toml);
        assert_eq!(code, Some(1), "{toml}");
        assert!(error.contains(part), "{part:?} is not in:\n{error}");
    }
    assert_eq!(check("[log]\nlevel = \"warn,passmint=debug\"\n").0, Some(0));
    let mut command = server.command();
    command.args(["config", "check"]).env("PASSMINT_MASTER_KEY__VALUE", "x");
    let output = command.env("PASSMINT_MASTER_KEY__VALUE_FILE", "no.pem").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("master_key.value is given too"));
}

#[test]
fn config_print_shows_what_counts_and_hides_secrets() {
    let server = Server::start();
    let mut command = server.command();
    command.env("PASSMINT_MASTER_KEY__VALUE", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let output = command.args(["config", "print"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("master_key.value").contains("***") && !text.contains("MDEyMzQ1"));
    let throttle = line("throttle.enabled");
    assert!(
        throttle.contains("false") && throttle.ends_with("PASSMINT_THROTTLE__ENABLED"),
        "{text}"
    );
    assert!(line("sessions.idle_lifetime").contains("30d"));
    for setting in [
        "server.trusted_proxies",
        "server.forwarded_header",
        "server.issuer",
        "server.cors_origins",
        "server.tls_cert",
        "server.tls_key",
        "server.behind_tls_proxy",
        "api.invalid_credentials_status",
        "sessions.refresh_with_access_token",
        "sessions.reuse_interval",
        "sessions.max_lifetime",
        "sessions.max_per_user",
        "sessions.end_access_token_on_refresh",
        "sessions.keep_ended",
        "revocation.max_staleness",
        "revocation.feed_max_age",
        "keys.rotate_every",
        "database.url",
        "master_key.file",
        "login.max_wait",
    ] {
        line(setting);
    }
}

#[test]
fn the_master_key_may_come_from_the_environment() {
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let folder = fresh_folder("master-key");
    let file = folder.join("elsewhere.key");
    std::fs::write(&file, key).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // The harness reads master.key for the secrets test.
    std::fs::copy(&file, folder.join("master.key")).unwrap();
    let path = file.to_str().unwrap();
    let mut server = Server::start_on(&folder, &[("MASTER_KEY__FILE", path)]);
    server.add_user("asha");
    let pair = server.login("asha");
    server.stop();
    let server = Server::start_on(&folder, &[("MASTER_KEY__VALUE", key)]);
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
}

#[test]
fn sighup_reloads_what_can_be_reloaded_and_keeps_the_old_on_a_mistake() {
    let mut server = Server::start();
    server.add_user("asha");
    server.stop();
    std::fs::write(server.data.join("passmint.toml"), "").unwrap();
    server.start_again();
    let refused = || server.try_login("asha", "wrong").status;
    let write = |text: &str| {
        std::fs::write(server.data.join("passmint.toml"), text).unwrap();
        reload(&server);
    };
    assert_eq!(refused(), 206);
    write("[api]\ninvalid_credentials_status = 401\n");
    assert_eq!(refused(), 401);
    assert!(server.log().contains(r#""changed":"api.invalid_credentials_status""#));
    std::fs::remove_file(server.data.join("passmint.toml")).unwrap();
    reload(&server);
    assert_eq!(refused(), 401, "a file that is gone is a mistake, too");
    write("[api]\ninvalid_credentials_status = 500\n");
    assert_eq!(refused(), 401, "a mistake changes nothing");
    assert!(server.log().contains("invalid_credentials_status: must be 206 or 401"));
    write("[api]\ninvalid_credentials_status = 206\n[hashing]\npasses = 3\n");
    assert_eq!(refused(), 206);
    assert!(server.log().contains("count from the next start on"));
    // What was verified under the old rules is checked anew.
    let pair = server.login("asha");
    assert_eq!(server.me(&pair.token).status, 200);
    write("[server]\nissuer = \"https://other.example\"\n");
    server.me(&pair.token).is_unauthorized("Error decoding signature.");
    // A plain listener stays plain until the next start.
    write("[server]\ntls_cert = \"/nowhere\"\ntls_key = \"/nowhere\"\n");
    assert_eq!(server.send(get("/healthz")).status, 200);
    // Sessions older than a lowered maximal lifetime end instead of giving dead tokens.
    let pair = server.login("asha");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    write("[sessions]\nidle_lifetime = \"1s\"\nmax_lifetime = \"1s\"\n");
    let answer = server.refresh(&pair.refresh_token);
    answer.is_json(400, r#"{"error":"Refresh token has expired"}"#);
    let explained = server.must(&["session", "explain", &pair.session(), "--json"]);
    assert!(explained.contains("max_lifetime"), "{explained}");
}

#[test]
fn admin_and_public_listeners_are_apart() {
    let server = Server::start();
    let metrics = get("/metrics").try_send(server.admin).unwrap();
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.body.contains("passmint_logins_total{outcome=\"granted\"} 0"),
        "{}",
        metrics.body
    );
    assert_eq!(server.send(get("/metrics")).status, 404);
    assert_eq!(post("/api/v1/token-auth/").try_send(server.admin).unwrap().status, 404);
    assert_eq!(get("/readyz").try_send(server.admin).unwrap().status, 200);
    for (path, body) in [("/healthz", r#"{"status":"ok"}"#), ("/readyz", r#"{"status":"ready"}"#)] {
        server.send(get(path)).is_json(200, body);
    }
    assert_eq!(
        post("/demo/clock").json(r#"{"advance":"1h"}"#).try_send(server.admin).unwrap().status,
        404
    );
}

#[test]
fn the_admin_listener_checks_host() {
    let server = Server::start_with(&[("SERVER__ADMIN_HOSTS", "admin.example")]);
    let with =
        |host: &str| get("/metrics").header("Host", host).try_send(server.admin).unwrap().status;
    for good in ["localhost", "127.0.0.1:8081", "[::1]:1", "admin.example", "ADMIN.example:8081"] {
        assert_eq!(with(good), 200, "{good}");
    }
    for bad in ["evil.example", "169.254.169.254", "localhost.evil.example:8081"] {
        assert_eq!(with(bad), 421, "{bad}");
    }
}

#[test]
fn tls_is_served_and_its_certificate_reloaded() {
    let folder = fresh_folder("tls");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let make = |name: &str| {
        let subject = format!("/CN={name}");
        let output = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-days", "2", "-subj", &subject, "-addext", "subjectAltName=DNS:localhost"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .unwrap();
        assert!(output.status.success());
    };
    make("first");
    std::fs::write(folder.join("passmint.toml"), "").unwrap();
    let server = Server::start_on(
        &folder,
        &[("SERVER__TLS_CERT", cert.to_str().unwrap()), ("SERVER__TLS_KEY", key.to_str().unwrap())],
    );
    let curl = || {
        let url = format!("https://localhost:{}/healthz", server.public.port());
        let connect = format!("localhost:{}:127.0.0.1", server.public.port());
        let output = std::process::Command::new("curl")
            .args(["-sSi", "--resolve", &connect, "--cacert"])
            .arg(&cert)
            .arg(url)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        String::from_utf8_lossy(&output.stdout).into_owned() + &errors
    };
    let answer = curl();
    assert!(answer.contains("strict-transport-security: max-age=31536000\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    make("second");
    assert!(!curl().contains("ok"), "the old certificate is still served");
    std::fs::write(folder.join("passmint.toml"), "[server]\nhsts = \"0s\"\n").unwrap();
    reload(&server);
    let answer = curl();
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    assert!(!answer.contains("strict-transport-security"), "{answer}");
    let mut plain = TcpStream::connect(server.public).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn forwarded_addresses_count_from_trusted_peers_only() {
    let address = |settings: &[(&str, &str)]| {
        let server = Server::start_with(settings);
        server.add_user("asha");
        let form = format!("username=asha&password={PASSWORD}");
        let login =
            post("/api/v1/token-auth/").form(&form).header("X-Forwarded-For", "6.6.6.6, 192.0.2.7");
        let pair = Pair::of(&server.send(login));
        let body = server.send(get("/api/v1/sessions/").jwt(&pair.token)).json();
        body["sessions"][0]["address"].as_str().unwrap().to_owned()
    };
    assert_eq!(address(&[]), "127.0.0.1");
    assert_eq!(address(&[("SERVER__TRUSTED_PROXIES", "10.0.0.0/8")]), "127.0.0.1");
    assert_eq!(address(&[("SERVER__TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8")]), "192.0.2.7");
}

#[test]
fn a_connection_that_says_nothing_and_a_body_that_never_comes_are_cut_off() {
    let server = Server::start();
    let open = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.public).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(40))).unwrap();
        stream
    };
    let mut silent = open(b"");
    let started = std::time::Instant::now();
    let mut waiting = open(
        b"POST /api/v1/token-auth/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
          Content-Length: 100\r\n\r\n{",
    );
    let mut answer = [0; 12];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    let read = silent.read(&mut answer);
    assert!(matches!(read, Ok(0)), "{read:?} after {:?}", started.elapsed());
}
