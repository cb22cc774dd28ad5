//! Attempts that wait for a place: in their order, and one is woken for each place that is freed. Woken
//! together they would all ask at once, and all but one in vain.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use super::Key;
use super::decision::FullTable;

/// Who waits, by table and key.
#[derive(Default)]
pub(super) struct Waiters(HashMap<(FullTable, Key), VecDeque<oneshot::Sender<()>>>);

impl Waiters {
    /// Joins the queue; what is received says that a place is free.
    pub(super) fn join(&mut self, table: FullTable, key: Key) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.entry((table, key)).or_default().push_back(sender);
        receiver
    }

    /// Wakes the first who still waits.
    pub(super) fn wake_one(&mut self, table: FullTable, key: Key) {
        let Some(queue) = self.0.get_mut(&(table, key)) else { return };
        while let Some(first) = queue.pop_front() {
            if first.send(()).is_ok() {
                break;
            }
        }
        if queue.is_empty() {
            self.0.remove(&(table, key));
        }
    }

    /// Drops those at the front who have gone away.
    pub(super) fn tidy(&mut self, table: FullTable, key: Key) {
        let Some(queue) = self.0.get_mut(&(table, key)) else { return };
        while queue.front().is_some_and(oneshot::Sender::is_closed) {
            queue.pop_front();
        }
        if queue.is_empty() {
            self.0.remove(&(table, key));
        }
    }

    /// How many queues there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
