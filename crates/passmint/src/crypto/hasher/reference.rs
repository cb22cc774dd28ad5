//! The reference hash: while imported hashes are stored, a refusal is answered no sooner than one of the dearest
//! kind is computed that began after it.
//!
//! How long an imported hash takes depends on what else the processors have to do. So one is computed for
//! nobody, at the priority of imported ones: once for all refusals that came since the last one began. And
//! since imported hashes may have to wait for their turn, every refusal does.

use std::time::Instant;

use tokio::sync::oneshot;

use super::core::Core;
use super::format::Scheme;
use super::pool::{Shared, State};
use super::price::with_headroom;
use super::worker::{ForeignTurn, REST_AFTER, give_way};
use crate::domain::network::Network;

/// What a refusal waits for: when it may be answered, for all that this hash says.
pub(super) type Referred = oneshot::Receiver<Instant>;

/// A refusal that waits for the next reference hash, or for its turn to.
pub(super) type Refusal = oneshot::Sender<Instant>;

/// Those that wait for the next reference hash.
#[derive(Default)]
pub(super) struct Waiting(Vec<Refusal>);

impl State {
    /// Has a refusal wait for the next reference hash.
    pub(super) fn refer(&mut self, refusal: Refusal) {
        self.waiting.0.push(refusal);
    }

    /// Has a refusal of `network` wait for its turn among the imported hashes, and then for the next reference hash.
    pub(super) fn refer_in_turn(&mut self, network: Network) -> Referred {
        let (refusal, referred) = oneshot::channel();
        self.foreign.queue.push(network, 0, ForeignTurn::Refusal(refusal));
        referred
    }
}

impl Shared {
    /// The life of the thread that computes them.
    pub(super) fn compute_references(&self) {
        give_way();
        let mut core = Core::new(self.backend);
        while let Some((waiting, scheme)) = self.next_reference(&mut core) {
            let began = Instant::now();
            if let Some(Err(error)) = scheme.map(|scheme| scheme.compute_for_nobody(&mut core)) {
                tracing::error!(%error, "the reference hash could not be computed");
            }
            let due = began + with_headroom(began.elapsed());
            for refusal in waiting.0 {
                // Its client may have gone.
                let _ = refusal.send(due);
            }
        }
    }

    /// Waits for refusals, and then until it is known which scheme is the dearest: all have been measured.
    /// Returns both, with no scheme where all hashes are alike by now; `None` when the pool is closed.
    fn next_reference(&self, core: &mut Core) -> Option<(Waiting, Option<Scheme>)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            // A right password of an imported user waits for nothing.
            state.waiting.0.retain(|refusal| !refusal.is_closed());
            if !state.waiting.0.is_empty() && !state.prices.is_incomplete() {
                return Some((std::mem::take(&mut state.waiting), state.prices.dearest()));
            }
            if self.reference_wanted.wait_for(&mut state, REST_AFTER).timed_out() {
                core.rest();
            }
        }
    }
}
