//! How many connections there may be: in all, and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Server;
use crate::domain::network::Network;
use crate::telemetry::Metrics;

/// Counts the open connections of a listener.
#[derive(Clone)]
pub(super) struct Caps {
    open: Arc<Mutex<Open>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Open {
    all: u32,
    of_address: HashMap<u128, u32>,
}

/// A connection that counts for as long as this lives.
pub(super) struct Counted {
    caps: Caps,
    address: u128,
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
        let address = match peer {
            IpAddr::V4(peer) => u128::from(peer.to_bits()),
            IpAddr::V6(_) => u128::from(Network::of(peer).number()) << 64,
        };
        let limits = &server.limits;
        let mut open = self.open.lock();
        let of_address = open.of_address.get(&address).copied().unwrap_or(0);
        if open.all >= limits.connections
            || (!trusted && of_address >= limits.connections_per_address)
        {
            return None;
        }
        open.all += 1;
        *open.of_address.entry(address).or_default() += 1;
        self.metrics.connection_opened();
        Some(Counted { caps: self.clone(), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.caps.open.lock();
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.of_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.of_address.remove(&self.address);
            }
        }
        self.caps.metrics.connection_closed();
    }
}
