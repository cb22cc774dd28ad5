//! What a store does with keys.

use async_trait::async_trait;

use super::{By, StoreError};
use crate::domain::key::{KeyState, KeyUse};
use crate::domain::time::Timestamp;

/// A key as the store keeps it: the secret part sealed.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// Row number; the key id inside refresh tokens.
    pub number: u32,
    /// `kid`.
    pub kid: String,
    /// What for.
    pub use_: KeyUse,
    /// Where it stands.
    pub state: KeyState,
    /// When it was made or imported.
    pub created_at: Timestamp,
    /// The public part as SPKI or raw; empty for symmetric keys.
    pub public: Vec<u8>,
    /// The secret part, sealed; empty for an imported public key.
    pub sealed: Vec<u8>,
    /// Whether it was imported: then an HS256 key also answers for tokens without `kid`.
    pub imported: bool,
    /// Until when by running time (microseconds) it verifies, where it stopped signing.
    pub until_running: Option<i64>,
}

/// A key to keep.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// `kid`.
    pub kid: String,
    /// What for.
    pub use_: KeyUse,
    /// Where it starts.
    pub state: KeyState,
    /// As in [`StoredKey`].
    pub public: Vec<u8>,
    /// As in [`StoredKey`].
    pub sealed: Vec<u8>,
    /// As in [`StoredKey`].
    pub imported: bool,
}

/// What to change about keys, all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// Keys to add.
    pub add: Vec<NewKey>,
    /// New states, by `kid`.
    pub states: Vec<(String, KeyState)>,
    /// Keys to drop, by `kid`.
    pub drop: Vec<String>,
    /// New sealed secrets, by `kid`.
    pub reseal: Vec<(String, Vec<u8>)>,
    /// Notes that this refresh key is revoked: the walk over the sessions ends those that it made.
    pub revoked_refresh_key: Option<u32>,
    /// The seal check to keep with the keys (proves that a master key is the right one).
    pub seal_check: Option<Vec<u8>>,
}

/// Keys.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// All keys and the seal check, `None` on a new database.
    async fn keys(&self) -> Result<(Vec<StoredKey>, Option<Vec<u8>>), StoreError>;

    /// Changes keys; `false` when a `kid` to add exists, and nothing was changed.
    async fn change_keys(&self, change: KeyChange, by: By) -> Result<bool, StoreError>;
}
