//! Points in time as whole microseconds since 1970, UTC. Nothing here reads a clock.

use std::time::Duration;

/// A point in time, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The largest time that is written anywhere: almost the end of the year 9999, where a time in any
    /// zone still is in that year.
    const MAX_MICROS: i64 = 253_402_207_200_000_000;

    /// From microseconds since 1970.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(0, Self::MAX_MICROS))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, as JWT dates are (RFC 7519 section 2).
    pub fn seconds(self) -> i64 {
        self.0 / 1_000_000
    }

    /// This much later; stays inside the years 1970 to 9999.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(micros(span)))
    }

    /// This much earlier; likewise.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(micros(span)))
    }

    /// How long after `earlier` this is; a clock that went back counts as no time at all.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// ISO 8601 in UTC to the second, as in `2026-11-23T14:42:00Z`.
    pub fn iso8601(self) -> String {
        jiff::Timestamp::from_second(self.seconds())
            .map_or_else(|_| String::from("1970-01-01T00:00:00Z"), |at| at.to_string())
    }

    /// ISO 8601 in UTC to the microsecond, for the log.
    pub fn iso8601_micros(self) -> String {
        jiff::Timestamp::from_microsecond(self.0)
            .map_or_else(|_| String::new(), |at| format!("{at:.6}"))
    }
}

/// A span as whole microseconds, the unit the database keeps.
pub fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_counts_as_no_time() {
        let (early, late) = (Timestamp::from_micros(5), Timestamp::from_micros(9));
        assert_eq!(late.since(early), Duration::from_micros(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn iso_8601_is_in_utc_to_the_second() {
        assert_eq!(Timestamp::from_micros(1_764_000_000_900_000).iso8601(), "2025-11-24T16:00:00Z");
        assert_eq!(Timestamp::from_micros(i64::MAX).iso8601(), "9999-12-30T22:00:00Z");
    }
}
