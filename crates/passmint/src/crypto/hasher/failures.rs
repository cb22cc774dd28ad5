//! How often passwords from a neighbourhood were wrong of late, whoever they were for. Where there is room for
//! few logins, those of whoever fails little come first.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::network::Neighbourhood;

/// One failure is forgotten in this time.
const FORGOTTEN_EVERY: Duration = Duration::from_mins(10);
/// More are not counted: after four hours without a failure all are forgotten.
const MOST: u32 = 24;
/// Of how many neighbourhoods failures are kept; some 400 KiB.
const NEIGHBOURHOODS: usize = 1 << 14;

/// The failures.
#[derive(Default)]
pub(super) struct Failures {
    /// When all of a neighbourhood are forgotten.
    forgotten_at: HashMap<Neighbourhood, Instant>,
}

impl Failures {
    /// Counts one.
    pub(super) fn note(&mut self, neighbourhood: Neighbourhood, now: Instant) {
        if self.forgotten_at.len() >= NEIGHBOURHOODS {
            self.forget_some(now);
        }
        let at = self.forgotten_at.entry(neighbourhood).or_insert(now);
        *at = ((*at).max(now) + FORGOTTEN_EVERY).min(now + FORGOTTEN_EVERY * MOST);
    }

    /// How many there are.
    pub(super) fn count(&self, neighbourhood: Neighbourhood, now: Instant) -> u32 {
        let at = self.forgotten_at.get(&neighbourhood);
        let left = at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let count = left.as_micros().div_ceil(FORGOTTEN_EVERY.as_micros());
        u32::try_from(count).unwrap_or(MOST)
    }

    /// Forgets those of the half that failed least.
    fn forget_some(&mut self, now: Instant) {
        let mut times: Vec<Instant> = self.forgotten_at.values().copied().collect();
        let (_, median, _) = times.select_nth_unstable(NEIGHBOURHOODS / 2);
        let from = (*median).max(now);
        self.forgotten_at.retain(|_, at| *at > from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::Network;

    fn neighbourhood(number: u64) -> Neighbourhood {
        Network::from_number(number << 16).neighbourhood()
    }

    #[test]
    fn each_failure_is_forgotten_after_ten_minutes_and_more_than_24_are_not_counted() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        let (one, other) = (neighbourhood(1), neighbourhood(2));
        assert_eq!(failures.count(one, at(0)), 0);
        for _ in 0..3 {
            failures.note(one, at(0));
        }
        let counts = [0, 9, 10, 20, 29, 30, 31].map(|minutes| failures.count(one, at(minutes)));
        assert_eq!(counts, [3, 3, 2, 1, 1, 0, 0]);
        // Once in nine minutes is more than is forgotten.
        let mut counts = Vec::new();
        for failure in 0..500 {
            failures.note(one, at(40 + 9 * failure));
            counts.push(failures.count(one, at(40 + 9 * failure)));
        }
        assert!(counts.is_sorted());
        assert_eq!((counts.first(), counts.last()), (Some(&1), Some(&MOST)));
        assert_eq!(failures.count(other, at(0)), 0);
    }

    #[test]
    fn a_million_neighbourhoods_take_no_more_memory_and_leave_the_one_that_failed_most() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..5 {
            failures.note(neighbourhood(0), now);
        }
        for number in 1..1_000_000 {
            failures.note(neighbourhood(number), now + Duration::from_micros(number));
            assert!(failures.forgotten_at.len() <= NEIGHBOURHOODS);
        }
        assert_eq!(failures.count(neighbourhood(0), now), 5);
        let last = now + Duration::from_micros(999_999);
        assert_eq!(failures.count(neighbourhood(999_999), last), 1);
    }
}
