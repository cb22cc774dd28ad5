//! What is said about many measured values.

use crate::report::as_f64;

/// The value that `percent` of the values do not exceed (nearest rank); `None` of none.
pub(crate) fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The probability that a value of `these` is below one of `those` (the area under the ROC curve,
/// as Mann and Whitney count it; equal values count half). One half: nobody could tell them apart.
/// `None` when either is empty.
pub(crate) fn auc(these: &[f64], those: &[f64]) -> Option<f64> {
    if these.is_empty() || those.is_empty() {
        return None;
    }
    let of = |values: &[f64], theirs: bool| -> Vec<_> {
        values.iter().map(|value| (*value, theirs)).collect()
    };
    let mut all = [of(these, false), of(those, true)].concat();
    all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (mut wins, mut below) = (0.0, 0);
    for equal in all.chunk_by(|(one, _), (other, _)| one.total_cmp(other).is_eq()) {
        let theirs = equal.iter().filter(|(_, theirs)| *theirs).count();
        let ours = equal.len() - theirs;
        wins += as_f64(theirs) * (as_f64(below) + as_f64(ours) / 2.0);
        below += ours;
    }
    Some(wins / (as_f64(these.len()) * as_f64(those.len())))
}

/// How far the values lie apart; `None` of none.
pub(crate) fn spread(values: &[f64]) -> Option<f64> {
    let lowest = values.iter().copied().reduce(f64::min)?;
    values.iter().copied().reduce(f64::max).map(|highest| highest - lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred: Vec<_> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 99), Some(99.0));
        assert_eq!(percentile(&hundred, 50), Some(50.0));
        assert_eq!(percentile(&hundred, 100), Some(100.0));
        assert_eq!(percentile(&hundred, 0), Some(1.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        // One slow answer in fifty is more than one in a hundred.
        assert_eq!(percentile(&[[1.0; 49].as_slice(), &[9.0]].concat(), 99), Some(9.0));
        assert_eq!(percentile(&[], 99), None);
    }

    #[test]
    fn the_area_tells_apart_what_can_be_told_apart() {
        let close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-9;
        assert!(close(auc(&[1.0, 2.0], &[3.0, 4.0]), 1.0));
        assert!(close(auc(&[3.0, 4.0], &[1.0, 2.0]), 0.0));
        assert!(close(auc(&[1.0, 2.0], &[1.0, 2.0]), 0.5));
        assert!(close(auc(&[5.0; 4], &[5.0; 3]), 0.5));
        // Of six pairs, (1,2) (1,4) (3,4) are below, (3,3)… none equal: by hand.
        assert!(close(auc(&[1.0, 3.0, 5.0], &[2.0, 4.0]), 3.0 / 6.0));
        assert!(close(auc(&[1.0, 3.0], &[3.0, 3.0]), 3.0 / 4.0));
        assert_eq!(auc(&[], &[1.0]), None);
        assert_eq!(auc(&[1.0], &[]), None);
    }

    #[test]
    fn the_spread_is_the_largest_difference_of_any_pair() {
        assert_eq!(spread(&[3.0, 1.0, 2.5]), Some(2.0));
        assert_eq!(spread(&[3.0]), Some(0.0));
        assert_eq!(spread(&[]), None);
    }
}
