//! The hashing pool: the cost of a login, kept away from everything else.
//!
//! `core` computes Argon2id, `format` reads hashes of all kinds and computes them, `pool` takes jobs and
//! answers, `admission` decides who is let in, `worker` computes on a fixed number of low-priority threads,
//! `queue` gives fair turns, `places` limits what one party has under way, `usage` counts what it used of
//! late, `memory` keeps that of hashes from elsewhere, `price` knows what the stored hashes cost, `reference`
//! computes one of them for nobody, for which refusals wait.
//! Nothing else hashes passwords.

mod admission;
mod core;
mod format;
mod memory;
mod places;
mod pool;
mod price;
mod queue;
mod reference;
mod usage;
mod worker;

pub use self::core::Backend;
pub use self::format::{Argon2Params, KINDS, Parsed, Scheme};
pub use self::pool::{
    AnswerTime, Checked, HashSink, HashingPool, NotHashed, Overloaded, PoolSettings, PoolState,
    Turn, Verification,
};
