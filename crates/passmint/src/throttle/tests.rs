//! What the rules of contract section 6 promise, of the throttle as a whole.

use super::*;

const RULES: LoginRules = LoginRules {
    network: Ladder { free: 5, longest_delay: Duration::from_mins(15) },
    neighbourhood: Ladder { free: 20, longest_delay: Duration::from_mins(15) },
    everywhere: 100,
    all_users: Rate { burst: 100, every: Duration::from_mins(1) },
};
const ASHA: u64 = 7;
const STRANGER: KnownOrigin = KnownOrigin { network: false, neighbourhood: false };
const NEIGHBOUR: KnownOrigin = KnownOrigin { network: false, neighbourhood: true };
const OWNER: KnownOrigin = KnownOrigin { network: true, neighbourhood: true };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_000_000 + seconds) * 1_000_000)
}

fn attempt(from: &str, known: KnownOrigin, password: u128) -> LoginAttempt {
    LoginAttempt {
        account: ASHA,
        network: Network::of(from.parse().unwrap()),
        known: Some(known),
        presented: Presented { credentials: password, client: 1 },
    }
}

/// A guess that no other guess repeats.
fn guess(from: &str) -> LoginAttempt {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    attempt(from, STRANGER, NEXT.fetch_add(1, Ordering::Relaxed).into())
}

fn admitted<'a>(throttle: &'a Throttle, a: &LoginAttempt, now: Timestamp) -> Option<Admitted<'a>> {
    match throttle.admit(a, &RULES, now) {
        Admission::Granted(admitted) => Some(admitted),
        _ => None,
    }
}

/// Fails once: `None` when the password was looked at, otherwise the rule and the seconds to wait.
fn fail(throttle: &Throttle, attempt: &LoginAttempt, now: Timestamp) -> Option<(Rule, u64)> {
    match throttle.admit(attempt, &RULES, now) {
        Admission::Granted(admitted) => {
            admitted.failed(now);
            None
        }
        Admission::Refused(Throttled { rule, retry_after }) => Some((rule, retry_after.as_secs())),
        _ => panic!("no answer"),
    }
}

fn succeed(throttle: &Throttle, attempt: &LoginAttempt, now: Timestamp) {
    admitted(throttle, attempt, now).unwrap().succeeded(now);
}

#[test]
fn five_are_free_and_then_each_wait_doubles_up_to_a_quarter_of_an_hour() {
    let throttle = Throttle::default();
    let mut now = at(0);
    for _ in 0..5 {
        assert_eq!(fail(&throttle, &guess("192.0.2.1"), now), None);
    }
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        assert_eq!(fail(&throttle, &guess("192.0.2.1"), now), Some((Rule::Network, wait)));
        assert!(admitted(&throttle, &guess("192.0.2.2"), now).is_some(), "another network");
        now = now.plus(Duration::from_secs(wait));
        assert_eq!(fail(&throttle, &guess("192.0.2.1"), now), None);
    }
}

#[test]
fn success_forgives_twenty_failures_an_hour_and_a_day_forgets_all() {
    let throttle = Throttle::default();
    let owner = attempt("192.0.2.1", OWNER, 1);
    for round in 0..4 {
        for _ in 0..5 {
            assert_eq!(fail(&throttle, &guess("192.0.2.1"), at(2 * round)), None, "{round}");
        }
        succeed(&throttle, &owner, at(2 * round + 1));
    }
    for _ in 0..5 {
        assert_eq!(fail(&throttle, &guess("192.0.2.1"), at(8)), None);
    }
    succeed(&throttle, &owner, at(9));
    assert!(fail(&throttle, &guess("192.0.2.1"), at(9)).is_none(), "its second is over");
    assert_eq!(fail(&throttle, &guess("192.0.2.1"), at(9)), Some((Rule::Network, 2)));
    let later = at(9).plus(FORGOTTEN_AFTER);
    assert_eq!(throttle.lockouts(ASHA, later), []);
    for _ in 0..5 {
        assert_eq!(fail(&throttle, &guess("192.0.2.1"), later), None);
    }
}

#[test]
fn guesses_in_parallel_get_no_further_than_guesses_one_by_one() {
    let throttle = Throttle::default();
    let from = attempt("192.0.2.1", STRANGER, 1);
    let under_way: Vec<_> = (0..20).filter_map(|_| admitted(&throttle, &from, at(0))).collect();
    assert_eq!(under_way.len(), 5);
    assert!(matches!(throttle.admit(&from, &RULES, at(0)), Admission::Wait(_)));
    drop(under_way);
    assert!(admitted(&throttle, &from, at(0)).is_some(), "none of them was made");
    let all: Vec<_> = (0..5).map(|_| admitted(&throttle, &from, at(0)).unwrap()).collect();
    for admitted in all {
        admitted.failed(at(0));
    }
    let only = admitted(&throttle, &from, at(1));
    assert!(only.is_some() && admitted(&throttle, &from, at(1)).is_none());
}

#[test]
fn twenty_failures_of_a_neighbourhood_are_free_and_its_owner_goes_on() {
    let throttle = Throttle::default();
    let mut tried = 0;
    for host in 1..=250 {
        let from = format!("198.51.100.{host}");
        tried += u32::from(fail(&throttle, &guess(&from), at(0)).is_none());
        if host % 4 == 0 {
            succeed(&throttle, &attempt("198.51.100.7", OWNER, 1), at(0));
        }
    }
    // 20 free, 20 that the owner's logins forgive in the hour.
    assert_eq!(tried, 40);
    let stranger = fail(&throttle, &guess("198.51.100.250"), at(0));
    assert_eq!(stranger, Some((Rule::Neighbourhood, 1)));
}

#[test]
fn one_party_with_a_slash_48_counts_once_and_locks_nobody_out() {
    let throttle = Throttle::default();
    let tried = (0..1000)
        .filter(|n| fail(&throttle, &guess(&format!("2001:db8:0:{n:x}::1")), at(0)).is_none())
        .count();
    assert_eq!(tried, 20);
    assert!(admitted(&throttle, &attempt("203.0.113.1", STRANGER, 1), at(0)).is_some());
    assert!(admitted(&throttle, &attempt("2001:db8:1::1", STRANGER, 1), at(0)).is_some());
}

#[test]
fn after_a_hundred_neighbourhoods_one_attempt_an_hour_goes_to_one_without_failures() {
    let throttle = Throttle::default();
    for third in 0..100 {
        assert_eq!(fail(&throttle, &guess(&format!("10.0.{third}.1")), at(0)), None);
    }
    assert_eq!(fail(&throttle, &guess("10.1.0.1"), at(0)), Some((Rule::Account, 3600)));
    for second in 0..100 {
        let owner = attempt("192.0.2.1", NEIGHBOUR, 1);
        succeed(&throttle, &owner, at(second));
    }
    assert_eq!(fail(&throttle, &guess("10.1.0.1"), at(3600)), None);
    assert_eq!(fail(&throttle, &guess("10.1.1.1"), at(3601)), Some((Rule::Account, 3599)));
    // Those that failed wait until nobody else has wanted it for an hour.
    assert!(fail(&throttle, &guess("10.0.5.2"), at(7200)).is_some());
    let newcomer = admitted(&throttle, &attempt("10.2.0.1", STRANGER, 1), at(7200)).unwrap();
    drop(newcomer);
    let newcomer = admitted(&throttle, &attempt("10.2.0.1", STRANGER, 1), at(7200));
    newcomer.expect("what was not made is given back").succeeded(at(7200));
    assert!(admitted(&throttle, &attempt("10.2.1.1", STRANGER, 1), at(7200)).is_some());
    // Once a day, where there was a failure within it: nobody else has wanted it.
    assert_eq!(fail(&throttle, &guess("10.2.2.1"), at(40_000)), None);
    assert!(fail(&throttle, &guess("10.0.5.2"), at(80_000)).is_some());
    assert_eq!(fail(&throttle, &guess("10.2.2.1"), at(90_000)), None, "the day is over");
}

#[test]
fn all_strangers_together_have_a_hundred_and_twenty_attempts_in_any_hour() {
    let throttle = Throttle::default();
    let mut tried = Vec::new();
    for second in 0..4 * 3600 {
        let from = format!("10.0.{}.{}", second % 90, second / 90 % 250 + 1);
        if fail(&throttle, &guess(&from), at(second)).is_none() {
            tried.push(second);
        }
    }
    let most = (0..tried.len())
        .map(|first| tried[first..].iter().take_while(|t| **t < tried[first] + 3600).count())
        .max();
    assert!((100..=120).contains(&most.unwrap()), "{most:?}");
}

#[test]
fn neighbourhoods_that_failed_do_not_take_a_newcomers_attempt() {
    let throttle = Throttle::default();
    let mut refused = 0;
    for second in 0..6 * 3600 {
        for guesses in 0..4 {
            let from = format!("10.0.{}.{}", (second + guesses) % 6, second % 250 + 1);
            fail(&throttle, &guess(&from), at(second));
        }
        if second % 60 == 30 {
            let newcomer = attempt(&format!("10.9.{}.1", second / 60 % 250), STRANGER, 1);
            refused += u32::from(admitted(&throttle, &newcomer, at(second)).is_none());
        }
    }
    assert_eq!(refused, 0);
}

#[test]
fn a_network_fails_a_hundred_times_over_all_usernames_and_then_once_a_minute() {
    let throttle = Throttle::default();
    let of = |account, known| LoginAttempt { account, known: Some(known), ..guess("192.0.2.1") };
    for account in 100..200 {
        assert_eq!(fail(&throttle, &of(account, STRANGER), at(0)), None);
    }
    assert_eq!(fail(&throttle, &of(500, STRANGER), at(0)), Some((Rule::AllUsers, 60)));
    assert_eq!(fail(&throttle, &of(501, OWNER), at(0)), None, "users of that network are apart");
    assert_eq!(fail(&throttle, &of(502, STRANGER), at(60)), None);
    assert_eq!(fail(&throttle, &of(503, STRANGER), at(60)), Some((Rule::AllUsers, 60)));
    let elsewhere = LoginAttempt { account: 504, ..guess("192.0.2.2") };
    assert_eq!(fail(&throttle, &elsewhere, at(60)), None);
}

#[test]
fn what_was_right_a_moment_ago_passes_without_a_count() {
    let throttle = Throttle::default();
    let owner = attempt("192.0.2.1", OWNER, 1);
    succeed(&throttle, &owner, at(0));
    for _ in 0..5 {
        assert_eq!(fail(&throttle, &guess("192.0.2.1"), at(1)), None);
    }
    for second in 1..30 {
        assert!(fail(&throttle, &guess("192.0.2.1"), at(1)).is_some());
        succeed(&throttle, &owner, at(1).plus(Duration::from_millis(second)));
    }
    let parallel: Vec<_> = (0..50).filter_map(|_| admitted(&throttle, &owner, at(1))).collect();
    assert_eq!(parallel.len(), 50);
    drop(parallel);
    let elsewhere = LoginAttempt { network: Network::of("192.0.2.9".parse().unwrap()), ..owner };
    for _ in 0..5 {
        assert_eq!(fail(&throttle, &elsewhere, at(2)), None);
    }
    assert!(fail(&throttle, &elsewhere, at(2)).is_some(), "another network");
}

#[test]
fn an_unlocked_account_is_free_at_once() {
    let throttle = Throttle::default();
    for third in 0..100 {
        fail(&throttle, &guess(&format!("10.0.{third}.1")), at(0));
    }
    // 201, less those that met in a full set of a table: once in 600 runs one.
    assert!(throttle.lockouts(ASHA, at(0)).len() > 195);
    throttle.unlock(ASHA);
    assert_eq!(throttle.lockouts(ASHA, at(0)), []);
    assert_eq!(fail(&throttle, &guess("10.0.10.1"), at(0)), None);
    let changed = throttle.changed(at(0), |_| true);
    assert!(changed.iter().any(|e| matches!(e.scope, Scope::Network(_)) && e.failures == 0));
}

#[test]
fn a_restart_lets_nobody_try_again() {
    let before = Throttle::default();
    let owner = attempt("10.1.0.1", OWNER, 1);
    for _ in 0..5 {
        fail(&before, &owner, at(0));
    }
    for third in 0..100 {
        fail(&before, &guess(&format!("10.0.{third}.1")), at(0));
    }
    let kept = before.changed(at(0), |_| true);
    assert_eq!(before.changed(at(0), |_| true), []);
    before.not_kept(&kept[..1]);
    assert_eq!(before.changed(at(0), |_| true), kept[..1]);
    let after = Throttle::default();
    after.restore(&kept, at(0));
    assert_eq!(fail(&after, &owner, at(0)), Some((Rule::Network, 1)));
    assert_eq!(fail(&after, &guess("10.9.9.9"), at(1)), Some((Rule::Account, 3599)));
}

#[test]
fn a_clock_that_went_back_makes_nobody_wait_longer_than_the_rules_say() {
    let throttle = Throttle::default();
    for _ in 0..5 {
        fail(&throttle, &guess("192.0.2.1"), at(500_000));
    }
    assert_eq!(fail(&throttle, &guess("192.0.2.1"), at(0)), Some((Rule::Network, 1)));
}

#[test]
fn a_flood_of_made_up_names_displaces_nobody_who_waits() {
    let throttle = Throttle::default();
    for _ in 0..5 {
        fail(&throttle, &guess("192.0.2.1"), at(0));
    }
    for account in 1000..400_000_u64 {
        let from = Network::from_number(u64::MAX - account);
        let stranger = LoginAttempt { account, network: from, ..guess("192.0.2.1") };
        admitted(&throttle, &stranger, at(0)).unwrap().failed(at(0));
    }
    assert_eq!(fail(&throttle, &guess("192.0.2.1"), at(0)), Some((Rule::Network, 1)));
    let [networks, accounts, senders] = throttle.entries();
    assert!(networks <= NETWORKS + NEIGHBOURHOODS && accounts <= ACCOUNTS && senders <= SENDERS);
}

#[tokio::test]
async fn one_waiter_is_woken_for_each_place_that_is_freed() {
    let throttle = Throttle::default();
    let from = attempt("192.0.2.1", STRANGER, 1);
    let mut under_way: Vec<_> =
        (0..5).map(|_| admitted(&throttle, &from, at(0)).unwrap()).collect();
    let waiting = || match throttle.admit(&from, &RULES, at(0)) {
        Admission::Wait(waiting) => waiting,
        _ => panic!("there is room"),
    };
    let (mut first, mut second) = (waiting(), waiting());
    let soon = Duration::from_millis(20);
    under_way.pop();
    tokio::time::timeout(soon, first.freed()).await.expect("a place is free");
    assert!(tokio::time::timeout(soon, second.freed()).await.is_err(), "and only one");
    // The first goes away without taking its place: the second must hear of it.
    drop(first);
    tokio::time::timeout(soon, second.freed()).await.expect("the place is passed on");
    let taken = admitted(&throttle, &from, at(0)).unwrap();
    drop(second);
    drop((taken, under_way));
    assert!(throttle.accounts.iter().all(|shard| shard.lock().waiters.len() == 0));
}
