//! Places: how many verifications of one network, and of one neighbourhood, may be under way. A refused
//! one keeps its place until its answer is due, so that from there the next one starts no sooner for an
//! unknown user than for an imported one.

use std::collections::HashMap;
use std::time::Instant;

use crate::domain::network::{Neighbourhood, Network};

/// How many places a neighbourhood has for each that one of its networks has.
const OF_A_NEIGHBOURHOOD: usize = 2;

/// The verifications of one network that are not over yet.
#[derive(Default)]
struct Taken {
    running: usize,
    /// Refused ones, until when each still holds its place.
    held: Vec<Instant>,
}

/// Who has taken how many.
#[derive(Default)]
pub(super) struct Places {
    networks: HashMap<Network, Taken>,
    neighbourhoods: HashMap<Neighbourhood, usize>,
}

impl Places {
    /// Whether a verification of `network` may start, where a network has `each` places.
    pub(super) fn has(&self, network: Network, each: usize) -> bool {
        let of_network =
            self.networks.get(&network).map_or(0, |taken| taken.running + taken.held.len());
        let of_neighbourhood = self.neighbourhoods.get(&network.neighbourhood()).copied();
        of_network < each && of_neighbourhood.unwrap_or(0) < OF_A_NEIGHBOURHOOD * each
    }

    /// Takes one for `network`.
    pub(super) fn take(&mut self, network: Network) {
        self.networks.entry(network).or_default().running += 1;
        *self.neighbourhoods.entry(network.neighbourhood()).or_default() += 1;
    }

    /// A verification of `network` is over; its place is held until that time, or free now.
    pub(super) fn end(&mut self, network: Network, held_until: Option<Instant>) {
        let Some(taken) = self.networks.get_mut(&network) else { return };
        taken.running = taken.running.saturating_sub(1);
        taken.held.extend(held_until);
        if held_until.is_none() {
            self.free(network, 1);
        }
    }

    /// Frees those that are held no longer; when the next one is free.
    pub(super) fn release(&mut self, now: Instant) -> Option<Instant> {
        let mut freed = Vec::new();
        for (network, taken) in &mut self.networks {
            let before = taken.held.len();
            taken.held.retain(|until| *until > now);
            if taken.held.len() < before {
                freed.push((*network, before - taken.held.len()));
            }
        }
        for (network, count) in freed {
            self.free(network, count);
        }
        self.networks.values().flat_map(|taken| &taken.held).min().copied()
    }

    fn free(&mut self, network: Network, count: usize) {
        if self.networks.get(&network).is_some_and(|t| t.running == 0 && t.held.is_empty()) {
            self.networks.remove(&network);
        }
        let neighbourhood = network.neighbourhood();
        if let Some(taken) = self.neighbourhoods.get_mut(&neighbourhood) {
            *taken = taken.saturating_sub(count);
            if *taken == 0 {
                self.neighbourhoods.remove(&neighbourhood);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_network_has_its_places_and_its_neighbourhood_twice_as_many() {
        let network = |text: &str| Network::of(text.parse().unwrap());
        let mut places = Places::default();
        let [a, b, c, other] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1"].map(network);
        for _ in 0..2 {
            assert!(places.has(a, 2));
            places.take(a);
        }
        assert!(!places.has(a, 2) && places.has(b, 2));
        places.take(b);
        places.take(b);
        assert!(!places.has(c, 2), "four of the neighbourhood");
        assert!(places.has(other, 2));

        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        places.end(a, Some(due));
        assert!(!places.has(c, 2), "held");
        assert_eq!(places.release(now), Some(due));
        assert!(!places.has(c, 2));
        assert_eq!(places.release(due), None);
        assert!(places.has(c, 2) && places.has(a, 2));
        places.end(a, None);
        places.end(b, None);
        places.end(b, None);
        assert!(places.networks.is_empty() && places.neighbourhoods.is_empty());
    }
}
