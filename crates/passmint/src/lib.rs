//! Passmint: a token server.
//!
//! The floor plan, in reading order. One list of nouns stands on every floor: token, session, user,
//! key, (client, audit). `http/session.rs -> service/session.rs -> domain/session.rs ->
//! store/sqlite/session.rs`. Who may know whom is written in `tests/it/architecture.rs` and held by
//! it.

pub mod domain;

pub mod clock;
pub mod config;
pub mod telemetry;

pub mod crypto;
pub mod revocation;
pub mod store;
pub mod throttle;

pub mod service;

pub mod watchdog;

pub mod admin;
pub mod http;

pub mod app;
pub mod cli;
