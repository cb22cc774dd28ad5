//! The load generator: closed-loop keep-alive connections on one thread.
//!
//! It shares the machine with the server it measures, so it does as little as it can: ready-made
//! request bytes, one read and one write per exchange, edge-triggered readiness, no timers. Every
//! answer that is not the expected one is an error; a run with errors proves nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::http;
use crate::report::as_f64;
use crate::script::Script;

/// The largest answer expected; a larger one is an error.
const BUFFER_SIZE: usize = 16 * 1024;
/// How long answers may stay out once the window is over.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long a load lasts.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Time before the counting starts.
    pub(crate) warm_up: Duration,
    /// Time that counts.
    pub(crate) measured: Duration,
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Expected answers per second of the measured window.
    pub(crate) rate: f64,
    /// Median latency.
    pub(crate) p50: Duration,
    /// Latency that one answer in a hundred exceeds.
    pub(crate) p99: Duration,
    /// Answers other than the expected one, and broken connections, warm-up included.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) first_error: Option<String>,
}

/// Runs one connection per script against `address` until the window is over, then waits for the
/// answers still out, so that the scripts can go on with another run.
pub(crate) fn run<S: Script>(
    address: SocketAddr,
    scripts: &mut [S],
    expected: u16,
    window: Window,
) -> Result<Outcome> {
    let mut poll = Poll::new().context("cannot make a poll")?;
    let mut connections = Vec::with_capacity(scripts.len());
    for (index, script) in scripts.iter_mut().enumerate() {
        connections.push(Connection::open(&poll, Token(index), address, script)?);
    }
    let start = Instant::now();
    let counted_from = start + window.warm_up;
    let mut tally = Tally {
        expected,
        counted_from,
        end: counted_from + window.measured,
        latencies: Vec::with_capacity(1 << 20),
        errors: 0,
        first_error: None,
    };
    for connection in &mut connections {
        connection.send(start, &mut tally);
    }
    let mut events = Events::with_capacity(connections.len().max(1));
    while connections.iter().any(|connection| connection.state == State::Waiting) {
        if Instant::now() > tally.end + DRAIN_LIMIT {
            tally.error("answers still missing long after the end".to_owned());
            break;
        }
        if let Err(error) = poll.poll(&mut events, Some(Duration::from_millis(100)))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error).context("cannot poll");
        }
        for event in &events {
            if let Some(connection) = connections.get_mut(event.token().0) {
                connection.ready(event.is_writable(), &mut tally);
            }
        }
    }
    Ok(tally.outcome(window))
}

/// The counts of a run.
struct Tally {
    expected: u16,
    counted_from: Instant,
    end: Instant,
    latencies: Vec<u32>,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn error(&mut self, what: String) {
        self.errors += 1;
        self.first_error.get_or_insert(what);
    }

    fn success(&mut self, sent_at: Instant, now: Instant) {
        if now >= self.counted_from && now < self.end {
            let latency = now.duration_since(sent_at).as_micros();
            self.latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
        }
    }

    fn outcome(mut self, window: Window) -> Outcome {
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let index = self.latencies.len().saturating_sub(1) * percent / 100;
            let micros = self.latencies.get(index).copied().unwrap_or_default();
            Duration::from_micros(micros.into())
        };
        Outcome {
            rate: as_f64(self.latencies.len()) / window.measured.as_secs_f64(),
            p50: at(50),
            p99: at(99),
            errors: self.errors,
            first_error: self.first_error,
        }
    }
}

#[derive(PartialEq, Eq)]
enum State {
    /// A request is out.
    Waiting,
    /// The window is over and the last answer is in.
    Done,
    /// The connection broke.
    Broken,
}

struct Connection<'a, S> {
    stream: TcpStream,
    script: &'a mut S,
    state: State,
    /// How much of the request is written.
    written: usize,
    sent_at: Instant,
    buffer: Vec<u8>,
    filled: usize,
}

impl<'a, S: Script> Connection<'a, S> {
    fn open(poll: &Poll, token: Token, address: SocketAddr, script: &'a mut S) -> Result<Self> {
        let stream = std::net::TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            script,
            state: State::Waiting,
            written: 0,
            sent_at: Instant::now(),
            buffer: vec![0; BUFFER_SIZE],
            filled: 0,
        })
    }

    fn send(&mut self, now: Instant, tally: &mut Tally) {
        (self.written, self.filled, self.sent_at) = (0, 0, now);
        self.flush(tally);
    }

    fn flush(&mut self, tally: &mut Tally) {
        while let Some(rest) = self.script.request().get(self.written..).filter(|r| !r.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.broken(&format!("cannot send: {error}"), tally),
            }
        }
    }

    fn broken(&mut self, why: &str, tally: &mut Tally) {
        self.state = State::Broken;
        tally.error(why.to_owned());
    }

    fn ready(&mut self, writable: bool, tally: &mut Tally) {
        if self.state != State::Waiting {
            return;
        }
        if writable {
            self.flush(tally);
        }
        // A complete answer is not followed by a read that says "nothing more": the readiness of
        // the next answer is a new edge, so one read per answer is enough.
        while self.state == State::Waiting {
            match self.receive() {
                Ok(None) => return,
                Ok(Some(answer)) => {
                    self.answered(&answer, tally);
                    return;
                }
                Err(error) => self.broken(&format!("{error:#}"), tally),
            }
        }
    }

    /// Reads until the answer is complete; `None` when the socket has no more for now.
    fn receive(&mut self) -> Result<Option<http::Answer>> {
        loop {
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            ensure!(!room.is_empty(), "an answer larger than the buffer");
            match self.stream.read(room) {
                Ok(0) => bail!("connection closed by the server"),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot receive"),
            }
            if let Some(answer) = http::parse(self.buffer.get(..self.filled).unwrap_or_default())? {
                ensure!(answer.body.end == self.filled, "bytes behind the answer");
                return Ok(Some(answer));
            }
        }
    }

    fn answered(&mut self, answer: &http::Answer, tally: &mut Tally) {
        let now = Instant::now();
        let body = self.buffer.get(answer.body.clone()).unwrap_or_default();
        let result = if answer.status == tally.expected {
            self.script.answered(body)
        } else {
            let body = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
            Err(anyhow::anyhow!("status {}: {body}", answer.status))
        };
        match result {
            Ok(()) => tally.success(self.sent_at, now),
            Err(error) => tally.error(format!("{error:#}")),
        }
        if now < tally.end {
            self.send(now, tally);
        } else {
            self.state = State::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::script::{RefreshChain, Round};

    const WINDOW: Window =
        Window { warm_up: Duration::from_millis(20), measured: Duration::from_millis(100) };

    /// A server that gives each request of a connection, by its number, the answer `reply` makes;
    /// an empty one closes the connection.
    fn server(reply: impl Fn(usize) -> String + Clone + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let reply = reply.clone();
                thread::spawn(move || converse(stream, &reply));
            }
        });
        address
    }

    fn converse(mut stream: std::net::TcpStream, reply: &dyn Fn(usize) -> String) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        for number in 0.. {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().ok()?;
                }
                if line == "\r\n" {
                    break;
                }
            }
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
            let answer = reply(number);
            if answer.is_empty() {
                return None;
            }
            // In two pieces, so that the reader must cope with half an answer.
            let (first, second) = answer.split_at(answer.len() / 2);
            stream.write_all(first.as_bytes()).ok()?;
            stream.write_all(second.as_bytes()).ok()?;
        }
        None
    }

    fn answer(status: u16, body: &str) -> String {
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    fn rounds(count: usize) -> Vec<Round> {
        (0..count).map(|_| Round::new(vec![http::get("/", None)])).collect()
    }

    #[test]
    fn expected_answers_are_counted_and_timed() {
        let address = server(|_| answer(200, "hello"));
        let outcome = run(address, &mut rounds(4), 200, WINDOW).unwrap();
        assert_eq!((outcome.errors, &outcome.first_error), (0, &None));
        assert!(outcome.rate > 50.0, "{outcome:?}");
        assert!(outcome.p50 <= outcome.p99 && outcome.p99 < DRAIN_LIMIT, "{outcome:?}");
    }

    #[test]
    fn another_status_is_an_error_and_does_not_count() {
        let address = server(|_| answer(503, "busy"));
        let outcome = run(address, &mut rounds(2), 200, WINDOW).unwrap();
        assert!(outcome.errors > 0 && outcome.rate == 0.0, "{outcome:?}");
        assert_eq!(outcome.first_error.as_deref(), Some("status 503: busy"));
    }

    #[test]
    fn a_broken_connection_ends_the_run_with_an_error() {
        let address = server(|number| if number < 3 { answer(200, "") } else { String::new() });
        // It ends with the connections, long before the window.
        let window = Window { measured: Duration::from_secs(20), ..WINDOW };
        let outcome = run(address, &mut rounds(2), 200, window).unwrap();
        assert_eq!(outcome.errors, 2, "{outcome:?}");
    }

    #[test]
    fn a_chain_can_go_on_in_a_second_run() {
        let address = server(|number| answer(200, &format!(r#"{{"refresh_token":"t{number}"}}"#)));
        let mut chain = [RefreshChain::from_login(br#"{"refresh_token":"first"}"#).unwrap()];
        for _ in 0..2 {
            let outcome = run(address, &mut chain, 200, WINDOW).unwrap();
            assert_eq!(outcome.errors, 0, "{outcome:?}");
        }
    }
}
