//! What a store does with revocations, its clocks, and its own health.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::clock_guard::{Doubt, LastWallClock};
use crate::domain::revocation::RevocationEntry;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::UserId;

/// The longest lifetimes that were ever in force on a database: what must outlive a token outlives the
/// longest that may have been issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongestLifetimes {
    /// Of access tokens.
    pub access: Duration,
    /// Of refresh tokens (`sessions.idle_lifetime`).
    pub refresh: Duration,
}

/// The revocation table, the store's clocks, and its own health.
#[async_trait]
pub trait RevocationStore: Send + Sync {
    /// Up to `limit` entries after that sequence number, in their order.
    async fn revocations(&self, after: i64, limit: u32)
    -> Result<Vec<RevocationEntry>, StoreError>;

    /// How many entries there are.
    async fn count_revocations(&self) -> Result<u64, StoreError>;

    /// The entries that concern a user or a session.
    async fn revocations_about(
        &self,
        user: Option<UserId>,
        session: Option<SessionId>,
    ) -> Result<Vec<RevocationEntry>, StoreError>;

    /// Drops a batch of the oldest entries that are older than `margin` beyond the longest lifetime of
    /// an access token, by both clocks; those dropped.
    async fn sweep_revocations(&self, margin: Duration)
    -> Result<Vec<RevocationEntry>, StoreError>;

    /// Notes lifetimes before they come into force. Returns the longest that ever were.
    async fn keep_lifetimes(
        &self,
        lifetimes: LongestLifetimes,
    ) -> Result<LongestLifetimes, StoreError>;

    /// Notes that an access token is issued at `now` apart from the other verbs, before it is given out.
    async fn note_issue(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Running time now, in microseconds (`domain::moment`).
    fn running_time(&self) -> i64;

    /// Makes the running time counted so far durable, with the wall clock and how far that is believed.
    async fn keep_clocks(&self, doubt: Doubt) -> Result<(), StoreError>;

    /// The latest that the wall clock said when entries were swept; `None`: none ever were. Tokens that
    /// had expired by then may be unexpired again under a clock that was set back, and nothing in the
    /// table says that they are ended.
    async fn swept_until(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The wall clock as it was last kept; `None` before the first time.
    async fn last_wall_clock(&self) -> Result<Option<LastWallClock>, StoreError>;

    /// Answers when the database can be read, and its last write was committed: for readiness.
    async fn ping(&self) -> Result<(), StoreError>;
}
