//! Opens the database and builds all services on it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio_util::task::TaskTracker;

use super::server::load_tls;
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::hasher::{Argon2Params, HashSink, HashingPool, PoolSettings};
use crate::crypto::master_key;
use crate::crypto::sealing::Sealer;
use crate::domain::audit::AuditKind;
use crate::domain::clock_guard::ClockGuard;
use crate::domain::revocation::RevocationEntry;
use crate::domain::secret::SecretBytes;
use crate::domain::session::EndReason;
use crate::http::listener::Tls;
use crate::revocation::RevocationView;
use crate::service::audit::AuditService;
use crate::service::key::{KeyService, open_ring};
use crate::service::session::SessionService;
use crate::service::token::TokenService;
use crate::service::user::UserService;
use crate::service::{Parts, Services};
use crate::store::sqlite::{DatabaseLock, Migration, SqliteStore, is_nothing};
use crate::store::{CommitSink, KeyStore as _, LongestLifetimes, RevocationStore as _, StoreError};
use crate::telemetry::Metrics;
use crate::throttle::{RefusalNotes, Throttle};

/// What may be done to a database that is not there, or is an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// `serve`: begins in a folder that is there and has no trace of an earlier database, and migrates.
    Serve,
    /// `serve --init`: begins anyway, and migrates.
    Anew,
    /// The demo: makes the folder, and else as `serve` does.
    Demo,
    /// Commands: begins as `serve` does, and does not migrate.
    Command,
}

/// Opens the database of the settings and builds all services on it.
pub async fn open(config: Config, clock: Arc<dyn Clock>, opening: Opening) -> Result<Services> {
    let revocations = Arc::new(RevocationView::default());
    let metrics = Arc::new(Metrics::default());
    let committed = Committed {
        revocations: Arc::clone(&revocations),
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(&clock),
    };
    let store = open_store(&config, Arc::clone(&clock), committed, opening)?;
    // Before they come into force: what must outlive a token outlives the longest.
    let longest = store.keep_lifetimes(lifetimes(&config)).await?;
    let clock_guard =
        ClockGuard::resume(store.last_wall_clock().await?, clock.now(), clock.steady());
    metrics.clock_trusted(clock_guard.may_destroy());
    if !clock_guard.may_destroy() {
        tracing::error!(
            "the clock is behind what it was when a server last ran, or still wrong: nothing is ended, \
             deleted or dropped by age until it is right, or has been steady for an hour"
        );
    }
    if let Some(until) = store.swept_until().await? {
        revocations.set_swept_until(until);
    }
    load_revocations(&store, &revocations, &clock).await?;
    let (_, seal_check) = store.keys().await?;
    let sealer = Sealer::new(&master_key_of(&config, seal_check.as_deref())?)?;
    let ring = open_ring(&*store, &sealer, &config, clock.now()).await?;
    let hashed = Arc::new(Hashed(Arc::clone(&metrics)));
    let hashing = HashingPool::start(pool_settings(&config), hashed)
        .context("cannot start hashing threads")?;
    let settings = Arc::new(ArcSwap::from_pointee(config));
    let parts = Arc::new(Parts {
        store,
        clock,
        settings: Arc::clone(&settings),
        hashing,
        revocations,
        throttle: Throttle::default(),
        refusals: RefusalNotes::default(),
        ring: ArcSwap::from_pointee(ring),
        keys_in_use: RwLock::new(()),
        metrics: Arc::clone(&metrics),
        digests: OnceLock::new(),
        detached: TaskTracker::new(),
        clock_guard: Mutex::new(clock_guard),
        longest: Mutex::new(longest),
        reload_failed: Mutex::new(None),
    });
    parts.throttle.restore(&parts.store.throttles().await?, parts.clock.steady());
    Ok(Services {
        tokens: TokenService::new(Arc::clone(&parts)),
        sessions: SessionService::new(Arc::clone(&parts)),
        users: UserService::new(Arc::clone(&parts)),
        keys: KeyService::new(Arc::clone(&parts), sealer),
        audit: AuditService::new(Arc::clone(&parts)),
        settings,
        metrics,
        parts,
    })
}

fn open_store(
    config: &Config,
    clock: Arc<dyn Clock>,
    sink: Committed,
    opening: Opening,
) -> Result<Arc<SqliteStore>> {
    match opening {
        Opening::Anew => put_journal_aside(config)?,
        Opening::Demo => refuse_over_a_trace(config)?,
        Opening::Serve | Opening::Command => refuse_to_begin_over_another(config)?,
    }
    let migration = if opening == Opening::Command { Migration::Refuse } else { Migration::Run };
    let lock = DatabaseLock::acquire(&config.database.sqlite)?;
    Ok(Arc::new(SqliteStore::open(lock, migration, &mark_folders(config), clock, Arc::new(sink))?))
}

/// A database that is gone, or was emptied, is not begun anew without a word: users would be missing, and
/// nobody would know why. Nor is one in a folder that is not there: its name may be mistyped.
pub fn refuse_to_begin_over_another(config: &Config) -> Result<()> {
    if !is_nothing(&config.database.sqlite) {
        return Ok(());
    }
    let folder = config.database.folder();
    if !folder.as_os_str().is_empty() && !folder.exists() {
        bail!(
            "there is no folder {}: make it, name another one with --data, or have it made by \
             `passmint serve --init`",
            folder.display()
        );
    }
    refuse_over_a_trace(config)
}

/// A master key beside the database, or a journal with something in it, tells of one that was there.
fn refuse_over_a_trace(config: &Config) -> Result<()> {
    let path = &config.database.sqlite;
    if !is_nothing(path) {
        return Ok(());
    }
    let key = master_key_file(config);
    let beside = config.master_key.value.is_none() && config.master_key.file.is_none();
    let journal = journal(path);
    let trace = if beside && key.exists() {
        key
    } else if !is_nothing(&journal) {
        journal
    } else {
        return Ok(());
    };
    let what = if path.exists() { "is empty" } else { "is gone" };
    bail!(
        "{} tells of a database {}, which {what}: put it back from a backup, or begin with no users by \
         `passmint serve --init`",
        trace.display(),
        path.display()
    )
}

/// SQLite's write-ahead log: beside the file itself, not beside a link to it.
fn journal(database: &Path) -> PathBuf {
    let mut journal =
        std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned()).into_os_string();
    journal.push("-wal");
    journal.into()
}

/// SQLite deletes the journal of an empty file; it may hold what was answered last.
fn put_journal_aside(config: &Config) -> Result<()> {
    let path = &config.database.sqlite;
    let journal = journal(path);
    if is_nothing(path) && !is_nothing(&journal) {
        let mut aside = journal.clone().into_os_string();
        aside.push(".old");
        std::fs::rename(&journal, &aside)
            .with_context(|| format!("cannot put {} aside", journal.display()))?;
        tracing::warn!(journal = %aside.display(), "kept the journal of the database that is gone");
    }
    Ok(())
}

/// The lifetimes that the settings give.
pub(super) fn lifetimes(config: &Config) -> LongestLifetimes {
    let (access, refresh) = (config.tokens.access_lifetime, config.sessions.idle_lifetime);
    LongestLifetimes { access, refresh }
}

/// Fills the view from the table: a short one at once, a long one in the background, so that the server
/// is ready meanwhile (verification asks the table until then).
async fn load_revocations(
    store: &Arc<SqliteStore>,
    view: &Arc<RevocationView>,
    clock: &Arc<dyn Clock>,
) -> Result<()> {
    const AT_ONCE: u64 = 20_000;
    let load = {
        let (store, view, clock) = (Arc::clone(store), Arc::clone(view), Arc::clone(clock));
        async move {
            let mut after = 0;
            loop {
                let page = store.revocations(after, 5_000).await?;
                let Some(last) = page.last() else { break };
                after = last.sequence;
                view.apply(&page, clock.now());
            }
            view.set_loaded();
            Ok::<_, StoreError>(())
        }
    };
    if store.count_revocations().await? <= AT_ONCE {
        return Ok(load.await?);
    }
    tokio::spawn(async move {
        if let Err(error) = load.await {
            tracing::error!(%error, "the revocations could not be loaded: every verification reads the database");
        }
    });
    Ok(())
}

/// What hears of every commit: the view that verifications ask, and the metrics.
struct Committed {
    revocations: Arc<RevocationView>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl CommitSink for Committed {
    fn revoked(&self, entries: &[RevocationEntry]) {
        self.revocations.apply(entries, self.clock.now());
    }

    fn committed(&self, writes: usize) {
        self.metrics.commit(writes as u64);
    }

    fn sessions_ended(&self, reason: EndReason, count: u64) {
        self.metrics.sessions_ended(reason, count);
    }

    fn audited(&self, kind: AuditKind) {
        self.metrics.audited(kind);
    }

    fn fatal(&self, why: &str) {
        tracing::error!(why, "the process ends, to start anew from what is on the disk");
        crate::telemetry::flush_log();
        std::process::abort();
    }

    fn wrote(&self, took: Duration) {
        self.metrics.store_write(took);
    }

    fn read(&self, took: Duration) {
        self.metrics.store_read(took);
    }
}

/// What hears of every hash.
struct Hashed(Arc<Metrics>);

impl HashSink for Hashed {
    fn hashed(&self, waited: Duration, took: Duration) {
        self.0.hashed(waited, took);
    }
}

/// The file of the master key: as configured, or beside the data.
pub fn master_key_file(config: &Config) -> PathBuf {
    let beside = || config.database.folder().join("master.key");
    config.master_key.file.clone().unwrap_or_else(beside)
}

/// Where the highest id of a user is noted: beside the data and beside the file of the master key.
pub fn mark_folders(config: &Config) -> Vec<PathBuf> {
    let mut folders = vec![config.database.folder()];
    if config.master_key.value.is_none() {
        folders.extend(master_key_file(config).parent().map(Path::to_owned));
    }
    folders
}

/// Reads the master key; on a new database, makes it where none is given.
/// The master key; `seal_check` tells the right one, and is `None` on a new database.
fn master_key_of(config: &Config, seal_check: Option<&[u8]>) -> Result<SecretBytes> {
    if let Some(value) = &config.master_key.value {
        return Ok(value.clone());
    }
    let file = master_key_file(config);
    let Some(seal_check) = seal_check else {
        if file.exists() {
            return Ok(master_key::read(&file)?);
        }
        let key = master_key::create(&file)?;
        tracing::info!(file = %file.display(), "made a master key: keep a copy of it, apart from the database's backups");
        return Ok(key);
    };
    let key = master_key::read(&file)?;
    let opens = |key: &SecretBytes| Sealer::is_check_of(key, seal_check);
    if opens(&key) {
        return Ok(key);
    }
    // `key reseal` was cut off between the database and the file.
    match master_key::read(&master_key::next_of(&file)) {
        Ok(next) if opens(&next) => {
            let old = master_key::put_next_in_place(&file)?;
            tracing::warn!(file = %file.display(), old = %old.display(), "put the new master key in its place: `key reseal` was cut off before");
            Ok(next)
        }
        _ => Ok(key),
    }
}

fn pool_settings(config: &Config) -> PoolSettings {
    let hashing = &config.hashing;
    let cores = available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if hashing.threads == 0 { cores } else { hashing.threads as usize };
    PoolSettings {
        threads,
        params: Argon2Params {
            memory_kib: hashing.memory_kib.max(8 * hashing.lanes),
            passes: hashing.passes,
            lanes: hashing.lanes,
        },
    }
}

/// Reads the files that the settings name, as the start is going to: certificate, key, master key. A database
/// that cannot be read is no mistake of the settings.
pub fn check_files(config: &Config) -> Result<()> {
    load_tls(&Tls::default(), config)?;
    let file = master_key_file(config);
    let holds_keys = SqliteStore::holds_keys(&config.database.sqlite).unwrap_or(false);
    if config.master_key.value.is_none() && (file.exists() || holds_keys) {
        master_key::read(&file)?;
    }
    Ok(())
}
