//! Keys: the ring and its changes.
//!
//! Every change is written first and the ring (`ring`) is then loaded anew from the store, whole: what
//! runs is what is kept.

mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use passmint_verify::Algorithm;

use super::{Failure, Parts};
use crate::config::Config;
use crate::crypto::key_import::{self, ImportError, Imported};
use crate::crypto::sealing::Sealer;
use crate::domain::key::{KeyKind, KeyState, KeyStep, KeyUse, PUBLISH_AHEAD, next_step};
use crate::domain::moment::Moment;
use crate::domain::secret::SecretBytes;
use crate::domain::time::Timestamp;
use crate::store::{By, KeyChange, NewKey, StoredKey};

pub use ring::open_ring;

use ring::{label, load_ring, new_signing_key, new_symmetric_key, seal_signing_key};

/// Why something about keys was not done.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such key.
    #[error("there is no key `{0}`: `passmint key list` shows them")]
    Unknown(String),
    /// It is there already, under that `kid`.
    #[error("this key is there already, as {0}")]
    Exists(String),
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

/// The published keys of one use, which give way when another one signs at once.
fn waiting(keys: &[StoredKey], kind: KeyKind) -> Vec<String> {
    keys.iter()
        .filter(|key| key.use_.kind() == kind)
        .filter(|key| matches!(key.state, KeyState::Published { .. }))
        .map(|key| key.kid.clone())
        .collect()
}

/// The key that is kept already, if an imported one is: an asymmetric key has its thumbprint for a name, a
/// shared secret any name.
fn same_key<'a>(
    keys: &'a [StoredKey],
    imported: &Imported,
    sealer: &Sealer,
) -> Result<Option<&'a StoredKey>, Failure> {
    const SHARED: KeyUse = KeyUse::Signing(Algorithm::Hs256);
    let (kid, secret) = match imported {
        Imported::Private(secret) if secret.public.is_empty() => ("", Some(&secret.secret)),
        Imported::Private(secret) => (secret.kid.as_str(), None),
        Imported::Public { kid, .. } => (kid.as_str(), None),
    };
    let Some(secret) = secret else {
        return Ok(keys.iter().find(|key| key.kid == kid));
    };
    for key in keys.iter().filter(|key| key.use_ == SHARED) {
        let kept = sealer.open(&label(&key.kid, key.use_), &key.sealed);
        let kept = kept.map_err(Failure::internal)?;
        if verify_slices_are_equal(kept.expose(), secret.expose()).is_ok() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Whether importing a key again makes it sign: it only verifies so far.
fn may_be_promoted(key: &StoredKey, verify_only: bool) -> bool {
    !verify_only && matches!(key.state, KeyState::Verifying { .. })
}

/// How often keys of one kind, these, are to rotate; zero: never.
fn rotate_every(of_use: &[&StoredKey], config: &Config) -> std::time::Duration {
    let shared = of_use.iter().any(|key| {
        key.use_ == KeyUse::Signing(Algorithm::Hs256)
            && matches!(key.state, KeyState::Signing { .. })
    });
    // Another algorithm was configured: the next key is due now, and published first too.
    let outdated = of_use.iter().any(|key| {
        matches!((key.use_, key.state), (KeyUse::Signing(algorithm), KeyState::Signing { .. })
                    if algorithm != config.keys.algorithm && !key.imported)
    });
    match (shared, outdated) {
        (true, _) => std::time::Duration::ZERO,
        (false, true) => std::time::Duration::from_nanos(1),
        (false, false) => config.keys.rotate_every,
    }
}

/// Whether nothing that a key signed can be alive, by both clocks.
fn is_over(key: &StoredKey, now: Moment) -> bool {
    let KeyState::Verifying { until: Some(until) } = key.state else { return false };
    now.wall > until && key.until_running.is_none_or(|until| now.running > until)
}

/// Times that lie further ahead than this server ever writes them: the clock was ahead then. They would
/// keep the keys from moving on until the clock gets there.
fn put_right(keys: &[StoredKey], now: Timestamp) -> Vec<(String, KeyState)> {
    let slack = std::time::Duration::from_mins(2);
    keys.iter()
        .filter_map(|key| {
            let right = match key.state {
                KeyState::Published { from } if from > now.plus(PUBLISH_AHEAD + slack) => {
                    KeyState::Published { from: now.plus(PUBLISH_AHEAD) }
                }
                KeyState::Signing { since } if since > now.plus(slack) => {
                    KeyState::Signing { since: now }
                }
                _ => return None,
            };
            Some((key.kid.clone(), right))
        })
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
        let added = change.add.first().map(|key| key.kid.clone()).unwrap_or_default();
        self.stale.store(true, Ordering::Relaxed);
        if !self.parts.store.change_keys(change, by).await? {
            self.stale.store(false, Ordering::Relaxed);
            return Err(KeyError::Exists(added));
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
        // Not what is in force now: it may have been longer while the key signed.
        let longest = *self.parts.longest.lock();
        let span = match use_ {
            KeyUse::Refresh => longest.refresh,
            KeyUse::Signing(_) => longest.access,
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

    /// Does what the time demands: publishes, promotes, drops. Called every 30 s.
    pub async fn tick(&self) -> Result<(), KeyError> {
        let _turn = self.turn.lock().await;
        if self.stale.load(Ordering::Relaxed) {
            self.reload().await?;
        }
        let now = self.parts.clock.now();
        let config = self.parts.settings.load_full();
        let (keys, _) = self.parts.store.keys().await?;
        let mut change = KeyChange { states: put_right(&keys, now), ..KeyChange::default() };
        for kind in [KeyKind::Signing, KeyKind::Refresh] {
            let of_use: Vec<&StoredKey> =
                keys.iter().filter(|key| key.use_.kind() == kind).collect();
            // What was written under a clock that was ahead is put right first.
            if of_use.iter().any(|key| change.states.iter().any(|(kid, _)| *kid == key.kid)) {
                continue;
            }
            let states: Vec<KeyState> = of_use.iter().map(|key| key.state).collect();
            let every = rotate_every(&of_use, &config);
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
        if self.parts.clock_guard.lock().may_destroy() {
            let now = Moment { wall: now, running: self.parts.store.running_time() };
            change.drop =
                keys.iter().filter(|key| is_over(key, now)).map(|key| key.kid.clone()).collect();
        }
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
            change.revoked_refresh_key = Some(key.number);
        }
        if matches!(key.state, KeyState::Signing { .. }) {
            let state = KeyState::Signing { since: now };
            change.add.push(self.make(kind, state)?);
            change.drop.extend(waiting(&keys, kind));
        }
        self.change(change, By::OPERATOR).await?;
        // The key is gone, so nothing can be refreshed; now its sessions end, in steps that the
        // background walk would go on with after a crash.
        if kind == KeyKind::Refresh {
            super::maintenance::walk_sessions(&self.parts, None).await?;
        }
        Ok(use_)
    }

    /// Imports a key from a file's content: to sign with from now on, or only to verify with. One that is
    /// there already, and does not sign, is made to sign under the `kid` it has. Returns the `kid`.
    pub async fn import(
        &self,
        content: &[u8],
        algorithm: Algorithm,
        verify_only: bool,
    ) -> Result<String, KeyError> {
        let _turn = self.turn.lock().await;
        let now = self.parts.clock.now();
        let imported = key_import::read(algorithm, content)?;
        if matches!(imported, Imported::Public { .. }) && !verify_only {
            return Err(ImportError::PublicOnly.into());
        }
        let (keys, _) = self.parts.store.keys().await?;
        let sealer = self.sealer.load();
        let signs = KeyState::Signing { since: now };
        let state = if verify_only { KeyState::Verifying { until: None } } else { signs };
        let mut change = KeyChange::default();
        let kid = match (same_key(&keys, &imported, &sealer)?, imported) {
            (Some(same), Imported::Private(secret)) if may_be_promoted(same, verify_only) => {
                let label = label(&same.kid, same.use_);
                let sealed = sealer.seal(&label, secret.secret.expose());
                change.reseal.push((same.kid.clone(), sealed.map_err(Failure::internal)?));
                change.states.push((same.kid.clone(), signs));
                same.kid.clone()
            }
            (Some(same), _) => return Err(KeyError::Exists(same.kid.clone())),
            (None, Imported::Private(secret)) => {
                change.add.push(seal_signing_key(&sealer, algorithm, &secret, state, true)?);
                secret.kid
            }
            (None, Imported::Public { kid, public }) => {
                let use_ = KeyUse::Signing(algorithm);
                let (sealed, imported) = (Vec::new(), true);
                change.add.push(NewKey { kid: kid.clone(), use_, state, public, sealed, imported });
                kid
            }
        };
        if !verify_only {
            change.states.extend(self.step_down(&keys, KeyKind::Signing));
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
        let in_use =
            |key: &SecretBytes| check.as_ref().is_some_and(|check| Sealer::is_check_of(key, check));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000).plus(HOUR * u32::try_from(hours).unwrap())
    }

    fn key(kid: &str, state: KeyState, until_running: Option<i64>) -> StoredKey {
        StoredKey {
            number: 1,
            kid: kid.to_owned(),
            use_: KeyUse::Refresh,
            state,
            public: Vec::new(),
            sealed: Vec::new(),
            imported: false,
            created_at: at(0),
            until_running,
        }
    }

    #[test]
    fn a_key_is_over_only_when_both_clocks_say_so() {
        let verifying =
            |until_running| key("a", KeyState::Verifying { until: Some(at(24)) }, until_running);
        let moment = |hours, running| Moment { wall: at(hours), running };
        assert!(!is_over(&verifying(Some(100)), moment(24, 200)), "the wall clock says no");
        assert!(!is_over(&verifying(Some(100)), moment(1000, 100)), "running time says no");
        assert!(is_over(&verifying(Some(100)), moment(25, 101)));
        assert!(is_over(&verifying(None), moment(25, 0)), "from before running time was kept");
        assert!(!is_over(&key("a", KeyState::Verifying { until: None }, None), moment(1000, 1000)));
        assert!(!is_over(&key("a", KeyState::Signing { since: at(0) }, None), moment(1000, 1000)));
    }

    #[test]
    fn times_that_a_fast_clock_wrote_are_put_right() {
        let keys = [
            key("ahead", KeyState::Published { from: at(500) }, None),
            key("soon", KeyState::Published { from: at(1) }, None),
            key("signs from later", KeyState::Signing { since: at(500) }, None),
            key("signs", KeyState::Signing { since: at(0) }, None),
            key("verifies", KeyState::Verifying { until: Some(at(500)) }, None),
        ];
        let right = put_right(&keys, at(0));
        let ahead = KeyState::Published { from: at(0).plus(PUBLISH_AHEAD) };
        let signs = KeyState::Signing { since: at(0) };
        assert_eq!(right, [("ahead".to_owned(), ahead), ("signs from later".to_owned(), signs)]);
    }
}
