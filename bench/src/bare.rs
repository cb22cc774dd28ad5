//! What logins and verifications are compared with: a bare loop of the Argon2 core, and a bare
//! axum server in a process of its own.

use std::env;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use argon2_rust::params::Memory;
use argon2_rust::{Algorithm, Argon2, Params, Version};
use axum::Router;
use axum::routing::get;

use crate::load::Window;
use crate::process::Process;
use crate::report::as_f64;

/// The path that both servers of the verification figure answer.
pub(crate) const FORWARD_AUTH: &str = "/forward-auth";

/// Argon2 memory in KiB, as the server hashes by default.
const MEMORY_KIB: u64 = 19_456;
/// Argon2 passes.
const PASSES: u32 = 2;

/// Hashes on `threads` threads, each with its own reused memory; hashes per second in all.
pub(crate) fn hashing(threads: usize, window: Window) -> Result<f64> {
    let start = Instant::now();
    let workers: Vec<_> =
        (0..threads).map(|_| thread::spawn(move || hash_until(start, window))).collect();
    workers
        .into_iter()
        .map(|worker| worker.join().map_err(|_| anyhow!("a hashing thread panicked"))?)
        .sum()
}

/// Hashes per second of one thread, counted between whole hashes.
fn hash_until(start: Instant, window: Window) -> Result<f64> {
    let params = Params::builder().memory(Memory::kib(MEMORY_KIB)).passes(PASSES).build();
    let params = params.map_err(|error| anyhow!("Argon2 parameters: {error}"))?;
    let mut hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hasher();
    let counted_from = start + window.warm_up;
    let end = counted_from + window.measured;
    let (mut first, mut count) = (None, 0_usize);
    let mut tag = [0; 32];
    let mut salt = [0; 16];
    loop {
        hasher
            .hash_into(black_box(b"correct horse 1"), &salt, &mut tag)
            .map_err(|error| anyhow!("Argon2: {error}"))?;
        salt.copy_from_slice(black_box(&tag).get(..16).unwrap_or(&[0; 16]));
        let now = Instant::now();
        match first {
            None if now >= counted_from => first = Some(now),
            None => {}
            Some(first) => {
                count += 1;
                if now >= end {
                    return Ok(as_f64(count) / now.duration_since(first).as_secs_f64());
                }
            }
        }
    }
}

/// Serves 200 with an empty body on [`FORWARD_AUTH`] until killed; prints its address first.
pub(crate) fn serve_axum(listen: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await.context("cannot listen")?;
        println!("{}", listener.local_addr()?);
        let router = Router::new().route(FORWARD_AUTH, get(|| async {}));
        axum::serve(listener, router).await.context("cannot serve")
    })
}

/// The bare axum server, running.
pub(crate) struct BareAxum {
    address: SocketAddr,
    /// Held for its drop, which ends the process.
    _process: Process,
}

impl BareAxum {
    /// Starts this very program as the bare server.
    pub(crate) fn start() -> Result<Self> {
        let child = Command::new(env::current_exe()?)
            .args(["bare-axum", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the bare server")?;
        let mut process = Process::new(child);
        let stdout = process.child().stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().context("the bare server did not start")?;
        Ok(Self { address, _process: process })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_hashing_loop_counts_on_every_thread() {
        let window =
            Window { warm_up: Duration::from_millis(1), measured: Duration::from_millis(50) };
        assert!(hashing(2, window).unwrap() > 0.0);
    }
}
