//! What things are: newtypes, states, rules.
//!
//! Pure and synchronous: no I/O, no clock (`now` is a value passed in), no knowledge of any other
//! room. Everyone may know this room.

pub mod audit;
pub mod clock_guard;
pub mod key;
pub mod moment;
pub mod network;
pub mod password;
pub mod revocation;
pub mod secret;
pub mod session;
pub mod throttle;
pub mod time;
pub mod user;
