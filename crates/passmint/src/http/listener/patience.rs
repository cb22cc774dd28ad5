//! How long a connection is waited for: a stream that fails when its client takes too long.
//!
//! What has begun must be complete in time: a drip of bytes renews no deadline. The body of a request
//! has a deadline of its own, where it is read (`fields`).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, Sleep};

use crate::config::Limits;
use crate::telemetry::{CutReason, Metrics};

/// How many long answers one connection of HTTP/2 may have that its client has not taken.
const LISTS: usize = 4;

/// The requests of one connection, as its service sees them.
pub(super) struct Requests {
    since: Instant,
    begun: AtomicU64,
    answered: AtomicU64,
    /// When the last one was answered, in milliseconds since `since`.
    answered_at: AtomicU64,
    /// Answers that are begun and that the client has not taken whole (HTTP/2): their numbers, and when it
    /// last took some of each.
    untaken: Mutex<Vec<(u64, Instant)>>,
    /// For further long answers.
    room: Arc<Semaphore>,
}

/// An answer that the client has not taken whole, for as long as this lives.
pub(super) struct Untaken {
    requests: Arc<Requests>,
    number: u64,
}

impl Untaken {
    /// The client has taken some of it.
    pub(super) fn note_taken(&self) {
        let mut untaken = self.requests.untaken.lock();
        if let Some((_, at)) = untaken.iter_mut().find(|(number, _)| *number == self.number) {
            *at = Instant::now();
        }
    }
}

/// A request that is under way for as long as this lives.
pub(super) struct UnderWay(Arc<Requests>);

impl Requests {
    /// None yet.
    pub(super) fn new() -> Self {
        let none = AtomicU64::default;
        Self {
            since: Instant::now(),
            begun: none(),
            answered: none(),
            answered_at: none(),
            untaken: Mutex::default(),
            room: Arc::new(Semaphore::new(LISTS)),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Since when nothing has been under way, in no unit that matters; `None`: something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let begun = self.begun.load(Ordering::Relaxed);
        (begun == self.answered.load(Ordering::Relaxed)).then(|| self.answered_at())
    }

    /// An answer goes out.
    pub(super) fn begin_answer(self: &Arc<Self>) -> Untaken {
        let mut untaken = self.untaken.lock();
        let number = untaken.last().map_or(0, |(last, _)| last + 1);
        untaken.push((number, Instant::now()));
        Untaken { requests: Arc::clone(self), number }
    }

    /// The connection is over: those that wait for room to answer need not go on.
    fn end(&self) {
        self.room.close();
    }

    /// Waits until there is room for a long answer; `None`: the connection is over.
    pub(super) async fn room_for_list(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Since when the client has taken nothing of an answer that is begun, of all such ones the longest.
    fn untaken_since(&self) -> Option<Instant> {
        self.untaken.lock().iter().map(|(_, at)| *at).min()
    }

    /// When the last one was answered.
    fn answered_at(&self) -> Instant {
        self.since + Duration::from_millis(self.answered_at.load(Ordering::Relaxed))
    }

    /// A whole head has arrived.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.requests.untaken.lock().retain(|(number, _)| *number != self.number);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.answered_at.store(self.0.millis(), Ordering::Relaxed);
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the client is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The rest of a head, or the first one of a new connection.
    Head,
    /// Another request.
    Idle,
}

/// A stream with deadlines.
pub(super) struct Patient<S> {
    stream: S,
    requests: Arc<Requests>,
    limits: Limits,
    metrics: Arc<Metrics>,
    waiting: Waiting,
    /// Since when; `None`: since it is first asked.
    since: Option<Instant>,
    /// Requests seen when the waiting began.
    seen: u64,
    /// HTTP/2 speaks between requests too; there only the first head has a deadline of its own.
    http2: Option<bool>,
    /// Wakes the reader; often armed for an earlier time than is meant, and then armed anew.
    read_alarm: Alarm,
    /// Since when the client has taken nothing.
    stalled: Option<Instant>,
    write_alarm: Alarm,
}

impl<S> Patient<S> {
    pub(super) fn new(
        stream: S,
        requests: Arc<Requests>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            stream,
            requests,
            limits,
            metrics,
            waiting: Waiting::Head,
            since: Some(Instant::now()),
            seen: 0,
            http2: None,
            read_alarm: Alarm::default(),
            stalled: None,
            write_alarm: Alarm::default(),
        }
    }

    /// Bytes have come in.
    fn received(&mut self, bytes: &[u8]) {
        let http2 = *self.http2.get_or_insert_with(|| bytes.starts_with(b"PRI"));
        self.note_requests();
        if self.waiting == Waiting::Idle && !http2 {
            self.waiting = Waiting::Head;
            // Most heads come whole and are not waited for: the clock is not read for those.
            self.since = None;
        }
    }

    /// Whether requests are under way; after the last of them the waiting begins anew.
    fn note_requests(&mut self) -> bool {
        let begun = self.requests.begun.load(Ordering::Relaxed);
        let busy = begun != self.requests.answered.load(Ordering::Relaxed);
        if !busy && begun != self.seen {
            self.seen = begun;
            self.waiting = Waiting::Idle;
            self.since = Some(self.requests.answered_at());
        }
        busy
    }

    fn cut(&self, reason: CutReason) -> io::Error {
        self.metrics.connection_cut(reason);
        // At once: the library drops the answers before the stream, and each would let another begin.
        self.requests.end();
        io::Error::new(io::ErrorKind::TimedOut, reason.label())
    }

    /// The client has nothing for us now: for how long is that all right?
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(since) = self.requests.untaken_since() {
            ready!(self.read_alarm.poll(since + self.limits.write_timeout, context));
            return Poll::Ready(Err(self.cut(CutReason::Write)));
        }
        if self.note_requests() {
            // The reader is not asked again when the answer is out: the alarm sees to that.
            self.read_alarm.keep(self.limits.idle_timeout, context);
            return Poll::Pending;
        }
        let (span, reason) = match self.waiting {
            Waiting::Head => (self.limits.header_timeout, CutReason::Head),
            Waiting::Idle => (self.limits.idle_timeout, CutReason::Idle),
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        ready!(self.read_alarm.poll(since + span, context));
        Poll::Ready(Err(self.cut(reason)))
    }

    /// The client has taken nothing; or it has.
    fn progress<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        ready!(self.write_alarm.poll(since + self.limits.write_timeout, context));
        Poll::Ready(Err(self.cut(CutReason::Write)))
    }
}

impl<S> Drop for Patient<S> {
    fn drop(&mut self) {
        self.requests.end();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match read {
            Poll::Ready(Ok(())) => {
                if let Some(bytes @ [_, ..]) = buffer.filled().get(before..) {
                    self.received(bytes);
                }
                read
            }
            Poll::Ready(Err(_)) => read,
            Poll::Pending => self.wait(context),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.progress(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.progress(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.progress(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.progress(closed, context)
    }
}

/// A timer that is armed anew only when it rings too early: most deadlines move on long before.
#[derive(Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Sees to it that the task is woken at some time, `span` from now at the latest.
    fn keep(&mut self, span: Duration, context: &mut Context<'_>) {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(span)));
        while sleep.as_mut().poll(context).is_ready() {
            sleep.as_mut().reset(Instant::now() + span);
        }
    }

    /// Ready when `deadline` is past.
    fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline + Duration::from_millis(1) {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
