//! How the server tells what it does: log (`log`) and metrics (`metrics`). Secrets have no way in:
//! nothing that holds one can be printed.
//!
//! Of the metrics, `labels` has the values that labels may take, `histogram` and `process` are kinds
//! that the library lacks, `exposition` is the text.

mod exposition;
mod histogram;
mod labels;
mod log;
mod metrics;
mod process;

pub use exposition::Exposition;
pub use labels::{Cut, Door, LoginOutcome, RefreshOutcome, RouteClass, Rule, VerifyOutcome};
pub use log::{LogLevel, REQUEST_ID, start_log};
pub use metrics::{Metrics, Reading};
