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
