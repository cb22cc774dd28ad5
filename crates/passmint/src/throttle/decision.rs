//! Whether a password may be tried: one decision over all tables, before a place is taken in any of
//! them. Pure values: `now` and what is known of the sender are passed in, and a refusal changes
//! nothing. The explored model of these rules is in `model`.

use std::time::Duration;

use super::account::{AccountFailures, INTERVAL, Place};
use super::address::SenderFailures;
use super::bucket::Rate;
use super::failures::{Failures, Ladder, worth};
use super::table::State;
use super::{Rule, Throttled};
use crate::domain::throttle::KnownOrigin;
use crate::domain::time::{Timestamp, micros};

/// The numbers of contract section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginRules {
    /// Failures of a username from one network.
    pub network: Ladder,
    /// Failures of a username from one neighbourhood.
    pub neighbourhood: Ladder,
    /// Failures of a username from everywhere, before one attempt an hour is left to strangers.
    pub everywhere: u32,
    /// Failures of one network over all usernames.
    pub all_users: Rate,
}

/// For how long a neighbourhood that failed comes behind those that never did.
const UNCLEAN_FOR: Duration = Duration::from_hours(24 * 30);

/// A username's failures from one neighbourhood, and when they last counted as from everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct NeighbourhoodFailures {
    pub(super) failures: Failures,
    counted_at: i64,
    /// When it last failed, also where that is forgotten.
    failed_at: i64,
}

impl NeighbourhoodFailures {
    pub(super) fn restored(failures: Failures) -> Self {
        Self { failures, counted_at: failures.at, failed_at: failures.at }
    }
}

impl NeighbourhoodFailures {
    /// Whether it has no failures of its own. Remembered for longer than failures count: those who fail
    /// once a day would be clean again each day, and take the attempt of newcomers.
    fn is_clean(&self, now: Timestamp) -> bool {
        let failed = Timestamp::from_micros(self.failed_at);
        !self.failures.any() && (self.failed_at == 0 || now.since(failed) >= UNCLEAN_FOR)
    }
}

impl State for NeighbourhoodFailures {
    fn worth(&self, now: Timestamp) -> u64 {
        let failures = if self.failures.is_old(now) { 0 } else { self.failures.count };
        worth(self.failures.under_way, failures, self.failed_at)
    }
}

/// What all tables say about one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct View {
    /// Of the username, from the network.
    pub(super) network: Failures,
    /// Of the username, from the neighbourhood.
    pub(super) neighbourhood: NeighbourhoodFailures,
    /// Of the username, from everywhere.
    pub(super) account: AccountFailures,
    /// Of the network, over all usernames.
    pub(super) sender: SenderFailures,
}

/// The places that an attempt has taken, to be given back when it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Places {
    known: KnownOrigin,
    /// Whether any were taken: credentials that were right a moment ago take none.
    taken: bool,
    /// When it is the only attempt of its interval: what to put back if it is not made.
    single: Option<i64>,
}

impl Places {
    /// Of an attempt that passes without a count.
    pub(super) const NONE: Self = Self {
        known: KnownOrigin { network: true, neighbourhood: true },
        taken: false,
        single: None,
    };
}

/// A table in which an attempt found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FullTable {
    Network,
    Neighbourhood,
    Account,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Granted(Places),
    Refused(Throttled),
    /// It depends on where the user has logged in from: find out, ask again.
    AskKnown,
    /// It depends on attempts that are under way in that table.
    Wait(FullTable),
}

impl View {
    /// Decides about an attempt. Only a grant changes anything.
    pub(super) fn admit(
        &mut self,
        known: Option<KnownOrigin>,
        rules: &LoginRules,
        now: Timestamp,
    ) -> Decision {
        self.forget_old(now);
        let wait = self.network.wait(&rules.network, now);
        if !wait.is_zero() {
            return Decision::Refused(Throttled { rule: Rule::Network, retry_after: wait });
        }
        let matters =
            self.neighbourhood.failures.any() || self.account.any() || self.sender.any(now);
        let known = match known {
            None if matters => return Decision::AskKnown,
            known => known.unwrap_or_default(),
        };
        let clean = self.neighbourhood.is_clean(now);
        let place = self.account.place(rules.everywhere, clean, now);
        if let Some(refused) = self.refusal(known, place, rules, now) {
            return Decision::Refused(refused);
        }
        if let Some(full) = self.full(known, place, rules) {
            return Decision::Wait(full);
        }
        self.network.under_way += 1;
        if !known.network {
            self.neighbourhood.failures.under_way += 1;
        }
        let mut single = None;
        if !known.neighbourhood {
            self.account.under_way += 1;
            if place == Place::Single {
                single = Some(self.account.take_single(rules.everywhere, clean, now));
            }
        }
        Decision::Granted(Places { known, taken: true, single })
    }

    /// The rule that makes it wait longest.
    fn refusal(
        &self,
        known: KnownOrigin,
        place: Place,
        rules: &LoginRules,
        now: Timestamp,
    ) -> Option<Throttled> {
        let neighbourhood = if known.network {
            Duration::ZERO
        } else {
            self.neighbourhood.failures.wait(&rules.neighbourhood, now)
        };
        let account = match place {
            Place::Wait(left) if !known.neighbourhood => left,
            _ => Duration::ZERO,
        };
        let sender = self.sender.wait(&rules.all_users, known.network, now);
        [(Rule::Neighbourhood, neighbourhood), (Rule::Account, account), (Rule::AllUsers, sender)]
            .into_iter()
            .filter(|(_, wait)| !wait.is_zero())
            .max_by_key(|(_, wait)| *wait)
            .map(|(rule, retry_after)| Throttled { rule, retry_after })
    }

    /// The table whose places are all taken by attempts under way.
    fn full(&self, known: KnownOrigin, place: Place, rules: &LoginRules) -> Option<FullTable> {
        if !self.network.has_room(&rules.network) {
            return Some(FullTable::Network);
        }
        if !known.network && !self.neighbourhood.failures.has_room(&rules.neighbourhood) {
            return Some(FullTable::Neighbourhood);
        }
        if !known.neighbourhood && place == Place::Full {
            return Some(FullTable::Account);
        }
        None
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.network.forget_if_old(now);
        self.neighbourhood.failures.forget_if_old(now);
        self.account.forget_if_old(now);
    }

    /// Gives the places of an attempt back.
    fn leave(&mut self, places: &Places) {
        if !places.taken {
            return;
        }
        let leave = |under_way: &mut u32| *under_way = under_way.saturating_sub(1);
        leave(&mut self.network.under_way);
        if !places.known.network {
            leave(&mut self.neighbourhood.failures.under_way);
        }
        if !places.known.neighbourhood {
            leave(&mut self.account.under_way);
        }
    }

    /// The password was wrong, or there is no such user.
    pub(super) fn failed(&mut self, places: &Places, rules: &LoginRules, now: Timestamp) {
        self.leave(places);
        self.network.fail(&rules.network, now);
        self.neighbourhood.failures.fail(&rules.neighbourhood, now);
        self.neighbourhood.failed_at = now.micros();
        self.sender.fail(&rules.all_users, places.known.network, now);
        if !places.known.neighbourhood {
            let counted_at = self.neighbourhood.counted_at;
            let first = counted_at == 0 || now.micros() - counted_at >= micros(INTERVAL);
            if first {
                self.neighbourhood.counted_at = now.micros();
            }
            self.account.fail(rules.everywhere, first, now);
        }
    }

    /// The password was right. `repeat`: it was right from there a moment ago, too; that forgives
    /// nothing. Whether failures were forgiven.
    pub(super) fn succeeded(&mut self, places: &Places, repeat: bool, now: Timestamp) -> bool {
        self.withdrawn(places);
        if repeat && !places.taken {
            return false;
        }
        let network = self.network.forgive(now);
        self.neighbourhood.failures.forgive(now) || network
    }

    /// The password was not looked at after all.
    pub(super) fn withdrawn(&mut self, places: &Places) {
        self.leave(places);
        if let Some(before) = places.single {
            self.account.single_at = before;
        }
    }
}
