//! A child process that never outlives its owner: stopped by SIGTERM, killed when dropped.

use std::fs;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running child; only the one that was started here is ever signalled.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Takes charge of a child.
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }

    /// The child, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The child's status, if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask for the child's status")
    }

    /// Resident memory (`VmRSS`) in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u32> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
            .with_context(|| format!("no VmRSS in {path}"))
    }

    /// Open descriptors: files, and a socket for each connection.
    pub(crate) fn descriptors(&self) -> Result<u32> {
        let path = format!("/proc/{}/fd", self.child.id());
        let entries = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(u32::try_from(entries.count())?)
    }

    /// Sends SIGTERM and waits for the end, at most `limit`.
    pub(crate) fn terminate(mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a strange process id")?, Signal::TERM)
            .context("cannot send SIGTERM")?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("still running {} s after SIGTERM", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the child is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
