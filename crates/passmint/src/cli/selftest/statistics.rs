//! The statistics of timing: can somebody who sees only the time of an answer tell two kinds apart?

/// Medians may differ by this many milliseconds…
const MEDIAN_MILLIS: f64 = 0.5;
/// …or by this part of the median, whichever is more.
const MEDIAN_PART: f64 = 0.05;
/// How far the area under the curve may be from a half.
const AUC_FROM_HALF: f64 = 0.08;

/// The median; of an even number of samples, the mean of the two in the middle. `None` of nothing.
pub(super) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The probability that one of `second` is greater than one of `first`, ties counted half: the area
/// under the ROC curve. 0.5: they cannot be told apart; 0 or 1: always. `None` when one is empty.
pub(super) fn auc(first: &[f64], second: &[f64]) -> Option<f64> {
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let mut sorted = first.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wins = |value: &f64| {
        let less = sorted.partition_point(|other| other < value);
        let not_greater = sorted.partition_point(|other| other <= value);
        f64::midpoint(number(less), number(not_greater))
    };
    Some(second.iter().map(wins).sum::<f64>() / number(first.len()) / number(second.len()))
}

/// Counts here are of samples, far below 2^32.
fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// Two kinds of answers compared by their times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    /// Both medians.
    pub(super) medians: (f64, f64),
    /// See [`auc`].
    pub(super) auc: f64,
    /// How far the medians may be apart.
    pub(super) allowed: f64,
}

impl Comparison {
    /// `None` when there are no samples of one kind.
    pub(super) fn of(first: &[f64], second: &[f64]) -> Option<Self> {
        let medians = (median(first)?, median(second)?);
        let allowed = MEDIAN_MILLIS.max(MEDIAN_PART * medians.0);
        Some(Self { medians, auc: auc(first, second)?, allowed })
    }

    /// Whether the two cannot be told apart.
    pub(super) fn is_alike(&self) -> bool {
        let apart = (self.medians.0 - self.medians.1).abs();
        apart <= self.allowed && (self.auc - 0.5).abs() <= AUC_FROM_HALF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value - wanted).abs() < 1e-12)
    }

    #[test]
    fn median_of_odd_even_and_none() {
        assert!(near(median(&[3.0, 1.0, 2.0]), 2.0));
        assert!(near(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(near(median(&[7.0]), 7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn auc_of_what_is_always_sometimes_and_never_greater() {
        assert!(near(auc(&[1.0, 2.0], &[3.0, 4.0]), 1.0));
        assert!(near(auc(&[3.0, 4.0], &[1.0, 2.0]), 0.0));
        assert!(near(auc(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.5));
        assert!(near(auc(&[5.0; 9], &[5.0; 4]), 0.5), "ties count half");
        // By hand: of the six pairs (1|2), (1|4), (3|2), (3|4), (5|2), (5|4), three are greater.
        assert!(near(auc(&[1.0, 3.0, 5.0], &[2.0, 4.0]), 0.5));
        assert!(near(auc(&[1.0, 3.0], &[2.0, 2.0, 4.0]), 4.0 / 6.0));
        assert_eq!(auc(&[], &[1.0]), None);
        assert_eq!(auc(&[1.0], &[]), None);
    }

    /// `count` values from `from`, `step` apart.
    fn ramp(count: u32, from: f64, step: f64) -> Vec<f64> {
        (0..count).map(|index| from + f64::from(index) * step).collect()
    }

    #[test]
    fn what_can_be_told_apart_is_not_alike() {
        let kind = ramp(200, 10.0, 0.01);
        let alike = |other: &[f64]| Comparison::of(&kind, other).unwrap().is_alike();
        assert!(alike(&kind));
        assert!(alike(&ramp(150, 10.0, 0.0133)));
        assert!(!alike(&ramp(200, 30.0, 0.01)), "another median");
        assert!(!alike(&ramp(200, 0.1, 0.0001)), "no hash at all");
        assert!(!alike(&ramp(200, 10.4, 0.01)), "the medians pass, the curve does not");
        let spread: Vec<f64> = [ramp(100, 0.0, 0.01), ramp(100, 100.0, 0.01)].concat();
        assert!(!alike(&spread), "the curve passes, the medians do not");
    }
}
