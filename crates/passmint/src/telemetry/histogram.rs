//! A histogram of durations whose observation is two atomic additions.
//!
//! The one of `prometheus-client` takes a mutex, which every request of every core would queue for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets in microseconds, ascending. One more bucket holds what is longer.
pub(super) type Bounds = &'static [u64];

/// HTTP requests: a verification takes tens of microseconds, a login tens of milliseconds and in a
/// queue up to `login.max_wait`.
pub(super) const REQUEST: Bounds = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];
/// Waiting for a hash: nothing at all, or some hashes long, up to the largest `login.max_wait`.
pub(super) const QUEUE_WAIT: Bounds = &[
    500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000, 30_000_000,
];
/// One hash: around ten milliseconds at today's price, much more where an imported one is dearer.
pub(super) const HASH: Bounds = &[
    2_500, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000, 75_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000,
];
/// The store: a read in memory takes tens of microseconds, a durable write what the disk takes.
pub(super) const STORE: Bounds = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];

/// Durations by bucket. Clones count together.
#[derive(Clone)]
pub(super) struct Histogram(Arc<Inner>);

struct Inner {
    bounds: Bounds,
    /// One for each bound, and one for what is longer; not cumulative.
    buckets: Vec<AtomicU64>,
    /// All durations together, in nanoseconds: enough for five centuries.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: Bounds) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, buckets, sum: AtomicU64::new(0) }))
    }

    /// Counts one duration.
    pub(super) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bounds = self.0.bounds;
        // Most durations are short, so walking from the start is quicker than halving.
        let bucket = bounds.iter().position(|bound| nanos <= bound * 1_000);
        if let Some(bucket) = self.0.buckets.get(bucket.unwrap_or(bounds.len())) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The upper bound of each bucket in seconds with what it alone holds.
    fn buckets(&self) -> Vec<(f64, u64)> {
        #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^52 microseconds")]
        let seconds = |bound: &u64| *bound as f64 / 1e6;
        let bounds = self.0.bounds.iter().map(seconds).chain([f64::INFINITY]);
        bounds.zip(self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.buckets()).finish()
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let sum = Duration::from_nanos(self.0.sum.load(Ordering::Relaxed)).as_secs_f64();
        let buckets = self.buckets();
        // Counted from the buckets, so that `+Inf` and `_count` are equal in every scrape.
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    #[test]
    fn a_duration_is_in_every_bucket_that_it_fits() {
        let histogram = Histogram::new(&[1_000, 20_000]);
        let mut registry = Registry::default();
        registry.register("wait", "Waiting", histogram.clone());
        for micros in [1, 1_000, 1_001, 20_000, 20_001, 5_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "wait_sum 5.042003",
                "wait_count 6",
                r#"wait_bucket{le="0.001"} 2"#,
                r#"wait_bucket{le="0.02"} 4"#,
                r#"wait_bucket{le="+Inf"} 6"#,
            ]
        );
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [REQUEST, QUEUE_WAIT, HASH, STORE] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
