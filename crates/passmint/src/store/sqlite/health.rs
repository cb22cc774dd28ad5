//! How the store is, for readiness: whether the writer's last commit succeeded, for how long it has been
//! at the present one, and whether the file was found damaged. A disk that is full or stuck is seen here
//! and nowhere else.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::StoreError;

/// A batch that takes longer is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    busy_since: Option<Instant>,
    failure: Option<String>,
    /// What SQLite said of the damage. It stays until the process ends: nothing mends it meanwhile.
    damage: Option<String>,
}

/// Shared by the writer's thread, the readers and whoever asks.
#[derive(Default)]
pub(super) struct Health(Mutex<State>);

impl Health {
    /// The writer begins a batch.
    pub(super) fn begin(&self) {
        self.0.lock().busy_since = Some(Instant::now());
    }

    /// A batch is over; what failed, if it did.
    pub(super) fn end(&self, failure: Option<&StoreError>) {
        let mut state = self.0.lock();
        let took = state.busy_since.take().map(|since| since.elapsed());
        // A stuck disk stays one until a commit was quick again.
        let slow = took.filter(|took| *took > STUCK_AFTER);
        let slow = slow.map(|took| format!("the last write took {} s", took.as_secs()));
        state.failure = failure.map(ToString::to_string).or(slow);
    }

    /// Notes an error of a read or a write, if it tells of damage.
    pub(super) fn note(&self, error: &StoreError) {
        if let StoreError::Damaged(cause) = error {
            self.0.lock().damage.get_or_insert_with(|| cause.clone());
        }
    }

    /// An error says why nothing can be read or written.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let state = self.0.lock();
        if let Some(damage) = &state.damage {
            return Err(StoreError::Damaged(damage.clone()));
        }
        let busy = state.busy_since.map(|since| since.elapsed()).filter(|busy| *busy > STUCK_AFTER);
        match (busy, &state.failure) {
            (Some(busy), _) => {
                let text =
                    format!("a write has taken {} s so far: the disk is stuck", busy.as_secs());
                Err(StoreError::Unavailable(text))
            }
            (None, Some(failure)) => Err(StoreError::Unavailable(failure.clone())),
            (None, None) => Ok(()),
        }
    }
}
