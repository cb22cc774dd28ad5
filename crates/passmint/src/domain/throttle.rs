//! What is known of failed logins (contract section 6).

use std::fmt;

use super::network::{Neighbourhood, Network};
use super::time::Timestamp;

/// Where failures of one username are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// From everywhere.
    Everywhere,
    /// From one neighbourhood.
    Neighbourhood(Neighbourhood),
    /// From one network.
    Network(Network),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("everywhere"),
            Self::Neighbourhood(neighbourhood) => neighbourhood.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// The failed logins of one username in one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutEntry {
    /// The keyed digest of the username.
    pub account: u64,
    /// From where.
    pub scope: Scope,
    /// Failures counted; 0: there is nothing to remember any more. From everywhere: neighbourhoods,
    /// each once an hour.
    pub failures: u32,
    /// When the last one was.
    pub at: Timestamp,
    /// When the next attempt is taken.
    pub until: Timestamp,
}

/// Whether a user has logged in of late (in the last 30 days) from where an attempt comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KnownOrigin {
    /// From the very network.
    pub network: bool,
    /// From its neighbourhood.
    pub neighbourhood: bool,
}
