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
/// A difference is followed by this part of the time that passes: twice what `adjtimex(2)` lets a clock be
/// slewed by. A clock that runs away faster has jumped, in whatever steps.
const FOLLOWED: i64 = 1000;

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

/// How far the wall clock is not believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// By how much it would say more without a jump that is not believed yet, in microseconds.
    pub correction: i64,
    /// For how long the clocks have agreed since that jump.
    pub agreed: Duration,
}

/// The wall clock when a server last ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastWallClock {
    /// What it said.
    pub said: Timestamp,
    /// How far it was believed.
    pub doubt: Doubt,
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
    /// Wall clock less steady clock; follows slowly.
    offset: i64,
    /// The steady clock, when last looked at.
    looked_at: Timestamp,
    halt: Option<Halt>,
}

impl ClockGuard {
    /// Starts with the wall clock as it was when a server last ran, if that is known. One that is behind what was
    /// trusted was set back meanwhile; one that goes on after a jump that was not believed still has it.
    pub fn resume(last: Option<LastWallClock>, wall: Timestamp, steady: Timestamp) -> Self {
        let offset = wall.micros() - steady.micros();
        let doubt = last.map(|last| last.doubt_at(wall)).unwrap_or_default();
        let until = steady.plus(CONFIRMED_AFTER.saturating_sub(doubt.agreed));
        let halt =
            (doubt.correction != 0).then(|| Halt { before: offset + doubt.correction, until });
        Self { offset, looked_at: steady, halt }
    }

    /// Looks at both clocks, once a second or so.
    pub fn look(&mut self, wall: Timestamp, steady: Timestamp) -> Option<ClockEvent> {
        let offset = wall.micros() - steady.micros();
        let passed = micros(steady.since(self.looked_at));
        self.looked_at = steady;
        let difference = offset - self.offset;
        let near = |a: i64, b: i64| (a - b).unsigned_abs() <= micros(JUMP).unsigned_abs();
        if !near(offset, self.offset) {
            let before = self.halt.map_or(self.offset, |halt| halt.before);
            self.offset = offset;
            if near(offset, before) {
                self.halt = None;
                return Some(ClockEvent::BackInStep);
            }
            self.halt = Some(Halt { before, until: steady.plus(CONFIRMED_AFTER) });
            return Some(ClockEvent::Jumped(difference / 1_000_000));
        }
        self.offset += difference.clamp(-passed / FOLLOWED, passed / FOLLOWED);
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

    /// How far the wall clock is believed now.
    pub fn doubt(&self) -> Doubt {
        self.halt.map_or_else(Doubt::default, |halt| Doubt {
            correction: halt.before - self.offset,
            agreed: CONFIRMED_AFTER.saturating_sub(halt.until.since(self.looked_at)),
        })
    }
}

impl LastWallClock {
    /// How far a wall clock is believed that says `wall` when a server is started.
    fn doubt_at(self, wall: Timestamp) -> Doubt {
        let trusted = Timestamp::from_micros(self.said.micros() + self.doubt.correction);
        let (behind, goes_on) = (trusted.since(wall), self.said.since(wall) <= JUMP);
        // However long no server ran.
        if goes_on && (self.doubt.correction < 0 || behind > JUMP) {
            return self.doubt;
        }
        let correction = if behind > JUMP { micros(behind) } else { 0 };
        Doubt { correction, agreed: Duration::ZERO }
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
        assert_eq!(guard.look(at(9053), at(3)), Some(ClockEvent::Jumped(9049)));
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
        let last = Some(LastWallClock { said: at(0), doubt: Doubt::default() });
        assert!(ClockGuard::resume(None, at(-500), at(0)).may_destroy(), "the first start");
        assert!(ClockGuard::resume(last, at(100_000), at(0)).may_destroy(), "a pause");
        assert!(ClockGuard::resume(last, at(-60), at(0)).may_destroy(), "a minute is no jump");
        assert!(!ClockGuard::resume(last, at(-61), at(0)).may_destroy());
        let mut guard = ClockGuard::resume(last, at(-500), at(0));
        assert!(!guard.may_destroy());
        assert_eq!(guard.look(at(1), at(1)), Some(ClockEvent::BackInStep));
        assert!(guard.may_destroy());
    }

    /// The wall clock as a server keeps it that stops now.
    fn stop(guard: &ClockGuard, wall: Timestamp) -> LastWallClock {
        LastWallClock { said: wall, doubt: guard.doubt() }
    }

    #[test]
    fn a_restart_while_the_clock_is_wrong_does_not_make_it_right() {
        let mut guard = ClockGuard::resume(None, at(0), at(0));
        assert_eq!(stop(&guard, at(0)), LastWallClock { said: at(0), doubt: Doubt::default() });
        assert_eq!(guard.look(at(9000), at(1)), Some(ClockEvent::Jumped(8999)));
        let doubt = Doubt { correction: -8_999_000_000, agreed: Duration::ZERO };
        assert_eq!(stop(&guard, at(9000)), LastWallClock { said: at(9000), doubt });

        // Ahead: started again ten seconds later, twice, and then set right.
        let ahead = Some(stop(&guard, at(9000)));
        let again = ClockGuard::resume(ahead, at(9010), at(11));
        assert!(!again.may_destroy());
        let mut again = ClockGuard::resume(Some(stop(&again, at(9010))), at(9020), at(21));
        assert!(!again.may_destroy());
        assert_eq!(again.look(at(22), at(22)), Some(ClockEvent::BackInStep));
        assert!(again.may_destroy());
        assert!(ClockGuard::resume(ahead, at(11), at(11)).may_destroy(), "set right meanwhile");

        // Behind: the same.
        let mut guard = ClockGuard::resume(None, at(0), at(0));
        assert_eq!(guard.look(at(-9000), at(1)), Some(ClockEvent::Jumped(-9001)));
        let behind = Some(stop(&guard, at(-9000)));
        let mut again = ClockGuard::resume(behind, at(-8990), at(11));
        assert!(!again.may_destroy());
        assert_eq!(again.look(at(11), at(12)), Some(ClockEvent::BackInStep));
        // However long no server ran.
        let mut again = ClockGuard::resume(behind, at(-9000 + 500), at(501));
        assert!(!again.may_destroy());
        assert_eq!(again.look(at(502), at(502)), Some(ClockEvent::BackInStep));
        let further_back = ClockGuard::resume(behind, at(-20_000), at(11));
        assert_eq!(further_back.doubt().correction, 20_001_000_000);
        assert!(ClockGuard::resume(behind, at(11), at(11)).may_destroy(), "set right meanwhile");

        // Believed after an hour: from then on it is what counts.
        let mut guard = ClockGuard::resume(ahead, at(9010), at(11));
        assert_eq!(guard.look(at(12_611), at(3611)), Some(ClockEvent::Confirmed));
        assert!(
            ClockGuard::resume(Some(stop(&guard, at(12_611))), at(12_612), at(0)).may_destroy()
        );
    }

    #[test]
    fn an_hour_of_agreement_may_be_spread_over_restarts() {
        let mut guard = ClockGuard::resume(None, at(0), at(0));
        assert!(guard.look(at(9000), at(1)).is_some());
        for start in [1, 1201, 2401] {
            let (wall, steady) = (9000 + start, start);
            guard = ClockGuard::resume(Some(stop(&guard, at(wall))), at(wall), at(steady));
            assert!(!guard.may_destroy());
            assert_eq!(guard.look(at(wall + 1199), at(steady + 1199)), None);
        }
        assert_eq!(guard.look(at(9000 + 3604), at(3604)), Some(ClockEvent::Confirmed));
    }

    #[test]
    fn a_clock_that_runs_away_in_small_steps_has_jumped() {
        // Half a second too much each second, for ten minutes.
        let mut guard = ClockGuard::resume(None, at(0), at(0));
        let looks = (1..=600).filter_map(|second| guard.look(at(second + second / 2), at(second)));
        assert_eq!(looks.collect::<Vec<_>>(), vec![ClockEvent::Jumped(60); 4]);
        assert!(!guard.may_destroy());
        // As fast as the kernel slews a clock, for a month.
        let mut guard = ClockGuard::resume(None, at(0), at(0));
        for second in 1..=2_592_000_i64 {
            let wall = Timestamp::from_micros(at(second).micros() + second * 500);
            assert_eq!(guard.look(wall, at(second)), None);
        }
        assert!(guard.may_destroy());
    }
}
