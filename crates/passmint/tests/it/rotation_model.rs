//! Random histories of login, refresh, replay, old token, logout, disable, password change and clock
//! steps, run against the service and against a small model that keeps the whole past.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use passmint::clock::{Clock as _, StandingClock};
use passmint::config::{Config, Sources};
use passmint::domain::audit::Actor;
use passmint::domain::secret::Password;
use passmint::domain::session::EndReason;
use passmint::domain::time::Timestamp;
use passmint::domain::user::Username;
use passmint::service::Services;
use passmint::service::token::{Login, Pair, RefreshError, VerifyError};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

/// Histories in all; two tests share them so that they run side by side.
const HISTORIES: u32 = 10_000;
const INTERVAL: i64 = 60;
const IDLE: i64 = 3600;
const MAX: i64 = 4 * 3600;
const ACCESS: i64 = 600;

#[derive(Clone, Debug)]
enum Step {
    Login,
    /// Session by index, token by how many generations back.
    Refresh(usize, usize),
    Logout(usize),
    DisableAndEnable,
    /// From which session.
    ChangePassword(usize),
    /// Seconds.
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Login),
        6 => (0..4_usize, 0..2_usize).prop_map(|(s, back)| Step::Refresh(s, back)),
        3 => (0..4_usize, 1..6_usize).prop_map(|(s, back)| Step::Refresh(s, back)),
        1 => (0..4_usize).prop_map(Step::Logout),
        1 => Just(Step::DisableAndEnable),
        1 => (0..4_usize).prop_map(Step::ChangePassword),
        4 => (0..50_i64).prop_map(Step::Wait),
        2 => (50..200_i64).prop_map(Step::Wait),
        1 => (200..5000_i64).prop_map(Step::Wait),
    ]
}

/// A session as the model knows it: everything that ever happened, nothing summarised.
struct Lineage {
    began: i64,
    /// When each generation was issued; the refresh token it gave.
    issued: Vec<(i64, String)>,
    access_tokens: Vec<(i64, String)>,
    ended: bool,
    /// Ended in a way that ends its access tokens too.
    revoked: bool,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Expected {
    Rotated,
    Replayed,
    /// Between the interval and twice the interval both answers are right.
    ReplayedOrTheft,
    Theft,
    Expired,
    Refused,
}

impl Lineage {
    fn expires(&self, generation: usize) -> i64 {
        (self.issued[generation].0 + IDLE).min(self.began + MAX)
    }

    fn expect(&self, generation: usize, now: i64) -> Expected {
        let current = self.issued.len() - 1;
        if now >= self.expires(generation) {
            Expected::Expired
        } else if self.ended {
            Expected::Refused
        } else if generation == current {
            Expected::Rotated
        } else {
            // It was current until its successor was issued.
            match now - self.issued[generation + 1].0 {
                ..=INTERVAL => Expected::Replayed,
                age if age <= 2 * INTERVAL => Expected::ReplayedOrTheft,
                _ => Expected::Theft,
            }
        }
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    services: Services,
    clock: Arc<StandingClock>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        // Memory-backed where there is such a place: durability is not what this test is about.
        let memory = std::path::Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.unwrap();
        let seconds = |seconds: i64| format!("{seconds}s");
        let settings = [
            ("SESSIONS__REUSE_INTERVAL", seconds(INTERVAL)),
            ("SESSIONS__IDLE_LIFETIME", seconds(IDLE)),
            ("SESSIONS__MAX_LIFETIME", seconds(MAX)),
            ("TOKENS__ACCESS_LIFETIME", seconds(ACCESS)),
            ("HASHING__MEMORY_KIB", "8".to_owned()),
            ("HASHING__PASSES", "1".to_owned()),
            ("KEYS__ALGORITHM", "HS256".to_owned()),
        ];
        let environment =
            settings.map(|(name, value)| (format!("PASSMINT_{name}"), value)).to_vec();
        let data = Some(folder.path().to_owned());
        let config = Config::load(&Sources { data, environment, ..Sources::default() }).unwrap();
        let clock = Arc::new(StandingClock::at(Timestamp::from_micros(1_800_000_000_000_000)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let open =
            passmint::app::open(config, Arc::clone(&clock) as _, passmint::app::Opening::Serve);
        let services = runtime.block_on(open).unwrap();
        Self { runtime, services, clock, _folder: folder }
    }

    fn now(&self) -> i64 {
        self.clock.now().seconds()
    }
}

/// One history: a user of its own, the sessions it has begun.
struct History<'a> {
    world: &'a World,
    user: String,
    password: u32,
    lineages: Vec<Lineage>,
}

impl History<'_> {
    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Login => self.login(),
                Step::Refresh(session, back) => self.refresh(session, back),
                Step::Logout(session) => self.logout(session),
                Step::DisableAndEnable => self.disable_and_enable(),
                Step::ChangePassword(session) => self.change_password(session),
                Step::Wait(seconds) => {
                    self.world.clock.advance(Duration::from_secs(seconds.unsigned_abs()));
                }
            }
            self.check_access_tokens();
        }
    }

    fn pick(&self, session: usize) -> Option<usize> {
        let count = self.lineages.len();
        (count > 0).then(|| count - 1 - session % count)
    }

    fn password(&self) -> Password {
        Password::new(format!("the model's password {}", self.password))
    }

    fn login(&mut self) {
        let login = Login {
            username: self.user.clone(),
            password: self.password(),
            address: None,
            user_agent: String::new(),
        };
        let pair = self.world.runtime.block_on(self.world.services.tokens.login(login)).unwrap();
        let now = self.world.now();
        self.lineages.push(Lineage {
            began: now,
            issued: vec![(now, pair.refresh_token)],
            access_tokens: vec![(now, pair.token)],
            ended: false,
            revoked: false,
        });
    }

    fn refresh(&mut self, session: usize, back: usize) {
        let Some(index) = self.pick(session) else { return };
        let now = self.world.now();
        let lineage = &mut self.lineages[index];
        let current = lineage.issued.len() - 1;
        let generation = current.saturating_sub(back);
        let token = lineage.issued[generation].1.clone();
        let refresh = self.world.services.tokens.refresh(&token, None);
        let answer = self.world.runtime.block_on(refresh);
        let expected = lineage.expect(generation, now);
        match (expected, answer) {
            (Expected::Rotated, Ok(pair)) => {
                lineage.issued.push((now, pair.refresh_token));
                lineage.access_tokens.push((now, pair.token));
            }
            (Expected::Replayed | Expected::ReplayedOrTheft, Ok(pair)) => {
                check_same(&pair, &lineage.issued[current].1, &lineage.access_tokens[current].1);
            }
            (Expected::Theft | Expected::ReplayedOrTheft, Err(RefreshError::Refused)) => {
                lineage.ended = true;
                lineage.revoked = true;
            }
            (Expected::Expired, Err(RefreshError::Expired))
            | (Expected::Refused, Err(RefreshError::Refused)) => {}
            (expected, answer) => panic!(
                "generation {generation} of {current}, expected {expected:?}, got {:?}",
                answer.map(|_| "a pair")
            ),
        }
    }

    fn logout(&mut self, session: usize) {
        let Some(index) = self.pick(session) else { return };
        let services = &self.world.services;
        let lineage = &mut self.lineages[index];
        let id = services.tokens.session_of_refresh_token(&lineage.issued[0].1).unwrap();
        let ended = self.world.runtime.block_on(services.sessions.end(
            id,
            EndReason::Logout,
            Actor::Operator,
        ));
        assert_eq!(ended.unwrap(), !lineage.ended);
        if !lineage.ended {
            lineage.ended = true;
            lineage.revoked = true;
        }
    }

    fn disable_and_enable(&mut self) {
        let users = &self.world.services.users;
        self.world.runtime.block_on(users.disable(&self.user)).unwrap();
        self.world.runtime.block_on(users.enable(&self.user)).unwrap();
        self.end_all_but(None);
    }

    fn change_password(&mut self, session: usize) {
        let Some(index) = self.pick(session) else { return };
        let services = &self.world.services;
        let token = &self.lineages[index].issued[0].1;
        let id = services.tokens.session_of_refresh_token(token).unwrap();
        let user = self.world.runtime.block_on(services.users.find(&self.user)).unwrap();
        let old = self.password();
        self.password += 1;
        let change = services.users.change_own_password(user.id, Some(id), old, self.password());
        self.world.runtime.block_on(change).unwrap();
        self.end_all_but(Some(index));
    }

    fn end_all_but(&mut self, keep: Option<usize>) {
        for (index, lineage) in self.lineages.iter_mut().enumerate() {
            if Some(index) != keep {
                lineage.ended = true;
                lineage.revoked = true;
            }
        }
    }

    /// The newest access token of every session is good exactly while the model says so.
    fn check_access_tokens(&self) {
        let now = self.world.now();
        for lineage in &self.lineages {
            for (issued, token) in lineage.access_tokens.iter().rev().take(2) {
                let verified =
                    self.world.runtime.block_on(self.world.services.tokens.verify(token));
                let expected = if now >= (issued + ACCESS).min(lineage.began + MAX) {
                    "expired"
                } else if lineage.revoked {
                    "revoked"
                } else {
                    "good"
                };
                let verdict = match verified {
                    Ok(_) => "good",
                    Err(VerifyError::Expired) => "expired",
                    Err(VerifyError::Revoked) => "revoked",
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(verdict, expected);
            }
        }
    }
}

/// A replayed pair is the current one again, to the `jti`, `iat` and `exp`.
fn check_same(pair: &Pair, refresh_token: &str, access_token: &str) {
    assert_eq!(pair.refresh_token, refresh_token);
    let (again, before) =
        (crate::harness::claims(&pair.token), crate::harness::claims(access_token));
    for claim in ["jti", "iat", "exp", "gen", "sid"] {
        assert_eq!(again[claim], before[claim], "{claim}");
    }
}

fn histories(count: u32, seen: &mut HashMap<&'static str, u32>) {
    let world = World::new();
    let number = Cell::new(0_u32);
    let counts = RefCell::new(seen);
    let mut runner = TestRunner::new(Cases { cases: count, ..Cases::default() });
    let steps = prop::collection::vec(step(), 1..25);
    let outcome = runner.run(&steps, |steps| {
        number.set(number.get() + 1);
        let user = format!("user-{}", number.get());
        let password = Password::new("the model's password 0".to_owned());
        let name = Username::canonical(&user);
        let add = world.services.users.add_unchecked(name, password, String::new(), Vec::new());
        world.runtime.block_on(add).unwrap();
        let mut history = History { world: &world, user, password: 0, lineages: Vec::new() };
        history.run(&steps);
        let mut seen = counts.borrow_mut();
        for lineage in &history.lineages {
            *seen.entry(if lineage.revoked { "revoked" } else { "live" }).or_default() += 1;
            *seen.entry("generations").or_default() += u32::try_from(lineage.issued.len()).unwrap();
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn half() {
    let mut seen = HashMap::new();
    // A history's own assertions panic inside the runner, which shrinks it and reports.
    histories(HISTORIES / 2, &mut seen);
    for (what, least) in [("revoked", 1000), ("live", 1000), ("generations", 10_000)] {
        assert!(seen.get(what).copied().unwrap_or(0) >= least, "{what}: {seen:?}");
    }
}

#[test]
fn five_thousand_random_histories_agree_with_the_model() {
    half();
}

#[test]
fn five_thousand_more_agree_with_the_model() {
    half();
}
