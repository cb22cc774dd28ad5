//! The pool on cheap hashes.

use std::pin::pin;

use super::super::price::Price;
use super::*;

const CHEAP: Argon2Params = Argon2Params { memory_kib: 64, passes: 1, lanes: 1 };
fn second() -> Turn {
    Turn::of_operator(Duration::from_secs(1))
}

fn from(network: &str, max_wait: Duration) -> Turn {
    let network = Network::of(network.parse().unwrap());
    Turn { network, max_wait, client_gone: CancellationToken::new() }
}

/// Keeps what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<(Duration, Duration)>>);

impl HashSink for Heard {
    fn hashed(&self, waited: Duration, took: Duration) {
        self.0.lock().push((waited, took));
    }
}

fn pool(params: Argon2Params) -> HashingPool {
    HashingPool::start(PoolSettings { threads: 1, params }, Arc::new(Heard::default())).unwrap()
}

fn password(text: &str) -> Password {
    Password::new(text.to_owned())
}

#[tokio::test]
async fn right_wrong_and_nobody() {
    let pool = pool(CHEAP);
    let hash = pool.hash(password("right"), &second()).await.unwrap();
    let verify = async |text: &str, hash| {
        let checked = pool.verify(password(text), hash, &second()).await;
        checked.unwrap().verification
    };
    let found = verify("right", Some(hash.clone())).await;
    assert!(matches!(found, Verification::Match(None)));
    assert!(matches!(verify("wrong", Some(hash)).await, Verification::NoMatch));
    assert!(matches!(verify("right", None).await, Verification::NoMatch));
    let garbage = PasswordHash::new("!".to_owned());
    assert!(matches!(verify("right", Some(garbage)).await, Verification::NoMatch));
}

#[tokio::test]
async fn a_hash_of_another_price_is_replaced_by_one_of_today() {
    let old = pool(CHEAP).hash(password("right"), &second()).await.unwrap();
    let today = Argon2Params { memory_kib: 128, ..CHEAP };
    let pool = pool(today);
    let Verification::Match(Some(better)) =
        pool.verify(password("right"), Some(old), &second()).await.unwrap().verification
    else {
        panic!("no better hash");
    };
    assert_eq!(Parsed::read(&better).unwrap().scheme, Scheme::Argon2id(today));
    let found = pool.verify(password("right"), Some(better), &second()).await.unwrap();
    assert!(matches!(found.verification, Verification::Match(None)));
}

#[tokio::test]
async fn the_second_of_two_waits_for_the_first() {
    let heard = Arc::new(Heard::default());
    // So dear that both are there long before the first is done.
    let params = Argon2Params { memory_kib: 19_456, passes: 20, lanes: 1 };
    let settings = PoolSettings { threads: 1, params };
    let pool = HashingPool::start(settings, Arc::clone(&heard) as _).unwrap();
    let turn = Turn::of_operator(Duration::from_mins(1));
    let (first, second) = tokio::join!(
        pool.verify(password("any"), None, &turn),
        pool.verify(password("any"), None, &turn)
    );
    assert!(first.is_ok() && second.is_ok());
    // Ends the thread, after it has told of the job whose answer is here already.
    drop(pool);
    while heard.0.lock().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let heard = heard.0.lock().clone();
    let [(_, took), (waited, _)] = heard[..] else { panic!("{heard:?}") };
    assert!(took > Duration::from_millis(1) && waited > took / 2, "{heard:?}");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let pool = Arc::new(pool(Argon2Params { memory_kib: 19_456, passes: 2, lanes: 1 }));
    let wait = Turn::of_operator(Duration::from_millis(100));
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (pool, wait) = (Arc::clone(&pool), wait.clone());
            tokio::spawn(async move { pool.verify(password("any"), None, &wait).await })
        })
        .collect();
    let mut refused = 0;
    for task in tasks {
        refused += usize::from(task.await.unwrap().is_err());
    }
    assert!((10..100).contains(&refused), "{refused} of 100 refused");
}

#[tokio::test]
async fn a_refusal_takes_as_long_as_the_dearest_stored_hash() {
    let pool = pool(CHEAP);
    let dear = Scheme::Pbkdf2Sha256 { iterations: 300_000 };
    pool.learn(&[dear]);
    let hash = pool.hash(password("right"), &second()).await.unwrap();
    let price = loop {
        match pool.refused_after() {
            Some(price) => break price,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(price > Duration::from_millis(5), "{price:?}");
    for hash in [None, Some(hash.clone())] {
        let started = Instant::now();
        let found = pool.verify(password("wrong"), hash, &second()).await.unwrap();
        assert!(matches!(found.verification, Verification::NoMatch));
        assert!(started.elapsed() < price, "the outcome is known before it may be answered");
        found.answer_time.reached(&CancellationToken::new()).await;
        assert!(started.elapsed() >= price);
    }
    let started = Instant::now();
    let found = pool.verify(password("right"), Some(hash), &second()).await.unwrap();
    found.answer_time.reached(&CancellationToken::new()).await;
    assert!(matches!(found.verification, Verification::Match(None)) && started.elapsed() < price);
    pool.learn(&[]);
    assert_eq!(pool.refused_after(), None);
}

#[tokio::test]
async fn a_flood_from_one_neighbourhood_does_not_take_the_turns_of_others() {
    let pool = Arc::new(pool(Argon2Params { memory_kib: 19_456, passes: 2, lanes: 1 }));
    let max_wait = Duration::from_millis(500);
    let flood = |host| from(&format!("10.0.0.{host}"), max_wait);
    let flooding: Vec<_> = (0..200)
        .map(|host| {
            let (pool, turn) = (Arc::clone(&pool), flood(host));
            tokio::spawn(async move { pool.verify(password("any"), None, &turn).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let others = from("192.0.2.1", max_wait);
    for _ in 0..5 {
        assert!(pool.verify(password("any"), None, &others).await.is_ok());
    }
    for task in flooding {
        drop(task.await.unwrap());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_job_only_until_the_hash_begins() {
    let pool = pool(Argon2Params { memory_kib: 19_456, passes: 40, lanes: 1 });
    let begun = from("192.0.2.1", Duration::from_secs(5));
    let waiting = from("192.0.2.2", Duration::from_secs(5));
    let go_away = async {
        while pool.shared.state.lock().own.running == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.client_gone.cancel();
        waiting.client_gone.cancel();
    };
    let (first, second, ()) = tokio::join!(
        pool.verify(password("any"), None, &begun),
        pool.verify(password("any"), None, &waiting),
        go_away
    );
    assert!(first.is_ok(), "its outcome is reported");
    assert_eq!(second.unwrap_err(), NotHashed::ClientGone);
}

#[tokio::test]
async fn jobs_whose_clients_went_away_are_in_nobodys_way() {
    let pool = pool(Argon2Params { memory_kib: 19_456, passes: 40, lanes: 1 });
    let long = Duration::from_mins(1);
    // The only thread is taken, and twelve wait.
    let begun = from("10.0.0.1", long);
    let gone: Vec<_> = (0..12).map(|host| from(&format!("11.{host}.0.1"), long)).collect();
    let empty = AtomicBool::new(false);
    let hang_up = async {
        while pool.shared.state.lock().own.running == 0 || pool.state().queued < 12 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for turn in &gone {
            turn.client_gone.cancel();
        }
        while pool.state().queued > 0 {
            tokio::task::yield_now().await;
        }
        empty.store(true, Ordering::Relaxed);
    };
    let first = async {
        pool.verify(password("any"), None, &begun).await.unwrap();
        assert!(empty.load(Ordering::Relaxed), "they were there until the thread was free");
    };
    let others = gone.iter().map(|turn| pool.verify(password("any"), None, turn));
    let others = futures_util::future::join_all(others);
    let ((), outcomes, ()) = tokio::join!(first, others, hang_up);
    let gone = outcomes.iter().filter(|outcome| matches!(outcome, Err(NotHashed::ClientGone)));
    assert_eq!(gone.count(), 12);
}

/// A pool that has measured `scheme`, of which hashes are stored.
async fn pool_beside(scheme: Scheme) -> HashingPool {
    let pool = pool(CHEAP);
    pool.learn(&[scheme]);
    while pool.shared.state.lock().prices.is_incomplete() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pool
}

#[tokio::test]
async fn who_was_imported_is_not_seen_from_the_same_network() {
    let scheme = Scheme::Pbkdf2Sha256 { iterations: 300_000 };
    let imported = "pbkdf2_sha256$300000$seasalt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso=";
    let imported = PasswordHash::new(imported.to_owned());
    let pool = pool_beside(scheme).await;
    let floor = pool.refused_after().unwrap();
    for hash in [None, Some(imported)] {
        let attacker = from("192.0.2.1", Duration::from_mins(1));
        let began = Instant::now();
        let target = pool.verify(password("wrong"), hash, &attacker);
        let probe = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            pool.verify(password("wrong"), None, &attacker).await.unwrap();
            began.elapsed()
        };
        let (_, probe) = tokio::join!(target, probe);
        assert!(probe >= floor * 3 / 4, "the probe began after {probe:?} of {floor:?}");
        pool.shared.state.lock().places = Places::default();
    }
}

#[tokio::test]
async fn a_refusal_waits_for_a_hash_of_the_dearest_kind_however_long_that_takes_now() {
    let dear = Scheme::Pbkdf2Sha256 { iterations: 500_000 };
    let pool = pool_beside(dear).await;
    let takes = pool.shared.state.lock().prices.slowest().unwrap();
    // As if the machine had been idle until now, and a hash had been done in no time.
    for _ in 0..200 {
        let nothing = Price { elapsed: Duration::ZERO, processor: Duration::ZERO };
        pool.shared.state.lock().prices.measured(dear, nothing);
    }
    for _ in 0..3 {
        let started = Instant::now();
        let found = pool.verify(password("wrong"), None, &second()).await.unwrap();
        assert!(started.elapsed() < takes, "the outcome is known before it may be answered");
        found.answer_time.reached(&CancellationToken::new()).await;
        assert!(started.elapsed() >= takes, "{:?} of {takes:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_refusal_waits_for_its_turn_among_the_imported_hashes() {
    let dear = Scheme::Pbkdf2Sha256 { iterations: 200_000 };
    let pool = pool_beside(dear).await;
    // Of the same network; to others it would give turns. So many take longer than a reference hash.
    for _ in 0..10 * pool.shared.settings.threads {
        let work = ForeignWork::Measure(dear);
        pool.shared.state.lock().push_foreign(second().network, work);
    }
    pool.shared.foreign_arrived.notify_all();
    let found = pool.verify(password("wrong"), None, &second()).await.unwrap();
    assert!(pool.shared.state.lock().imported.len() > 0, "the outcome is known before");
    found.answer_time.reached(&CancellationToken::new()).await;
    let state = pool.shared.state.lock();
    assert!(state.imported.len() == 0, "an imported hash would have waited for those before it");
}

#[tokio::test]
async fn refusals_do_not_wait_for_clients_that_are_gone_nor_when_the_server_ends() {
    let pool = pool(CHEAP);
    pool.expect_schemes();
    let gone = CancellationToken::new();
    gone.cancel();
    for client_gone in [gone, CancellationToken::new(), CancellationToken::new()] {
        let found = pool.verify(password("wrong"), None, &second()).await.unwrap();
        if !client_gone.is_cancelled() {
            pool.stop_waiting();
        }
        let reached = found.answer_time.reached(&client_gone);
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("it waits on");
    }
}

#[tokio::test]
async fn after_a_start_refusals_wait_until_it_is_known_what_is_stored() {
    let pool = pool(CHEAP);
    pool.expect_schemes();
    let found = pool.verify(password("wrong"), None, &second()).await.unwrap();
    let client_gone = CancellationToken::new();
    let mut reached = pin!(found.answer_time.reached(&client_gone));
    let soon = tokio::time::timeout(Duration::from_millis(100), &mut reached).await;
    assert!(soon.is_err(), "an imported user may be the dearest");
    pool.learn(&[]);
    reached.await;
}

#[tokio::test]
async fn a_job_that_waits_for_a_place_of_its_network_is_refused_when_its_time_is_over() {
    let pool = pool_beside(Scheme::Pbkdf2Sha256 { iterations: 2_000_000 }).await;
    let [patient, hasty] = [60_000, 20].map(|wait| from("192.0.2.1", Duration::from_millis(wait)));
    let first = pool.verify(password("wrong"), None, &patient).await.unwrap();
    let answer_at = first.answer_time.0.unwrap().not_before;
    assert!(pool.verify(password("wrong"), None, &hasty).await.is_err());
    assert!(Instant::now() < answer_at, "it was refused only when there was a place");
}

#[test]
fn a_queue_has_been_full_until_nothing_waits() {
    let mut lane = Lane::<()>::default();
    let mut noted = |queued, is_full| {
        lane.note_wait(queued, is_full);
        lane.has_been_full()
    };
    assert!(!noted(0, false) && !noted(9, false));
    assert!(noted(10, true) && noted(9, false) && noted(1, false));
    assert!(!noted(0, false) && !noted(5, false));
}

#[tokio::test]
async fn once_the_queue_has_been_full_the_wait_gets_shorter() {
    let pool = Arc::new(pool(Argon2Params { memory_kib: 4096, passes: 20, lanes: 1 }));
    let turn = from("192.0.2.1", Duration::from_millis(800));
    let load = tokio::spawn({
        let (pool, turn) = (Arc::clone(&pool), turn.clone());
        async move {
            loop {
                let (pool, turn) = (Arc::clone(&pool), turn.clone());
                tokio::spawn(async move { drop(pool.verify(password("any"), None, &turn).await) });
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    // What a newcomer would wait, and what a hash takes.
    let now = || {
        let state = pool.shared.state.lock();
        let threads = pool.shared.settings.threads;
        (state.own.expected_wait(state.own.queue.len(), threads, state.hash_time), state.hash_time)
    };
    let short = || {
        let (wait, hash) = now();
        wait <= Duration::from_millis(160).max(2 * hash) + 2 * hash
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while now().0 < Duration::from_millis(400) {
        assert!(Instant::now() < deadline, "it never got long: {:?}", now());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while !short() {
        assert!(Instant::now() < deadline, "it never got short: {:?}", now());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    load.abort();
}
