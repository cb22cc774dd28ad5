//! `passmint serve`: the server as a process: log, signals, socket.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::control::ControlSocket;
use crate::app::{self, Opening, Server};
use crate::clock::SystemClock;
use crate::config::{Config, Sources};
use crate::domain::password::RECOMMENDED_LENGTH;
use crate::http::listener::{Tls, room_for_connections};
use crate::service::Services;
use crate::telemetry::{self, LogLevel, Telemetry, Traces};
use crate::watchdog;

#[derive(Args)]
pub(super) struct Serve {
    /// Make the data folder, and begin without users where a database is missing.
    #[arg(long)]
    init: bool,
}

impl Serve {
    pub(super) async fn run(self, sources: &Sources) -> Result<()> {
        run(sources, if self.init { Opening::Anew } else { Opening::Serve }).await
    }
}

/// More users are not counted at the start.
const MANY_USERS: u32 = 10_000;

async fn run(sources: &Sources, opening: Opening) -> Result<()> {
    let config = Config::load(sources)?;
    app::check_files(&config)?;
    let telemetry = telemetry::start(&config.log, &config.otlp)?;
    if config.password.min_length < RECOMMENDED_LENGTH {
        tracing::warn!(
            min_length = config.password.min_length,
            "new passwords may be shorter than {RECOMMENDED_LENGTH} characters (password.min_length)"
        );
    }
    let database = config.database.sqlite.display().to_string();
    let settings_file = sources.config_file().map(|file| file.display().to_string());
    let services = app::open(config, Arc::new(SystemClock::default()), opening).await?;
    let users = services.users.count(MANY_USERS + 1).await?;
    let server = Server::bind(services.clone(), None)?;
    let (public, admin) = server.urls()?;
    let backend = services.parts.hashing.backend();
    let running = Running::start(server, services, sources.clone(), telemetry, OnHangup::Reload)?;
    tracing::info!(
        public,
        admin,
        database,
        settings = settings_file.as_deref().unwrap_or("none"),
        users = if users > MANY_USERS { format!("over {MANY_USERS}") } else { users.to_string() },
        version = env!("CARGO_PKG_VERSION"),
        argon2 = %backend,
        "ready"
    );
    running.wait().await
}

/// A server that runs and listens to signals.
pub(super) struct Running {
    server: tokio::task::JoinHandle<Result<()>>,
    control: tokio::task::JoinHandle<()>,
    traces: Option<Traces>,
}

impl Running {
    pub(super) fn start(
        server: Server,
        services: Services,
        sources: Sources,
        telemetry: Telemetry,
        on_hangup: OnHangup,
    ) -> Result<Self> {
        let Telemetry { log, traces } = telemetry;
        watchdog::start().context("cannot start the watchdog")?;
        raise_descriptor_limit(services.settings.load().server.limits.connections);
        let socket = services.settings.load().database.socket();
        let control = tokio::spawn(ControlSocket::bind(&socket)?.serve(services.clone()));
        let (stop, stopping) = watch::channel(false);
        let (tls, sources) = (server.tls(), sources.pinned());
        let mut reloader = Reloader { services, tls, sources, log, on_hangup };
        tokio::spawn(async move {
            if let Err(error) = reloader.listen(&stop).await {
                tracing::error!(%error, "signals cannot be received");
            }
            stop.send_replace(true);
        });
        Ok(Self { server: tokio::spawn(server.run(stopping)), control, traces })
    }

    /// Until a signal has stopped the server and everything accepted is answered.
    pub(super) async fn wait(self) -> Result<()> {
        let outcome = self.server.await.context("the server failed")?;
        self.control.abort();
        // The socket's file goes with the task.
        drop(self.control.await);
        if let Some(traces) = self.traces {
            traces.flush().await;
        }
        tracing::info!("stopped");
        outcome
    }
}

/// Takes all file descriptors that this process may have; service managers give 1,024 by default and
/// more on demand. Says so when they are too few.
fn raise_descriptor_limit(wanted: u32) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of file descriptors cannot be raised");
    }
    let room = room_for_connections();
    if room < wanted {
        tracing::warn!(
            room,
            "there are file descriptors for fewer connections than server.max_connections: raise the \
             limit (LimitNOFILE= of systemd), or lower the setting"
        );
    }
}

struct Reloader {
    services: Services,
    tls: Tls,
    sources: Sources,
    log: Option<LogLevel>,
    on_hangup: OnHangup,
}

/// What SIGHUP means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnHangup {
    /// The settings are read anew.
    Reload,
    /// The terminal was closed, and the demo in it ends.
    Stop,
}

impl Reloader {
    /// Returns when the server is to stop.
    async fn listen(&mut self, stop: &watch::Sender<bool>) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => match self.on_hangup {
                    OnHangup::Reload => self.reload().await,
                    OnHangup::Stop => break,
                },
            }
        }
        tracing::info!("stopping: answering what is under way");
        stop.send_replace(true);
        Ok(())
    }

    async fn reload(&mut self) {
        let loaded = Config::load(&self.sources).map_err(anyhow::Error::from);
        // Found now or earlier: it must be there from then on.
        let sources = self.sources.clone().pinned();
        let done = match loaded {
            Ok(new) => app::reload(&self.services, &self.tls, self.log.as_ref(), new).await,
            Err(error) => Err(error),
        };
        self.services.metrics.settings_reloaded(done.is_ok());
        *self.services.parts.reload_failed.lock() =
            done.as_ref().err().map(|error| format!("{error:#}"));
        match done {
            Ok(changed) => {
                self.sources = sources;
                tracing::info!(changed = changed.join(", "), "settings reloaded");
            }
            Err(error) => tracing::error!("settings not reloaded, the old ones stay: {error:#}"),
        }
    }
}
