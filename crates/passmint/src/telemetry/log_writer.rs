//! Writes log lines on a thread of its own: a reader of the log that stands still stops nobody. Lines that
//! find no room are dropped, and how many is logged when there is room again.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// How many lines may wait: some megabytes.
const ROOM: usize = 8192;

enum Entry {
    Line(String),
    /// Everything before it is to be written; then this is answered.
    Flush(Sender<()>),
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The queue, or `None` where the thread could not be started: then lines are written where they arise.
fn queue() -> Option<&'static SyncSender<Entry>> {
    static QUEUE: OnceLock<Option<SyncSender<Entry>>> = OnceLock::new();
    let start = || {
        let (sender, entries) = sync_channel(ROOM);
        let thread = thread::Builder::new().name("log".into());
        thread.spawn(move || run(&entries)).is_ok().then_some(sender)
    };
    QUEUE.get_or_init(start).as_ref()
}

fn run(entries: &Receiver<Entry>) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                out(&line);
                let dropped = DROPPED.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!(dropped, "the log was not read; lines were dropped");
                }
            }
            Entry::Flush(done) => drop(done.send(())),
        }
    }
}

fn out(line: &str) {
    // A log that cannot be written must not stop the server.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Has a line written, or dropped where too many wait.
pub(super) fn write(line: String) {
    let Some(queue) = queue() else { return out(&line) };
    if queue.try_send(Entry::Line(line)).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits a moment until what was logged is written: before the process ends.
pub fn flush() {
    const LONGEST: Duration = Duration::from_secs(1);
    let (done, written) = channel();
    if queue().is_some_and(|queue| queue.try_send(Entry::Flush(done)).is_ok()) {
        let _ = written.recv_timeout(LONGEST);
    }
}
