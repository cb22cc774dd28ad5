//! Watches the wall clock against one that nobody sets, and says whether anything may be destroyed by age.
//!
//! Every row that goes by age needs both clocks (`moment`). This is the second line: after a jump nothing
//! is destroyed until it is taken back, or until the clocks have agreed for an hour.

use std::time::Duration;

use super::time::{Timestamp, micros};

/// Differences up to this are corrections, not jumps.
const JUMP: Duration = Duration::from_mins(1);
/// After a jump the clocks must agree for so long.
const CONFIRMED_AFTER: Duration = Duration::from_hours(1);

/// What the wall clock did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockEvent {
    /// It was set by that many seconds.
    Jumped(i64),
    /// It is where it was before its jump.
    BackInStep,
    /// It has been steady for an hour since its jump, which is believed now.
    Confirmed,
}

/// After a jump.
#[derive(Clone, Copy, Debug)]
struct Halt {
    /// The offset before it.
    before: i64,
    /// Until when by the steady clock.
    until: Timestamp,
}

/// The guard. Times in microseconds.
#[derive(Debug)]
pub struct ClockGuard {
    /// Wall clock less steady clock, when last looked at.
    offset: i64,
    halt: Option<Halt>,
}

impl ClockGuard {
    /// Starts with what the wall clock said when a server last ran, if it is known: a clock that is
    /// behind that was set back meanwhile.
    pub fn resume(last_wall: Option<Timestamp>, wall: Timestamp, steady: Timestamp) -> Self {
        let behind = last_wall.map_or(Duration::ZERO, |last| last.since(wall));
        let offset = wall.micros() - steady.micros();
        let halt = (behind > JUMP)
            .then(|| Halt { before: offset + micros(behind), until: steady.plus(CONFIRMED_AFTER) });
        Self { offset, halt }
    }

    /// Looks at both clocks, once a second or so.
    pub fn look(&mut self, wall: Timestamp, steady: Timestamp) -> Option<ClockEvent> {
        let offset = wall.micros() - steady.micros();
        let last = std::mem::replace(&mut self.offset, offset);
        let near = |a: i64, b: i64| (a - b).unsigned_abs() <= micros(JUMP).unsigned_abs();
        if !near(offset, last) {
            let before = self.halt.map_or(last, |halt| halt.before);
            if near(offset, before) {
                self.halt = None;
                return Some(ClockEvent::BackInStep);
            }
            self.halt = Some(Halt { before, until: steady.plus(CONFIRMED_AFTER) });
            return Some(ClockEvent::Jumped((offset - last) / 1_000_000));
        }
        if self.halt.is_some_and(|halt| steady >= halt.until) {
            self.halt = None;
            return Some(ClockEvent::Confirmed);
        }
        None
    }

    /// Whether what goes by age may go now.
    pub fn may_destroy(&self) -> bool {
        self.halt.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros((1_000_000_000 + seconds) * 1_000_000)
    }

    #[test]
    fn a_jump_halts_until_it_is_taken_back_or_an_hour_has_agreed() {
        let mut guard = ClockGuard::resume(None, at(0), at(0));
        assert_eq!(guard.look(at(1), at(1)), None);
        assert_eq!(guard.look(at(52), at(2)), None, "a correction");
        assert_eq!(guard.look(at(9053), at(3)), Some(ClockEvent::Jumped(9000)));
        assert!(!guard.may_destroy());
        assert_eq!(guard.look(at(9054), at(4)), None);
        assert_eq!(guard.look(at(60), at(5)), Some(ClockEvent::BackInStep));
        assert!(guard.may_destroy());
        assert_eq!(guard.look(at(-9000), at(6)), Some(ClockEvent::Jumped(-9061)));
        assert_eq!(guard.look(at(-9000 + 3599), at(6 + 3599)), None);
        assert!(!guard.may_destroy());
        assert_eq!(guard.look(at(-9000 + 3600), at(6 + 3600)), Some(ClockEvent::Confirmed));
        assert!(guard.may_destroy());
    }

    #[test]
    fn a_clock_that_was_set_back_while_no_server_ran_halts_too() {
        assert!(ClockGuard::resume(Some(at(0)), at(100_000), at(0)).may_destroy(), "a pause");
        let mut guard = ClockGuard::resume(Some(at(0)), at(-500), at(0));
        assert!(!guard.may_destroy());
        assert_eq!(guard.look(at(1), at(1)), Some(ClockEvent::BackInStep));
    }
}
