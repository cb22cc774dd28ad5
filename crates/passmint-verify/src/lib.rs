//! Checks Passmint access tokens (JWS compact form, RFC 7515; JWT, RFC 7519).
//!
//! This crate owns the decision "is this string one of our access tokens, and what does it say".
//! It is pure: no clock, no network, no storage; `now` and the keys are values passed in. The
//! Passmint server uses it for every call, and so can any Rust service that holds the server's
//! JWKS. What it does not own: whether the session behind the token still lives. That is the
//! revocation view's answer and comes after [`verify`].
//!
//! Rules that keep it safe (RFC 8725): the key chooses the algorithm and the token's `alg` is only
//! compared with it; `kid` is an exact look-up; every header member but `typ`, `alg` and `kid` is
//! refused; nothing is decoded leniently.
//!
//! ```
//! use passmint_verify::{Claims, JwkSet, KeySet, Rejection, Rules, verify};
//!
//! fn caller(token: &str, jwks_json: &str, now: i64) -> Result<Claims, Rejection> {
//!     let jwks: JwkSet = serde_json::from_str(jwks_json).map_err(|_| Rejection::Invalid("no JWKS"))?;
//!     let keys = KeySet::from_jwks(&jwks).map_err(|_| Rejection::Invalid("unusable key"))?;
//!     let rules = Rules {
//!         issuer: "https://login.example.org".to_owned(),
//!         audience: None,
//!         max_lifetime: 24 * 60 * 60,
//!     };
//!     verify(token, &keys, &rules, now)
//! }
//!
//! let jwks = r#"{"keys":[]}"#;
//! assert_eq!(caller("a.b.c", jwks, 0).unwrap_err(), Rejection::Invalid("not a compact JWS"));
//! ```
#![warn(missing_docs)]

mod claims;
mod compact;
mod jwk;
mod key;
mod verify;

#[cfg(test)]
mod tests;

pub use claims::{Claims, KnownClaims, Role, payload_of};
pub use jwk::{Jwk, JwkSet, thumbprint};
pub use key::{Algorithm, KeyError, KeySet, VerifyingKey};
pub use verify::{MAX_TOKEN_BYTES, Rejection, Rules, verify};
