//! The contract of a store as tests, races included. Every kind of store runs them.

mod accounts;
mod clocks;
mod told;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::sqlite::{DatabaseLock, Migration, SqliteStore};
use super::*;
use crate::clock::{Clock as _, StandingClock};
use crate::domain::audit::AuditKind;
use crate::domain::key::{KeyState, KeyUse};
use crate::domain::revocation::{Revocation, RevocationEntry};
use crate::domain::secret::PasswordHash;
use crate::domain::session::{EndReason, SessionId, SessionPolicy};
use crate::domain::time::Timestamp;
use crate::domain::user::{UserId, Username};

const SECRET: [u8; 32] = [7; 32];
pub(in crate::store) const MINUTE: Duration = Duration::from_mins(1);

/// A store with its clock and what it told about commits.
pub(in crate::store) struct World {
    pub(in crate::store) store: Arc<dyn Store>,
    clock: Arc<StandingClock>,
    pub(in crate::store) told: Arc<Told>,
    pub(in crate::store) folder: tempfile::TempDir,
}

#[derive(Default)]
pub(in crate::store) struct Told {
    pub(in crate::store) revoked: Mutex<Vec<Revocation>>,
    commits: Mutex<Vec<usize>>,
    ended: Mutex<Vec<(EndReason, u64)>>,
    writes: Mutex<Vec<Duration>>,
    reads: Mutex<Vec<Duration>>,
}

impl CommitSink for Told {
    fn revoked(&self, entries: &[RevocationEntry]) {
        self.revoked.lock().extend(entries.iter().map(|entry| entry.revocation));
    }

    fn committed(&self, writes: usize) {
        self.commits.lock().push(writes);
    }

    fn sessions_ended(&self, reason: EndReason, count: u64) {
        self.ended.lock().push((reason, count));
    }

    fn audited(&self, _: AuditKind) {}

    fn fatal(&self, why: &str) {
        panic!("{why}");
    }

    fn wrote(&self, took: Duration) {
        self.writes.lock().push(took);
    }

    fn read(&self, took: Duration) {
        self.reads.lock().push(took);
    }
}

pub(in crate::store) fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(StandingClock::at(Timestamp::from_micros(1_800_000_000_000_000)));
    let told = Arc::new(Told::default());
    let lock = DatabaseLock::acquire(&folder.path().join("test.db")).unwrap();
    let marks_in = [folder.path().to_owned()];
    let store = SqliteStore::open(
        lock,
        Migration::Run,
        &marks_in,
        Arc::clone(&clock) as _,
        Arc::clone(&told) as _,
    )
    .unwrap();
    World { store: Arc::new(store), clock, told, folder }
}

fn policy() -> SessionPolicy {
    SessionPolicy {
        reuse_interval: MINUTE,
        idle_lifetime: Duration::from_hours(1),
        max_lifetime: Duration::from_hours(3),
        max_per_user: 100,
        end_access_token_on_refresh: false,
    }
}

impl World {
    pub(in crate::store) async fn add_user(&self, name: &str) -> UserId {
        let hash = PasswordHash::new("first hash".to_owned());
        let username = Username::canonical(name);
        let user = NewUser { username, hash, email: String::new(), roles: Vec::new() };
        match self.store.add_user(user, By::OPERATOR).await.unwrap() {
            Added::User(id) => id,
            Added::NameTaken => panic!("{name} is taken"),
        }
    }

    pub(in crate::store) fn start_of(&self, user: UserId, number: u8) -> StartSession {
        StartSession {
            id: SessionId::new(self.clock.now(), &[number; 10]),
            user,
            epoch: 0,
            password_version: 0,
            secret_hash: SECRET,
            refresh_key: 1,
            address: None,
            user_agent: String::new(),
            policy: policy(),
            rehash: None,
            repeat: false,
            by: By::SERVER,
        }
    }

    async fn start(&self, user: UserId, number: u8) -> SessionId {
        let lineage = self.start_session(self.start_of(user, number)).await;
        lineage.expect("the session did not start").session.id
    }

    pub(in crate::store) async fn start_session(&self, start: StartSession) -> Option<Lineage> {
        self.store.start_session(start).await.unwrap().committed().await.unwrap()
    }

    async fn rotate(&self, session: SessionId, generation: u32) -> Rotation {
        self.rotate_under(policy(), session, generation).await
    }

    async fn rotate_under(
        &self,
        policy: SessionPolicy,
        session: SessionId,
        generation: u32,
    ) -> Rotation {
        let rotate = RotateRefresh {
            session,
            generation,
            issued_at: self.clock.now(),
            secret_hash: SECRET,
            refresh_key: 1,
            address: None,
            policy,
            by: By::SERVER,
        };
        self.store.rotate_refresh(rotate).await.unwrap().committed().await.unwrap()
    }

    async fn reason(&self, id: SessionId) -> Option<EndReason> {
        let (session, _) = self.store.session(id).await.unwrap().unwrap();
        session.ended.map(|(_, reason)| reason)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_racing_rotations_wins() {
    let world = Arc::new(world());
    let user = world.add_user("asha").await;
    let session = world.start(user, 1).await;
    for generation in 0..50 {
        let racers: Vec<_> = (0..20)
            .map(|_| {
                let world = Arc::clone(&world);
                tokio::spawn(async move { world.rotate(session, generation).await })
            })
            .collect();
        let mut rotated = 0;
        for racer in racers {
            match racer.await.unwrap() {
                Rotation::Rotated(lineage) | Rotation::Replayed(lineage)
                    if lineage.session.generation != generation + 1 =>
                {
                    panic!("generation {}", lineage.session.generation)
                }
                Rotation::Rotated(_) => rotated += 1,
                Rotation::Replayed(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(rotated, 1);
    }
    assert!(world.told.revoked.lock().is_empty());
}

#[tokio::test]
async fn rotation_sets_anchor_and_expiry_as_the_domain_reads_them() {
    let world = world();
    let user = world.add_user("asha").await;
    let session = world.start(user, 1).await;
    let rotated = |rotation| match rotation {
        Rotation::Rotated(lineage) => lineage.session,
        other => panic!("{other:?}"),
    };
    let begin = world.clock.now();
    world.clock.advance(Duration::from_secs(10));
    let first = rotated(world.rotate(session, 0).await);
    assert_eq!(
        (first.anchor.generation, first.anchor.at),
        (0, begin.plus(Duration::from_secs(10)))
    );
    world.clock.advance(Duration::from_secs(50));
    let second = rotated(world.rotate(session, 1).await);
    assert_eq!(second.anchor, first.anchor, "a quick rotation keeps the anchor");
    world.clock.advance(Duration::from_secs(61));
    let third = rotated(world.rotate(session, 2).await);
    assert_eq!((third.anchor.generation, third.anchor.at), (2, world.clock.now()));
    assert_eq!(third.refresh_expires_at, world.clock.now().plus(Duration::from_hours(1)));
    world.clock.advance(Duration::from_mins(50));
    rotated(world.rotate(session, 3).await);
    world.clock.advance(Duration::from_mins(50));
    rotated(world.rotate(session, 4).await);
    world.clock.advance(Duration::from_mins(50));
    let last = rotated(world.rotate(session, 5).await);
    assert_eq!(last.refresh_expires_at, begin.plus(Duration::from_hours(3)));
}

#[tokio::test]
async fn theft_and_lost_state_end_the_session_and_are_told() {
    let world = world();
    let user = world.add_user("asha").await;
    let (stolen, ahead) = (world.start(user, 1).await, world.start(user, 2).await);
    world.rotate(stolen, 0).await;
    world.clock.advance(MINUTE * 3);
    assert!(matches!(world.rotate(stolen, 0).await, Rotation::Reused));
    assert!(matches!(world.rotate(stolen, 1).await, Rotation::Dead));
    assert!(matches!(world.rotate(ahead, 5).await, Rotation::StateLost));
    assert_eq!(world.reason(stolen).await, Some(EndReason::ReuseDetected));
    assert_eq!(world.reason(ahead).await, Some(EndReason::StateLost));
    let ended = [(EndReason::ReuseDetected, 1), (EndReason::StateLost, 1)];
    assert_eq!(*world.told.ended.lock(), ended);
    let told = world.told.revoked.lock().clone();
    assert_eq!(told, [Revocation::Session(stolen), Revocation::Session(ahead)]);
    let kept = world.store.revocations(0, 500).await.unwrap();
    assert_eq!(kept.iter().map(|entry| entry.revocation).collect::<Vec<_>>(), told);
}

#[tokio::test]
async fn a_session_older_than_a_lowered_maximal_lifetime_is_not_rotated() {
    let world = world();
    let user = world.add_user("asha").await;
    let session = world.start(user, 1).await;
    world.clock.advance(MINUTE * 3);
    let lowered = SessionPolicy { max_lifetime: MINUTE * 3, ..policy() };
    assert!(matches!(world.rotate_under(lowered, session, 0).await, Rotation::Expired));
    assert_eq!(world.reason(session).await, Some(EndReason::MaxLifetime));
}

#[tokio::test]
async fn a_stale_login_starts_no_session() {
    let world = world();
    let user = world.add_user("asha").await;
    let stale = |change: fn(&mut StartSession)| {
        let mut start = world.start_of(user, 1);
        change(&mut start);
        start
    };
    for start in
        [stale(|s| s.epoch = 1), stale(|s| s.password_version = 1), stale(|s| s.user = UserId(99))]
    {
        assert!(world.start_session(start).await.is_none());
    }
    world.store.set_disabled(user, true, By::OPERATOR).await.unwrap();
    assert!(world.start_session(stale(|s| s.epoch = 1)).await.is_none());
    world.store.set_disabled(user, false, By::OPERATOR).await.unwrap();
    assert!(world.start_session(stale(|s| s.epoch = 1)).await.is_some());
}

#[tokio::test]
async fn over_the_most_sessions_the_oldest_that_was_never_refreshed_gives_way() {
    let world = world();
    let user = world.add_user("asha").await;
    let policy = SessionPolicy { max_per_user: 3, ..policy() };
    let begin = async |number| {
        world.clock.advance(Duration::from_secs(1));
        let start = StartSession { policy, ..world.start_of(user, number) };
        world.start_session(start).await.unwrap().session.id
    };
    let live = async || {
        let sessions = world
            .store
            .sessions_of(user, SessionPage { ended: false, before: None, limit: 500 })
            .await
            .unwrap();
        let mut live: Vec<_> = sessions.into_iter().map(|session| session.id).collect();
        live.sort();
        live
    };
    let (first, second, third) = (begin(1).await, begin(2).await, begin(3).await);
    world.rotate(first, 0).await;
    let fourth = begin(4).await;
    assert_eq!(live().await, [first, third, fourth]);
    assert_eq!(world.reason(second).await, Some(EndReason::Evicted));
    // Whatever else ends a session makes room, too; and once only.
    for _ in 0..2 {
        let one = Sessions::One(third);
        world.store.end_sessions(one, EndReason::Logout, By::OPERATOR).await.unwrap();
    }
    let fifth = begin(5).await;
    assert_eq!(live().await, [first, fourth, fifth]);
    let all = Sessions::AllOf(user);
    world.store.end_sessions(all, EndReason::Logout, By::OPERATOR).await.unwrap();
    assert_eq!(live().await, []);
    world.store.set_disabled(user, true, By::OPERATOR).await.unwrap();
    world.store.set_disabled(user, false, By::OPERATOR).await.unwrap();
    let epoch = world.store.credentials_of(user).await.unwrap().unwrap().user.epoch;
    for number in 6..=9 {
        world.clock.advance(Duration::from_secs(1));
        let start = StartSession { epoch, policy, ..world.start_of(user, number) };
        world.start_session(start).await.unwrap();
    }
    assert_eq!(live().await.len(), 3);
}

#[tokio::test]
async fn a_rehash_replaces_only_the_hash_that_was_verified() {
    let world = world();
    let user = world.add_user("asha").await;
    let hash = |text: &str| PasswordHash::new(text.to_owned());
    let stored = async || world.store.credentials_of(user).await.unwrap().unwrap().hash;
    let mut start = world.start_of(user, 1);
    start.rehash = Some((hash("another hash"), hash("better")));
    world.start_session(start).await;
    assert!(stored().await == hash("first hash"));
    let mut start = world.start_of(user, 2);
    start.rehash = Some((hash("first hash"), hash("better")));
    world.start_session(start).await;
    assert!(stored().await == hash("better"));
}

#[tokio::test]
async fn names_that_differ_only_in_case_collide_and_ids_are_not_reused() {
    let world = world();
    let first = world.add_user("asha").await;
    let user = |name: &str| NewUser {
        username: Username::canonical(name),
        hash: PasswordHash::new(String::new()),
        email: String::new(),
        roles: Vec::new(),
    };
    assert_eq!(world.store.add_user(user("ASHA"), By::OPERATOR).await.unwrap(), Added::NameTaken);
    assert!(world.store.delete_user(first, By::OPERATOR).await.unwrap());
    assert!(!world.store.delete_user(first, By::OPERATOR).await.unwrap());
    assert!(world.add_user("Asha").await > first);
}

#[tokio::test]
async fn a_password_change_keeps_one_session_and_needs_the_version_it_saw() {
    let world = world();
    let user = world.add_user("asha").await;
    let (kept, other) = (world.start(user, 1).await, world.start(user, 2).await);
    let change = |version| PasswordChange {
        user,
        hash: PasswordHash::new("second hash".to_owned()),
        expected_version: Some(version),
        keep: Some(kept),
        by: By::OPERATOR,
    };
    assert!(world.store.change_password(change(0)).await.unwrap());
    assert!(!world.store.change_password(change(0)).await.unwrap(), "it is version 1 now");
    assert_eq!(world.reason(other).await, Some(EndReason::PasswordChanged));
    assert_eq!(world.reason(kept).await, None);
    let told = world.told.revoked.lock().clone();
    assert_eq!(told, [Revocation::User { user, epoch: 1, except: Some(kept) }]);
}

#[tokio::test]
async fn keys_change_together_or_not_at_all() {
    let world = world();
    let key = |kid: &str| NewKey {
        kid: kid.to_owned(),
        use_: KeyUse::Refresh,
        state: KeyState::Verifying { until: None },
        public: Vec::new(),
        sealed: vec![1],
        imported: false,
    };
    let add = |add| KeyChange { add, seal_check: Some(vec![9]), ..KeyChange::default() };
    assert!(world.store.change_keys(add(vec![key("a")]), By::OPERATOR).await.unwrap());
    assert!(!world.store.change_keys(add(vec![key("b"), key("a")]), By::OPERATOR).await.unwrap());
    let (keys, check) = world.store.keys().await.unwrap();
    assert_eq!((keys.len(), check), (1, Some(vec![9])));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_arrive_together_are_committed_together() {
    let world = Arc::new(world());
    let user = world.add_user("asha").await;
    let mut sessions = Vec::new();
    for number in 0..100 {
        sessions.push(world.start(user, number).await);
    }
    world.told.commits.lock().clear();
    let rotations: Vec<_> = sessions
        .into_iter()
        .map(|session| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.rotate(session, 0).await })
        })
        .collect();
    for rotation in rotations {
        assert!(matches!(rotation.await.unwrap(), Rotation::Rotated(_)));
    }
    let commits = world.told.commits.lock().clone();
    assert_eq!(commits.iter().sum::<usize>(), 100);
    assert!(commits.len() < 60, "{commits:?}");
}
