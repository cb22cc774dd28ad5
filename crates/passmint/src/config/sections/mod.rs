//! The sections, each with its settings, defaults and bounds.

mod database;
mod keys;
mod log;
mod login;
mod otlp;
mod server;
mod sessions;

use std::time::Duration;

pub(super) use database::DEFAULT_DATABASE;
pub use database::{Database, MasterKey};
pub use keys::Keys;
pub use log::{Audit, Log, LogFormat};
pub use login::{HashingSettings, Login, PasswordSettings, Throttle};
pub use otlp::Otlp;
pub use server::{Api, Limits, Server};
pub use sessions::{Revocation, Sessions, Tokens};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
