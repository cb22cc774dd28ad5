//! The integration tests: one binary, one file per URL, command or promise.
//!
//! Every test starts the real binary on a folder of its own and talks to it over real sockets
//! (`harness`). What a server wrote (log, database, metrics, refusals) and every secret it handled is
//! kept for the last test of a run, `secrets`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod architecture;
mod bad_days;
mod clients;
mod clock_model;
mod commands;
mod crash;
mod doctor;
mod faulty_proxy;
mod foreign_tokens;
mod forward_auth;
mod hang_ups;
mod hangs;
mod harness;
mod http;
mod import;
mod keys;
mod limits;
mod login;
mod me;
mod metrics;
mod password_change;
mod proxies;
mod refresh;
mod revocation;
mod rotation_model;
mod rotation_race;
mod rules;
mod secrets;
mod selftest;
mod selftest_faults;
mod sessions;
mod settings;
mod start_stop;
mod throttle;
mod traces;
mod verify;
