//! The figures of a server under attack: which there are, how much of each is done, and the run
//! that takes them (`docs/explanation/under-attack.md` says what each means).
//!
//! Everything is black box: the binary, its settings, its database while it is stopped, and what
//! it answers. A figure that measured nothing, or met what must not be, fails the run.

mod client;
mod dice;
mod flood;
mod garbage;
mod ground;
mod import;
mod limiter;
mod malformed;
mod open_loop;
mod parallel;
mod repeat;
mod schedule;
mod sigterm;
mod slow;
mod statistics;
mod tally;
mod timing;
mod victim;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use self::flood::Flood;
use self::ground::Ground;
use crate::figures::server_binary;
use crate::load::Window;
use crate::machine::Machine;
use crate::report::{self, Bound, Check, Fault, Row};

/// What to attack with, and how.
#[derive(Args)]
pub(crate) struct Options {
    /// The server binary [default: `passmint` beside this program].
    #[arg(long)]
    server: Option<PathBuf>,
    /// A small part of every attack, for the tests: some two minutes in all.
    #[arg(long)]
    short: bool,
    /// Exit with 1 when a bound is missed.
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "all", value_name = "WHICH")]
    check: Option<Check>,
    /// Only these figures.
    #[arg(long, value_enum, num_args = 1.., value_name = "NAME")]
    only: Vec<Figure>,
    /// Where the temporary data goes.
    #[arg(long)]
    work_dir: Option<PathBuf>,
}

/// A figure, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// A login flood at ten times the capacity.
    Flood10,
    /// A login flood at fifty times the capacity.
    Flood50,
    /// Others' logins during a flood from one network.
    Fair,
    /// Whether the time of a refusal tells who exists.
    Timing,
    /// Connections that send or read as slowly as they can.
    Slow,
    /// Requests that are not what they should be.
    Malformed,
    /// A victim whose password is guessed from everywhere, and what remembering the guesses takes.
    Victim,
    /// Ten thousand logins at once.
    Parallel,
    /// SIGTERM under load.
    Sigterm,
    /// Logins of those who log in before every call.
    Repeat,
    /// An import of ten thousand users under logins.
    Import,
}

/// How much of everything.
struct Scale {
    /// Each flood.
    flood: Window,
    /// Each measurement of the capacity.
    capacity: Window,
    /// What goodput may lack to its bound by chance, in percent of the capacity: flood and capacity are
    /// measured one after the other, on machines that others use, too.
    goodput_by_chance: f64,
    /// Whether the strongest flood comes from one network, too.
    every_flood: bool,
    /// Samples of each kind of refusal.
    refusals: u32,
    /// How far the area under the curve may be from one half, by chance too.
    area: f64,
    /// Slow connections.
    slow: usize,
    /// Malformed requests.
    malformed: u32,
    /// The guessing.
    guessing: Duration,
    /// The victim's logins a second meanwhile.
    victim_logins: f64,
    /// Keys that the limiter is made to remember.
    keys: u32,
    /// Before the look at what they take: a server that rests gives back what the load itself took.
    rest: Duration,
    /// Logins at once.
    parallel: u32,
    /// Stops under load.
    stops: u32,
    /// Interleaved rounds of repeat logins, hashed logins and refreshes.
    rounds: u32,
    /// Each load of such a round.
    round: Window,
    /// The logins before and during an import.
    import: Window,
    /// One in so many of the imported users logs in afterwards.
    imported_each: u32,
}

const fn window(warm_up_millis: u64, measured_millis: u64) -> Window {
    Window {
        warm_up: Duration::from_millis(warm_up_millis),
        measured: Duration::from_millis(measured_millis),
    }
}

const LONG: Scale = Scale {
    flood: window(2_000, 58_000),
    capacity: window(500, 5_000),
    goodput_by_chance: 0.0,
    every_flood: true,
    refusals: 2_000,
    area: 0.03,
    slow: 1_000,
    malformed: 1_000_000,
    guessing: Duration::from_mins(10),
    victim_logins: 0.2,
    keys: 1_000_000,
    rest: Duration::from_secs(25),
    parallel: 10_000,
    stops: 20,
    rounds: 7,
    round: window(500, 2_000),
    import: window(1_000, 20_000),
    imported_each: 1,
};

const SHORT: Scale = Scale {
    flood: window(1_000, 7_000),
    capacity: window(300, 2_000),
    goodput_by_chance: 5.0,
    every_flood: false,
    refusals: 200,
    area: 0.08,
    slow: 300,
    malformed: 30_000,
    guessing: Duration::from_secs(12),
    victim_logins: 1.0,
    keys: 50_000,
    rest: Duration::ZERO,
    parallel: 2_000,
    stops: 3,
    rounds: 5,
    round: window(200, 600),
    import: window(500, 12_000),
    // No multiple of the number of kinds.
    imported_each: 101,
};

/// The ground and the amount; every figure gets both.
struct Site<'a> {
    ground: Ground<'a>,
    scale: &'a Scale,
}

impl Site<'_> {
    /// The rows of a figure. Fairness is a part of the flood from one network, so that it is not
    /// taken again when that is taken anyway.
    fn take(&self, figure: Figure, chosen: &[Figure]) -> Result<Vec<Row>> {
        let fair = chosen.contains(&Figure::Fair);
        match figure {
            Figure::Flood10 => {
                let many = Flood { times: 10, one_network: false, fair: false };
                let one = Flood { one_network: true, fair, ..many };
                let mut rows = flood::take(self, many)?;
                rows.extend(flood::take(self, one)?);
                Ok(rows)
            }
            Figure::Flood50 => {
                let many = Flood { times: 50, one_network: false, fair: false };
                let mut rows = flood::take(self, many)?;
                if self.scale.every_flood {
                    rows.extend(flood::take(self, Flood { one_network: true, ..many })?);
                }
                Ok(rows)
            }
            Figure::Fair if chosen.contains(&Figure::Flood10) => Ok(Vec::new()),
            Figure::Fair => {
                let flood = Flood { times: 10, one_network: true, fair: true };
                // The last row is the one of those who stand beside the flood.
                Ok(flood::take(self, flood)?.pop().into_iter().collect())
            }
            Figure::Timing => timing::take(self),
            Figure::Slow => slow::take(self),
            Figure::Malformed => malformed::take(self),
            Figure::Victim => {
                let mut rows = victim::take(self)?;
                rows.extend(limiter::take(self)?);
                Ok(rows)
            }
            Figure::Parallel => parallel::take(self),
            Figure::Sigterm => sigterm::take(self),
            Figure::Repeat => repeat::take(self),
            Figure::Import => import::take(self),
        }
    }
}

/// Attacks, and prints the table. A figure that could not be taken without errors fails the run;
/// one that misses its bound only with `--check`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let work_dir = options.work_dir.clone().unwrap_or_else(env::temp_dir);
    let folder = tempfile::Builder::new()
        .prefix("passmint-attack-")
        .tempdir_in(&work_dir)
        .with_context(|| format!("cannot make a folder in {}", work_dir.display()))?;
    let binary = server_binary(options.server.as_deref())?;
    let site = Site {
        ground: Ground { binary: &binary, folder: folder.path() },
        scale: if options.short { &SHORT } else { &LONG },
    };
    let machine = Machine::start()?;
    let chosen: Vec<_> = Figure::value_variants()
        .iter()
        .copied()
        .filter(|figure| options.only.is_empty() || options.only.contains(figure))
        .collect();
    let rows: Vec<_> = chosen.iter().flat_map(|figure| take(&site, *figure, &chosen)).collect();
    folder.close().context("cannot remove the temporary data")?;
    report::conclude(&rows, &machine, options.check)
}

fn take(site: &Site<'_>, figure: Figure, chosen: &[Figure]) -> Vec<Row> {
    let name = format!("{figure:?}").to_lowercase();
    eprintln!("{name}");
    let rows = site.take(figure, chosen).unwrap_or_else(|error| {
        let title = format!("{name}: could not be taken");
        vec![Row::of(title, Bound::Count(0.0), None, &[Fault::Wrong(format!("{error:#}"))])]
    });
    let mut faults: Vec<_> = rows.iter().flat_map(Row::faults).collect();
    faults.dedup();
    for fault in faults {
        eprintln!("  FAILED: {fault}");
    }
    rows
}
