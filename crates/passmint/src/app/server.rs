//! A server whose listeners are bound, and how it runs until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::admin::{self, AllowedHosts, DemoClock};
use crate::clock::TurnableClock;
use crate::config::Config;
use crate::domain::audit::{AuditEvent, AuditKind, By};
use crate::domain::time::Timestamp;
use crate::http::listener::{Listener, Tls};
use crate::http::{Health, PublicState, router};
use crate::service::Services;
use crate::service::maintenance::Maintenance;

/// A server whose listeners are bound.
pub struct Server {
    services: Services,
    health: Arc<Health>,
    public: TcpListener,
    admin: TcpListener,
    tls: Tls,
    clock: Option<Arc<TurnableClock>>,
}

impl Server {
    /// Binds both listeners for the services.
    pub fn bind(services: Services, clock: Option<Arc<TurnableClock>>) -> Result<Self> {
        let config = services.settings.load_full();
        let server = &config.server;
        let tls = Tls::default();
        if let Some(until) = load_tls(&tls, &config)? {
            note_certificate(&services, until);
        }
        let public = bind(server.listen, "server.listen")?;
        let admin = bind(server.admin_listen, "server.admin_listen")?;
        Ok(Self { services, health: Arc::default(), public, admin, tls, clock })
    }

    /// Where the public and the admin listener are, as URLs.
    pub fn urls(&self) -> Result<(String, String)> {
        let tls = self.services.settings.load().server.tls_cert.is_some();
        let scheme = if tls { "https" } else { "http" };
        let public = format!("{scheme}://{}", self.public.local_addr()?);
        Ok((public, format!("http://{}", self.admin.local_addr()?)))
    }

    /// Serves until `stop` turns true and everything accepted is answered.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<()> {
        let state = PublicState::new(self.services.clone(), Arc::clone(&self.health));
        let config = self.services.settings.load_full();
        let hosts = AllowedHosts::new(self.admin.local_addr()?.ip(), &config.server.admin_hosts);
        let public = router::public(state.clone());
        let (parts, keys) = (Arc::clone(&self.services.parts), self.services.keys.clone());
        let maintenance = Arc::new(Maintenance::new(Arc::clone(&parts), keys));
        let clock = self.clock.map(|clock| DemoClock::new(clock, Arc::clone(&maintenance)));
        let admin = admin::router(state, self.services.clone(), hosts, clock);
        let version = env!("CARGO_PKG_VERSION");
        parts.note(By::SERVER, AuditEvent::new(AuditKind::ServerStarted).with("version", version));
        self.services.metrics.store_available(true);
        let maintenance = tokio::spawn(async move { maintenance.run().await });
        let (health, draining) = (Arc::clone(&self.health), Arc::clone(&parts));
        let mut stopping = stop.clone();
        let drain = tokio::spawn(async move {
            drop(stopping.wait_for(|stop| *stop).await);
            health.drain();
            draining.hashing.stop_waiting();
        });
        let listener = |socket, tls, router| {
            let (settings, metrics) =
                (Arc::clone(&self.services.settings), Arc::clone(&self.services.metrics));
            Listener { socket, tls, router, settings, metrics }
        };
        tokio::join!(
            listener(self.public, self.tls, public).serve(stop.clone()),
            listener(self.admin, Tls::default(), admin).serve(stop),
        );
        finish_detached(&self.services.parts.detached).await;
        crate::watchdog::all_is_answered();
        drain.abort();
        maintenance.abort();
        self.services.parts.keep_throttles().await;
        self.services.parts.note_folded_refusals();
        self.services.parts.keep_clocks_or_warn().await;
        Ok(())
    }

    /// The TLS side, for reloading.
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }
}

/// Waits for work whose clients have gone away: what they tried is still to be counted.
async fn finish_detached(detached: &TaskTracker) {
    const LONGEST: Duration = Duration::from_secs(2);
    detached.close();
    if tokio::time::timeout(LONGEST, detached.wait()).await.is_err() {
        tracing::warn!(left = detached.len(), "some work was not finished in time and is cut off");
    }
}

fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    /// Connections that the kernel keeps until they are accepted, where `net.core.somaxconn` allows so
    /// many: beyond it clients that come at once are left to try again after a second, then three.
    const BACKLOG: u32 = 4096;
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| {
        format!("cannot listen on {address}: give another address or port with {setting}")
    })
}

/// Loads what the settings name; until when the certificate is valid, if there is one.
pub fn load_tls(tls: &Tls, config: &Config) -> Result<Option<Timestamp>> {
    let server = &config.server;
    let (Some(cert), Some(key)) = (&server.tls_cert, &server.tls_key) else { return Ok(None) };
    Ok(Some(tls.load(cert, key)?))
}

/// Who looks after certificates should have renewed one by then: they are renewed a month ahead.
pub const CERTIFICATE_IS_DUE: Duration = Duration::from_hours(14 * 24);

/// Tells until when the certificate is valid that is served from now on.
pub(super) fn note_certificate(services: &Services, until: Timestamp) {
    services.metrics.certificate_expires(until);
    let now = services.parts.clock.now();
    let not_after = until.iso8601();
    if until <= now {
        tracing::error!(
            not_after,
            "the certificate of server.tls_cert has expired: clients refuse it"
        );
    } else if until <= now.plus(CERTIFICATE_IS_DUE) {
        tracing::warn!(not_after, "the certificate of server.tls_cert expires soon");
    } else {
        tracing::info!(not_after, "serves the certificate of server.tls_cert");
    }
}
