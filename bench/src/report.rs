//! What a figure is made of, what it promises, and the Markdown tables that say so.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::load::Outcome;
use crate::machine::Machine;

/// What a figure promises.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// At most so many milliseconds.
    Milliseconds(f64),
    /// At most so many seconds.
    Seconds(f64),
    /// At most so many MiB.
    Mebibytes(f64),
    /// At least so many percent of the bare part, or of what the machine can do.
    Percent(f64),
    /// At least so many percent of all, however slow the machine is.
    OfAll(f64),
    /// At most so many percent of what is usual.
    MostPercent(f64),
    /// At least so many times as much.
    Times(f64),
    /// At most so many.
    Count(f64),
    /// At most that share, without a unit.
    Share(f64),
}

impl Bound {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::Milliseconds(limit)
            | Self::Seconds(limit)
            | Self::Mebibytes(limit)
            | Self::MostPercent(limit)
            | Self::Count(limit)
            | Self::Share(limit) => value <= limit,
            Self::Percent(limit) | Self::OfAll(limit) | Self::Times(limit) => value >= limit,
        }
    }

    /// Whether it holds on a busy machine too: no time and no rate.
    pub(crate) fn is_fact(self) -> bool {
        matches!(self, Self::Mebibytes(_) | Self::OfAll(_) | Self::Count(_))
    }

    fn relation(self) -> String {
        match self {
            Self::Milliseconds(limit) => format!("≤ {limit} ms"),
            Self::Seconds(limit) => format!("≤ {limit} s"),
            Self::Mebibytes(limit) => format!("≤ {limit} MiB"),
            Self::Percent(limit) | Self::OfAll(limit) => format!("≥ {limit} %"),
            Self::MostPercent(limit) => format!("≤ {limit} %"),
            Self::Times(limit) => format!("≥ {limit} times"),
            Self::Count(limit) | Self::Share(limit) => format!("≤ {limit}"),
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            // A bound below a few milliseconds is held or missed by hundredths.
            Self::Milliseconds(limit) if limit < 10.0 => format!("{value:.2} ms"),
            Self::Milliseconds(_) => format!("{value:.1} ms"),
            Self::Seconds(_) => format!("{value:.2} s"),
            Self::Mebibytes(_) => format!("{value:.1} MiB"),
            Self::Percent(_) | Self::OfAll(_) | Self::MostPercent(_) => format!("{value:.1} %"),
            Self::Times(_) => format!("{value:.1} times"),
            Self::Count(_) => format!("{value:.0}"),
            Self::Share(_) => format!("{value:.3}"),
        }
    }
}

/// Which bounds decide whether a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// All of them.
    All,
    /// Those that hold on a busy machine too: counts and memory, no times and no rates.
    Facts,
}

/// Why a figure counts for nothing, whatever its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server did what it must not.
    Wrong(String),
    /// There was no such load: the machine is too slow or too busy for it.
    Weak(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Wrong(text) | Self::Weak(text)) = self;
        f.write_str(text)
    }
}

/// One side by side measurement.
pub(crate) struct Pair {
    /// The server under load.
    pub(crate) server: Outcome,
    /// The bare part, per second.
    pub(crate) bare: f64,
}

/// What was measured for a figure.
#[derive(Default)]
pub(crate) struct Measured {
    /// The values whose median is the figure, in the unit of its bound.
    pub(crate) samples: Vec<f64>,
    /// The pairs behind them, where there are any.
    pub(crate) pairs: Vec<Pair>,
    /// Why the figure counts for nothing, whatever the samples say.
    pub(crate) faults: Vec<Fault>,
}

impl Measured {
    /// Takes a pair in; one with errors is a fault.
    pub(crate) fn push(&mut self, pair: Pair) {
        self.samples.push(100.0 * pair.server.rate / pair.bare.max(f64::MIN_POSITIVE));
        self.check(&pair.server);
        self.pairs.push(pair);
    }

    /// Notes the errors of a run.
    pub(crate) fn check(&mut self, outcome: &Outcome) {
        if let Some(first) = &outcome.first_error {
            self.faults.push(Fault::Wrong(format!("{} errors, first: {first}", outcome.errors)));
        }
    }
}

/// A line of the table.
pub(crate) struct Row {
    /// What the figure is.
    pub(crate) title: String,
    /// What it promises.
    pub(crate) bound: Bound,
    /// What came out.
    pub(crate) measured: Measured,
}

impl Row {
    /// A figure of one value; `None`, or one that is no number, is a fault.
    pub(crate) fn of(title: String, bound: Bound, value: Option<f64>, faults: &[Fault]) -> Self {
        let mut measured = Measured { faults: faults.to_vec(), ..Measured::default() };
        match value.filter(|value| value.is_finite()) {
            Some(value) => measured.samples.push(value),
            None => measured.faults.push(Fault::Wrong("nothing was measured".to_owned())),
        }
        Self { title, bound, measured }
    }

    /// Whether the promise is kept, by a run without faults.
    pub(crate) fn is_met(&self) -> bool {
        self.measured.faults.is_empty() && self.is_within_bound()
    }

    fn is_within_bound(&self) -> bool {
        median(&self.measured.samples).is_some_and(|value| self.bound.is_met_by(value))
    }

    /// Whether a run with this row fails. Faults fail it whether anything is checked or not.
    fn fails(&self, check: Option<Check>) -> bool {
        let wrong = self.measured.faults.iter().any(|fault| matches!(fault, Fault::Wrong(_)));
        match check {
            Some(Check::All) => !self.is_met(),
            Some(Check::Facts) => wrong || (self.bound.is_fact() && !self.is_within_bound()),
            None => !self.measured.faults.is_empty(),
        }
    }

    /// The faults, in the order they were found.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.measured.faults.iter()
    }

    fn markdown(&self) -> String {
        let samples = &self.measured.samples;
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |v| self.bound.show(v));
        let range = match samples.len() {
            0 | 1 => "-".to_owned(),
            _ => format!(
                "{} to {}",
                show(samples.iter().copied().reduce(f64::min)),
                show(samples.iter().copied().reduce(f64::max))
            ),
        };
        let verdict = match (self.is_met(), self.measured.faults.is_empty()) {
            (true, _) => "met",
            (false, true) => "**missed**",
            (false, false) => "**failed**",
        };
        let (title, relation) = (&self.title, self.bound.relation());
        format!("| {title} | {relation} | {} | {range} | {verdict} |\n", show(median(samples)))
    }
}

/// Prints the table and how busy the machine was; the exit code of the run.
pub(crate) fn conclude(rows: &[Row], machine: &Machine, check: Option<Check>) -> Result<ExitCode> {
    println!("{}\n{}", markdown(rows), machine.note()?);
    Ok(ExitCode::from(u8::from(rows.iter().any(|row| row.fails(check)))))
}

/// The table of figures, and below it the rates and latencies behind the ratios.
fn markdown(rows: &[Row]) -> String {
    let mut text = "| figure | bound | measured | min to max | verdict |\n".to_owned();
    text.push_str("|---|---|---|---|---|\n");
    text.extend(rows.iter().map(Row::markdown));
    if rows.iter().all(|row| row.measured.pairs.is_empty()) {
        return text;
    }
    text.push_str("\n| behind it (medians) | server | bare | p50 | p99 | errors |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for row in rows {
        let pairs = &row.measured.pairs;
        let of = |value: &dyn Fn(&Pair) -> f64| {
            median(&pairs.iter().map(value).collect::<Vec<_>>()).unwrap_or_default()
        };
        if pairs.is_empty() {
            continue;
        }
        let millis = |seconds: f64| format!("{:.2} ms", seconds * 1000.0);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.0}/s | {:.0}/s | {} | {} | {} |",
            row.title,
            of(&|pair| pair.server.rate),
            of(&|pair| pair.bare),
            millis(of(&|pair| pair.server.p50.as_secs_f64())),
            millis(of(&|pair| pair.server.p99.as_secs_f64())),
            pairs.iter().map(|pair| pair.server.errors).sum::<u64>(),
        );
    }
    text
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle - 1)?, upper))
}

/// A count as a number to calculate with; counts here are far below 2^32.
pub(crate) fn as_f64(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bound: Bound, samples: &[f64]) -> Row {
        let measured = Measured { samples: samples.to_vec(), ..Measured::default() };
        Row { title: "x".to_owned(), bound, measured }
    }

    #[test]
    fn the_median_decides_and_the_bound_says_which_side() {
        assert!(row(Bound::Percent(85.0), &[10.0, 85.0, 90.0]).is_met());
        assert!(!row(Bound::Percent(85.0), &[10.0, 84.9, 90.0]).is_met());
        assert!(row(Bound::Milliseconds(100.0), &[500.0, 100.0, 1.0]).is_met());
        assert!(!row(Bound::Mebibytes(20.0), &[20.1]).is_met());
        assert!(!row(Bound::Mebibytes(20.0), &[]).is_met());
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn a_figure_without_a_value_fails_loudly() {
        for value in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            let row = Row::of("x".to_owned(), Bound::Count(0.0), value, &[]);
            assert!(!row.is_met());
            let fault = Fault::Wrong("nothing was measured".to_owned());
            assert_eq!(row.faults().collect::<Vec<_>>(), [&fault]);
            assert!(markdown(&[row]).contains("| x | ≤ 0 | - | - | **failed** |"));
        }
        assert!(Row::of("x".to_owned(), Bound::Count(0.0), Some(0.0), &[]).is_met());
        let fault = [Fault::Wrong("status 500".to_owned())];
        assert!(!Row::of("x".to_owned(), Bound::Count(0.0), Some(0.0), &fault).is_met());
    }

    #[test]
    fn a_busy_machine_fails_no_fact() {
        let weak = [Fault::Weak("only 3 of 4 requests could be sent".to_owned())];
        let wrong = [Fault::Wrong("status 500".to_owned())];
        let fails = |bound, value, faults: &[Fault]| {
            let row = Row::of("x".to_owned(), bound, Some(value), faults);
            [Some(Check::All), Some(Check::Facts), None].map(|check| row.fails(check))
        };
        let slow = Bound::Milliseconds(10.0);
        assert_eq!(fails(slow, 10.0, &[]), [false, false, false]);
        assert_eq!(fails(slow, 11.0, &[]), [true, false, false]);
        assert_eq!(fails(slow, 10.0, &weak), [true, false, true]);
        assert_eq!(fails(slow, 10.0, &wrong), [true, true, true]);
        for (fact, value) in
            [(Bound::Count(0.0), 1.0), (Bound::Mebibytes(4.0), 5.0), (Bound::OfAll(99.0), 98.0)]
        {
            assert_eq!(fails(fact, value, &[]), [true, true, false], "{fact:?}");
        }
        assert_eq!(fails(Bound::Percent(99.0), 98.0, &[]), [true, false, false]);
    }

    #[test]
    fn errors_fail_a_figure_that_is_fast_enough() {
        let mut row = row(Bound::Percent(50.0), &[]);
        let server = Outcome {
            rate: 100.0,
            errors: 2,
            first_error: Some("status 503: ".to_owned()),
            ..Outcome::default()
        };
        row.measured.push(Pair { server, bare: 100.0 });
        assert!(!row.is_met());
        let table = markdown(&[row]);
        assert!(table.contains("| x | ≥ 50 % | 100.0 % | - | **failed** |"), "{table}");
        assert!(table.contains("| x | 100/s | 100/s | 0.00 ms | 0.00 ms | 2 |"), "{table}");
    }
}
