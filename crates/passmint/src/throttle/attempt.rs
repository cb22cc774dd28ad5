//! An attempt that is under way, and one that waits: whatever becomes of them, their places are given
//! back and the next in the queue is woken.

use tokio::sync::oneshot;

use super::decision::{Decision, FullTable, LoginRules, Places, View};
use super::{AccountGroup, LoginAttempt, Throttle};
use crate::domain::time::Timestamp;

/// An attempt under way. Dropped without an outcome it counts as if it had not been made: its password
/// was not looked at.
pub struct Admitted<'a> {
    throttle: &'a Throttle,
    attempt: LoginAttempt,
    rules: LoginRules,
    places: Places,
    settled: bool,
}

impl<'a> Admitted<'a> {
    pub(super) fn new(
        throttle: &'a Throttle,
        attempt: LoginAttempt,
        rules: LoginRules,
        places: Places,
    ) -> Self {
        Self { throttle, attempt, rules, places, settled: false }
    }
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

    fn settle<R>(
        &mut self,
        now: Timestamp,
        work: impl FnOnce(&mut View, &mut AccountGroup) -> R,
    ) -> R {
        self.settled = true;
        let attempt = self.attempt;
        self.throttle.with_view(&attempt, now, |view, accounts| {
            let result = work(view, accounts);
            accounts.wake(&attempt);
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
    pub(super) freed: oneshot::Receiver<()>,
    now: Timestamp,
}

impl<'a> Waiting<'a> {
    /// Waits in that table, to be woken by `freed`.
    pub(super) fn new(
        throttle: &'a Throttle,
        attempt: LoginAttempt,
        rules: LoginRules,
        (table, freed): (FullTable, oneshot::Receiver<()>),
        now: Timestamp,
    ) -> Self {
        Self { throttle, attempt, rules, table, freed, now }
    }
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
        throttle.with_view(attempt, *now, |view, accounts| {
            let known = Some(attempt.known.unwrap_or_default());
            let room = { *view }.admit(known, rules, *now) != Decision::Wait(table);
            accounts.waiters.tidy(table, attempt.key(table));
            if room {
                accounts.waiters.wake_one(table, attempt.key(table));
            }
        });
    }
}
