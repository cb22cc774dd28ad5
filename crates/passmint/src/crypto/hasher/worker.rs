//! What the hashing threads do.
//!
//! The own threads compute hashes of today's cost, and pay it once for every login whoever it is for.
//! Imported hashes of other kinds are computed *besides*, on threads of their own at the lowest
//! priority: otherwise others would see by how long the threads are taken who was imported. Threads run
//! at low priority, so that refresh and verify go first. The own ones give their memory back when there has
//! been nothing to do for a while.

use std::time::{Duration, Instant};

use aws_lc_rs::constant_time;
use tokio::sync::oneshot;

use super::core::Core;
use super::format::{LITTLE_KIB, Parsed, SALT, Scheme, TAG};
use super::pool::{
    Answer, AnswerTime, Checked, Due, Job, Overloaded, Shared, State, Verification, Work,
};
use super::price::Price;
use super::queue::FairQueue;
use super::reference::{Referred, Refusal};
use crate::crypto::random;
use crate::domain::network::Network;
use crate::domain::secret::{Password, PasswordHash};

/// How nice the own threads are (`nice(2)`): the work that is cheap goes first.
const NICENESS: i32 = 10;
/// How nice those for imported hashes are: they take next to nothing from the own threads.
const FOREIGN_NICENESS: i32 = 19;
/// After this long without work a thread gives its memory back.
pub(super) const REST_AFTER: Duration = Duration::from_secs(20);

/// Jobs of one kind of threads.
pub(super) struct Lane<J> {
    pub(super) queue: FairQueue<J>,
    /// Jobs that are being hashed.
    pub(super) running: usize,
    /// Whether there was no room for a job since nothing waited.
    has_been_full: bool,
}

impl<J> Default for Lane<J> {
    fn default() -> Self {
        Self { queue: FairQueue::default(), running: 0, has_been_full: false }
    }
}

impl<J> Lane<J> {
    /// Notes how many jobs wait when another one comes, and whether there is no room for that one.
    pub(super) fn note_wait(&mut self, queued: usize, is_full: bool) {
        self.has_been_full = is_full || self.has_been_full && queued > 0;
    }

    /// Whether there was no room for a job since nothing waited.
    pub(super) fn has_been_full(&self) -> bool {
        self.has_been_full
    }

    /// How long a job that came now would wait for its turn, where so many wait and each takes `each`.
    pub(super) fn expected_wait(&self, queued: usize, threads: usize, each: Duration) -> Duration {
        let threads = threads.max(1);
        let ahead = queued + self.running;
        if ahead < threads {
            return Duration::ZERO;
        }
        let rounds = u32::try_from((ahead + 1 - threads).div_ceil(threads)).unwrap_or(u32::MAX);
        each.saturating_mul(rounds)
    }
}

/// A verification that has begun.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    network: Network,
    at: Instant,
    /// How long an imported hash would have waited then.
    foreign_wait: Duration,
}

pub(super) enum ForeignWork {
    Verify(Password, Parsed, Begun, Answer<Checked>),
    /// Finds out what a scheme costs.
    Measure(Scheme),
}

pub(super) struct ForeignJob {
    work: ForeignWork,
    network: Network,
    since: Instant,
}

/// What takes turns with imported hashes.
pub(super) enum ForeignTurn {
    Hash(ForeignJob),
    /// A refusal of another user, which waits as long as if it were of an imported hash. It takes no time.
    Refusal(Refusal),
}

impl State {
    /// A verification is over. Returns when its answer is due: a refusal as if it had been of an imported hash.
    fn verified(&mut self, begun: Begun, matches: bool, referred: Option<Referred>) -> AnswerTime {
        let floor = self.prices.floor(self.hash_time).filter(|_| !matches);
        let not_before = floor.map(|floor| begun.at + begun.foreign_wait + floor);
        self.places.end(begun.network, not_before);
        self.usage.note(begun.network, matches, Instant::now());
        AnswerTime(not_before.map(|not_before| {
            let referred = referred.unwrap_or_else(|| self.refer_in_turn(begun.network));
            Due { not_before, referred, ending: self.ending.clone() }
        }))
    }

    /// Has foreign work of `network` wait for its turn.
    pub(super) fn push_foreign(&mut self, network: Network, work: ForeignWork) {
        let job = ForeignJob { work, network, since: Instant::now() };
        self.imported.push(network, 0, ());
        self.foreign.queue.push(network, 0, ForeignTurn::Hash(job));
    }

    /// The next hash. Refusals before it have had their turn.
    fn pop_foreign(&mut self) -> Option<ForeignJob> {
        loop {
            match self.foreign.queue.pop(|_, _| true)? {
                ForeignTurn::Refusal(refusal) => self.refer(refusal),
                ForeignTurn::Hash(job) => {
                    self.imported.remove(job.network, |()| true);
                    return Some(job);
                }
            }
        }
    }

    /// When a job that waits for a place of its network is to be refused, at the earliest.
    fn first_deadline(&self) -> Option<Instant> {
        self.own.queue.oldest().map(|job| job.deadline).min()
    }
}

impl Shared {
    /// An own thread's life.
    pub(super) fn work(&self) {
        // Refused where the sandbox forbids it; then the threads are merely not nicer.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let mut core = Core::new(self.backend);
        while let Some((job, foreign_wait)) = self.next_job(&mut core) {
            self.run(job, foreign_wait, &mut core);
        }
    }

    /// Waits for a job whose caller still waits, and begins it; `None` when the pool is closed. Says how long
    /// an imported hash would wait now.
    pub(super) fn next_job(&self, core: &mut Core) -> Option<(Job, Duration)> {
        let threads = self.settings.threads.max(1);
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let next_place = state.places.release(now);
            let State { own, places, .. } = &mut *state;
            let may_go = |network, job: &Job| job.deadline < now || places.has(network, threads);
            let Some(job) = own.queue.pop(may_go) else {
                // Where any wait, they wait for a place of their network, or until they may wait no longer.
                let until = state.first_deadline().map(|deadline| {
                    next_place.map_or(deadline, |next_place| next_place.min(deadline))
                });
                let wait = until.map_or(REST_AFTER, |at| at.saturating_duration_since(now));
                let timed_out = self.arrived.wait_for(&mut state, wait).timed_out();
                if timed_out && until.is_none() {
                    core.rest();
                }
                continue;
            };
            if !job.claim.take() {
                continue;
            }
            // Many that were let in together may all be of imported hashes: asked again for each.
            let max_wait = job.deadline.saturating_duration_since(job.since);
            let is_verification = job.work.is_verification();
            let is_too_much =
                is_verification && !self.foreign_excess(&state, job.network, max_wait).is_zero();
            if job.deadline < now || is_too_much {
                let retry_after = self.expected_wait(&state, job.network);
                job.work
                    .refuse(Overloaded { retry_after: retry_after.max(Duration::from_secs(1)) });
                continue;
            }
            state.own.running += 1;
            if is_verification {
                state.places.take(job.network);
            }
            let foreign_wait = self.expected_foreign_wait(&state, job.network);
            return Some((job, foreign_wait));
        }
    }

    fn run(&self, job: Job, foreign_wait: Duration, core: &mut Core) {
        let started = Instant::now();
        let waited = started.duration_since(job.since);
        job.span.record("passmint.queue_wait_ms", waited.as_secs_f64() * 1e3);
        match job.work {
            Work::Verify(password, hash, answer) => {
                let begun = Begun { network: job.network, at: started, foreign_wait };
                self.verify(core, (&password, hash.as_ref()), begun, answer);
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

    /// Computes a hash of today's cost, whatever there is to match, and answers; an imported hash is then
    /// handed to the threads for those. Refusals of both wait for their turn there, and then for a reference hash.
    fn verify(
        &self,
        core: &mut Core,
        (password, hash): (&Password, Option<&PasswordHash>),
        begun: Begun,
        answer: Answer<Checked>,
    ) {
        let today = self.settings.params;
        // The same work for a user that does not exist, or was imported.
        let nothing =
            || Parsed { scheme: Scheme::Argon2id(today), salt: vec![0; SALT], tag: vec![0; TAG] };
        match hash.and_then(Parsed::read) {
            Some(foreign) if !foreign.scheme.is_own(today) => {
                self.compute(core, password, &nothing());
                let work = ForeignWork::Verify(password.clone(), foreign, begun, answer);
                self.state.lock().push_foreign(begun.network, work);
                self.foreign_arrived.notify_one();
            }
            own => {
                let known = own.is_some();
                let parsed = own.unwrap_or_else(nothing);
                let matches = self.matches(core, password, &parsed) && known;
                let verification =
                    if matches { Verification::Match(None) } else { Verification::NoMatch };
                let answer_time = self.state.lock().verified(begun, matches, None);
                if answer_time.0.is_some() {
                    self.foreign_arrived.notify_one();
                }
                drop(answer.send(Ok(Checked { verification, answer_time })));
            }
        }
    }

    /// The life of a thread for imported hashes.
    pub(super) fn work_on_foreign(&self) {
        give_way();
        loop {
            let mut state = self.state.lock();
            let job = loop {
                if state.closed {
                    return;
                }
                let job = state.pop_foreign();
                self.reference_wanted.notify_one();
                if let Some(job) = job {
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
            ForeignWork::Verify(password, parsed, begun, answer) => {
                let (refusal, referred) = oneshot::channel();
                self.state.lock().refer(refusal);
                self.reference_wanted.notify_one();
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
                let answer_time = self.state.lock().verified(begun, matches, Some(referred));
                drop(answer.send(Ok(Checked { verification, answer_time })));
            }
            ForeignWork::Measure(scheme) => self.measure(scheme),
        }
        self.sink.hashed(waited, started.elapsed());
    }

    /// Notes what a hash takes: of those that take memory the second one, for the first takes it from the system.
    /// In time on the processor, since other work, before which this thread gives way, may delay it; a price
    /// that is too high would delay every refusal until more hashes follow.
    fn measure(&self, scheme: Scheme) {
        const LONG_ENOUGH: Duration = Duration::from_millis(500);
        let hashes = if scheme.memory_kib() <= LITTLE_KIB { 1 } else { 2 };
        let mut lent = self.memory.borrow(scheme.memory_kib());
        let began = Instant::now();
        let mut least = Duration::MAX;
        for _ in 0..hashes {
            let started = processor_time();
            if scheme.compute_for_nobody(&mut lent.core).is_ok() {
                least = least.min(processor_time().saturating_sub(started));
            }
            if began.elapsed() >= LONG_ENOUGH {
                break;
            }
        }
        self.memory.give_back(lent);
        let mut state = self.state.lock();
        if least < Duration::MAX {
            state.prices.measured(scheme, Price { elapsed: least, processor: least });
        }
        state.prices.measurement_ended(scheme);
        drop(state);
        self.reference_wanted.notify_one();
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
        let (started, processor) = (Instant::now(), processor_time());
        let exposed = password.expose().as_bytes();
        let computed = scheme.compute(core, exposed, &parsed.salt, &mut tag);
        let processor = processor_time().saturating_sub(processor);
        let took = Price { elapsed: started.elapsed(), processor };
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

/// Has the calling thread take what no other needs.
pub(super) fn give_way() {
    let _ = rustix::process::setpriority_process(None, FOREIGN_NICENESS);
}

/// How long the calling thread has run on a processor (`clock_gettime(2)`).
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
