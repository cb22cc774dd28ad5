//! Holds back whoever tries too often (contract section 6): per account and network, per account from
//! everywhere, and per address and endpoint.
//!
//! `account` has the rules of failures, `address` those of requests, `table` the memory they share:
//! fixed, whatever an attacker invents. Unknown usernames are counted like known ones. Only `service`
//! calls this room; it reads no clock and no store. What must survive a restart is handed out by
//! [`Throttle::changed`] and taken back by [`Throttle::restore`].

mod account;
mod address;
mod table;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::domain::network::Network;
use crate::domain::throttle::Held;
use crate::domain::time::Timestamp;

use account::{Failures, Verdict};
use address::Requests;
use table::Table;

pub use account::{AccountRules, FORGOTTEN_AFTER};
pub use address::AddressRules;

/// Entries of the table of accounts with their networks, and of that of accounts: some 10 MiB when
/// full. Memory is taken piece by piece as they fill.
const ACCOUNTS: usize = 1 << 17;
/// Entries of each table of addresses: some 3 MiB each when full.
const ADDRESSES: usize = 1 << 17;
/// How many groups of accounts wait apart for tries that are under way.
const WAITING_GROUPS: usize = 64;

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

/// Which rule holds somebody back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Too many requests from one address.
    Address,
    /// Too many failures of an account from one network.
    Network,
    /// Too many failures of an account from everywhere.
    Account,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Address, Self::Network, Self::Account];
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

/// Somebody who wants to try a password.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The keyed digest of the username.
    pub account: u64,
    /// From where.
    pub network: Network,
    /// Whether the user has logged in from there of late, as far as it was asked.
    pub known: Option<bool>,
}

/// What a candidate is told.
pub enum Admission<'a> {
    /// Try. The outcome is to be told to the attempt.
    Granted(Attempt<'a>),
    /// Too many attempts.
    Refused(Throttled),
    /// It depends on whether the user has logged in from that network of late: find out, ask again.
    AskNetwork,
    /// It depends on tries that are under way.
    Later,
}

type Key = (u64, u64);

/// The throttle.
pub struct Throttle {
    pairs: Table<Failures>,
    accounts: Table<Failures>,
    logins: Table<Requests>,
    refreshes: Table<Requests>,
    /// Keys of what has changed since it was last asked for; no network: from everywhere.
    changed: Mutex<HashSet<(u64, Option<Network>)>>,
    waiting: [Notify; WAITING_GROUPS],
    /// Held while a try is decided: all tables are looked at before a place is taken in any.
    deciding: [Mutex<()>; WAITING_GROUPS],
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            pairs: Table::new(ACCOUNTS),
            accounts: Table::new(ACCOUNTS),
            logins: Table::new(ADDRESSES),
            refreshes: Table::new(ADDRESSES),
            changed: Mutex::default(),
            waiting: std::array::from_fn(|_| Notify::new()),
            deciding: std::array::from_fn(|_| Mutex::new(())),
        }
    }
}

fn pair_key(account: u64, network: Network) -> Key {
    (account, network.number())
}

/// The second half only keeps an account of number 0 apart from an empty place.
fn account_key(account: u64) -> Key {
    (account, 1)
}

fn group_of(account: u64) -> usize {
    usize::from(account.to_le_bytes()[0]) % WAITING_GROUPS
}

impl Throttle {
    /// Counts a request.
    pub fn request(
        &self,
        door: Door,
        address: IpAddr,
        rules: AddressRules,
        now: Timestamp,
    ) -> Result<(), Throttled> {
        let table = match door {
            Door::TokenAuth => &self.logins,
            Door::TokenRefresh => &self.refreshes,
        };
        table
            .with(address::key(address), now, |requests| requests.count(rules, now))
            .map_err(|retry_after| Throttled { rule: Rule::Address, retry_after })
    }

    /// Lets a candidate try, or not. Tries under way count as failures until they are settled, so
    /// that guesses in parallel get no further than guesses one by one.
    pub fn admit(
        &self,
        candidate: Candidate,
        rules: &AccountRules,
        now: Timestamp,
    ) -> Admission<'_> {
        let Candidate { account, network, known } = candidate;
        let refused = |rule, retry_after| Admission::Refused(Throttled { rule, retry_after });
        let _deciding = self.deciding.get(group_of(account)).map(Mutex::lock);
        let mut pair = self.pairs.peek(pair_key(account, network)).unwrap_or_default();
        match pair.admit_from_network(rules, now) {
            Verdict::Go | Verdict::GoOnce => {}
            Verdict::Later => return Admission::Later,
            Verdict::Held(left) => return refused(Rule::Network, left),
        }
        let everywhere = self.accounts.with(account_key(account), now, |failures| {
            failures.forget_if_old(now);
            match known {
                None if failures.any() => None,
                Some(true) => Some(Verdict::Go),
                _ => Some(failures.admit_from_everywhere(rules, now)),
            }
        });
        let only = match everywhere {
            Some(Verdict::Go) => false,
            Some(Verdict::GoOnce) => true,
            Some(Verdict::Held(left)) => return refused(Rule::Account, left),
            Some(Verdict::Later) => return Admission::Later,
            None => return Admission::AskNetwork,
        };
        self.pairs.with(pair_key(account, network), now, |failures| *failures = pair);
        Admission::Granted(Attempt { throttle: self, candidate, only, settled: false })
    }

    /// Resolves when a try of that account, or of one of its group, has been settled. To be made
    /// before [`Throttle::admit`] is asked.
    pub fn settled(&self, account: u64) -> Notified<'_> {
        self.group(account).notified()
    }

    fn group(&self, account: u64) -> &Notify {
        let [first, ..] = &self.waiting;
        self.waiting.get(group_of(account)).unwrap_or(first)
    }

    fn wake(&self, account: u64) {
        self.group(account).notify_waiters();
    }

    /// From where and until when an account is held back, and its failures that are not forgotten.
    pub fn held(&self, account: u64, now: Timestamp) -> Vec<Held> {
        let mut held = Vec::new();
        self.accounts.with(account_key(account), now, |failures| {
            failures.forget_if_old(now);
            held.extend(failures.as_held(account, None));
        });
        self.pairs.each(|key, failures| {
            if key.0 == account && !failures.is_old(now) {
                held.extend(failures.as_held(account, Some(Network::from_number(key.1))));
            }
        });
        held
    }

    /// Forgets all failures of an account.
    pub fn unlock(&self, account: u64, now: Timestamp) {
        let mut networks = Vec::new();
        self.pairs.each(|key, failures| {
            if key.0 == account {
                failures.clear();
                networks.push(Some(Network::from_number(key.1)));
            }
        });
        self.accounts.with(account_key(account), now, Failures::clear);
        networks.push(None);
        self.changed.lock().extend(networks.into_iter().map(|network| (account, network)));
        self.wake(account);
    }

    /// What has changed since this was last asked and should be kept: those with no failures, that
    /// there is nothing to keep any more.
    pub fn changed(&self, now: Timestamp) -> Vec<Held> {
        let changed = std::mem::take(&mut *self.changed.lock());
        let look = |(account, network): (u64, Option<Network>)| {
            let found = match network {
                Some(network) => self.pairs.peek(pair_key(account, network)),
                None => self.accounts.peek(account_key(account)),
            };
            let none = Held { account, network, failures: 0, at: now, until: now };
            found.and_then(|failures| failures.as_held(account, network)).unwrap_or(none)
        };
        changed.into_iter().map(look).collect()
    }

    /// Says again what could not be kept.
    pub fn not_kept(&self, held: &[Held]) {
        self.changed.lock().extend(held.iter().map(|held| (held.account, held.network)));
    }

    /// Takes back what was kept before a restart.
    pub fn restore(&self, kept: &[Held], now: Timestamp) {
        for held in kept {
            let (table, key) = match held.network {
                Some(network) => (&self.pairs, pair_key(held.account, network)),
                None => (&self.accounts, account_key(held.account)),
            };
            table.with(key, now, |failures| *failures = Failures::restored(held));
        }
    }

    /// How many places of its tables are in use: accounts with networks, accounts, addresses.
    pub fn entries(&self) -> [usize; 3] {
        let addresses = self.logins.len() + self.refreshes.len();
        [self.pairs.len(), self.accounts.len(), addresses]
    }
}

/// A try under way. Dropped without an outcome it counts as if it had not been made.
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    candidate: Candidate,
    /// Whether it is the only one of its interval.
    only: bool,
    settled: bool,
}

impl Attempt<'_> {
    /// The password was wrong, or there is no such user. Returns until when the network is held back
    /// now.
    pub fn failed(mut self, rules: &AccountRules, now: Timestamp) -> Option<Timestamp> {
        self.settled = true;
        let Candidate { account, network, known } = self.candidate;
        let throttle = self.throttle;
        let _deciding = throttle.deciding.get(group_of(account)).map(Mutex::lock);
        let until = throttle.pairs.with(pair_key(account, network), now, |failures| {
            failures.withdraw();
            failures.fail_from_network(rules, now)
        });
        throttle.accounts.with(account_key(account), now, |failures| {
            if known != Some(true) {
                failures.withdraw();
            }
            failures.fail_from_everywhere(rules, now);
        });
        throttle.changed.lock().extend([(account, Some(network)), (account, None)]);
        throttle.wake(account);
        (until > now).then_some(until)
    }

    /// The password was right. That forgets the failures from this network; those from everywhere
    /// only if it is a new one: an attacker must not gain new tries whenever the owner logs in.
    pub fn succeeded(mut self, now: Timestamp) {
        self.settled = true;
        let Candidate { account, network, known } = self.candidate;
        let throttle = self.throttle;
        let _deciding = throttle.deciding.get(group_of(account)).map(Mutex::lock);
        let had_failures = throttle.pairs.with(pair_key(account, network), now, |failures| {
            failures.withdraw();
            let any = failures.any();
            failures.clear();
            any
        });
        let cleared = throttle.accounts.with(account_key(account), now, |failures| {
            if known != Some(true) {
                failures.withdraw();
            }
            let clear = known == Some(false) && failures.any();
            if clear {
                failures.clear();
            }
            clear
        });
        if had_failures || cleared {
            let mut changed = throttle.changed.lock();
            changed.extend(had_failures.then_some((account, Some(network))));
            changed.extend(cleared.then_some((account, None)));
        }
        throttle.wake(account);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let Candidate { account, network, known } = self.candidate;
        let _deciding = self.throttle.deciding.get(group_of(account)).map(Mutex::lock);
        self.throttle.pairs.touch(pair_key(account, network), Failures::withdraw);
        if known != Some(true) {
            self.throttle.accounts.touch(account_key(account), |failures| {
                failures.withdraw();
                if self.only {
                    failures.give_back();
                }
            });
        }
        self.throttle.wake(account);
    }
}

#[cfg(test)]
mod tests;
