//! Registers metrics, and hands them back to be counted with.

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::registry::{Registry, Unit};

/// Metrics by a closed set of keys, looked up once at start: counting takes no lock.
pub(super) struct Fixed<K, M>(Vec<(K, M)>);

impl<K: Copy + PartialEq, M: Clone> Fixed<K, M> {
    /// Takes one metric of `family` for each key.
    pub(super) fn of<L, C>(
        family: &Family<L, M, C>,
        keys: impl IntoIterator<Item = K>,
        label: impl Fn(K) -> L,
    ) -> Self
    where
        L: Clone + std::hash::Hash + Eq,
        C: MetricConstructor<M>,
    {
        let metric = |key| (key, family.get_or_create_owned(&label(key)));
        Self(keys.into_iter().map(metric).collect())
    }

    pub(super) fn get(&self, key: K) -> Option<&M> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, metric)| metric)
    }
}

impl<K: Copy + PartialEq> Fixed<K, Counter> {
    pub(super) fn count(&self, key: K) {
        if let Some(counter) = self.get(key) {
            counter.inc();
        }
    }
}

/// A registry that hands back what it registers.
pub(super) struct Register(pub(super) Registry);

impl Register {
    pub(super) fn metric<M>(&mut self, name: &str, help: &str) -> M
    where
        M: Clone + Default + std::fmt::Debug + EncodeMetric + Send + Sync + 'static,
    {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// In seconds, which the name then ends in.
    pub(super) fn seconds<M>(&mut self, name: &str, help: &str, metric: M) -> M
    where
        M: Clone + std::fmt::Debug + EncodeMetric + Send + Sync + 'static,
    {
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }

    /// Counters by a closed set of keys, all there from the start.
    pub(super) fn counters<K, L>(
        &mut self,
        name: &str,
        help: &str,
        keys: impl IntoIterator<Item = K>,
        label: impl Fn(K) -> L,
    ) -> Fixed<K, Counter>
    where
        K: Copy + PartialEq,
        L: Clone + std::fmt::Debug + std::hash::Hash + Eq + EncodeLabelSet + Send + Sync + 'static,
    {
        let family: Family<L, Counter> = self.metric(name, help);
        Fixed::of(&family, keys, label)
    }
}
