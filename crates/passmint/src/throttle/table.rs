//! Memory that does not grow: a table of a fixed number of places, in which a new key takes the place
//! of the least worthy of a few. Which few is decided by a hash with a key of its own, so that nobody
//! can choose whom to displace.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Key;
use crate::domain::time::Timestamp;

/// Places that a key may stand in.
const WAYS: usize = 8;
/// Parts that are locked, and taken from the system, apart.
const SHARDS: usize = 64;

/// What a table remembers under a key.
pub(super) trait State: Copy + Default {
    /// How much would be lost if it were forgotten `now`; 0: nothing.
    fn worth(&self, now: Timestamp) -> u64;
}

#[derive(Clone, Copy, Default)]
struct Place<S> {
    /// (0, 0): free.
    key: Key,
    state: S,
}

/// The table.
pub(super) struct Table<S> {
    shards: Box<[Mutex<Vec<Place<S>>>]>,
    sets: usize,
    hasher: RandomState,
    used: AtomicUsize,
}

impl<S: State> Table<S> {
    /// A table of that many places, a power of two from 512 on. Nothing is taken from the system yet.
    pub(super) fn new(places: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            sets: (places / SHARDS / WAYS).max(1),
            hasher: RandomState::new(),
            used: AtomicUsize::new(0),
        }
    }

    /// Works on what is remembered under `key`, or on a new state that takes a place for it.
    pub(super) fn with<R>(&self, key: Key, now: Timestamp, work: impl FnOnce(&mut S) -> R) -> R {
        let (shard, first) = self.find(key);
        let Some(shard) = self.shards.get(shard) else {
            return work(&mut S::default());
        };
        let mut shard = shard.lock();
        if shard.is_empty() {
            *shard = vec![Place::default(); self.sets * WAYS];
        }
        let set = shard.get_mut(first..first + WAYS).unwrap_or_default();
        let worth = |place: &Place<S>| match place.key {
            found if found == key => (0, 0),
            (0, 0) => (1, 0),
            _ => (2, place.state.worth(now)),
        };
        let Some(place) = set.iter_mut().min_by_key(|place| worth(place)) else {
            return work(&mut S::default());
        };
        if place.key != key {
            if place.key == (0, 0) {
                self.used.fetch_add(1, Ordering::Relaxed);
            }
            *place = Place { key, state: S::default() };
        }
        work(&mut place.state)
    }

    /// Works on what is remembered under `key`, if anything is.
    pub(super) fn touch(&self, key: Key, work: impl FnOnce(&mut S)) {
        let (shard, first) = self.find(key);
        let Some(shard) = self.shards.get(shard) else { return };
        let mut shard = shard.lock();
        let set = shard.get_mut(first..first + WAYS).unwrap_or_default();
        if let Some(place) = set.iter_mut().find(|place| place.key == key) {
            work(&mut place.state);
        }
    }

    /// What is remembered under `key`.
    pub(super) fn peek(&self, key: Key) -> Option<S> {
        let mut found = None;
        self.touch(key, |state| found = Some(*state));
        found
    }

    /// Works on everything that is remembered.
    pub(super) fn each(&self, mut work: impl FnMut(Key, &mut S)) {
        for shard in &self.shards {
            for place in shard.lock().iter_mut().filter(|place| place.key != (0, 0)) {
                work(place.key, &mut place.state);
            }
        }
    }

    /// How many places are taken. A place once taken is given to others, never back.
    pub(super) fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn find(&self, key: Key) -> (usize, usize) {
        let [low, high @ ..] = self.hasher.hash_one(key).to_le_bytes();
        let set = high.iter().take(4).fold(0, |set, byte| set << 8 | usize::from(*byte));
        (usize::from(low) % SHARDS, set % self.sets * WAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Default, PartialEq, Debug)]
    struct Count(u64);

    impl State for Count {
        fn worth(&self, _: Timestamp) -> u64 {
            self.0
        }
    }

    const NOW: fn() -> Timestamp = || Timestamp::from_micros(0);

    #[test]
    fn a_million_keys_take_no_more_than_the_table_and_leave_the_worthiest() {
        let table = Table::new(1 << 12);
        for key in 1..=10 {
            table.with((key, 1), NOW(), |count: &mut Count| count.0 = 1000);
        }
        for key in 100..1_000_000 {
            table.with((key, 1), NOW(), |count| count.0 += 1);
        }
        assert_eq!(table.len(), 1 << 12);
        for key in 1..=10 {
            assert_eq!(table.peek((key, 1)), Some(Count(1000)), "{key} was displaced");
        }
        let mut seen = 0;
        table.each(|_, _| seen += 1);
        assert_eq!(seen, 1 << 12);
    }

    #[test]
    fn what_is_not_there_is_neither_found_nor_made() {
        let table: Table<Count> = Table::new(512);
        table.touch((5, 1), |_| panic!("nothing is there"));
        assert_eq!((table.peek((5, 1)), table.len()), (None, 0));
    }
}
