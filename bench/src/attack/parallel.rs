//! Ten thousand logins at once: of one name, guessed from as many networks, and of as many names. The
//! server must go on answering everything else meanwhile, with one worker thread too, and be as before
//! soon after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::Site;
use super::client::Client;
use super::flood;
use super::ground::{self, ANY_NUMBER_OF_REQUESTS, LoginRequest};
use super::open_loop::{self, Source, Stream};
use super::statistics::percentile;
use super::tally::Tally;
use crate::http;
use crate::load::Window;
use crate::measure::PASSWORD;
use crate::report::{Bound, Row, as_f64};
use crate::server::Setting;

/// As long as the right one.
const WRONG: &str = "Correct-Horse-8";
/// Everything must be as before this long after the last answer.
const RECOVERY: Duration = Duration::from_secs(2);
/// How often the others look whether the server is there.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Room for all connections.
const CONNECTIONS: [Setting; 2] = [
    ("PASSMINT_SERVER__MAX_CONNECTIONS", "12000"),
    ("PASSMINT_SERVER__MAX_CONNECTIONS_PER_ADDRESS", "12000"),
];

/// Whose logins.
#[derive(Clone, Copy)]
enum Of {
    OneName,
    ManyNames,
}

/// Each login from a network of its own.
struct Logins {
    request: LoginRequest,
    of: Of,
}

impl Source for Logins {
    fn request(&mut self, number: u32) -> &[u8] {
        let user = match self.of {
            Of::OneName => 0,
            Of::ManyNames => number,
        };
        self.request.of(user, number)
    }
}

/// Both kinds, with one worker thread and with two.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for of in [Of::OneName, Of::ManyNames] {
        for workers in ["1", "2"] {
            rows.extend(storm(site, of, workers)?);
        }
    }
    Ok(rows)
}

fn storm(site: &Site<'_>, of: Of, workers: &'static str) -> Result<Vec<Row>> {
    let count = site.scale.parallel;
    let (whose, password) = match of {
        Of::OneName => ("of one name", WRONG),
        Of::ManyNames => ("of as many names", PASSWORD),
    };
    let title = format!("{count} logins at once {whose}, {workers} worker threads");
    eprintln!("  {title}");
    let users = flood::USERS + flood::OTHERS;
    let threads: [Setting; 1] = [("TOKIO_WORKER_THREADS", workers)];
    let settings = [ANY_NUMBER_OF_REQUESTS.as_slice(), &CONNECTIONS, &threads].concat();
    let installation = site.ground.prepare(&title, &settings, 0..users)?;
    let server = installation.start()?;
    // The first ones take memory from the system, which those afterwards do not.
    flood::single_logins(&server)?;
    let before = flood::single_logins(&server)?;
    let mut source = Logins { request: LoginRequest::with_password(password), of };
    let logins = Stream {
        title: "logins",
        // All of them are due within ten milliseconds.
        rate: f64::from(count) * 100.0,
        connections: count as usize,
        expected: &[200, 206, 429, 503],
        source: &mut source,
    };
    let window = Window { warm_up: Duration::ZERO, measured: Duration::from_millis(10) };
    let over = AtomicBool::new(false);
    let (tally, seen) = thread::scope(|scope| {
        let others = scope.spawn(|| look(&server, &over));
        let tallies = open_loop::run(server.address(), vec![logins], window);
        over.store(true, Ordering::Relaxed);
        let seen = others.join().map_err(|_| anyhow!("a thread panicked"))??;
        Ok::<_, anyhow::Error>((tallies?.pop().context("no tally")?, seen))
    })?;
    eprintln!("  {tally}");
    thread::sleep(RECOVERY);
    let after = flood::single_logins(&server).context("after it")?;
    server.stop()?;
    let slowest = percentile(&before, 99);
    let recovery = percentile(&after, 90).zip(slowest).map(|(after, quiet)| 100.0 * after / quiet);
    Ok(rows(&title, &tally, percentile(&seen, 99), recovery))
}

/// Milliseconds that `/healthz` takes on a connection that is kept, until `over`.
fn look(server: &crate::server::Server, over: &AtomicBool) -> Result<Vec<f64>> {
    let mut client = Client::connect(server.address())?;
    let request = http::get("/healthz", None);
    let mut took = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        ground::granted(&mut client, &request)?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(LOOK_EVERY);
    }
    Ok(took)
}

fn rows(title: &str, tally: &Tally, healthz: Option<f64>, recovery: Option<f64>) -> Vec<Row> {
    let faults = tally.faults();
    let row = |what: &str, bound, value| Row::of(format!("{title}: {what}"), bound, value, &faults);
    let silent = as_f64(tally.without_retry_after(flood::REFUSED));
    vec![
        row("refusals without Retry-After", Bound::Count(0.0), Some(silent)),
        row("healthz p99 meanwhile", Bound::Milliseconds(100.0), healthz),
        row("login 2 s later, of the quiet p99", Bound::MostPercent(200.0), recovery),
    ]
}
