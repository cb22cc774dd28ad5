//! What only this kind of store can be put through: another process at its file.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::audit::{AuditEvent, AuditKind};
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
