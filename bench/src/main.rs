//! `passmint-bench`: makes the performance figures of the README, on the reader's own machine.
//!
//! Owns the command line. The figures are in `figures`, how each is taken in `measure`, the load
//! generator in `load`, what the server is compared with in `bare` and `bare_writer`. The figures
//! of a server under attack are in `attack`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool: the table goes to stdout, progress to stderr"
)]

mod attack;
mod bare;
mod bare_writer;
mod figures;
mod http;
mod load;
mod machine;
mod measure;
mod process;
mod report;
mod script;
mod seed;
mod server;
mod simulate;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures a Passmint server against the bare parts it is built from.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes the figures and prints them as a Markdown table.
    Figures(figures::Options),
    /// Attacks the server and prints how it holds as a Markdown table.
    Attack(attack::Options),
    /// Simulates the throttle under attackers and beside owners, and prints a Markdown table.
    Simulate(simulate::Options),
    /// The bare axum server of the verification figure, in a process of its own.
    #[command(hide = true)]
    BareAxum {
        /// Address to listen on; port 0 lets the system choose.
        #[arg(long)]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // Without the backtrace that returning the error would print in some environments.
        eprintln!("passmint-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Figures(options) => figures::run(&options),
        Command::Attack(options) => attack::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::BareAxum { listen } => {
            bare::serve_axum(listen)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
