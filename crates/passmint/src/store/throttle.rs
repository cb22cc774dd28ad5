//! What a store keeps of the throttle, so that a restart lets nobody try again.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::network::Network;
use crate::domain::throttle::{KnownOrigin, LockoutEntry};
use crate::domain::time::Timestamp;
use crate::domain::user::Username;

/// The throttle's memory.
#[async_trait]
pub trait ThrottleStore: Send + Sync {
    /// Keeps what has changed.
    async fn keep_throttles(&self, changed: Vec<LockoutEntry>) -> Result<(), StoreError>;

    /// All that is kept, as old as the younger of both clocks says: wall clock and running time.
    async fn throttles(&self) -> Result<Vec<LockoutEntry>, StoreError>;

    /// Forgets a batch of what had its last failure longer than `keep` ago by both clocks; how many.
    async fn forget_throttles(&self, keep: Duration) -> Result<u64, StoreError>;

    /// Whether the user of that name has logged in since then from that network, or its neighbourhood.
    async fn knows_origin(
        &self,
        name: Username,
        network: Network,
        since: Timestamp,
    ) -> Result<KnownOrigin, StoreError>;
}
