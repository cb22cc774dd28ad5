//! Who is let in, on a pool that has no threads: nothing ends, and no time passes.

use super::super::core::Core;
use super::super::price::Price;
use super::*;

const DEAR: Scheme = Scheme::Bcrypt { cost: 14 };
const MAX_WAIT: Duration = Duration::from_secs(2);

struct Nobody;

impl HashSink for Nobody {
    fn hashed(&self, _: Duration, _: Duration) {}
}

/// Of two threads, where an imported hash takes a second and an own one as long as is said.
fn pool(hash_time: Duration) -> HashingPool {
    let params = Argon2Params { memory_kib: 64, passes: 1, lanes: 1 };
    let settings = PoolSettings { threads: 2, params };
    let pool = HashingPool::without_threads(settings, Arc::new(Nobody), Backend::Portable);
    let mut state = pool.shared.state.lock();
    state.hash_time = hash_time;
    state.prices.learn(&[DEAR]);
    let second = Duration::from_secs(1);
    state.prices.measured(DEAR, Price { elapsed: 5 * second, processor: second });
    drop(state);
    pool
}

fn turn(from: &str) -> Turn {
    let network = Network::of(from.parse().unwrap());
    Turn { network, max_wait: MAX_WAIT, client_gone: CancellationToken::new() }
}

type Answered = oneshot::Receiver<Result<Checked, Overloaded>>;

/// Has a password of nobody verified.
fn verify(pool: &HashingPool, from: &str) -> Result<Answered, Overloaded> {
    let (answer, answered) = oneshot::channel();
    let work = Work::Verify(Password::new("any".to_owned()), None, answer);
    pool.submit(work, &turn(from)).map(|_| answered)
}

/// Has an imported hash wait for its turn.
fn wait_for_an_imported_hash(pool: &HashingPool, from: &str) {
    pool.shared.state.lock().push_foreign(turn(from).network, ForeignWork::Measure(DEAR));
}

fn use_up(pool: &HashingPool, from: &str, was_right: bool, times: usize) {
    let mut state = pool.shared.state.lock();
    (0..times).for_each(|_| state.usage.note(turn(from).network, was_right, Instant::now()));
}

#[test]
fn neighbourhoods_that_fail_leave_room_among_the_imported_hashes_for_those_that_do_not() {
    let pool = pool(Duration::ZERO);
    pool.shared.state.lock().foreign.running = 2;
    let mut let_in = 0;
    for number in 0..50 {
        let attacker = format!("10.0.{number}.1");
        use_up(&pool, &attacker, false, 8);
        if pool.admit(&turn(&attacker)).is_ok() {
            wait_for_an_imported_hash(&pool, &attacker);
            let_in += 1;
        }
    }
    assert_eq!(let_in, 1, "it would wait half a second, and the next one more than it may");
    for newcomer in ["192.0.2.1", "192.0.3.1"] {
        assert_eq!(pool.admit(&turn(newcomer)), Ok(()));
        wait_for_an_imported_hash(&pool, newcomer);
    }
    // There is an end for them, too: what is let in must be answered in time.
    let late = turn("192.0.4.1");
    assert!(pool.admit(&late).is_err());
    let (answer, _answered) = oneshot::channel();
    let hash = Work::Hash(Password::new("any".to_owned()), answer);
    assert!(pool.submit(hash, &late).is_ok(), "a new hash waits for no imported one");
}

#[test]
fn how_long_an_imported_hash_waits_behind_those_that_wait_and_half_of_those_that_are_computed() {
    let pool = pool(Duration::from_millis(100));
    let newcomer = turn("192.0.2.1").network;
    let foreign_wait = || {
        let state = pool.shared.state.lock();
        pool.shared.expected_foreign_wait(&state, newcomer).as_millis()
    };
    for (running, wait) in [(0, 0), (1, 0), (2, 500), (3, 750)] {
        pool.shared.state.lock().foreign.running = running;
        assert_eq!(foreign_wait(), wait, "{running} are computed, none waits");
    }
    wait_for_an_imported_hash(&pool, "198.51.100.1");
    for (running, wait) in [(0, 500), (1, 750), (2, 1000)] {
        pool.shared.state.lock().foreign.running = running;
        assert_eq!(foreign_wait(), wait, "{running} are computed, one waits");
    }
    let mut state = pool.shared.state.lock();
    state.own.running = 2;
    assert_eq!(pool.shared.expected_wait(&state, newcomer).as_millis(), 1100, "an own one before");
}

#[test]
fn those_that_were_let_in_together_are_asked_again_before_they_begin() {
    let pool = pool(Duration::ZERO);
    let together = (0..5).map(|number| verify(&pool, &format!("192.0.{number}.1")).unwrap());
    let together: Vec<_> = together.collect();
    let (answer, mut last) = oneshot::channel();
    let hash = Work::Hash(Password::new("any".to_owned()), answer);
    pool.submit(hash, &turn("192.0.9.1")).unwrap();
    // Others of them were of imported hashes.
    pool.shared.state.lock().foreign.running = 2;
    for number in 0..3 {
        wait_for_an_imported_hash(&pool, &format!("198.51.{number}.1"));
    }
    let (next, _) = pool.shared.next_job(&mut Core::new(Backend::Portable)).unwrap();
    assert!(!next.work.is_verification());
    for mut answered in together {
        assert!(answered.try_recv().unwrap().unwrap_err().retry_after >= Duration::from_secs(1));
    }
    assert!(last.try_recv().is_err(), "not answered yet");
}

#[test]
fn jobs_that_wait_for_a_place_of_their_network_are_in_nobody_elses_way() {
    let pool = pool(Duration::from_millis(100));
    // Two refusals hold the places of one network.
    let attacker = "10.0.0.1";
    let mut state = pool.shared.state.lock();
    for _ in 0..2 {
        let network = turn(attacker).network;
        state.places.take(network);
        state.places.end(network, Some(Instant::now() + Duration::from_hours(1)));
    }
    drop(state);
    let waiting: Vec<_> = (0..40).map_while(|_| verify(&pool, attacker).ok()).collect();
    assert_eq!(waiting.len(), 34, "as many as the queue holds");
    assert!(verify(&pool, attacker).is_err());
    assert!(!pool.shared.state.lock().own.has_been_full());
    let others: Vec<_> = (0..40).map_while(|_| verify(&pool, "192.0.2.1").ok()).collect();
    assert_eq!(others.len(), 34, "as if the attacker were not there");
    assert!(pool.shared.state.lock().own.has_been_full());
    let mut core = Core::new(Backend::Portable);
    for _ in &others[..2] {
        let (next, _) = pool.shared.next_job(&mut core).unwrap();
        assert_eq!(next.network, turn("192.0.2.1").network);
    }
}

/// Fills the queue from networks that have used it before, one job of each.
fn fill(pool: &HashingPool, was_right: bool) -> Vec<Answered> {
    let mut waiting = Vec::new();
    for number in 0..20 {
        let attacker = format!("10.0.{number}.1");
        use_up(pool, &attacker, was_right, 12);
        waiting.extend(verify(pool, &attacker));
    }
    assert_eq!(waiting.len(), 6, "as many as have room");
    waiting
}

fn refused(waiting: &mut [Answered]) -> usize {
    let answers = waiting.iter_mut().filter_map(|answered| answered.try_recv().ok());
    answers.filter(Result::is_err).count()
}

#[test]
fn whoever_used_much_of_late_makes_room_in_a_full_queue_for_whoever_did_not() {
    for was_right in [false, true] {
        // Dear ones, so that few have room.
        let pool = pool(Duration::from_millis(800));
        let mut waiting = fill(&pool, was_right);
        assert!(verify(&pool, "192.0.2.1").is_ok());
        assert_eq!(refused(&mut waiting), 1, "with right passwords: {was_right}");
        assert!(verify(&pool, "10.0.30.1").is_ok(), "a newcomer, wherever from");
        assert_eq!(refused(&mut waiting), 1);
    }
}

#[test]
fn whoever_guesses_from_an_address_pushes_its_neighbours_back_little() {
    let pool = pool(Duration::from_millis(800));
    use_up(&pool, "192.0.2.66", false, 26);
    use_up(&pool, "192.0.2.1", true, 1);
    let mut waiting = fill(&pool, false);
    assert!(verify(&pool, "192.0.2.1").is_ok());
    assert_eq!(refused(&mut waiting), 1);
}
