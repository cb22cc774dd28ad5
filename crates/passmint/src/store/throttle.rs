//! What a store keeps of the throttle, so that a restart lets nobody try again.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::network::Network;
use crate::domain::throttle::Held;
use crate::domain::time::Timestamp;
use crate::domain::user::Username;

/// The throttle's memory.
#[async_trait]
pub trait ThrottleStore: Send + Sync {
    /// Keeps what has changed.
    async fn keep_throttles(&self, changed: Vec<Held>) -> Result<(), StoreError>;

    /// All that is kept.
    async fn throttles(&self) -> Result<Vec<Held>, StoreError>;

    /// Forgets a batch of what had its last failure before `before`; how many.
    async fn forget_throttles(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Whether the user of that name has logged in from that network since then.
    async fn knows_network(
        &self,
        name: Username,
        network: Network,
        since: Timestamp,
    ) -> Result<bool, StoreError>;
}
