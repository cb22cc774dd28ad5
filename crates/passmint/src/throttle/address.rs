//! What is counted by network whoever the attempts are for: requests to one endpoint, and failed
//! logins over all usernames.

use std::time::Duration;

use super::bucket::{Bucket, Rate};
use super::table::State;
use crate::domain::time::Timestamp;

/// Requests.
impl State for Bucket {
    fn worth(&self, now: Timestamp) -> u64 {
        self.owed(now)
    }
}

/// Failed logins of one network over all usernames. Those of users who have logged in from there of late
/// are counted apart: a stranger's guesses from a shared address do not make them wait. Attempts under way
/// are not counted: an office logs in together, and the hashing queue bounds how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SenderFailures {
    strangers: Bucket,
    users: Bucket,
}

impl SenderFailures {
    pub(super) fn any(&self, now: Timestamp) -> bool {
        self.strangers.is_touched(now) || self.users.is_touched(now)
    }

    /// How long no attempt is taken.
    pub(super) fn wait(&self, rate: &Rate, known: bool, now: Timestamp) -> Duration {
        let bucket = if known { self.users } else { self.strangers };
        bucket.wait(rate, 0, now)
    }

    pub(super) fn fail(&mut self, rate: &Rate, known: bool, now: Timestamp) {
        let bucket = if known { &mut self.users } else { &mut self.strangers };
        bucket.charge(rate, now);
    }
}

impl State for SenderFailures {
    fn worth(&self, now: Timestamp) -> u64 {
        self.strangers.owed(now).saturating_add(self.users.owed(now))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::domain::network::Network;
    use crate::throttle::key_of;

    #[test]
    fn one_address_of_ipv4_and_one_network_of_ipv6() {
        let key = |text: &str| key_of(Network::of(text.parse::<IpAddr>().unwrap()).number());
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("::1"), (0, 0));
    }
}
