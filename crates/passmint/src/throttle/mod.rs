//! Slows down whoever tries too often (contract section 6): failed logins per username and network,
//! neighbourhood, and everywhere; per network over all usernames; and requests per network and endpoint.
//!
//! `decision` has the rules of failed logins as one pure decision over values; `failures`, `account`,
//! `address` and `bucket` are its parts, `recent` the credentials that pass, `table` the memory they
//! share (fixed, whatever an attacker invents), `attempt` an attempt that is under way or waits,
//! `waiting` the queues of the latter, `lockouts` what is shown, kept and unlocked. Unknown
//! usernames are counted like known ones. Only `service` calls this module; it reads no clock and no
//! store. What must survive a restart is handed out by [`Throttle::changed`] and taken back by
//! [`Throttle::restore`].
//!
//! Locks: one for each group of accounts, held for a whole decision, and inside it one for each group
//! of networks. Nothing is awaited under either.

mod account;
mod address;
mod attempt;
mod bucket;
mod decision;
mod failures;
mod lockouts;
mod notes;
mod recent;
mod table;
mod waiting;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::network::Network;
use crate::domain::throttle::{KnownOrigin, Scope};
use crate::domain::time::Timestamp;

use account::AccountFailures;
use address::SenderFailures;
use bucket::Bucket;
use decision::{Decision, FullTable, NeighbourhoodFailures, Places, View};
use failures::Failures;
use recent::Recent;
use table::Table;
use waiting::Waiters;

pub use attempt::{Admitted, Waiting};
pub use bucket::Rate;
pub use decision::LoginRules;
pub use failures::{FORGOTTEN_AFTER, Ladder};
pub use notes::RefusalNotes;
pub use recent::Presented;

/// Parts that are locked, and taken from the system, apart.
const SHARDS: usize = 64;
/// Entries of each table, over all shards: some 11 MiB when all are full. Memory is taken piece by
/// piece as they fill.
const NETWORKS: usize = 1 << 16;
const NEIGHBOURHOODS: usize = 1 << 15;
const ACCOUNTS: usize = 1 << 15;
const RECENT: usize = 1 << 13;
const SENDERS: usize = 1 << 14;
const REQUESTS: usize = 1 << 15;

/// An endpoint whose requests are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Takes a password.
    TokenAuth,
    /// Takes a refresh token.
    TokenRefresh,
    /// Changes something for a logged-in user.
    Change,
}

impl Door {
    /// Every endpoint.
    pub const ALL: [Self; 3] = [Self::TokenAuth, Self::TokenRefresh, Self::Change];
}

/// Which rule refuses an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Too many requests from one network.
    Address,
    /// Too many failures of a username from one network.
    Network,
    /// Too many failures of a username from one neighbourhood.
    Neighbourhood,
    /// Too many failures of a username from everywhere.
    Account,
    /// Too many failures of one network over all usernames.
    AllUsers,
    /// Too many changes by one logged-in user.
    Changes,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 6] = [
        Self::Address,
        Self::Network,
        Self::Neighbourhood,
        Self::Account,
        Self::AllUsers,
        Self::Changes,
    ];
}

/// Too many attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts")]
pub struct Throttled {
    /// By which rule.
    pub rule: Rule,
    /// When the next attempt is taken.
    pub retry_after: Duration,
}

/// A password that somebody wants to have checked.
#[derive(Clone, Copy, Debug)]
pub struct LoginAttempt {
    /// The keyed digest of the username.
    pub account: u64,
    /// From where.
    pub network: Network,
    /// Whether the user has logged in from there of late, as far as it was asked.
    pub known: Option<KnownOrigin>,
    /// The credentials themselves, as digests.
    pub presented: Presented,
}

/// What becomes of a login attempt.
pub enum Admission<'a> {
    /// The password may be checked. The outcome is to be reported to this.
    Granted(Admitted<'a>),
    /// Too many attempts.
    Refused(Throttled),
    /// It depends on where the user has logged in from of late: find out, ask again.
    AskKnown,
    /// It depends on attempts that are under way: wait, ask again.
    Wait(Waiting<'a>),
}

type Key = (u64, u64);

/// What is remembered of a group of accounts.
struct AccountGroup {
    networks: Table<Failures>,
    neighbourhoods: Table<NeighbourhoodFailures>,
    accounts: Table<AccountFailures>,
    recent: Table<Recent>,
    /// What has changed since it was last asked for.
    changed: HashSet<(u64, Scope)>,
    waiters: Waiters,
}

/// The throttle.
pub struct Throttle {
    accounts: [Mutex<AccountGroup>; SHARDS],
    senders: [Mutex<Table<SenderFailures>>; SHARDS],
    logins: [Mutex<Table<Bucket>>; SHARDS],
    refreshes: [Mutex<Table<Bucket>>; SHARDS],
    changes: [Mutex<Table<Bucket>>; SHARDS],
}

impl Default for Throttle {
    fn default() -> Self {
        let accounts = || AccountGroup {
            networks: Table::new(NETWORKS / SHARDS),
            neighbourhoods: Table::new(NEIGHBOURHOODS / SHARDS),
            accounts: Table::new(ACCOUNTS / SHARDS),
            recent: Table::new(RECENT / SHARDS),
            changed: HashSet::new(),
            waiters: Waiters::default(),
        };
        let senders = || Table::new(SENDERS / SHARDS);
        let requests = || Table::new(REQUESTS / SHARDS);
        Self {
            accounts: std::array::from_fn(|_| Mutex::new(accounts())),
            senders: std::array::from_fn(|_| Mutex::new(senders())),
            logins: std::array::from_fn(|_| Mutex::new(requests())),
            refreshes: std::array::from_fn(|_| Mutex::new(requests())),
            changes: std::array::from_fn(|_| Mutex::new(Table::new(SENDERS / SHARDS))),
        }
    }
}

/// The shard of a number whose bits an outsider may choose; the tables inside hash with keys.
fn shard<T>(shards: &[Mutex<T>; SHARDS], number: u64) -> &Mutex<T> {
    let [first, ..] = shards;
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    shards.get(usize::try_from(mixed).unwrap_or(0) % SHARDS).unwrap_or(first)
}

/// The key of one number. The second half only keeps number 0 apart from an empty place.
fn key_of(number: u64) -> Key {
    (number, 1)
}

impl LoginAttempt {
    fn key(&self, table: FullTable) -> Key {
        match table {
            FullTable::Network => (self.account, self.network.number()),
            FullTable::Neighbourhood => (self.account, self.network.neighbourhood().number()),
            FullTable::Account => key_of(self.account),
        }
    }

    fn scopes(&self) -> [(u64, Scope); 3] {
        let neighbourhood = Scope::Neighbourhood(self.network.neighbourhood());
        [Scope::Network(self.network), neighbourhood, Scope::Everywhere]
            .map(|scope| (self.account, scope))
    }
}

impl Throttle {
    /// Counts a request to an endpoint that takes a password or a refresh token.
    pub fn request(
        &self,
        door: Door,
        address: IpAddr,
        rate: &Rate,
        now: Timestamp,
    ) -> Result<(), Throttled> {
        self.take(door, Network::of(address).number(), rate, now)
            .map_err(|retry_after| Throttled { rule: Rule::Address, retry_after })
    }

    /// Counts a change by a logged-in user, by the number of its id.
    pub fn change(&self, user: i64, rate: &Rate, now: Timestamp) -> Result<(), Throttled> {
        self.take(Door::Change, user.cast_unsigned(), rate, now)
            .map_err(|retry_after| Throttled { rule: Rule::Changes, retry_after })
    }

    /// Takes one out of the bucket that an endpoint has for a number, or says when one is free.
    fn take(&self, door: Door, number: u64, rate: &Rate, now: Timestamp) -> Result<(), Duration> {
        let shards = match door {
            Door::TokenAuth => &self.logins,
            Door::TokenRefresh => &self.refreshes,
            Door::Change => &self.changes,
        };
        let key = key_of(number);
        let mut table = shard(shards, number).lock();
        let mut bucket = table.get(key).unwrap_or_default();
        let taken = bucket.take(rate, now);
        table.put(key, bucket, now);
        taken
    }

    /// Lets a password be checked, or not. Attempts under way count as failures until they are
    /// settled, so that guesses in parallel get no further than guesses one by one.
    pub fn admit(
        &self,
        attempt: &LoginAttempt,
        rules: &LoginRules,
        now: Timestamp,
    ) -> Admission<'_> {
        let granted = |places| Admission::Granted(Admitted::new(self, *attempt, *rules, places));
        self.with_view(attempt, now, |view, accounts| {
            let decision = view.admit(attempt.known, rules, now);
            let refused = matches!(decision, Decision::Refused(_) | Decision::Wait(_));
            if refused && accounts.recognises(attempt, now) {
                return granted(Places::NONE);
            }
            match decision {
                Decision::Granted(places) => granted(places),
                Decision::Refused(throttled) => Admission::Refused(throttled),
                Decision::AskKnown => Admission::AskKnown,
                Decision::Wait(table) => {
                    let freed = accounts.waiters.join(table, attempt.key(table));
                    Admission::Wait(Waiting::new(self, *attempt, *rules, (table, freed), now))
                }
            }
        })
    }

    /// Works on what all tables say about an attempt, under the locks of its account and its network.
    fn with_view<R>(
        &self,
        attempt: &LoginAttempt,
        now: Timestamp,
        work: impl FnOnce(&mut View, &mut AccountGroup) -> R,
    ) -> R {
        let mut accounts = shard(&self.accounts, attempt.account).lock();
        let mut senders = shard(&self.senders, attempt.network.number()).lock();
        let [network, neighbourhood, account] =
            [FullTable::Network, FullTable::Neighbourhood, FullTable::Account]
                .map(|table| attempt.key(table));
        let sender = key_of(attempt.network.number());
        let mut view = View {
            network: accounts.networks.get(network).unwrap_or_default(),
            neighbourhood: accounts.neighbourhoods.get(neighbourhood).unwrap_or_default(),
            account: accounts.accounts.get(account).unwrap_or_default(),
            sender: senders.get(sender).unwrap_or_default(),
        };
        let before = view;
        let result = work(&mut view, &mut accounts);
        if view.network != before.network {
            accounts.networks.put(network, view.network, now);
        }
        if view.neighbourhood != before.neighbourhood {
            accounts.neighbourhoods.put(neighbourhood, view.neighbourhood, now);
        }
        if view.account != before.account {
            accounts.accounts.put(account, view.account, now);
        }
        if view.sender != before.sender {
            senders.put(sender, view.sender, now);
        }
        result
    }

    /// How many places of its tables are in use: accounts with networks (and neighbourhoods),
    /// accounts, networks.
    pub fn entries(&self) -> [usize; 3] {
        let mut entries = [0; 3];
        let [networks, accounts, senders] = &mut entries;
        for shard in &self.accounts {
            let shard = shard.lock();
            *networks += shard.networks.len() + shard.neighbourhoods.len();
            *accounts += shard.accounts.len();
        }
        *senders += self.senders.iter().map(|shard| shard.lock().len()).sum::<usize>();
        for shard in self.logins.iter().chain(&self.refreshes).chain(&self.changes) {
            *senders += shard.lock().len();
        }
        entries
    }
}

impl AccountGroup {
    /// Whether those credentials were right from there a moment ago.
    fn recognises(&mut self, attempt: &LoginAttempt, now: Timestamp) -> bool {
        let key = attempt.key(FullTable::Network);
        let Some(mut recent) = self.recent.get(key) else { return false };
        let recognised = recent.recognises(&attempt.presented, now);
        self.recent.put(key, recent, now);
        recognised
    }

    fn remember(&mut self, attempt: &LoginAttempt, now: Timestamp) {
        let key = attempt.key(FullTable::Network);
        let mut recent = self.recent.get(key).unwrap_or_default();
        recent.remember(&attempt.presented, now);
        self.recent.put(key, recent, now);
    }

    fn wake(&mut self, attempt: &LoginAttempt) {
        for table in [FullTable::Network, FullTable::Neighbourhood, FullTable::Account] {
            self.waiters.wake_one(table, attempt.key(table));
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
