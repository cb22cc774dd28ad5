//! Clients that send or read as slowly as they can, to hold connections: each must be cut within a
//! total time that a drip of bytes does not renew, and nobody else may feel them.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use super::Site;
use super::ground::{self, ANY_NUMBER_OF_REQUESTS};
use super::open_loop::{self, InTurn, Stream};
use super::tally::Tally;
use crate::http;
use crate::load::Window;
use crate::measure::LOGIN_PATH;
use crate::report::{Bound, Fault, Row, as_f64};

/// Each must be cut this long after its start.
const LIMIT: Duration = Duration::from_secs(15);
/// Those that are not are given up after this.
const PATIENCE: Duration = Duration::from_secs(20);
/// A slow reader sees its end only behind the bytes that wait for it: this long after its start it
/// reads them all. One that has not been cut by then gets the rest of its answers instead.
const READ_ALL: Duration = Duration::from_millis(14_500);
/// How often a connection says or reads a little.
const DRIP: Duration = Duration::from_secs(1);
/// One that is cut earlier was refused, not slow.
const TOO_EARLY: Duration = Duration::from_secs(1);
/// The longest sleep.
const TICK: Duration = Duration::from_millis(20);
/// Requests that a slow reader sends at once. Their answers fill all buffers on the way.
const PIPELINED: usize = 1_000;
/// The receive buffer of a slow reader, in bytes: with the usual one the system would take
/// megabytes of answers off the server's hands.
const SMALL_BUFFER: usize = 4_096;
/// What such a reader takes at a time, in bytes.
const SIP: usize = 256;
/// Verifications of the others, a second, and how long they go on.
const OTHERS: f64 = 500.0;
const OTHERS_WINDOW: Window = Window { warm_up: Duration::ZERO, measured: Duration::from_secs(9) };

/// How a client is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A request head that never ends.
    Head,
    /// A body that never ends.
    Body,
    /// Answers that are hardly read.
    Read,
}

const KINDS: [Kind; 3] = [Kind::Head, Kind::Body, Kind::Read];

impl Kind {
    /// What it sends at once.
    fn opening(self) -> Vec<u8> {
        match self {
            Self::Head => b"GET /forward-auth HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_vec(),
            Self::Body => format!(
                "POST {LOGIN_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: 10000\r\n\r\n{{"
            )
            .into_bytes(),
            Self::Read => http::get("/.well-known/jwks.json", None).repeat(PIPELINED),
        }
    }
}

/// A slow connection.
struct Slow {
    kind: Kind,
    stream: TcpStream,
    started: Instant,
    next_drip: Instant,
    /// What of the opening could not be written yet.
    unsent: Vec<u8>,
    /// Answers seen while reading everything.
    read_all: bool,
    /// How long after its start it was cut.
    cut: Option<Duration>,
}

/// Opens the connections beside a stream of others, and the rows.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let installation = site.ground.prepare("slow", &ANY_NUMBER_OF_REQUESTS, 0..8)?;
    let server = installation.start()?;
    let address = server.address();
    let mut verifications = InTurn(ground::verifications(&ground::log_in(&server, 0..8)?)?);
    let poll = Poll::new().context("cannot make a poll")?;
    let mut slow = (0..site.scale.slow)
        .map(|number| Slow::open(address, poll.registry(), number))
        .collect::<Result<Vec<_>>>()?;
    let others = thread::scope(|scope| {
        let others = scope.spawn(|| {
            let stream = Stream {
                title: "others",
                rate: OTHERS,
                connections: 256,
                expected: &[200],
                source: &mut verifications,
            };
            open_loop::run(address, vec![stream], OTHERS_WINDOW)
        });
        drip(poll, &mut slow)?;
        others.join().map_err(|_| anyhow!("a thread panicked"))?
    })?;
    server.stop()?;
    rows(&slow, others.first().context("no tally")?)
}

impl Slow {
    fn open(address: SocketAddr, registry: &Registry, number: usize) -> Result<Self> {
        let kind = KINDS.get(number % KINDS.len()).copied().unwrap_or(Kind::Head);
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        if kind == Kind::Read {
            // Before connecting: it decides the window that the server is told.
            sockopt::set_socket_recv_buffer_size(&socket, SMALL_BUFFER)?;
        }
        connect(&socket, &address).context("cannot connect")?;
        let started = Instant::now();
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(number), interest)?;
        // Not all in the same moment.
        let next_drip = started + DRIP + Duration::from_millis(u64::try_from(number % 1_000)?);
        let mut slow = Self {
            kind,
            stream,
            started,
            next_drip,
            unsent: kind.opening(),
            read_all: false,
            cut: None,
        };
        slow.flush();
        Ok(slow)
    }

    fn is_cut(&mut self) {
        self.cut.get_or_insert(self.started.elapsed());
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.is_cut(),
            }
        }
    }

    /// Something happened on the connection.
    fn ready(&mut self, gone: bool) {
        if self.cut.is_some() {
            return;
        }
        // Even a slow reader is told at once when the server throws its answers away.
        if gone {
            return self.is_cut();
        }
        self.flush();
        if self.kind != Kind::Read || self.read_all {
            self.read(usize::MAX);
        }
    }

    /// Takes up to so many bytes; the end of them is a cut.
    fn read(&mut self, most: usize) {
        let mut chunk = [0; 16 * 1024];
        let mut left = most;
        while left > 0 && self.cut.is_none() {
            let room = chunk.get_mut(..left.min(16 * 1024)).unwrap_or_default();
            match self.stream.read(room) {
                Ok(0) => self.is_cut(),
                Ok(count) => left -= count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_cut(),
            }
        }
    }

    /// Does the little that keeps the connection from being idle.
    fn drip(&mut self, now: Instant) {
        if self.cut.is_some() || now < self.next_drip {
            return;
        }
        self.next_drip += DRIP;
        match self.kind {
            // White space before the first member of the object, and a header that goes on.
            Kind::Head | Kind::Body => {
                self.unsent.push(b' ');
                self.flush();
            }
            Kind::Read if now >= self.started + READ_ALL => {
                self.read_all = true;
                self.read(usize::MAX);
            }
            Kind::Read => self.read(SIP),
        }
    }
}

/// Keeps the connections going until all are cut, or patience ends.
fn drip(mut poll: Poll, slow: &mut [Slow]) -> Result<()> {
    let mut events = Events::with_capacity(1024);
    let until = Instant::now() + PATIENCE;
    while slow.iter().any(|slow| slow.cut.is_none()) && Instant::now() < until {
        if let Err(error) = poll.poll(&mut events, Some(TICK))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error).context("cannot poll");
        }
        for event in &events {
            if let Some(slow) = slow.get_mut(event.token().0) {
                slow.ready(event.is_error() || event.is_write_closed());
            }
        }
        let now = Instant::now();
        for slow in slow.iter_mut() {
            slow.drip(now);
        }
    }
    Ok(())
}

fn rows(slow: &[Slow], others: &Tally) -> Result<Vec<Row>> {
    eprintln!("  {others}");
    for kind in KINDS {
        let of_kind = slow.iter().filter(|slow| slow.kind == kind);
        let cuts: Vec<_> = of_kind.clone().filter_map(|slow| slow.cut).collect();
        let (first, last) = (cuts.iter().min(), cuts.iter().max());
        eprintln!(
            "  {kind:?}: {} of {} cut, after {first:.1?} to {last:.1?}",
            cuts.len(),
            of_kind.count()
        );
    }
    let cuts: Vec<_> = slow.iter().map(|slow| slow.cut.unwrap_or(PATIENCE)).collect();
    let last = cuts.iter().max().context("no connections")?.as_secs_f64();
    let mut faults = Vec::new();
    let early = cuts.iter().filter(|cut| **cut < TOO_EARLY).count();
    if early * 10 > cuts.len() {
        let text = format!("{early} of {} connections were refused at once", cuts.len());
        faults.push(Fault::Wrong(text));
    }
    let limit = LIMIT.as_secs_f64();
    let held = as_f64(cuts.iter().filter(|cut| **cut > LIMIT).count());
    let count = cuts.len();
    Ok(vec![
        Row::of(
            format!("slow: last of {count} cut after"),
            Bound::Seconds(limit),
            Some(last),
            &faults,
        ),
        Row::of("slow: not cut within that".to_owned(), Bound::Count(0.0), Some(held), &faults),
        Row::of(
            "slow: others' verify p99".to_owned(),
            Bound::Milliseconds(50.0),
            others.latency(&[200], 99),
            &others.faults(),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// One connection of that kind to a server that does `then` with it after a while.
    fn play(
        number: usize,
        then: impl FnOnce(std::net::TcpStream) + Send + 'static,
    ) -> Option<Duration> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut poll = Poll::new().unwrap();
        let mut slow = Slow::open(address, poll.registry(), number).unwrap();
        let (stream, _) = listener.accept().unwrap();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            then(stream);
        });
        let mut events = Events::with_capacity(8);
        let until = Instant::now() + Duration::from_millis(1_500);
        while slow.cut.is_none() && Instant::now() < until {
            poll.poll(&mut events, Some(TICK)).unwrap();
            for event in &events {
                slow.ready(event.is_error() || event.is_write_closed());
            }
            slow.drip(Instant::now());
        }
        slow.cut
    }

    #[test]
    fn a_cut_is_noticed_when_it_happens() {
        for (number, kind) in KINDS.iter().enumerate() {
            let cut = play(number, drop).unwrap_or_else(|| panic!("{kind:?}"));
            assert!((200..1_000).contains(&cut.as_millis()), "{kind:?} {cut:?}");
        }
    }

    #[test]
    fn a_connection_that_is_held_is_not_cut() {
        for (number, kind) in KINDS.iter().enumerate() {
            let cut = play(number, |stream| {
                thread::sleep(Duration::from_secs(3));
                drop(stream);
            });
            assert_eq!(cut, None, "{kind:?}");
        }
    }
}
