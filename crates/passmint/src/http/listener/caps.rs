//! How many connections there may be: in all, and of one network; and which one makes room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;

use super::patience::Requests;
use crate::config::Server;
use crate::domain::network::{Neighbourhood, Network};
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
    of_network: HashMap<Network, u32>,
    /// Connections by neighbourhood, the oldest first.
    of_neighbourhood: HashMap<Neighbourhood, BTreeMap<u64, Connection>>,
    /// Neighbourhoods by how many connections they have.
    by_count: BTreeSet<(usize, Neighbourhood)>,
    next: u64,
    /// The connection that was looked at last for one that is idle.
    looked_until: u64,
}

/// What is known of an open connection.
struct Connection {
    requests: Arc<Requests>,
    closed: Arc<Notify>,
}

/// A connection that counts for as long as this lives.
pub(super) struct Counted {
    caps: Caps,
    network: Network,
    number: u64,
    closed: Arc<Notify>,
}

impl Counted {
    /// Resolves when the connection has to make room for another one.
    pub(super) async fn must_close(&self) {
        self.closed.notified().await;
    }
}

impl Caps {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { open: Arc::default(), metrics }
    }

    /// Counts a connection from `peer`, unless there are too many. Where all places are taken, the
    /// connection that has been idle longest in the neighbourhood that has most makes room. Many clients
    /// come from the address of one trusted proxy, so that there is no limit for those.
    pub(super) fn admit(
        &self,
        peer: IpAddr,
        server: &Server,
        requests: &Arc<Requests>,
    ) -> Option<Counted> {
        let peer = peer.to_canonical();
        let trusted = server.trusted_proxies.iter().any(|network| network.contains(&peer));
        let network = Network::of(peer);
        let limits = &server.limits;
        let most = limits.connections.min(room_for_connections());
        let mut open = self.open.lock();
        let of_network = open.of_network.get(&network).copied().unwrap_or(0);
        if !trusted && of_network >= limits.connections_per_address {
            return None;
        }
        if open.all >= most && !open.make_room(network.neighbourhood()) {
            return None;
        }
        let (number, closed) = (open.next, Arc::new(Notify::new()));
        open.next += 1;
        open.all += 1;
        *open.of_network.entry(network).or_default() += 1;
        let connection = Connection { requests: Arc::clone(requests), closed: Arc::clone(&closed) };
        open.change(network.neighbourhood(), |of| drop(of.insert(number, connection)));
        self.metrics.connection_opened();
        Some(Counted { caps: self.clone(), network, number, closed })
    }
}

impl Open {
    /// Closes the longest idle connection of the neighbourhood that has most, if that has more than
    /// `neighbourhood` would have; whether there is room then.
    fn make_room(&mut self, neighbourhood: Neighbourhood) -> bool {
        /// How many of the oldest are looked at, and of the others: a flood must not make every accept a
        /// long search. The others are gone through in turn, so that busy old ones protect no idle ones.
        const OLDEST: usize = 64;
        const OTHERS: usize = 1024;
        let own = self.of_neighbourhood.get(&neighbourhood).map_or(0, BTreeMap::len);
        let Some((most, busiest)) = self.by_count.last().copied() else { return false };
        if most <= own + 1 {
            return false;
        }
        let idle = self.of_neighbourhood.get(&busiest).and_then(|of| {
            let idle = |(number, connection): (&u64, &Connection)| {
                Some((connection.requests.idle_since()?, *number))
            };
            let others = of.range(self.looked_until..).chain(of.range(..self.looked_until));
            let others: Vec<_> = others.take(OTHERS).collect();
            self.looked_until = others.last().map_or(0, |(number, _)| **number + 1);
            of.iter().take(OLDEST).chain(others).filter_map(idle).min()
        });
        let Some((_, number)) = idle else { return false };
        self.change(busiest, |of| {
            if let Some(connection) = of.remove(&number) {
                connection.closed.notify_one();
            }
        });
        self.all = self.all.saturating_sub(1);
        true
    }

    fn change(
        &mut self,
        neighbourhood: Neighbourhood,
        change: impl FnOnce(&mut BTreeMap<u64, Connection>),
    ) {
        let of = self.of_neighbourhood.entry(neighbourhood).or_default();
        self.by_count.remove(&(of.len(), neighbourhood));
        change(of);
        if of.is_empty() {
            self.of_neighbourhood.remove(&neighbourhood);
        } else {
            self.by_count.insert((of.len(), neighbourhood));
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.caps.open.lock();
        // One that made room is counted out already.
        let mut counted = false;
        let number = self.number;
        open.change(self.network.neighbourhood(), |of| counted = of.remove(&number).is_some());
        open.all = open.all.saturating_sub(u32::from(counted));
        if let Some(count) = open.of_network.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.of_network.remove(&self.network);
            }
        }
        self.caps.metrics.connection_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    #[test]
    fn busy_connections_of_a_full_listener_protect_no_idle_ones() {
        let mut server = Config::load(&Sources::default()).unwrap().server;
        server.limits.connections = 400;
        server.limits.connections_per_address = 400;
        let caps = Caps::new(Arc::default());
        let admit = |peer: [u8; 4]| {
            let requests = Arc::new(Requests::new());
            let counted = caps.admit(peer.into(), &server, &requests)?;
            Some((counted, requests))
        };
        let flood: Vec<_> = (0..400).map(|_| admit([10, 0, 0, 1]).unwrap()).collect();
        // All but a hundred in the middle of it have a request under way.
        let idle = 200..300;
        let busy = flood.iter().enumerate().filter(|(number, _)| !idle.contains(number));
        let under_way: Vec<_> = busy.map(|(_, (_, requests))| requests.begin()).collect();
        let mut admitted = Vec::new();
        for number in 0..20 {
            admitted.extend(admit([192, 0, 2, number]));
        }
        assert_eq!(admitted.len(), 20);
        assert!(admit([10, 0, 0, 2]).is_none(), "nobody makes room for its own neighbourhood");
        drop((under_way, flood));
    }
}
