//! How each figure is taken: which server, which load, and what it is held against. Pairs are
//! interleaved (server, bare, server, bare), so that a noisy neighbour meets both sides.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZero;
use std::path::Path;
use std::thread;
use std::time::Duration;

use std::cell::{Cell, RefCell};

use anyhow::{Context, Result, anyhow, ensure};

use crate::bare::{self, BareAxum, FORWARD_AUTH};
use crate::bare_writer::BareWriter;
use crate::http;
use crate::load::{self, Outcome, Window};
use crate::report::{Measured, Pair, as_f64};
use crate::script::{Chains, Collecting, RefreshChain, Round, Script, access_token};
use crate::seed;
use crate::server::{Installation, Server};

/// Users in the database, besides those who log in.
pub(crate) const USERS: u32 = 100_000;
/// Sessions in the tables that refreshes meet.
const SESSIONS: u32 = 100_000;
/// Connections of the refresh and verification loads; as many users log in.
const CONNECTIONS: usize = 64;
/// Connections of the login load.
const LOGIN_CONNECTIONS: usize = 16;
/// Where logins go.
pub(crate) const LOGIN_PATH: &str = "/api/v1/token-auth/";
const LOGOUT_PATH: &str = "/api/v1/logout/";
/// The password of every user here; not a secret.
pub(crate) const PASSWORD: &str = "Correct-Horse-7";

/// A prepared data folder and how long to measure.
pub(crate) struct Site<'a> {
    /// The server and its data.
    pub(crate) installation: Installation,
    /// Where the bare writer keeps its file: the same file system as the server's data.
    pub(crate) folder: &'a Path,
    /// Pairs, or starts.
    pub(crate) pairs: usize,
    /// Sessions that each connection of the refresh load keeps refreshing in turn.
    pub(crate) sessions_each: u8,
    /// Each load.
    pub(crate) window: Window,
    /// Between the last login and the look at the memory.
    pub(crate) idle: Duration,
}

impl Site<'_> {
    /// Makes the data: the server's own first start, the users who log in, and many more.
    pub(crate) fn prepare(&self) -> Result<()> {
        eprintln!("preparing {USERS} users");
        let server = self.installation.start().context("first start")?;
        for number in 0..CONNECTIONS {
            self.installation.add_user(&user(number), PASSWORD)?;
        }
        server.stop()?;
        seed::seed_users(&self.installation.database(), &user(0), USERS)
            .context("cannot seed users (src/seed.rs names the schema)")
    }

    /// Milliseconds from the spawn until `/readyz` answers 200.
    pub(crate) fn start_to_ready(&self) -> Result<Measured> {
        self.starts(|_| Ok(()))
    }

    /// The same with so many ended sessions whose tokens would be valid otherwise. The first thing asked
    /// then is one of those: it must be refused.
    pub(crate) fn start_with_revocations(&self, count: u32) -> Result<Measured> {
        let server = self.installation.start()?;
        let body = log_in(&server, 0)?;
        let jwt = format!("JWT {}", access_token(&body)?);
        let logout = http::post_json_with(LOGOUT_PATH, &format!("Authorization: {jwt}\r\n"), "");
        let (status, _) = http::exchange(server.address(), &logout)?;
        ensure!(status == 204, "the logout answered {status}");
        server.stop()?;
        seed::fill_revocations(&self.installation.database(), count)
            .context("cannot seed revocations (src/seed.rs names the schema)")?;
        self.starts(|server| {
            let verification = http::get(FORWARD_AUTH, Some(&jwt));
            let (status, _) = http::exchange(server.address(), &verification)?;
            ensure!(status == 401, "an ended session's token was answered {status}");
            Ok(())
        })
    }

    /// Starts the server again and again, and checks it when it is ready.
    fn starts(&self, check: impl Fn(&Server) -> Result<()>) -> Result<Measured> {
        let mut measured = Measured::default();
        for number in 0..self.pairs {
            let (server, elapsed) = self.installation.time_start()?;
            check(&server)?;
            server.stop()?;
            let millis = elapsed.as_secs_f64() * 1000.0;
            eprintln!("  start {}: {millis:.1} ms", number + 1);
            measured.samples.push(millis);
        }
        Ok(measured)
    }

    /// Resident MiB of a server that was busy with logins and has been idle since.
    pub(crate) fn idle_memory(&self) -> Result<Measured> {
        let server = self.installation.start()?;
        let outcome = load::run(server.address(), &mut login_rounds(), 200, self.window)?;
        let busy = mebibytes(server.resident_kib()?);
        eprintln!("  busy: {busy:.1} MiB; waiting {} s", self.idle.as_secs());
        thread::sleep(self.idle);
        let mut measured = Measured::default();
        measured.check(&outcome);
        measured.samples.push(mebibytes(server.resident_kib()?));
        server.stop()?;
        Ok(measured)
    }

    /// Logins against a bare loop of the same Argon2 core on as many threads as cores.
    pub(crate) fn logins(&self) -> Result<Measured> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let server = self.installation.start()?;
        let mut scripts = login_rounds();
        let measured = self.compare(
            || load::run(server.address(), &mut scripts, 200, self.window),
            || bare::hashing(threads, self.window),
        )?;
        server.stop()?;
        Ok(measured)
    }

    /// Durable refreshes against a bare SQLite writer that commits batches of the size that the
    /// server's had. Both rotate equally many sessions, equally
    /// spread over a table of equal size: which pages a commit writes decides its price.
    pub(crate) fn refreshes(&self) -> Result<Measured> {
        let rotated = u32::from(self.sessions_each) * u32::try_from(CONNECTIONS)?;
        eprintln!("  logging in {rotated} sessions");
        let server = self.installation.start()?;
        let mut chains = log_in_chains(&server, self.sessions_each)?;
        server.stop()?;
        seed::fill_sessions(&self.installation.database(), rotated, SESSIONS)
            .context("cannot seed sessions (src/seed.rs names the schema)")?;
        let server = self.installation.start()?;
        let mut writer = BareWriter::create(self.folder, SESSIONS, rotated)?;
        let batch = Cell::new(CONNECTIONS);
        let measured = self.compare(
            || {
                let before = server.commits()?;
                let outcome = load::run(server.address(), &mut chains, 200, self.window)?;
                batch.set(server.commits()?.batch_since(before));
                Ok(outcome)
            },
            || {
                eprintln!("  the server committed batches of {}", batch.get());
                writer.run(self.window, batch.get())
            },
        )?;
        server.stop()?;
        Ok(measured)
    }

    /// Verifications of known tokens against a bare axum server that gets the same bytes.
    pub(crate) fn verifications(&self) -> Result<Measured> {
        let server = self.installation.start()?;
        let mut rounds = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let body = log_in(&server, number)?;
            let jwt = format!("JWT {}", access_token(&body)?);
            let request = http::get(FORWARD_AUTH, Some(&jwt));
            rounds.push(Round::new(vec![request]));
        }
        self.beside_bare_axum(server, rounds)
    }

    /// The same of many different tokens in turn, each of which was verified once before.
    pub(crate) fn verifications_of_many(&self, tokens: usize) -> Result<Measured> {
        let server = self.installation.start()?;
        eprintln!("  collecting {tokens} tokens");
        let chains = log_in_chains(&server, 8)?;
        let each = tokens.div_ceil(CONNECTIONS);
        let collecting = |chains| Collecting::new(chains, FORWARD_AUTH, each);
        let mut scripts: Vec<_> = chains.into_iter().map(collecting).collect();
        while !scripts.iter().all(Collecting::is_full) {
            self.without_errors(&server, &mut scripts)?;
        }
        let mut rounds: Vec<_> = scripts.into_iter().map(Collecting::into_round).collect();
        let before = server.resident_kib()?;
        while rounds.iter().any(|round| round.whole_rounds() == 0) {
            self.without_errors(&server, &mut rounds)?;
        }
        let grown = server.resident_kib()?.saturating_sub(before);
        eprintln!("  knowing them takes {:.1} MiB", mebibytes(grown));
        self.beside_bare_axum(server, rounds)
    }

    /// The same requests to the server and to a bare axum server.
    fn beside_bare_axum(&self, server: Server, rounds: Vec<Round>) -> Result<Measured> {
        let rounds = RefCell::new(rounds);
        let axum = BareAxum::start()?;
        let measured = self.compare(
            || load::run(server.address(), &mut rounds.borrow_mut(), 200, self.window),
            || {
                let outcome =
                    load::run(axum.address(), &mut rounds.borrow_mut(), 200, self.window)?;
                ensure!(outcome.errors == 0, "bare axum: {:?}", outcome.first_error);
                Ok(outcome.rate)
            },
        )?;
        server.stop()?;
        Ok(measured)
    }

    fn without_errors(&self, server: &Server, scripts: &mut [impl Script]) -> Result<()> {
        let outcome = load::run(server.address(), scripts, 200, self.window)?;
        ensure!(outcome.errors == 0, "{:?}", outcome.first_error);
        Ok(())
    }

    fn compare(
        &self,
        mut server: impl FnMut() -> Result<Outcome>,
        mut bare: impl FnMut() -> Result<f64>,
    ) -> Result<Measured> {
        let mut measured = Measured::default();
        for number in 0..self.pairs {
            let pair = Pair { server: server()?, bare: bare()? };
            eprintln!(
                "  pair {}: {:.0}/s against {:.0}/s, p50 {:?}, p99 {:?}, {} errors",
                number + 1,
                pair.server.rate,
                pair.bare,
                pair.server.p50,
                pair.server.p99,
                pair.server.errors
            );
            measured.push(pair);
        }
        Ok(measured)
    }
}

fn user(number: usize) -> String {
    format!("bench-{number}")
}

fn login_request(number: usize) -> Vec<u8> {
    let name = user(number);
    http::post_json(LOGIN_PATH, &format!(r#"{{"username":"{name}","password":"{PASSWORD}"}}"#))
}

/// Every user logs in, over and over, on a few connections.
fn login_rounds() -> Vec<impl Script> {
    let requests = |first| (first..CONNECTIONS).step_by(LOGIN_CONNECTIONS).map(login_request);
    (0..LOGIN_CONNECTIONS).map(|first| Round::new(requests(first).collect())).collect()
}

/// The scripts of the refresh load: each connection gets a user with several sessions. The logins
/// of different users go on at once, or the server's hashing would idle between them.
fn log_in_chains(server: &Server, each: u8) -> Result<Vec<Chains>> {
    let order = RandomState::new();
    let chains = &|number| -> Result<Chains> {
        let logins = (0..each).map(|_| RefreshChain::from_login(&log_in(server, number)?));
        let mut chains = logins.collect::<Result<Vec<_>>>()?;
        // In the order of the logins, a batch would find its rows side by side after all.
        chains.sort_by_cached_key(|chain| order.hash_one(chain.request()));
        Ok(Chains::new(chains))
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..CONNECTIONS).map(|number| scope.spawn(move || chains(number))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| anyhow!("a login thread panicked"))?)
            .collect()
    })
}

/// Logs one user in, outside of any measurement; the body of the answer.
fn log_in(server: &Server, number: usize) -> Result<Vec<u8>> {
    let (status, body) = http::exchange(server.address(), &login_request(number))?;
    let text = String::from_utf8_lossy(&body);
    ensure!(status == 200, "login of {} answered {status}: {text}", user(number));
    Ok(body)
}

/// KiB as MiB.
pub(crate) fn mebibytes(kib: u32) -> f64 {
    as_f64(usize::try_from(kib).unwrap_or(usize::MAX)) / 1024.0
}
