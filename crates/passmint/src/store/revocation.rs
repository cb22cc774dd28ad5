//! What a store does with revocations, its counted running time, and its own health.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::revocation::RevocationEntry;

/// The revocation table, its counted running time, and the store's own health.
#[async_trait]
pub trait RevocationStore: Send + Sync {
    /// All live entries in their order.
    async fn revocations(&self) -> Result<Vec<RevocationEntry>, StoreError>;

    /// Drops entries older than `lifetime`, or the longest one this was ever called with, by running time and by the wall clock; those dropped. With
    /// `keep_users`, what ends all of a user's tokens stays for good.
    async fn sweep_revocations(
        &self,
        lifetime: Duration,
        keep_users: bool,
    ) -> Result<Vec<i64>, StoreError>;

    /// Makes the running time counted so far durable.
    async fn keep_running_time(&self) -> Result<(), StoreError>;

    /// Answers when the database answers: for readiness.
    async fn ping(&self) -> Result<(), StoreError>;
}
