//! The memory of hashes from elsewhere. It is kept for the next hash: taking it anew from the system
//! would cost some of those hashes several times as much as others, and so tell whose they are.
//!
//! All of it together never takes more than one unit a thread (a unit is what a hash of today's cost
//! takes), or one hash alone that takes more than all that. The reference hash has memory of its own: it would
//! otherwise have to wait for others, or others for it.

use parking_lot::{Condvar, Mutex};

use super::core::{Backend, Core};

/// Cores with their memory.
pub(super) struct Memory {
    backend: Backend,
    unit_kib: u32,
    /// Units that there are.
    most: usize,
    state: Mutex<State>,
    /// A core came back.
    returned: Condvar,
}

#[derive(Default)]
struct State {
    /// Units in use or kept.
    units: usize,
    kept: Vec<Lent>,
}

/// A core, and what it may take.
pub(super) struct Lent {
    pub(super) core: Core,
    units: usize,
}

impl Memory {
    /// For `threads` hashes of `unit_kib` at once.
    pub(super) fn new(backend: Backend, threads: usize, unit_kib: u32) -> Self {
        Self {
            backend,
            unit_kib: unit_kib.max(1),
            most: threads.max(1),
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// A core for a hash of `memory_kib`; waits until there is room beside those that are lent.
    pub(super) fn borrow(&self, memory_kib: u32) -> Lent {
        let units = (memory_kib.div_ceil(self.unit_kib) as usize).min(self.most);
        if units == 0 {
            return Lent { core: Core::new(self.backend), units };
        }
        // Given back to the system after the lock.
        let mut dropped = Vec::new();
        let mut state = self.state.lock();
        loop {
            let fitting = state.kept.iter().enumerate().filter(|(_, kept)| kept.units >= units);
            if let Some((at, _)) = fitting.min_by_key(|(_, kept)| kept.units) {
                return state.kept.swap_remove(at);
            }
            while state.units + units > self.most {
                let Some(kept) = state.kept.pop() else { break };
                state.units -= kept.units;
                dropped.push(kept);
            }
            if state.units + units <= self.most {
                state.units += units;
                return Lent { core: Core::new(self.backend), units };
            }
            self.returned.wait(&mut state);
        }
    }

    /// Takes a core back, and keeps its memory.
    pub(super) fn give_back(&self, lent: Lent) {
        if lent.units > 0 {
            self.state.lock().kept.push(lent);
            self.returned.notify_all();
        }
    }

    /// Gives what is not lent back to the system.
    pub(super) fn rest(&self) {
        let mut state = self.state.lock();
        let kept = std::mem::take(&mut state.kept);
        state.units -= kept.iter().map(|kept| kept.units).sum::<usize>();
        drop(state);
        drop(kept);
        self.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_kept_for_the_next_hash_and_never_more_than_there_is() {
        let memory = Memory::new(Backend::Simd, 2, 1000);
        let units = || memory.state.lock().units;
        let small = [memory.borrow(1000), memory.borrow(900)];
        assert_eq!(units(), 2);
        for lent in small {
            memory.give_back(lent);
        }
        memory.give_back(memory.borrow(0));
        assert_eq!(memory.state.lock().kept.len(), 2, "what takes no memory takes no core");
        let whole = memory.borrow(1500);
        assert_eq!((whole.units, units()), (2, 2), "both small ones made room");
        memory.give_back(whole);
        assert_eq!(memory.borrow(5000).units, 2, "kept from before, and alone");
        assert_eq!(units(), 2);

        let memory = Memory::new(Backend::Simd, 2, 1000);
        let first = memory.borrow(1500);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| memory.borrow(1500));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!second.is_finished(), "no room beside the first");
            memory.give_back(first);
            memory.give_back(second.join().unwrap());
        });
        memory.rest();
        assert_eq!(memory.state.lock().units, 0);
    }
}
