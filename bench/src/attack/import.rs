//! An import into a running server: what those who log in meanwhile notice, and whether every user
//! of the file can log in afterwards or was named as refused.

use std::fmt::Write as _;
use std::ops::Range;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};

use super::Site;
use super::client::Client;
use super::ground::{self, ANY_NUMBER_OF_REQUESTS, HOME, LoginRequest};
use super::open_loop::{self, Source, Stream};
use super::tally::Tally;
use crate::load::Window;
use crate::measure::PASSWORD;
use crate::report::{Bound, Fault, Row, as_f64};
use crate::server::Server;

/// Users who log in once while others are imported.
const NATIVES: u32 = 4_000;
/// Users of the file, by number.
const IMPORTED: Range<u32> = NATIVES..NATIVES + 10_000;
/// So many of them have one hash that no server can check.
const REFUSED_EVERY: u32 = 500;
/// Logins a second.
const RATE: f64 = 50.0;
/// [`PASSWORD`] as Django 1.11 and 2.2 write it, of whose time the original is, and scrypt as 4.2 does.
const HASHES: [&str; 5] = [
    "pbkdf2_sha256$36000$seasaltseasalt$5X8hPKqRev1zIWpM81e1UBCpbNYyGuFJpjjzXFlXQoI=",
    "pbkdf2_sha1$36000$seasaltseasalt$MP1H5jTEujIKWHcwEIMnJYqtkTA=",
    "argon2$argon2id$v=19$m=512,t=2,p=2$c2Vhc2FsdHNlYXNhbHQ\
     $9XWbsJOBykFLVhH7JU8vIQKSKOLmtYV7ttNl33zfx+Q",
    "bcrypt_sha256$$2b$12$G2rz8nwg5Zyi3LR9CUSjsevIn/hUNPZ3yp7jaUUItb7NeiFrq.mFW",
    "scrypt$16384$seasaltseasalt$8$1$\
     DePjDQ1YnJIOWYRzsUT+ZhochB+W10tg6lH0e8a3DVMl/v0Fw/jD4SB3F5g/gs3KQi9us7vYnDvAcx2UBBsNSQ==",
];
/// A password that nobody can check any more: Django left it out long ago.
const UNKNOWN_HASH: &str = "crypt$$azPG3d0ZoUKKo";

/// Logins of the natives, each from another network.
struct Natives {
    request: LoginRequest,
    first: u32,
}

impl Source for Natives {
    fn request(&mut self, number: u32) -> &[u8] {
        let user = self.first + number;
        self.request.of(user % NATIVES, user)
    }
}

/// Logs natives in before and during an import, then everybody who was imported.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let window = site.scale.import;
    let installation = site.ground.prepare("import", &ANY_NUMBER_OF_REQUESTS, 0..NATIVES)?;
    let server = installation.start()?;
    let before = log_in(&server, 0, window)?;
    eprintln!("  before: {before}");
    let dump = dump();
    let (meanwhile, said, took) = thread::scope(|scope| {
        let import = scope.spawn(|| {
            thread::sleep(window.warm_up);
            let begin = Instant::now();
            installation.import(&dump).map(|said| (said, begin.elapsed()))
        });
        let meanwhile = log_in(&server, NATIVES / 2, window)?;
        let (said, took) = import.join().map_err(|_| anyhow!("a thread panicked"))??;
        anyhow::Ok((meanwhile, said, took))
    })?;
    eprintln!("  meanwhile: {meanwhile}");
    eprintln!("  the import took {:.1} s", took.as_secs_f64());
    let refused = refused(&said)?;
    let each = usize::try_from(site.scale.imported_each)?;
    let begin = Instant::now();
    let lost = ground::in_parts(IMPORTED, |users| {
        let mut client = Client::connect(server.address())?;
        let mut request = LoginRequest::with_password(PASSWORD);
        let mut lost = Vec::new();
        for user in users.iter().step_by(each) {
            let reply = client.ask(request.of(*user, HOME))?;
            ensure!([200, 206].contains(&reply.status), "status {} at a login", reply.status);
            if reply.status != 200 && !refused.contains(&ground::name(*user)) {
                eprintln!("  {} cannot log in", ground::name(*user));
                lost.push(*user);
            }
        }
        Ok(lost)
    })?;
    eprintln!("  their logins took {:.0} s", begin.elapsed().as_secs_f64());
    server.stop()?;
    Ok(rows(&before, &meanwhile, took < window.measured, lost.len()))
}

/// Natives, from that one on, at a constant rate.
fn log_in(server: &Server, first: u32, window: Window) -> Result<Tally> {
    let request = LoginRequest::with_password(PASSWORD);
    let mut natives = Natives { request, first };
    let stream = Stream {
        title: "logins",
        rate: RATE,
        connections: 64,
        expected: &[200],
        source: &mut natives,
    };
    let tallies = open_loop::run(server.address(), vec![stream], window)?;
    tallies.into_iter().next().ok_or_else(|| anyhow!("no tally"))
}

/// Whether this user's hash is one that must be refused.
fn is_refused(user: u32) -> bool {
    user.is_multiple_of(REFUSED_EVERY)
}

/// The file, a line for each user.
fn dump() -> String {
    let mut text = String::new();
    for (user, hash) in IMPORTED.zip(HASHES.iter().cycle()) {
        let hash = if is_refused(user) { UNKNOWN_HASH } else { hash };
        let name = ground::name(user);
        // Writing to a string cannot fail.
        let _ = writeln!(text, r#"{{"username":"{name}","password_hash":"{hash}"}}"#);
    }
    text
}

/// The names of those whom the import refused; they must be those who had to be.
fn refused(said: &str) -> Result<Vec<String>> {
    let line =
        |line: &str| -> Option<u32> { line.strip_prefix("line ")?.split_once(':')?.0.parse().ok() };
    let users: Vec<_> =
        said.lines().filter_map(line).map(|line| IMPORTED.start + line - 1).collect();
    let expected: Vec<_> = IMPORTED.filter(|user| is_refused(*user)).collect();
    ensure!(users == expected, "the import refused others than those it had to: {said}");
    Ok(users.into_iter().map(ground::name).collect())
}

/// `within`: whether the import ended while logins were measured.
fn rows(before: &Tally, meanwhile: &Tally, within: bool, lost: usize) -> Vec<Row> {
    let mut faults = [before.faults(), meanwhile.faults()].concat();
    if !within {
        faults.push(Fault::Wrong("the import took longer than the measured time".to_owned()));
    }
    let p99 = |tally: &Tally| tally.latency(&[200], 99);
    let ratio = p99(meanwhile).zip(p99(before)).map(|(now, then)| 100.0 * now / then);
    vec![
        Row::of(
            format!("import: p99 of {RATE} logins/s meanwhile, of that before"),
            Bound::MostPercent(200.0),
            ratio,
            &faults,
        ),
        Row::of(
            "import: users who can neither log in nor were named".to_owned(),
            Bound::Count(0.0),
            Some(as_f64(lost)),
            &faults,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tally(millis: u64) -> Tally {
        let now = Instant::now();
        let window = Window { warm_up: Duration::ZERO, measured: Duration::from_mins(1) };
        let mut tally = Tally::new("x", &[200], now, window);
        tally.plan(1);
        tally.sent(now, now);
        tally.answered(200, b"", now, now + Duration::from_millis(millis));
        tally
    }

    #[test]
    fn the_bounds_are_twice_the_time_before_and_nobody_lost() {
        let met = |millis, within, lost| -> Vec<bool> {
            rows(&tally(10), &tally(millis), within, lost).iter().map(Row::is_met).collect()
        };
        assert_eq!(met(20, true, 0), [true, true]);
        assert_eq!(met(21, true, 1), [false, false]);
        assert_eq!(met(20, false, 0), [false, false]);
    }

    #[test]
    fn the_file_has_every_kind_and_those_who_are_refused_are_known_by_their_lines() {
        let dump = dump();
        assert_eq!(dump.lines().count(), 10_000);
        for hash in HASHES {
            assert!(dump.matches(hash).count() > 1_900, "{hash}");
        }
        let said = (0..20)
            .fold(String::new(), |said, part| said + &format!("line {}: no\n", part * 500 + 1));
        assert_eq!(refused(&said).unwrap().len(), 20);
        refused(&said.replace("line 501:", "line 502:")).unwrap_err();
        refused("").unwrap_err();
    }
}
