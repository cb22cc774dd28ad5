//! What goes on in the background: keys move on, ended sessions are deleted, revocations swept.
//! Small batches, no cron job.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use super::key::KeyService;
use crate::domain::session::SessionId;
use crate::domain::user::UserId;
use crate::store::SweepSessions;

/// How often a round begins.
const ROUND: Duration = Duration::from_secs(30);
/// How often what a restart must not forget is written.
const KEEP_THROTTLES: Duration = Duration::from_secs(1);
/// How often the prices of all stored hashes are looked at, and how many at once.
const LEARN_PRICES: Duration = Duration::from_hours(1);
const PRICES_BATCH: u32 = 5000;
/// Rows that one step of the session walk looks at, and the pause after it.
const BATCH: u32 = 500;
const PAUSE: Duration = Duration::from_millis(50);
/// How much longer than an access token a revocation is kept: `iat` may lie this far ahead.
const MARGIN: Duration = Duration::from_mins(2);

/// Runs rounds until it is dropped.
pub struct Maintenance {
    parts: Arc<Parts>,
    keys: KeyService,
}

impl Maintenance {
    /// Made of `parts`.
    pub fn new(parts: Arc<Parts>, keys: KeyService) -> Self {
        Self { parts, keys }
    }

    /// Never returns. A failed round is logged and the next one tries again.
    pub async fn run(self) {
        let rounds = async {
            loop {
                tokio::time::sleep(ROUND).await;
                self.round().await;
            }
        };
        let throttles = async {
            loop {
                tokio::time::sleep(KEEP_THROTTLES).await;
                self.parts.keep_throttles().await;
            }
        };
        let prices = async {
            loop {
                self.learn_prices().await;
                tokio::time::sleep(LEARN_PRICES).await;
            }
        };
        tokio::join!(rounds, throttles, prices);
    }

    /// One round.
    pub async fn round(&self) {
        if let Err(error) = self.parts.store.keep_running_time().await {
            tracing::warn!(%error, "the running time could not be kept");
        }
        if let Err(error) = self.keys.tick().await {
            tracing::error!(%error, "the keys could not be looked after");
        }
        self.sweep_revocations().await;
        self.sweep_sessions().await;
        self.parts.forget_throttles().await;
        self.sweep_audit().await;
    }

    async fn sweep_audit(&self) {
        loop {
            let keep = self.parts.settings.load().audit.keep;
            match self.parts.store.sweep_audit(keep).await {
                Ok(0) => return,
                Ok(_) => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "the audit log could not be swept");
                    return;
                }
            }
        }
    }

    /// Tells the hashing pool what the stored hashes cost, so that refusing an unknown name takes as
    /// long as refusing the owner of the dearest of them.
    async fn learn_prices(&self) {
        let usual = self.parts.hashing.usual_prefix();
        let mut after = Some(UserId(i64::MIN));
        let mut unusual = Vec::new();
        while let Some(from) = after {
            match self.parts.store.unusual_hashes(usual.clone(), from, PRICES_BATCH).await {
                Ok((hashes, next)) => {
                    unusual.extend(self.parts.hashing.schemes(&hashes));
                    unusual.sort_unstable();
                    unusual.dedup();
                    after = next;
                }
                Err(error) => {
                    tracing::warn!(%error, "the prices of stored hashes could not be looked at");
                    return;
                }
            }
        }
        self.parts.hashing.learn(&unusual);
    }

    async fn sweep_revocations(&self) {
        let lifetime = self.parts.settings.load().tokens.access_lifetime + MARGIN;
        // Tokens of another service need not say when they were issued, so nothing tells when the last
        // one that an ended user holds has run out.
        let keep_users = self.parts.ring.load().verifying.accepts_tokens_without_kid();
        loop {
            match self.parts.store.sweep_revocations(lifetime, keep_users).await {
                Ok(swept) if swept.is_empty() => return,
                Ok(swept) => self.parts.revocations.forget(&swept),
                Err(error) => {
                    tracing::warn!(%error, "revocations could not be swept");
                    return;
                }
            }
        }
    }

    /// Walks over all sessions once.
    async fn sweep_sessions(&self) {
        let mut after: Option<SessionId> = None;
        loop {
            let sessions = self.parts.settings.load().sessions.clone();
            let sweep = SweepSessions {
                after,
                batch: BATCH,
                policy: sessions.policy(),
                keep_ended: sessions.keep_ended,
            };
            match self.parts.store.sweep_sessions(sweep).await {
                Ok(swept) => {
                    after = swept.next;
                    if after.is_none() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "sessions could not be swept");
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
