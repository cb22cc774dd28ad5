//! Repeated logins (`login.repeat_window`): clients exist that log in before every call. Credentials
//! that were found right a moment ago are recognised by a keyed digest and need no hash.
//!
//! What is remembered is the user's epoch and password version, so that a disabled user or a new
//! password makes it worthless at once (the store begins no session for an old one).

use quick_cache::sync::Cache;

use crate::domain::time::Timestamp;
use crate::domain::user::{Credentials, UserId};
use crate::service::credential_digest::Digest;

/// How many are remembered at once; some 120 bytes each.
const REMEMBERED: usize = 65_536;

/// Whose credentials they were, and the state of the user in which they were right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) user: UserId,
    pub(super) epoch: u64,
    pub(super) password_version: u64,
}

impl From<&Credentials> for Granted {
    fn from(credentials: &Credentials) -> Self {
        let user = &credentials.user;
        Self { user: user.id, epoch: user.epoch, password_version: user.password_version }
    }
}

/// What was granted of late.
pub(super) struct Repeats(Cache<Digest, (Granted, Timestamp)>);

impl Default for Repeats {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Repeats {
    /// What was granted to exactly these credentials and still counts.
    pub(super) fn find(&self, digest: &Digest, now: Timestamp) -> Option<Granted> {
        let (granted, until) = self.0.get(digest)?;
        (now < until).then_some(granted)
    }

    /// Remembers what was granted. A repeat does not lengthen it.
    pub(super) fn remember(&self, digest: Digest, granted: Granted, until: Timestamp) {
        self.0.insert(digest, (granted, until));
    }

    /// Forgets credentials that count no more.
    pub(super) fn forget(&self, digest: &Digest) {
        self.0.remove(digest);
    }
}
