//! The jobs that wait, in fair turns: one neighbourhood after the other, and in each one network after
//! the other, whoever has sent more. A flood fills its own line and takes nobody else's turn, also from
//! many networks of one party. Where there is no room, the neighbourhood with most jobs gives way, and of
//! those with as many the one that used most of late; in a neighbourhood, the network.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::domain::network::{Neighbourhood, Network};

/// The jobs of one network.
struct Line<J> {
    jobs: VecDeque<J>,
    /// What it had used of late when its last job came.
    used: u32,
}

/// The lines of one neighbourhood's networks.
struct Group<J> {
    lines: HashMap<Network, Line<J>>,
    /// Networks with jobs, in the order of their turns.
    turns: VecDeque<Network>,
    len: usize,
    /// What the network of its last job had used of late then.
    used: u32,
}

/// Lines of jobs by neighbourhood and network.
pub(super) struct FairQueue<J> {
    groups: HashMap<Neighbourhood, Group<J>>,
    /// Neighbourhoods with jobs, in the order of their turns.
    turns: VecDeque<Neighbourhood>,
    /// The same by how many jobs they have, and by what they used.
    by_length: BTreeSet<(usize, u32, Neighbourhood)>,
    len: usize,
}

impl<J> Default for FairQueue<J> {
    fn default() -> Self {
        Self { groups: HashMap::new(), turns: VecDeque::new(), by_length: BTreeSet::new(), len: 0 }
    }
}

impl<J> Group<J> {
    fn new() -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), len: 0, used: 0 }
    }

    fn push(&mut self, network: Network, used: u32, job: J) {
        let new = || Line { jobs: VecDeque::new(), used };
        let line = self.lines.entry(network).or_insert_with(new);
        if line.jobs.is_empty() {
            self.turns.push_back(network);
        }
        line.jobs.push_back(job);
        (line.used, self.used) = (used, used);
        self.len += 1;
    }

    /// The oldest job of the first network in turn, if that may go.
    fn pop(&mut self, may_go: &impl Fn(Network, &J) -> bool) -> Option<J> {
        let oldest_may_go = |network: &Network| {
            let oldest = self.lines.get(network).and_then(|line| line.jobs.front());
            oldest.is_some_and(|job| may_go(*network, job))
        };
        let at = self.turns.iter().position(oldest_may_go)?;
        let network = self.turns.remove(at)?;
        let line = self.lines.get_mut(&network)?;
        let job = line.jobs.pop_front();
        if line.jobs.is_empty() {
            self.lines.remove(&network);
        } else {
            self.turns.push_back(network);
        }
        self.len -= usize::from(job.is_some());
        job
    }

    /// The first job of `network` that is meant.
    fn remove(&mut self, network: Network, is_meant: impl Fn(&J) -> bool) -> Option<J> {
        self.take_out(network, |jobs| jobs.remove(jobs.iter().position(is_meant)?))
    }

    /// Takes a job of `network` out of its turn.
    fn take_out(
        &mut self,
        network: Network,
        which: impl FnOnce(&mut VecDeque<J>) -> Option<J>,
    ) -> Option<J> {
        let line = self.lines.get_mut(&network)?;
        let job = which(&mut line.jobs)?;
        if line.jobs.is_empty() {
            self.lines.remove(&network);
            self.turns.retain(|other| *other != network);
        }
        self.len -= 1;
        Some(job)
    }

    /// The network that gives way to others: that with most jobs, and of those with as many that which used most.
    fn longest_line(&self) -> Option<(usize, u32, Network)> {
        let lines = self.lines.iter();
        lines.map(|(network, line)| (line.jobs.len(), line.used, *network)).max()
    }

    /// Whether another network of the neighbourhood gives way to a job of `network`.
    fn gives_way(&self, network: Network, used: u32) -> bool {
        let own = self.lines.get(&network).map_or(0, |line| line.jobs.len());
        self.longest_line().is_some_and(|(most, its, _)| (most, its) > (own + 1, used))
    }

    /// The newest job of the network that gives way.
    fn displace(&mut self) -> Option<J> {
        let (.., network) = self.longest_line()?;
        self.take_out(network, VecDeque::pop_back)
    }
}

impl<J> FairQueue<J> {
    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many jobs would have their turn before one of `network` that came now: of its own line all, of
    /// each other line in its neighbourhood, and then of each other neighbourhood, as many and one.
    pub(super) fn ahead_of(&self, network: Network) -> usize {
        let neighbourhood = network.neighbourhood();
        let in_turn = |own: usize, others: &mut dyn Iterator<Item = usize>| {
            own + others.map(|length| length.min(own + 1)).sum::<usize>()
        };
        let in_group = self.groups.get(&neighbourhood).map_or(0, |group| {
            let own = group.lines.get(&network).map_or(0, |line| line.jobs.len());
            let others = group.lines.iter().filter(|(other, _)| **other != network);
            in_turn(own, &mut others.map(|(_, line)| line.jobs.len()))
        });
        let others = self.by_length.iter().filter(|(.., other)| *other != neighbourhood);
        in_turn(in_group, &mut others.map(|(length, ..)| *length))
    }

    /// How many jobs there are of networks that may start one, and of the neighbourhood of `network` all.
    pub(super) fn startable(
        &self,
        network: Option<Network>,
        may_start: impl Fn(Network) -> bool,
    ) -> usize {
        let own = network.map(Network::neighbourhood);
        let lines = self.groups.iter().flat_map(|(neighbourhood, group)| {
            let is_own = Some(*neighbourhood) == own;
            group.lines.iter().map(move |(network, line)| (is_own, *network, line.jobs.len()))
        });
        let counted = lines.filter(|(is_own, network, _)| *is_own || may_start(*network));
        counted.map(|(.., length)| length).sum()
    }

    /// The oldest job of each line.
    pub(super) fn oldest(&self) -> impl Iterator<Item = &J> {
        let lines = self.groups.values().flat_map(|group| group.lines.values());
        lines.filter_map(|line| line.jobs.front())
    }

    /// Puts a job at the end of its network's line, which has used so much of late.
    pub(super) fn push(&mut self, network: Network, used: u32, job: J) {
        let neighbourhood = network.neighbourhood();
        let group = self.groups.entry(neighbourhood).or_insert_with(Group::new);
        if group.len == 0 {
            self.turns.push_back(neighbourhood);
        } else {
            self.by_length.remove(&(group.len, group.used, neighbourhood));
        }
        group.push(network, used, job);
        self.by_length.insert((group.len, group.used, neighbourhood));
        self.len += 1;
    }

    /// The oldest job of the first neighbourhood and network in turn, if that may go.
    pub(super) fn pop(&mut self, may_go: impl Fn(Network, &J) -> bool) -> Option<J> {
        for at in 0..self.turns.len() {
            let neighbourhood = *self.turns.get(at)?;
            if let Some(job) = self.take(neighbourhood, |group| group.pop(&may_go)) {
                self.turns.remove(at);
                if self.groups.contains_key(&neighbourhood) {
                    self.turns.push_back(neighbourhood);
                }
                return Some(job);
            }
        }
        None
    }

    /// Takes the first job of `network` out that is meant.
    pub(super) fn remove(&mut self, network: Network, is_meant: impl Fn(&J) -> bool) -> Option<J> {
        self.take_out(network.neighbourhood(), |group| group.remove(network, is_meant))
    }

    /// Makes room for a job of `network`: the newest job of the longest line of whoever gives way.
    pub(super) fn make_room(&mut self, network: Network, used: u32) -> Option<J> {
        self.take_out(self.gives_way(network, used)?, Group::displace)
    }

    /// The neighbourhood that gives way to a job of `network`, which has used so much of late: the one that has
    /// most jobs, if those are more than the own one would have, or as many and it used more. Or the own one,
    /// where another network of it gives way.
    pub(super) fn gives_way(&self, network: Network, used: u32) -> Option<Neighbourhood> {
        let (most, its, busiest) = *self.by_length.last()?;
        let own = network.neighbourhood();
        let group = self.groups.get(&own);
        if (most, its) > (group.map_or(0, |group| group.len) + 1, used) {
            return Some(busiest);
        }
        group.is_some_and(|group| group.gives_way(network, used)).then_some(own)
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a job of a neighbourhood out of its turn.
    fn take_out(
        &mut self,
        neighbourhood: Neighbourhood,
        which: impl FnOnce(&mut Group<J>) -> Option<J>,
    ) -> Option<J> {
        let job = self.take(neighbourhood, which);
        if !self.groups.contains_key(&neighbourhood) {
            self.turns.retain(|other| *other != neighbourhood);
        }
        job
    }

    /// Takes a job of a neighbourhood; its turn is the caller's business.
    fn take(
        &mut self,
        neighbourhood: Neighbourhood,
        which: impl FnOnce(&mut Group<J>) -> Option<J>,
    ) -> Option<J> {
        let group = self.groups.get_mut(&neighbourhood)?;
        let before = group.len;
        let job = which(group)?;
        self.by_length.remove(&(before, group.used, neighbourhood));
        self.len -= 1;
        if group.len == 0 {
            self.groups.remove(&neighbourhood);
        } else {
            self.by_length.insert((group.len, group.used, neighbourhood));
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    fn drain<J>(queue: &mut FairQueue<J>) -> Vec<J> {
        std::iter::from_fn(|| queue.pop(|_, _| true)).collect()
    }

    #[test]
    fn one_neighbourhood_after_the_other_and_in_each_one_network_after_the_other() {
        let mut queue = FairQueue::default();
        for job in 0..3 {
            queue.push(network("10.0.0.1"), 0, ("flood", job));
            queue.push(network("10.0.0.2"), 0, ("beside", job));
        }
        queue.push(network("192.0.2.1"), 0, ("quiet", 0));
        queue.push(network("192.0.2.1"), 0, ("quiet", 1));
        let expected = [
            ("flood", 0),
            ("quiet", 0),
            ("beside", 0),
            ("quiet", 1),
            ("flood", 1),
            ("beside", 1),
            ("flood", 2),
            ("beside", 2),
        ];
        assert_eq!(drain(&mut queue), expected);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn those_ahead_are_counted_by_turns() {
        let mut queue = FairQueue::default();
        for job in 0..10 {
            queue.push(network("10.0.0.1"), 0, job);
        }
        queue.push(network("10.0.1.1"), 0, 10);
        assert_eq!(queue.ahead_of(network("192.0.2.1")), 2, "one of each");
        assert_eq!(queue.ahead_of(network("10.0.1.2")), 3, "its own, and two of the others");
        assert_eq!(
            queue.ahead_of(network("10.0.0.9")),
            2,
            "one of the other line, one of the others"
        );
        assert_eq!(queue.ahead_of(network("10.0.0.1")), 11, "all");
        for newcomer in ["192.0.2.1", "10.0.1.2", "10.0.0.9", "10.0.0.1"] {
            let mut queue = FairQueue::default();
            for job in 0..10 {
                queue.push(network("10.0.0.1"), 0, job);
            }
            queue.push(network("10.0.1.1"), 0, 10);
            let ahead = queue.ahead_of(network(newcomer));
            queue.push(network(newcomer), 0, 99);
            assert_eq!(
                drain(&mut queue).iter().position(|job| *job == 99),
                Some(ahead),
                "{newcomer}"
            );
        }
    }

    #[test]
    fn a_network_that_may_not_start_lets_others_go_first_and_keeps_its_turn() {
        let mut queue = FairQueue::default();
        for (from, job) in [("10.0.0.1", 1), ("10.0.0.2", 2), ("192.0.2.1", 3)] {
            queue.push(network(from), 0, job);
        }
        let held = network("10.0.0.1");
        assert_eq!(queue.pop(|from, _| from != held), Some(2));
        assert_eq!(queue.pop(|from, _| from != held), Some(3));
        assert_eq!(queue.pop(|from, _| from != held), None);
        assert_eq!((queue.len(), queue.pop(|_, _| true)), (1, Some(1)));
    }

    #[test]
    fn a_job_that_is_taken_out_leaves_the_others_their_turns() {
        let mut queue = FairQueue::default();
        let (flood, beside, quiet) =
            (network("10.0.0.1"), network("10.0.0.2"), network("192.0.2.1"));
        for (from, job) in [(flood, 1), (flood, 2), (beside, 3), (quiet, 4)] {
            queue.push(from, 0, job);
        }
        assert_eq!(queue.remove(flood, |job| *job == 3), None, "another network's");
        assert_eq!(queue.remove(flood, |job| *job == 1), Some(1));
        assert_eq!(queue.remove(quiet, |job| *job == 4), Some(4));
        assert_eq!(queue.remove(quiet, |job| *job == 4), None);
        assert_eq!((queue.len(), queue.ahead_of(quiet)), (2, 1));
        queue.push(quiet, 0, 5);
        assert_eq!(drain(&mut queue), [2, 5, 3]);
        assert_eq!((queue.len(), queue.by_length.len(), queue.groups.len()), (0, 0, 0));
    }

    #[test]
    fn room_is_made_by_the_busiest_neighbourhood_for_quieter_ones_only() {
        let mut queue = FairQueue::default();
        for job in 0..10 {
            let from = if job < 6 { "10.0.0.1" } else { "10.0.0.2" };
            queue.push(network(from), 0, job);
        }
        assert_eq!(queue.make_room(network("10.0.0.1"), 0), None, "nobody displaces its own");
        assert_eq!(queue.make_room(network("192.0.2.1"), 0), Some(5), "of the longest line");
        for job in 0..7 {
            queue.push(network("192.0.2.1"), 0, 100 + job);
        }
        assert_eq!(queue.make_room(network("192.0.2.1"), 0), Some(4));
        queue.push(network("192.0.2.1"), 0, 107);
        assert_eq!(queue.make_room(network("192.0.2.1"), 0), None, "eight against eight");
        assert_eq!(drain(&mut queue).len(), 16);
        assert_eq!((queue.len(), queue.make_room(network("10.9.9.9"), 0)), (0, None));
    }
    #[test]
    fn of_as_many_jobs_those_of_whoever_used_more_of_late_give_way() {
        let mut queue = FairQueue::default();
        for (from, used) in [("10.0.0.1", 3), ("10.0.1.1", 7), ("10.0.2.1", 0)] {
            queue.push(network(from), used, from);
        }
        let newcomer = network("192.0.2.1");
        assert_eq!(queue.make_room(newcomer, 7), None, "as often");
        assert_eq!(queue.make_room(newcomer, 3), Some("10.0.1.1"));
        queue.push(newcomer, 3, "newcomer");
        assert_eq!(
            queue.make_room(newcomer, 0),
            None,
            "nobody displaces its own, or for a second job"
        );
        assert_eq!(queue.make_room(network("192.0.3.1"), 0), Some("newcomer"));
        assert_eq!(queue.make_room(network("192.0.3.1"), 0), Some("10.0.0.1"));
        assert_eq!(queue.make_room(network("192.0.3.1"), 0), None);
        // In a neighbourhood, too: who shares it with somebody who guesses has its turn.
        queue.push(network("10.0.2.9"), 9, "10.0.2.9");
        assert_eq!(queue.make_room(network("10.0.2.7"), 9), None);
        assert_eq!(queue.make_room(network("10.0.2.7"), 2), Some("10.0.2.9"));
        assert_eq!(drain(&mut queue), ["10.0.2.1"]);
        assert_eq!((queue.len(), queue.by_length.len(), queue.groups.len()), (0, 0, 0));
    }

    #[test]
    fn jobs_that_may_not_start_are_in_nobodys_way_but_their_own_neighbourhoods() {
        let mut queue = FairQueue::default();
        for job in 0..3 {
            for from in ["10.0.0.1", "10.0.0.2", "192.0.2.1"] {
                queue.push(network(from), 0, job);
            }
        }
        let none_of_10 = |from| from == network("192.0.2.1");
        assert_eq!(queue.startable(None, none_of_10), 3);
        assert_eq!(queue.startable(Some(network("198.51.100.1")), none_of_10), 3);
        assert_eq!(queue.startable(Some(network("10.0.0.3")), none_of_10), 9, "six of its own");
        assert_eq!(queue.oldest().count(), 3);
    }
}
