//! What goes by age goes only when both clocks say so; what ends is bounded.

use super::*;
use crate::domain::time::micros;

impl World {
    /// Begins a session under that epoch of its user.
    async fn start_under(&self, user: UserId, number: u8, epoch: u64) -> SessionId {
        let start = StartSession { epoch, ..self.start_of(user, number) };
        self.start_session(start).await.expect("the session did not start").session.id
    }
}

#[tokio::test]
async fn the_walk_ends_what_ran_out_and_deletes_what_is_old() {
    let world = world();
    let user = world.add_user("asha").await;
    let (idle, ended) = (world.start(user, 1).await, world.start(user, 2).await);
    world.store.end_sessions(Sessions::One(ended), EndReason::Logout, By::OPERATOR).await.unwrap();
    world.clock.advance(Duration::from_hours(2));
    let live = world.start(user, 3).await;
    let walk = async |keep_ended| {
        let mut sum = SweptSessions::default();
        loop {
            let sweep = SweepSessions {
                after: sum.next,
                batch: 2,
                policy: policy(),
                keep_ended,
                by_age: true,
            };
            let swept = world.store.sweep_sessions(sweep).await.unwrap();
            sum.ended += swept.ended;
            sum.deleted += swept.deleted;
            sum.next = swept.next;
            if swept.next.is_none() {
                return (sum.ended, sum.deleted);
            }
        }
    };
    assert_eq!(walk(Duration::from_hours(3)).await, (1, 0), "what ended is kept for three hours");
    assert_eq!(world.reason(idle).await, Some(EndReason::Idle));
    assert_eq!(world.told.ended.lock().last(), Some(&(EndReason::Idle, 1)));
    world.clock.advance(MINUTE);
    assert_eq!(walk(MINUTE / 2).await, (0, 2));
    assert!(world.store.session(ended).await.unwrap().is_none());
    assert_eq!(world.reason(live).await, None);
}

#[tokio::test]
async fn revocations_go_only_when_both_clocks_agree() {
    let world = world();
    let user = world.add_user("asha").await;
    let session = world.start(user, 1).await;
    world
        .store
        .end_sessions(Sessions::One(session), EndReason::Logout, By::OPERATOR)
        .await
        .unwrap();
    let keep = async |access| {
        let lifetimes = LongestLifetimes { access, refresh: MINUTE };
        world.store.keep_lifetimes(lifetimes).await.unwrap().access
    };
    let sweep = async || world.store.sweep_revocations(MINUTE).await.unwrap().len();
    assert_eq!(keep(MINUTE * 4).await, MINUTE * 4);
    assert_eq!(keep(MINUTE).await, MINUTE * 4, "a shorter one does not count");
    world.clock.step(micros(MINUTE * 60));
    assert_eq!(sweep().await, 0, "only the wall clock says so");
    world.clock.step(-micros(MINUTE * 120));
    world.clock.advance(MINUTE * 10);
    assert_eq!(sweep().await, 0, "only running time says so");
    world.clock.step(micros(MINUTE * 60));
    assert_eq!(sweep().await, 1);
    assert!(world.store.revocations(0, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_outlives_tokens_that_a_fast_clock_issued() {
    let world = world();
    let lifetimes = LongestLifetimes { access: MINUTE * 60, refresh: MINUTE };
    world.store.keep_lifetimes(lifetimes).await.unwrap();
    let user = world.add_user("asha").await;
    // Issued while the clock was a day ahead; its token is good for a day and an hour.
    world.clock.step(micros(MINUTE * 60 * 24));
    let session = world.start(user, 1).await;
    world.clock.step(-micros(MINUTE * 60 * 24));
    let one = Sessions::One(session);
    world.store.end_sessions(one, EndReason::Logout, By::OPERATOR).await.unwrap();
    for _ in 0..25 {
        assert_eq!(world.store.sweep_revocations(MINUTE).await.unwrap().len(), 0);
        world.clock.advance(MINUTE * 60);
    }
    world.clock.advance(MINUTE * 5);
    assert_eq!(world.store.sweep_revocations(MINUTE).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_all_others_again_and_again_writes_once() {
    let world = world();
    let user = world.add_user("asha").await;
    let kept = world.start(user, 1).await;
    world.start(user, 2).await;
    let end = async || {
        let others = Sessions::AllOfExcept(user, kept);
        let reason = EndReason::LoggedOutElsewhere;
        world.store.end_sessions(others, reason, By::OPERATOR).await.unwrap()
    };
    let written = async || {
        let revocations = world.store.revocations(0, 500).await.unwrap();
        let all = AuditQuery { limit: 500, ..AuditQuery::default() };
        (revocations.len(), world.store.audit_records(all).await.unwrap().len())
    };
    assert_eq!(end().await, 1);
    let after_one = written().await;
    assert_eq!(after_one.0, 1);
    for _ in 0..50 {
        assert_eq!(end().await, 0);
    }
    assert_eq!(written().await, after_one, "nothing ended, so nothing is written");
    world.start_under(user, 3, 1).await;
    assert_eq!(end().await, 1);
    assert_eq!(written().await.0, 1, "the newer ending says what the older one said");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_endings_take_room_for_two_in_the_table_too() {
    let world = world();
    let user = world.add_user("asha").await;
    for number in 0..20 {
        let kept = world.start_under(user, number, number.into()).await;
        world.start_under(user, number + 100, number.into()).await;
        let others = Sessions::AllOfExcept(user, kept);
        let reason = EndReason::LoggedOutElsewhere;
        world.store.end_sessions(others, reason, By::OPERATOR).await.unwrap();
    }
    let entries = world.store.revocations(0, 500).await.unwrap();
    let epochs: Vec<u64> = entries
        .iter()
        .map(|entry| match entry.revocation {
            Revocation::User { epoch, .. } => epoch,
            _ => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(epochs, [19, 20]);
    assert_eq!(world.store.revocations_about(Some(user), None).await.unwrap(), entries);
}
