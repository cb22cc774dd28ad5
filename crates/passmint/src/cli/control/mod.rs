//! How a command gets its work done: by a running server through its socket, or by itself.
//!
//! The socket has mode 0600 and lies beside the database. One connection carries one request and one
//! reply, each a line of JSON. `request` is what can be asked, `execute` does it; both ends of the
//! socket and commands without a server use the same.

mod execute;
mod request;

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::fs::Mode;
use rustix::process::umask;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use zeroize::Zeroizing;

use crate::app::{self, Opening};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::service::Services;
use crate::store::sqlite::LockError;

pub(super) use execute::show_settings;
pub(super) use request::{AuditPage, Request, UserSet};

/// The longest line either side accepts.
const MAX_LINE: u64 = 16 * 1024 * 1024;
/// How long a command waits for a server that holds the database but does not listen yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the server waits for a command's request.
const READ_WITHIN: Duration = Duration::from_mins(1);

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Done(Value),
    Refused(String),
}

/// Has `request` done by the server if one runs, by this process otherwise.
pub(super) async fn send(config: &Config, request: Request) -> Result<Value> {
    let started = std::time::Instant::now();
    loop {
        if let Some(stream) = connect(&config.database.socket()).await? {
            return exchange(stream, &request).await;
        }
        let path = config.database.sqlite.display();
        let new = !config.database.sqlite.exists();
        if new && !request.may_begin() {
            bail!(
                "there is no database at {path}: name its folder with --data, or set database.url; if there is to be a \
                 new one, `serve`, `user add` and `user import` make it"
            );
        }
        let clock = Arc::new(SystemClock::default());
        match app::open(config.clone(), clock, Opening::Command).await {
            Ok(services) => {
                if new {
                    say!("passmint: there was no database at {path}: made one.");
                }
                return execute::execute(&services, request).await;
            }
            Err(error) if is_held(&error) && started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether a server answers on the socket; an error when that cannot be told.
pub(super) async fn server_runs(config: &Config) -> Result<bool> {
    Ok(connect(&config.database.socket()).await?.is_some())
}

fn is_held(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LockError::Held(_)))
}

/// A path of any length: socket addresses hold 108 bytes, so the folder is named by descriptor.
struct ShortPath {
    path: PathBuf,
    _folder: std::fs::File,
}

impl ShortPath {
    fn of(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = std::fs::File::open(folder.unwrap_or(Path::new(".")))?;
        let name = path.file_name().unwrap_or_default();
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: folder })
    }
}

async fn connect(socket: &Path) -> Result<Option<UnixStream>> {
    let missing = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    };
    let short = match ShortPath::of(socket) {
        Ok(short) => short,
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(unreachable(socket, error)),
    };
    match UnixStream::connect(&short.path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(unreachable(socket, error)),
    }
}

/// Why a command does not get through, and what to do where that is known.
fn unreachable(socket: &Path, error: io::Error) -> anyhow::Error {
    let shown = socket.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => anyhow!(
            "{shown} is another user's: run this as the user that the server runs as, or as root"
        ),
        io::ErrorKind::NotADirectory => {
            anyhow!("{shown} cannot be there: --data wants a folder, and this is a file")
        }
        _ => anyhow!(error).context(format!("cannot reach the running server through {shown}")),
    }
}

async fn exchange(mut stream: UnixStream, request: &Request) -> Result<Value> {
    let lost = "the server went away before it answered";
    let mut line = Zeroizing::new(serde_json::to_string(request)?);
    line.push('\n');
    stream.write_all(line.as_bytes()).await.context(lost)?;
    let mut reply = String::new();
    BufReader::new(stream).take(MAX_LINE).read_line(&mut reply).await.context(lost)?;
    match serde_json::from_str(&reply).context(lost)? {
        Reply::Done(value) => Ok(value),
        Reply::Refused(why) => Err(anyhow!(why)),
    }
}

/// The server's end of the socket. The file is removed when it is dropped.
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds. The database's lock is held, so a socket that is there already is a dead server's.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let bind = || -> io::Result<UnixListener> {
            let fresh = path.with_extension("sock-new");
            drop(std::fs::remove_file(&fresh));
            // Nobody else may use it, from the moment it is there.
            let before = umask(Mode::from_raw_mode(0o177));
            let listener = UnixListener::bind(&ShortPath::of(&fresh)?.path);
            umask(before);
            let listener = listener?;
            std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&fresh, path)?;
            Ok(listener)
        };
        let listener = bind().with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers requests until it is dropped.
    pub(super) async fn serve(self, services: Services) {
        loop {
            match self.listener.accept().await {
                // Whatever the file's mode says: the server's own user, or root.
                Ok((stream, _)) if !is_own_user(&stream) => {
                    tracing::warn!("a command of another user was refused");
                }
                Ok((stream, _)) => {
                    let services = services.clone();
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, &services).await {
                            tracing::debug!(%error, "a command went away");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a command could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

fn is_own_user(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

async fn answer(stream: UnixStream, services: &Services) -> Result<()> {
    let mut stream = BufReader::new(stream);
    // It may hold a password.
    let mut line = Zeroizing::new(String::new());
    tokio::time::timeout(READ_WITHIN, (&mut stream).take(MAX_LINE).read_line(&mut line))
        .await
        .context("its request did not come")??;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => match execute::execute(services, request).await {
            Ok(value) => Reply::Done(value),
            Err(error) => Reply::Refused(format!("{error:#}")),
        },
        Err(_) => Reply::Refused(
            "the running server does not know this command: it is of another version".to_owned(),
        ),
    };
    let mut line = serde_json::to_string(&reply)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}
