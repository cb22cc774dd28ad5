//! Keyed digests of credentials: what recognises a repeated login without keeping a password.
//!
//! The key is drawn when it is first needed and lives only in memory: neither database nor log ever
//! holds a fast digest of a password, and a restart makes all of them worthless.

use aws_lc_rs::hmac;

use super::{Failure, Parts};
use crate::crypto::random::{self, NoRandomness};
use crate::domain::secret::Password;
use crate::domain::user::Username;

/// A keyed digest of a name with a password.
pub(super) type Digest = [u8; 32];

/// Makes digests.
pub struct CredentialDigests(hmac::Key);

impl CredentialDigests {
    /// Under a new key.
    pub(super) fn new() -> Result<Self, NoRandomness> {
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()?)))
    }

    /// Of a name with a password.
    pub(super) fn credentials(&self, name: &Username, password: &Password) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        let name = name.as_str().as_bytes();
        // With its length, so that no other name and password run together to the same text.
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name);
        context.update(password.expose().as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    /// The same as a number, for tables.
    pub(super) fn credentials_number(&self, name: &Username, password: &Password) -> u128 {
        let [number, ..] = *self.credentials(name, password).as_chunks::<16>().0 else { return 0 };
        u128::from_be_bytes(number)
    }

    /// Of what a client calls itself, as a number.
    pub(super) fn client(&self, user_agent: &str) -> u64 {
        let digest = hmac::sign(&self.0, user_agent.as_bytes());
        let [number, ..] = *digest.as_ref().as_chunks::<8>().0 else { return 0 };
        u64::from_be_bytes(number)
    }
}

impl Parts {
    /// Made by the first login: the first randomness of a process takes some 60 ms, and it would
    /// lengthen every start.
    pub(super) fn credential_digests(&self) -> Result<&CredentialDigests, Failure> {
        if let Some(digests) = self.digests.get() {
            return Ok(digests);
        }
        let new = CredentialDigests::new().map_err(Failure::internal)?;
        Ok(self.digests.get_or_init(|| new))
    }
}
