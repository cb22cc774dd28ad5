//! What it costs to remember failures: a million users who do not exist, each from a network of
//! its own, and how much the server has grown by then.
//!
//! Hashing is made as cheap as it gets for this, or it would take hours; nobody with a dearer hash
//! is stored, so that no refusal waits for one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Site;
use super::ground::{ANY_NUMBER_OF_REQUESTS, Newcomers};
use crate::load::{self, Window};
use crate::measure::mebibytes;
use crate::report::{Bound, Row};
use crate::server::{Installation, Server, Setting};

const CHEAP: [Setting; 2] =
    [("PASSMINT_HASHING__MEMORY_KIB", "8"), ("PASSMINT_HASHING__PASSES", "1")];
/// The wrong password of nobody.
const PASSWORD: &str = "Nobodys-Horse-1";
/// Connections at once; each has users of its own.
const CONNECTIONS: u32 = 32;
/// Keys before the first look at the memory.
const FIRST_KEYS: u32 = 1_000;
/// Between two looks at how many there are.
const STEP: Window = Window { warm_up: Duration::ZERO, measured: Duration::from_millis(250) };
/// A server that needs longer for a thousand keys does something else than what is measured here.
const SLOWEST: Duration = Duration::from_secs(2);

/// Fails, and the row.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let settings = [&ANY_NUMBER_OF_REQUESTS[..], &CHEAP[..]].concat();
    let installation: Installation = site.ground.prepare("limiter", &settings, 0..0)?;
    let server = installation.start()?;
    let mut nobody: Vec<_> =
        (0..CONNECTIONS).map(|first| Newcomers::new(PASSWORD, first, CONNECTIONS)).collect();
    fail(&server, &mut nobody, FIRST_KEYS).context("the first keys")?;
    let before = mebibytes(server.resident_kib()?);
    let keys = fail(&server, &mut nobody, FIRST_KEYS + site.scale.keys)?;
    eprintln!("  {keys} keys: {:.1} MiB under load", mebibytes(server.resident_kib()?));
    std::thread::sleep(site.scale.rest);
    let after = mebibytes(server.resident_kib()?);
    server.stop()?;
    eprintln!("  {keys} keys: from {before:.1} MiB to {after:.1} MiB");
    let title = format!("victim: limiter's memory after {} keys", site.scale.keys);
    Ok(vec![Row::of(title, Bound::Mebibytes(32.0), Some(after - before), &[])])
}

/// Has logins refused until there were so many in all; how many there were.
fn fail(server: &Server, nobody: &mut [Newcomers], keys: u32) -> Result<u32> {
    let begin = Instant::now();
    loop {
        let done = count(nobody);
        if done >= keys {
            return Ok(done);
        }
        ensure!(begin.elapsed() < SLOWEST * (keys / 1_000 + 1), "only {done} of {keys} in time");
        let outcome = load::run(server.address(), nobody, 206, STEP)?;
        ensure!(outcome.errors == 0, "{} errors: {:?}", outcome.errors, outcome.first_error);
    }
}

/// How many logins were refused.
fn count(nobody: &[Newcomers]) -> u32 {
    let numbers = nobody.iter().zip(0..).map(|(script, first)| script.next() - first);
    numbers.map(|next| next / CONNECTIONS - 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script as _;

    #[test]
    fn refusals_are_counted_over_all_connections() {
        let mut nobody: Vec<_> =
            (0..CONNECTIONS).map(|first| Newcomers::new(PASSWORD, first, CONNECTIONS)).collect();
        assert_eq!(count(&nobody), 0);
        nobody[0].answered(b"").unwrap();
        (0..3).for_each(|_| nobody[31].answered(b"").unwrap());
        assert_eq!(count(&nobody), 4);
    }
}
