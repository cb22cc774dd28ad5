//! What only this kind of store can be put through: another process at its file.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::audit::{AuditEvent, AuditKind, ChainLink, follow};
use crate::domain::revocation::Revocation;
use crate::domain::user::Username;
use crate::store::conformance::{MINUTE, World, world};
use crate::store::{AuditQuery, By};

fn another_connection(world: &World) -> rusqlite::Connection {
    rusqlite::Connection::open(world.folder.path().join("test.db")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_outlives_the_failure_of_its_batch() {
    let world = world();
    let user = world.add_user("asha").await;
    let twice = world.start_of(user, 1);
    world.start_session(twice.clone()).await.unwrap();
    let noted = AuditEvent::new(AuditKind::LoginRefused).of(user).with("why", "for this test");
    // While the file is held, the writer waits with its first job; what is handed in meanwhile makes
    // the next batch: a note, and a session whose id is taken, which fails it.
    let other = another_connection(&world);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let store = Arc::clone(&world.store);
    let first = tokio::spawn(async move { store.set_disabled(user, false, By::OPERATOR).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.store.note(By::SERVER, noted).unwrap();
    let store = Arc::clone(&world.store);
    let failing = tokio::spawn(async move { store.start_session(twice).await.is_err() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    other.execute_batch("ROLLBACK").unwrap();
    first.await.unwrap().unwrap();
    assert!(failing.await.unwrap(), "the batch failed");
    let query = AuditQuery { event: "login.refused".to_owned(), limit: 9, ..AuditQuery::default() };
    for _ in 0..100 {
        if world.store.audit_records(query.clone()).await.unwrap().len() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the note is lost");
}

#[tokio::test]
async fn a_backdated_record_is_not_swept() {
    let world = world();
    for name in ["asha", "ravi", "mira"] {
        world.add_user(name).await;
    }
    another_connection(&world).execute("UPDATE audit SET at = 0 WHERE sequence = 1", []).unwrap();
    assert_eq!(world.store.sweep_audit(MINUTE * 60).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_stalls_no_writer() {
    let world = world();
    world.add_user("first").await;
    let reader = another_connection(&world);
    reader.execute_batch("BEGIN; SELECT count(*) FROM user;").unwrap();
    let began = std::time::Instant::now();
    let mut slowest = Duration::ZERO;
    // For longer than the checkpointer's period, and until its log is longer than it likes.
    while began.elapsed() < Duration::from_secs(7) {
        let asked = std::time::Instant::now();
        world.add_user(&format!("user-{}", began.elapsed().as_micros())).await;
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(slowest < Duration::from_secs(2), "a write waited {slowest:?}");
    reader.execute_batch("COMMIT").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_row_fails_its_own_job_and_nobody_elses() {
    let world = world();
    let (poisoned, other) = (world.add_user("asha").await, world.add_user("ravi").await);
    another_connection(&world)
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON session WHEN new.user_id = 1 BEGIN \
             SELECT raise(ABORT, 'poison'); END",
        )
        .unwrap();
    let start = |user, number: u8| {
        let store = Arc::clone(&world.store);
        let start = world.start_of(user, number);
        tokio::spawn(async move { store.start_session(start).await?.committed().await })
    };
    let all: Vec<_> = (0..100)
        .map(|number| {
            (number % 4 == 0, start(if number % 4 == 0 { poisoned } else { other }, number))
        })
        .collect();
    for (poisonous, started) in all {
        assert_eq!(started.await.unwrap().is_err(), poisonous);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_told_to_every_caller_and_nothing_of_it_stays() {
    let world = world();
    let user = world.add_user("asha").await;
    let other = another_connection(&world);
    // Every statement succeeds, and the commit does not.
    other
        .execute_batch(
            "CREATE TABLE parent (id INTEGER PRIMARY KEY);
             CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER uncommittable AFTER INSERT ON session
             BEGIN INSERT INTO child VALUES (1); END",
        )
        .unwrap();
    let start = |number: u8| {
        let (store, start) = (Arc::clone(&world.store), world.start_of(user, number));
        tokio::spawn(async move { store.start_session(start).await?.committed().await })
    };
    let all: Vec<_> = (0..20).map(start).collect();
    for started in all {
        assert!(started.await.unwrap().is_err(), "told as done");
    }
    assert!(world.store.ping().await.is_err(), "not ready");
    let count = |table: &str| -> i64 {
        other.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("session"), count("child")), (0, 0));
    other.execute_batch("DROP TRIGGER uncommittable").unwrap();
    world.start_session(world.start_of(user, 50)).await.expect("it does again");
    world.store.ping().await.unwrap();
    assert_eq!(count("session"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_alone_leaves_no_revocation_and_no_link_behind() {
    let world = world();
    let (poisoned, good) = (world.add_user("asha").await, world.add_user("ravi").await);
    for (user, number) in [(poisoned, 1), (good, 2)] {
        world.start_session(world.start_of(user, number)).await.unwrap();
    }
    let other = another_connection(&world);
    // By then its sessions are ended and its revocation is noted.
    other
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON audit WHEN new.user_id = 1
             BEGIN SELECT raise(ABORT, 'poison'); END",
        )
        .unwrap();
    // While the file is held they queue up, and so share a batch.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let disable = |user| {
        let store = Arc::clone(&world.store);
        tokio::spawn(async move { store.set_disabled(user, true, By::OPERATOR).await })
    };
    let first = disable(good);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (fails, succeeds) = (disable(poisoned), disable(good));
    tokio::time::sleep(Duration::from_millis(200)).await;
    other.execute_batch("ROLLBACK").unwrap();
    assert!(first.await.unwrap().unwrap() && succeeds.await.unwrap().unwrap());
    assert!(fails.await.unwrap().is_err());
    let told = world.told.revoked.lock().clone();
    let of = |wanted| move |r: &Revocation| matches!(r, Revocation::User { user, .. } if *user == wanted);
    assert!(told.iter().any(of(good)) && !told.iter().any(of(poisoned)), "{told:?}");
    other.execute_batch("DROP TRIGGER poison").unwrap();
    world.store.set_disabled(poisoned, false, By::OPERATOR).await.unwrap();
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    let records = world.store.audit_records(all).await.unwrap();
    follow(ChainLink::START, &records).unwrap();
    assert!(
        world
            .store
            .user_named(Username::canonical("asha"))
            .await
            .unwrap()
            .unwrap()
            .disabled_at
            .is_none()
    );
}

#[test]
fn a_commit_is_on_the_disk_before_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let connection = super::connect(&folder.path().join("test.db")).unwrap();
    let of = |name: &str| -> String {
        let value: rusqlite::types::Value =
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap();
        format!("{value:?}")
    };
    assert_eq!(of("synchronous"), "Integer(2)", "FULL");
    assert_eq!(of("journal_mode"), r#"Text("wal")"#);
}

#[test]
fn a_first_start_that_was_cut_off_after_any_step_goes_on() {
    for steps in 1..super::schema::NEWEST {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        super::schema::take_steps(&super::connect(&path).unwrap(), steps).unwrap();
        let lock = super::DatabaseLock::acquire(&path).unwrap();
        let (before, after) = super::SqliteStore::migrate_only(&lock).unwrap();
        assert_eq!((before, after), (steps, super::schema::NEWEST));
    }
}
