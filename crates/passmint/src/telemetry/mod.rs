//! How the server tells what it does: log (`log`), metrics (`metrics`) and, when asked for, traces
//! (`trace`). Secrets have no way in: nothing that holds one can be printed.
//!
//! Of the metrics, `labels` has the values that labels may take, `histogram` and `process` are kinds
//! that the library lacks, `exposition` is the text.

mod exposition;
mod histogram;
mod labels;
mod log;
mod log_writer;
mod metrics;
mod process;
mod register;
mod trace;

pub use exposition::Exposition;
pub use labels::{
    AddressDoubt, CutReason, LoginOutcome, RefreshOutcome, RouteClass, VerifyOutcome,
};
pub use log_writer::flush as flush_log;

pub use log::{LogLevel, REQUEST, RequestContext};
pub use metrics::{Metrics, Reading};
pub use trace::{Incoming, TraceError, Traces, note_answer, request_span};

use crate::config::{Log, Otlp};

/// What runs while the process does.
#[derive(Default)]
pub struct Telemetry {
    /// Changes the log's level; `None` when a log was started before (in tests).
    pub log: Option<LogLevel>,
    /// To be flushed at the end; `None` without `otlp.endpoint`.
    pub traces: Option<Traces>,
}

/// Starts log and traces, for the whole process. Wants a Tokio runtime around it.
pub fn start(log: &Log, otlp: &Otlp) -> Result<Telemetry, TraceError> {
    let traces = Traces::start(otlp)?;
    Ok(Telemetry { log: log::start(log, traces.as_ref()), traces })
}
