//! Credentials that were right a moment ago: they pass where others have to wait, so that an attacker
//! on the owner's own address does not lock the owner's programs out. Pure.
//!
//! Somebody who is refused learns that a guess is not what passed a moment ago: that is a guess, too.
//! So mismatches are bounded, and only a client that calls itself as the owner's does is compared at
//! all (a weak device cookie in the sense of OWASP).

use std::time::Duration;

use super::bucket::{Bucket, Rate};
use super::table::State;
use crate::domain::time::Timestamp;

/// For how long right credentials are remembered.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);
/// How many mismatches are compared before nobody passes any more.
const MISMATCHES: Rate = Rate { burst: 40, every: Duration::from_mins(2) };

/// What an attempt presents, as keyed digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Of name and password.
    pub credentials: u128,
    /// Of what the client calls itself.
    pub client: u64,
}

/// The last right credentials of a username from one network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    credentials: u128,
    client: u64,
    until: i64,
    mismatches: Bucket,
}

impl Recent {
    /// Remembers what was right.
    pub(super) fn remember(&mut self, presented: &Presented, now: Timestamp) {
        let Presented { credentials, client } = *presented;
        let until = now.plus(REMEMBERED_FOR).micros();
        *self = Self { credentials, client, until, mismatches: self.mismatches };
    }

    /// Whether exactly that was right a moment ago. Counts a mismatch.
    pub(super) fn recognises(&mut self, presented: &Presented, now: Timestamp) -> bool {
        let comparable = now.micros() < self.until
            && self.client == presented.client
            && self.mismatches.wait(&MISMATCHES, 0, now).is_zero();
        let equal = comparable && self.credentials == presented.credentials;
        if comparable && !equal {
            self.mismatches.charge(&MISMATCHES, now);
        }
        equal
    }
}

impl State for Recent {
    fn worth(&self, now: Timestamp) -> u64 {
        u64::try_from(self.until.saturating_sub(now.micros())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(credentials: u128) -> Presented {
        Presented { credentials, client: 1 }
    }

    #[test]
    fn what_was_right_is_recognised_for_an_hour_from_the_same_client() {
        let at = |minutes: i64| Timestamp::from_micros((1000 + minutes) * 60_000_000);
        let mut recent = Recent::default();
        assert!(!recent.recognises(&presented(0), at(0)), "nothing is remembered");
        recent.remember(&presented(7), at(0));
        assert!(recent.recognises(&presented(7), at(59)));
        assert!(!recent.recognises(&Presented { client: 2, ..presented(7) }, at(1)));
        assert!(!recent.recognises(&presented(7), at(60)));
    }

    #[test]
    fn mismatches_are_guesses_and_bounded() {
        let at = |seconds: i64| Timestamp::from_micros((1000 + seconds) * 1_000_000);
        let mut recent = Recent::default();
        recent.remember(&presented(7), at(0));
        for guess in 100..140 {
            assert!(recent.recognises(&presented(7), at(1)));
            assert!(!recent.recognises(&presented(guess), at(1)));
        }
        assert!(!recent.recognises(&presented(7), at(1)), "nobody passes any more");
        recent.remember(&presented(7), at(2));
        assert!(!recent.recognises(&presented(7), at(2)), "a login does not start anew");
        assert!(recent.recognises(&presented(7), at(125)));
    }
}
