//! How the server tells what it does: log (`log`) and metrics (`metrics`). Secrets have no way in:
//! nothing that holds one can be printed.

mod log;
mod metrics;

pub use log::{LogLevel, REQUEST, RequestContext, start_log};
pub use metrics::{CutReason, LoginOutcome, Metrics, RefreshOutcome, VerifyOutcome};
