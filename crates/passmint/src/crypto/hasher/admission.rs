//! Who is let into the queue: whoever would wait longer than it may is refused at once, before any work.
//!
//! What is decided depends on from where a job comes and never on whom it is for: a refusal must not tell who
//! exists, or whose hash was imported.

use std::time::{Duration, Instant};

use super::pool::{Overloaded, Shared, State, Turn};
use crate::domain::network::Network;

/// This part of the longest wait is not planned with: hashes may become slower, and other networks may
/// come and take their turns.
const RESERVE: f64 = 0.2;

impl State {
    /// How many jobs wait for a thread. Those that wait for a place of their network count only for `network`,
    /// which a job comes from, if that is of their neighbourhood.
    fn queued(&self, network: Option<Network>, threads: usize) -> usize {
        if self.places.any_is_held() {
            self.own.queue.startable(network, |other| !self.places.are_all_held(other, threads))
        } else {
            self.own.queue.len()
        }
    }
}

impl Shared {
    /// How long a job of `network` that came now would wait for its turn, and then for an imported hash.
    pub(super) fn expected_wait(&self, state: &State, network: Network) -> Duration {
        let threads = self.settings.threads;
        let own =
            state.own.expected_wait(state.queued(Some(network), threads), threads, state.hash_time);
        own + self.expected_foreign_wait(state, network)
    }

    /// How long an imported hash of `network` that came now would wait for its turn. By turns: no neighbourhood
    /// that fills that queue makes others wait, but many of them together do. Those that are computed are
    /// half done.
    pub(super) fn expected_foreign_wait(&self, state: &State, network: Network) -> Duration {
        let slowest = state.prices.slowest().unwrap_or_default();
        let (queued, running) = (state.imported.ahead_of(network), state.foreign.running);
        let threads = self.settings.threads.max(1);
        if queued == 0 && running < threads {
            return Duration::ZERO;
        }
        let halves = u32::try_from(2 * queued + running).unwrap_or(u32::MAX);
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        slowest.saturating_mul(halves) / threads.saturating_mul(2)
    }

    /// By how much an imported hash of `network` that came now would wait longer than it may. Nobody can be
    /// displaced there without telling who was imported; so whoever used much has less of the time. Those that
    /// are computed alone are no reason to refuse.
    pub(super) fn foreign_excess(
        &self,
        state: &State,
        network: Network,
        max_wait: Duration,
    ) -> Duration {
        if state.imported.ahead_of(network) == 0 {
            return Duration::ZERO;
        }
        let longest = longest_for(planned(max_wait), state.usage.of(network, Instant::now()));
        self.expected_foreign_wait(state, network).saturating_sub(longest)
    }

    /// Whether there is room for another job: at once (`None`), or when one of whoever has filled the queue is
    /// displaced, with what that one is told. What is thought to come just in time often comes too late, and
    /// would be refused after a long wait: so a part of the time is kept in reserve. A queue that has been
    /// full is kept short.
    pub(super) fn room(
        &self,
        state: &mut State,
        turn: &Turn,
        is_verification: bool,
    ) -> Result<Option<Overloaded>, Overloaded> {
        let (now, threads) = (Instant::now(), self.settings.threads);
        state.places.release(now);
        let longest = planned(turn.max_wait);
        let wait_after = |queued| state.own.expected_wait(queued, threads, state.hash_time);
        let own = wait_after(state.queued(Some(turn.network), threads));
        let queued = state.queued(None, threads);
        let is_full = wait_after(queued) > longest;
        state.own.note_wait(queued, is_full);
        let longest_own = longest_in_queue(longest, state.own.has_been_full(), state.hash_time);
        let (foreign, foreign_excess) = if is_verification {
            let excess = self.foreign_excess(state, turn.network, turn.max_wait);
            (self.expected_foreign_wait(state, turn.network), excess)
        } else {
            (Duration::ZERO, Duration::ZERO)
        };
        let excess = (foreign + own).saturating_sub(longest).max(own.saturating_sub(longest_own));
        let overloaded = Overloaded { retry_after: excess.max(foreign_excess) };
        if overloaded.retry_after.is_zero() {
            return Ok(None);
        }
        let used = state.usage.of(turn.network, now);
        let gives_way = state.own.queue.gives_way(turn.network, used).is_some();
        if gives_way && foreign_excess.is_zero() { Ok(Some(overloaded)) } else { Err(overloaded) }
    }
}

/// The part of the longest wait that is planned with.
fn planned(max_wait: Duration) -> Duration {
    max_wait.mul_f64(1.0 - RESERVE)
}

/// How long a job may wait in the queue. A burst may wait for `longest`. In a load that has filled the queue
/// every job would wait that long, and the threads would serve no more of them; so the queue is kept a
/// quarter as long until nothing waits, but long enough that no thread finds it empty.
fn longest_in_queue(longest: Duration, has_been_full: bool, hash_time: Duration) -> Duration {
    if has_been_full { (longest / 4).max(2 * hash_time).min(longest) } else { longest }
}

/// How much of the longest wait a network has that used so much of late: from all of it to a quarter.
fn longest_for(longest: Duration, used: u32) -> Duration {
    longest / 4 + longest * 3 / (4 + used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_has_been_full_is_kept_short() {
        let millis = Duration::from_millis;
        let longest = |full, hash_time| longest_in_queue(millis(1600), full, hash_time);
        assert_eq!(longest(false, millis(10)), millis(1600));
        assert_eq!(longest(true, millis(10)), millis(400));
        assert_eq!(longest(true, millis(300)), millis(600), "two hashes fit");
        assert_eq!(longest(true, millis(3000)), millis(1600), "never longer than it may be");
    }

    #[test]
    fn whoever_used_more_may_wait_less() {
        let longest = Duration::from_millis(1560);
        let waits = [0, 1, 2, 8, 26].map(|used| longest_for(longest, used).as_millis());
        assert_eq!(waits, [1560, 1326, 1170, 780, 546]);
    }
}
