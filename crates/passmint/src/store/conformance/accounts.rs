//! What is written down of accounts: audit records, throttles, networks, imported users.

use super::*;
use crate::domain::audit::{AuditRecord, ChainLink, follow};
use crate::domain::network::Network;
use crate::domain::throttle::{KnownOrigin, LockoutEntry, Scope};
use crate::domain::time::micros;
use crate::domain::user::{ImportedId, Username};

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_one_unbroken_chain_across_failures_and_sweeps() {
    let world = world();
    let user = world.add_user("asha").await;
    let session = world.start(user, 1).await;
    // A write that changes nothing and notes nothing, and one that is undone.
    assert!(!world.store.delete_user(UserId(99), By::OPERATOR).await.unwrap());
    world.store.end_sessions(Sessions::One(session), EndReason::Admin, By::OPERATOR).await.unwrap();
    world.start(user, 2).await;
    world.clock.advance(MINUTE * 60 * 24);
    world.store.set_disabled(user, true, By::OPERATOR).await.unwrap();
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    let records = world.store.audit_records(all.clone()).await.unwrap();
    let events = |records: &[AuditRecord]| -> Vec<String> {
        let event = |record: &AuditRecord| {
            let record: serde_json::Value = serde_json::from_str(&record.text).unwrap();
            record["event"].as_str().unwrap().to_owned()
        };
        records.iter().map(event).collect()
    };
    let expected = [
        "user.added",
        "login.granted",
        "session.ended",
        "login.granted",
        "user.disabled",
        "sessions.ended",
    ];
    assert_eq!(events(&records), expected);
    let newest = follow(ChainLink::START, &records).unwrap();
    assert_eq!(world.store.audit_ends().await.unwrap(), (ChainLink::START, newest));

    let added_as = async |name| world.store.audited_user(Username::canonical(name)).await.unwrap();
    assert_eq!((added_as("asha").await, added_as("bela").await), (Some(user), None));
    let query = AuditQuery { event: "user.".into(), newest_first: true, ..all.clone() };
    let found = world.store.audit_records(query).await.unwrap();
    assert_eq!(events(&found), ["user.disabled", "user.added"]);

    world.clock.step(micros(MINUTE * 60 * 24 * 400));
    assert_eq!(world.store.sweep_audit(MINUTE * 60 * 48).await.unwrap(), 0, "the clock was set");
    assert_eq!(world.store.sweep_audit(MINUTE * 60).await.unwrap(), 4);
    assert_eq!(world.store.sweep_audit(MINUTE * 60).await.unwrap(), 0);
    let (from, to) = world.store.audit_ends().await.unwrap();
    assert_eq!((from, to), (records[3].link, newest));
    let left = world.store.audit_records(all).await.unwrap();
    assert_eq!(follow(from, &left), Ok(newest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_somebody_back_is_kept_and_forgotten() {
    let world = world();
    let now = world.clock.now();
    let network = Network::of("192.0.2.1".parse().unwrap());
    let entry =
        |scope, failures| LockoutEntry { account: u64::MAX, scope, failures, at: now, until: now };
    let all = vec![
        entry(Scope::Network(network), 7),
        entry(Scope::Neighbourhood(network.neighbourhood()), 8),
        entry(Scope::Everywhere, 100),
    ];
    world.store.keep_throttles(all.clone()).await.unwrap();
    let mut kept = world.store.throttles().await.unwrap();
    kept.sort_by_key(|entry| entry.failures);
    assert_eq!(kept, all);
    world.store.keep_throttles(vec![entry(Scope::Network(network), 0)]).await.unwrap();
    assert_eq!(world.store.throttles().await.unwrap().len(), 2);
    assert_eq!(world.store.forget_throttles(MINUTE).await.unwrap(), 0);
    // A clock that is set forwards forgets nothing, nor does time that passes under one set back.
    world.clock.step(micros(MINUTE * 2));
    assert_eq!(world.store.forget_throttles(MINUTE).await.unwrap(), 0);
    assert!(world.store.throttles().await.unwrap().iter().all(|e| e.at == world.clock.now()));
    world.clock.step(-micros(MINUTE * 4));
    world.clock.advance(MINUTE * 2);
    assert_eq!(world.store.forget_throttles(MINUTE).await.unwrap(), 0);
    world.clock.step(micros(MINUTE * 2));
    assert_eq!(world.store.forget_throttles(MINUTE).await.unwrap(), 2);
    assert_eq!(world.store.throttles().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_known_from_where_it_has_logged_in() {
    let world = world();
    let user = world.add_user("asha").await;
    let address = |text: &str| Some(text.parse().unwrap());
    let from = StartSession { address: address("192.0.2.9"), ..world.start_of(user, 1) };
    let before = world.clock.now();
    world.start_session(from).await.unwrap();
    let knows = async |name: &str, of: &str, since| {
        let network = Network::of(of.parse().unwrap());
        world.store.knows_origin(Username::canonical(name), network, since).await.unwrap()
    };
    let origin = |network, neighbourhood| KnownOrigin { network, neighbourhood };
    assert_eq!(knows("asha", "192.0.2.9", before).await, origin(true, true));
    assert_eq!(knows("asha", "192.0.2.200", before).await, origin(false, true));
    assert_eq!(knows("asha", "192.0.3.9", before).await, origin(false, false));
    assert_eq!(knows("nobody", "192.0.2.9", before).await, origin(false, false));
    assert_eq!(knows("asha", "192.0.2.9", before.plus(MINUTE)).await, origin(false, false));
    for number in 2..=257_u16 {
        world.clock.advance(MINUTE);
        let other = address(&format!("10.{}.{}.1", number / 256, number % 256));
        let from = StartSession { address: other, ..world.start_of(user, number.to_le_bytes()[0]) };
        world.start_session(from).await.unwrap();
    }
    let oldest = knows("asha", "192.0.2.9", before).await;
    assert_eq!(oldest, origin(false, false), "of very many the oldest goes");
    assert_eq!(knows("asha", "10.0.70.1", before).await, origin(true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_users_keep_their_ids_and_nobody_gets_one_that_was_given() {
    let world = world();
    let import = async |id: Option<&str>, name: &str| {
        let user = ImportUser {
            id: id.map(ImportedId::read),
            username: Username::canonical(name),
            hash: PasswordHash::new("pbkdf2_sha256$1$s$x".to_owned()),
            profile: UserChange {
                email: Some(format!("{name}@example.org")),
                ..Default::default()
            },
            disabled: false,
            created_at: None,
        };
        let wanted = (user.username.clone(), user.id.clone());
        let foreseen = world.store.import_conflicts(vec![wanted]).await.unwrap().remove(0);
        let outcome = world.store.import_users(vec![user], By::OPERATOR).await.unwrap().remove(0);
        assert_eq!(format!("{foreseen:?}"), format!("{:?}", outcome.as_ref().err()));
        outcome
    };
    let by = |conflict: &ImportConflict| match conflict {
        ImportConflict::Same => "the same".to_owned(),
        ImportConflict::Name(other) => format!("the name of {}", other.subject()),
        ImportConflict::Id(other) => format!("the id of {}", other.username.as_str()),
        ImportConflict::FormerId => "a former id".to_owned(),
    };
    let refused = async |id, name| by(&import(id, name).await.unwrap_err());
    let uuid = "6f1c0de2-0f5f-4f0e-9c39-9f7b1f0a7a11";
    assert_eq!(import(Some("41"), "asha").await.unwrap(), UserId(41));
    assert_eq!(import(Some(uuid), "ravi").await.unwrap(), UserId::of_subject(uuid));
    assert_eq!(import(None, "noor").await.unwrap(), UserId(42));
    for (id, name, wanted) in [
        (Some("41"), "mira", "the id of asha"),
        (Some("41"), "asha", "the same"),
        (None, "asha", "the same"),
        (Some(uuid), "ravi", "the same"),
        (Some("99"), "asha", "the name of 41"),
        (Some("41"), "ASHA", "the name of 41"),
        (None, "Asha", "the name of 41"),
        (Some("41"), "ravi", &format!("the name of {uuid}")),
    ] {
        assert_eq!(refused(id, name).await, wanted, "{id:?} {name}");
    }
    let ravi = world.store.user_named(Username::canonical("ravi")).await.unwrap().unwrap();
    assert_eq!((ravi.subject().as_str(), ravi.email.as_str()), (uuid, "ravi@example.org"));
    assert!(world.store.delete_user(UserId(41), By::OPERATOR).await.unwrap());
    assert_eq!(refused(Some("41"), "asha").await, "a former id");
    let (hashes, next) =
        world.store.unusual_hashes("$argon2id$".into(), UserId(i64::MIN), 10).await.unwrap();
    assert_eq!((hashes.len(), next), (2, Some(UserId(42))));
}
