//! The configurations of docs/how-to/run-behind-a-proxy.md, run by the real proxy.
//!
//! nginx is installed by `scripts/test`; without it these tests fail.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::harness::{Answer, PASSWORD, Pair, Request, Server, fresh_folder, get, post};

const PAGE: &str = include_str!("../../../../docs/how-to/run-behind-a-proxy.md");
const IDENTITY: [&str; 7] = [
    "x-auth-user-id",
    "x-auth-user",
    "x-auth-email",
    "x-auth-roles",
    "x-auth-session",
    "x-auth-client",
    "x-auth-api-key",
];

/// A service that answers every request with what it got: the head, an empty line, the body.
struct Service(SocketAddr);

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer_with_the_request(&stream));
            }
        });
        Self(address)
    }
}

/// nginx closes after each request: that is how it speaks to services by default.
fn answer_with_the_request(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut got = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        got.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    got.push_str(std::str::from_utf8(&body).unwrap());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", got.len());
    let mut writer = stream;
    writer.write_all((head + &got).as_bytes()).unwrap();
}

/// nginx with the blocks of the page in its only `server`.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(passmint: SocketAddr, service: SocketAddr) -> Self {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nginx/nginx");
        assert!(program.exists(), "run scripts/test: it installs nginx");
        let folder = fresh_folder("nginx");
        // Another process may take the port before nginx does.
        for _ in 0..5 {
            let address =
                TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
            let settings = settings(address, passmint, service);
            std::fs::write(folder.join("nginx.conf"), settings).unwrap();
            let mut nginx = Command::new(&program);
            nginx.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "errors.log"]);
            let mut child = nginx.spawn().unwrap();
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self { child, address };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("{}", std::fs::read_to_string(folder.join("errors.log")).unwrap());
    }

    #[expect(clippy::needless_pass_by_value, reason = "tests read better without references")]
    fn send(&self, request: Request) -> Answer {
        request.try_send(self.address).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the page has between "```nginx" and "```", with the addresses of this test.
fn settings(listen: SocketAddr, passmint: SocketAddr, service: SocketAddr) -> String {
    let blocks = PAGE.split("```nginx\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let site: String = blocks.collect();
    assert!(site.contains("127.0.0.1:8080") && site.contains("127.0.0.1:9000"));
    let site = site
        .replace("127.0.0.1:8080", &passmint.to_string())
        .replace("127.0.0.1:9000", &service.to_string());
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(temporary, "{kind}_temp_path {kind};").unwrap();
    }
    format!(
        "daemon off; master_process off; pid nginx.pid; events {{}}
         http {{ access_log off; {temporary} server {{ listen {listen}; {site} }} }}"
    )
}

fn start() -> (Server, Nginx) {
    let server = Server::start_with(&[("SERVER__TRUSTED_PROXIES", "127.0.0.1")]);
    server.add_user_with("asha", &["--role", "clerk"], PASSWORD);
    let nginx = Nginx::start(server.public, Service::start().0);
    (server, nginx)
}

/// A login through nginx, from that address.
fn log_in(nginx: &Nginx, from: &str) -> Pair {
    let body = serde_json::json!({ "username": "asha", "password": PASSWORD }).to_string();
    let login = post("/api/v1/token-auth/").header("X-Forwarded-For", from).json(&body);
    Pair::of(&nginx.send(login))
}

#[test]
fn behind_nginx_one_name_has_the_login_and_what_it_guards() {
    let (server, nginx) = start();
    let pair = log_in(&nginx, "192.0.2.7");
    assert_eq!(nginx.send(get("/api/v1/me/").jwt(&pair.token)).json()["username"], "asha");
    let refresh = serde_json::json!({ "refresh_token": pair.refresh_token }).to_string();
    let pair = Pair::of(&nginx.send(post("/api/v1/token-refresh/").json(&refresh)));
    assert_eq!(nginx.send(get("/.well-known/jwks.json")).status, 200);
    // The address is the one that nginx saw: what its client says of itself does not count.
    let sessions = server.must(&["session", "list", "asha", "--json"]);
    assert!(sessions.contains("127.0.0.1") && !sessions.contains("192.0.2.7"), "{sessions}");

    for request in [get("/api/v1/invoices/?q=1"), post("/orders/7").body("text/plain", "12 pens")] {
        let mut request = request.jwt(&pair.token);
        for name in IDENTITY {
            request = request.header(name, "forged");
        }
        let answer = nginx.send(request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let got = answer.body.to_ascii_lowercase();
        assert!(got.contains("x-auth-user: asha\r\n"), "{got}");
        assert!(got.contains("x-auth-roles: clerk\r\n"), "{got}");
        assert!(!got.contains("forged"), "{got}");
        assert_eq!(got.contains("12 pens"), got.starts_with("post "), "{got}");
    }
}

#[test]
fn behind_nginx_a_refusal_is_passmints_own() {
    let (server, nginx) = start();
    let pair = log_in(&nginx, "192.0.2.7");
    let wrong = format!("{}x", pair.token);
    for request in [get("/api/v1/invoices/"), post("/orders/7").body("text/plain", "12 pens")] {
        for (request, directly) in [
            (request.clone(), get("/forward-auth")),
            (request.clone().jwt(&wrong), get("/forward-auth").jwt(&wrong)),
        ] {
            nginx.send(request).is_json(401, &server.send(directly).body);
        }
        let refused = nginx.send(request);
        assert_eq!(refused.header("www-authenticate"), Some(r#"JWT realm="api""#));
    }
    assert_eq!(nginx.send(get("/orders/7").jwt(&pair.token)).status, 200);
    assert_eq!(nginx.send(post("/api/v1/logout/").jwt(&pair.token)).status, 204);
    nginx.send(get("/orders/7").jwt(&pair.token)).is_unauthorized("Token has been revoked.");
}

#[test]
fn behind_nginx_nothing_is_let_through_when_passmint_is_gone() {
    let (mut server, nginx) = start();
    let pair = log_in(&nginx, "192.0.2.7");
    server.kill();
    let refused = nginx.send(get("/orders/7").jwt(&pair.token));
    assert_eq!(refused.status, 500, "{}", refused.body);
    assert!(!refused.body.contains("GET /orders"), "{}", refused.body);
}
