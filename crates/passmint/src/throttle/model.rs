//! The rules of failed logins, explored: every sequence of a few attempts, outcomes and pauses over
//! small limits, and random schedules of clients that wait, hang up and come back.

use std::collections::HashSet;

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const RULES: LoginRules = LoginRules {
    network: Ladder { free: 2, longest_delay: Duration::from_secs(4) },
    neighbourhood: Ladder { free: 3, longest_delay: Duration::from_secs(4) },
    everywhere: 2,
    all_users: Rate { burst: 3, every: Duration::from_mins(1) },
};

/// Two senders of one neighbourhood, of which the first is the owner's, and a stranger elsewhere.
const NEIGHBOURHOOD: [usize; 3] = [0, 0, 1];
const KNOWN: [KnownOrigin; 3] = [
    KnownOrigin { network: true, neighbourhood: true },
    KnownOrigin { network: false, neighbourhood: true },
    KnownOrigin { network: false, neighbourhood: false },
];

/// All tables of one account and three senders, and what is under way.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    networks: [Failures; 3],
    neighbourhoods: [NeighbourhoodFailures; 2],
    account: AccountFailures,
    senders: [SenderFailures; 3],
    under_way: Vec<(usize, Places)>,
    now: i64,
}

impl World {
    fn new() -> Self {
        Self {
            networks: Default::default(),
            neighbourhoods: Default::default(),
            account: AccountFailures::default(),
            senders: Default::default(),
            under_way: Vec::new(),
            now: 1_000_000_000_000_000,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn view(&self, sender: usize) -> View {
        View {
            network: self.networks[sender],
            neighbourhood: self.neighbourhoods[NEIGHBOURHOOD[sender]],
            account: self.account,
            sender: self.senders[sender],
        }
    }

    fn put(&mut self, sender: usize, view: View) {
        self.networks[sender] = view.network;
        self.neighbourhoods[NEIGHBOURHOOD[sender]] = view.neighbourhood;
        self.account = view.account;
        self.senders[sender] = view.sender;
    }

    fn admit(&self, sender: usize) -> (Self, Decision) {
        let mut next = self.clone();
        let mut view = self.view(sender);
        let decision = view.admit(Some(KNOWN[sender]), &RULES, self.now());
        next.put(sender, view);
        if let Decision::Granted(places) = decision {
            next.under_way.push((sender, places));
        }
        (next, decision)
    }

    fn settle(&self, index: usize, how: usize) -> Self {
        let mut next = self.clone();
        let (sender, places) = next.under_way.remove(index);
        let mut view = next.view(sender);
        match how {
            0 => view.failed(&places, &RULES, self.now()),
            1 => drop(view.succeeded(&places, false, self.now())),
            _ => view.withdrawn(&places),
        }
        next.put(sender, view);
        next
    }

    fn later(&self, by: Duration) -> Self {
        Self { now: self.now().plus(by).micros(), ..self.clone() }
    }

    /// What must hold in every state.
    fn check(&self) {
        for sender in 0..3 {
            let of = |wanted: usize| self.under_way.iter().filter(|(s, _)| *s == wanted).count();
            let failures = self.networks[sender];
            assert_eq!(failures.under_way as usize, of(sender), "places are neither lost nor made");
            let most = RULES.network.free.saturating_sub(failures.count).max(1);
            assert!(failures.under_way <= most.max(RULES.network.free), "too many under way");
            let (next, decision) = self.admit(sender);
            match decision {
                Decision::Granted(_) => {}
                Decision::AskKnown => panic!("it was said"),
                Decision::Refused(throttled) => {
                    assert!(next == *self || self.has_old(), "a refusal changes something");
                    assert!(!throttled.retry_after.is_zero() && throttled.retry_after <= HOUR);
                }
                Decision::Wait(_) => {
                    assert!(next == *self || self.has_old(), "waiting changes something");
                    assert!(!self.under_way.is_empty(), "it waits for nothing");
                }
            }
        }
        if self.under_way.is_empty() {
            let (_, owner) = self.later(Duration::from_mins(4)).admit(0);
            assert!(matches!(owner, Decision::Granted(_)), "the owner waits for more than minutes");
            if self.neighbourhoods[1] == NeighbourhoodFailures::default() {
                let (_, newcomer) = self.later(HOUR).admit(2);
                assert!(matches!(newcomer, Decision::Granted(_)), "a newcomer waits over an hour");
            }
        }
    }

    fn has_old(&self) -> bool {
        let old = |failures: &Failures| failures.count > 0 && failures.is_old(self.now());
        self.networks.iter().any(old)
            || self.neighbourhoods.iter().any(|n| old(&n.failures))
            || self.account.is_old(self.now())
    }
}

#[test]
fn every_short_history_keeps_the_rules() {
    let mut seen = HashSet::new();
    let mut states = vec![World::new()];
    for _ in 0..8 {
        let mut next = Vec::new();
        for world in states {
            if !seen.insert(world.clone()) {
                continue;
            }
            world.check();
            next.extend((0..3).map(|sender| world.admit(sender)).filter_map(|(next, decision)| {
                matches!(decision, Decision::Granted(_)).then_some(next)
            }));
            for index in 0..world.under_way.len() {
                next.extend((0..3).map(|how| world.settle(index, how)));
            }
            next.extend([1, 180, 3600, 90_000].map(|s| world.later(Duration::from_secs(s))));
        }
        states = next;
    }
    states.iter().for_each(World::check);
    assert!(seen.len() > 20_000, "{} states", seen.len());
}

/// The first who has been woken.
fn woken<'a>(waiting: &mut Vec<(usize, Waiting<'a>)>) -> Option<(usize, Waiting<'a>)> {
    let at = waiting.iter_mut().position(|(_, one)| one.freed.try_recv().is_ok())?;
    Some(waiting.swap_remove(at))
}

/// Whatever the order in which clients ask, wait, fail and hang up: when nothing is under way any more,
/// nobody waits who could go on.
#[test]
fn no_schedule_of_waiting_clients_loses_a_wake() {
    let mut random = 1_u64;
    let mut draw = move |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    for _ in 0..3000 {
        let throttle = Throttle::default();
        let now = Timestamp::from_micros(1_000_000_000_000_000);
        let attempt = |sender: usize| LoginAttempt {
            account: 1,
            network: Network::of(["192.0.2.1", "192.0.2.2", "10.0.0.1"][sender].parse().unwrap()),
            known: Some(KNOWN[sender]),
            presented: Presented { credentials: 1, client: 1 },
        };
        let mut under_way: Vec<Admitted<'_>> = Vec::new();
        let mut waiting: Vec<(usize, Waiting<'_>)> = Vec::new();
        let ask = |sender: usize, under_way: &mut Vec<_>, waiting: &mut Vec<_>| match throttle
            .admit(&attempt(sender), &RULES, now)
        {
            Admission::Granted(admitted) => under_way.push(admitted),
            Admission::Wait(one) => waiting.push((sender, one)),
            _ => {}
        };
        for _ in 0..24 {
            match draw(5) {
                0 | 1 => ask(draw(3), &mut under_way, &mut waiting),
                2 if !under_way.is_empty() => {
                    let one = under_way.swap_remove(draw(under_way.len()));
                    match draw(3) {
                        0 => drop(one.failed(now)),
                        1 => one.succeeded(now),
                        _ => drop(one),
                    }
                }
                3 if !waiting.is_empty() => drop(waiting.swap_remove(draw(waiting.len()))),
                _ => {
                    if let Some((sender, before)) = woken(&mut waiting) {
                        ask(sender, &mut under_way, &mut waiting);
                        drop(before);
                    }
                }
            }
        }
        under_way.clear();
        let mut rounds = 0;
        while let Some((sender, before)) = woken(&mut waiting) {
            ask(sender, &mut under_way, &mut waiting);
            drop(before);
            under_way.clear();
            rounds += 1;
            assert!(rounds < 1000, "waiters wake each other for ever");
        }
        assert!(waiting.is_empty(), "{} wait for a place that is free", waiting.len());
    }
}
