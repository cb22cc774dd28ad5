//! The hashing pool: the cost of a login, kept away from everything else.
//!
//! `core` computes Argon2id, `format` reads hashes of all kinds and computes them, `pool` runs that on
//! a fixed number of low-priority threads, `queue` gives fair turns before it, `price` knows what the
//! stored hashes cost. Nothing else in the house hashes passwords.

mod core;
mod format;
mod pool;
mod price;
mod queue;

pub use self::core::Backend;
pub use self::format::{Argon2Params, Parsed, Scheme};
pub use self::pool::{
    HashSink, HashingPool, Overloaded, PoolSettings, PoolState, Turn, Verification,
};
