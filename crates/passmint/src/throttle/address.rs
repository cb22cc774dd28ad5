//! Requests of one address to one endpoint: so many a second, and so many at once (the generic cell
//! rate algorithm of ITU-T I.371, one number an address).

use std::net::IpAddr;
use std::time::Duration;

use super::Key;
use super::table::State;
use crate::domain::network::Source;
use crate::domain::time::Timestamp;

/// How many requests an address may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRules {
    /// In a second.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// Where the requests of an address are counted.
pub(super) fn key(address: IpAddr) -> Key {
    (Source::of(address).number(), 1)
}

/// When the requests so far would have been due, had they come evenly spaced; in microseconds.
#[derive(Clone, Copy, Default)]
pub(super) struct Requests(i64);

impl Requests {
    /// Counts a request, or says when one is taken again.
    pub(super) fn count(&mut self, rules: AddressRules, now: Timestamp) -> Result<(), Duration> {
        let now = now.micros();
        let spacing = 1_000_000 / i64::from(rules.per_second.max(1));
        let room = spacing * i64::from(rules.burst.max(1));
        // A clock that went back must not hold anybody longer than a full burst does.
        self.0 = self.0.clamp(now, now + room);
        let due = self.0 + spacing;
        if due > now + room {
            let left = u64::try_from(due - now - room).unwrap_or(0);
            return Err(Duration::from_micros(left));
        }
        self.0 = due;
        Ok(())
    }
}

impl State for Requests {
    fn worth(&self, now: Timestamp) -> u64 {
        u64::try_from(self.0.saturating_sub(now.micros())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_an_even_rate() {
        let rules = AddressRules { per_second: 20, burst: 40 };
        let at = |millis: i64| Timestamp::from_micros(1_000_000_000 + millis * 1000);
        let mut requests = Requests::default();
        let taken = |requests: &mut Requests, millis, tries| {
            (0..tries).filter(|_| requests.count(rules, at(millis)).is_ok()).count()
        };
        assert_eq!(taken(&mut requests, 0, 100), 40);
        assert_eq!(requests.count(rules, at(0)), Err(Duration::from_millis(50)));
        assert_eq!(taken(&mut requests, 1000, 100), 20);
        assert_eq!(taken(&mut requests, 60_000, 100), 40, "a pause fills the burst, no more");
        assert_eq!(taken(&mut requests, 30_000, 1), 0, "a clock that went back");
        assert_eq!(taken(&mut requests, 31_000, 100), 20, "holds nobody longer than a burst");
    }

    #[test]
    fn one_address_of_ipv4_and_one_network_of_ipv6() {
        let key = |text: &str| key(text.parse().unwrap());
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("::1"), (0, 0));
    }
}
