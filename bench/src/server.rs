//! The server under test: starts it on a data folder, waits until it is ready, adds users, stops
//! it. The only place that knows its command line, its environment and its log lines.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::http;
use crate::process::Process;

/// How long a start may take before it counts as failed.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a stop may take; the server drains what is under way.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often readiness is asked for.
const POLL_EVERY: Duration = Duration::from_millis(1);
/// The file of the database inside the data folder.
const DATABASE: &str = "passmint.db";

/// A setting as an environment variable: its name and its value.
pub(crate) type Setting = (&'static str, &'static str);

/// A server binary, the data folder it works on, and settings that differ from those of the
/// figures.
pub(crate) struct Installation {
    binary: PathBuf,
    folder: PathBuf,
    settings: Vec<Setting>,
}

impl Installation {
    /// The given binary on the given folder.
    pub(crate) fn new(binary: &Path, folder: &Path) -> Result<Self> {
        let binary = binary
            .canonicalize()
            .with_context(|| format!("no server binary at {}", binary.display()))?;
        let folder = folder.canonicalize().context("no data folder")?;
        Ok(Self { binary, folder, settings: Vec::new() })
    }

    /// The same with these settings, which go before the ones it has.
    pub(crate) fn with(mut self, settings: &[Setting]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    /// The path of the database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    /// Adds a user through the operator's command; works while the server runs and while not.
    pub(crate) fn add_user(&self, name: &str, password: &str) -> Result<()> {
        let arguments = ["user", "add", name, "--password-stdin"];
        let (status, said) = self.run_with_input(&arguments, &format!("{password}\n"))?;
        ensure!(status.success(), "`user add {name}` failed ({status}): {said}");
        Ok(())
    }

    /// Imports users, a JSON object a line; what the command says, among it who was refused.
    pub(crate) fn import(&self, lines: &str) -> Result<String> {
        let (status, said) = self.run_with_input(&["user", "import", "-"], lines)?;
        let code = status.code();
        ensure!(matches!(code, Some(0 | 1)), "`user import` failed ({status}): {said}");
        Ok(said)
    }

    /// The status and standard error of a command.
    fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<(ExitStatus, String)> {
        let child = self
            .command(arguments, 0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run `passmint {}`", arguments.join(" ")))?;
        let mut process = Process::new(child);
        let mut stdin = process.child().stdin.take().context("no stdin")?;
        let mut stderr = process.child().stderr.take().context("no stderr")?;
        let mut said = String::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                // A command that refuses its arguments does not read.
                drop(stdin.write_all(input.as_bytes()));
                drop(stdin);
            });
            stderr.read_to_string(&mut said)
        })?;
        Ok((process.child().wait()?, said))
    }

    /// Starts the server and waits for its "ready" line.
    pub(crate) fn start(&self) -> Result<Server> {
        let mut process = self.spawn(0)?;
        let stderr = process.child().stderr.take().context("no stderr")?;
        let (Ready { public: address, admin }, log) = wait_until_ready(stderr)?;
        Ok(Server { process, address, admin, log })
    }

    /// Starts the server and measures the time from the spawn until `/readyz` answers 200, asked
    /// every millisecond on a new connection.
    pub(crate) fn time_start(&self) -> Result<(Server, Duration)> {
        // The port must be known before the server says so.
        let address = free_address()?;
        let readyz = http::get("/readyz", None);
        let begin = Instant::now();
        let mut process = self.spawn(address.port())?;
        let stderr = process.child().stderr.take().context("no stderr")?;
        let log = drain(stderr, None);
        // Nobody asks for the metrics of a server that is started only to see how long it takes.
        let mut server = Server { process, address, admin: address, log };
        loop {
            if let Ok((200, _)) = http::exchange(address, &readyz) {
                return Ok((server, begin.elapsed()));
            }
            if let Some(status) = server.process.ended()? {
                bail!("the server ended ({status}): {}", server.log.join().unwrap_or_default());
            }
            ensure!(begin.elapsed() < START_LIMIT, "not ready in {} s", START_LIMIT.as_secs());
            thread::sleep(POLL_EVERY);
        }
    }

    fn spawn(&self, port: u16) -> Result<Process> {
        let child = self
            .command(&["serve"], port)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        Ok(Process::new(child))
    }

    fn command(&self, arguments: &[&str], port: u16) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(&self.folder)
            // Settings of the caller's shell must not change what is measured.
            .env_clear()
            .env("PASSMINT_DATABASE__URL", format!("sqlite://{}", self.database().display()))
            .env("PASSMINT_SERVER__LISTEN", format!("127.0.0.1:{port}"))
            .env("PASSMINT_SERVER__ADMIN_LISTEN", "127.0.0.1:0")
            .env("PASSMINT_THROTTLE__ENABLED", "false")
            .env("PASSMINT_LOG__FORMAT", "json")
            .envs(self.settings.iter().copied());
        command
    }
}

/// A running server.
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    /// Reads the log to its end.
    log: thread::JoinHandle<Log>,
}

/// How a server ended.
pub(crate) struct Ending {
    /// From SIGTERM until the process was gone.
    pub(crate) took: Duration,
    /// The lines of the whole log that tell of a panic.
    pub(crate) panics: Vec<String>,
}

/// What the store has committed so far, by its metrics.
#[derive(Clone, Copy)]
pub(crate) struct Commits {
    commits: u64,
    writes: u64,
}

impl Commits {
    /// The mean number of writes in a commit since `before`, at least 1.
    pub(crate) fn batch_since(self, before: Self) -> usize {
        let commits = (self.commits - before.commits).max(1);
        let writes = self.writes - before.writes;
        usize::try_from((writes + commits / 2) / commits).unwrap_or(1).max(1)
    }
}

impl Server {
    /// The address of the public listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its store has committed.
    pub(crate) fn commits(&self) -> Result<Commits> {
        let mut stream = TcpStream::connect(self.admin)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse().ok())
                .with_context(|| format!("no {name} in the metrics"))
        };
        Ok(Commits {
            commits: value("passmint_store_commits_total ")?,
            writes: value("passmint_store_writes_total ")?,
        })
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u32> {
        self.process.resident_kib()
    }

    /// Open descriptors: files, and a socket for each connection.
    pub(crate) fn descriptors(&self) -> Result<u32> {
        self.process.descriptors()
    }

    /// Stops the server as an operator would, and insists that it ends well and never panicked.
    pub(crate) fn stop(self) -> Result<()> {
        let ending = self.end()?;
        let first = ending.panics.first();
        ensure!(first.is_none(), "the server panicked: {}", first.cloned().unwrap_or_default());
        Ok(())
    }

    /// Stops the server as an operator would, and insists that it ends well.
    pub(crate) fn end(self) -> Result<Ending> {
        let terminated = Instant::now();
        let status = self.process.terminate(STOP_LIMIT).context("the server does not stop")?;
        let took = terminated.elapsed();
        let log = self.log.join().unwrap_or_default();
        ensure!(status.success(), "the server ended badly ({status}): {log}");
        Ok(Ending { took, panics: log.panics })
    }

    /// The process's status, if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }
}

/// A local address that was free a moment ago, below the range from which the system takes the
/// near ends of connections: in that range a connection attempt may meet itself, and then the
/// server could not listen.
fn free_address() -> Result<SocketAddr> {
    const PORTS: Range<u16> = 20_000..32_000;
    PORTS
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .context("no free port")
}

/// What the "ready" line names.
#[derive(Debug, PartialEq, Eq)]
struct Ready {
    public: SocketAddr,
    admin: SocketAddr,
}

/// What is kept of a log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    /// The last lines.
    last: VecDeque<String>,
    /// Those that tell of a panic, the first ones.
    panics: Vec<String>,
}

impl Log {
    fn push(&mut self, line: String) {
        const KEPT: usize = 5;
        if line.contains("panic") && self.panics.len() < KEPT {
            self.panics.push(line.clone());
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.last.iter().try_for_each(|line| write!(f, "{line} | "))
    }
}

fn wait_until_ready(stderr: ChildStderr) -> Result<(Ready, thread::JoinHandle<Log>)> {
    let (sender, receiver) = mpsc::channel();
    let log = drain(stderr, Some(sender));
    match receiver.recv_timeout(START_LIMIT) {
        Ok(ready) => Ok((ready, log)),
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("no ready line on stderr"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            bail!("the server ended before it was ready: {}", log.join().unwrap_or_default())
        }
    }
}

/// Reads the log to its end on a thread, so that the server never blocks on a full pipe. Sends
/// the addresses when the "ready" line comes.
fn drain(stderr: ChildStderr, mut ready: Option<mpsc::Sender<Ready>>) -> thread::JoinHandle<Log> {
    thread::spawn(move || {
        let mut log = Log::default();
        // Line by line, but not as text: a line that is no UTF-8 must not end the reading.
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if ready.is_some()
                && let Some(addresses) = ready_line(&line)
                && let Some(sender) = ready.take()
            {
                // The receiver may have given up; then the line no longer matters.
                let _ = sender.send(addresses);
            }
            log.push(line);
        }
        log
    })
}

fn ready_line(line: &str) -> Option<Ready> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line.get("message")?.as_str()? != "ready" {
        return None;
    }
    let address = |name: &str| line.get(name)?.as_str()?.strip_prefix("http://")?.parse().ok();
    Some(Ready { public: address("public")?, admin: address("admin")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_remembered_however_long_the_log_goes_on() {
        let mut log = Log::default();
        log.push("thread 'x' panicked at src/y.rs:1:1:".to_owned());
        (0..100).for_each(|number| log.push(format!("line {number}")));
        assert_eq!(log.panics, ["thread 'x' panicked at src/y.rs:1:1:"]);
        assert_eq!(log.to_string(), "line 95 | line 96 | line 97 | line 98 | line 99 | ");
    }

    #[test]
    fn the_addresses_are_taken_from_the_ready_line_only() {
        let addresses = r#""public":"http://127.0.0.1:4","admin":"http://127.0.0.1:5""#;
        let ready = format!(r#"{{"level":"INFO","message":"ready",{addresses}}}"#);
        let expected = Ready {
            public: SocketAddr::from(([127, 0, 0, 1], 4)),
            admin: SocketAddr::from(([127, 0, 0, 1], 5)),
        };
        assert_eq!(ready_line(&ready), Some(expected));
        assert_eq!(ready_line(&format!(r#"{{"message":"starting",{addresses}}}"#)), None);
        assert_eq!(ready_line("not json"), None);
    }
}
