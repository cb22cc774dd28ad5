//! The callers' door: the public listener. The only room beside `admin` that knows axum and status
//! codes.
//!
//! `router` names every route, `route` knows them by path for metrics and traces, `error` is the one
//! status table, `envelope` does what every answer needs, `extract` and `fields` read requests; the
//! rest are wire types and thin handlers, by noun. Handlers call services and never the store.

mod client_address;
mod envelope;
pub mod error;
mod extract;
mod fields;
mod forward_auth;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod health;
mod key;
pub mod listener;
mod route;
pub mod router;
mod session;
mod token;
mod user;

pub use envelope::{Enveloped, Health, PublicState};
