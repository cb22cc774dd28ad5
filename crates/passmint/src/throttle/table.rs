//! Memory that does not grow: a table of a fixed number of places, in which a new key takes the place
//! of the least worthy of a few. Which few is decided by a hash with a key of its own, so that nobody
//! can choose whom to displace.

use std::hash::{BuildHasher as _, RandomState};

use super::Key;
use crate::domain::time::Timestamp;

/// Places that a key may stand in.
const WAYS: usize = 8;

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
    places: Vec<Place<S>>,
    sets: usize,
    hasher: RandomState,
    used: usize,
}

impl<S: State> Table<S> {
    /// A table of that many places, a power of two from 8 on. Nothing is taken from the system yet.
    pub(super) fn new(places: usize) -> Self {
        let sets = (places / WAYS).max(1);
        Self { places: Vec::new(), sets, hasher: RandomState::new(), used: 0 }
    }

    /// What is remembered under `key`.
    pub(super) fn get(&self, key: Key) -> Option<S> {
        let first = self.first(key);
        let set = self.places.get(first..first + WAYS)?;
        set.iter().find(|place| place.key == key).map(|place| place.state)
    }

    /// Remembers a state under `key`, in the place of something less worthy at need.
    pub(super) fn put(&mut self, key: Key, state: S, now: Timestamp) {
        if self.places.is_empty() {
            self.places = vec![Place::default(); self.sets * WAYS];
        }
        let first = self.first(key);
        let set = self.places.get_mut(first..first + WAYS).unwrap_or_default();
        let worth = |place: &Place<S>| match place.key {
            found if found == key => (0, 0),
            (0, 0) => (1, 0),
            _ => (2, place.state.worth(now)),
        };
        if let Some(place) = set.iter_mut().min_by_key(|place| worth(place)) {
            self.used += usize::from(place.key == (0, 0));
            *place = Place { key, state };
        }
    }

    /// Works on everything that is remembered.
    pub(super) fn each(&mut self, mut work: impl FnMut(Key, &mut S)) {
        for place in self.places.iter_mut().filter(|place| place.key != (0, 0)) {
            work(place.key, &mut place.state);
        }
    }

    /// How many places are taken. A place once taken is given to others, never back.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    fn first(&self, key: Key) -> usize {
        let hash = self.hasher.hash_one(key);
        usize::try_from(hash % self.sets as u64).unwrap_or(0) * WAYS
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

    #[test]
    fn a_million_keys_take_no_more_than_the_table_and_leave_the_worthiest() {
        let now = Timestamp::from_micros(0);
        let mut table = Table::new(1 << 12);
        for key in 1..=10 {
            table.put((key, 1), Count(1000), now);
        }
        for key in 100..1_000_000 {
            table.put((key, 1), Count(1), now);
        }
        assert_eq!(table.len(), 1 << 12);
        for key in 1..=10 {
            assert_eq!(table.get((key, 1)), Some(Count(1000)), "{key} was displaced");
        }
        let mut seen = 0;
        table.each(|_, _| seen += 1);
        assert_eq!(seen, 1 << 12);
    }

    #[test]
    fn what_is_not_there_is_neither_found_nor_made() {
        let table: Table<Count> = Table::new(512);
        assert_eq!((table.get((5, 1)), table.len()), (None, 0));
    }
}
