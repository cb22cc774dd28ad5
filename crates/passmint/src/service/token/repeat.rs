//! Repeated logins (`login.repeat_window`): clients exist that log in before every call. Credentials
//! that were found right a moment ago are recognised by a keyed digest and need no hash.
//!
//! The key is drawn when it is first needed and lives only in memory, and so does what is remembered: a restart
//! forgets everything, and neither database nor log ever holds a fast digest of a password. What is
//! remembered is the user's epoch and password version, so that a disabled user or a new password
//! makes it worthless at once (the store begins no session for an old one).

use aws_lc_rs::hmac;
use quick_cache::sync::Cache;

use crate::crypto::random::{self, NoRandomness};
use crate::domain::secret::Password;
use crate::domain::time::Timestamp;
use crate::domain::user::{Credentials, UserId, Username};

/// How many are remembered at once; some 120 bytes each.
const REMEMBERED: usize = 65_536;

/// A keyed digest of a name with a password.
pub(super) type Digest = [u8; 32];

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
pub(super) struct Repeats {
    key: hmac::Key,
    granted: Cache<Digest, (Granted, Timestamp)>,
}

impl Repeats {
    /// Remembers nothing yet, under a new key.
    pub(super) fn new() -> Result<Self, NoRandomness> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()?);
        Ok(Self { key, granted: Cache::new(REMEMBERED) })
    }

    /// The name under which a pair of credentials is remembered.
    pub(super) fn digest(&self, name: &Username, password: &Password) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        let name = name.as_str().as_bytes();
        // With its length, so that no other name and password run together to the same text.
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name);
        context.update(password.expose().as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    /// What was granted to exactly these credentials and still counts.
    pub(super) fn find(&self, digest: &Digest, now: Timestamp) -> Option<Granted> {
        let (granted, until) = self.granted.get(digest)?;
        (now < until).then_some(granted)
    }

    /// Remembers what was granted. A repeat does not lengthen it.
    pub(super) fn remember(&self, digest: Digest, granted: Granted, until: Timestamp) {
        self.granted.insert(digest, (granted, until));
    }

    /// Forgets credentials that count no more.
    pub(super) fn forget(&self, digest: &Digest) {
        self.granted.remove(digest);
    }
}
