//! The ring: keys as they run, made of keys as they are kept.

use std::collections::HashMap;

use aws_lc_rs::hmac;
use passmint_verify::{Algorithm, JwkSet, KeySet, VerifyingKey};

use super::KeyError;
use crate::config::Config;
use crate::crypto::key_ring::{KeyRing, jwks_json};
use crate::crypto::random;
use crate::crypto::sealing::Sealer;
use crate::crypto::signing_key::{self, NewSecret, SigningKey};
use crate::domain::key::{KeyState, KeyUse};
use crate::domain::secret::SecretBytes;
use crate::domain::time::Timestamp;
use crate::service::Failure;
use crate::store::{By, KeyChange, NewKey, Store, StoredKey};

/// Makes the first keys of a new database; on another one, checks the master key. Then the ring.
pub async fn open_ring(
    store: &dyn Store,
    sealer: &Sealer,
    config: &Config,
    now: Timestamp,
) -> Result<KeyRing, KeyError> {
    let (keys, check) = store.keys().await?;
    match check {
        Some(check) if !sealer.passes(&check) => return Err(KeyError::WrongMasterKey),
        Some(_) if keys.iter().any(|key| key.use_ == KeyUse::Digest) => {
            return Ok(load_ring(&keys, sealer, 1)?);
        }
        _ => {}
    }
    let state = KeyState::Signing { since: now };
    let mut change = KeyChange::default();
    if check.is_none() {
        change.add.push(new_signing_key(sealer, config.keys.algorithm, state)?);
        change.add.push(new_symmetric_key(sealer, KeyUse::Refresh, state)?);
        change.seal_check = Some(sealer.make_check().map_err(Failure::internal)?);
    }
    // A database of the first schema has none yet.
    change.add.push(new_symmetric_key(sealer, KeyUse::Digest, state)?);
    store.change_keys(change, By::SERVER).await?;
    let (keys, _) = store.keys().await?;
    Ok(load_ring(&keys, sealer, 1)?)
}

pub(super) fn label(kid: &str, use_: KeyUse) -> String {
    format!("{}/{kid}", use_.name())
}

pub(super) fn new_signing_key(
    sealer: &Sealer,
    algorithm: Algorithm,
    state: KeyState,
) -> Result<NewKey, Failure> {
    let made = signing_key::generate(algorithm).map_err(Failure::internal)?;
    seal_signing_key(sealer, algorithm, &made, state, false)
}

pub(super) fn seal_signing_key(
    sealer: &Sealer,
    algorithm: Algorithm,
    made: &NewSecret,
    state: KeyState,
    imported: bool,
) -> Result<NewKey, Failure> {
    let use_ = KeyUse::Signing(algorithm);
    let label = label(&made.kid, use_);
    let sealed = sealer.seal(&label, made.secret.expose()).map_err(Failure::internal)?;
    Ok(NewKey { kid: made.kid.clone(), use_, state, public: made.public.clone(), sealed, imported })
}

/// A key that never leaves the server: 32 random bytes under a random name.
pub(super) fn new_symmetric_key(
    sealer: &Sealer,
    use_: KeyUse,
    state: KeyState,
) -> Result<NewKey, Failure> {
    let id = random::bytes::<8>().map_err(Failure::internal)?;
    let kid = format!("{}-{:016x}", use_.name(), u64::from_be_bytes(id));
    let secret = SecretBytes::new(random::bytes::<32>().map_err(Failure::internal)?.to_vec());
    let sealed = sealer.seal(&label(&kid, use_), secret.expose()).map_err(Failure::internal)?;
    Ok(NewKey { kid, use_, state, public: Vec::new(), sealed, imported: false })
}

/// Parses all keys. A ring without a signing or a refresh key is no ring.
pub(super) fn load_ring(
    keys: &[StoredKey],
    sealer: &Sealer,
    version: u64,
) -> Result<KeyRing, Failure> {
    let mut signing = None;
    let mut refresh_key = None;
    let mut digest_key = None;
    let mut verifying = KeySet::default();
    let mut jwks = JwkSet::default();
    let mut refresh_keys = HashMap::new();
    for key in keys {
        let open =
            || sealer.open(&label(&key.kid, key.use_), &key.sealed).map_err(Failure::internal);
        let signs = matches!(key.state, KeyState::Signing { .. });
        match key.use_ {
            KeyUse::Refresh => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, open()?.expose());
                refresh_keys.insert(key.number, secret);
                if signs {
                    refresh_key = Some(key.number);
                }
            }
            KeyUse::Digest => {
                digest_key = Some(hmac::Key::new(hmac::HMAC_SHA256, open()?.expose()));
            }
            KeyUse::Signing(Algorithm::Hs256) => {
                let secret = open()?;
                let parse = || VerifyingKey::hs256(secret.expose()).map_err(Failure::internal);
                // One that never signed here is named by no token of ours.
                if !never_signed(key) {
                    verifying.insert(key.kid.clone(), parse()?);
                }
                if key.imported {
                    verifying.accept_without_kid(parse()?);
                }
                if signs {
                    signing = Some((key, secret));
                }
            }
            KeyUse::Signing(algorithm) => {
                trust(&mut verifying, key, algorithm)?;
                let jwk = signing_key::public_jwk(algorithm, &key.public);
                jwks.keys.push(jwk.map_err(Failure::internal)?);
                if signs {
                    signing = Some((key, open()?));
                }
            }
        }
    }
    let (key, secret) = signing.ok_or_else(|| Failure::internal("no key signs"))?;
    let KeyUse::Signing(algorithm) = key.use_ else {
        return Err(Failure::internal("the signing key is none"));
    };
    Ok(KeyRing {
        version,
        signing: SigningKey::new(algorithm, key.kid.clone(), secret.expose())
            .map_err(Failure::internal)?,
        verifying,
        jwks: jwks_json(&jwks),
        refresh_key: refresh_key.ok_or_else(|| Failure::internal("no refresh key is in use"))?,
        refresh_keys,
        digest_key: digest_key.ok_or_else(|| Failure::internal("there is no digest key"))?,
    })
}

/// Whether it was imported to verify with and never signed here: tokens of such a key are another
/// service's.
fn never_signed(key: &StoredKey) -> bool {
    key.state == (KeyState::Verifying { until: None })
}

/// Has tokens that name a public key checked against it.
fn trust(verifying: &mut KeySet, key: &StoredKey, algorithm: Algorithm) -> Result<(), Failure> {
    let public = signing_key::public_key(algorithm, &key.public).map_err(Failure::internal)?;
    if never_signed(key) {
        verifying.insert_foreign(key.kid.clone(), public);
    } else {
        verifying.insert(key.kid.clone(), public);
    }
    Ok(())
}
