//! Ends the process when its runtime hangs, so that its supervisor starts it anew.
//!
//! A thread of its own asks the runtime for a sign of life once a second. A fault that keeps every worker
//! busy for ever would otherwise leave a server that answers nothing and does not even hear SIGTERM. It
//! counts its own rounds and no clock: a machine that was asleep is not a runtime that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

/// How often a sign of life is asked for.
const ROUND: Duration = Duration::from_secs(1);
/// After so many rounds without one the runtime hangs.
const PATIENCE: u32 = 10;
/// After so many rounds a server that was told to stop is ended: longer than an orderly stop may take.
const STOPS_WITHIN: u32 = 12;

/// Set when a stopping server owes nobody an answer any more.
static ANSWERED: AtomicBool = AtomicBool::new(false);

/// A stopping server has answered everybody: what is left is closing the store. If a slow disk makes that
/// take too long, the process ends as if it were done, for nothing that was answered can be lost.
pub fn all_is_answered() {
    ANSWERED.store(true, Ordering::Relaxed);
}

/// What a watchdog asks and does; tests have their own.
struct Watchdog {
    round: Duration,
    runtime: Handle,
    /// Set by the signals that stop the server.
    told_to_stop: Arc<AtomicBool>,
    end: fn(&'static str),
}

/// Starts to watch the current runtime. It needs no stopping: it ends with the process.
pub fn start() -> std::io::Result<()> {
    let told_to_stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_stop))?;
    }
    let end = |why: &'static str| {
        if ANSWERED.load(Ordering::Relaxed) {
            tracing::warn!(
                "{why} in time, everybody is answered: its database is left as after a crash"
            );
            crate::telemetry::flush_log();
            std::process::exit(0);
        }
        tracing::error!("{why}: the process ends, to be started anew");
        crate::telemetry::flush_log();
        std::process::abort();
    };
    let watchdog = Watchdog { round: ROUND, runtime: Handle::current(), told_to_stop, end };
    thread::Builder::new().name("watchdog".into()).spawn(move || watchdog.watch()).map(drop)
}

impl Watchdog {
    fn watch(&self) {
        let signs = Arc::new(AtomicU64::new(0));
        let (mut asked, mut silent, mut stopping) = (0, 0, 0);
        loop {
            if signs.load(Ordering::Relaxed) == asked {
                silent = 0;
                asked += 1;
                let signs = Arc::clone(&signs);
                self.runtime.spawn(async move { signs.fetch_add(1, Ordering::Relaxed) });
            }
            thread::sleep(self.round);
            if signs.load(Ordering::Relaxed) < asked {
                silent += 1;
            }
            stopping += u32::from(self.told_to_stop.load(Ordering::Relaxed));
            if silent >= PATIENCE {
                return (self.end)("the runtime's workers hang");
            }
            if stopping >= STOPS_WITHIN {
                return (self.end)("the server was told to stop and did not");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;

    use super::*;

    static HANGS: AtomicU32 = AtomicU32::new(0);
    static STOPS: AtomicU32 = AtomicU32::new(0);

    fn watch(
        end: fn(&'static str),
        told_to_stop: bool,
    ) -> (tokio::runtime::Runtime, thread::JoinHandle<()>) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let watchdog = Watchdog {
            round: Duration::from_millis(10),
            runtime: runtime.handle().clone(),
            told_to_stop: Arc::new(AtomicBool::new(told_to_stop)),
            end,
        };
        (runtime, thread::spawn(move || watchdog.watch()))
    }

    #[test]
    fn a_worker_that_hangs_ends_the_process_and_one_that_works_does_not() {
        let (runtime, watching) = watch(|_| HANGS.store(1, Ordering::Relaxed), false);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(HANGS.load(Ordering::Relaxed), 0);
        let (release, hold) = mpsc::channel::<()>();
        runtime.spawn(async move { hold.recv() });
        watching.join().unwrap();
        assert_eq!(HANGS.load(Ordering::Relaxed), 1);
        drop(release);
    }

    #[test]
    fn a_server_that_does_not_stop_when_told_is_ended() {
        let (runtime, watching) = watch(|_| STOPS.store(1, Ordering::Relaxed), true);
        watching.join().unwrap();
        assert_eq!(STOPS.load(Ordering::Relaxed), 1);
        drop(runtime);
    }
}
