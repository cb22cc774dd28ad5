//! When the requests of an open loop are due: evenly, whatever became of those before.

use std::time::{Duration, Instant};

/// The times at which requests are due.
pub(crate) struct Schedule {
    start: Instant,
    /// Seconds between two requests.
    interval: f64,
    planned: u32,
    next: u32,
}

impl Schedule {
    /// `rate` requests a second from `start` on, for `length`; the first one at once.
    pub(crate) fn new(start: Instant, rate: f64, length: Duration) -> Self {
        let mut planned = 0;
        // By counting: a float cannot be made an integer without a cast that might lie.
        while f64::from(planned) < rate * length.as_secs_f64() {
            planned += 1;
        }
        Self { start, interval: 1.0 / rate, planned, next: 0 }
    }

    /// How many requests there are in all.
    pub(crate) fn planned(&self) -> u32 {
        self.planned
    }

    /// The number of the next request and when it is due, if that is not after `now`.
    pub(crate) fn due_by(&self, now: Instant) -> Option<(u32, Instant)> {
        let due = self.start + Duration::from_secs_f64(f64::from(self.next) * self.interval);
        (self.next < self.planned && due <= now).then_some((self.next, due))
    }

    /// The next request was sent.
    pub(crate) fn advance(&mut self) {
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_are_due_evenly_and_end() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 4.0, 2 * SECOND);
        assert_eq!(schedule.planned(), 8);
        assert_eq!(schedule.due_by(start), Some((0, start)));
        for number in 0..8 {
            let due = start + SECOND / 4 * number;
            assert_eq!(schedule.due_by(due), Some((number, due)));
            schedule.advance();
            assert_eq!(schedule.due_by(due), None);
        }
        assert_eq!(schedule.due_by(start + 100 * SECOND), None);
    }

    #[test]
    fn a_request_that_had_to_wait_keeps_its_time_and_so_do_those_behind_it() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 10.0, SECOND);
        let much_later = start + 5 * SECOND;
        let mut dues = Vec::new();
        while let Some((_, due)) = schedule.due_by(much_later) {
            dues.push(due.duration_since(start));
            schedule.advance();
        }
        let expected: Vec<_> = (0..10).map(|number| SECOND / 10 * number).collect();
        assert_eq!(dues, expected);
    }

    #[test]
    fn part_of_a_request_is_a_request() {
        assert_eq!(Schedule::new(Instant::now(), 0.2, 12 * SECOND).planned(), 3);
    }
}
