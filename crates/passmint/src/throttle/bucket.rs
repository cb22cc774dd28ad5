//! So many at once, then one every so often (the generic cell rate algorithm of ITU-T I.371): one number
//! to remember. Pure: `now` is a value passed in.

use std::time::Duration;

use crate::domain::time::{Timestamp, micros};

/// The size of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// After how long one more is free.
    pub every: Duration,
}

impl Rate {
    fn room(&self) -> i64 {
        micros(self.every).saturating_mul(i64::from(self.burst.max(1)))
    }
}

/// When everything so far would have been due, had it come evenly spaced; in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Bucket(i64);

impl Bucket {
    /// A clock that went back must not make anybody wait longer than two full buckets do.
    fn due(self, rate: &Rate, now: Timestamp) -> i64 {
        let room = rate.room().saturating_mul(2);
        self.0.clamp(now.micros(), now.micros().saturating_add(room))
    }

    /// With so much owed since `at`.
    pub(super) fn restored(rate: &Rate, owed: u32, at: Timestamp) -> Self {
        Self(at.plus(rate.every.saturating_mul(owed)).micros())
    }

    /// How long until one more is free while `under_way` others may still be charged; zero: now.
    pub(super) fn wait(self, rate: &Rate, under_way: u32, now: Timestamp) -> Duration {
        let spacing = micros(rate.every).max(1);
        let wanted = spacing.saturating_mul(i64::from(under_way) + 1);
        let over = self.due(rate, now) + wanted - now.micros() - rate.room();
        Duration::from_micros(u64::try_from(over).unwrap_or(0))
    }

    /// Takes one out, whether it is free or not: what is over the brim is owed, up to as much again.
    pub(super) fn charge(&mut self, rate: &Rate, now: Timestamp) {
        self.0 = self.due(rate, now).saturating_add(micros(rate.every));
    }

    /// Takes one out if it is free, or says when it is.
    pub(super) fn take(&mut self, rate: &Rate, now: Timestamp) -> Result<(), Duration> {
        self.0 = self.due(rate, now);
        let wait = self.wait(rate, 0, now);
        if wait.is_zero() {
            self.charge(rate, now);
            return Ok(());
        }
        Err(wait)
    }

    /// Whether anything is owed.
    pub(super) fn is_touched(self, now: Timestamp) -> bool {
        self.0 > now.micros()
    }

    /// How much is owed, in microseconds.
    pub(super) fn owed(self, now: Timestamp) -> u64 {
        u64::try_from(self.0.saturating_sub(now.micros())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_an_even_rate() {
        let rate = Rate { burst: 40, every: Duration::from_millis(50) };
        let at = |millis: i64| Timestamp::from_micros(1_000_000_000 + millis * 1000);
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, millis, tries| {
            (0..tries).filter(|_| bucket.take(&rate, at(millis)).is_ok()).count()
        };
        assert_eq!(taken(&mut bucket, 0, 100), 40);
        assert_eq!(bucket.take(&rate, at(0)), Err(Duration::from_millis(50)));
        assert_eq!(taken(&mut bucket, 1000, 100), 20);
        assert_eq!(taken(&mut bucket, 60_000, 100), 40, "a pause fills the burst, no more");
        assert_eq!(taken(&mut bucket, 30_000, 1), 0, "a clock that went back");
        assert_eq!(taken(&mut bucket, 33_000, 100), 20, "holds nobody longer than two bursts");
    }

    #[test]
    fn what_is_under_way_is_counted_before_it_is_charged() {
        let rate = Rate { burst: 3, every: Duration::from_mins(1) };
        let now = Timestamp::from_micros(1_000_000_000);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.wait(&rate, 2, now), Duration::ZERO);
        assert_eq!(bucket.wait(&rate, 3, now), Duration::from_mins(1));
        for _ in 0..5 {
            bucket.charge(&rate, now);
        }
        assert_eq!(
            bucket.wait(&rate, 0, now),
            Duration::from_mins(3),
            "two over the brim are owed"
        );
    }
}
