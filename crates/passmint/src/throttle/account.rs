//! Failures of a username from everywhere the user has not logged in from of late. Pure.
//!
//! A neighbourhood counts once an hour, so that one party with many addresses does not use up what all
//! strangers share. When the limit is reached, one attempt an hour is left, and it goes first to a
//! neighbourhood without failures of its own: a stranger who may be the owner.

use std::time::Duration;

use super::bucket::{Bucket, Rate};
use super::failures::{FORGOTTEN_AFTER, worth};
use super::table::State;
use crate::domain::time::{Timestamp, micros};

/// How often a neighbourhood counts, and how often one may try when the limit is reached.
pub(super) const INTERVAL: Duration = Duration::from_hours(1);
/// How often a neighbourhood *with* failures of its own gets the attempt, when nobody else wants it.
const FAILING_INTERVAL: Duration = Duration::from_hours(24);
/// What attempts of all strangers together may cost beside the limit of neighbourhoods: otherwise a
/// hundred neighbourhoods with twenty free failures each had two thousand guesses.
const REFILL: Duration = Duration::from_mins(3);
/// One part in so many of these is kept for neighbourhoods without failures.
const RESERVED_PART: u32 = 10;

/// What the rule says of one more attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is room.
    Free,
    /// It is the only one for some time.
    Single,
    /// It depends on those under way.
    Full,
    /// For so long none is taken.
    Wait(Duration),
}

/// Failures from everywhere, and attempts under way. Times in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AccountFailures {
    pub(super) at: i64,
    /// Neighbourhoods that failed, each once an hour.
    pub(super) neighbourhoods: u32,
    pub(super) under_way: u32,
    /// All failures of strangers.
    attempts: Bucket,
    /// When the next single attempt is free.
    pub(super) single_at: i64,
    /// When a neighbourhood with failures last had it.
    failing_at: i64,
}

fn rate(limit: u32) -> Rate {
    Rate { burst: limit, every: REFILL }
}

impl AccountFailures {
    pub(super) fn restored(neighbourhoods: u32, at: Timestamp, until: Timestamp) -> Self {
        // At least one attempt each.
        let attempts = Bucket::restored(&rate(0), neighbourhoods, at);
        let (at, single_at) = (at.micros(), until.micros());
        Self { at, neighbourhoods, attempts, single_at, ..Self::default() }
    }

    pub(super) fn any(&self) -> bool {
        self.neighbourhoods > 0 || self.under_way > 0
    }

    pub(super) fn is_old(&self, now: Timestamp) -> bool {
        now.since(Timestamp::from_micros(self.at)) >= FORGOTTEN_AFTER
    }

    pub(super) fn forget_if_old(&mut self, now: Timestamp) {
        if self.neighbourhoods > 0 && self.is_old(now) {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self { under_way: self.under_way, ..Self::default() };
    }

    /// What to say to a stranger; `clean`: its neighbourhood has no failures of its own.
    pub(super) fn place(&self, limit: u32, clean: bool, now: Timestamp) -> Place {
        let exhausted = self.neighbourhoods >= limit;
        // The last attempts are for neighbourhoods without failures: those that have some would take each
        // new one as soon as it is free.
        let reserve = if clean { 0 } else { limit / RESERVED_PART };
        if !exhausted && self.attempts.wait(&rate(limit), reserve, now).is_zero() {
            let room = self.under_way < limit - self.neighbourhoods
                && self.attempts.wait(&rate(limit), self.under_way + reserve, now).is_zero();
            return if room { Place::Free } else { Place::Full };
        }
        let interval = if exhausted { INTERVAL } else { REFILL };
        let free_at = Timestamp::from_micros(self.single_at).min(now.plus(interval));
        let free_at = if clean {
            free_at
        } else {
            let failing_at = Timestamp::from_micros(self.failing_at).min(now);
            free_at.plus(interval).max(failing_at.plus(FAILING_INTERVAL))
        };
        match free_at.since(now) {
            Duration::ZERO => Place::Single,
            left => Place::Wait(left.min(interval)),
        }
    }

    /// Takes the single attempt; what to put back if it is not made.
    pub(super) fn take_single(&mut self, limit: u32, clean: bool, now: Timestamp) -> i64 {
        let before = self.single_at;
        let interval = if self.neighbourhoods >= limit { INTERVAL } else { REFILL };
        self.single_at = now.plus(interval).micros();
        if !clean {
            self.failing_at = now.micros();
        }
        before
    }

    /// A stranger failed; `first`: its neighbourhood has not been counted within the hour.
    pub(super) fn fail(&mut self, limit: u32, first: bool, now: Timestamp) {
        self.at = now.micros();
        self.attempts.charge(&rate(limit), now);
        let before = self.neighbourhoods;
        self.neighbourhoods = before.saturating_add(u32::from(first));
        let next = if before < limit && self.neighbourhoods >= limit {
            // Those that failed wait a whole day for theirs.
            self.failing_at = now.micros();
            INTERVAL
        } else if self.neighbourhoods < limit && !self.attempts.wait(&rate(limit), 0, now).is_zero()
        {
            REFILL
        } else {
            return;
        };
        self.single_at = self.single_at.max(now.micros().saturating_add(micros(next)));
    }
}

impl State for AccountFailures {
    fn worth(&self, now: Timestamp) -> u64 {
        let failures = if self.is_old(now) { 0 } else { self.neighbourhoods };
        worth(self.under_way, failures, self.at)
    }
}
