//! The promise that a restart, a clock step or a change of lifetimes revives nothing and loses nothing,
//! as a model: the rules of `domain` over random histories. That the store's statements follow them is
//! tested in `store::conformance::clocks`.
//!
//! A million histories.

use std::time::Duration;

use passmint::domain::clock_guard::{ClockGuard, Doubt, LastWallClock};
use passmint::domain::moment::Moment;
use passmint::domain::revocation::{dated, moves_mark};
use passmint::domain::session::{Anchor, Session, SessionId, SessionPolicy};
use passmint::domain::time::{Timestamp, micros};
use passmint::domain::user::UserId;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// As `service::maintenance` has it.
const MARGIN: Duration = Duration::from_mins(2);
/// As `passmint_verify` has it.
const IAT_AHEAD: i64 = MINUTE;
const KEEP: Duration = Duration::from_hours(24 * 30);

/// A generator of its own: a million histories in some seconds.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(i64::try_from(from.len()).unwrap())).unwrap()]
    }
}

struct Token {
    session: usize,
    issued_at: i64,
    expires_at: i64,
}

struct Login {
    session: Session,
    /// True time of its last rotation.
    rotated: i64,
    ended: bool,
    lost: bool,
}

struct Ending {
    session: usize,
    at: Moment,
}

/// A record or a stepped-down key: when it was written, by both clocks and in truth.
struct Kept {
    at: Moment,
    truly: i64,
}

/// One server on one database, and the truth about time.
struct World {
    /// Time that has truly passed.
    truth: i64,
    /// What the wall clock is ahead of it.
    ahead: i64,
    /// Running time at the last start, and true time then.
    base: i64,
    started: i64,
    guard: ClockGuard,
    issued_until: i64,
    lifetime: i64,
    longest: i64,
    last_wall: LastWallClock,
    logins: Vec<Login>,
    tokens: Vec<Token>,
    endings: Vec<Ending>,
    kept: Vec<Kept>,
    swept: u64,
    swept_until: i64,
}

const EPOCH: i64 = 1_800_000_000 * SECOND;

impl World {
    fn new() -> Self {
        let start = Timestamp::from_micros(EPOCH);
        Self {
            truth: EPOCH,
            ahead: 0,
            base: 0,
            started: EPOCH,
            guard: ClockGuard::resume(None, start, start),
            issued_until: 0,
            lifetime: HOUR,
            longest: HOUR,
            last_wall: LastWallClock { said: start, doubt: Doubt::default() },
            logins: Vec::new(),
            tokens: Vec::new(),
            endings: Vec::new(),
            kept: Vec::new(),
            swept: 0,
            swept_until: 0,
        }
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(self.truth + self.ahead)
    }

    fn steady(&self) -> Timestamp {
        Timestamp::from_micros(self.truth)
    }

    fn now(&self) -> Moment {
        Moment { wall: self.wall(), running: self.base + self.truth - self.started }
    }

    fn policy() -> SessionPolicy {
        SessionPolicy {
            reuse_interval: Duration::from_mins(1),
            idle_lifetime: KEEP,
            max_lifetime: KEEP * 12,
            max_per_user: 1000,
            end_access_token_on_refresh: false,
        }
    }

    fn log_in(&mut self) {
        if moves_mark(self.wall(), Timestamp::from_micros(self.issued_until)) {
            self.issued_until = self.issued_until.max(self.wall().micros());
        }
        let now = self.now();
        let session = Session {
            id: SessionId([0; 16]),
            user: UserId(1),
            secret_hash: [0; 32],
            generation: 0,
            anchor: Anchor { generation: 0, at: now.wall },
            created_at: now.wall,
            rotated_at: now.wall,
            refresh_expires_at: Self::policy().refresh_expires_at(now.wall, now.wall),
            refresh_key: 1,
            address: None,
            user_agent: String::new(),
            foreign_replay_at: None,
            ended: None,
            created_running: now.running,
            rotated_running: now.running,
            epoch: Some(0),
        };
        self.tokens.push(Token {
            session: self.logins.len(),
            issued_at: now.wall.micros(),
            expires_at: now.wall.micros() + self.lifetime,
        });
        self.logins.push(Login { session, rotated: self.truth, ended: false, lost: false });
        self.kept.push(Kept { at: now, truly: self.truth });
    }

    fn end(&mut self, session: usize) {
        let Some(login) = self.logins.get_mut(session) else { return };
        if !std::mem::replace(&mut login.ended, true) {
            let now = self.now();
            let wall = dated(now.wall, Timestamp::from_micros(self.issued_until));
            self.endings.push(Ending { session, at: Moment { wall, ..now } });
        }
    }

    /// Time passes, a few rounds of maintenance in it.
    fn wait(&mut self, span: i64) {
        for _ in 0..4 {
            self.truth += span / 4;
            self.maintain();
        }
    }

    fn maintain(&mut self) {
        self.guard.look(self.wall(), self.steady());
        self.last_wall = LastWallClock { said: self.wall(), doubt: self.guard.doubt() };
        if !self.guard.may_destroy() {
            return;
        }
        let now = self.now();
        let longest = Duration::from_micros(self.longest.unsigned_abs()) + MARGIN;
        // As the store does: up to the first that is not due.
        let due = self.endings.iter().take_while(|ending| ending.at.is_older_than(longest, now));
        let due = due.count();
        if due > 0 {
            self.swept += due as u64;
            self.swept_until = self.swept_until.max(now.wall.micros());
        }
        self.endings.drain(..due);
        let policy = Self::policy();
        for login in &mut self.logins {
            if !login.ended && !login.lost && login.session.run_out(now, &policy).is_some() {
                login.lost = true;
                assert!(self.truth - login.rotated >= micros(KEEP), "a live session was lost");
            }
        }
        let truth = self.truth;
        self.kept.retain(|kept| {
            let goes = kept.at.is_older_than(KEEP, now);
            assert!(!goes || truth - kept.truly > micros(KEEP), "a record was lost");
            !goes
        });
    }

    fn restart(&mut self, down_for: i64) {
        self.base = self.now().running;
        self.truth += down_for;
        self.started = self.truth;
        self.guard = ClockGuard::resume(Some(self.last_wall), self.wall(), self.steady());
    }

    fn set_lifetime(&mut self, lifetime: i64) {
        // Noted before it counts.
        self.longest = self.longest.max(lifetime);
        self.lifetime = lifetime;
    }

    /// No ended token is accepted: one is while its time is right and no ending concerns it.
    fn check(&self) {
        let wall = self.wall().micros();
        for token in &self.tokens {
            let in_time = wall < token.expires_at && token.issued_at <= wall + IAT_AHEAD;
            // Of the lifetime that is configured now.
            let fits = token.expires_at - token.issued_at <= self.lifetime;
            if self.logins[token.session].ended && in_time && fits {
                let known = self.endings.iter().any(|ending| ending.session == token.session)
                    // Then the session's row is asked.
                    || wall < self.swept_until;
                assert!(known, "an ended token is accepted");
            }
        }
    }
}

fn history(random: &mut Random) -> u64 {
    let mut world = World::new();
    for _ in 0..12 {
        match random.below(12) {
            0..=2 => world.log_in(),
            3 | 4 => {
                let session = usize::try_from(random.below(4)).unwrap();
                world.end(session);
            }
            5..=7 => {
                let spans = [30 * SECOND, MINUTE, 20 * MINUTE, 2 * HOUR, 3 * DAY];
                world.wait(random.pick(&spans));
            }
            8 | 9 => {
                let step =
                    random.pick(&[SECOND, MINUTE, 4 * MINUTE, HOUR, DAY, 40 * DAY, 400 * DAY]);
                world.ahead += if random.below(2) == 0 { step } else { -step };
                if random.below(3) == 0 {
                    world.ahead = 0;
                }
            }
            10 => world.restart(random.pick(&[SECOND, HOUR, 2 * DAY])),
            _ => world.set_lifetime(random.pick(&[SECOND, MINUTE, HOUR, DAY])),
        }
        world.check();
    }
    world.swept
}

#[test]
fn no_history_of_clocks_and_restarts_revives_or_loses_anything() {
    const HISTORIES: u64 = 1_000_000;
    let mut random = Random(7);
    let swept: u64 = (0..HISTORIES).map(|_| history(&mut random)).sum();
    assert!(swept > HISTORIES / 100, "only {swept} endings were ever swept");
}
