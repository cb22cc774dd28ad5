//! Computation with secrets: hashing passwords on a pool of its own, refresh tokens, signing keys
//! and their ring, sealing, randomness.
//!
//! Knows the domain and nothing else of the house. Only `service` and `app` call it.

pub mod access_token;
pub mod hasher;
pub mod key_import;
pub mod key_ring;
pub mod master_key;
pub mod random;
pub mod refresh_token;
pub mod sealing;
pub mod signing_key;
