//! Argon2id as PHC strings: `$argon2id$v=19$m=19456,t=2,p=1$salt$tag`.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::domain::secret::PasswordHash;

/// The price of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Params {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Bounds beyond which a stored hash is refused: it could only be an attack on the server.
const MOST: Argon2Params = Argon2Params { memory_kib: 1024 * 1024, passes: 20, lanes: 16 };

/// Length of new salts and tags in bytes (RFC 9106 section 3.1 recommends 16; OWASP tags of 32).
pub(super) const SALT: usize = 16;
pub(super) const TAG: usize = 32;

/// A stored hash, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Its price.
    pub params: Argon2Params,
    /// Its salt.
    pub salt: Vec<u8>,
    /// What the password must give.
    pub tag: Vec<u8>,
}

impl Parsed {
    /// Reads a PHC string; `None` for anything that this server does not hash.
    pub fn read(hash: &PasswordHash) -> Option<Self> {
        let phc = phc::PasswordHash::from_str(hash.expose()).ok()?;
        if phc.algorithm.as_str() != "argon2id" || phc.version != Some(19) {
            return None;
        }
        let params = Argon2Params {
            memory_kib: phc.params.get_decimal("m")?,
            passes: phc.params.get_decimal("t")?,
            lanes: phc.params.get_decimal("p")?,
        };
        let fits = (1..=MOST.lanes).contains(&params.lanes)
            && (1..=MOST.passes).contains(&params.passes)
            && (8 * params.lanes..=MOST.memory_kib).contains(&params.memory_kib);
        let tag = phc.hash?.as_bytes().to_vec();
        let salt = phc.salt?.as_ref().to_vec();
        (fits && salt.len() >= 8 && tag.len() >= 16).then_some(Self { params, salt, tag })
    }

    /// As a PHC string.
    pub fn write(&self) -> PasswordHash {
        let Argon2Params { memory_kib, passes, lanes } = self.params;
        PasswordHash::new(format!(
            "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${}",
            STANDARD_NO_PAD.encode(&self.salt),
            STANDARD_NO_PAD.encode(&self.tag)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let params = Argon2Params { memory_kib: 19_456, passes: 2, lanes: 1 };
        let parsed = Parsed { params, salt: vec![1; SALT], tag: vec![2; TAG] };
        assert_eq!(Parsed::read(&parsed.write()), Some(parsed));
    }

    #[test]
    fn refuses_what_could_only_be_an_attack_or_a_mistake() {
        for phc in [
            "",
            "argon2id",
            "$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=64,t=2000,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=64,t=2,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=64,t=2,p=4294967295$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=16$m=64,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2i$v=19$m=64,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=64,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(Parsed::read(&PasswordHash::new(phc.to_owned())), None, "{phc}");
        }
    }
}
