//! Throttling of endpoints: who may try a password, and what of it is kept.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Failure, Parts};
use crate::clock::Clock;
use crate::crypto::hasher::Turn;
use crate::domain::audit::{AuditEvent, AuditKind, By};
use crate::domain::network::{Neighbourhood, Network};
use crate::domain::secret::Password;
use crate::domain::throttle::{LockoutEntry, Scope};
use crate::domain::time::Timestamp;
use crate::domain::user::{UserId, Username};
use crate::telemetry::REQUEST;
use crate::throttle::{
    Admission, Admitted, Door, FORGOTTEN_AFTER, LoginAttempt, Presented, Rate, Rule, Throttled,
};

/// For how long a network counts as one that a user logs in from.
pub const KNOWN_FOR: Duration = Duration::from_hours(24 * 30);

/// Why a password may not be tried.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// Too many attempts.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Its client went away.
    #[error("the client went away")]
    ClientGone,
    /// The store could not be asked, or a fault.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Credentials as somebody sends them, and from where.
#[derive(Clone, Copy)]
pub struct Attempted<'a> {
    /// Which endpoint takes them.
    pub door: Door,
    /// The canonical name.
    pub name: &'a Username,
    /// The password as typed.
    pub password: &'a Password,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: &'a str,
}

/// A password that may be checked; its outcome is to be reported. Where nobody is throttled, nothing is
/// counted.
pub struct PasswordAttempt<'a> {
    admitted: Option<Admitted<'a>>,
    clock: &'a dyn Clock,
}

impl PasswordAttempt<'_> {
    /// It was wrong, or there is no such user. Returns until when the network waits now.
    pub fn failed(self) -> Option<Timestamp> {
        self.admitted?.failed(self.clock.steady())
    }

    /// It was right.
    pub fn succeeded(self) {
        if let Some(admitted) = self.admitted {
            admitted.succeeded(self.clock.steady());
        }
    }
}

/// Requests without an address count together.
fn or_nowhere(address: Option<IpAddr>) -> IpAddr {
    address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// Where a request comes from, as one party has it.
pub(super) fn neighbourhood(address: Option<IpAddr>) -> Neighbourhood {
    Network::of(or_nowhere(address)).neighbourhood()
}

/// Says that the client of the current request went away; outside of one, never.
pub(in crate::service) fn client_gone() -> CancellationToken {
    REQUEST.try_with(|request| request.client_gone.clone()).ok().flatten().unwrap_or_default()
}

impl Parts {
    /// Counts a request to an endpoint that takes a password or a refresh token.
    pub fn admit_request(&self, door: Door, address: Option<IpAddr>) -> Result<(), Throttled> {
        let config = self.settings.load();
        if !config.throttle.enabled {
            return Ok(());
        }
        let rate = config.throttle.request_rate();
        let now = self.clock.steady();
        let admitted = self.throttle.request(door, or_nowhere(address), &rate, now);
        admitted.inspect_err(|throttled| self.metrics.throttled(door, throttled.rule))
    }

    /// Counts a change by a logged-in user: ending sessions, logging out, a new password.
    pub fn admit_change(&self, user: UserId) -> Result<(), Throttled> {
        /// Far more than a person or a program needs, far less than fills a disk.
        const RATE: Rate = Rate { burst: 100, every: Duration::from_millis(100) };
        if !self.settings.load().throttle.enabled {
            return Ok(());
        }
        let admitted = self.throttle.change(user.0, &RATE, self.clock.steady());
        admitted.inspect_err(|throttled| self.metrics.throttled(Door::Change, throttled.rule))
    }

    /// Lets a password be checked, or not. Waits for attempts of the same account that are under way where
    /// the answer depends on them, until `login.max_wait` is over.
    pub async fn admit_password(
        &self,
        attempted: Attempted<'_>,
    ) -> Result<PasswordAttempt<'_>, NotAdmitted> {
        let Attempted { door, name, password, address, user_agent } = attempted;
        let config = self.settings.load_full();
        let granted = |admitted| Ok(PasswordAttempt { admitted, clock: &*self.clock });
        if !config.throttle.enabled {
            return granted(None);
        }
        let rules = config.throttle.login_rules();
        let digests = self.credential_digests()?;
        let mut attempt = LoginAttempt {
            account: self.ring.load().account(name),
            network: Network::of(or_nowhere(address)),
            known: None,
            presented: Presented {
                credentials: digests.credentials_number(name, password),
                client: digests.client(user_agent),
            },
        };
        let deadline = tokio::time::Instant::now() + config.login.max_wait;
        let refused = |throttled: Throttled| {
            self.metrics.throttled(door, throttled.rule);
            Err(throttled.into())
        };
        let client_gone = client_gone();
        let mut waited = None;
        while tokio::time::Instant::now() < deadline {
            let admission = self.throttle.admit(&attempt, &rules, self.clock.steady());
            drop(waited.take());
            match admission {
                Admission::Granted(admitted) => return granted(Some(admitted)),
                Admission::Refused(throttled) => return refused(throttled),
                Admission::AskKnown => {
                    let since = self.clock.now().minus(KNOWN_FOR);
                    let known = self.store.knows_origin(name.clone(), attempt.network, since);
                    attempt.known = Some(known.await.map_err(Failure::from)?);
                }
                Admission::Wait(mut waiting) => {
                    tokio::select! {
                        () = waiting.freed() => {}
                        () = tokio::time::sleep_until(deadline) => {}
                        () = client_gone.cancelled() => return Err(NotAdmitted::ClientGone),
                    }
                    waited = Some(waiting);
                    // Whatever the tables say, other tasks of this worker go on.
                    tokio::task::yield_now().await;
                }
            }
        }
        refused(Throttled { rule: Rule::Network, retry_after: Duration::from_secs(1) })
    }

    /// Whose turn at hashing a request from there is.
    pub fn turn(&self, address: Option<IpAddr>) -> Turn {
        let network = Network::of(or_nowhere(address));
        let max_wait = self.settings.load().login.max_wait;
        Turn { network, max_wait, client_gone: client_gone() }
    }

    /// Writes down how many refused logins were not written one by one.
    pub fn note_folded_refusals(&self) {
        if let Some(folded) = self.refusals.take_folded() {
            let event = AuditEvent::new(AuditKind::LoginRefused).with("why", "too_many_to_list");
            let event = event.with("count", folded.refusals);
            self.note(By::SERVER, event.with("neighbourhoods", folded.neighbourhoods as u64));
        }
    }

    /// The failed logins of a username that are not forgotten.
    pub fn lockouts(&self, name: &Username) -> Vec<LockoutEntry> {
        let account = self.ring.load().account(name);
        self.throttle.lockouts(account, self.clock.steady())
    }

    /// Keeps what a restart must not forget.
    pub async fn keep_throttles(&self) {
        let rules = self.settings.load().throttle.login_rules();
        let matters = |entry: &LockoutEntry| {
            let from = match entry.scope {
                Scope::Network(_) => rules.network.free,
                Scope::Neighbourhood(_) => rules.neighbourhood.free / 4,
                Scope::Everywhere => rules.everywhere / 5,
            };
            entry.failures == 0 || entry.failures >= from
        };
        let changed = self.throttle.changed(self.clock.steady(), matters);
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
        loop {
            match self.store.forget_throttles(FORGOTTEN_AFTER).await {
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
