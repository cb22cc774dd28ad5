//! What the rules of contract section 6 promise, of the throttle as a whole.

use super::*;

const RULES: AccountRules = AccountRules {
    free: 5,
    longest_delay: Duration::from_mins(15),
    everywhere: 100,
    interval: Duration::from_hours(1),
};
const ASHA: u64 = 7;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_000_000 + seconds) * 1_000_000)
}

fn network(number: u64) -> Network {
    Network::from_number(number)
}

fn candidate(from: u64, known: bool) -> Candidate {
    Candidate { account: ASHA, network: network(from), known: Some(known) }
}

/// Fails once: `None` when it was taken, otherwise the rule and the seconds.
fn fail(throttle: &Throttle, from: u64, now: Timestamp) -> Option<(Rule, u64)> {
    match throttle.admit(candidate(from, false), &RULES, now) {
        Admission::Granted(attempt) => {
            attempt.failed(&RULES, now);
            None
        }
        Admission::Refused(Throttled { rule, retry_after }) => Some((rule, retry_after.as_secs())),
        _ => panic!("no answer"),
    }
}

fn granted(throttle: &Throttle, who: Candidate, now: Timestamp) -> Option<Attempt<'_>> {
    match throttle.admit(who, &RULES, now) {
        Admission::Granted(attempt) => Some(attempt),
        _ => None,
    }
}

#[test]
fn five_are_free_and_then_each_wait_doubles_up_to_a_quarter_of_an_hour() {
    let throttle = Throttle::default();
    let mut now = at(0);
    for _ in 0..5 {
        assert_eq!(fail(&throttle, 1, now), None);
    }
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        assert_eq!(fail(&throttle, 1, now), Some((Rule::Network, wait)));
        assert_eq!(fail(&throttle, 2, now), None, "another network is another matter");
        granted(&throttle, candidate(2, true), now).unwrap().succeeded(now);
        now = now.plus(Duration::from_secs(wait));
        assert_eq!(fail(&throttle, 1, now), None);
    }
}

#[test]
fn success_clears_and_a_day_forgets() {
    let throttle = Throttle::default();
    for _ in 0..5 {
        fail(&throttle, 1, at(0));
    }
    granted(&throttle, candidate(1, false), at(1)).unwrap().succeeded(at(1));
    assert_eq!(throttle.held(ASHA, at(1)), []);
    for _ in 0..5 {
        assert_eq!(fail(&throttle, 1, at(2)), None);
    }
    assert_eq!(fail(&throttle, 1, at(2)), Some((Rule::Network, 1)));
    let later = at(2).plus(FORGOTTEN_AFTER);
    assert_eq!(throttle.held(ASHA, later), []);
    for _ in 0..5 {
        assert_eq!(fail(&throttle, 1, later), None);
    }
}

#[test]
fn guesses_in_parallel_get_no_further_than_guesses_one_by_one() {
    let throttle = Throttle::default();
    let under_way: Vec<_> =
        (0..20).filter_map(|_| granted(&throttle, candidate(1, false), at(0))).collect();
    assert_eq!(under_way.len(), 5);
    assert!(matches!(throttle.admit(candidate(1, false), &RULES, at(0)), Admission::Later));
    drop(under_way);
    assert!(granted(&throttle, candidate(1, false), at(0)).is_some(), "none of them was made");
    for attempt in (0..5).map(|_| granted(&throttle, candidate(1, false), at(0)).unwrap()) {
        attempt.failed(&RULES, at(0));
    }
    let only = granted(&throttle, candidate(1, false), at(1));
    assert!(only.is_some() && granted(&throttle, candidate(1, false), at(1)).is_none());
}

#[test]
fn after_a_hundred_failures_from_everywhere_new_networks_try_once_an_hour() {
    let throttle = Throttle::default();
    for from in 10..110 {
        assert_eq!(fail(&throttle, from, at(0)), None);
    }
    assert_eq!(fail(&throttle, 500, at(0)), Some((Rule::Account, 3600)));
    assert_eq!(fail(&throttle, 501, at(3600)), None);
    assert_eq!(fail(&throttle, 502, at(3601)), Some((Rule::Account, 3599)));
    let unasked = Candidate { known: None, ..candidate(503, false) };
    assert!(matches!(throttle.admit(unasked, &RULES, at(3601)), Admission::AskNetwork));
    for second in 0..1000 {
        let owner = granted(&throttle, candidate(9, true), at(3602 + second));
        owner.unwrap().succeeded(at(3602 + second));
    }
    assert!(matches!(fail(&throttle, 504, at(4602)), Some((Rule::Account, _))));
    // The hour's one try is given back when it is not made.
    assert!(granted(&throttle, candidate(600, false), at(7200)).is_some());
    let owner_abroad = granted(&throttle, candidate(601, false), at(7200)).unwrap();
    owner_abroad.succeeded(at(7200));
    assert_eq!(fail(&throttle, 602, at(7200)), None, "a success from a new network clears");
}

#[test]
fn an_unlocked_account_is_free_at_once() {
    let throttle = Throttle::default();
    for from in 10..110 {
        fail(&throttle, from, at(0));
    }
    for _ in 0..4 {
        fail(&throttle, 10, at(0));
    }
    assert_eq!(throttle.held(ASHA, at(0)).len(), 101);
    throttle.unlock(ASHA, at(0));
    assert_eq!(throttle.held(ASHA, at(0)), []);
    assert_eq!(fail(&throttle, 10, at(0)), None);
    let changed = throttle.changed(at(0));
    assert!(changed.iter().any(|held| held.network.is_some() && held.failures == 0));
}

#[test]
fn a_restart_lets_nobody_try_again() {
    let before = Throttle::default();
    for _ in 0..5 {
        fail(&before, 10, at(0));
    }
    for from in 11..106 {
        fail(&before, from, at(0));
    }
    let kept = before.changed(at(0));
    assert_eq!(before.changed(at(0)), []);
    before.not_kept(&kept[..1]);
    assert_eq!(before.changed(at(0)), kept[..1]);
    let after = Throttle::default();
    after.restore(&kept, at(1));
    assert!(matches!(fail(&after, 10, at(0)), Some((Rule::Network, 1))));
    assert!(matches!(fail(&after, 999, at(1)), Some((Rule::Account, 3599))));
}

#[test]
fn a_clock_that_went_back_holds_nobody_for_longer_than_the_rules_say() {
    let throttle = Throttle::default();
    for _ in 0..5 {
        fail(&throttle, 1, at(1_000_000));
    }
    assert_eq!(fail(&throttle, 1, at(0)), Some((Rule::Network, 1)));
}

#[test]
fn the_wait_is_for_the_last_network_too_however_many_there_are() {
    let throttle = Throttle::default();
    for _ in 0..5 {
        fail(&throttle, 1, at(0));
    }
    for account in 1000..200_000 {
        let stranger = Candidate { account, ..candidate(2, false) };
        granted(&throttle, stranger, at(0)).unwrap().failed(&RULES, at(0));
    }
    assert!(matches!(fail(&throttle, 1, at(0)), Some((Rule::Network, 1))));
    assert!(throttle.entries()[0] <= ACCOUNTS);
}
