//! How many refused logins are written to the audit log one by one. A flood of them must not fill the disk:
//! what is beyond is counted.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::{Bucket, Rate};
use super::table::Table;
use super::{NEIGHBOURHOODS, key_of};
use crate::domain::network::Neighbourhood;
use crate::domain::time::Timestamp;

/// Refusals of one neighbourhood.
const OF_ONE: Rate = Rate { burst: 500, every: Duration::from_secs(2) };
/// Refusals of all together.
const OF_ALL: Rate = Rate { burst: 20_000, every: Duration::from_millis(100) };

/// How many neighbourhoods are told apart when they are counted: a botnet has any number of them, and memory
/// is not to grow with it.
const MOST_COUNTED: usize = 10_000;

/// What is written of refused logins.
#[derive(Default)]
pub struct RefusalNotes(Mutex<State>);

struct State {
    all: Bucket,
    of: Table<Bucket>,
    refusals: u64,
    neighbourhoods: HashSet<Neighbourhood>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            all: Bucket::default(),
            of: Table::new(NEIGHBOURHOODS),
            refusals: 0,
            neighbourhoods: HashSet::new(),
        }
    }
}

/// Refused logins that were not written down one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// How many.
    pub refusals: u64,
    /// From how many neighbourhoods; of more than ten thousand it says ten thousand.
    pub neighbourhoods: usize,
}

impl RefusalNotes {
    /// Whether a refusal of that neighbourhood is to be written down by itself; otherwise it is counted.
    pub fn admit(&self, neighbourhood: Neighbourhood, now: Timestamp) -> bool {
        let state = &mut *self.0.lock();
        let key = key_of(neighbourhood.number());
        let mut of_one = state.of.get(key).unwrap_or_default();
        let has_room = of_one.take(&OF_ONE, now).is_ok();
        state.of.put(key, of_one, now);
        if has_room && state.all.take(&OF_ALL, now).is_ok() {
            return true;
        }
        state.refusals += 1;
        if state.neighbourhoods.len() < MOST_COUNTED {
            state.neighbourhoods.insert(neighbourhood);
        }
        false
    }

    /// Those that were counted since the last call.
    pub fn take_folded(&self) -> Option<Folded> {
        let state = &mut *self.0.lock();
        let refusals = std::mem::take(&mut state.refusals);
        let neighbourhoods = std::mem::take(&mut state.neighbourhoods).len();
        (refusals > 0).then_some(Folded { refusals, neighbourhoods })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::Network;

    #[test]
    fn a_flood_is_written_in_part_and_counted_whole() {
        let neighbourhood = |number: u64| Network::from_number(number << 16).neighbourhood();
        let at = |seconds: i64| Timestamp::from_micros(1_800_000_000_000_000 + seconds * 1_000_000);
        let notes = RefusalNotes::default();
        let written =
            |from, count, now| (0..count).filter(|_| notes.admit(neighbourhood(from), now)).count();
        assert_eq!(written(1, 700, at(0)), 500);
        assert_eq!(notes.take_folded(), Some(Folded { refusals: 200, neighbourhoods: 1 }));
        assert_eq!(notes.take_folded(), None);
        assert_eq!(written(1, 100, at(60)), 30, "one every two seconds");
        let many: usize = (2..102).map(|from| written(from, 500, at(60))).sum();
        assert_eq!(many, 20_000 - 30, "all together");
        let folded = notes.take_folded().unwrap();
        assert_eq!(folded, Folded { refusals: 70 + 50_000 - 19_970, neighbourhoods: 61 + 1 });
    }

    #[test]
    fn a_million_neighbourhoods_take_no_more_than_the_table() {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let notes = RefusalNotes::default();
        for number in 0..1_000_000 {
            notes.admit(Network::from_number(number << 16).neighbourhood(), now);
        }
        let state = notes.0.lock();
        assert!(state.of.len() <= NEIGHBOURHOODS);
        assert!(state.neighbourhoods.capacity() <= 2 * MOST_COUNTED);
        drop(state);
        let folded = Folded { refusals: 980_000, neighbourhoods: MOST_COUNTED };
        assert_eq!(notes.take_folded(), Some(folded));
    }
}
