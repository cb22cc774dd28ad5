//! What goes on in the background: keys move on, ended sessions are deleted, revocations swept, the clock
//! watched. Small batches, no cron job. Each on a task of its own, so that none waits for another; one that
//! ends is logged and begun anew.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::key::KeyService;
use super::{Failure, Parts};
use crate::domain::clock_guard::ClockEvent;
use crate::domain::session::SessionId;
use crate::domain::user::UserId;
use crate::store::{StoreError, SweepSessions};

/// How often keys, sessions, revocations and records are looked at.
const ROUND: Duration = Duration::from_secs(30);
/// How often what a restart must not forget is written, and the clock is looked at.
const SECOND: Duration = Duration::from_secs(1);
/// How often refused logins that were too many to list are written down.
const MINUTE: Duration = Duration::from_mins(1);
/// How often the running time is kept. It is also a sign that the store takes writes.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often the costs of all stored hashes are looked at, and how many at once.
const LEARN_PRICES: Duration = Duration::from_hours(1);
const PRICES_BATCH: u32 = 5000;
/// Rows that one step of the session walk looks at, and the pause after it.
const BATCH: u32 = 500;
const PAUSE: Duration = Duration::from_millis(50);
/// How much longer than an access token a revocation is kept: `iat` may lie this far ahead.
const MARGIN: Duration = Duration::from_mins(2);

/// Runs all loops until it is dropped.
pub struct Maintenance {
    parts: Arc<Parts>,
    keys: KeyService,
}

impl Maintenance {
    /// Made of `parts`. From now on refused logins wait until [`Self::run`] has looked which hashes are stored.
    pub fn new(parts: Arc<Parts>, keys: KeyService) -> Self {
        parts.hashing.expect_schemes();
        Self { parts, keys }
    }

    /// Does at once what goes by the clock: for a demo whose clock has been turned.
    pub async fn catch_up(&self) {
        self.parts.watch_clock().await;
        round("keys", look_after(&self.keys)).await;
        round("revocations", sweep_revocations(&self.parts)).await;
        round("sessions", sweep_sessions(&self.parts, None)).await;
        round("records", sweep_records(&self.parts)).await;
    }

    /// Never returns. What fails is logged and tried again in the next round.
    pub async fn run(&self) {
        let mut loops = JoinSet::new();
        let parts = || Arc::clone(&self.parts);
        loops.spawn(every("clock", SECOND, parts(), |parts| async move {
            parts.watch_clock().await;
        }));
        let store = (parts(), Arc::new(AtomicBool::new(true)));
        loops.spawn(every("store", SECOND, store, |(parts, available)| async move {
            parts.watch_store(&available).await;
        }));
        loops.spawn(every("throttles", SECOND, parts(), |parts| async move {
            parts.keep_throttles().await;
        }));
        loops.spawn(every("heartbeat", HEARTBEAT, parts(), |parts| async move {
            parts.keep_clocks_or_warn().await;
        }));
        loops.spawn(every("refusals", MINUTE, parts(), |parts| async move {
            parts.note_folded_refusals();
        }));
        let keys = self.keys.clone();
        loops.spawn(every("keys", ROUND, keys, |keys| async move { look_after(&keys).await }));
        loops.spawn(every("revocations", ROUND, parts(), |parts| async move {
            sweep_revocations(&parts).await;
        }));
        loops.spawn(every("sessions", ROUND, parts(), |parts| async move {
            sweep_sessions(&parts, Some(PAUSE)).await;
        }));
        loops.spawn(every("records", ROUND, parts(), |parts| async move {
            sweep_records(&parts).await;
        }));
        while round("prices", learn_prices(&self.parts)).await != Some(true) {
            tokio::time::sleep(SECOND).await;
        }
        loops.spawn(every("prices", LEARN_PRICES, parts(), |parts| async move {
            learn_prices(&parts).await;
        }));
        while loops.join_next().await.is_some() {}
    }
}

/// Does `work` every so often, for ever. A panic ends one round and is logged.
async fn every<T, F>(
    name: &'static str,
    period: Duration,
    subject: T,
    work: impl Fn(T) -> F + Send + 'static,
) where
    T: Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    loop {
        tokio::time::sleep(period).await;
        round(name, work(subject.clone())).await;
    }
}

/// Does `work` once. A panic ends it and is logged (`None`).
async fn round<T>(name: &'static str, work: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await.ok();
    if done.is_none() {
        tracing::error!(maintenance = name, "a round of maintenance ended in a panic");
    }
    done
}

impl Parts {
    /// Looks whether the store can be read and written; logs when that changes.
    async fn watch_store(&self, available: &AtomicBool) {
        let ping = self.ping().await;
        self.metrics.store_available(ping.is_ok());
        let was_available = available.swap(ping.is_ok(), Ordering::Relaxed);
        match ping {
            Ok(()) if !was_available => {
                tracing::warn!("the database can be read and written again");
            }
            Err(error) if was_available => {
                tracing::error!(%error, "not ready: the database cannot be read or written");
            }
            _ => {}
        }
    }

    /// Whether the store can be read and written, as far as is known without a write.
    pub(crate) async fn ping(&self) -> Result<(), Failure> {
        const WITHIN: Duration = Duration::from_secs(2);
        match tokio::time::timeout(WITHIN, self.store.ping()).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(Failure::Unavailable("a read takes too long".to_owned())),
        }
    }

    /// The same with a write that is awaited.
    pub(crate) async fn check_store(&self) -> Result<(), Failure> {
        self.keep_clocks().await?;
        self.ping().await
    }

    /// Makes durable what the clocks say, and whether the wall clock is believed.
    async fn keep_clocks(&self) -> Result<(), StoreError> {
        let doubt = self.clock_guard.lock().doubt();
        self.store.keep_clocks(doubt).await
    }

    /// The same, where nothing depends on it.
    pub async fn keep_clocks_or_warn(&self) {
        if let Err(error) = self.keep_clocks().await {
            tracing::warn!(%error, "what the clocks say could not be kept");
        }
    }

    /// Compares the clocks; a jump stops all destruction by age for a while.
    async fn watch_clock(&self) {
        let (event, trusted) = {
            let mut guard = self.clock_guard.lock();
            (guard.look(self.clock.now(), self.clock.steady()), guard.may_destroy())
        };
        self.metrics.clock_trusted(trusted);
        match event {
            None => {}
            Some(ClockEvent::Jumped(seconds)) => {
                self.metrics.clock_jump();
                tracing::error!(
                    seconds,
                    "the clock was set: nothing is ended, deleted or dropped by age until it is set \
                     back, or has been steady for an hour"
                );
            }
            Some(ClockEvent::BackInStep) => {
                tracing::warn!("the clock is where it was before it was set");
            }
            Some(ClockEvent::Confirmed) => {
                tracing::warn!(
                    "the clock has been steady for an hour since it was set: it is believed"
                );
            }
        }
        if event.is_some() {
            // A server that is started while the clock is wrong must know.
            self.keep_clocks_or_warn().await;
        }
    }
}

/// Keys move on to their next state.
async fn look_after(keys: &KeyService) {
    if let Err(error) = keys.tick().await {
        tracing::error!(%error, "the keys could not be looked after");
    }
}

async fn sweep_sessions(parts: &Parts, pause: Option<Duration>) {
    if let Err(error) = walk_sessions(parts, pause).await {
        tracing::warn!(%error, "sessions could not be swept");
    }
}

/// Throttles and audit records that are old enough.
async fn sweep_records(parts: &Parts) {
    if parts.clock_guard.lock().may_destroy() {
        parts.forget_throttles().await;
        sweep_audit(parts).await;
    }
}

/// Walks over all sessions once: ends what has run out or was made with a revoked key, deletes what is
/// old. With a pause after each step, or as fast as it goes.
pub(super) async fn walk_sessions(parts: &Parts, pause: Option<Duration>) -> Result<(), Failure> {
    let mut after: Option<SessionId> = None;
    loop {
        let sessions = parts.settings.load().sessions.clone();
        let by_age = parts.clock_guard.lock().may_destroy();
        let sweep = SweepSessions {
            after,
            batch: BATCH,
            policy: sessions.policy(),
            keep_ended: sessions.keep_ended,
            by_age,
        };
        after = parts.store.sweep_sessions(sweep).await?.next;
        if after.is_none() {
            return Ok(());
        }
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn sweep_revocations(parts: &Parts) {
    while parts.clock_guard.lock().may_destroy() && parts.revocations.is_loaded() {
        match parts.store.sweep_revocations(MARGIN).await {
            Ok(swept) if swept.is_empty() => return,
            Ok(swept) => {
                // Before anything is forgotten; the store has a later time at most.
                parts.revocations.set_swept_until(parts.clock.now());
                parts.revocations.forget(&swept);
            }
            Err(error) => {
                tracing::warn!(%error, "revocations could not be swept");
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn sweep_audit(parts: &Parts) {
    loop {
        let keep = parts.settings.load().audit.keep;
        match parts.store.sweep_audit(keep).await {
            Ok(0) => return,
            Ok(_) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                tracing::warn!(%error, "the audit log could not be swept");
                return;
            }
        }
    }
}

/// Finds out which other hashes than this server's own are stored, so that refusing a login takes as
/// long as refusing the owner of the dearest of them. Whether that could be found out.
async fn learn_prices(parts: &Parts) -> bool {
    let usual = parts.hashing.usual_prefix();
    let mut after = Some(UserId(i64::MIN));
    let mut unusual = Vec::new();
    while let Some(from) = after {
        match parts.store.unusual_hashes(usual.clone(), from, PRICES_BATCH).await {
            Ok((hashes, next)) => {
                unusual.extend(parts.hashing.schemes(&hashes));
                unusual.sort_unstable();
                unusual.dedup();
                after = next;
            }
            Err(error) => {
                tracing::warn!(%error, "the costs of stored hashes could not be looked at");
                return false;
            }
        }
    }
    parts.hashing.learn(&unusual);
    true
}
