//! What is counted by network whoever the attempts are for: requests to one endpoint, and failed
//! logins over all usernames.

use std::net::IpAddr;

use super::Key;
use super::bucket::{Bucket, Rate};
use super::failures::worth;
use super::table::State;
use crate::domain::network::Network;
use crate::domain::time::Timestamp;

/// Where the requests of an address are counted. The second half only keeps network 0 apart from an
/// empty place.
pub(super) fn key(address: IpAddr) -> Key {
    (Network::of(address).number(), 1)
}

/// Requests.
impl State for Bucket {
    fn worth(&self, now: Timestamp) -> u64 {
        self.owed(now)
    }
}

/// Failed logins of one network over all usernames, and attempts under way. Those of users who have
/// logged in from there of late are counted apart: a stranger's guesses from a shared address do not
/// make them wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SenderFailures {
    buckets: [Bucket; 2],
    under_way: [u32; 2],
}

impl SenderFailures {
    pub(super) fn any(&self, now: Timestamp) -> bool {
        self.under_way != [0; 2] || self.buckets.iter().any(|bucket| bucket.is_touched(now))
    }

    fn of(&mut self, known: bool) -> (&mut Bucket, &mut u32) {
        let [strangers, users] = &mut self.buckets;
        let [strangers_under_way, users_under_way] = &mut self.under_way;
        if known { (users, users_under_way) } else { (strangers, strangers_under_way) }
    }

    /// How long no attempt is taken.
    pub(super) fn wait(mut self, rate: &Rate, known: bool, now: Timestamp) -> std::time::Duration {
        self.of(known).0.wait(rate, 0, now)
    }

    /// Whether one more attempt may be under way.
    pub(super) fn has_room(mut self, rate: &Rate, known: bool, now: Timestamp) -> bool {
        let (bucket, under_way) = self.of(known);
        bucket.wait(rate, *under_way, now).is_zero()
    }

    pub(super) fn enter(&mut self, known: bool) {
        *self.of(known).1 += 1;
    }

    pub(super) fn leave(&mut self, known: bool) {
        let under_way = self.of(known).1;
        *under_way = under_way.saturating_sub(1);
    }

    pub(super) fn fail(&mut self, rate: &Rate, known: bool, now: Timestamp) {
        self.of(known).0.charge(rate, now);
    }
}

impl State for SenderFailures {
    fn worth(&self, now: Timestamp) -> u64 {
        let owed: u64 = self.buckets.iter().map(|bucket| bucket.owed(now)).sum();
        let under_way = self.under_way.iter().sum();
        worth(under_way, u32::try_from(owed / 60_000_000).unwrap_or(u32::MAX), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_of_ipv4_and_one_network_of_ipv6() {
        let key = |text: &str| key(text.parse().unwrap());
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("::1"), (0, 0));
    }
}
