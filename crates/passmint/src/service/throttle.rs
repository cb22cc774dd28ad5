//! Throttling at the doors: who may try, and what of it is kept.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Failure, Parts};
use crate::crypto::hasher::Turn;
use crate::domain::network::Network;
use crate::domain::throttle::Held;
use crate::domain::time::Timestamp;
use crate::domain::user::Username;
use crate::throttle::{
    AccountRules, Admission, Attempt, Candidate, Door, FORGOTTEN_AFTER, Rule, Throttled,
};

/// For how long a network counts as one that a user logs in from.
const KNOWN_FOR: Duration = Duration::from_hours(24 * 30);

/// Why somebody may not try.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// Too many attempts.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// As it says.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A password that may be tried; its outcome is to be told.
pub struct Try<'a> {
    attempt: Option<Attempt<'a>>,
    rules: AccountRules,
}

impl Try<'_> {
    /// It was wrong, or there is no such user. Returns until when the network is held back now.
    pub fn failed(self, now: Timestamp) -> Option<Timestamp> {
        self.attempt?.failed(&self.rules, now)
    }

    /// It was right.
    pub fn succeeded(self, now: Timestamp) {
        if let Some(attempt) = self.attempt {
            attempt.succeeded(now);
        }
    }
}

/// Requests without an address count together.
fn or_nowhere(address: Option<IpAddr>) -> IpAddr {
    address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

impl Parts {
    /// Counts a request to an endpoint that takes a password or a refresh token.
    pub fn admit_request(&self, door: Door, address: Option<IpAddr>) -> Result<(), Throttled> {
        let config = self.settings.load();
        if !config.throttle.enabled {
            return Ok(());
        }
        let rules = config.throttle.address_rules();
        let now = self.clock.now();
        let admitted = self.throttle.request(door, or_nowhere(address), rules, now);
        admitted.inspect_err(|throttled| self.metrics.throttled(door, throttled.rule))
    }

    /// Lets a password for `name` be tried from `address`, or not. Waits for tries of the same
    /// account that are under way where the answer depends on them.
    pub async fn admit_password(
        &self,
        door: Door,
        name: &Username,
        address: Option<IpAddr>,
    ) -> Result<Try<'_>, NotAdmitted> {
        let config = self.settings.load_full();
        let rules = config.throttle.account_rules();
        if !config.throttle.enabled {
            return Ok(Try { attempt: None, rules });
        }
        let account = self.ring.load().account(name);
        let network = Network::of(or_nowhere(address));
        let mut candidate = Candidate { account, network, known: None };
        let deadline = tokio::time::Instant::now() + config.login.max_wait;
        let refuse = |throttled: Throttled| {
            self.metrics.throttled(door, throttled.rule);
            Err(throttled.into())
        };
        while tokio::time::Instant::now() < deadline {
            // Whatever the tables say, other tasks of this worker go on.
            tokio::task::yield_now().await;
            // Made before the question, so that an answer in between is not missed.
            let mut settled = std::pin::pin!(self.throttle.settled(account));
            settled.as_mut().enable();
            let now = self.clock.now();
            match self.throttle.admit(candidate, &rules, now) {
                Admission::Granted(attempt) => return Ok(Try { attempt: Some(attempt), rules }),
                Admission::Refused(throttled) => return refuse(throttled),
                Admission::AskNetwork => {
                    let since = now.minus(KNOWN_FOR);
                    let known = self.store.knows_network(name.clone(), network, since).await;
                    candidate.known = Some(known.map_err(Failure::from)?);
                }
                Admission::Later => {
                    drop(tokio::time::timeout_at(deadline, settled).await);
                }
            }
        }
        refuse(Throttled { rule: Rule::Network, retry_after: Duration::from_secs(1) })
    }

    /// Whose turn at hashing a request from there is.
    pub fn turn(&self, address: Option<IpAddr>) -> Turn {
        let network = Network::of(or_nowhere(address));
        Turn { network, max_wait: self.settings.load().login.max_wait }
    }

    /// From where and until when a user is held back.
    pub fn held(&self, name: &Username) -> Vec<Held> {
        let account = self.ring.load().account(name);
        self.throttle.held(account, self.clock.now())
    }

    /// Keeps what a restart must not forget.
    pub async fn keep_throttles(&self) {
        let rules = self.settings.load().throttle.account_rules();
        let matters = |held: &Held| {
            let from = if held.network.is_some() { rules.free } else { rules.everywhere / 5 };
            held.failures == 0 || held.failures >= from
        };
        let mut changed = self.throttle.changed(self.clock.now());
        changed.retain(matters);
        if changed.is_empty() {
            return;
        }
        if let Err(error) = self.store.keep_throttles(changed.clone()).await {
            tracing::warn!(%error, "throttles could not be kept; tried again in a second");
            self.throttle.not_kept(&changed);
        }
    }

    /// Deletes what is kept and forgotten.
    pub async fn forget_throttles(&self) {
        let before = self.clock.now().minus(FORGOTTEN_AFTER);
        loop {
            match self.store.forget_throttles(before).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "throttles could not be swept");
                    return;
                }
            }
        }
    }
}
