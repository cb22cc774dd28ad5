//! SIGTERM under load: whatever was accepted is answered, and the server ends in time.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::Site;
use super::client::Client;
use super::ground::{self, ANY_NUMBER_OF_REQUESTS, HOME, LoginRequest};
use crate::measure::PASSWORD;
use crate::report::{Bound, Fault, Row, as_f64};
use crate::script::{RefreshChain, Script};
use crate::server::{Installation, Server};

/// Load before the signal.
const BEFORE: Duration = Duration::from_millis(500);
/// Verifying clients that keep their connection, and such that make a new one each time.
const KEEPING: u32 = 6;
const RECONNECTING: u32 = 3;
/// Clients that refresh, and that log in.
const REFRESHING: u32 = 4;
const LOGGING_IN: u32 = 3;
/// Users: one for each client, and what clients that log in do in turn.
const USERS: u32 = 100;
/// Fewer answers in a run are no load.
const LEAST_ANSWERS: usize = 100;

/// The bytes of a client's next request; it takes the body of the answer to the one before.
type Requests<'a> = Box<dyn FnMut(Option<&[u8]>) -> Result<Vec<u8>> + Send + 'a>;

/// A client, before it starts.
struct Caller<'a> {
    requests: Requests<'a>,
    /// It makes a connection for every request.
    reconnects: bool,
}

/// What became of the requests of a run.
#[derive(Debug, Default)]
struct Fate {
    answered: usize,
    /// Requests that failed though they were accepted, each with its reason.
    failed: Vec<String>,
    /// Requests on new connections that nobody took any more.
    never_accepted: usize,
}

/// Stops again and again, and the rows.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let installation = site.ground.prepare("sigterm", &ANY_NUMBER_OF_REQUESTS, 0..USERS)?;
    let (mut fates, mut ends) = (Vec::new(), Vec::new());
    for number in 0..site.scale.stops {
        let (fate, took) = stop_under_load(&installation)?;
        eprintln!(
            "  stop {}: {took:.2?}; {} answered, {} failed, {} came too late",
            number + 1,
            fate.answered,
            fate.failed.len(),
            fate.never_accepted
        );
        fates.push(fate);
        ends.push(took.as_secs_f64());
    }
    Ok(rows(&fates, &ends))
}

fn rows(fates: &[Fate], ends: &[f64]) -> Vec<Row> {
    let mut faults = Vec::new();
    if let Some(fate) = fates.iter().find(|fate| fate.answered < LEAST_ANSWERS) {
        let text = format!("only {} answers in a run: that was no load", fate.answered);
        faults.push(if fate.answered == 0 { Fault::Wrong(text) } else { Fault::Weak(text) });
    }
    let failed: Vec<_> = fates.iter().flat_map(|fate| &fate.failed).collect();
    if let Some(first) = failed.first() {
        eprintln!("  first failed request: {first}");
    }
    let title = |what: &str| format!("sigterm: {} times under load, {what}", fates.len());
    let longest = ends.iter().copied().reduce(f64::max);
    vec![
        Row::of(
            title("accepted requests that failed"),
            Bound::Count(0.0),
            Some(as_f64(failed.len())),
            &faults,
        ),
        Row::of(title("longest until gone"), Bound::Seconds(5.0), longest, &faults),
    ]
}

/// One run: load, the signal, and load until nobody listens any more.
fn stop_under_load(installation: &Installation) -> Result<(Fate, Duration)> {
    let server = installation.start()?;
    let address = server.address();
    let callers = callers(&server)?;
    let terminated = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = callers
            .into_iter()
            .map(|caller| scope.spawn(|| call(address, caller, &terminated)))
            .collect();
        thread::sleep(BEFORE);
        terminated.store(true, Ordering::SeqCst);
        let ending = server.end();
        let mut all = Fate::default();
        for caller in callers {
            let fate = caller.join().map_err(|_| anyhow!("a client panicked"))?;
            all.answered += fate.answered;
            all.failed.extend(fate.failed);
            all.never_accepted += fate.never_accepted;
        }
        let ending = ending?;
        ensure!(ending.panics.is_empty(), "the server panicked: {:?}", ending.panics);
        Ok((all, ending.took))
    })
}

/// Clients of every kind, each with a session of its own.
fn callers(server: &Server) -> Result<Vec<Caller<'static>>> {
    let mut callers = Vec::new();
    let verifying = ground::log_in(server, 0..KEEPING + RECONNECTING)?;
    for (number, request) in (0..).zip(ground::verifications(&verifying)?) {
        let requests: Requests<'_> = Box::new(move |_| Ok(request.clone()));
        callers.push(Caller { requests, reconnects: number >= KEEPING });
    }
    for body in ground::log_in(server, 0..REFRESHING)? {
        let mut chain = RefreshChain::from_login(&body)?;
        let requests: Requests<'_> = Box::new(move |answer| {
            answer.map_or(Ok(()), |body| chain.answered(body))?;
            Ok(chain.request().to_vec())
        });
        callers.push(Caller { requests, reconnects: false });
    }
    for first in 0..LOGGING_IN {
        let mut request = LoginRequest::with_password(PASSWORD);
        let mut user = first;
        let requests: Requests<'_> = Box::new(move |_| {
            user = (user + LOGGING_IN) % USERS;
            Ok(request.of(user, HOME).to_vec())
        });
        callers.push(Caller { requests, reconnects: first == 0 });
    }
    Ok(callers)
}

/// Asks one thing after the other until nobody listens any more.
fn call(address: SocketAddr, mut caller: Caller<'_>, terminated: &AtomicBool) -> Fate {
    let mut fate = Fate::default();
    let ended = converse(address, &mut caller, &mut fate);
    match ended {
        // That is the end, once there was a reason for it.
        Ok(()) if terminated.load(Ordering::SeqCst) => {}
        Ok(()) => fate.failed.push("nobody listened before the signal".to_owned()),
        Err(error) => fate.failed.push(format!("{error:#}")),
    }
    fate
}

/// `Ok` when nobody listens.
fn converse(address: SocketAddr, caller: &mut Caller<'_>, fate: &mut Fate) -> Result<()> {
    let mut request = (caller.requests)(None)?;
    loop {
        let mut client = match Client::connect(address) {
            Ok(client) => client,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(()),
            // The listener went while the system shook hands: nothing was sent yet.
            Err(_) if nobody_listens(address) => {
                fate.never_accepted += 1;
                return Ok(());
            }
            Err(error) => return Err(error).context("cannot connect"),
        };
        let mut fresh = true;
        loop {
            let reply = match client.ask(&request) {
                Ok(reply) => reply,
                // A connection that came between the server's last look and its end was never
                // accepted: nobody can tell that from here but by asking again.
                Err(_) if fresh && nobody_listens(address) => {
                    fate.never_accepted += 1;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            ensure!(reply.status == 200, "status {} instead of 200", reply.status);
            fate.answered += 1;
            fresh = false;
            request = (caller.requests)(Some(&reply.body))?;
            if reply.closing || caller.reconnects {
                break;
            }
        }
    }
}

fn nobody_listens(address: SocketAddr) -> bool {
    Client::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers a few requests in all on connections it keeps, then breaks the one it
    /// has, in mid-answer if told so, and listens no more.
    fn fate(requests: usize, last_words: &'static str, closing: bool) -> Fate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for number in 0..requests {
                stream.read_exact(&mut [0; 4]).unwrap();
                let close =
                    if closing && number + 1 == requests { "connection: close\r\n" } else { "" };
                let answer = format!("HTTP/1.1 200 X\r\n{close}content-length: 0\r\n\r\n");
                if number + 1 == requests {
                    // Before the client can come again.
                    drop(listener);
                    return drop(stream.write_all(answer.as_bytes()));
                }
                stream.write_all(answer.as_bytes()).unwrap();
            }
            drop(listener);
            drop(stream.write_all(last_words.as_bytes()));
        });
        let requests: Requests<'_> = Box::new(|_| Ok(b"ping".to_vec()));
        call(address, Caller { requests, reconnects: false }, &AtomicBool::new(true))
    }

    #[test]
    fn an_announced_end_fails_nothing() {
        let fate = fate(5, "", true);
        assert_eq!((fate.answered, fate.failed.len(), fate.never_accepted), (5, 0, 0), "{fate:?}");
    }

    #[test]
    fn a_kept_connection_that_breaks_has_failed_a_request() {
        let fate = fate(5, "", false);
        assert_eq!((fate.answered, fate.failed.len()), (5, 1), "{fate:?}");
    }

    #[test]
    fn a_first_request_that_nobody_took_is_told_apart() {
        let fate = fate(0, "", false);
        assert_eq!((fate.answered, fate.failed.len(), fate.never_accepted), (0, 0, 1), "{fate:?}");
    }

    #[test]
    fn a_run_without_load_proves_nothing() {
        assert!(rows(&[Fate::default()], &[0.1]).iter().all(|row| !row.is_met()));
        let busy = |failed: Vec<String>| Fate { answered: 1_000, failed, never_accepted: 0 };
        assert!(rows(&[busy(Vec::new())], &[0.1]).iter().all(Row::is_met));
        let met: Vec<_> =
            rows(&[busy(vec!["x".to_owned()])], &[6.0]).iter().map(Row::is_met).collect();
        assert_eq!(met, [false, false]);
    }
}
