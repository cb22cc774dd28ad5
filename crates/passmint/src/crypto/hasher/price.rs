//! What the stored hashes cost. Where there are others than this server's own, imported or of an older
//! price, a refused password is answered no sooner than the dearest of them takes: otherwise the time
//! would tell who exists. How long that is under load, `reference` finds out.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::format::Scheme;

/// The share of its usual time that is waited for beside it: half of it.
const HEADROOM: u32 = 2;

/// What one hash takes, smoothed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Price {
    /// From its beginning to its end: beside other work much longer than without.
    pub(super) elapsed: Duration,
    /// Of the processor.
    pub(super) processor: Duration,
}

/// The schemes of stored hashes beside the own one, with what each takes.
#[derive(Default)]
pub(super) struct Prices {
    known: HashMap<Scheme, Price>,
    /// Those that are being measured, or are going to be.
    pending: HashSet<Scheme>,
    /// Whether nobody has looked yet which schemes are stored.
    unknown: bool,
    /// Those that were stored since somebody looked last.
    added: HashSet<Scheme>,
}

impl Prices {
    /// Says that [`Self::learn`] is going to be called.
    pub(super) fn expect(&mut self) {
        self.unknown = true;
    }

    /// Takes `schemes` for all that are stored; those that are to be measured now, each once however
    /// often this is called before their measurement has ended.
    pub(super) fn learn(&mut self, schemes: &[Scheme]) -> Vec<Scheme> {
        self.unknown = false;
        // Those may have been stored after the look.
        let schemes: HashSet<Scheme> = schemes.iter().copied().chain(self.added.drain()).collect();
        self.known.retain(|scheme, _| schemes.contains(scheme));
        self.measure(schemes)
    }

    /// Takes `schemes` for stored, too, by now; those that are to be measured now.
    pub(super) fn learn_more(&mut self, schemes: &[Scheme]) -> Vec<Scheme> {
        self.added.extend(schemes);
        self.measure(schemes.iter().copied().collect())
    }

    fn measure(&mut self, schemes: HashSet<Scheme>) -> Vec<Scheme> {
        let mut unmeasured: Vec<Scheme> = schemes
            .into_iter()
            .filter(|scheme| !self.known.contains_key(scheme) && self.pending.insert(*scheme))
            .collect();
        // Those that cost most, which decide how long refusals wait, are mostly the last.
        unmeasured.sort_unstable();
        unmeasured.reverse();
        unmeasured
    }

    /// The measurement of that scheme has ended, well or not.
    pub(super) fn measurement_ended(&mut self, scheme: Scheme) {
        self.pending.remove(&scheme);
    }

    /// How long the slowest of them keeps a processor; `None`: there are no others than own hashes. Other work
    /// does not make it longer: a busy machine would refuse everybody.
    pub(super) fn slowest(&self) -> Option<Duration> {
        self.known.values().map(|price| price.processor).max()
    }

    /// Whether it is not known yet which is the dearest.
    pub(super) fn is_incomplete(&self) -> bool {
        self.unknown || !self.pending.is_empty()
    }

    /// The one that takes longest.
    pub(super) fn dearest(&self) -> Option<Scheme> {
        let dearest = self.known.iter().max_by_key(|(_, price)| price.elapsed);
        dearest.map(|(scheme, _)| *scheme)
    }

    /// Takes what one hash of that scheme took. The first counts whole, later ones an eighth.
    pub(super) fn measured(&mut self, scheme: Scheme, took: Price) {
        let price = self.known.entry(scheme).or_insert(took);
        price.elapsed = (price.elapsed * 7 + took.elapsed) / 8;
        price.processor = (price.processor * 7 + took.processor) / 8;
    }

    /// How long after its hash began a refusal is answered, where an own hash takes `own`; `None`:
    /// at once, for all hashes are alike.
    pub(super) fn floor(&self, own: Duration) -> Option<Duration> {
        // Refusals wait for a reference hash then.
        if self.known.is_empty() && self.is_incomplete() {
            return Some(own);
        }
        let dearest = self.known.values().map(|price| price.elapsed).max()?.max(own);
        Some(with_headroom(dearest))
    }
}

/// How long to wait so that a hash that usually takes `usual` does not stand out when it is slow.
pub(super) fn with_headroom(usual: Duration) -> Duration {
    usual + usual / HEADROOM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_stored_hash_sets_the_floor() {
        let millis = Duration::from_millis;
        let price = |elapsed| Price { elapsed: millis(elapsed), processor: millis(elapsed / 2) };
        let (cheap, dear) = (Scheme::Bcrypt { cost: 4 }, Scheme::Bcrypt { cost: 12 });
        let mut prices = Prices::default();
        assert_eq!(prices.floor(millis(4)), None);
        prices.expect();
        assert_eq!(prices.floor(millis(4)), Some(millis(4)), "there may be others");
        assert_eq!(prices.learn(&[cheap, dear, cheap]), [dear, cheap], "each once");
        assert_eq!(prices.floor(millis(4)), Some(millis(4)));
        prices.measured(cheap, price(2));
        prices.measurement_ended(cheap);
        assert!(prices.is_incomplete());
        assert_eq!(prices.floor(millis(4)), Some(millis(6)), "the own one is the dearest");
        prices.measured(dear, price(100));
        prices.measurement_ended(dear);
        assert!(!prices.is_incomplete());
        assert_eq!(prices.dearest(), Some(dear));
        assert_eq!(prices.floor(millis(4)), Some(millis(150)));
        assert_eq!(prices.slowest(), Some(millis(50)), "however long other work makes it");
        prices.measured(dear, price(180));
        assert_eq!(prices.floor(millis(4)), Some(millis(165)));
        assert_eq!(prices.learn(&[cheap]), []);
        assert_eq!(prices.floor(millis(4)), Some(millis(6)));
        assert_eq!(prices.learn(&[]), []);
        assert_eq!(prices.floor(millis(4)), None);
    }

    #[test]
    fn equal_hashes_make_one_measurement_however_many_are_stored() {
        let (one, other) = (Scheme::Bcrypt { cost: 4 }, Scheme::Bcrypt { cost: 12 });
        let mut prices = Prices::default();
        let mut measurements = 0;
        // Users come in batches, and each batch is learned.
        for _ in 0..20 {
            measurements += prices.learn_more(&[one; 500]).len();
        }
        assert_eq!(measurements, 1);
        assert_eq!(prices.learn(&[one, other]), [other]);
        let took = Duration::from_millis(2);
        prices.measured(one, Price { elapsed: took, processor: took });
        prices.measurement_ended(one);
        prices.measurement_ended(other);
        assert_eq!(prices.learn(&[one, other]), [other], "one that came to nothing is made again");
    }

    #[test]
    fn what_is_imported_while_somebody_looks_stays_known() {
        let (old, new) = (Scheme::Bcrypt { cost: 4 }, Scheme::Bcrypt { cost: 12 });
        let took = Price { elapsed: Duration::from_millis(2), processor: Duration::ZERO };
        let mut prices = Prices::default();
        prices.expect();
        assert_eq!(prices.learn_more(&[new]), [new]);
        prices.measured(new, took);
        prices.measurement_ended(new);
        assert!(prices.is_incomplete(), "the old ones are not known yet");
        assert_eq!(prices.learn(&[old]), [old]);
        assert_eq!(prices.dearest(), Some(new));
        assert_eq!(prices.learn(&[old]), [], "gone by now");
        assert_eq!(prices.dearest(), None);
    }
}
