//! Starts the real server, and keeps what the last test looks at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use crate::http::{Answer, Request, get, post, request};

/// The binary under test.
pub(crate) const PASSMINT: &str = env!("CARGO_BIN_EXE_passmint");
/// The password of every user that a test does not care about; long enough for the policy.
pub(crate) const PASSWORD: &str = "canary-Password-of-1-user";

/// Where everything that a run leaves behind is kept, for `secrets`.
pub(crate) fn kept() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kept")
}

/// A folder of its own below [`kept`].
pub(crate) fn fresh_folder(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = kept().join(format!("{name}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Notes a secret that must never be found in what a server writes.
pub(crate) fn note_secret(secret: &str) {
    let path = kept().join(format!("secrets-{}.txt", std::process::id()));
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{secret}").unwrap();
}

/// A running server, or one that can be started again on the same data.
pub(crate) struct Server {
    pub(crate) data: PathBuf,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    child: Option<Child>,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// `passmint serve` with defaults, but without throttle.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with settings, as in `("SESSIONS__REUSE_INTERVAL", "2s")`.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_on(&fresh_folder("server"), settings)
    }

    /// The same on a folder that may hold data already.
    pub(crate) fn start_on(data: &Path, settings: &[(&str, &str)]) -> Self {
        Self::launch(data, &["serve"], settings)
    }

    /// `passmint demo --clock`, whose clock [`Server::advance`] turns.
    pub(crate) fn demo(settings: &[(&str, &str)]) -> Self {
        Self::launch(&fresh_folder("demo"), &["demo", "--clock"], settings)
    }

    fn launch(data: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in [
            ("SERVER__LISTEN", "127.0.0.1:0"),
            ("SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
            ("THROTTLE__ENABLED", "false"),
            ("LOG__FORMAT", "json"),
            ("LOG__LEVEL", "info,passmint=debug"),
        ]
        .iter()
        .chain(settings)
        {
            // What others read: the runtime, the loader, a library that sets the clock.
            let foreign = ["TOKIO_", "LD_", "FAKETIME"].iter().any(|part| name.starts_with(part));
            let prefix = if foreign { "" } else { "PASSMINT_" };
            environment.insert(format!("{prefix}{name}"), (*value).to_owned());
        }
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            data: data.to_owned(),
            environment: environment.into_iter().collect(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            child: None,
            public: unknown,
            admin: unknown,
        };
        server.start_again();
        server
    }

    /// A command of the binary with this server's settings and data.
    pub(crate) fn command(&self) -> Command {
        self.set_up(Command::new(PASSMINT))
    }

    fn set_up(&self, mut command: Command) -> Command {
        command.env_clear().envs(self.environment.iter().cloned());
        command.arg("--data").arg(&self.data).current_dir(&self.data);
        command
    }

    /// Starts the process and waits until it is ready.
    pub(crate) fn start_again(&mut self) {
        let mut command = self.command();
        command.args(&self.arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, ready) = mpsc::channel();
        let log = self.data.join("log.jsonl");
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || copy_log(stderr, &log, &sender));
        let demo = self.arguments[0] == "demo";
        let stdout = child.stdout.take().unwrap();
        let (banner_sender, banner) = mpsc::channel();
        std::thread::spawn(move || read_banner(stdout, &banner_sender));
        self.child = Some(child);
        let (public, admin) = if demo {
            banner.recv_timeout(Duration::from_secs(20)).expect("the demo printed no banner")
        } else {
            ready.recv_timeout(Duration::from_secs(20)).expect("the server did not get ready")
        };
        self.public = public;
        self.admin = admin;
        note_secret(std::fs::read_to_string(self.data.join("master.key")).unwrap().trim());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let done =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(done.unwrap().success());
    }

    /// `kill -9`, and the process is gone.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait(&mut self) {
        self.child.take().unwrap().wait().unwrap();
    }

    /// SIGTERM; how long it took to exit, and its code.
    pub(crate) fn stop(&mut self) -> (Duration, Option<i32>) {
        self.keep_metrics();
        let started = Instant::now();
        self.signal("TERM");
        let status = self.child.take().unwrap().wait().unwrap();
        (started.elapsed(), status.code())
    }

    /// Its metrics as text.
    pub(crate) fn metrics(&self) -> String {
        get("/metrics").try_send(self.admin).unwrap().body
    }

    fn keep_metrics(&self) {
        if let Ok(answer) = get("/metrics").try_send(self.admin) {
            std::fs::write(self.data.join("metrics.txt"), answer.body).unwrap();
        }
    }

    /// Everything the server has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("log.jsonl")).unwrap_or_default()
    }

    /// Runs a command beside the server. One that does not end is ended after a minute: a server that
    /// should have refused to start fails its test.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut limited = Command::new("timeout");
        limited.args(["60", PASSMINT]);
        self.set_up(limited).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// The same, and it must succeed; what it printed.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same with something on standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        run_with_input(&mut self.command(), arguments, input)
    }

    /// Adds a user with [`PASSWORD`].
    pub(crate) fn add_user(&self, name: &str) -> i64 {
        self.add_user_with(name, &[], PASSWORD)
    }

    pub(crate) fn add_user_with(&self, name: &str, options: &[&str], password: &str) -> i64 {
        note_secret(password);
        let mut arguments = vec!["user", "add", name, "--password-stdin", "--json"];
        arguments.extend(options);
        let output = self.run_with_input(&arguments, &format!("{password}\n"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let added: Value = serde_json::from_slice(&output.stdout).unwrap();
        added["id"].as_i64().unwrap()
    }

    /// Logs a user with [`PASSWORD`] in.
    pub(crate) fn login(&self, name: &str) -> Pair {
        self.login_with(name, PASSWORD)
    }

    pub(crate) fn login_with(&self, name: &str, password: &str) -> Pair {
        Pair::of(&self.try_login(name, password))
    }

    pub(crate) fn try_login(&self, name: &str, password: &str) -> Answer {
        let body = serde_json::json!({ "username": name, "password": password });
        self.send(post("/api/v1/token-auth/").json(&body.to_string()))
    }

    pub(crate) fn refresh(&self, token: &str) -> Answer {
        let body = serde_json::json!({ "refresh_token": token });
        self.send(post("/api/v1/token-refresh/").json(&body.to_string()))
    }

    /// The status of `/api/v1/me/` with that access token: 200 while it lives.
    pub(crate) fn me(&self, token: &str) -> Answer {
        self.send(get("/api/v1/me/").jwt(token))
    }

    /// Sends a request to the public listener; refusals are kept for `secrets`.
    #[expect(clippy::needless_pass_by_value, reason = "tests read better without references")]
    pub(crate) fn send(&self, request: Request) -> Answer {
        let answer = request.try_send(self.public).unwrap();
        if answer.status != 200 {
            let path = self.data.join("refusals.txt");
            let mut file = File::options().create(true).append(true).open(path).unwrap();
            writeln!(file, "{} {}", answer.status, answer.body).unwrap();
        }
        answer
    }

    /// Turns the demo's clock on.
    pub(crate) fn advance(&self, span: &str) {
        let body = serde_json::json!({ "advance": span }).to_string();
        let answer = post("/demo/clock").json(&body).try_send(self.admin).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.public)
    }
}

/// Sends SIGHUP and waits for what the log says of it.
#[track_caller]
pub(crate) fn reload(server: &Server) {
    let before = server.log().matches("reloaded").count();
    server.signal("HUP");
    for _ in 0..100 {
        if server.log().matches("reloaded").count() > before {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("no word of a reload");
}

/// Runs a command with something on standard input.
pub(crate) fn run_with_input(command: &mut Command, arguments: &[&str], input: &str) -> Output {
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its arguments does not read.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.keep_metrics();
        }
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn copy_log(
    stderr: std::process::ChildStderr,
    path: &Path,
    ready: &mpsc::Sender<(SocketAddr, SocketAddr)>,
) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        writeln!(file, "{line}").unwrap();
        let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
        if entry["message"] == "ready" {
            let address = |name: &str| url_address(entry[name].as_str().unwrap());
            let _ = ready.send((address("public"), address("admin")));
        }
    }
}

fn read_banner(
    mut stdout: std::process::ChildStdout,
    ready: &mpsc::Sender<(SocketAddr, SocketAddr)>,
) {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stdout.read(&mut chunk) {
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        if text.contains("Ctrl-C") {
            let find = |mark: &str| {
                let line = text.lines().find(|line| line.contains(mark)).unwrap();
                let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap();
                url_address(url)
            };
            let _ = ready.send((find("ready at"), find("Metrics")));
        }
    }
}

fn url_address(url: &str) -> SocketAddr {
    let rest = url.split_once("://").unwrap().1;
    rest.split('/').next().unwrap().parse().unwrap()
}

/// An access token with its refresh token.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) token: String,
    pub(crate) refresh_token: String,
}

impl Pair {
    /// From a 200; both are noted as secrets.
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body = answer.json();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let pair = Self { token: text("token"), refresh_token: text("refresh_token") };
        note_secret(&pair.token);
        note_secret(&pair.refresh_token);
        pair
    }

    /// What the access token says, unverified.
    pub(crate) fn claims(&self) -> Value {
        claims(&self.token)
    }

    pub(crate) fn session(&self) -> String {
        self.claims()["sid"].as_str().unwrap().to_owned()
    }
}

/// One part of a JWS, decoded.
pub(crate) fn part(token: &str, index: usize) -> Vec<u8> {
    use base64::Engine as _;
    let part = token.split('.').nth(index).unwrap();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()
}

pub(crate) fn claims(token: &str) -> Value {
    serde_json::from_slice(&part(token, 1)).unwrap()
}
