//! The audit log: noting what belongs to no other write, reading, checking.

use std::sync::Arc;

use super::{Failure, Parts};
use crate::domain::audit::{Actor, AuditEvent, AuditRecord, BrokenChain, By, ChainLink, follow};
use crate::domain::user::{UserId, Username};
use crate::store::AuditQuery;
use crate::telemetry::REQUEST;

/// How many records are read at once.
const PAGE: u32 = 1000;

/// Why the log could not be vouched for.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// As it says.
    #[error(transparent)]
    Broken(#[from] BrokenChain),
    /// Records are missing at the new end.
    #[error("the audit log ends at record {found}, and had more: the newest are missing")]
    Short {
        /// The last record that is there.
        found: i64,
    },
    /// Another record has the number of one that was noted elsewhere, or none has.
    #[error(
        "the audit log is not the one that was noted: its record {0} is missing or has another hash"
    )]
    NotAsNoted(i64),
    /// It is older than everything that is kept.
    #[error(
        "record {0} is past audit.keep and was taken out, so that nothing can be compared with it: give a \
         newer number and hash"
    )]
    NotedIsGone(i64),
    /// As it says.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A log that holds together.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// The link that the oldest kept record follows.
    pub from: ChainLink,
    /// The newest link.
    pub to: ChainLink,
}

/// Reads and checks the audit log.
#[derive(Clone)]
pub struct AuditService(Arc<Parts>);

impl AuditService {
    /// Made of `parts`.
    pub fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }

    /// Records in the order asked for.
    pub async fn records(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, Failure> {
        Ok(self.0.store.audit_records(query).await?)
    }

    /// The user of that name or, if it was deleted, the last one that had it; `None`: nothing is known of one.
    pub async fn user(&self, name: &str) -> Result<Option<UserId>, Failure> {
        let name = Username::canonical(name);
        match self.0.store.user_named(name.clone()).await? {
            Some(user) => Ok(Some(user.id)),
            None => Ok(self.0.store.audited_user(name).await?),
        }
    }

    /// Follows the whole chain from its oldest kept record to its newest. `noted` is a link that an
    /// earlier check printed: it must still be there.
    pub async fn verify(&self, noted: Option<ChainLink>) -> Result<Whole, AuditError> {
        loop {
            let (from, newest) = self.0.store.audit_ends().await.map_err(Failure::from)?;
            let walked = self.walk(from, newest, noted).await;
            // Old records may have been swept meanwhile: then their place is looked up anew.
            let swept = matches!(walked, Err(AuditError::Broken(_)))
                && self.0.store.audit_ends().await.map_err(Failure::from)?.0 != from;
            if !swept {
                return walked;
            }
        }
    }

    async fn walk(
        &self,
        from: ChainLink,
        newest: ChainLink,
        noted: Option<ChainLink>,
    ) -> Result<Whole, AuditError> {
        let mut link = from;
        // From below the first on: nothing may stand before it.
        let mut after = i64::MIN;
        loop {
            let query = AuditQuery { after, limit: PAGE, ..AuditQuery::default() };
            let records = self.records(query).await?;
            if records.is_empty() {
                break;
            }
            link = follow(link, &records)?;
            after = link.sequence;
        }
        if link.sequence < newest.sequence {
            return Err(AuditError::Short { found: link.sequence });
        }
        if let Some(noted) = noted.filter(|noted| *noted != from) {
            if noted.sequence < from.sequence {
                return Err(AuditError::NotedIsGone(noted.sequence));
            }
            let after = noted.sequence.saturating_sub(1);
            let query = AuditQuery { after, limit: 1, ..AuditQuery::default() };
            let found = self.records(query).await?;
            if !found.iter().any(|record| record.link == noted) {
                return Err(AuditError::NotAsNoted(noted.sequence));
            }
        }
        Ok(Whole { from, to: link })
    }
}

impl Parts {
    /// Who acts in the current request; outside of one, without address and id.
    pub fn by(&self, actor: Actor) -> By {
        let context = REQUEST.try_with(Clone::clone).ok();
        By {
            actor,
            address: context.as_ref().map(|context| context.address),
            request: context.map(|context| context.id),
        }
    }

    /// Notes something that belongs to no other write. What cannot be noted is said in the log.
    pub fn note(&self, by: By, event: AuditEvent) {
        let kind = event.kind.name();
        if let Err(error) = self.store.note(by, event) {
            tracing::error!(%error, event = kind, "an audit record could not be written");
        }
    }
}
