//! What a store tells of its commits: which sessions ended and why, what reads and writes took.

use super::*;

#[tokio::test]
async fn every_end_is_told_with_its_reason() {
    let world = world();
    let told = || std::mem::take(&mut *world.told.ended.lock());
    let user = world.add_user("asha").await;
    for number in 1..=3 {
        world.start(user, number).await;
    }
    let mut start = world.start_of(user, 4);
    start.policy.max_per_user = 2;
    let newest = world.start_session(start).await.unwrap().session.id;
    assert_eq!(told(), [(EndReason::Evicted, 1), (EndReason::Evicted, 1)]);
    let change = PasswordChange {
        user,
        hash: PasswordHash::new("second hash".to_owned()),
        expected_version: None,
        keep: Some(newest),
        by: By::OPERATOR,
    };
    world.store.change_password(change).await.unwrap();
    assert_eq!(told(), [(EndReason::PasswordChanged, 1)]);
    world.store.set_disabled(user, true, By::OPERATOR).await.unwrap();
    assert_eq!(told(), [(EndReason::UserDisabled, 1)]);
    world.store.delete_user(user, By::OPERATOR).await.unwrap();
    assert_eq!(told(), [], "none was left");

    let user = world.add_user("ravi").await;
    for number in 5..=6 {
        world.start(user, number).await;
    }
    world.store.delete_user(user, By::OPERATOR).await.unwrap();
    assert_eq!(told(), [(EndReason::UserDeleted, 2)]);

    let user = world.add_user("mira").await;
    world.start(user, 7).await;
    let change = KeyChange { revoked_refresh_key: Some(1), ..KeyChange::default() };
    world.store.change_keys(change, By::OPERATOR).await.unwrap();
    assert_eq!(told(), [], "that is the walk's affair");
    let sweep = SweepSessions {
        after: None,
        batch: 100,
        policy: policy(),
        keep_ended: MINUTE,
        by_age: false,
    };
    world.store.sweep_sessions(sweep).await.unwrap();
    assert_eq!(told(), [(EndReason::KeyRevoked, 1)]);
}

#[tokio::test]
async fn reads_and_writes_tell_what_they_took() {
    let world = world();
    world.add_user("asha").await;
    world.store.user_named(Username::canonical("asha")).await.unwrap();
    let longest = Duration::from_secs(5);
    let writes = world.told.writes.lock().clone();
    let reads = world.told.reads.lock().clone();
    assert_eq!((writes.len(), reads.len()), (1, 1));
    for took in [writes[0], reads[0]] {
        assert!(took > Duration::ZERO && took < longest, "{took:?}");
    }
}
