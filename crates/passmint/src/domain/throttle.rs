//! What is known of somebody who failed too often (contract section 6).

use super::network::Network;
use super::time::Timestamp;

/// The failures of one account from one network, or from everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The keyed digest of the username.
    pub account: u64,
    /// From where; `None`: from everywhere.
    pub network: Option<Network>,
    /// Failures counted; 0: there is nothing to remember any more.
    pub failures: u32,
    /// When the last one was.
    pub at: Timestamp,
    /// When the next try is taken.
    pub until: Timestamp,
}
