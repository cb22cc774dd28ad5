//! The ground that an attack takes place on: a fresh installation with users to log in, and the
//! requests of clients that stand behind a proxy, each in the network it is given.

use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};

use super::client::Client;
use crate::bare::FORWARD_AUTH;
use crate::http;
use crate::measure::{LOGIN_PATH, PASSWORD};
use crate::script::{Script, access_token};
use crate::seed;
use crate::server::{Installation, Server, Setting};

/// The first user, whom all others are copies of.
pub(crate) const TEMPLATE: &str = "template";

/// What every attack needs: a throttle that works, callers in other networks than this machine
/// (their addresses are in `X-Forwarded-For`), and room for the attacker's connections, which all
/// come from this machine.
const SETTINGS: [Setting; 4] = [
    ("PASSMINT_THROTTLE__ENABLED", "true"),
    ("PASSMINT_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ("PASSMINT_SERVER__MAX_CONNECTIONS", "8000"),
    ("PASSMINT_SERVER__MAX_CONNECTIONS_PER_ADDRESS", "8000"),
];

/// Lets any number of requests in from one address, for figures of what comes behind that limit.
pub(crate) const ANY_NUMBER_OF_REQUESTS: [Setting; 3] = [
    ("PASSMINT_THROTTLE__REQUESTS_PER_SECOND", "1000000"),
    ("PASSMINT_THROTTLE__BURST", "1000000"),
    // The attackers' usernames are many, and their network is one.
    ("PASSMINT_THROTTLE__NETWORK_FAILURES", "100000"),
];

/// Where installations are made.
pub(crate) struct Ground<'a> {
    /// The server binary.
    pub(crate) binary: &'a Path,
    /// A folder that is removed at the end.
    pub(crate) folder: &'a Path,
}

impl Ground<'_> {
    /// A fresh installation with the user [`TEMPLATE`] and copies of it called [`name`] of each
    /// number.
    pub(crate) fn prepare(
        &self,
        called: &str,
        settings: &[Setting],
        users: Range<u32>,
    ) -> Result<Installation> {
        let folder: PathBuf = self.folder.join(called);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let installation = Installation::new(self.binary, &folder)?.with(&SETTINGS).with(settings);
        // Makes the database, too.
        installation.add_user(TEMPLATE, PASSWORD)?;
        seed::seed_named(&installation.database(), TEMPLATE, users.map(name))
            .context("cannot seed users (src/seed.rs names the schema)")?;
        Ok(installation)
    }
}

/// The name of the user of that number, below ten million.
pub(crate) fn name(number: u32) -> String {
    format!("seeded-{number:07}")
}

/// A login whose user and network are written in place, so that a million of them cost no
/// allocation. All have the same length.
#[derive(Clone)]
pub(crate) struct LoginRequest {
    bytes: Vec<u8>,
    digits: Range<usize>,
    address: Range<usize>,
}

impl LoginRequest {
    /// Logins with that password; a wrong one must be as long as the right one to be the same
    /// work.
    pub(crate) fn with_password(password: &str) -> Self {
        let body = format!(r#"{{"username":"{}","password":"{password}"}}"#, name(0));
        let bytes = login(&body, 0);
        // The name is ASCII and stands there once; so does the address.
        let find = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).unwrap_or_default();
        let digits = find(&name(0)) + "seeded-".len();
        let from = find(&address(0));
        Self { digits: digits..digits + 7, address: from..from + address(0).len(), bytes }
    }

    /// The bytes for the user of that number from an address in the network of that number.
    pub(crate) fn of(&mut self, user: u32, network: u32) -> &[u8] {
        let mut digits = self.bytes.get_mut(self.digits.clone()).unwrap_or_default();
        // A number of more digits than there is room for would be cut; there is none.
        let _ = write!(digits, "{user:07}");
        let mut place = self.bytes.get_mut(self.address.clone()).unwrap_or_default();
        let [a, b, c, d] = octets(network);
        let _ = write!(place, "{a}.{b}.{c}.{d}");
        &self.bytes
    }
}

/// A login of the template user from the network of that number.
pub(crate) fn template_login(password: &str, network: u32) -> Vec<u8> {
    login(&format!(r#"{{"username":"{TEMPLATE}","password":"{password}"}}"#), network)
}

fn login(body: &str, network: u32) -> Vec<u8> {
    let forwarded = format!("X-Forwarded-For: {}\r\n", address(network));
    http::post_json_with(LOGIN_PATH, &forwarded, body)
}

/// An address in a network (/24) of its own for each number below a million (then they come again);
/// always 15 characters.
fn address(network: u32) -> String {
    octets(network).map(|octet| octet.to_string()).join(".")
}

fn octets(network: u32) -> [u32; 4] {
    [128 + network / 10_000 % 100, 100 + network / 100 % 100, 100 + network % 100, 101]
}

/// A number of a network from which no attacker comes.
pub(crate) const HOME: u32 = 999_999;

/// Logs users in; the bodies of the answers, in the order of the users.
pub(crate) fn log_in(server: &Server, users: Range<u32>) -> Result<Vec<Vec<u8>>> {
    in_parts(users, |users| {
        let mut client = Client::connect(server.address()).context("cannot connect")?;
        let mut request = LoginRequest::with_password(PASSWORD);
        users.iter().map(|user| granted(&mut client, request.of(*user, HOME))).collect()
    })
}

/// Does something for all these users, a few at once; what it comes to for each, in their order.
pub(crate) fn in_parts<T: Send>(
    users: Range<u32>,
    work: impl Fn(&[u32]) -> Result<Vec<T>> + Sync,
) -> Result<Vec<T>> {
    // More than the machine hashes at once, and few enough that none is shed.
    const WORKERS: usize = 4;
    let users: Vec<_> = users.collect();
    let each = users.len().div_ceil(WORKERS).max(1);
    let work = &work;
    thread::scope(|scope| {
        let workers: Vec<_> =
            users.chunks(each).map(|users| scope.spawn(move || work(users))).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        Ok(all)
    })
}

/// Asks for something that must be granted; the body of the answer.
pub(crate) fn granted(client: &mut Client, request: &[u8]) -> Result<Vec<u8>> {
    let reply = client.ask(request)?;
    let text = String::from_utf8_lossy(&reply.body);
    ensure!(reply.status == 200, "status {} instead of 200: {text}", reply.status);
    Ok(reply.body)
}

/// Verifications of the tokens in those answers to logins.
pub(crate) fn verifications(logins: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let verification = |body: &Vec<u8>| {
        access_token(body).map(|token| http::get(FORWARD_AUTH, Some(&format!("JWT {token}"))))
    };
    logins.iter().map(verification).collect()
}

/// Whether a server still does its work: it runs, and says that it is ready.
pub(crate) fn ensure_alive(server: &mut Server) -> Result<()> {
    let ended = server.ended()?;
    ensure!(ended.is_none(), "the server ended by itself: {ended:?}");
    let (status, _) = http::exchange(server.address(), &http::get("/readyz", None))?;
    ensure!(status == 200, "the server is not ready any more: {status}");
    Ok(())
}

/// Each time the next user logs in, from the next network: no two requests are alike.
pub(crate) struct Newcomers {
    login: LoginRequest,
    next: u32,
    step: u32,
    current: Vec<u8>,
}

impl Newcomers {
    /// Starts with the user and the network of number `first` and goes on in steps, so that several
    /// do not meet.
    pub(crate) fn new(password: &str, first: u32, step: u32) -> Self {
        let mut login = LoginRequest::with_password(password);
        let current = login.of(first, first).to_vec();
        Self { login, next: first + step, step, current }
    }

    /// The number of the user who logs in next but one; less `first`, the progress in steps.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }
}

impl Script for Newcomers {
    fn request(&self) -> &[u8] {
        &self.current
    }

    fn answered(&mut self, _body: &[u8]) -> Result<()> {
        let bytes = self.login.of(self.next, self.next);
        self.current.clear();
        self.current.extend_from_slice(bytes);
        self.next += self.step;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn every_number_has_a_network_of_its_own_and_an_address_of_the_same_length() {
        let networks: HashSet<_> =
            (0..1_000_000).map(|number| octets(number)[..3].to_vec()).collect();
        assert_eq!(networks.len(), 1_000_000);
        for number in [0, 99, 100, 270_000, HOME] {
            let text = address(number);
            assert_eq!(text.len(), 15, "{text}");
            text.parse::<Ipv4Addr>().unwrap();
        }
    }

    #[test]
    fn a_login_written_in_place_is_the_one_written_anew() {
        let mut request = LoginRequest::with_password("p");
        for (user, network) in [(1, 7), (999_999, 0), (42, 123_456)] {
            let body = format!(r#"{{"username":"{}","password":"p"}}"#, name(user));
            assert_eq!(request.of(user, network), login(&body, network));
        }
    }

    #[test]
    fn parts_come_back_in_order_and_an_error_is_not_lost() {
        for count in [0, 1, 3, 4, 5, 64] {
            let found = in_parts(7..7 + count, |users| Ok(users.to_vec())).unwrap();
            assert_eq!(found, (7..7 + count).collect::<Vec<_>>());
        }
        let refused = in_parts(0..8, |users| {
            ensure!(!users.contains(&7), "seven");
            Ok(users.to_vec())
        });
        assert_eq!(refused.unwrap_err().to_string(), "seven");
    }

    #[test]
    fn newcomers_never_come_twice() {
        let mut even = Newcomers::new("p", 0, 2);
        let mut odd = Newcomers::new("p", 1, 2);
        let mut seen = HashSet::new();
        for _ in 0..100 {
            for script in [&mut even, &mut odd] {
                assert!(seen.insert(script.request().to_vec()));
                script.answered(b"").unwrap();
            }
        }
        assert_eq!(even.next(), 202);
    }
}
