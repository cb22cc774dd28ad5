//! The figures of the README: which there are, what each promises, and the run that takes them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::load::Window;
use crate::machine::Machine;
use crate::measure::Site;
use crate::report::{self, Bound, Check, Fault, Measured, Row};
use crate::server::Installation;

/// Time before each measured window: threads, caches and connections settle.
const WARM_UP: Duration = Duration::from_millis(500);

/// What to measure, and how.
#[derive(Args)]
pub(crate) struct Options {
    /// The server binary [default: `passmint` beside this program].
    #[arg(long)]
    server: Option<PathBuf>,
    /// Interleaved pairs per ratio, and starts.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..))]
    pairs: u8,
    /// Length of each measured window.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Wait between the last login and the look at the idle memory.
    #[arg(long, default_value_t = 65)]
    idle_seconds: u16,
    /// Sessions that each of the 64 connections refreshes in turn. With one, all refreshes would
    /// go to the same few pages of the table, which no real load does.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..))]
    sessions_each: u8,
    /// Exit with 1 when a bound is missed.
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "all", value_name = "WHICH")]
    check: Option<Check>,
    /// Only these figures.
    #[arg(long, value_enum, num_args = 1.., value_name = "NAME")]
    only: Vec<Figure>,
    /// Where the temporary data goes; its file system is the one measured.
    #[arg(long)]
    work_dir: Option<PathBuf>,
}

/// A figure, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    Start,
    Memory,
    Logins,
    Refreshes,
    Verifications,
    Tokens100k,
    Tokens1m,
    /// The last: the revocations stay.
    Revocations1m,
}

impl Figure {
    fn title(self) -> &'static str {
        match self {
            Self::Start => "start to ready, 100,000 users",
            Self::Memory => "resident memory, idle after logins",
            Self::Logins => "logins, of a bare Argon2 loop",
            Self::Refreshes => "durable refreshes at 64 connections, of a bare SQLite writer",
            Self::Verifications => "verifications of 64 known tokens, of a bare axum server",
            Self::Tokens100k => {
                "verifications of 100,000 known tokens in turn, of a bare axum server"
            }
            Self::Revocations1m => "start to ready, 1,000,000 live revocations",
            Self::Tokens1m => {
                "verifications of 1,000,000 known tokens in turn, of a bare axum server"
            }
        }
    }

    fn bound(self) -> Bound {
        match self {
            Self::Start | Self::Revocations1m => Bound::Milliseconds(100.0),
            Self::Memory => Bound::Mebibytes(15.0),
            Self::Logins => Bound::Percent(85.0),
            Self::Refreshes | Self::Verifications => Bound::Percent(75.0),
            Self::Tokens100k => Bound::Percent(80.0),
            Self::Tokens1m => Bound::Percent(60.0),
        }
    }

    fn take(self, site: &Site<'_>) -> Result<Measured> {
        match self {
            Self::Start => site.start_to_ready(),
            Self::Memory => site.idle_memory(),
            Self::Logins => site.logins(),
            Self::Refreshes => site.refreshes(),
            Self::Verifications => site.verifications(),
            Self::Tokens100k => site.verifications_of_many(100_000),
            Self::Tokens1m => site.verifications_of_many(1_000_000),
            Self::Revocations1m => site.start_with_revocations(1_000_000),
        }
    }
}

/// Takes the figures and prints the table. A figure that could not be taken without errors fails
/// the run; one that misses its bound only with `--check`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let work_dir = options.work_dir.clone().unwrap_or_else(env::temp_dir);
    let folder = tempfile::Builder::new()
        .prefix("passmint-bench-")
        .tempdir_in(&work_dir)
        .with_context(|| format!("cannot make a folder in {}", work_dir.display()))?;
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    let site = Site {
        installation: Installation::new(&server_binary(options.server.as_deref())?, &data)?,
        folder: folder.path(),
        pairs: options.pairs.into(),
        sessions_each: options.sessions_each,
        window: Window { warm_up: WARM_UP, measured: Duration::from_secs(options.seconds.into()) },
        idle: Duration::from_secs(options.idle_seconds.into()),
    };
    let machine = Machine::start()?;
    site.prepare()?;
    let chosen = Figure::value_variants()
        .iter()
        .filter(|figure| options.only.is_empty() || options.only.contains(figure));
    let rows: Vec<_> = chosen.map(|figure| take(*figure, &site)).collect();
    folder.close().context("cannot remove the temporary data")?;
    report::conclude(&rows, &machine, options.check)
}

fn take(figure: Figure, site: &Site<'_>) -> Row {
    eprintln!("{}", figure.title());
    let measured = figure.take(site).unwrap_or_else(|error| Measured {
        faults: vec![Fault::Wrong(format!("{error:#}"))],
        ..Measured::default()
    });
    let row = Row { title: figure.title().to_owned(), bound: figure.bound(), measured };
    for fault in row.faults() {
        eprintln!("  FAILED: {fault}");
    }
    row
}

/// The server binary that was asked for, or else the one beside this program.
pub(crate) fn server_binary(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => Ok(env::current_exe()?.with_file_name("passmint")),
    }
}
