//! What the server does, by noun: brings store, crypto, clock and revocation view together.
//!
//! `http`, `admin` and `cli` call this room; it knows nothing of them, of status codes or of SQL.
//! Services read the clock once per call and pass `now` down.

pub mod audit;
mod credential_digest;
pub mod key;
pub mod maintenance;
pub mod session;
pub mod throttle;
pub mod token;
pub mod user;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio_util::task::TaskTracker;

pub use credential_digest::CredentialDigests;

use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::hasher::HashingPool;
use crate::crypto::key_ring::KeyRing;
use crate::domain::clock_guard::ClockGuard;
use crate::revocation::RevocationView;
use crate::store::{LongestLifetimes, Store, StoreError};
use crate::telemetry::Metrics;
use crate::throttle::{RefusalNotes, Throttle};

/// The settings in force: swapped whole when the operator has them reloaded.
pub type Settings = Arc<ArcSwap<Config>>;

/// What all services are made of.
pub struct Parts {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The settings.
    pub settings: Settings,
    /// Hashes passwords.
    pub hashing: HashingPool,
    /// What has been ended.
    pub revocations: Arc<RevocationView>,
    /// Who tries too often.
    pub throttle: Throttle,
    /// Which refused logins are written down.
    pub refusals: RefusalNotes,
    /// The keys in use.
    pub ring: ArcSwap<KeyRing>,
    /// Held for reading from looking at the ring until what was made with it is stored, and for
    /// writing while keys change: no session is ever stored under a key that is gone.
    pub keys_in_use: RwLock<()>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Recognises credentials.
    pub digests: OnceLock<CredentialDigests>,
    /// Whether the wall clock is believed.
    pub clock_guard: Mutex<ClockGuard>,
    /// The longest lifetimes that were ever in force.
    pub longest: Mutex<LongestLifetimes>,
    /// Why the last reload of the settings failed, if it did.
    pub reload_failed: Mutex<Option<String>>,
    /// Work that no client can end: a stopping server waits for it.
    pub detached: TaskTracker,
}

/// All services; cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Logins, refreshes, verifications.
    pub tokens: token::TokenService,
    /// Sessions.
    pub sessions: session::SessionService,
    /// Users.
    pub users: user::UserService,
    /// Keys.
    pub keys: key::KeyService,
    /// The audit log.
    pub audit: audit::AuditService,
    /// The settings.
    pub settings: Settings,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What they share.
    pub parts: Arc<Parts>,
}

/// Something that is nobody's decision: the store cannot be reached, or a fault.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Worth another try later.
    #[error("temporarily unavailable: {0}")]
    Unavailable(String),
    /// A write may or may not have happened.
    #[error("{0}; look at what is there before trying again")]
    OutcomeUnknown(String),
    /// A fault of ours.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    /// A fault of ours with its cause.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal(cause.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => Self::Unavailable(cause),
            StoreError::Damaged(_) => Self::Unavailable(error.to_string()),
            StoreError::OutcomeUnknown(_) => Self::OutcomeUnknown(error.to_string()),
            StoreError::Failed(cause) => Self::Internal(cause),
        }
    }
}
