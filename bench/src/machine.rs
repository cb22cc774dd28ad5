//! The machine that a run is made on: what it is, and how much of it others use meanwhile. Figures of
//! time and rate mean little on a busy one.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

/// Others may use so many percent of the cores before it is said.
const BUSY: f64 = 10.0;
/// Ticks a second of the times in `/proc` (`USER_HZ`, which is 100 wherever Linux runs today).
const TICKS_A_SECOND: f64 = 100.0;

/// Looks at who uses the cores, from its start on.
pub(crate) struct Machine {
    cores: f64,
    started: Instant,
    all: u64,
    own: u64,
}

impl Machine {
    /// Begins to look; says on standard error which machine it is.
    pub(crate) fn start() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models: Vec<_> = cpus
            .lines()
            .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map(|(_, model)| model)
            .collect();
        let model = models.first().copied().unwrap_or("unknown processor");
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        eprintln!("{cores} x {model}");
        let cores = f64::from(u32::try_from(cores)?);
        Ok(Self { cores, started: Instant::now(), all: all_ticks()?, own: own_ticks()? })
    }

    /// A line for below the table: the percentage of the cores that other programs, and other guests
    /// of the same hardware, used since the start.
    pub(crate) fn note(&self) -> Result<String> {
        let spent = |now: u64, then: u64| {
            f64::from(u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX))
        };
        let others = spent(all_ticks()?, self.all) - spent(own_ticks()?, self.own);
        let ticks = self.started.elapsed().as_secs_f64() * TICKS_A_SECOND * self.cores;
        Ok(note(100.0 * others.max(0.0) / ticks.max(1.0)))
    }
}

fn note(others: f64) -> String {
    let used = format!("Others used {others:.0} % of the machine meanwhile");
    if others > BUSY {
        return format!("**{used}: it was busy, and figures of time and rate mean little.**");
    }
    format!("{used}.")
}

/// Ticks in which any program ran, or another guest did in our place. Interrupts are left out: those
/// of the network are for the run itself.
fn all_ticks() -> Result<u64> {
    const USER: usize = 0;
    const NICE: usize = 1;
    const SYSTEM: usize = 2;
    const STEAL: usize = 7;
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let ticks = numbers(line.context("no cpu line in /proc/stat")?);
    Ok([USER, NICE, SYSTEM, STEAL].iter().filter_map(|at| ticks.get(*at)).sum())
}

/// Ticks of this program and of the servers that it has started and waited for.
fn own_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // Behind the name, which may have spaces: the state, and from the twelfth on utime, stime, cutime
    // and cstime (man 5 proc).
    let (_, rest) = stat.rsplit_once(')').context("a strange /proc/self/stat")?;
    let after_state = rest.trim_start().split_once(' ').map_or("", |(_, rest)| rest);
    Ok(numbers(after_state).iter().skip(10).take(4).sum())
}

/// What is no number (a process group of -1) counts as 0, so that positions stay.
fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_busy_machine_is_named_as_such() {
        assert_eq!(note(3.2), "Others used 3 % of the machine meanwhile.");
        assert!(note(40.0).contains("40 % of the machine meanwhile: it was busy"));
    }

    #[test]
    fn own_work_and_that_of_children_is_no_other_s() {
        let before = own_ticks().unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(200) {
            black_box(numbers("1 2 3"));
        }
        let own = own_ticks().unwrap();
        assert!(own > before, "{before} {own}");
        let mut child = Command::new("sh");
        child.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]);
        assert!(child.stdout(Stdio::null()).status().unwrap().success());
        assert!(own_ticks().unwrap() > own);
        assert!(all_ticks().unwrap() >= own_ticks().unwrap());
    }
}
