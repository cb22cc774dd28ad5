//! How many connections there may be: in all, and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use crate::config::Server;
use crate::domain::network::Network;
use crate::telemetry::Metrics;

/// File descriptors that connections do not get: the store's files, and the other listener's
/// connections.
const RESERVED_DESCRIPTORS: u64 = 96;

/// How many connections the process has file descriptors for. A listener that ran out of them would
/// refuse nobody and leave everybody waiting.
pub fn room_for_connections() -> u32 {
    match getrlimit(Resource::Nofile).current {
        None => u32::MAX,
        Some(limit) => {
            u32::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS)).unwrap_or(u32::MAX)
        }
    }
}

/// Counts the open connections of a listener.
#[derive(Clone)]
pub(super) struct Caps {
    open: Arc<Mutex<Open>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Open {
    all: u32,
    of_source: HashMap<Network, u32>,
}

/// A connection that counts for as long as this lives.
pub(super) struct Counted {
    caps: Caps,
    source: Network,
}

impl Caps {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { open: Arc::default(), metrics }
    }

    /// Counts a connection from `peer`, unless there are too many. Many clients come from the address
    /// of one trusted proxy, so that there is no limit for those.
    pub(super) fn admit(&self, peer: IpAddr, server: &Server) -> Option<Counted> {
        let peer = peer.to_canonical();
        let trusted = server.trusted_proxies.iter().any(|network| network.contains(&peer));
        let source = Network::of(peer);
        let limits = &server.limits;
        let most = limits.connections.min(room_for_connections());
        let mut open = self.open.lock();
        let of_source = open.of_source.get(&source).copied().unwrap_or(0);
        if open.all >= most || (!trusted && of_source >= limits.connections_per_address) {
            return None;
        }
        open.all += 1;
        *open.of_source.entry(source).or_default() += 1;
        self.metrics.connection_opened();
        Some(Counted { caps: self.clone(), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.caps.open.lock();
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.of_source.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.of_source.remove(&self.source);
            }
        }
        self.caps.metrics.connection_closed();
    }
}
