//! What a store does with the audit log.

use std::time::Duration;

use async_trait::async_trait;

use super::{By, StoreError};
use crate::domain::audit::{AuditEvent, AuditRecord, ChainLink};
use crate::domain::user::{UserId, Username};

/// Which records to read.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Only those after this number.
    pub after: i64,
    /// Only those before this number.
    pub before: Option<i64>,
    /// Only those about this user.
    pub user: Option<UserId>,
    /// Only events whose name begins so.
    pub event: String,
    /// At most so many.
    pub limit: u32,
    /// The newest first instead of the oldest.
    pub newest_first: bool,
}

/// The audit log.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends a record that belongs to no other write. Returns when it is queued: it is durable
    /// with the next commit.
    fn note(&self, by: By, event: AuditEvent) -> Result<(), StoreError>;

    /// Records in the order asked for.
    async fn audit_records(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError>;

    /// The user that was added or imported last under that name, also if it was deleted since.
    async fn audited_user(&self, name: Username) -> Result<Option<UserId>, StoreError>;

    /// The link that the oldest kept record follows, and the newest link.
    async fn audit_ends(&self) -> Result<(ChainLink, ChainLink), StoreError>;

    /// Deletes a batch of the oldest records that are older than `keep`; how many.
    async fn sweep_audit(&self, keep: Duration) -> Result<u64, StoreError>;
}
