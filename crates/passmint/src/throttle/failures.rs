//! Failures of a username from one network or neighbourhood: some are free, then each next attempt
//! waits longer. Pure: `now` is a value passed in.

use std::time::Duration;

use super::table::State;
use crate::domain::time::Timestamp;

/// After so long without a failure, all are forgotten.
pub const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);
/// How many failures successes forgive in an hour. Without a bound, somebody who shares the owner's
/// network or neighbourhood could guess on for as long as the owner logs in.
const FORGIVEN_PER_HOUR: u32 = 20;

/// How many failures are free, and how long the waits after that become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Failures before any attempt waits.
    pub free: u32,
    /// The longest wait; the first is a second, and each doubles.
    pub longest_delay: Duration,
}

impl Ladder {
    /// How long attempts wait after the failure of that number.
    fn delay(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.free) else {
            return Duration::ZERO;
        };
        let seconds = 1_u64.checked_shl(doublings).filter(|_| doublings < 32).unwrap_or(u64::MAX);
        Duration::from_secs(seconds).min(self.longest_delay)
    }
}

/// Failures, and attempts under way. Times in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Failures {
    pub(super) at: i64,
    until: i64,
    pub(super) count: u32,
    pub(super) under_way: u32,
    /// Failures forgiven in the hour that began at `forgiving_since`.
    forgiven: u32,
    forgiving_since: i64,
}

impl Failures {
    pub(super) fn restored(count: u32, at: Timestamp, until: Timestamp) -> Self {
        Self { at: at.micros(), until: until.micros(), count, ..Self::default() }
    }

    /// Whether any failure counts, or may count in a moment.
    pub(super) fn any(&self) -> bool {
        self.count > 0 || self.under_way > 0
    }

    pub(super) fn until(&self) -> Timestamp {
        Timestamp::from_micros(self.until)
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

    /// How long no attempt is taken; never longer than the last delay, whatever a clock that went
    /// back would say.
    pub(super) fn wait(&self, ladder: &Ladder, now: Timestamp) -> Duration {
        self.until().since(now).min(ladder.delay(self.count))
    }

    /// Whether one more attempt may be under way: together they must not fail oftener than is free.
    pub(super) fn has_room(&self, ladder: &Ladder) -> bool {
        self.under_way < ladder.free.saturating_sub(self.count).max(1)
    }

    pub(super) fn fail(&mut self, ladder: &Ladder, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.at = now.micros();
        self.until = now.plus(ladder.delay(self.count)).micros();
    }

    /// A success forgives failures; whether there were any.
    pub(super) fn forgive(&mut self, now: Timestamp) -> bool {
        const HOUR: Duration = Duration::from_hours(1);
        if self.count == 0 {
            return false;
        }
        if now.since(Timestamp::from_micros(self.forgiving_since)) >= HOUR {
            (self.forgiven, self.forgiving_since) = (0, now.micros());
        }
        let forgiven = self.count.min(FORGIVEN_PER_HOUR.saturating_sub(self.forgiven));
        self.forgiven += forgiven;
        self.count -= forgiven;
        if forgiven > 0 {
            self.until = 0;
        }
        true
    }
}

impl State for Failures {
    fn worth(&self, now: Timestamp) -> u64 {
        let failures = if self.is_old(now) { 0 } else { self.count };
        worth(self.under_way, failures, self.at)
    }
}

/// What is lost when a state is forgotten. An attempt under way must find its place again; then many
/// failures are worth more than few, and new ones more than old.
pub(super) fn worth(under_way: u32, failures: u32, at: i64) -> u64 {
    let seconds = Timestamp::from_micros(at).seconds().unsigned_abs();
    u64::from(under_way > 0) << 60 | u64::from(failures.min(1 << 20)) << 36 | seconds
}
