//! A login flood: many times the logins that the machine can hash, while tokens are verified at a
//! constant rate beside it.
//!
//! All logins of the flood are right, so that every hash the server makes is a 200 and what it
//! still gets done can be counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::Site;
use super::client::Client;
use super::ground::{self, ANY_NUMBER_OF_REQUESTS, HOME, LoginRequest, Newcomers};
use super::open_loop::{self, InTurn, Source, Stream};
use super::statistics::percentile;
use super::tally::Tally;
use crate::load::{self, Window};
use crate::measure::{PASSWORD, mebibytes};
use crate::report::{Bound, Fault, Row, as_f64};
use crate::server::Server;

/// Users of the flood, in turn.
pub(super) const USERS: u32 = 20_000;
/// Those after them log in beside the flood, or were logged in before it.
pub(super) const OTHERS: u32 = 1_000;
/// Known tokens, verified in turn.
const TOKENS: u32 = 64;
/// Verifications a second.
const VERIFICATIONS: f64 = 2_000.0;
/// Logins a second from another network.
const MODEST_LOGINS: f64 = 10.0;
/// Connections of the closed loop that measures the capacity.
const CAPACITY_CONNECTIONS: u32 = 16;
/// Logins one after the other, before and after.
const SINGLE_LOGINS: u32 = 30;
/// After the end of a flood everything must be as before within this.
const RECOVERY: Duration = Duration::from_secs(2);
/// An answer to the flood may come this long after that: it was being hashed.
const LAST_ANSWER: Duration = Duration::from_millis(500);
/// How often the memory and the connections are looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// What a hashing thread works in, in MiB (`hashing.memory_kib`, by default).
const MEMORY_A_THREAD: f64 = 19.0;
/// What else the server may take on, in MiB.
const MEMORY_ELSE: f64 = 32.0;
/// What a connection may take with the login that waits on it, in MiB
/// (docs/explanation/under-attack.md).
const MEMORY_A_CONNECTION: f64 = 32.0 / 1024.0;
/// Statuses that refuse a login for the time being.
pub(super) const REFUSED: &[u16] = &[429, 503];
const GRANTED: &[u16] = &[200];

/// Which flood.
#[derive(Clone, Copy)]
pub(crate) struct Flood {
    /// So many times the capacity.
    pub(crate) times: u32,
    /// All from one network, instead of each login from another.
    pub(crate) one_network: bool,
    /// A modest stream of logins comes from elsewhere.
    pub(crate) fair: bool,
}

impl Flood {
    /// Also the name of the folder.
    fn title(self) -> String {
        let from = if self.one_network { "one network" } else { "many networks" };
        format!("flood{} from {from}", self.times)
    }

    /// The least goodput, in percent of the capacity: refusing costs something, too.
    fn goodput(self) -> f64 {
        if self.times > 10 { 65.0 } else { 85.0 }
    }
}

/// The logins of the flood.
struct Logins {
    request: LoginRequest,
    one_network: bool,
}

impl Source for Logins {
    fn request(&mut self, number: u32) -> &[u8] {
        let network = if self.one_network { 0 } else { number };
        self.request.of(number % USERS, network)
    }
}

/// A few logins from another network.
struct Modest(LoginRequest);

impl Source for Modest {
    fn request(&mut self, number: u32) -> &[u8] {
        self.0.of(USERS + number % OTHERS, HOME)
    }
}

/// What a server holds at a time.
#[derive(Clone, Copy, Default)]
struct Held {
    mebibytes: f64,
    connections: u32,
}

impl Held {
    /// Counts every open descriptor as a connection.
    fn now(server: &Server) -> Result<Self> {
        let connections = server.descriptors()?;
        Ok(Self { mebibytes: mebibytes(server.resident_kib()?), connections })
    }

    fn or_more(self, other: Self) -> Self {
        Self {
            mebibytes: self.mebibytes.max(other.mebibytes),
            connections: self.connections.max(other.connections),
        }
    }

    fn above(self, quiet: Self) -> Self {
        Self {
            mebibytes: self.mebibytes - quiet.mebibytes,
            connections: self.connections.saturating_sub(quiet.connections),
        }
    }

    /// The most MiB that may be held with so many connections, in whole ones.
    fn bound(self) -> f64 {
        let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let connections = f64::from(self.connections) * MEMORY_A_CONNECTION;
        as_f64(threads).mul_add(MEMORY_A_THREAD, MEMORY_ELSE + connections).round()
    }
}

/// What a run came to.
struct Found {
    verified: Tally,
    flood: Tally,
    modest: Option<Tally>,
    /// Logins a second, before and after.
    capacity: f64,
    /// The most during the flood, above those of the quiet server.
    most: Held,
    /// Seconds from the end of the flood until its last answer.
    answered: f64,
    /// A login after the flood (the 90th percentile), in percent of the 99th before it.
    recovery: Option<f64>,
}

/// Floods a fresh server.
pub(crate) fn take(site: &Site<'_>, flood: Flood) -> Result<Vec<Row>> {
    let title = flood.title();
    eprintln!("  {title}");
    let installation = site.ground.prepare(&title, &ANY_NUMBER_OF_REQUESTS, 0..USERS + OTHERS)?;
    let server = installation.start()?;
    let quiet = Held::now(&server)?;
    let tokens = ground::verifications(&ground::log_in(&server, USERS..USERS + TOKENS)?)?;
    let before = single_logins(&server)?;
    let capacity_before = capacity(&server, site.scale.capacity)?;
    eprintln!("  {capacity_before:.0} logins/s in a closed loop, {:.1} MiB", quiet.mebibytes);
    let rate = capacity_before * f64::from(flood.times);
    let window = site.scale.flood;
    let end = Instant::now() + window.warm_up + window.measured;
    let (tallies, most) = rage(&server, flood, rate, &tokens, window)?;
    let answered = end.elapsed().as_secs_f64();
    let mut tallies = tallies.into_iter();
    let (verified, logins) = tallies.next().zip(tallies.next()).context("no tallies")?;
    let modest = tallies.next();
    for tally in [Some(&verified), Some(&logins), modest.as_ref()].into_iter().flatten() {
        eprintln!("  {tally}");
    }
    thread::sleep(RECOVERY.saturating_sub(end.elapsed()));
    let after = single_logins(&server).context("after the flood")?;
    let mut client = Client::connect(server.address())?;
    for token in &tokens {
        ground::granted(&mut client, token).context("a verification after the flood")?;
    }
    let slowest = percentile(&before, 99);
    let recovery =
        percentile(&after, 90).zip(slowest).map(|(after, before)| 100.0 * after / before);
    let capacity_after = capacity(&server, site.scale.capacity)?;
    let most = most.above(quiet);
    eprintln!(
        "  {capacity_after:.0} logins/s afterwards; {:.1} MiB and {} connections more at most",
        most.mebibytes, most.connections
    );
    server.stop()?;
    let capacity = f64::midpoint(capacity_before, capacity_after);
    let found = Found { verified, flood: logins, modest, capacity, most, answered, recovery };
    Ok(rows(flood, &found, flood.goodput() - site.scale.goodput_by_chance))
}

/// The flood itself, with the verifications beside it; the tallies of verifications, flood and
/// modest logins, and the most that the server held.
fn rage(
    server: &Server,
    flood: Flood,
    rate: f64,
    tokens: &[Vec<u8>],
    window: Window,
) -> Result<(Vec<Tally>, Held)> {
    let mut verifications = InTurn(tokens.to_vec());
    let request = LoginRequest::with_password(PASSWORD);
    let mut logins = Logins { request: request.clone(), one_network: flood.one_network };
    let mut modest = Modest(request);
    let stream = |title, rate, connections, expected, source| Stream {
        title,
        rate,
        connections,
        expected,
        source,
    };
    let answers = &[200, 429, 503];
    let mut streams: Vec<Stream<'_>> = vec![
        stream("verifications", VERIFICATIONS, 512, GRANTED, &mut verifications),
        stream("flood", rate, 2_048, answers, &mut logins),
    ];
    if flood.fair {
        streams.push(stream("modest logins", MODEST_LOGINS, 64, answers, &mut modest));
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = Held::default();
            while !over.load(Ordering::Relaxed) {
                most = most.or_more(Held::now(server)?);
                thread::sleep(SAMPLE_EVERY);
            }
            anyhow::Ok(most)
        });
        let tallies = open_loop::run(server.address(), streams, window);
        over.store(true, Ordering::Relaxed);
        let most = sampler.join().map_err(|_| anyhow!("the sampler panicked"))?;
        Ok((tallies?, most?))
    })
}

/// The logins a second that the machine can do, from clients that wait for their answers.
fn capacity(server: &Server, window: Window) -> Result<f64> {
    let mut scripts: Vec<_> = (0..CAPACITY_CONNECTIONS)
        .map(|first| Newcomers::new(PASSWORD, first, CAPACITY_CONNECTIONS))
        .collect();
    let outcome = load::run(server.address(), &mut scripts, 200, window)?;
    ensure!(outcome.errors == 0, "capacity: {:?}", outcome.first_error);
    ensure!(outcome.rate > 0.0, "capacity: no login at all");
    Ok(outcome.rate)
}

/// Milliseconds that logins take, one after the other; all must be granted.
pub(super) fn single_logins(server: &Server) -> Result<Vec<f64>> {
    let mut client = Client::connect(server.address())?;
    let mut request = LoginRequest::with_password(PASSWORD);
    (0..SINGLE_LOGINS)
        .map(|user| {
            let begin = Instant::now();
            ground::granted(&mut client, request.of(USERS + user, HOME))?;
            Ok(begin.elapsed().as_secs_f64() * 1000.0)
        })
        .collect()
}

fn rows(flood: Flood, found: &Found, least_goodput: f64) -> Vec<Row> {
    let Found { verified, flood: logins, modest, capacity, most, answered, recovery } = found;
    let mut faults = [verified.faults(), logins.faults()].concat();
    if logins.count(REFUSED) == 0 {
        faults.push(Fault::Wrong("nobody was refused: that was no flood".to_owned()));
    }
    let title = flood.title();
    let last_answer = (RECOVERY + LAST_ANSWER).as_secs_f64();
    // Whoever is granted a login beside the flood takes of the same capacity.
    let granted = [Some(logins), modest.as_ref()].into_iter().flatten();
    let goodput = 100.0 * granted.map(|tally| tally.rate(GRANTED)).sum::<f64>() / capacity;
    let silent = as_f64(logins.without_retry_after(REFUSED));
    let row = |what: &str, bound, value| Row::of(format!("{title}: {what}"), bound, value, &faults);
    let mut rows = vec![
        row("verify p99", Bound::Milliseconds(10.0), verified.latency(GRANTED, 99)),
        row("goodput, of the capacity", Bound::Percent(least_goodput), Some(goodput)),
        row(
            "memory above the quiet server's",
            Bound::Mebibytes(most.bound()),
            Some(most.mebibytes),
        ),
        row("refusal p99", Bound::Milliseconds(100.0), logins.latency(REFUSED, 99)),
        row("refusals without Retry-After", Bound::Count(0.0), Some(silent)),
        row("last answer after its end", Bound::Seconds(last_answer), Some(*answered)),
        row("login 2 s later, of the quiet p99", Bound::MostPercent(200.0), *recovery),
    ];
    if let Some(modest) = modest {
        let faults = [faults, modest.faults()].concat();
        let success = 100.0 * as_f64(modest.count(GRANTED)) / as_f64(modest.planned());
        let title = "fair: another network's logins during it".to_owned();
        rows.push(Row::of(title, Bound::Percent(99.0), Some(success), &faults));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_that_met_no_refusal_is_no_flood() {
        let now = Instant::now();
        let window = Window { warm_up: Duration::ZERO, measured: Duration::from_secs(1) };
        let tally = || {
            let mut tally = Tally::new("x", &[200, 503], now, window);
            tally.plan(1);
            tally.sent(now, now);
            tally.answered(200, b"", now, now);
            tally
        };
        let mut found = Found {
            verified: tally(),
            flood: tally(),
            modest: Some(tally()),
            capacity: 1.0,
            most: Held { mebibytes: 51.0, connections: 0 },
            answered: 0.1,
            recovery: Some(100.0),
        };
        let flood = Flood { times: 10, one_network: true, fair: true };
        assert!(rows(flood, &found, 85.0).iter().all(|row| !row.is_met()));
        found.flood.answered(503, b"HTTP/1.1 503 X\r\nRetry-After: 1\r\n\r\n", now, now);
        let met = rows(flood, &found, 85.0);
        assert_eq!(met.len(), 8);
        assert!(met.iter().all(Row::is_met));
    }

    #[test]
    fn memory_may_grow_by_32_kib_a_connection() {
        let held = |connections| Held { mebibytes: 0.0, connections }.bound();
        assert!((held(64) - held(0) - 2.0).abs() < 0.01);
        let sampled = Held { mebibytes: 9.0, connections: 80 }
            .or_more(Held { mebibytes: 30.0, connections: 50 })
            .above(Held { mebibytes: 5.0, connections: 40 });
        assert!((sampled.mebibytes - 25.0).abs() < 0.01);
        assert_eq!(sampled.connections, 40);
    }

    #[test]
    fn a_flood_from_one_network_has_one_address() {
        let request = LoginRequest::with_password(PASSWORD);
        let networks = |one_network| {
            let mut logins = Logins { request: request.clone(), one_network };
            let mut seen = std::collections::HashSet::new();
            for number in 0..100 {
                let text = String::from_utf8(logins.request(number).to_vec()).unwrap();
                seen.insert(
                    text.lines().find(|line| line.starts_with("X-Forw")).unwrap().to_owned(),
                );
            }
            seen.len()
        };
        assert_eq!((networks(true), networks(false)), (1, 100));
    }
}
