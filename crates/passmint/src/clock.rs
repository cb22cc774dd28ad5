//! The clock: the only room that reads the time of day. Everyone else is handed a value.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::time::{Timestamp, micros};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now, by the wall clock. It may be set, forwards and back.
    fn now(&self) -> Timestamp;

    /// Now, by a clock that nobody sets: the wall clock when this clock was made, plus the time that
    /// has passed since (`CLOCK_MONOTONIC`). For what must not end early or late when the wall clock
    /// is set.
    fn steady(&self) -> Timestamp;

    /// Time that has really passed since this clock was made, whatever it is turned to.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    started_at: Timestamp,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now(), started_at: wall() }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock's room")]
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_micros(micros(since))
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall()
    }

    fn steady(&self) -> Timestamp {
        self.started_at.plus(self.started.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The machine's clock plus an offset that can be turned on: for `passmint demo --clock`, where an
/// integrator wants to see an expiry without waiting a day, and for tests.
pub struct TurnableClock {
    base: Arc<dyn Clock>,
    offset: AtomicI64,
}

impl TurnableClock {
    /// Starts in step with `base`.
    pub fn new(base: Arc<dyn Clock>) -> Self {
        Self { base, offset: AtomicI64::new(0) }
    }

    /// Turns the clock on by `span` for good; tells the new time.
    pub fn advance(&self, span: Duration) -> Timestamp {
        self.offset.fetch_add(micros(span), Ordering::Relaxed);
        self.now()
    }
}

impl TurnableClock {
    fn turned(&self, base: Timestamp) -> Timestamp {
        let offset = self.offset.load(Ordering::Relaxed);
        Timestamp::from_micros(base.micros().saturating_add(offset))
    }
}

impl Clock for TurnableClock {
    fn now(&self) -> Timestamp {
        self.turned(self.base.now())
    }

    /// Turning it on stands for waiting: both of its times move.
    fn steady(&self) -> Timestamp {
        self.turned(self.base.steady())
    }

    fn elapsed(&self) -> Duration {
        self.base.elapsed()
    }
}

/// A clock that stands still until it is set: for tests of what time does.
#[derive(Debug)]
pub struct StandingClock {
    started: i64,
    steady: AtomicI64,
    /// How far the wall clock is ahead.
    ahead: AtomicI64,
}

impl StandingClock {
    /// Stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        let started = now.micros();
        Self { started, steady: AtomicI64::new(started), ahead: AtomicI64::new(0) }
    }

    /// Moves on by `span`.
    pub fn advance(&self, span: Duration) {
        self.steady.fetch_add(micros(span), Ordering::Relaxed);
    }

    /// Sets the wall clock forwards (or back) by that many microseconds; no time passes.
    pub fn step(&self, by: i64) {
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead.load(Ordering::Relaxed);
        Timestamp::from_micros(self.steady.load(Ordering::Relaxed).saturating_add(ahead))
    }

    fn steady(&self) -> Timestamp {
        Timestamp::from_micros(self.steady.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.steady().since(Timestamp::from_micros(self.started))
    }
}
