//! Malformed requests in great number: the server must refuse each, stay alive and forget it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::Site;
use super::client;
use super::garbage::{self, Case, Then, Tokens};
use super::ground::{self, ANY_NUMBER_OF_REQUESTS};
use crate::http;
use crate::load::{self, Window};
use crate::measure::mebibytes;
use crate::report::{Bound, Fault, Row, as_f64};
use crate::script::{Round, access_token};
use crate::server::Server;

/// The same requests in every run.
const SEED: u64 = 0x5061_7373_6d69_6e74;
/// Callers at once, a connection each.
const CALLERS: u8 = 4;
/// A server that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// Ordinary requests before the first look at the memory.
const ORDINARY: Window = Window { warm_up: Duration::ZERO, measured: Duration::from_millis(500) };
/// A part of the requests that must at least have been answered.
const ANSWERED_PERCENT: u64 = 60;

/// What was heard.
#[derive(Default)]
struct Heard {
    /// Answers by status.
    statuses: BTreeMap<u16, u64>,
    /// Connections that ended without an answer, where that is as good.
    closed: u64,
    /// What must not be, with the request: 5xx answers, …
    failures: u64,
    first_failure: Option<String>,
    /// … and everything else.
    faults: u64,
    first_fault: Option<String>,
}

impl Heard {
    fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.closed += other.closed;
        self.failures += other.failures;
        self.faults += other.faults;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.first_fault = self.first_fault.take().or(other.first_fault);
    }

    fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    fn note(&mut self, case: &Case, result: &Result<Option<u16>>) {
        let fault = match result {
            Ok(Some(status)) => {
                *self.statuses.entry(*status).or_default() += 1;
                if *status >= 500 {
                    self.failures += 1;
                    self.first_failure
                        .get_or_insert_with(|| told(case, &format!("status {status}")));
                }
                (case.refused && *status == 200).then(|| "was granted".to_owned())
            }
            Ok(None) if case.then == Then::Answer => Some("no answer".to_owned()),
            Ok(None) => {
                self.closed += 1;
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(fault) = fault {
            self.faults += 1;
            self.first_fault.get_or_insert_with(|| told(case, &fault));
        }
    }
}

/// Enough of a request to make it again.
fn told(case: &Case, what: &str) -> String {
    let start = case.bytes.get(..300).unwrap_or(&case.bytes);
    format!("{}: {what}: {}", case.kind, start.escape_ascii())
}

/// Sends them all, and the rows.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let installation = site.ground.prepare("malformed", &ANY_NUMBER_OF_REQUESTS, 0..16)?;
    let server = installation.start()?;
    let logins = ground::log_in(&server, 0..16)?;
    // What hashing took would be given back during the attack and hide as much growth.
    server.stop()?;
    let mut server = installation.start()?;
    let login = logins.first().context("nobody logged in")?;
    let refresh = http::scan_string(login, br#""refresh_token":""#).context("no refresh token")?;
    let tokens = Tokens {
        access: access_token(login)?.to_owned(),
        refresh: std::str::from_utf8(refresh)?.to_owned(),
    };
    ordinary(&server, &ground::verifications(&logins)?)?;
    let before = mebibytes(server.resident_kib()?);
    let heard = send_all(server.address(), site.scale.malformed, &tokens)?;
    let after = mebibytes(server.resident_kib()?);
    let alive = ground::ensure_alive(&mut server);
    let panics = server.end()?.panics;
    eprintln!(
        "  {} answered, {} closed without; by status: {:?}",
        heard.answered(),
        heard.closed,
        heard.statuses
    );
    for example in [&heard.first_failure, &panics.first().cloned()].into_iter().flatten() {
        eprintln!("  {example}");
    }
    Ok(rows(site.scale.malformed, &heard, after - before, &panics, &alive))
}

fn ordinary(server: &Server, requests: &[Vec<u8>]) -> Result<()> {
    let mut rounds: Vec<_> =
        requests.iter().map(|request| Round::new(vec![request.clone()])).collect();
    let outcome = load::run(server.address(), &mut rounds, 200, ORDINARY)?;
    ensure!(outcome.errors == 0, "ordinary requests: {:?}", outcome.first_error);
    Ok(())
}

fn send_all(address: SocketAddr, count: u32, tokens: &Tokens) -> Result<Heard> {
    let part = |first: u8| {
        let mut caller = Caller::new(address);
        let mut heard = Heard::default();
        for number in (u32::from(first)..count).step_by(CALLERS.into()) {
            let case = garbage::case(SEED, number, tokens);
            heard.note(&case, &caller.say(&case));
        }
        heard
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|first| scope.spawn(move || part(first))).collect();
        let mut all = Heard::default();
        for caller in callers {
            all.add(caller.join().map_err(|_| anyhow!("a thread panicked"))?);
        }
        Ok(all)
    })
}

fn rows(count: u32, heard: &Heard, growth: f64, panics: &[String], alive: &Result<()>) -> Vec<Row> {
    let mut faults = Vec::new();
    if let Some(first) = &heard.first_fault {
        faults.push(Fault::Wrong(format!("{} faults, first: {first}", heard.faults)));
    }
    if let Err(error) = alive {
        faults.push(Fault::Wrong(format!("{error:#}")));
    }
    let answered = heard.answered();
    if answered * 100 < u64::from(count) * ANSWERED_PERCENT {
        let text = format!("only {answered} of {count} requests were answered");
        faults.push(Fault::Wrong(text));
    }
    let failures = f64::from(u32::try_from(heard.failures).unwrap_or(u32::MAX));
    let row = |what: &str, bound, value| {
        Row::of(format!("malformed: {count} requests, {what}"), bound, Some(value), &faults)
    };
    vec![
        row("5xx answers", Bound::Count(0.0), failures),
        row("panics in the log", Bound::Count(0.0), as_f64(panics.len())),
        row("memory growth", Bound::Mebibytes(16.0), growth),
    ]
}

/// A connection that goes on while the server lets it.
struct Caller {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Caller {
    fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Sends a request; the status of the answer, `None` when the connection ended without one.
    /// Silence is an error.
    fn say(&mut self, case: &Case) -> Result<Option<u16>> {
        let kept = self.stream.is_some();
        let status = self.say_once(case)?;
        if status.is_none() && kept && case.then == Then::Answer {
            // The server may end a connection that it kept at any time: once more, on a new one.
            return self.say_once(case);
        }
        Ok(status)
    }

    fn say_once(&mut self, case: &Case) -> Result<Option<u16>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        // A server that refuses at once need not take the rest.
        let sent = stream.write_all(&case.bytes);
        if case.then == Then::HangUp && sent.is_ok() {
            // It fails when the server was quicker.
            let _ = stream.shutdown(Shutdown::Write);
        }
        let status = self.hear(&mut stream, case.then)?;
        let last = client::is_last(&self.buffer);
        if case.then == Then::Answer && status.is_some() && !last && sent.is_ok() {
            self.stream = Some(stream);
        }
        Ok(status)
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Reads an answer, or to the end after hanging up. Of several answers the worst counts.
    fn hear(&mut self, stream: &mut TcpStream, then: Then) -> Result<Option<u16>> {
        self.buffer.clear();
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(anyhow!("nothing for {} s", PATIENCE.as_secs()));
                }
                // Reset: the server threw away what it had not read.
                Err(_) => break,
            }
            // What is no answer of HTTP/1.1 (an older client's, HTTP/2) is read to its end.
            if then != Then::HangUp && matches!(http::parse(&self.buffer), Ok(Some(_))) {
                break;
            }
        }
        Ok(statuses(&self.buffer).max())
    }
}

/// The statuses of all answers in there.
fn statuses(bytes: &[u8]) -> impl Iterator<Item = u16> {
    memchr::memmem::find_iter(bytes, b"HTTP/1.").filter_map(|place| {
        let digits = bytes.get(place + 9..place + 12)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn case(then: Then) -> Case {
        Case { kind: "test", bytes: b"GET / HTTP/1.1\r\n\r\n".to_vec(), then, refused: true }
    }

    /// A server that gives each connection these answers, one for each read, and then ends it.
    fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                for answer in answers {
                    let _ = stream.read(&mut [0; 1024]);
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        address
    }

    fn heard(answers: &'static [&'static str], then: Then, times: usize) -> Heard {
        let mut caller = Caller::new(server(answers));
        let mut heard = Heard::default();
        for _ in 0..times {
            let case = case(then);
            heard.note(&case, &caller.say(&case));
        }
        heard
    }

    #[test]
    fn an_answer_is_counted_and_a_kept_connection_that_ends_is_made_anew() {
        let heard = heard(&["HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n"], Then::Answer, 3);
        assert_eq!((heard.statuses[&400], heard.faults, heard.failures), (3, 0, 0));
    }

    #[test]
    fn a_failure_is_found_behind_another_answer() {
        let both = "HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\nHTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n";
        let heard = heard(Box::leak(Box::new([both])), Then::HangUp, 1);
        assert_eq!(heard.failures, 1);
        let told = heard.first_failure.as_deref().unwrap();
        assert_eq!(told, r"test: status 500: GET / HTTP/1.1\r\n\r\n");
        assert!(!rows(1, &heard, 0.0, &[], &Ok(()))[0].is_met());
    }

    #[test]
    fn no_answer_is_a_fault_where_there_must_be_one_only() {
        assert_eq!(heard(&[""], Then::Answer, 1).faults, 1);
        let refused = heard(&[""], Then::Refusal, 1);
        assert_eq!((refused.faults, refused.closed), (0, 1));
        // Nothing but closed connections is no measurement.
        assert!(rows(1, &refused, 0.0, &[], &Ok(())).iter().all(|row| !row.is_met()));
    }

    #[test]
    fn a_broken_token_that_is_granted_is_a_fault() {
        let granted = heard(&["HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n"], Then::Answer, 1);
        assert_eq!(granted.faults, 1);
        assert!(granted.first_fault.unwrap().starts_with("test: was granted: GET /"));
    }
}
