//! What became of the requests of an open loop.

use std::time::{Duration, Instant};

use super::client;
use super::statistics::percentile;
use crate::load::Window;
use crate::report::{Fault, as_f64};

/// A request that left later than this after it was due is counted as late. Its latency counts
/// from when it was due all the same.
const LATE: Duration = Duration::from_millis(10);
/// The least percentage of the requests that must have been sent, or there was no such load.
const SENT: usize = 95;

/// The answers of one status.
#[derive(Default)]
struct Group {
    status: u16,
    count: usize,
    /// Those that came within the measured window.
    in_window: usize,
    /// Those that say when to come again.
    with_retry_after: usize,
    /// Milliseconds from when a request was due within the measured window until its answer.
    latencies: Vec<f64>,
}

/// The counts of one stream.
pub(crate) struct Tally {
    title: &'static str,
    expected: &'static [u16],
    planned: usize,
    sent: usize,
    late: usize,
    groups: Vec<Group>,
    errors: usize,
    first_error: Option<String>,
    from: Instant,
    until: Instant,
}

impl Tally {
    /// Of a stream that began at `start`. Other statuses than the expected ones are errors.
    pub(crate) fn new(
        title: &'static str,
        expected: &'static [u16],
        start: Instant,
        window: Window,
    ) -> Self {
        let from = start + window.warm_up;
        Self {
            title,
            expected,
            planned: 0,
            sent: 0,
            late: 0,
            groups: Vec::new(),
            errors: 0,
            first_error: None,
            from,
            until: from + window.measured,
        }
    }

    /// How many requests there ought to be.
    pub(crate) fn plan(&mut self, requests: u32) {
        self.planned = usize::try_from(requests).unwrap_or(usize::MAX);
    }

    /// A request that was `due` leaves.
    pub(crate) fn sent(&mut self, due: Instant, now: Instant) {
        self.sent += 1;
        self.late += usize::from(now > due + LATE);
    }

    /// An answer with this status and head came to a request that was `due`.
    pub(crate) fn answered(&mut self, status: u16, head: &[u8], due: Instant, now: Instant) {
        if !self.expected.contains(&status) {
            self.error(format!("status {status}"));
            return;
        }
        let (from, until) = (self.from, self.until);
        let index = self.groups.iter().position(|group| group.status == status);
        let index = index.unwrap_or_else(|| {
            self.groups.push(Group { status, ..Group::default() });
            self.groups.len() - 1
        });
        let Some(group) = self.groups.get_mut(index) else { return };
        group.count += 1;
        group.in_window += usize::from((from..until).contains(&now));
        group.with_retry_after += usize::from(client::retry_after(head).is_some());
        if due >= from {
            group.latencies.push(now.duration_since(due).as_secs_f64() * 1000.0);
        }
    }

    /// Something went wrong that must not.
    pub(crate) fn error(&mut self, what: String) {
        self.errors += 1;
        self.first_error.get_or_insert(what);
    }

    /// How many requests there ought to have been.
    pub(crate) fn planned(&self) -> usize {
        self.planned
    }

    /// How many answers had one of these statuses.
    pub(crate) fn count(&self, statuses: &[u16]) -> usize {
        self.of(statuses).map(|group| group.count).sum()
    }

    /// How many answers with one of these statuses did not say when to come again.
    pub(crate) fn without_retry_after(&self, statuses: &[u16]) -> usize {
        self.of(statuses).map(|group| group.count - group.with_retry_after).sum()
    }

    /// Answers with one of these statuses in a second of the measured window.
    pub(crate) fn rate(&self, statuses: &[u16]) -> f64 {
        let count = self.of(statuses).map(|group| group.in_window).sum();
        as_f64(count) / self.until.duration_since(self.from).as_secs_f64()
    }

    /// The latency in milliseconds that `percent` of the answers with these statuses keep.
    pub(crate) fn latency(&self, statuses: &[u16], percent: usize) -> Option<f64> {
        let latencies: Vec<_> =
            self.of(statuses).flat_map(|group| group.latencies.iter().copied()).collect();
        percentile(&latencies, percent)
    }

    fn of<'a>(&'a self, statuses: &'a [u16]) -> impl Iterator<Item = &'a Group> {
        self.groups.iter().filter(|group| statuses.contains(&group.status))
    }

    /// Why this stream proves nothing, if so.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(first) = &self.first_error {
            let Self { title, errors, .. } = self;
            faults.push(Fault::Wrong(format!("{title}: {errors} errors, first: {first}")));
        }
        if self.sent * 100 < self.planned * SENT || self.planned == 0 {
            let Self { title, sent, planned, .. } = self;
            let text = format!("{title}: only {sent} of {planned} requests could be sent");
            faults.push(if *sent == 0 { Fault::Wrong(text) } else { Fault::Weak(text) });
        }
        faults
    }
}

/// One line for people: how many of each status, and how many were late.
impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { title, sent, planned, late, errors, .. } = self;
        write!(f, "{title}: {sent} of {planned} sent, {late} late, {errors} errors")?;
        self.groups.iter().try_for_each(|group| {
            let at = |percent| percentile(&group.latencies, percent).unwrap_or_default();
            let Group { status, count, .. } = group;
            write!(f, "; {count} x {status}, p50 {:.2} ms, p99 {:.2} ms", at(50), at(99))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOW: Window = Window { warm_up: SECOND, measured: Duration::from_secs(2) };

    #[test]
    fn only_the_measured_window_makes_rates_and_latencies() {
        let start = Instant::now();
        let mut tally = Tally::new("x", &[200, 503], start, WINDOW);
        tally.plan(4);
        for second in 0..4 {
            let due = start + second * SECOND;
            tally.sent(due, due);
            tally.answered(200, b"", due, due + SECOND / 10 * (second + 1));
        }
        assert_eq!((tally.count(&[200]), tally.planned()), (4, 4));
        // Answers at 0.1, 1.2, 2.3 and 3.4 s: two of them within 1 to 3 s.
        assert!((tally.rate(&[200]) - 1.0).abs() < 1e-9);
        // The first was due before the window.
        let worst = tally.latency(&[200], 100).unwrap();
        let best = tally.latency(&[200], 1).unwrap();
        assert!((best - 200.0).abs() < 1e-6 && (worst - 400.0).abs() < 1e-6, "{best} {worst}");
        assert!(tally.faults().is_empty(), "{:?}", tally.faults());
    }

    #[test]
    fn a_refusal_without_retry_after_is_seen() {
        let start = Instant::now();
        let mut tally = Tally::new("x", &[429, 503], start, WINDOW);
        tally.answered(503, b"HTTP/1.1 503 X\r\nRetry-After: 1\r\n\r\n", start, start);
        tally.answered(503, b"HTTP/1.1 503 X\r\n\r\n", start, start);
        tally.answered(429, b"HTTP/1.1 429 X\r\nRetry-After: 0\r\n\r\n", start, start);
        assert_eq!(tally.count(&[429, 503]), 3);
        assert_eq!(tally.without_retry_after(&[429, 503]), 2);
        assert_eq!(tally.without_retry_after(&[429]), 1);
    }

    #[test]
    fn what_proves_nothing_is_a_fault() {
        let start = Instant::now();
        let mut tally = Tally::new("x", &[200], start, WINDOW);
        let nothing = Fault::Wrong("x: only 0 of 0 requests could be sent".to_owned());
        assert_eq!(tally.faults(), [nothing]);
        tally.plan(100);
        (0..94).for_each(|_| tally.sent(start, start + SECOND));
        tally.answered(500, b"", start, start);
        tally.error("broken".to_owned());
        assert_eq!(
            tally.faults(),
            [
                Fault::Wrong("x: 2 errors, first: status 500".to_owned()),
                Fault::Weak("x: only 94 of 100 requests could be sent".to_owned())
            ]
        );
        assert!(tally.to_string().starts_with("x: 94 of 100 sent, 94 late, 2 errors"), "{tally}");
        assert_eq!(tally.latency(&[200], 99), None);
    }
}
