//! The server under test: starts it on a data folder, waits until it is ready, adds users, stops
//! it. The only place that knows its command line, its environment and its log lines.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
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

/// A server binary and the data folder it works on.
pub(crate) struct Installation {
    binary: PathBuf,
    folder: PathBuf,
}

impl Installation {
    /// The given binary on the given folder.
    pub(crate) fn new(binary: &Path, folder: &Path) -> Result<Self> {
        let binary = binary
            .canonicalize()
            .with_context(|| format!("no server binary at {}", binary.display()))?;
        let folder = folder.canonicalize().context("no data folder")?;
        Ok(Self { binary, folder })
    }

    /// The path of the database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    /// Adds a user through the operator's command; works while the server runs and while not.
    pub(crate) fn add_user(&self, name: &str, password: &str) -> Result<()> {
        let child = self
            .command(&["user", "add", name, "--password-stdin"], 0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `passmint user add`")?;
        let mut process = Process::new(child);
        let mut stdin = process.child().stdin.take().context("no stdin")?;
        writeln!(stdin, "{password}")?;
        drop(stdin);
        let stderr = process.child().stderr.take().context("no stderr")?;
        let lines: Vec<_> = BufReader::new(stderr).lines().map_while(Result::ok).collect();
        let status = process.child().wait()?;
        ensure!(status.success(), "`user add {name}` failed ({status}): {}", lines.join(" | "));
        Ok(())
    }

    /// Starts the server and waits for its "ready" line.
    pub(crate) fn start(&self) -> Result<Server> {
        let mut process = self.spawn(0)?;
        let stderr = process.child().stderr.take().context("no stderr")?;
        let address = wait_until_ready(stderr)?;
        Ok(Server { process, address })
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
        let mut server = Server { process, address };
        loop {
            if let Ok((200, _)) = http::exchange(address, &readyz) {
                return Ok((server, begin.elapsed()));
            }
            if let Some(status) = server.process.ended()? {
                bail!("the server ended ({status}): {}", log.join().unwrap_or_default());
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
            .env("PASSMINT_LOG__FORMAT", "json");
        command
    }
}

/// A running server.
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// The address of the public listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u32> {
        self.process.resident_kib()
    }

    /// Stops the server as an operator would, and insists that it ends well.
    pub(crate) fn stop(self) -> Result<()> {
        let status = self.process.terminate(STOP_LIMIT).context("the server does not stop")?;
        ensure!(status.success(), "the server ended badly: {status}");
        Ok(())
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

fn wait_until_ready(stderr: ChildStderr) -> Result<SocketAddr> {
    let (sender, receiver) = mpsc::channel();
    let log = drain(stderr, Some(sender));
    match receiver.recv_timeout(START_LIMIT) {
        Ok(url) => url
            .strip_prefix("http://")
            .and_then(|rest| rest.trim_end_matches('/').parse().ok())
            .with_context(|| format!("the ready line names {url:?} as its public address")),
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("no ready line on stderr"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            bail!("the server ended before it was ready: {}", log.join().unwrap_or_default())
        }
    }
}

/// Reads the log to its end on a thread, so that the server never blocks on a full pipe. Sends
/// the public base URL when the "ready" line comes; gives back the last lines.
fn drain(
    stderr: ChildStderr,
    mut ready: Option<mpsc::Sender<String>>,
) -> thread::JoinHandle<String> {
    const KEPT: usize = 5;
    thread::spawn(move || {
        let mut last = Vec::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if ready.is_some()
                && let Some(url) = public_url(&line)
                && let Some(sender) = ready.take()
            {
                // The receiver may have given up; then the line no longer matters.
                let _ = sender.send(url);
            }
            if last.len() == KEPT {
                last.remove(0);
            }
            last.push(line);
        }
        last.join(" | ")
    })
}

fn public_url(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line.get("message")?.as_str()? != "ready" {
        return None;
    }
    line.get("public")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_url_is_taken_from_the_ready_line_only() {
        let ready =
            r#"{"level":"INFO","message":"ready","public":"http://127.0.0.1:4","admin":"x"}"#;
        assert_eq!(public_url(ready).as_deref(), Some("http://127.0.0.1:4"));
        assert_eq!(public_url(r#"{"message":"starting","public":"http://127.0.0.1:4"}"#), None);
        assert_eq!(public_url("not json"), None);
    }
}
