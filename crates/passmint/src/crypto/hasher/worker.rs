//! What the hashing threads do.
//!
//! The own threads compute hashes of today's cost, and pay it once for every login whoever it is for.
//! Imported hashes of other kinds are computed *besides*, on threads of their own at the lowest
//! priority: otherwise others would see by how long the threads are taken who was imported. Threads run
//! at low priority, so that refresh and verify go first, and give their memory back when there has been
//! nothing to do for a while.
//!
//! A refused login holds its network's place until its answer is due, so that from the same network,
//! too, the next one starts no sooner for an unknown user than for an imported one.

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
    /// Memory units in use; the budget is one unit a thread.
    units: usize,
}

impl<J> Default for Lane<J> {
    fn default() -> Self {
        Self { queue: FairQueue::default(), running: 0, units: 0 }
    }
}

impl<J> Lane<J> {
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

/// Which lane's memory a hash takes.
#[derive(Clone, Copy)]
enum Budget {
    Own,
    Foreign,
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
    /// Forgets the places that are not held any more; when the next one is free.
    fn release_places(&mut self, now: Instant) -> Option<Instant> {
        self.verifying.retain(|_, verifying| {
            verifying.held.retain(|until| *until > now);
            verifying.running > 0 || !verifying.held.is_empty()
        });
        self.verifying.values().flat_map(|verifying| &verifying.held).min().copied()
    }

    /// A verification of that network is over. Returns when its answer is due.
    fn verified(&mut self, network: Network, matches: bool, began: Instant) -> AnswerTime {
        let floor = self.prices.floor(self.hash_time).filter(|_| !matches);
        let answer_at = floor.map(|floor| began + floor);
        if let Some(verifying) = self.verifying.get_mut(&network) {
            verifying.running = verifying.running.saturating_sub(1);
            verifying.held.extend(answer_at);
            if verifying.running == 0 && verifying.held.is_empty() {
                self.verifying.remove(&network);
            }
        }
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
            let next_place = state.release_places(now);
            let State { own, verifying, .. } = &mut *state;
            let has_place = |network: Network| {
                verifying.get(&network).is_none_or(|v| v.running + v.held.len() < threads)
            };
            match own.queue.pop(has_place) {
                Some(job) if job.deadline < now => {
                    let retry_after = self.expected_wait(&state).max(Duration::from_secs(1));
                    if job.claim.take() {
                        job.work.refuse(Overloaded { retry_after });
                    }
                }
                Some(job) if !job.claim.take() => {}
                Some(job) => {
                    state.own.running += 1;
                    if matches!(job.work, Work::Verify(..)) {
                        state.verifying.entry(job.network).or_default().running += 1;
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
                if let Some(hash) = self.hash(core, &password, Budget::Own) {
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
                self.compute(core, password, &nothing(), Budget::Own);
            }
            own => {
                let known = own.is_some();
                let parsed = own.unwrap_or_else(nothing);
                let matches = self.matches(core, password, &parsed, Budget::Own) && known;
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
        let mut core = Core::new(self.backend);
        loop {
            let mut state = self.state.lock();
            let job = loop {
                if state.closed {
                    return;
                }
                if let Some(job) = state.foreign.queue.pop(|_| true) {
                    break job;
                }
                if self.foreign_arrived.wait_for(&mut state, REST_AFTER).timed_out() {
                    core.rest();
                }
            };
            state.foreign.running += 1;
            drop(state);
            self.run_foreign(job, &mut core);
            self.state.lock().foreign.running -= 1;
            self.arrived.notify_one();
        }
    }

    fn run_foreign(&self, job: ForeignJob, core: &mut Core) {
        let started = Instant::now();
        let waited = started.duration_since(job.since);
        match job.work {
            ForeignWork::Verify(password, parsed, began, answer) => {
                let matches = self.matches(core, &password, &parsed, Budget::Foreign);
                // A new hash is of what was typed, so that must be what was compared.
                let whole = parsed.scheme.reads_all_of(&password);
                let better = (matches && whole)
                    .then(|| self.hash(core, &password, Budget::Foreign))
                    .flatten();
                let verification =
                    if matches { Verification::Match(better) } else { Verification::NoMatch };
                let answer_time = self.state.lock().verified(job.network, matches, began);
                drop(answer.send(Ok(Checked { verification, answer_time })));
            }
            ForeignWork::Measure(scheme) => {
                let nothing = Password::new(String::new());
                let parsed = Parsed { scheme, salt: vec![0; SALT], tag: vec![0; scheme.tag_len()] };
                self.compute(core, &nothing, &parsed, Budget::Foreign);
            }
        }
        self.sink.hashed(waited, started.elapsed());
    }

    fn matches(
        &self,
        core: &mut Core,
        password: &Password,
        parsed: &Parsed,
        budget: Budget,
    ) -> bool {
        let tag = self.compute(core, password, parsed, budget);
        tag.is_some_and(|tag| constant_time::verify_slices_are_equal(&tag, &parsed.tag).is_ok())
    }

    fn hash(&self, core: &mut Core, password: &Password, budget: Budget) -> Option<PasswordHash> {
        let scheme = Scheme::Argon2id(self.settings.params);
        let salt = random::bytes::<SALT>().ok()?.to_vec();
        let mut parsed = Parsed { scheme, salt, tag: vec![0; TAG] };
        parsed.tag = self.compute(core, password, &parsed, budget)?;
        parsed.write()
    }

    /// What `password` gives with the scheme and salt of `parsed`. Notes what other schemes take.
    fn compute(
        &self,
        core: &mut Core,
        password: &Password,
        parsed: &Parsed,
        budget: Budget,
    ) -> Option<Vec<u8>> {
        let scheme = parsed.scheme;
        let mut tag = vec![0; parsed.tag.len()];
        let (computed, took) = self.within_budget(scheme.memory_kib(), core, budget, |core| {
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

    /// Runs `work` when the memory it takes fits beside the others': a lane as a whole never takes more
    /// than threads × today's cost, or one hash alone that takes more than all that.
    fn within_budget<T>(
        &self,
        memory_kib: u32,
        core: &mut Core,
        budget: Budget,
        work: impl FnOnce(&mut Core) -> T,
    ) -> T {
        let threads = self.settings.threads.max(1);
        let unit = self.settings.params.memory_kib.max(1);
        let weight = (memory_kib.div_ceil(unit) as usize).clamp(1, threads);
        let mut state = self.state.lock();
        while *state.units(budget) + weight > threads {
            self.freed.wait(&mut state);
        }
        *state.units(budget) += weight;
        drop(state);
        let result = work(core);
        if weight > 1 {
            core.rest();
        }
        *self.state.lock().units(budget) -= weight;
        self.freed.notify_all();
        result
    }
}

impl State {
    fn units(&mut self, budget: Budget) -> &mut usize {
        match budget {
            Budget::Own => &mut self.own.units,
            Budget::Foreign => &mut self.foreign.units,
        }
    }
}
