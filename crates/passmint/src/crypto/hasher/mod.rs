//! The hashing pool: the cost of a login, kept away from everything else.
//!
//! `core` computes Argon2id, `phc` reads and writes its strings, `pool` runs it on a fixed number of
//! low-priority threads behind a queue with a deadline. Nothing else in the house hashes passwords.

mod core;
mod phc;
mod pool;

pub use self::core::Backend;
pub use self::phc::{Argon2Params, Parsed};
pub use self::pool::{HashSink, HashingPool, Overloaded, PoolSettings, PoolState, Verification};
