//! Failed logins as an operator sees them, as a restart finds them, and how an operator forgets them.

use super::account::AccountFailures;
use super::decision::{FullTable, NeighbourhoodFailures};
use super::failures::{FORGOTTEN_AFTER, Failures};
use super::{AccountGroup, Throttle, key_of, shard};
use crate::domain::network::{Neighbourhood, Network};
use crate::domain::throttle::{LockoutEntry, Scope};
use crate::domain::time::Timestamp;

impl Throttle {
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
        let AccountGroup {
            networks, neighbourhoods, accounts: everywhere, changed, waiters, ..
        } = &mut *accounts;
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

    /// What has changed since this was last asked and matters: those with no failures, that there is nothing
    /// to keep any more. What does not matter is dropped at once: under attack that is most of it.
    pub fn changed(
        &self,
        now: Timestamp,
        matters: impl Fn(&LockoutEntry) -> bool,
    ) -> Vec<LockoutEntry> {
        let mut entries = Vec::new();
        for shard in &self.accounts {
            let mut accounts = shard.lock();
            for (account, scope) in std::mem::take(&mut accounts.changed) {
                let none = LockoutEntry { account, scope, failures: 0, at: now, until: now };
                entries
                    .extend(Some(accounts.entry(account, scope).unwrap_or(none)).filter(&matters));
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
                    accounts.accounts.put(key_of(account), restored, now);
                }
            }
        }
    }
}

impl AccountGroup {
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
                let failures = self.accounts.get(key_of(account))?;
                let until = Timestamp::from_micros(failures.single_at);
                (failures.neighbourhoods, failures.at, until)
            }
        };
        let at = Timestamp::from_micros(at);
        (failures > 0).then_some(LockoutEntry { account, scope, failures, at, until })
    }
}
