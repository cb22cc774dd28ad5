//! The open-loop load generator: requests leave when they are due, whether or not those before
//! have been answered, and latency counts from when they were due. A server that stalls is
//! thereby charged for everybody who would have come meanwhile.
//!
//! One thread for all streams, because it shares the machine with the server: ready-made bytes,
//! edge-triggered readiness. It wakes every millisecond, and sends and takes all there is then, so
//! that it does not wake, and push the server aside, for every single answer; up to a millisecond at
//! each end of a latency is its own.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use super::client;
use super::schedule::Schedule;
use super::tally::Tally;
use crate::http::{self, Answer};
use crate::load::Window;

/// How long it sleeps between two looks at what is due and what has come.
const TICK: Duration = Duration::from_millis(1);
/// How long answers may stay out once the last request is sent.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// The largest answer expected; a larger one is an error.
const BUFFER_SIZE: usize = 8 * 1024;
/// Connections of a stream; a token is the stream's number times this, and the connection's.
const MOST_CONNECTIONS: usize = 16 * 1024;

/// Makes the bytes of a stream's requests.
pub(crate) trait Source {
    /// The request of that number, counted from 0.
    fn request(&mut self, number: u32) -> &[u8];
}

/// The given requests in turn.
pub(crate) struct InTurn(pub(crate) Vec<Vec<u8>>);

impl Source for InTurn {
    fn request(&mut self, number: u32) -> &[u8] {
        let number = usize::try_from(number).unwrap_or_default();
        self.0.get(number % self.0.len().max(1)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Requests of one kind at a constant rate.
pub(crate) struct Stream<'a> {
    /// What it is called in messages.
    pub(crate) title: &'static str,
    /// Requests a second.
    pub(crate) rate: f64,
    /// The most connections it opens, one request each at a time. When all are busy, requests wait.
    pub(crate) connections: usize,
    /// The statuses that may come; any other is an error.
    pub(crate) expected: &'static [u16],
    /// What is sent.
    pub(crate) source: &'a mut dyn Source,
}

/// Runs the streams at once for the whole window, then waits for the answers still out. The
/// tallies are in the order of the streams.
pub(crate) fn run(
    address: SocketAddr,
    streams: Vec<Stream<'_>>,
    window: Window,
) -> Result<Vec<Tally>> {
    let mut poll = Poll::new().context("cannot make a poll")?;
    let mut events = Events::with_capacity(1024);
    let start = Instant::now();
    let end = start + window.warm_up + window.measured;
    let mut lanes: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(number, stream)| Lane::new(number, stream, address, start, window))
        .collect();
    let mut open = true;
    loop {
        let now = Instant::now();
        if open {
            lanes.iter_mut().try_for_each(|lane| lane.launch(poll.registry(), now))?;
            // Once more behind the end: the last ones were due just before it.
            open = now < end;
        } else if lanes.iter().all(|lane| lane.waiting == 0) || now > end + DRAIN_LIMIT {
            break;
        }
        thread::sleep(TICK);
        if let Err(error) = poll.poll(&mut events, Some(Duration::ZERO))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error).context("cannot poll");
        }
        for event in &events {
            let Token(token) = event.token();
            if let Some(lane) = lanes.get_mut(token / MOST_CONNECTIONS) {
                lane.ready(token % MOST_CONNECTIONS, event.is_writable());
            }
        }
    }
    Ok(lanes.into_iter().map(Lane::finish).collect())
}

/// A stream under way.
struct Lane<'a> {
    number: usize,
    stream: Stream<'a>,
    address: SocketAddr,
    schedule: Schedule,
    tally: Tally,
    /// All that were ever opened; the places of closed ones are used again.
    connections: Vec<Connection>,
    /// Open and without a request.
    idle: Vec<usize>,
    /// Closed.
    vacant: Vec<usize>,
    /// Requests that are out.
    waiting: usize,
}

impl<'a> Lane<'a> {
    fn new(
        number: usize,
        stream: Stream<'a>,
        address: SocketAddr,
        start: Instant,
        window: Window,
    ) -> Self {
        let schedule = Schedule::new(start, stream.rate, window.warm_up + window.measured);
        let mut tally = Tally::new(stream.title, stream.expected, start, window);
        tally.plan(schedule.planned());
        Self {
            number,
            stream,
            address,
            schedule,
            tally,
            connections: Vec::new(),
            idle: Vec::new(),
            vacant: Vec::new(),
            waiting: 0,
        }
    }

    /// Sends what is due, as far as there are connections for it.
    fn launch(&mut self, registry: &Registry, now: Instant) -> Result<()> {
        while let Some((number, due)) = self.schedule.due_by(now) {
            let Some(index) = self.free_connection(registry)? else { return Ok(()) };
            self.schedule.advance();
            self.tally.sent(due, now);
            self.waiting += 1;
            let request = self.stream.source.request(number);
            let Some(connection) = self.connections.get_mut(index) else { continue };
            if let Err(error) = connection.send(request, due) {
                self.close(index, Some(error));
            }
        }
        Ok(())
    }

    /// One without a request, a new one if need be; `None` when there may be no more.
    fn free_connection(&mut self, registry: &Registry) -> Result<Option<usize>> {
        if let Some(index) = self.idle.pop() {
            return Ok(Some(index));
        }
        let index = match self.vacant.pop() {
            Some(index) => index,
            None if self.connections.len() < self.stream.connections.min(MOST_CONNECTIONS) => {
                self.connections.push(Connection::default());
                self.connections.len() - 1
            }
            None => return Ok(None),
        };
        let mut stream = TcpStream::connect(self.address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        let token = Token(self.number * MOST_CONNECTIONS + index);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        if let Some(connection) = self.connections.get_mut(index) {
            connection.open(stream);
        }
        Ok(Some(index))
    }

    fn ready(&mut self, index: usize, writable: bool) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if writable && let Err(error) = connection.flush() {
            return self.close(index, Some(error));
        }
        match connection.receive() {
            Ok(None) => {}
            Ok(Some(answer)) => self.answered(index, &answer),
            Err(error) => self.close(index, Some(error)),
        }
    }

    fn answered(&mut self, index: usize, answer: &Answer) {
        let now = Instant::now();
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some(due) = connection.due.take() else {
            return self.close(index, Some(anyhow::anyhow!("an answer to nothing")));
        };
        let head = connection.buffer.get(..answer.body.start).unwrap_or_default();
        self.tally.answered(answer.status, head, due, now);
        let last = client::is_last(head);
        connection.filled = 0;
        self.waiting -= 1;
        if last {
            self.close(index, None);
        } else {
            self.idle.push(index);
        }
    }

    /// An idle connection may be closed by the server at any time; one with a request out not.
    fn close(&mut self, index: usize, why: Option<anyhow::Error>) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.stream.take().is_none() {
            return;
        }
        if connection.due.take().is_some() {
            self.waiting -= 1;
            let why = why.map_or("closed".to_owned(), |error| format!("{error:#}"));
            self.tally.error(why);
        }
        self.idle.retain(|idle| *idle != index);
        self.vacant.push(index);
    }

    fn finish(mut self) -> Tally {
        for _ in 0..self.waiting {
            self.tally.error("an answer was still missing long after the end".to_owned());
        }
        self.tally
    }
}

#[derive(Default)]
struct Connection {
    /// `None` when closed.
    stream: Option<TcpStream>,
    /// When the request that is out was due.
    due: Option<Instant>,
    /// What of the request could not be written yet.
    unsent: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    fn open(&mut self, stream: TcpStream) {
        self.buffer.resize(BUFFER_SIZE, 0);
        self.unsent.clear();
        (self.stream, self.due, self.filled) = (Some(stream), None, 0);
    }

    fn send(&mut self, request: &[u8], due: Instant) -> Result<()> {
        self.due = Some(due);
        self.filled = 0;
        self.unsent.clear();
        self.unsent.extend_from_slice(request);
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                // Not connected yet: it will be writable when it is.
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::NotConnected].contains(&error.kind()) =>
                {
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        Ok(())
    }

    /// Reads until the answer is complete; `None` when the socket has no more for now. A complete
    /// answer is not followed by another read: the next one's readiness is a new edge.
    fn receive(&mut self) -> Result<Option<Answer>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        loop {
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            ensure!(!room.is_empty(), "an answer larger than the buffer");
            match stream.read(room) {
                Ok(0) => bail!("connection closed by the server"),
                Ok(count) => self.filled += count,
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::NotConnected].contains(&error.kind()) =>
                {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot receive"),
            }
            if let Some(answer) = http::parse(self.buffer.get(..self.filled).unwrap_or_default())? {
                ensure!(answer.body.end == self.filled, "bytes behind the answer");
                return Ok(Some(answer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    const WINDOW: Window = Window { warm_up: Duration::ZERO, measured: Duration::from_millis(300) };

    /// A server that answers every request of every connection as it is told, after a while.
    fn server(answer: &'static str, after: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    while lines.find(|line| !matches!(line, Ok(text) if !text.is_empty())).is_some()
                    {
                        thread::sleep(after);
                        if stream.write_all(answer.as_bytes()).is_err() || answer.contains("close")
                        {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn load(address: SocketAddr, rate: f64, connections: usize) -> Tally {
        let mut source = InTurn(vec![http::get("/", None)]);
        let expected = &[200, 503];
        let stream = Stream { title: "test", rate, connections, expected, source: &mut source };
        run(address, vec![stream], WINDOW).unwrap().pop().unwrap()
    }

    #[test]
    fn the_rate_does_not_depend_on_the_answers() {
        let slow = Duration::from_millis(100);
        let tally = load(server("HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n", slow), 200.0, 64);
        assert!(tally.faults().is_empty(), "{tally}");
        assert_eq!((tally.planned(), tally.count(&[200])), (60, 60), "{tally}");
        assert!(tally.latency(&[200], 1).unwrap() >= 100.0, "{tally}");
    }

    #[test]
    fn waiting_for_a_connection_is_part_of_the_latency() {
        let slow = Duration::from_millis(50);
        let tally = load(server("HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n", slow), 40.0, 1);
        // Due every 25 ms and answered every 50: the last one sent was due long before.
        assert!(tally.latency(&[200], 100).unwrap() > 120.0, "{tally}");
        assert!(tally.faults()[0].to_string().contains("could be sent"), "{:?}", tally.faults());
    }

    #[test]
    fn a_connection_that_the_server_ends_is_replaced() {
        let last =
            "HTTP/1.1 503 X\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let tally = load(server(last, Duration::ZERO), 200.0, 8);
        assert!(tally.faults().is_empty(), "{:?}", tally.faults());
        assert_eq!(tally.count(&[503]), 60);
        assert_eq!(tally.without_retry_after(&[503]), 0);
    }

    #[test]
    fn an_unexpected_answer_is_an_error() {
        let tally =
            load(server("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", Duration::ZERO), 50.0, 8);
        assert!(
            tally.faults()[0].to_string().contains("first: status 500"),
            "{:?}",
            tally.faults()
        );
        assert_eq!(tally.count(&[200]), 0);
    }
}
