//! The jobs that wait, in fair turns: one network after the other, whoever has sent more. A flood from
//! one network fills its own line and takes nobody else's turn.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::domain::network::Network;

/// Lines of jobs, one a network.
pub(super) struct FairQueue<J> {
    lines: HashMap<Network, VecDeque<J>>,
    /// Networks with jobs, in the order of their turns.
    turns: VecDeque<Network>,
    /// The same by the length of their lines.
    by_length: BTreeSet<(usize, Network)>,
    len: usize,
}

impl<J> Default for FairQueue<J> {
    fn default() -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), by_length: BTreeSet::new(), len: 0 }
    }
}

impl<J> FairQueue<J> {
    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a job at the end of its network's line.
    pub(super) fn push(&mut self, network: Network, job: J) {
        let line = self.lines.entry(network).or_default();
        if line.is_empty() {
            self.turns.push_back(network);
        } else {
            self.by_length.remove(&(line.len(), network));
        }
        line.push_back(job);
        self.by_length.insert((line.len(), network));
        self.len += 1;
    }

    /// The oldest job of the network whose turn it is.
    pub(super) fn pop(&mut self) -> Option<J> {
        let network = self.turns.pop_front()?;
        let job = self.take(network, VecDeque::pop_front);
        if self.lines.contains_key(&network) {
            self.turns.push_back(network);
        }
        job
    }

    /// Makes room for a job of `network`: the newest job of the longest line, if that line is longer
    /// than the network's own would become.
    pub(super) fn make_room(&mut self, network: Network) -> Option<J> {
        let greedy = self.gives_way(network)?;
        self.take(greedy, VecDeque::pop_back)
    }

    /// Whose job would make room for one of `network`.
    pub(super) fn gives_way(&self, network: Network) -> Option<Network> {
        let (longest, greedy) = *self.by_length.last()?;
        let own = self.lines.get(&network).map_or(0, VecDeque::len);
        (longest > own + 1).then_some(greedy)
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn take(
        &mut self,
        network: Network,
        which: impl FnOnce(&mut VecDeque<J>) -> Option<J>,
    ) -> Option<J> {
        let line = self.lines.get_mut(&network)?;
        self.by_length.remove(&(line.len(), network));
        let job = which(line);
        self.len -= usize::from(job.is_some());
        if line.is_empty() {
            self.lines.remove(&network);
        } else {
            self.by_length.insert((line.len(), network));
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u64) -> Network {
        Network::from_number(number)
    }

    #[test]
    fn one_network_after_the_other_however_long_their_lines() {
        let mut queue = FairQueue::default();
        for job in 0..100 {
            queue.push(network(1), ("flood", job));
        }
        queue.push(network(2), ("quiet", 0));
        queue.push(network(2), ("quiet", 1));
        let first: Vec<_> = std::iter::from_fn(|| queue.pop()).take(5).collect();
        let expected = [("flood", 0), ("quiet", 0), ("flood", 1), ("quiet", 1), ("flood", 2)];
        assert_eq!(first, expected);
        assert_eq!(queue.len(), 97);
    }

    #[test]
    fn room_is_made_at_the_end_of_the_longest_line_for_shorter_ones_only() {
        let mut queue = FairQueue::default();
        for job in 0..10 {
            queue.push(network(1), job);
        }
        assert_eq!(queue.make_room(network(1)), None, "nobody displaces its own");
        assert_eq!(queue.make_room(network(2)), Some(9));
        queue.push(network(2), 100);
        for job in 0..6 {
            queue.push(network(3), 200 + job);
        }
        assert_eq!(queue.make_room(network(3)), Some(8), "nine against seven");
        queue.push(network(3), 206);
        assert_eq!(queue.make_room(network(3)), None, "eight against eight");
        assert_eq!(queue.len(), 8 + 1 + 7);
        while queue.pop().is_some() {}
        assert_eq!((queue.len(), queue.make_room(network(9))), (0, None));
    }
}
