//! `keys`: signing and refresh keys.

use std::time::Duration;

use passmint_verify::Algorithm;

use super::{DAY, HOUR};
use crate::config::reader::Reader;

/// Signing and refresh keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// The algorithm of keys that the server makes.
    pub algorithm: Algorithm,
    /// How often signing keys are replaced; zero: never by themselves.
    pub rotate_every: Duration,
}

impl Keys {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let choices = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Hs256]
            .map(|algorithm| (algorithm.name(), algorithm));
        let rotate_every = r.duration("keys.rotate_every", 90 * DAY, (Duration::ZERO, 3650 * DAY));
        if !rotate_every.is_zero() && rotate_every < 2 * HOUR {
            r.problem(
                "keys.rotate_every",
                "must be 0 or at least 2h: a key is published for an hour",
            );
        }
        Self { algorithm: r.choice("keys.algorithm", Algorithm::Es256, &choices), rotate_every }
    }
}
