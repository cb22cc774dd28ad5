//! A moment by both clocks: what cannot be undone waits until both say that its time has come.
//!
//! The wall clock may be set; running time (what servers on a database have spent running) goes on only
//! while one runs. Neither alone may end a session, delete a record or drop a key: the first can jump,
//! the second stands still while the server is off.

use std::time::Duration;

use super::time::{Timestamp, micros};

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock.
    pub wall: Timestamp,
    /// By running time, in microseconds.
    pub running: i64,
}

impl Moment {
    /// Whether, by both clocks, more than `span` has passed between this and `now`.
    pub fn is_older_than(self, span: Duration, now: Self) -> bool {
        let before = now.minus(span);
        self.wall < before.wall && self.running < before.running
    }

    /// That long before this, for statements that compare both.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let running = self.running.saturating_sub(micros(span));
        Self { wall: self.wall.minus(span), running }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_must_agree() {
        let at = |wall, running| Moment { wall: Timestamp::from_micros(wall), running };
        let (written, span) = (at(1000, 10), Duration::from_micros(100));
        assert!(written.is_older_than(span, at(1101, 111)));
        assert!(!written.is_older_than(span, at(1101, 110)), "a clock that was set forwards");
        assert!(!written.is_older_than(span, at(1100, 111)), "one that was set back");
    }
}
