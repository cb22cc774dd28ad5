//! What the hashing threads do.
//!
//! The own threads compute hashes of today's cost, and pay it once for every login whoever it is for.
//! Imported hashes of other kinds are computed *besides*, on threads of their own at the lowest
//! priority: otherwise others would see by how long the threads are taken who was imported. Threads run
//! at low priority, so that refresh and verify go first. The own ones give their memory back when there has
//! been nothing to do for a while.

use std::time::{Duration, Instant};

use aws_lc_rs::constant_time;

use super::core::Core;
use super::format::{Parsed, SALT, Scheme, TAG};
use super::pool::{
    Answer, AnswerTime, Checked, Job, Overloaded, Shared, State, Verification, Work,
};
use super::queue::FairQueue;
use crate::crypto::random;
use crate::domain::network::Network;
use crate::domain::secret::{Password, PasswordHash};

/// How nice the own threads are (`nice(2)`): the work that is cheap goes first.
const NICENESS: i32 = 10;
/// How nice those for imported hashes are: they take next to nothing from the own threads.
const FOREIGN_NICENESS: i32 = 19;
/// After this long without work a thread gives its memory back.
const REST_AFTER: Duration = Duration::from_secs(20);

/// Jobs of one kind of threads.
pub(super) struct Lane<J> {
    pub(super) queue: FairQueue<J>,
    /// Jobs that are being hashed.
    pub(super) running: usize,
    /// Whether the queue has been full since it was last empty.
    has_been_full: bool,
}

impl<J> Default for Lane<J> {
    fn default() -> Self {
        Self { queue: FairQueue::default(), running: 0, has_been_full: false }
    }
}

impl<J> Lane<J> {
    /// Puts a job into the queue.
    pub(super) fn push(&mut self, network: Network, job: J) {
        self.has_been_full &= self.queue.len() > 0;
        self.queue.push(network, job);
    }

    /// Notes that there was no room for a job.
    pub(super) fn note_full(&mut self) {
        self.has_been_full = true;
    }

    /// Whether there was no room for a job since the queue was last empty.
    pub(super) fn has_been_full(&self) -> bool {
        self.has_been_full && self.queue.len() > 0
    }

    /// How long a job that came now would wait for its turn, where each takes `each`.
    pub(super) fn expected_wait(&self, threads: usize, each: Duration) -> Duration {
        let threads = threads.max(1);
        let ahead = self.queue.len() + self.running;
        if ahead < threads {
            return Duration::ZERO;
        }
        let rounds = u32::try_from((ahead + 1 - threads).div_ceil(threads)).unwrap_or(u32::MAX);
        each.saturating_mul(rounds)
    }
}

/// From where a verification comes, and when it began.
struct Begun {
    network: Network,
    at: Instant,
}

pub(super) enum ForeignWork {
    /// A password, the imported hash, and when its verification began.
    Verify(Password, Parsed, Instant, Answer<Checked>),
    /// Finds out what a scheme costs.
    Measure(Scheme),
}

pub(super) struct ForeignJob {
    work: ForeignWork,
    network: Network,
    since: Instant,
}

impl ForeignJob {
    pub(super) fn new(work: ForeignWork, network: Network) -> Self {
        Self { work, network, since: Instant::now() }
    }
}

impl State {
    /// A verification of that network is over. Returns when its answer is due.
    fn verified(&mut self, network: Network, matches: bool, began: Instant) -> AnswerTime {
        let floor = self.prices.floor(self.hash_time).filter(|_| !matches);
        let answer_at = floor.map(|floor| began + floor);
        self.places.end(network, answer_at);
        AnswerTime(answer_at)
    }
}

impl Shared {
    /// An own thread's life.
    pub(super) fn work(&self) {
        // Refused where the sandbox forbids it; then the threads are merely not nicer.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let mut core = Core::new(self.backend);
        while let Some(job) = self.next_job(&mut core) {
            self.run(job, &mut core);
        }
    }

    /// Waits for a job whose caller still waits, and begins it; `None` when the pool is closed.
    fn next_job(&self, core: &mut Core) -> Option<Job> {
        let threads = self.settings.threads.max(1);
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let next_place = state.places.release(now);
            let State { own, places, .. } = &mut *state;
            match own.queue.pop(|network| places.has(network, threads)) {
                Some(job) if job.deadline < now => {
                    let retry_after = self.expected_wait(&state, job.network);
                    let retry_after = retry_after.max(Duration::from_secs(1));
                    if job.claim.take() {
                        job.work.refuse(Overloaded { retry_after });
                    }
                }
                Some(job) if !job.claim.take() => {}
                Some(job) => {
                    state.own.running += 1;
                    if matches!(job.work, Work::Verify(..)) {
                        state.places.take(job.network);
                    }
                    return Some(job);
                }
                None => {
                    let until = next_place.filter(|_| state.own.queue.len() > 0);
                    let wait = until.map_or(REST_AFTER, |at| at.saturating_duration_since(now));
                    let timed_out = self.arrived.wait_for(&mut state, wait).timed_out();
                    if timed_out && until.is_none() {
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
        match job.work {
            Work::Verify(password, hash, answer) => {
                let from = Begun { network: job.network, at: started };
                self.verify(core, (&password, hash.as_ref()), from, answer);
            }
            Work::Hash(password, answer) => {
                // Dropping the answer tells the caller that there is none.
                if let Some(hash) = self.hash(core, &password) {
                    drop(answer.send(Ok(hash)));
                }
            }
        }
        let took = started.elapsed();
        self.sink.hashed(waited, took);
        let mut state = self.state.lock();
        state.own.running -= 1;
        // An eighth of the newest: quick enough to follow a slower machine, calm under noise.
        state.hash_time = (state.hash_time * 7 + took) / 8;
        drop(state);
        // A place of the network may have become free.
        self.arrived.notify_one();
    }

    /// Computes a hash of today's cost, whatever there is to match, and answers; an imported hash is
    /// handed to the threads for those first.
    fn verify(
        &self,
        core: &mut Core,
        (password, hash): (&Password, Option<&PasswordHash>),
        Begun { network, at: began }: Begun,
        answer: Answer<Checked>,
    ) {
        let today = self.settings.params;
        // The same work for a user that does not exist, or was imported.
        let nothing =
            || Parsed { scheme: Scheme::Argon2id(today), salt: vec![0; SALT], tag: vec![0; TAG] };
        match hash.and_then(Parsed::read) {
            Some(foreign) if !foreign.scheme.is_own(today) => {
                let work = ForeignWork::Verify(password.clone(), foreign, began, answer);
                let mut state = self.state.lock();
                state.foreign.queue.push(network, ForeignJob::new(work, network));
                drop(state);
                self.foreign_arrived.notify_one();
                self.compute(core, password, &nothing());
            }
            own => {
                let known = own.is_some();
                let parsed = own.unwrap_or_else(nothing);
                let matches = self.matches(core, password, &parsed) && known;
                let verification =
                    if matches { Verification::Match(None) } else { Verification::NoMatch };
                let answer_time = self.state.lock().verified(network, matches, began);
                drop(answer.send(Ok(Checked { verification, answer_time })));
            }
        }
    }

    /// The life of a thread for imported hashes.
    pub(super) fn work_on_foreign(&self) {
        let _ = rustix::process::setpriority_process(None, FOREIGN_NICENESS);
        loop {
            let mut state = self.state.lock();
            let job = loop {
                if state.closed {
                    return;
                }
                if let Some(job) = state.foreign.queue.pop(|_| true) {
                    break job;
                }
                self.foreign_arrived.wait(&mut state);
            };
            state.foreign.running += 1;
            drop(state);
            self.run_foreign(job);
            self.state.lock().foreign.running -= 1;
            self.arrived.notify_one();
        }
    }

    fn run_foreign(&self, job: ForeignJob) {
        let started = Instant::now();
        let waited = started.duration_since(job.since);
        match job.work {
            ForeignWork::Verify(password, parsed, began, answer) => {
                let mut lent = self.memory.borrow(parsed.scheme.memory_kib());
                let matches = self.matches(&mut lent.core, &password, &parsed);
                self.memory.give_back(lent);
                // A new hash is of what was typed, so that must be what was compared.
                let whole = parsed.scheme.reads_all_of(&password);
                let better = (matches && whole).then(|| {
                    let mut lent = self.memory.borrow(self.settings.params.memory_kib);
                    let hash = self.hash(&mut lent.core, &password);
                    self.memory.give_back(lent);
                    hash
                });
                let better = better.flatten();
                let verification =
                    if matches { Verification::Match(better) } else { Verification::NoMatch };
                let answer_time = self.state.lock().verified(job.network, matches, began);
                drop(answer.send(Ok(Checked { verification, answer_time })));
            }
            ForeignWork::Measure(scheme) => self.measure(scheme),
        }
        self.sink.hashed(waited, started.elapsed());
    }

    /// Notes the least of what a few hashes take: the first one takes its memory from the system. In time on
    /// the processor, since other work, before which this thread gives way, may delay all of them; a price
    /// that is too high would delay every refusal until more hashes follow.
    fn measure(&self, scheme: Scheme) {
        const MOST: u32 = 5;
        const LONG_ENOUGH: Duration = Duration::from_millis(500);
        let (salt, mut tag) = (vec![0; SALT], vec![0; scheme.tag_len()]);
        let mut lent = self.memory.borrow(scheme.memory_kib());
        let began = Instant::now();
        let mut least = Duration::MAX;
        for _ in 0..MOST {
            let started = processor_time();
            if scheme.compute(&mut lent.core, b"", &salt, &mut tag).is_ok() {
                least = least.min(processor_time().saturating_sub(started));
            }
            if began.elapsed() >= LONG_ENOUGH {
                break;
            }
        }
        self.memory.give_back(lent);
        let mut state = self.state.lock();
        if least < Duration::MAX {
            state.prices.measured(scheme, least);
        }
        state.prices.measurement_ended(scheme);
    }

    fn matches(&self, core: &mut Core, password: &Password, parsed: &Parsed) -> bool {
        let tag = self.compute(core, password, parsed);
        tag.is_some_and(|tag| constant_time::verify_slices_are_equal(&tag, &parsed.tag).is_ok())
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
        let started = Instant::now();
        let exposed = password.expose().as_bytes();
        let computed = scheme.compute(core, exposed, &parsed.salt, &mut tag);
        let took = started.elapsed();
        if let Err(error) = computed {
            tracing::error!(%error, "a password could not be hashed");
            return None;
        }
        if !scheme.is_own(self.settings.params) {
            self.state.lock().prices.measured(scheme, took);
        }
        Some(tag)
    }
}

/// How long the calling thread has run on a processor (`clock_gettime(2)`).
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
