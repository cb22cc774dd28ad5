//! Slows down whoever tries too often (contract section 6): failed logins per username and network,
//! neighbourhood, and everywhere; per network over all usernames; and requests per network and endpoint.
//!
//! `decision` has the rules of failed logins as one pure decision over values; `failures`, `account`,
//! `address` and `bucket` are its parts, `recent` the credentials that pass, `table` the memory they
//! share (fixed, whatever an attacker invents), `waiting` who waits for attempts under way. Unknown
//! usernames are counted like known ones. Only `service` calls this module; it reads no clock and no
//! store. What must survive a restart is handed out by [`Throttle::changed`] and taken back by
//! [`Throttle::restore`].
//!
//! Locks: one for each group of accounts, held for a whole decision, and inside it one for each group
//! of networks. Nothing is awaited under either.

mod account;
mod address;
mod bucket;
mod decision;
mod failures;
mod recent;
mod table;
mod waiting;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::domain::network::{Neighbourhood, Network};
use crate::domain::throttle::{KnownOrigin, LockoutEntry, Scope};
use crate::domain::time::Timestamp;

use account::AccountFailures;
use address::SenderFailures;
use bucket::Bucket;
use decision::{Decision, FullTable, NeighbourhoodFailures, Places, View};
use failures::Failures;
use recent::Recent;
use table::Table;
use waiting::Waiters;

pub use bucket::Rate;
pub use decision::LoginRules;
pub use failures::{FORGOTTEN_AFTER, Ladder};
pub use recent::Presented;

/// Parts that are locked, and taken from the system, apart.
const SHARDS: usize = 64;
/// Entries of each table, over all shards: some 26 MiB when all are full. Memory is taken piece by
/// piece as they fill.
const NETWORKS: usize = 1 << 17;
const NEIGHBOURHOODS: usize = 1 << 16;
const ACCOUNTS: usize = 1 << 16;
const RECENT: usize = 1 << 15;
const SENDERS: usize = 1 << 16;
const REQUESTS: usize = 1 << 17;

/// An endpoint whose requests are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Takes a password.
    TokenAuth,
    /// Takes a refresh token.
    TokenRefresh,
}

impl Door {
    /// Every endpoint.
    pub const ALL: [Self; 2] = [Self::TokenAuth, Self::TokenRefresh];
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
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 5] =
        [Self::Address, Self::Network, Self::Neighbourhood, Self::Account, Self::AllUsers];
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
struct Accounts {
    networks: Table<Failures>,
    neighbourhoods: Table<NeighbourhoodFailures>,
    accounts: Table<AccountFailures>,
    recent: Table<Recent>,
    /// What has changed since it was last asked for.
    changed: HashSet<(u64, Scope)>,
    waiters: Waiters,
}

/// What is remembered of a group of networks.
struct Senders {
    failures: Table<SenderFailures>,
    waiters: Waiters,
}

/// The throttle.
pub struct Throttle {
    accounts: [Mutex<Accounts>; SHARDS],
    senders: [Mutex<Senders>; SHARDS],
    logins: [Mutex<Table<Bucket>>; SHARDS],
    refreshes: [Mutex<Table<Bucket>>; SHARDS],
}

impl Default for Throttle {
    fn default() -> Self {
        let accounts = || Accounts {
            networks: Table::new(NETWORKS / SHARDS),
            neighbourhoods: Table::new(NEIGHBOURHOODS / SHARDS),
            accounts: Table::new(ACCOUNTS / SHARDS),
            recent: Table::new(RECENT / SHARDS),
            changed: HashSet::new(),
            waiters: Waiters::default(),
        };
        let senders =
            || Senders { failures: Table::new(SENDERS / SHARDS), waiters: Waiters::default() };
        let requests = || Table::new(REQUESTS / SHARDS);
        Self {
            accounts: std::array::from_fn(|_| Mutex::new(accounts())),
            senders: std::array::from_fn(|_| Mutex::new(senders())),
            logins: std::array::from_fn(|_| Mutex::new(requests())),
            refreshes: std::array::from_fn(|_| Mutex::new(requests())),
        }
    }
}

/// The shard of a number whose bits an outsider may choose; the tables inside hash with keys.
fn shard<T>(shards: &[Mutex<T>; SHARDS], number: u64) -> &Mutex<T> {
    let [first, ..] = shards;
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    shards.get(usize::try_from(mixed).unwrap_or(0) % SHARDS).unwrap_or(first)
}

/// The second half only keeps an account of number 0 apart from an empty place.
fn account_key(account: u64) -> Key {
    (account, 1)
}

impl LoginAttempt {
    fn key(&self, table: FullTable) -> Key {
        match table {
            FullTable::Network => (self.account, self.network.number()),
            FullTable::Neighbourhood => (self.account, self.network.neighbourhood().number()),
            FullTable::Account => account_key(self.account),
            FullTable::Sender => (self.network.number(), 1),
        }
    }

    fn scopes(&self) -> [(u64, Scope); 3] {
        let neighbourhood = Scope::Neighbourhood(self.network.neighbourhood());
        [Scope::Network(self.network), neighbourhood, Scope::Everywhere]
            .map(|scope| (self.account, scope))
    }
}

impl Throttle {
    /// Counts a request.
    pub fn request(
        &self,
        door: Door,
        address: IpAddr,
        rate: &Rate,
        now: Timestamp,
    ) -> Result<(), Throttled> {
        let shards = match door {
            Door::TokenAuth => &self.logins,
            Door::TokenRefresh => &self.refreshes,
        };
        let key = address::key(address);
        let mut table = shard(shards, key.0).lock();
        let mut bucket = table.get(key).unwrap_or_default();
        let taken = bucket.take(rate, now);
        table.put(key, bucket, now);
        taken.map_err(|retry_after| Throttled { rule: Rule::Address, retry_after })
    }

    /// Lets a password be checked, or not. Attempts under way count as failures until they are
    /// settled, so that guesses in parallel get no further than guesses one by one.
    pub fn admit(
        &self,
        attempt: &LoginAttempt,
        rules: &LoginRules,
        now: Timestamp,
    ) -> Admission<'_> {
        let admitted = |places| {
            Admission::Granted(Admitted {
                throttle: self,
                attempt: *attempt,
                rules: *rules,
                places,
                settled: false,
            })
        };
        let (decision, full) = self.with_view(attempt, now, |view, accounts, senders| {
            let decision = view.admit(attempt.known, rules, now);
            let full = match decision {
                Decision::Wait(table) => table,
                Decision::Refused(_) => FullTable::Network,
                _ => return (decision, None),
            };
            if accounts.recognises(attempt, now) {
                return (Decision::Granted(Places::NONE), None);
            }
            let wait = matches!(decision, Decision::Wait(_));
            let waiters = match full {
                FullTable::Sender => &mut senders.waiters,
                _ => &mut accounts.waiters,
            };
            (decision, wait.then(|| (full, waiters.join(full, attempt.key(full)))))
        });
        match decision {
            Decision::Granted(places) => admitted(places),
            Decision::Refused(throttled) => Admission::Refused(throttled),
            Decision::AskKnown => Admission::AskKnown,
            Decision::Wait(_) => {
                let (table, freed) = full.map_or_else(
                    || (FullTable::Network, oneshot::channel().1),
                    |(table, freed)| (table, freed),
                );
                let (attempt, rules) = (*attempt, *rules);
                Admission::Wait(Waiting { throttle: self, attempt, rules, table, freed, now })
            }
        }
    }

    /// Works on what all tables say about an attempt, under the locks of its account and its network.
    fn with_view<R>(
        &self,
        attempt: &LoginAttempt,
        now: Timestamp,
        work: impl FnOnce(&mut View, &mut Accounts, &mut Senders) -> R,
    ) -> R {
        let mut accounts = shard(&self.accounts, attempt.account).lock();
        let mut senders = shard(&self.senders, attempt.network.number()).lock();
        let [network, neighbourhood, account, sender] =
            [FullTable::Network, FullTable::Neighbourhood, FullTable::Account, FullTable::Sender]
                .map(|table| attempt.key(table));
        let mut view = View {
            network: accounts.networks.get(network).unwrap_or_default(),
            neighbourhood: accounts.neighbourhoods.get(neighbourhood).unwrap_or_default(),
            account: accounts.accounts.get(account).unwrap_or_default(),
            sender: senders.failures.get(sender).unwrap_or_default(),
        };
        let before = view;
        let result = work(&mut view, &mut accounts, &mut senders);
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
            senders.failures.put(sender, view.sender, now);
        }
        result
    }

    /// The failures of an account that are not forgotten, by scope, with when the next attempt is taken.
    pub fn lockouts(&self, account: u64, now: Timestamp) -> Vec<LockoutEntry> {
        let mut accounts = shard(&self.accounts, account).lock();
        let mut scopes = vec![Scope::Everywhere];
        accounts.networks.each(|key, _| {
            if key.0 == account {
                scopes.push(Scope::Network(Network::from_number(key.1)));
            }
        });
        accounts.neighbourhoods.each(|key, _| {
            if key.0 == account {
                scopes.push(Scope::Neighbourhood(Neighbourhood::from_number(key.1)));
            }
        });
        let entries = scopes.into_iter().filter_map(|scope| accounts.entry(account, scope));
        entries.filter(|entry| now.since(entry.at) < FORGOTTEN_AFTER).collect()
    }

    /// Forgets all failures of an account.
    pub fn unlock(&self, account: u64) {
        let mut accounts = shard(&self.accounts, account).lock();
        let Accounts { networks, neighbourhoods, accounts: everywhere, changed, waiters, .. } =
            &mut *accounts;
        let mut freed = Vec::new();
        networks.each(|key, failures| {
            if key.0 == account {
                failures.clear();
                changed.insert((account, Scope::Network(Network::from_number(key.1))));
                freed.push((FullTable::Network, key));
            }
        });
        neighbourhoods.each(|key, neighbourhood| {
            if key.0 == account {
                let mut failures = neighbourhood.failures;
                failures.clear();
                *neighbourhood = NeighbourhoodFailures::restored(failures);
                let scope = Scope::Neighbourhood(Neighbourhood::from_number(key.1));
                changed.insert((account, scope));
                freed.push((FullTable::Neighbourhood, key));
            }
        });
        everywhere.each(|key, failures| {
            if key.0 == account {
                failures.clear();
                changed.insert((account, Scope::Everywhere));
                freed.push((FullTable::Account, key));
            }
        });
        for (table, key) in freed {
            waiters.wake_one(table, key);
        }
    }

    /// What has changed since this was last asked and should be kept: those with no failures, that
    /// there is nothing to keep any more.
    pub fn changed(&self, now: Timestamp) -> Vec<LockoutEntry> {
        let mut entries = Vec::new();
        for shard in &self.accounts {
            let mut accounts = shard.lock();
            for (account, scope) in std::mem::take(&mut accounts.changed) {
                let none = LockoutEntry { account, scope, failures: 0, at: now, until: now };
                entries.push(accounts.entry(account, scope).unwrap_or(none));
            }
        }
        entries
    }

    /// Says again what could not be kept.
    pub fn not_kept(&self, entries: &[LockoutEntry]) {
        for entry in entries {
            let mut accounts = shard(&self.accounts, entry.account).lock();
            accounts.changed.insert((entry.account, entry.scope));
        }
    }

    /// Takes back what was kept before a restart.
    pub fn restore(&self, kept: &[LockoutEntry], now: Timestamp) {
        for entry in kept {
            let LockoutEntry { account, scope, failures, at, until } = *entry;
            let mut accounts = shard(&self.accounts, account).lock();
            let restored = Failures::restored(failures, at, until);
            match scope {
                Scope::Network(network) => {
                    accounts.networks.put((account, network.number()), restored, now);
                }
                Scope::Neighbourhood(neighbourhood) => {
                    let restored = NeighbourhoodFailures::restored(restored);
                    accounts.neighbourhoods.put((account, neighbourhood.number()), restored, now);
                }
                Scope::Everywhere => {
                    let restored = AccountFailures::restored(failures, at, until);
                    accounts.accounts.put(account_key(account), restored, now);
                }
            }
        }
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
        *senders += self.senders.iter().map(|shard| shard.lock().failures.len()).sum::<usize>();
        for shard in self.logins.iter().chain(&self.refreshes) {
            *senders += shard.lock().len();
        }
        entries
    }
}

impl Accounts {
    /// What is remembered of an account in one scope, if there are failures.
    fn entry(&self, account: u64, scope: Scope) -> Option<LockoutEntry> {
        let (failures, at, until) = match scope {
            Scope::Network(network) => {
                let failures = self.networks.get((account, network.number()))?;
                (failures.count, failures.at, failures.until())
            }
            Scope::Neighbourhood(neighbourhood) => {
                let failures = self.neighbourhoods.get((account, neighbourhood.number()))?.failures;
                (failures.count, failures.at, failures.until())
            }
            Scope::Everywhere => {
                let failures = self.accounts.get(account_key(account))?;
                let until = Timestamp::from_micros(failures.single_at);
                (failures.neighbourhoods, failures.at, until)
            }
        };
        let at = Timestamp::from_micros(at);
        (failures > 0).then_some(LockoutEntry { account, scope, failures, at, until })
    }

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

/// An attempt under way. Dropped without an outcome it counts as if it had not been made: its password
/// was not looked at.
pub struct Admitted<'a> {
    throttle: &'a Throttle,
    attempt: LoginAttempt,
    rules: LoginRules,
    places: Places,
    settled: bool,
}

impl Admitted<'_> {
    /// The password was wrong, or there is no such user. Returns until when the network waits now.
    pub fn failed(mut self, now: Timestamp) -> Option<Timestamp> {
        let (places, rules, attempt) = (self.places, self.rules, self.attempt);
        let until = self.settle(now, |view, accounts| {
            view.failed(&places, &rules, now);
            accounts.changed.extend(attempt.scopes());
            view.network.until()
        });
        (until > now).then_some(until)
    }

    /// The password was right. That forgives failures from there, within bounds; those from everywhere
    /// stay: an attacker must not gain new attempts whenever the owner logs in.
    pub fn succeeded(mut self, now: Timestamp) {
        let (places, attempt) = (self.places, self.attempt);
        self.settle(now, |view, accounts| {
            let repeat = accounts.recognises(&attempt, now);
            if view.succeeded(&places, repeat, now) {
                let [network, neighbourhood, _] = attempt.scopes();
                accounts.changed.extend([network, neighbourhood]);
            }
            accounts.remember(&attempt, now);
        });
    }

    fn settle<R>(&mut self, now: Timestamp, work: impl FnOnce(&mut View, &mut Accounts) -> R) -> R {
        self.settled = true;
        let attempt = self.attempt;
        self.throttle.with_view(&attempt, now, |view, accounts, senders| {
            let result = work(view, accounts);
            accounts.wake(&attempt);
            senders.waiters.wake_one(FullTable::Sender, attempt.key(FullTable::Sender));
            result
        })
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let places = self.places;
            // No time passes for places that are only given back.
            self.settle(Timestamp::from_micros(0), |view, _| view.withdrawn(&places));
        }
    }
}

/// An attempt that waits for a place in one table. Dropped, it passes a place that it was woken for and
/// did not take on to the next.
pub struct Waiting<'a> {
    throttle: &'a Throttle,
    attempt: LoginAttempt,
    rules: LoginRules,
    table: FullTable,
    freed: oneshot::Receiver<()>,
    now: Timestamp,
}

impl Waiting<'_> {
    /// Resolves when a place has become free; it may be gone again.
    pub async fn freed(&mut self) {
        // Its queue cannot end before it does; if it did, asking again is right.
        drop((&mut self.freed).await);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self { throttle, attempt, rules, table, now, .. } = self;
        self.freed.close();
        let table = *table;
        throttle.with_view(attempt, *now, |view, accounts, senders| {
            let room = !matches!(view.clone().admit(Some(attempt.known.unwrap_or_default()), rules, *now),
                Decision::Wait(full) if full == table);
            let waiters = match table {
                FullTable::Sender => &mut senders.waiters,
                _ => &mut accounts.waiters,
            };
            waiters.tidy(table, attempt.key(table));
            if room {
                waiters.wake_one(table, attempt.key(table));
            }
        });
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
