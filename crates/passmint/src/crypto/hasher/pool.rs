//! Threads and queue in front of the core.
//!
//! A job that would wait longer than `max_wait` is refused at once, before any work; one whose caller
//! went away costs nothing. The threads run at low priority, so that refresh and verify go first,
//! and give their memory back when there has been nothing to do for a while.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tracing::field::Empty;

use super::core::{Backend, Core};
use super::format::{Argon2Params, Parsed, SALT, Scheme, TAG, prefix};
use super::price::Prices;
use super::queue::FairQueue;
use crate::crypto::random;
use crate::domain::network::Network;
use crate::domain::secret::{Password, PasswordHash};

/// How nice the hashing threads are (`nice(2)`): the work that is cheap goes first.
const NICENESS: i32 = 10;
/// After this long without work a thread gives its memory back.
const REST_AFTER: Duration = Duration::from_secs(20);
/// What a hash is thought to take before one has been measured.
const FIRST_GUESS: Duration = Duration::from_millis(20);
/// This part of the longest wait is not planned with: hashes may become slower, and other networks may
/// come and take their turns.
const RESERVE: f64 = 0.2;
/// How long the measuring of a price may wait for its turn.
const PRICE_MAY_WAIT: Duration = Duration::from_mins(10);

/// Size and price.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// How many threads.
    pub threads: usize,
    /// The price of a new hash, and of a refused login.
    pub params: Argon2Params,
}

/// In whose line the server's own jobs and an operator's stand.
const OWN_LINE: Network = Network::from_number(0);

/// Whose turn a job is, and how long it may wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// From where it comes; networks take turns.
    pub network: Network,
    /// After which it is refused.
    pub max_wait: Duration,
}

impl Turn {
    /// For an operator's own commands.
    pub fn of_operator(max_wait: Duration) -> Self {
        Self { network: OWN_LINE, max_wait }
    }
}

/// There is no room for another login now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hashing queue is full")]
pub struct Overloaded {
    /// When it is worth trying again.
    pub retry_after: Duration,
}

/// What checking a password found.
#[derive(Debug)]
pub enum Verification {
    /// It matches; with a better hash when the stored one is not of today's price.
    Match(Option<PasswordHash>),
    /// It does not, or there was nothing to match.
    NoMatch,
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

/// A verification with when its hash began.
type Verified = (Verification, Instant);

enum Work {
    /// `None`: nothing to match, but the same price is paid.
    Verify(Password, Option<PasswordHash>, oneshot::Sender<Result<Verified, Overloaded>>),
    Hash(Password, oneshot::Sender<Result<PasswordHash, Overloaded>>),
    /// Finds out what a scheme costs.
    Price(Scheme),
}

struct Job {
    work: Work,
    since: Instant,
    deadline: Instant,
    /// Of the request's trace, if there is one; ends with the job.
    span: tracing::Span,
}

struct State {
    queue: FairQueue<Job>,
    /// Jobs that are being hashed.
    running: usize,
    /// Memory units in use; the budget is one unit a thread.
    units: usize,
    hash_time: Duration,
    prices: Prices,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    /// A job came, or the pool was closed.
    arrived: Condvar,
    /// Memory units were given back.
    freed: Condvar,
    settings: PoolSettings,
    backend: Backend,
    sink: Arc<dyn HashSink>,
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
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: FairQueue::default(),
                running: 0,
                units: 0,
                hash_time: FIRST_GUESS,
                prices: Prices::default(),
                closed: false,
            }),
            arrived: Condvar::new(),
            freed: Condvar::new(),
            settings,
            backend,
            sink,
        });
        for number in 0..settings.threads.max(1) {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("hasher-{number}")).spawn(move || shared.work())?;
        }
        Ok(Self { shared })
    }

    /// The implementation in use.
    pub fn backend(&self) -> Backend {
        self.shared.backend
    }

    /// How busy it is.
    pub fn state(&self) -> PoolState {
        let state = self.shared.state.lock();
        PoolState { queued: state.queue.len(), hash_time: state.hash_time }
    }

    /// What this server's own hashes begin with.
    pub fn usual_prefix(&self) -> String {
        prefix(self.shared.settings.params)
    }

    /// How hashes of other kinds or prices are computed; what cannot be verified costs nothing else.
    pub fn schemes(&self, hashes: &[PasswordHash]) -> Vec<Scheme> {
        let schemes = hashes.iter().filter_map(Parsed::read).map(|parsed| parsed.scheme);
        schemes.filter(|scheme| !scheme.is_own(self.shared.settings.params)).collect()
    }

    /// Takes `schemes` for stored too.
    pub fn learn_more(&self, schemes: &[Scheme]) {
        let mut all = self.shared.state.lock().prices.stored();
        all.extend(schemes);
        self.learn(&all);
    }

    /// Takes `schemes` for all that are stored beside this server's own, and finds out their prices.
    pub fn learn(&self, schemes: &[Scheme]) {
        let mut state = self.shared.state.lock();
        let unmeasured = state.prices.learn(schemes);
        for scheme in unmeasured {
            let since = Instant::now();
            let (work, deadline) = (Work::Price(scheme), since + PRICE_MAY_WAIT);
            state.queue.push(OWN_LINE, Job { work, since, deadline, span: tracing::Span::none() });
        }
        drop(state);
        self.shared.arrived.notify_all();
    }

    /// Checks a password against a hash; `None` costs the same and never matches. Where hashes of
    /// other prices are stored, a refusal comes when the dearest of them would have been computed.
    pub async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        turn: Turn,
    ) -> Result<Verification, Overloaded> {
        let (answer, receiver) = oneshot::channel();
        self.submit(Work::Verify(password, hash, answer), turn)?;
        let answer = receiver.await.unwrap_or(Err(Overloaded { retry_after: turn.max_wait }));
        let (verification, began) = answer?;
        if matches!(verification, Verification::NoMatch)
            && let Some(floor) = self.refused_after()
        {
            tokio::time::sleep_until((began + floor).into()).await;
        }
        Ok(verification)
    }

    fn refused_after(&self) -> Option<Duration> {
        let state = self.shared.state.lock();
        state.prices.floor(state.hash_time)
    }

    /// Hashes a new password at today's price.
    pub async fn hash(&self, password: Password, turn: Turn) -> Result<PasswordHash, Overloaded> {
        let (answer, receiver) = oneshot::channel();
        self.submit(Work::Hash(password, answer), turn)?;
        receiver.await.unwrap_or(Err(Overloaded { retry_after: turn.max_wait }))
    }

    /// Refuses what would be refused now, before any other work is done for it.
    pub fn admit(&self, turn: Turn) -> Result<(), Overloaded> {
        let state = self.shared.state.lock();
        match self.shared.overload(&state, turn) {
            Some(overloaded) if state.queue.gives_way(turn.network).is_none() => Err(overloaded),
            _ => Ok(()),
        }
    }

    fn submit(&self, work: Work, turn: Turn) -> Result<(), Overloaded> {
        let mut state = self.shared.state.lock();
        if let Some(overloaded) = self.shared.overload(&state, turn) {
            // Whoever has filled the queue makes room for those who have not.
            let Some(displaced) = state.queue.make_room(turn.network) else {
                return Err(overloaded);
            };
            displaced.work.refuse(overloaded);
        }
        let since = Instant::now();
        let span = tracing::info_span!("hash password", passmint.queue_wait_ms = Empty);
        state.queue.push(turn.network, Job { work, since, deadline: since + turn.max_wait, span });
        drop(state);
        self.shared.arrived.notify_one();
        Ok(())
    }
}

impl Drop for HashingPool {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.shared.arrived.notify_all();
    }
}

impl Shared {
    /// How long a job that came now would wait for its turn.
    fn expected_wait(&self, state: &State) -> Duration {
        let threads = self.settings.threads.max(1);
        let ahead = state.queue.len() + state.running;
        if ahead < threads {
            return Duration::ZERO;
        }
        let rounds = u32::try_from((ahead + 1 - threads).div_ceil(threads)).unwrap_or(u32::MAX);
        state.hash_time.saturating_mul(rounds)
    }

    /// Whether a job would wait too long. What is thought to come just in time often comes too late,
    /// and would be refused after a long wait: so a part of the time is kept in reserve.
    fn overload(&self, state: &State, turn: Turn) -> Option<Overloaded> {
        let expected = self.expected_wait(state);
        let longest = turn.max_wait.mul_f64(1.0 - RESERVE);
        (expected > longest).then(|| Overloaded { retry_after: expected.saturating_sub(longest) })
    }

    /// A thread's life.
    fn work(&self) {
        // Refused where the sandbox forbids it; then the threads are merely not nicer.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let mut core = Core::new(self.backend);
        while let Some(job) = self.next_job(&mut core) {
            self.run(job, &mut core);
        }
    }

    /// Waits for a job whose caller still waits; `None` when the pool is closed.
    fn next_job(&self, core: &mut Core) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            match state.queue.pop() {
                Some(job) if job.work.is_abandoned() => {}
                Some(job) if job.deadline < Instant::now() => {
                    let retry_after = self.expected_wait(&state).max(Duration::from_secs(1));
                    job.work.refuse(Overloaded { retry_after });
                }
                Some(job) => {
                    state.running += 1;
                    return Some(job);
                }
                None => {
                    if self.arrived.wait_for(&mut state, REST_AFTER).timed_out() {
                        core.rest();
                    }
                }
            }
        }
    }

    fn run(&self, job: Job, core: &mut Core) {
        let started = Instant::now();
        let waited = started.duration_since(job.since);
        job.span.record("passmint.queue_wait_ms", waited.as_secs_f64() * 1e3);
        let usual = match job.work {
            Work::Verify(password, hash, answer) => {
                let (verification, usual) = self.verify(core, &password, hash.as_ref());
                drop(answer.send(Ok((verification, started))));
                usual
            }
            Work::Price(scheme) => {
                let nothing = Password::new(String::new());
                let parsed = Parsed { scheme, salt: vec![0; SALT], tag: vec![0; scheme.tag_len()] };
                self.compute(core, &nothing, &parsed);
                false
            }
            Work::Hash(password, answer) => {
                // Dropping the answer tells the caller that there is none.
                if let Some(hash) = self.hash(core, &password) {
                    drop(answer.send(Ok(hash)));
                }
                true
            }
        };
        let took = started.elapsed();
        self.sink.hashed(waited, took);
        let mut state = self.state.lock();
        state.running -= 1;
        if usual {
            // An eighth of the newest: quick enough to follow a slower machine, calm under noise.
            state.hash_time = (state.hash_time * 7 + took) / 8;
        }
    }

    /// The verdict, and whether the work was of the usual price.
    fn verify(
        &self,
        core: &mut Core,
        password: &Password,
        hash: Option<&PasswordHash>,
    ) -> (Verification, bool) {
        let today = self.settings.params;
        let parsed = hash.and_then(Parsed::read);
        let known = parsed.is_some();
        // The same work for a user that does not exist, at today's price.
        let parsed = parsed.unwrap_or_else(|| Parsed {
            scheme: Scheme::Argon2id(today),
            salt: vec![0; SALT],
            tag: vec![0; TAG],
        });
        let usual = parsed.scheme.is_own(today);
        let tag = self.compute(core, password, &parsed);
        let equal = tag
            .is_some_and(|tag| constant_time::verify_slices_are_equal(&tag, &parsed.tag).is_ok());
        if !(equal && known) {
            return (Verification::NoMatch, usual);
        }
        let better = if usual { None } else { self.hash(core, password) };
        (Verification::Match(better), usual)
    }

    fn hash(&self, core: &mut Core, password: &Password) -> Option<PasswordHash> {
        let scheme = Scheme::Argon2id(self.settings.params);
        let salt = random::bytes::<SALT>().ok()?.to_vec();
        let mut parsed = Parsed { scheme, salt, tag: vec![0; TAG] };
        parsed.tag = self.compute(core, password, &parsed)?;
        parsed.write()
    }

    /// What `password` gives with the scheme and salt of `parsed`. Notes what other schemes take.
    fn compute(&self, core: &mut Core, password: &Password, parsed: &Parsed) -> Option<Vec<u8>> {
        let scheme = parsed.scheme;
        let mut tag = vec![0; parsed.tag.len()];
        let (computed, took) = self.within_budget(scheme.memory_kib(), core, |core| {
            let started = Instant::now();
            let password = password.expose().as_bytes();
            let computed = scheme.compute(core, password, &parsed.salt, &mut tag);
            (computed, started.elapsed())
        });
        if let Err(error) = computed {
            tracing::error!(%error, "a password could not be hashed");
            return None;
        }
        if !scheme.is_own(self.settings.params) {
            self.state.lock().prices.measured(scheme, took);
        }
        Some(tag)
    }

    /// Runs `work` when the memory it takes fits beside the others': the pool as a whole never takes
    /// more than threads × today's price, or one hash alone that is dearer than all that.
    fn within_budget<T>(
        &self,
        memory_kib: u32,
        core: &mut Core,
        work: impl FnOnce(&mut Core) -> T,
    ) -> T {
        let budget = self.settings.threads.max(1);
        let unit = self.settings.params.memory_kib.max(1);
        let weight = (memory_kib.div_ceil(unit) as usize).clamp(1, budget);
        let mut state = self.state.lock();
        while state.units + weight > budget {
            self.freed.wait(&mut state);
        }
        state.units += weight;
        drop(state);
        let result = work(core);
        if weight > 1 {
            core.rest();
        }
        self.state.lock().units -= weight;
        self.freed.notify_all();
        result
    }
}

impl Work {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Verify(.., answer) => answer.is_closed(),
            Self::Hash(_, answer) => answer.is_closed(),
            Self::Price(_) => false,
        }
    }

    fn refuse(self, overloaded: Overloaded) {
        match self {
            Self::Verify(.., answer) => drop(answer.send(Err(overloaded))),
            Self::Hash(_, answer) => drop(answer.send(Err(overloaded))),
            // Found out when a hash of its kind is next computed.
            Self::Price(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Argon2Params = Argon2Params { memory_kib: 64, passes: 1, lanes: 1 };
    const SECOND: Turn = Turn { network: OWN_LINE, max_wait: Duration::from_secs(1) };

    /// Keeps what it hears.
    #[derive(Default)]
    struct Heard(Mutex<Vec<(Duration, Duration)>>);

    impl HashSink for Heard {
        fn hashed(&self, waited: Duration, took: Duration) {
            self.0.lock().push((waited, took));
        }
    }

    fn pool(params: Argon2Params) -> HashingPool {
        HashingPool::start(PoolSettings { threads: 1, params }, Arc::new(Heard::default())).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned())
    }

    #[tokio::test]
    async fn right_wrong_and_nobody() {
        let pool = pool(CHEAP);
        let hash = pool.hash(password("right"), SECOND).await.unwrap();
        let verify = |text, hash| pool.verify(password(text), hash, SECOND);
        let found = verify("right", Some(hash.clone())).await.unwrap();
        assert!(matches!(found, Verification::Match(None)));
        assert!(matches!(verify("wrong", Some(hash)).await.unwrap(), Verification::NoMatch));
        assert!(matches!(verify("right", None).await.unwrap(), Verification::NoMatch));
        let garbage = PasswordHash::new("!".to_owned());
        assert!(matches!(verify("right", Some(garbage)).await.unwrap(), Verification::NoMatch));
    }

    #[tokio::test]
    async fn a_hash_of_another_price_is_replaced_by_one_of_today() {
        let old = pool(CHEAP).hash(password("right"), SECOND).await.unwrap();
        let today = Argon2Params { memory_kib: 128, ..CHEAP };
        let pool = pool(today);
        let Verification::Match(Some(better)) =
            pool.verify(password("right"), Some(old), SECOND).await.unwrap()
        else {
            panic!("no better hash");
        };
        assert_eq!(Parsed::read(&better).unwrap().scheme, Scheme::Argon2id(today));
        let found = pool.verify(password("right"), Some(better), SECOND).await.unwrap();
        assert!(matches!(found, Verification::Match(None)));
    }

    #[tokio::test]
    async fn the_second_of_two_waits_for_the_first() {
        let heard = Arc::new(Heard::default());
        let params = Argon2Params { memory_kib: 19_456, passes: 2, lanes: 1 };
        let settings = PoolSettings { threads: 1, params };
        let pool = HashingPool::start(settings, Arc::clone(&heard) as _).unwrap();
        let (first, second) = tokio::join!(
            pool.verify(password("any"), None, SECOND),
            pool.verify(password("any"), None, SECOND)
        );
        assert!(first.is_ok() && second.is_ok());
        // Ends the thread, after it has told of the job whose answer is here already.
        drop(pool);
        while heard.0.lock().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let heard = heard.0.lock().clone();
        let [(_, took), (waited, _)] = heard[..] else { panic!("{heard:?}") };
        assert!(took > Duration::from_millis(1) && waited > took / 2, "{heard:?}");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let pool = Arc::new(pool(Argon2Params { memory_kib: 19_456, passes: 2, lanes: 1 }));
        let wait = Turn { network: OWN_LINE, max_wait: Duration::from_millis(100) };
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { pool.verify(password("any"), None, wait).await })
            })
            .collect();
        let mut refused = 0;
        for task in tasks {
            refused += usize::from(task.await.unwrap().is_err());
        }
        assert!((10..100).contains(&refused), "{refused} of 100 refused");
    }

    #[tokio::test]
    async fn a_refusal_takes_as_long_as_the_dearest_stored_hash() {
        let pool = pool(CHEAP);
        let dear = Scheme::Pbkdf2Sha256 { iterations: 300_000 };
        pool.learn(&[dear]);
        // Behind the price in the queue.
        let hash = pool.hash(password("right"), SECOND).await.unwrap();
        let price = pool.refused_after().expect("the price is not known");
        assert!(price > Duration::from_millis(5), "{price:?}");
        for hash in [None, Some(hash.clone())] {
            let started = Instant::now();
            let found = pool.verify(password("wrong"), hash, SECOND).await.unwrap();
            assert!(matches!(found, Verification::NoMatch) && started.elapsed() >= price);
        }
        let started = Instant::now();
        let found = pool.verify(password("right"), Some(hash), SECOND).await.unwrap();
        assert!(matches!(found, Verification::Match(None)) && started.elapsed() < price);
        pool.learn(&[]);
        assert_eq!(pool.refused_after(), None);
    }

    #[tokio::test]
    async fn a_flood_from_one_network_does_not_take_the_turns_of_others() {
        let pool = Arc::new(pool(Argon2Params { memory_kib: 19_456, passes: 2, lanes: 1 }));
        let max_wait = Duration::from_millis(100);
        let flood = Turn { network: Network::from_number(1), max_wait };
        let flooding: Vec<_> = (0..200)
            .map(|_| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { pool.verify(password("any"), None, flood).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let others = Turn { network: Network::from_number(2), max_wait };
        for _ in 0..5 {
            assert!(pool.verify(password("any"), None, others).await.is_ok());
        }
        for task in flooding {
            drop(task.await.unwrap());
        }
    }
}
