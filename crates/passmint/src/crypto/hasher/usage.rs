//! How much of the pool a network and its neighbourhood have used of late, whoever the passwords were for. Where
//! there is room for few logins, those of whoever used little come first.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::domain::network::{Neighbourhood, Network};

/// A wrong password is forgotten in this time, a right one in a quarter of it.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// More wrong passwords than this are not counted: after four hours all are forgotten.
const MOST: u32 = 24;
/// What a neighbourhood has used counts a quarter for each of its networks: who guesses from an address does not
/// push back all others of its /24.
const SHARED: u32 = 4;
/// Of how many networks, and of how many neighbourhoods, usage is kept; some 800 KiB.
const KEPT: usize = 1 << 14;

/// Usage of one kind of party, as the time when all of it is forgotten.
struct Forgetting<K>(HashMap<K, Instant>);

/// The usage.
#[derive(Default)]
pub(super) struct Usage {
    networks: Forgetting<Network>,
    neighbourhoods: Forgetting<Neighbourhood>,
}

impl Usage {
    /// Counts a password of `network`.
    pub(super) fn note(&mut self, network: Network, was_right: bool, now: Instant) {
        let span = if was_right { FORGOTTEN_AFTER / 4 } else { FORGOTTEN_AFTER };
        self.networks.add(network, span, now);
        self.neighbourhoods.add(network.neighbourhood(), span, now);
    }

    /// How much it is for `network`, in wrong passwords.
    pub(super) fn of(&self, network: Network, now: Instant) -> u32 {
        let own = self.networks.left(network, now);
        let shared = self.neighbourhoods.left(network.neighbourhood(), now) / SHARED;
        let used = (own + shared).as_micros().div_ceil(FORGOTTEN_AFTER.as_micros());
        u32::try_from(used).unwrap_or(u32::MAX)
    }
}

impl<K> Default for Forgetting<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Forgetting<K> {
    fn add(&mut self, key: K, span: Duration, now: Instant) {
        if self.0.len() >= KEPT {
            self.forget_some(now);
        }
        let at = self.0.entry(key).or_insert(now);
        *at = ((*at).max(now) + span).min(now + FORGOTTEN_AFTER * MOST);
    }

    fn left(&self, key: K, now: Instant) -> Duration {
        self.0.get(&key).map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// Forgets the half that used least.
    fn forget_some(&mut self, now: Instant) {
        let mut times: Vec<Instant> = self.0.values().copied().collect();
        let (_, median, _) = times.select_nth_unstable(KEPT / 2);
        let from = (*median).max(now);
        self.0.retain(|_, at| *at > from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address of its own /24, or another one of it.
    fn network(number: u8, host: u8) -> Network {
        Network::of(std::net::IpAddr::from([10, 0, number, host]))
    }

    #[test]
    fn a_wrong_password_is_forgotten_after_ten_minutes_and_more_than_24_are_not_counted() {
        let (mut usage, start) = (Usage::default(), Instant::now());
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        let (one, other) = (network(1, 1), network(2, 1));
        assert_eq!(usage.of(one, at(0)), 0);
        for _ in 0..4 {
            usage.note(one, false, at(0));
        }
        // Four of its own, and a quarter of four.
        let left = [0, 10, 20, 30, 39, 40].map(|minutes| usage.of(one, at(minutes)));
        assert_eq!(left, [5, 4, 3, 2, 1, 0]);
        // Once in nine minutes is more than is forgotten.
        let used: Vec<_> = (0..500)
            .map(|failure| {
                usage.note(one, false, at(50 + 9 * failure));
                usage.of(one, at(50 + 9 * failure))
            })
            .collect();
        assert!(used.is_sorted());
        assert_eq!((used.first(), used.last()), (Some(&2), Some(&(MOST + MOST / SHARED))));
        assert_eq!(usage.of(other, at(0)), 0);
    }

    #[test]
    fn a_right_password_counts_a_quarter_and_so_do_the_neighbours() {
        let (mut usage, now) = (Usage::default(), Instant::now());
        for _ in 0..16 {
            usage.note(network(1, 1), true, now);
        }
        assert_eq!(usage.of(network(1, 1), now), 5, "four of its own, and one as a neighbour");
        assert_eq!(usage.of(network(1, 2), now), 1);
        assert_eq!(usage.of(network(2, 1), now), 0);
        assert_eq!(usage.of(network(1, 2), now + Duration::from_mins(40)), 0);
    }

    #[test]
    fn any_number_of_networks_takes_no_more_memory_and_leaves_the_one_that_used_most() {
        let (mut usage, now) = (Usage::default(), Instant::now());
        let network = |number: u32| Network::of(number.to_be_bytes().into());
        let most = network(0);
        for _ in 0..5 {
            usage.note(most, false, now);
        }
        for number in 1..200_000_u32 {
            usage.note(network(number << 8), false, now + Duration::from_micros(number.into()));
            assert!(usage.networks.0.len() <= KEPT && usage.neighbourhoods.0.len() <= KEPT);
        }
        assert_eq!(usage.of(most, now), 7);
        assert_eq!(usage.of(network(199_999 << 8), now + Duration::from_millis(200)), 2);
    }
}
