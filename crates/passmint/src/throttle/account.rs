//! Failures of an account: from one network, and from everywhere. Pure: `now` is a value passed in.

use std::time::Duration;

use super::table::State;
use crate::domain::network::Network;
use crate::domain::throttle::Held;
use crate::domain::time::Timestamp;

/// After so long without a failure, all are forgotten.
pub const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);

/// How many failures an account may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRules {
    /// From one network, before anything is held back.
    pub free: u32,
    /// The longest wait after a failure from one network; the first is a second, and each doubles.
    pub longest_delay: Duration,
    /// From everywhere, before networks that the user is not known from are held back.
    pub everywhere: u32,
    /// How often one of those may try then.
    pub interval: Duration,
}

impl AccountRules {
    /// How long the network waits after its failure of that number.
    fn delay(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.free) else {
            return Duration::ZERO;
        };
        let seconds = 1_u64.checked_shl(doublings).filter(|_| doublings < 32).unwrap_or(u64::MAX);
        Duration::from_secs(seconds).min(self.longest_delay)
    }
}

/// What a table says of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is taken, and under way.
    Go,
    /// The same, and it is the only one for some time.
    GoOnce,
    /// Ask again when one that is under way is settled.
    Later,
    /// For so long no try is taken.
    Held(Duration),
}

/// Failures, and tries under way. Times in microseconds since 1970.
#[derive(Clone, Copy, Default)]
pub(super) struct Failures {
    at: i64,
    until: i64,
    count: u32,
    under_way: u32,
}

impl Failures {
    pub(super) fn restored(held: &Held) -> Self {
        let (at, until) = (held.at.micros(), held.until.micros());
        Self { at, until, count: held.failures, under_way: 0 }
    }

    pub(super) fn as_held(&self, account: u64, network: Option<Network>) -> Option<Held> {
        let (at, until) = (Timestamp::from_micros(self.at), Timestamp::from_micros(self.until));
        let held = Held { account, network, failures: self.count, at, until };
        (self.count > 0).then_some(held)
    }

    /// Whether any failure counts, or may count in a moment.
    pub(super) fn any(&self) -> bool {
        self.count > 0 || self.under_way > 0
    }

    pub(super) fn is_old(&self, now: Timestamp) -> bool {
        now.since(Timestamp::from_micros(self.at)) >= FORGOTTEN_AFTER
    }

    pub(super) fn forget_if_old(&mut self, now: Timestamp) {
        if self.count > 0 && self.is_old(now) {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self { under_way: self.under_way, ..Self::default() };
    }

    /// A try that is under way is not any more.
    pub(super) fn withdraw(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// How long no try is taken; at most `longest`, whatever a clock that went back would say.
    fn left(&self, longest: Duration, now: Timestamp) -> Duration {
        Timestamp::from_micros(self.until).since(now).min(longest)
    }

    pub(super) fn admit_from_network(&mut self, rules: &AccountRules, now: Timestamp) -> Verdict {
        self.forget_if_old(now);
        let left = self.left(rules.delay(self.count), now);
        if !left.is_zero() {
            return Verdict::Held(left);
        }
        let room = rules.free.saturating_sub(self.count).max(1);
        self.go_if(self.under_way < room)
    }

    pub(super) fn admit_from_everywhere(
        &mut self,
        rules: &AccountRules,
        now: Timestamp,
    ) -> Verdict {
        let room = rules.everywhere.saturating_sub(self.count);
        if room > 0 {
            return self.go_if(self.under_way < room);
        }
        let left = self.left(rules.interval, now);
        if !left.is_zero() {
            return Verdict::Held(left);
        }
        // The one try of this interval.
        self.until = now.plus(rules.interval).micros();
        self.under_way += 1;
        Verdict::GoOnce
    }

    /// The only try for some time was not made after all.
    pub(super) fn give_back(&mut self) {
        self.until = 0;
    }

    fn go_if(&mut self, go: bool) -> Verdict {
        if go {
            self.under_way += 1;
            Verdict::Go
        } else {
            Verdict::Later
        }
    }

    /// Returns until when no try is taken.
    pub(super) fn fail_from_network(&mut self, rules: &AccountRules, now: Timestamp) -> Timestamp {
        self.count = self.count.saturating_add(1);
        self.at = now.micros();
        let until = now.plus(rules.delay(self.count));
        self.until = until.micros();
        until
    }

    pub(super) fn fail_from_everywhere(&mut self, rules: &AccountRules, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.at = now.micros();
        if self.count == rules.everywhere {
            self.until = now.plus(rules.interval).micros();
        }
    }
}

impl State for Failures {
    fn worth(&self, now: Timestamp) -> u64 {
        let failures = if self.is_old(now) { 0 } else { u64::from(self.count) };
        // A try under way is settled soon, and must find its place again; then many failures are worth
        // more than few, and new ones more than old.
        let under_way = u64::from(self.under_way > 0) << 60;
        let seconds = Timestamp::from_micros(self.at).seconds().unsigned_abs();
        under_way | failures.min(1 << 20) << 36 | seconds
    }
}
