//! Places: how many verifications of one network, and of one neighbourhood, may be under way. A refused
//! one keeps its place until its answer is due, so that from there the next one starts no sooner for an
//! unknown user than for an imported one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Instant;

use crate::domain::network::{Neighbourhood, Network};

/// How many places a neighbourhood has for each that one of its networks has.
const OF_A_NEIGHBOURHOOD: usize = 2;

/// The places that somebody has taken.
#[derive(Clone, Copy, Default)]
struct Taken {
    running: usize,
    /// Those of refused verifications, which are over.
    held: usize,
}

/// Who has taken how many.
#[derive(Default)]
pub(super) struct Places {
    networks: HashMap<Network, Taken>,
    neighbourhoods: HashMap<Neighbourhood, Taken>,
    /// Until when each that is held is.
    held: BinaryHeap<Reverse<(Instant, Network)>>,
}

impl Places {
    /// Whether a verification of `network` may start, where a network has `each` places.
    pub(super) fn has(&self, network: Network, each: usize) -> bool {
        let [of_network, of_neighbourhood] =
            self.of(network).map(|taken| taken.running + taken.held);
        of_network < each && of_neighbourhood < OF_A_NEIGHBOURHOOD * each
    }

    /// Whether any is held by a verification that is over.
    pub(super) fn any_is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether all places of `network`, or of its neighbourhood, are.
    pub(super) fn are_all_held(&self, network: Network, each: usize) -> bool {
        let [of_network, of_neighbourhood] = self.of(network).map(|taken| taken.held);
        of_network >= each || of_neighbourhood >= OF_A_NEIGHBOURHOOD * each
    }

    /// Takes one for `network`.
    pub(super) fn take(&mut self, network: Network) {
        self.change(network, |taken| taken.running += 1);
    }

    /// A verification of `network` is over; its place is held until that time, or free now.
    pub(super) fn end(&mut self, network: Network, held_until: Option<Instant>) {
        self.change(network, |taken| {
            taken.running = taken.running.saturating_sub(1);
            taken.held += usize::from(held_until.is_some());
        });
        self.held.extend(held_until.map(|until| Reverse((until, network))));
    }

    /// Frees those that are held no longer; when the next one is free.
    pub(super) fn release(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((until, network))) = self.held.peek().copied() {
            if until > now {
                return Some(until);
            }
            self.held.pop();
            self.change(network, |taken| taken.held = taken.held.saturating_sub(1));
        }
        None
    }

    fn of(&self, network: Network) -> [Taken; 2] {
        let of_network = self.networks.get(&network);
        let of_neighbourhood = self.neighbourhoods.get(&network.neighbourhood());
        [of_network, of_neighbourhood].map(|taken| taken.copied().unwrap_or_default())
    }

    fn change(&mut self, network: Network, change: impl Fn(&mut Taken)) {
        change_of(&mut self.networks, network, &change);
        change_of(&mut self.neighbourhoods, network.neighbourhood(), &change);
    }
}

/// Changes what is taken under `key`, and forgets it when that is nothing.
fn change_of<K: Copy + Eq + Hash>(
    taken: &mut HashMap<K, Taken>,
    key: K,
    change: impl Fn(&mut Taken),
) {
    let of_key = taken.entry(key).or_default();
    change(of_key);
    if of_key.running + of_key.held == 0 {
        taken.remove(&key);
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
        assert!(places.any_is_held());
        assert!(places.are_all_held(a, 1) && !places.are_all_held(a, 2));
        assert!(!places.are_all_held(c, 1), "one of two");
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
