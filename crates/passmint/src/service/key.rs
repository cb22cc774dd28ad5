//! Keys: the ring and its changes.
//!
//! Every change is written first and the ring is then loaded anew from the store, whole: what runs
//! is what is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use passmint_verify::{Algorithm, JwkSet, KeySet, VerifyingKey};

use super::{Failure, Parts};
use crate::config::Config;
use crate::crypto::key_import::{self, ImportError, Imported};
use crate::crypto::key_ring::{KeyRing, jwks_json};
use crate::crypto::random;
use crate::crypto::sealing::Sealer;
use crate::crypto::signing_key::{self, NewSecret, SigningKey};
use crate::domain::key::{KeyKind, KeyState, KeyStep, KeyUse, PUBLISH_AHEAD, next_step};
use crate::domain::secret::SecretBytes;
use crate::domain::time::Timestamp;
use crate::store::{By, KeyChange, NewKey, Store, StoredKey};

/// Why something about keys was not done.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such key.
    #[error("there is no key `{0}`: `passmint key list` shows them")]
    Unknown(String),
    /// It is there already.
    #[error("this key is there already")]
    Exists,
    /// Another master key sealed what is in the database.
    #[error(
        "this is not the master key that the database's keys are sealed under: give the right one \
         with master_key.file"
    )]
    WrongMasterKey,
    /// As it says.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// As it says.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<crate::store::StoreError> for KeyError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// Loads, rotates, revokes and imports keys.
#[derive(Clone)]
pub struct KeyService {
    parts: Arc<Parts>,
    sealer: Arc<ArcSwap<Sealer>>,
    /// Changes come one after the other.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Set while the ring may be older than what is kept.
    stale: Arc<AtomicBool>,
}

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

fn label(kid: &str, use_: KeyUse) -> String {
    format!("{}/{kid}", use_.name())
}

fn new_signing_key(
    sealer: &Sealer,
    algorithm: Algorithm,
    state: KeyState,
) -> Result<NewKey, Failure> {
    let made = signing_key::generate(algorithm).map_err(Failure::internal)?;
    seal_signing_key(sealer, algorithm, &made, state, false)
}

fn seal_signing_key(
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
fn new_symmetric_key(sealer: &Sealer, use_: KeyUse, state: KeyState) -> Result<NewKey, Failure> {
    let id = random::bytes::<8>().map_err(Failure::internal)?;
    let kid = format!("{}-{:016x}", use_.name(), u64::from_be_bytes(id));
    let secret = SecretBytes::new(random::bytes::<32>().map_err(Failure::internal)?.to_vec());
    let sealed = sealer.seal(&label(&kid, use_), secret.expose()).map_err(Failure::internal)?;
    Ok(NewKey { kid, use_, state, public: Vec::new(), sealed, imported: false })
}

/// Parses all keys. A ring without a signing or a refresh key is no ring.
fn load_ring(keys: &[StoredKey], sealer: &Sealer, version: u64) -> Result<KeyRing, Failure> {
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
                let key_ = VerifyingKey::hs256(secret.expose()).map_err(Failure::internal)?;
                verifying.insert(key.kid.clone(), key_);
                if key.imported {
                    verifying.accept_without_kid(key.kid.clone());
                }
                if signs {
                    signing = Some((key, secret));
                }
            }
            KeyUse::Signing(algorithm) => {
                let public = signing_key::public_key(algorithm, &key.public);
                verifying.insert(key.kid.clone(), public.map_err(Failure::internal)?);
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

/// The published keys of one use, which give way when another one signs at once.
fn waiting(keys: &[StoredKey], kind: KeyKind) -> Vec<String> {
    keys.iter()
        .filter(|key| key.use_.kind() == kind)
        .filter(|key| matches!(key.state, KeyState::Published { .. }))
        .map(|key| key.kid.clone())
        .collect()
}

impl KeyService {
    /// Made of `parts`; `sealer` has opened the ring in them.
    pub fn new(parts: Arc<Parts>, sealer: Sealer) -> Self {
        Self {
            parts,
            sealer: Arc::new(ArcSwap::from_pointee(sealer)),
            turn: Arc::new(tokio::sync::Mutex::new(())),
            stale: Arc::default(),
        }
    }

    /// The JWK set as JSON.
    pub fn jwks(&self) -> Arc<[u8]> {
        Arc::clone(&self.parts.ring.load().jwks)
    }

    /// All keys, secrets sealed.
    pub async fn list(&self) -> Result<Vec<StoredKey>, KeyError> {
        Ok(self.parts.store.keys().await?.0)
    }

    /// Writes a change and swaps the ring. A ring that could not be loaded after its change was
    /// written is loaded by the next tick.
    async fn change(&self, change: KeyChange, by: By) -> Result<(), KeyError> {
        let _nobody_uses_them = self.parts.keys_in_use.write().await;
        self.stale.store(true, Ordering::Relaxed);
        if !self.parts.store.change_keys(change, by).await? {
            self.stale.store(false, Ordering::Relaxed);
            return Err(KeyError::Exists);
        }
        self.reload().await
    }

    async fn reload(&self) -> Result<(), KeyError> {
        let (keys, _) = self.parts.store.keys().await?;
        let version = self.parts.ring.load().version + 1;
        let ring = load_ring(&keys, &self.sealer.load(), version)?;
        self.parts.ring.store(Arc::new(ring));
        self.stale.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Until when a key verifies that stops signing now.
    fn verifies(&self, use_: KeyUse) -> KeyState {
        let config = self.parts.settings.load();
        let span = match use_ {
            KeyUse::Refresh => config.sessions.idle_lifetime,
            KeyUse::Signing(_) => config.tokens.access_lifetime,
            KeyUse::Digest => std::time::Duration::ZERO,
        };
        KeyState::Verifying { until: Some(self.parts.clock.now().plus(span)) }
    }

    /// The keys of one use that sign now, told to verify only.
    fn step_down(&self, keys: &[StoredKey], kind: KeyKind) -> Vec<(String, KeyState)> {
        keys.iter()
            .filter(|key| key.use_.kind() == kind)
            .filter(|key| matches!(key.state, KeyState::Signing { .. }))
            .map(|key| (key.kid.clone(), self.verifies(key.use_)))
            .collect()
    }

    /// Does what the time demands: publishes, promotes, drops. Called every minute.
    pub async fn tick(&self) -> Result<(), KeyError> {
        let _turn = self.turn.lock().await;
        if self.stale.load(Ordering::Relaxed) {
            self.reload().await?;
        }
        let now = self.parts.clock.now();
        let config = self.parts.settings.load_full();
        let (keys, _) = self.parts.store.keys().await?;
        let mut change = KeyChange::default();
        for kind in [KeyKind::Signing, KeyKind::Refresh] {
            let of_use: Vec<&StoredKey> =
                keys.iter().filter(|key| key.use_.kind() == kind).collect();
            let states: Vec<KeyState> = of_use.iter().map(|key| key.state).collect();
            let shared = of_use.iter().any(|key| {
                key.use_ == KeyUse::Signing(Algorithm::Hs256)
                    && matches!(key.state, KeyState::Signing { .. })
            });
            // Another algorithm was configured: the next key is due now, and published first too.
            let outdated = of_use.iter().any(|key| {
                matches!((key.use_, key.state), (KeyUse::Signing(algorithm), KeyState::Signing { .. })
                    if algorithm != config.keys.algorithm && !key.imported)
            });
            let every = match (shared, outdated) {
                (true, _) => std::time::Duration::ZERO,
                (false, true) => std::time::Duration::from_nanos(1),
                (false, false) => config.keys.rotate_every,
            };
            match next_step(&states, every, now) {
                KeyStep::Rest => {}
                KeyStep::Publish => {
                    let state = KeyState::Published { from: now.plus(PUBLISH_AHEAD) };
                    change.add.push(self.make(kind, state)?);
                }
                KeyStep::Promote => {
                    change.states.extend(self.step_down(&keys, kind));
                    let published =
                        of_use.iter().find(|key| matches!(key.state, KeyState::Published { .. }));
                    let promoted = KeyState::Signing { since: now };
                    change.states.extend(published.map(|key| (key.kid.clone(), promoted)));
                }
            }
        }
        let over = |key: &&StoredKey| matches!(key.state, KeyState::Verifying { until: Some(until) } if now > until);
        change.drop = keys.iter().filter(over).map(|key| key.kid.clone()).collect();
        if change.add.is_empty() && change.states.is_empty() && change.drop.is_empty() {
            return Ok(());
        }
        tracing::info!(
            published = change.add.len(),
            changed = change.states.len(),
            dropped = change.drop.len(),
            "keys moved on"
        );
        self.change(change, By::SERVER).await
    }

    /// A new key of that kind; a signing key of the configured algorithm.
    fn make(&self, kind: KeyKind, state: KeyState) -> Result<NewKey, Failure> {
        let sealer = self.sealer.load();
        match kind {
            KeyKind::Signing => {
                let algorithm = self.parts.settings.load().keys.algorithm;
                new_signing_key(&sealer, algorithm, state)
            }
            KeyKind::Refresh => new_symmetric_key(&sealer, KeyUse::Refresh, state),
            KeyKind::Digest => new_symmetric_key(&sealer, KeyUse::Digest, state),
        }
    }

    /// Makes a new signing key: published for an hour first, or with `now` signing at once. A key that
    /// is published and waits for its hour gives way. Returns the `kid` of the new one and of those.
    pub async fn rotate(&self, at_once: bool) -> Result<(String, Vec<String>), KeyError> {
        let _turn = self.turn.lock().await;
        let now = self.parts.clock.now();
        let state = if at_once {
            KeyState::Signing { since: now }
        } else {
            KeyState::Published { from: now.plus(PUBLISH_AHEAD) }
        };
        let key = self.make(KeyKind::Signing, state)?;
        let kid = key.kid.clone();
        let (keys, _) = self.parts.store.keys().await?;
        let gave_way = waiting(&keys, KeyKind::Signing);
        let change = KeyChange {
            drop: gave_way.clone(),
            states: if at_once { self.step_down(&keys, KeyKind::Signing) } else { Vec::new() },
            add: vec![key],
            ..KeyChange::default()
        };
        self.change(change, By::OPERATOR).await?;
        Ok((kid, gave_way))
    }

    /// Drops a key at once, and says what it was for. If it signs, another takes over; revoking a
    /// refresh key ends its sessions, revoking a signing key ends none.
    pub async fn revoke(&self, kid: &str) -> Result<KeyUse, KeyError> {
        let _turn = self.turn.lock().await;
        let now = self.parts.clock.now();
        let (keys, _) = self.parts.store.keys().await?;
        let key = keys
            .iter()
            .find(|key| key.kid == kid)
            .ok_or_else(|| KeyError::Unknown(kid.to_owned()))?;
        let use_ = key.use_;
        let kind = use_.kind();
        let mut change = KeyChange { drop: vec![kid.to_owned()], ..KeyChange::default() };
        if kind == KeyKind::Refresh {
            change.end_sessions_of = Some(key.number);
        }
        if matches!(key.state, KeyState::Signing { .. }) {
            let state = KeyState::Signing { since: now };
            change.add.push(self.make(kind, state)?);
            change.drop.extend(waiting(&keys, kind));
        }
        self.change(change, By::OPERATOR).await?;
        Ok(use_)
    }

    /// Imports a key from a file's content: to sign with from now on, or only to verify with.
    pub async fn import(
        &self,
        content: &[u8],
        algorithm: Algorithm,
        verify_only: bool,
    ) -> Result<String, KeyError> {
        let _turn = self.turn.lock().await;
        let now = self.parts.clock.now();
        let state = if verify_only {
            KeyState::Verifying { until: None }
        } else {
            KeyState::Signing { since: now }
        };
        let key = match key_import::read(algorithm, content)? {
            Imported::Private(secret) => {
                seal_signing_key(&self.sealer.load(), algorithm, &secret, state, true)?
            }
            Imported::Public { .. } if !verify_only => return Err(ImportError::PublicOnly.into()),
            Imported::Public { kid, public } => NewKey {
                kid,
                use_: KeyUse::Signing(algorithm),
                state,
                public,
                sealed: Vec::new(),
                imported: true,
            },
        };
        let kid = key.kid.clone();
        let (keys, _) = self.parts.store.keys().await?;
        let mut change = KeyChange { add: vec![key], ..KeyChange::default() };
        if !verify_only {
            change.states = self.step_down(&keys, KeyKind::Signing);
            change.drop = waiting(&keys, KeyKind::Signing);
        }
        self.change(change, By::OPERATOR).await?;
        Ok(kid)
    }

    /// Seals every key anew under another master key; how many. With `current`, only if that is the
    /// master key in use: the caller is about to replace the file it is in.
    pub async fn reseal(
        &self,
        master_key: &SecretBytes,
        current: Option<&SecretBytes>,
    ) -> Result<usize, KeyError> {
        let _turn = self.turn.lock().await;
        let new = Sealer::new(master_key).map_err(Failure::internal)?;
        let old = self.sealer.load_full();
        let (keys, check) = self.parts.store.keys().await?;
        let in_use = |key: &SecretBytes| {
            let sealer = Sealer::new(key).ok();
            sealer.is_some_and(|sealer| check.as_ref().is_some_and(|check| sealer.passes(check)))
        };
        if current.is_some_and(|current| !in_use(current)) {
            return Err(KeyError::WrongMasterKey);
        }
        let mut change = KeyChange::default();
        for key in keys.iter().filter(|key| !key.sealed.is_empty()) {
            let label = label(&key.kid, key.use_);
            let secret = old.open(&label, &key.sealed).map_err(Failure::internal)?;
            let sealed = new.seal(&label, secret.expose()).map_err(Failure::internal)?;
            change.reseal.push((key.kid.clone(), sealed));
        }
        change.seal_check = Some(new.make_check().map_err(Failure::internal)?);
        let count = change.reseal.len();
        let written = self.parts.store.change_keys(change, By::OPERATOR).await;
        // After a failure the check says under which key they are now.
        let (_, check) = self.parts.store.keys().await?;
        if check.is_some_and(|check| new.passes(&check)) {
            self.sealer.store(Arc::new(new));
            return Ok(count);
        }
        written?;
        Err(Failure::internal("the keys were not sealed anew").into())
    }
}
