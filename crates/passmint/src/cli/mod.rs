//! The operator's door: one file per command.
//!
//! Data goes to standard output, messages to standard error. Exit codes: 0 done, 1 failed, 2 usage.
//! Commands reach a running server through its socket (`control`) and open the database themselves
//! only when no server holds it.

#[macro_use]
mod output;

mod audit;
mod config;
mod control;
mod db;
mod demo;
mod doctor;
mod generate;
mod key;
mod selftest;
mod serve;
mod session;
mod user;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::config::{Config, Sources};

/// A token server: password login, rotating refresh tokens, instant revocation.
#[derive(Parser)]
#[command(name = "passmint", version, arg_required_else_help = true)]
struct Arguments {
    /// Read settings from this file instead of passmint.toml beside the data.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the embedded database; short for a database.url that names
    /// passmint.db in it.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on an embedded database, with a sample user and calls to try.
    Demo(demo::Demo),
    /// Run the server.
    Serve(serve::Serve),
    /// Add, list and change users.
    #[command(subcommand)]
    User(user::User),
    /// List, end and explain sessions.
    #[command(subcommand)]
    Session(session::Session),
    /// List, rotate, revoke and import keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Read and check the audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Look after the database.
    #[command(subcommand)]
    Db(db::Db),
    /// Check or print the settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Say what is wrong with this installation, and how to mend it.
    Doctor(doctor::Doctor),
    /// Attack a running server of your own over HTTP, and say what held.
    Selftest(selftest::Selftest),
    /// Print a completion script for a shell.
    Completions(generate::Completions),
    /// Write the man pages into a folder.
    Man(generate::Man),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(words) => return say(&words),
    };
    leave_no_core_dumps();
    let outcome = run(arguments);
    crate::telemetry::flush_log();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            say!("passmint: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints help, the version, or what is wrong with the usage: exit code 0, or 2.
fn say(words: &clap::Error) -> ExitCode {
    match words.print().and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::from(u8::try_from(words.exit_code()).unwrap_or(2)),
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let sources = Sources::from_environment(arguments.config, arguments.data);
    let done = |()| ExitCode::SUCCESS;
    match arguments.command {
        Command::Completions(command) => command.run(&mut Arguments::command()).map(done),
        Command::Man(command) => command.run(Arguments::command()).map(done),
        Command::Config(command) => command.run(&sources).map(done),
        Command::Doctor(command) => block_on(command.run(&sources)),
        Command::Selftest(command) => block_on(command.run()),
        Command::Demo(command) => block_on(command.run(sources)).map(done),
        Command::Serve(command) => block_on(command.run(&sources)).map(done),
        Command::User(command) => block_on(command.run(&settings(&sources)?)).map(done),
        Command::Session(command) => block_on(command.run(&settings(&sources)?)).map(done),
        Command::Key(command) => block_on(command.run(&settings(&sources)?)).map(done),
        Command::Audit(command) => block_on(command.run(&settings(&sources)?)).map(done),
        Command::Db(command) => block_on(command.run(&settings(&sources)?)).map(done),
    }
}

/// The settings, or, where they have mistakes, what it takes to reach the server that runs: it goes on with
/// those it has, and somebody may have to be locked out just now.
fn settings(sources: &Sources) -> Result<Config> {
    let error = match Config::load(sources) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    if let Some(config) = Config::to_reach_a_server(sources)
        && block_on(control::server_runs(&config)).unwrap_or(false)
    {
        say!("passmint: the server that runs goes on with the settings it has. {error}");
        return Ok(config);
    }
    Err(error.into())
}

/// Keeps passwords and keys in memory out of core dumps, and other processes of the same user out of it
/// (`prctl(2)`). Before any secret is read.
fn leave_no_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Refused where the sandbox forbids it.
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Only reads of the store block, and those are bounded by its connections.
        .max_blocking_threads(8)
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}
