//! The clock: the only room that reads the time of day. Everyone else is handed a value.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::time::{Timestamp, micros};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock's room")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_micros(micros(since))
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

impl Clock for TurnableClock {
    fn now(&self) -> Timestamp {
        let base = self.base.now().micros();
        Timestamp::from_micros(base.saturating_add(self.offset.load(Ordering::Relaxed)))
    }
}

/// A clock that stands still until it is set: for tests of what time does.
#[derive(Debug)]
pub struct StandingClock(AtomicI64);

impl StandingClock {
    /// Stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.micros()))
    }

    /// Moves on by `span`.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(micros(span), Ordering::Relaxed);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }
}
