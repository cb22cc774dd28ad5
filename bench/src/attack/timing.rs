//! Whether the time of a refused login tells who exists: refusals of every kind, interleaved, one
//! at a time, must take equally long.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use argon2_rust::params::Memory;
use argon2_rust::{Algorithm, Argon2, Params, Version};

use super::Site;
use super::client::{Client, Reply};
use super::dice::Dice;
use super::ground::{self, ANY_NUMBER_OF_REQUESTS, HOME, LoginRequest};
use super::statistics::{auc, spread};
use crate::bare;
use crate::load::Window;
use crate::measure::PASSWORD;
use crate::report::{Bound, Row, median};
use crate::seed;
use crate::server::{Installation, Server};

/// As long as the right one.
const WRONG: &str = "Correct-Horse-8";
/// Failures that are free for a user and network (`throttle.free_failures`, by default).
const FREE_FAILURES: u32 = 5;
/// The least difference that counts, in milliseconds.
const LEAST: f64 = 0.5;
/// The difference that counts, as a part of what a hash takes.
const PART_OF_A_HASH: f64 = 0.05;
/// Time before and in which bare hashes are timed.
const HASHING: Window =
    Window { warm_up: Duration::from_millis(300), measured: Duration::from_millis(1_500) };

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// There is no such user.
    Unknown,
    /// The password is wrong.
    Wrong,
    /// The user is disabled.
    Disabled,
    /// The password is wrong, and was so often before; the wait is over.
    Throttled,
    /// The password is wrong, and the hash is one of another price.
    OldHash,
}

const KINDS: [Kind; 5] =
    [Kind::Unknown, Kind::Wrong, Kind::Disabled, Kind::Throttled, Kind::OldHash];

impl Kind {
    /// The numbers of its users; each sample takes another one, or the throttle would speak.
    fn users(self, count: u32) -> Range<u32> {
        let first = match self {
            Self::Unknown => 0,
            Self::Wrong => 100_000,
            Self::Disabled => 200_000,
            Self::Throttled => 300_000,
            Self::OldHash => 400_000,
        };
        first..first + count
    }
}

/// Samples, and the rows.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let count = site.scale.refusals;
    let installation = prepare(site, count)?;
    // On the machine as it is while nothing else runs.
    let hash = 1000.0 / bare::hashing(1, HASHING)?.max(f64::MIN_POSITIVE);
    let server = installation.start()?;
    eprintln!("  a hash takes {hash:.2} ms; throttling {count} users");
    let throttled = Kind::Throttled.users(count);
    let free_at = ground::in_parts(throttled, |users| throttle(server.address(), users))?;
    let times = sample(&server, count, &free_at)?;
    server.stop()?;
    rows(&times, hash, site.scale.area)
}

/// Users of every kind but the unknown one.
///
/// The server learns the prices of stored hashes from its database when it starts: a row of
/// another price that is there by then must be enough for it to hide the difference.
fn prepare(site: &Site<'_>, count: u32) -> Result<Installation> {
    let existing = KINDS.into_iter().filter(|kind| *kind != Kind::Unknown);
    let users = existing.flat_map(|kind| kind.users(count));
    let installation = site.ground.prepare("timing", &ANY_NUMBER_OF_REQUESTS, 0..0)?;
    let db = installation.database();
    seed::seed_named(&db, ground::TEMPLATE, users.map(ground::name))?;
    seed::disable(&db, Kind::Disabled.users(count).map(ground::name))?;
    seed::set_hash(&db, &old_hash()?, Kind::OldHash.users(count).map(ground::name))?;
    Ok(installation)
}

/// A hash of the right password, of another price than today's: 32 MiB instead of 19.
fn old_hash() -> Result<String> {
    let wrong = |error| anyhow!("Argon2: {error}");
    let params = Params::builder().memory(Memory::kib(32_768)).passes(2).build().map_err(wrong)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_encoded(PASSWORD.as_bytes(), b"sixteen old salt")
        .map_err(wrong)
}

/// Fails each user's logins until they are throttled; from when on each may try again.
fn throttle(address: SocketAddr, users: &[u32]) -> Result<Vec<Instant>> {
    let mut client = Client::connect(address)?;
    let mut request = LoginRequest::with_password(WRONG);
    let mut free_at = Vec::new();
    for user in users {
        for _ in 0..FREE_FAILURES {
            let status = client.ask(request.of(*user, HOME))?.status;
            ensure!(status == 206, "status {status} instead of 206 to a free failure");
        }
        let Reply { status, retry_after, .. } = client.ask(request.of(*user, HOME))?;
        ensure!(status == 429, "status {status} instead of 429 after {FREE_FAILURES} failures");
        let wait = retry_after.context("a 429 without Retry-After")?;
        free_at.push(Instant::now() + Duration::from_secs(wait));
    }
    Ok(free_at)
}

/// Milliseconds of the refusals of each kind. Every round is in another order, so that no kind
/// always follows the same one.
fn sample(server: &Server, count: u32, free_at: &[Instant]) -> Result<Vec<Vec<f64>>> {
    let mut client = Client::connect(server.address())?;
    let mut request = LoginRequest::with_password(WRONG);
    let mut times = vec![Vec::new(); KINDS.len()];
    for (round, free) in (0..count).zip(free_at) {
        thread::sleep(free.saturating_duration_since(Instant::now()));
        let mut order: Vec<_> = KINDS.into_iter().zip(&mut times).collect();
        Dice::new(u64::from(count), u64::from(round)).shuffle(&mut order);
        for (kind, times) in order {
            let bytes = request.of(kind.users(count).start + round, HOME);
            let begin = Instant::now();
            let status = client.ask(bytes)?.status;
            let took = begin.elapsed();
            ensure!(status == 206, "{kind:?}, number {round}: status {status} instead of 206");
            times.push(took.as_secs_f64() * 1000.0);
        }
    }
    Ok(times)
}

fn rows(times: &[Vec<f64>], hash: f64, area: f64) -> Result<Vec<Row>> {
    let unknown = times.first().context("no samples")?;
    let mut medians = Vec::new();
    let mut areas = Vec::new();
    for (kind, times) in KINDS.iter().zip(times) {
        let (median, area) = median(times).zip(auc(unknown, times)).context("no samples")?;
        eprintln!("  {kind:?}: median {median:.3} ms, AUC against unknown {area:.3}");
        medians.push(median);
        areas.push((area - 0.5).abs());
    }
    // As it is shown, so that the table says nothing that does not hold.
    let bound = ((hash * PART_OF_A_HASH).max(LEAST) * 100.0).floor() / 100.0;
    let farthest = areas.into_iter().reduce(f64::max);
    Ok(vec![
        Row::of(
            "timing: medians of refusals apart".to_owned(),
            Bound::Milliseconds(bound),
            spread(&medians),
            &[],
        ),
        Row::of(
            "timing: AUC against unknown users, from 0.5".to_owned(),
            Bound::Share(area),
            farthest,
            &[],
        ),
    ])
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn no_user_is_of_two_kinds() {
        let mut seen = std::collections::HashSet::new();
        assert!(KINDS.into_iter().flat_map(|kind| kind.users(2_000)).all(|user| seen.insert(user)));
        assert_eq!(WRONG.len(), PASSWORD.len());
        assert_ne!(WRONG, PASSWORD);
    }

    /// A server that gives its one connection these answers.
    fn server(answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_user_is_throttled_only_when_the_server_says_so_and_for_how_long() {
        let free = ["206 X"; 5].to_vec();
        let throttled = [free.clone(), vec!["429 X\r\nRetry-After: 3"]].concat();
        let free_at = throttle(server([throttled.clone(), throttled].concat()), &[1, 2]).unwrap();
        assert_eq!(free_at.len(), 2);
        let wait = free_at[1].duration_since(Instant::now());
        assert!((2..=3).contains(&wait.as_secs()), "{wait:?}");
        for last in ["206 X", "429 X", "200 X"] {
            let answers = [free.clone(), vec![last]].concat();
            assert!(throttle(server(answers), &[1]).is_err(), "{last}");
        }
        assert!(throttle(server(vec!["206 X", "429 X\r\nRetry-After: 1"]), &[1]).is_err());
    }

    #[test]
    fn one_kind_that_differs_is_seen_in_both_rows() {
        let like =
            |base: f64| (0..200).map(|n| base + f64::from(n % 10) / 10.0).collect::<Vec<_>>();
        let mut times = vec![like(10.0); KINDS.len()];
        assert!(rows(&times, 10.0, 0.03).unwrap().iter().all(Row::is_met));
        times[3] = like(10.6);
        assert!(rows(&times, 10.0, 0.03).unwrap().iter().all(|row| !row.is_met()));
        times[3].clear();
        assert!(rows(&times, 10.0, 0.03).is_err());
    }

    #[test]
    fn the_old_hash_is_of_the_right_password_and_another_price() {
        let phc = old_hash().unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=32768,t=2,p=1$"), "{phc}");
        Argon2::verify_encoded(&phc, PASSWORD.as_bytes(), Algorithm::Argon2id).unwrap();
    }
}
