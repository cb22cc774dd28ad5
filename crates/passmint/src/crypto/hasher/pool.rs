//! The pool as its callers see it: jobs and their answers. Who is let in is in `admission`, what its threads
//! do in `worker`.
//!
//! A job that would wait longer than `max_wait` is refused at once, before any work; one whose caller
//! went away before its hash began costs nothing. From then on its outcome is always reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;

use super::core::Backend;
use super::format::{Argon2Params, Parsed, Scheme, prefix};
use super::memory::Memory;
use super::places::Places;
use super::price::Prices;
use super::queue::FairQueue;
use super::reference::{Referred, Waiting};
use super::usage::Usage;
use super::worker::{ForeignTurn, ForeignWork, Lane};
use crate::domain::network::Network;
use crate::domain::secret::{Password, PasswordHash};

/// What a hash is thought to take before one has been measured.
const FIRST_GUESS: Duration = Duration::from_millis(20);

/// Size and cost.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// How many threads.
    pub threads: usize,
    /// The cost of a new hash, and of a refused login.
    pub params: Argon2Params,
}

/// The queue key of the server's own jobs and of an operator's.
pub(super) const OWN_LINE: Network = Network::from_number(0);

/// Whose turn a job is, and how long it may wait for it.
#[derive(Clone, Debug)]
pub struct Turn {
    /// From where it comes; neighbourhoods and networks take turns.
    pub network: Network,
    /// After which it is refused.
    pub max_wait: Duration,
    /// Says that its client went away. Counts only until the hash begins.
    pub client_gone: CancellationToken,
}

impl Turn {
    /// For an operator's own commands.
    pub fn of_operator(max_wait: Duration) -> Self {
        Self { network: OWN_LINE, max_wait, client_gone: CancellationToken::new() }
    }
}

/// There is no room for another login now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hashing queue is full")]
pub struct Overloaded {
    /// When it is worth trying again.
    pub retry_after: Duration,
}

/// Why nothing was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHashed {
    /// There is no room.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// Its client went away before the hash began.
    #[error("the client went away")]
    ClientGone,
}

/// What checking a password found.
#[derive(Debug)]
pub enum Verification {
    /// It matches; with a better hash when the stored one is not of today's cost.
    Match(Option<PasswordHash>),
    /// It does not, or there was nothing to match.
    NoMatch,
}

/// When a refusal may be answered: not before a hash of the dearest stored kind would be done.
#[derive(Debug, Default)]
pub struct AnswerTime(pub(super) Option<Due>);

/// See [`AnswerTime`].
#[derive(Debug)]
pub(super) struct Due {
    pub(super) not_before: Instant,
    /// When a reference hash was done that began after the refused one.
    pub(super) referred: Referred,
    /// The server ends.
    pub(super) ending: CancellationToken,
}

impl AnswerTime {
    /// Waits for it, while there is a client to answer. To be awaited after the outcome has been recorded.
    pub async fn reached(self, client_gone: &CancellationToken) {
        let Some(Due { not_before, referred, ending }) = self.0 else { return };
        let due = async {
            // The pool may be gone.
            let at = referred.await.map_or(not_before, |due| due.max(not_before));
            tokio::time::sleep_until(at.into()).await;
        };
        ending.run_until_cancelled(client_gone.run_until_cancelled(due)).await;
    }
}

/// A verification, and when it may be answered.
#[derive(Debug)]
pub struct Checked {
    /// What was found.
    pub verification: Verification,
    /// A success: at once.
    pub answer_time: AnswerTime,
}

/// How busy the pool is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolState {
    /// Jobs that wait.
    pub queued: usize,
    /// What a hash takes, smoothed.
    pub hash_time: Duration,
}

/// Who is told of every hash.
pub trait HashSink: Send + Sync {
    /// A job waited so long for its turn, and then took a thread so long. Called on that thread.
    fn hashed(&self, waited: Duration, took: Duration);
}

/// Decides once whether a job is begun or given up, whoever asks first.
#[derive(Clone, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether this is the first to claim it.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Whether it is of the same job.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, Overloaded>>;

pub(super) enum Work {
    /// `None`: nothing to match, but the same cost is paid.
    Verify(Password, Option<PasswordHash>, Answer<Checked>),
    Hash(Password, Answer<PasswordHash>),
}

pub(super) struct Job {
    pub(super) work: Work,
    pub(super) network: Network,
    pub(super) claim: Claim,
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    /// Of the request's trace, if there is one; ends with the job.
    pub(super) span: tracing::Span,
}

impl Work {
    /// Whether it may be of an imported hash.
    pub(super) fn is_verification(&self) -> bool {
        matches!(self, Self::Verify(..))
    }

    pub(super) fn refuse(self, overloaded: Overloaded) {
        match self {
            Self::Verify(.., answer) => drop(answer.send(Err(overloaded))),
            Self::Hash(_, answer) => drop(answer.send(Err(overloaded))),
        }
    }
}

pub(super) struct State {
    /// Hashes of today's cost.
    pub(super) own: Lane<Job>,
    /// Imported hashes of other kinds and costs, and refusals that take their turns with them.
    pub(super) foreign: Lane<ForeignTurn>,
    /// The hashes among those that wait, by whose they are: what others wait for.
    pub(super) imported: FairQueue<()>,
    pub(super) places: Places,
    pub(super) usage: Usage,
    pub(super) hash_time: Duration,
    pub(super) prices: Prices,
    pub(super) waiting: Waiting,
    /// The server ends: refusals wait no longer.
    pub(super) ending: CancellationToken,
    pub(super) closed: bool,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// An own job came or may start, or the pool was closed.
    pub(super) arrived: Condvar,
    /// The same for foreign jobs.
    pub(super) foreign_arrived: Condvar,
    /// A refusal waits for a reference hash, or the dearest scheme is known, or the pool was closed.
    pub(super) reference_wanted: Condvar,
    pub(super) memory: Memory,
    pub(super) settings: PoolSettings,
    pub(super) backend: Backend,
    pub(super) sink: Arc<dyn HashSink>,
}

/// The pool. Its threads end when it is dropped, after the jobs they are at.
pub struct HashingPool {
    shared: Arc<Shared>,
}

impl HashingPool {
    /// Starts the threads.
    pub fn start(settings: PoolSettings, sink: Arc<dyn HashSink>) -> std::io::Result<Self> {
        let backend = Backend::choose();
        if backend == Backend::Portable {
            tracing::warn!(
                "the SIMD Argon2 core failed its check; logins are slower than they could be"
            );
        }
        let pool = Self::without_threads(settings, sink, backend);
        for number in 0..settings.threads.max(1) {
            let own = Arc::clone(&pool.shared);
            thread::Builder::new().name(format!("hasher-{number}")).spawn(move || own.work())?;
            let foreign = Arc::clone(&pool.shared);
            thread::Builder::new()
                .name(format!("hasher-other-{number}"))
                .spawn(move || foreign.work_on_foreign())?;
        }
        let shared = Arc::clone(&pool.shared);
        thread::Builder::new()
            .name("hasher-reference".to_owned())
            .spawn(move || shared.compute_references())?;
        Ok(pool)
    }

    fn without_threads(settings: PoolSettings, sink: Arc<dyn HashSink>, backend: Backend) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                own: Lane::default(),
                foreign: Lane::default(),
                imported: FairQueue::default(),
                places: Places::default(),
                usage: Usage::default(),
                hash_time: FIRST_GUESS,
                prices: Prices::default(),
                waiting: Waiting::default(),
                ending: CancellationToken::new(),
                closed: false,
            }),
            arrived: Condvar::new(),
            foreign_arrived: Condvar::new(),
            reference_wanted: Condvar::new(),
            memory: Memory::new(backend, settings.threads, settings.params.memory_kib),
            settings,
            backend,
            sink,
        });
        Self { shared }
    }

    /// The implementation in use.
    pub fn backend(&self) -> Backend {
        self.shared.backend
    }

    /// How busy it is.
    pub fn state(&self) -> PoolState {
        let state = self.shared.state.lock();
        let queued = state.own.queue.len() + state.imported.len();
        PoolState { queued, hash_time: state.hash_time }
    }

    /// What this server's own hashes begin with.
    pub fn usual_prefix(&self) -> String {
        prefix(self.shared.settings.params)
    }

    /// How hashes of other kinds or costs are computed; what cannot be verified costs nothing else.
    pub fn schemes(&self, hashes: &[PasswordHash]) -> Vec<Scheme> {
        let schemes = hashes.iter().filter_map(Parsed::read).map(|parsed| parsed.scheme);
        schemes.filter(|scheme| !scheme.is_own(self.shared.settings.params)).collect()
    }

    /// Says that [`Self::learn`] is going to be called. Until then refusals wait.
    pub fn expect_schemes(&self) {
        self.shared.state.lock().prices.expect();
    }

    /// Takes `schemes` for stored too.
    pub fn learn_more(&self, schemes: &[Scheme]) {
        let mut state = self.shared.state.lock();
        let unmeasured = state.prices.learn_more(schemes);
        self.measure(&mut state, unmeasured);
    }

    /// Takes `schemes` for all that are stored beside this server's own, and measures each once.
    pub fn learn(&self, schemes: &[Scheme]) {
        let mut state = self.shared.state.lock();
        let unmeasured = state.prices.learn(schemes);
        self.measure(&mut state, unmeasured);
        drop(state);
        if schemes.iter().all(|scheme| scheme.memory_kib() == 0) {
            self.shared.memory.rest();
        }
    }

    fn measure(&self, state: &mut State, schemes: Vec<Scheme>) {
        for scheme in schemes {
            state.push_foreign(OWN_LINE, ForeignWork::Measure(scheme));
        }
        self.shared.foreign_arrived.notify_all();
        self.shared.reference_wanted.notify_all();
    }

    /// Answers the refusals that wait, and all later ones, at once: the server ends.
    pub fn stop_waiting(&self) {
        self.shared.state.lock().ending.cancel();
    }

    /// Checks a password against a hash; `None` costs the same and never matches. Where hashes of
    /// other costs are stored, a refusal is to be answered when the slowest of them would have been
    /// computed. Once the hash has begun, this returns its outcome, whether the client is there or not.
    pub async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        turn: &Turn,
    ) -> Result<Checked, NotHashed> {
        let (answer, receiver) = oneshot::channel();
        let claim = self.submit(Work::Verify(password, hash, answer), turn)?;
        self.answered(receiver, &claim, turn).await
    }

    /// Hashes a new password at today's cost.
    pub async fn hash(&self, password: Password, turn: &Turn) -> Result<PasswordHash, NotHashed> {
        let (answer, receiver) = oneshot::channel();
        let claim = self.submit(Work::Hash(password, answer), turn)?;
        self.answered(receiver, &claim, turn).await
    }

    /// Refuses what would be refused now, before any other work is done for it.
    pub fn admit(&self, turn: &Turn) -> Result<(), Overloaded> {
        self.shared.room(&mut self.shared.state.lock(), turn, true).map(drop)
    }

    fn submit(&self, work: Work, turn: &Turn) -> Result<Claim, Overloaded> {
        let mut state = self.shared.state.lock();
        // Whoever has filled the queue makes room for those who have not.
        let (since, claim) = (Instant::now(), Claim::default());
        let used = state.usage.of(turn.network, since);
        if let Some(overloaded) = self.shared.room(&mut state, turn, work.is_verification())?
            && let Some(displaced) = state.own.queue.make_room(turn.network, used)
        {
            displaced.work.refuse(overloaded);
        }
        let span = tracing::info_span!("hash password", passmint.queue_wait_ms = Empty);
        let job = Job {
            work,
            network: turn.network,
            claim: claim.clone(),
            since,
            deadline: since + turn.max_wait,
            span,
        };
        state.own.queue.push(turn.network, used, job);
        drop(state);
        self.shared.arrived.notify_one();
        Ok(claim)
    }

    /// The answer to a job, or nothing when its client goes away before the hash begins: then the job
    /// leaves the queue at once, and stands in nobody's way.
    async fn answered<T>(
        &self,
        mut answer: oneshot::Receiver<Result<T, Overloaded>>,
        claim: &Claim,
        turn: &Turn,
    ) -> Result<T, NotHashed> {
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            () = turn.client_gone.cancelled() => {
                if claim.take() {
                    let is_meant = |job: &Job| job.claim.is(claim);
                    self.shared.state.lock().own.queue.remove(turn.network, is_meant);
                    return Err(NotHashed::ClientGone);
                }
                answer.await
            }
        };
        // Its thread or the pool is gone.
        let none = Overloaded { retry_after: turn.max_wait };
        Ok(answered.unwrap_or(Err(none))?)
    }

    #[cfg(test)]
    pub(super) fn refused_after(&self) -> Option<Duration> {
        let state = self.shared.state.lock();
        state.prices.floor(state.hash_time)
    }
}

impl Drop for HashingPool {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        state.own.queue.clear();
        state.foreign.queue.clear();
        state.imported.clear();
        state.waiting = Waiting::default();
        drop(state);
        self.shared.arrived.notify_all();
        self.shared.foreign_arrived.notify_all();
        self.shared.reference_wanted.notify_all();
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod admission_tests;
#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
