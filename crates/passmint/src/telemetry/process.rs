//! What the operating system says of this process, under the names that every Prometheus client
//! library gives it. Read from `/proc` at each scrape; where there is none, there are no metrics.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads `/proc/self` when asked.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name, help, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        let stat = Stat::read();
        let of_stat = |take: fn(&Stat) -> f64| stat.as_ref().map(take);
        let start = of_stat(|stat| stat.start_seconds);
        gauge("process_start_time_seconds", "When the process started, in Unix time", start)?;
        let resident = of_stat(|stat| stat.resident_bytes);
        gauge("process_resident_memory_bytes", "Resident memory", resident)?;
        let reserved = of_stat(|stat| stat.virtual_bytes);
        gauge("process_virtual_memory_bytes", "Virtual memory", reserved)?;
        let threads = of_stat(|stat| stat.threads);
        gauge("process_threads", "Threads", threads)?;
        gauge("process_open_fds", "Open file descriptors", open_files())?;
        gauge("process_max_fds", "The most file descriptors allowed", most_files())?;
        let Some(stat) = stat else { return Ok(()) };
        let cpu = ConstCounter::new(stat.cpu_seconds);
        let help = "Processor time, user and system";
        let metric =
            encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?;
        cpu.encode(metric)
    }
}

/// The parts of `/proc/self/stat` (`proc_pid_stat(5)`) that are told.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
        let units = Units {
            ticks: number(rustix::param::clock_ticks_per_second()),
            page: number(rustix::param::page_size() as u64),
        };
        Self::parse(&stat, boot.trim().parse().ok()?, &units)
    }

    /// `boot`: when the machine started, in Unix time.
    fn parse(stat: &str, boot: f64, units: &Units) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold any character.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The rest begins with the third field.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / units.ticks,
            threads: field(20)?,
            start_seconds: boot + field(22)? / units.ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * units.page,
        })
    }
}

/// What the kernel counts in.
struct Units {
    /// Clock ticks a second.
    ticks: f64,
    /// Bytes of a page.
    page: f64,
}

#[expect(clippy::cast_precision_loss, reason = "ticks, pages and descriptors are far below 2^52")]
fn number(value: u64) -> f64 {
    value as f64
}

fn open_files() -> Option<f64> {
    // One of them is the folder itself, open while it is read.
    Some(number(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64))
}

fn most_files() -> Option<f64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1200 8192 3 18";
        let units = Units { ticks: 100.0, page: 4096.0 };
        let expected = Stat {
            cpu_seconds: 3.0,
            threads: 9.0,
            start_seconds: 1_012.0,
            virtual_bytes: 8_192.0,
            resident_bytes: 12_288.0,
        };
        assert_eq!(Stat::parse(stat, 1_000.0, &units), Some(expected));
        assert_eq!(Stat::parse("7 (short) S 1", 0.0, &units), None);
    }

    #[test]
    fn this_process_is_known() {
        let stat = Stat::read().unwrap();
        assert!(stat.resident_bytes > 100_000.0 && stat.threads >= 1.0, "{stat:?}");
        assert!(stat.start_seconds > 1_600_000_000.0, "{stat:?}");
        let open = open_files().unwrap();
        assert!(open >= 3.0 && open <= most_files().unwrap(), "{open}");
    }
}
