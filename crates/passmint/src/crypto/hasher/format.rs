//! Password hashes as text: this server's own, and those that Django keeps, so that its users come over
//! with the passwords they have.
//!
//! | begins with | what it is |
//! | --- | --- |
//! | `$argon2id$` | a PHC string, this server's own format |
//! | `$argon2i$` | a PHC string, as other systems write it |
//! | `$2a$`, `$2b$`, `$2y$` | bcrypt of the password itself, as other systems write it |
//! | `argon2$argon2id$`, `argon2$argon2i$` | Django's `argon2`: a PHC string behind its name |
//! | `pbkdf2_sha256$`, `pbkdf2_sha1$` | iterations, salt as text, base64 |
//! | `bcrypt_sha256$$2b$`, `bcrypt$$2b$` | bcrypt, of the hexadecimal SHA-256 or of the password itself |
//! | `scrypt$` | N, salt as text, r, p, base64 |
//!
//! Parameters are bounded: a hash beyond them could only be an attack on the server.

use std::num::NonZeroU32;
use std::str::FromStr;

use aws_lc_rs::{digest, pbkdf2};
use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD, STANDARD_NO_PAD};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::core::{Core, CoreError};
use crate::domain::secret::{Password, PasswordHash};

/// The price of an Argon2 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Argon2Params {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// How a hash is computed, and so what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Argon2id (RFC 9106).
    Argon2id(Argon2Params),
    /// Argon2i, as old Django used it.
    Argon2i(Argon2Params),
    /// PBKDF2 with HMAC-SHA-256 (RFC 8018).
    Pbkdf2Sha256 {
        /// Iterations.
        iterations: u32,
    },
    /// PBKDF2 with HMAC-SHA-1.
    Pbkdf2Sha1 {
        /// Iterations.
        iterations: u32,
    },
    /// bcrypt of the password, of which it sees 72 bytes.
    Bcrypt {
        /// Logarithm of the rounds.
        cost: u32,
    },
    /// bcrypt of the SHA-256 of the password in hexadecimal digits.
    BcryptSha256 {
        /// Logarithm of the rounds.
        cost: u32,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// Logarithm of N.
        log_n: u8,
        /// r.
        r: u32,
        /// p.
        p: u32,
    },
}

/// Bounds beyond which a stored hash is refused.
const MOST: Argon2Params = Argon2Params { memory_kib: 1024 * 1024, passes: 20, lanes: 16 };
const MOST_ITERATIONS: u32 = 10_000_000;
const MOST_BCRYPT_COST: u32 = 16;
/// 256 MiB.
const MOST_SCRYPT_BYTES: u64 = 256 * 1024 * 1024;

/// Length of new salts and tags in bytes (RFC 9106 section 3.1 recommends 16; OWASP tags of 32).
pub(super) const SALT: usize = 16;
pub(super) const TAG: usize = 32;

/// What bcrypt leaves of a hash, and how it writes it: its last characters have spare bits that not
/// every writer leaves at zero.
const BCRYPT_TAG: usize = 23;
const BCRYPT_BASE64: GeneralPurpose =
    GeneralPurpose::new(&BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));

/// What the first word of a hash is that [`Parsed::read`] reads, if nothing else is wrong with it.
pub const KINDS: [&str; 11] = [
    "argon2",
    "argon2i",
    "argon2id",
    "bcrypt",
    "bcrypt_sha256",
    "pbkdf2_sha1",
    "pbkdf2_sha256",
    "scrypt",
    "2a",
    "2b",
    "2y",
];

/// A stored hash, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// How it is computed.
    pub scheme: Scheme,
    /// Its salt.
    pub salt: Vec<u8>,
    /// What the password must give.
    pub tag: Vec<u8>,
}

impl Parsed {
    /// Reads a hash; `None` for anything that this server does not verify.
    pub fn read(hash: &PasswordHash) -> Option<Self> {
        let text = hash.expose();
        if ["$2a$", "$2b$", "$2y$"].iter().any(|kind| text.starts_with(kind)) {
            return bcrypt(text, |cost| Scheme::Bcrypt { cost });
        }
        if text.starts_with('$') {
            return phc(text);
        }
        let (algorithm, rest) = text.split_once('$')?;
        match algorithm {
            // Django leaves out the `$` that a PHC string begins with.
            "argon2" => phc(&format!("${rest}")),
            "pbkdf2_sha256" => {
                pbkdf2_sha(rest, 32, |iterations| Scheme::Pbkdf2Sha256 { iterations })
            }
            "pbkdf2_sha1" => pbkdf2_sha(rest, 20, |iterations| Scheme::Pbkdf2Sha1 { iterations }),
            "bcrypt" => bcrypt(rest, |cost| Scheme::Bcrypt { cost }),
            "bcrypt_sha256" => bcrypt(rest, |cost| Scheme::BcryptSha256 { cost }),
            "scrypt" => scrypt(rest),
            _ => None,
        }
    }

    /// As the text that the store keeps; `None` for what this server reads but does not write.
    pub fn write(&self) -> Option<PasswordHash> {
        let Scheme::Argon2id(params) = self.scheme else {
            return None;
        };
        Some(PasswordHash::new(format!(
            "{}{}${}",
            prefix(params),
            STANDARD_NO_PAD.encode(&self.salt),
            STANDARD_NO_PAD.encode(&self.tag)
        )))
    }
}

/// What this server's own hashes of that price begin with.
pub(super) fn prefix(params: Argon2Params) -> String {
    let Argon2Params { memory_kib, passes, lanes } = params;
    format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}$")
}

fn phc(text: &str) -> Option<Parsed> {
    let phc = phc::PasswordHash::from_str(text).ok()?;
    if phc.version != Some(19) {
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
    let scheme = match phc.algorithm.as_str() {
        "argon2id" => Scheme::Argon2id(params),
        "argon2i" => Scheme::Argon2i(params),
        _ => return None,
    };
    let tag = phc.hash?.as_bytes().to_vec();
    let salt = phc.salt?.as_ref().to_vec();
    (fits && salt.len() >= 8 && tag.len() >= 16).then_some(Parsed { scheme, salt, tag })
}

/// `iterations$salt$base64`
fn pbkdf2_sha(rest: &str, length: usize, scheme: impl FnOnce(u32) -> Scheme) -> Option<Parsed> {
    let [iterations, salt, tag] = parts(rest)?;
    let iterations = number(iterations).filter(|n| (1..=MOST_ITERATIONS).contains(n))?;
    parsed(scheme(iterations), salt, STANDARD.decode(tag).ok()?, length)
}

/// `N$salt$r$p$base64`
fn scrypt(rest: &str) -> Option<Parsed> {
    let [n, salt, r, p, tag] = parts(rest)?;
    let (n, r, p) = (number(n)?, number(r)?, number(p)?);
    let bytes = u64::from(n).checked_mul(u64::from(r))?.checked_mul(128)?;
    let fits = n.is_power_of_two() && n > 1 && bytes <= MOST_SCRYPT_BYTES;
    let scheme = Scheme::Scrypt { log_n: u8::try_from(n.trailing_zeros()).ok()?, r, p };
    let fits = fits && (1..=32).contains(&r) && (1..=16).contains(&p);
    parsed(scheme, salt, STANDARD.decode(tag).ok()?, 64).filter(|_| fits)
}

/// `$2b$cost$` and 53 characters of salt and tag.
fn bcrypt(rest: &str, scheme: impl FnOnce(u32) -> Scheme) -> Option<Parsed> {
    let ["", "2a" | "2b" | "2x" | "2y", cost, both] = parts(rest)? else {
        return None;
    };
    let cost = number(cost).filter(|cost| (4..=MOST_BCRYPT_COST).contains(cost))?;
    let (salt, tag) = both.split_at_checked(22)?;
    let salt = BCRYPT_BASE64.decode(salt).ok()?;
    let tag = BCRYPT_BASE64.decode(tag).ok()?;
    (salt.len() == 16 && tag.len() == BCRYPT_TAG).then(|| Parsed {
        scheme: scheme(cost),
        salt,
        tag,
    })
}

fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split('$').collect::<Vec<_>>().try_into().ok()
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parsed(scheme: Scheme, salt: &str, tag: Vec<u8>, length: usize) -> Option<Parsed> {
    let fits = (1..=128).contains(&salt.len()) && tag.len() == length;
    fits.then(|| Parsed { scheme, salt: salt.as_bytes().to_vec(), tag })
}

/// At most so much is taken by what is not made to take memory: bcrypt's tables.
pub(super) const LITTLE_KIB: u32 = 4;

impl Scheme {
    /// What this server computes for new passwords.
    pub fn is_own(self, params: Argon2Params) -> bool {
        self == Self::Argon2id(params)
    }

    /// Whether all of a password counts: bcrypt sees its first 72 bytes, with a NUL behind the last.
    pub(super) fn reads_all_of(self, password: &Password) -> bool {
        !matches!(self, Self::Bcrypt { .. }) || password.expose().len() < 72
    }

    /// How long its tags are.
    pub(super) fn tag_len(self) -> usize {
        match self {
            Self::Pbkdf2Sha1 { .. } => 20,
            Self::Bcrypt { .. } | Self::BcryptSha256 { .. } => BCRYPT_TAG,
            Self::Scrypt { .. } => 64,
            _ => TAG,
        }
    }

    /// The memory that computing takes, in KiB.
    pub(super) fn memory_kib(self) -> u32 {
        match self {
            Self::Argon2id(params) | Self::Argon2i(params) => params.memory_kib,
            Self::Scrypt { log_n, r, .. } => (r << log_n).div_ceil(8),
            _ => LITTLE_KIB,
        }
    }

    /// Computes a hash that belongs to nobody, for what that takes.
    pub(super) fn compute_for_nobody(self, core: &mut Core) -> Result<(), CoreError> {
        self.compute(core, b"", &[0; SALT], &mut vec![0; self.tag_len()])
    }

    /// Computes the tag of `password`, as long as `out`.
    pub(super) fn compute(
        self,
        core: &mut Core,
        password: &[u8],
        salt: &[u8],
        out: &mut [u8],
    ) -> Result<(), CoreError> {
        match self {
            Self::Argon2id(params) => core.hash(params, password, salt, out),
            Self::Argon2i(params) => super::core::portable_argon2i(params, password, salt, out),
            Self::Pbkdf2Sha256 { iterations } => {
                derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, password, salt, out)
            }
            Self::Pbkdf2Sha1 { iterations } => {
                derive(pbkdf2::PBKDF2_HMAC_SHA1, iterations, password, salt, out)
            }
            Self::Bcrypt { cost } => compute_bcrypt(cost, password, salt, out),
            Self::BcryptSha256 { cost } => {
                let digest = digest::digest(&digest::SHA256, password);
                let mut hex = Zeroizing::new([0; 64]);
                HEXLOWER.encode_mut(digest.as_ref(), hex.as_mut());
                compute_bcrypt(cost, hex.as_ref(), salt, out)
            }
            Self::Scrypt { log_n, r, p } => {
                let params = scrypt::Params::new(log_n, r, p).map_err(CoreError::new)?;
                scrypt::scrypt(password, salt, &params, out).map_err(CoreError::new)
            }
        }
    }
}

fn derive(
    algorithm: pbkdf2::Algorithm,
    iterations: u32,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
) -> Result<(), CoreError> {
    let iterations = NonZeroU32::new(iterations).ok_or(CoreError::new("no iterations"))?;
    pbkdf2::derive(algorithm, iterations, salt, password, out);
    Ok(())
}

/// bcrypt reads 72 bytes, the closing NUL among them.
fn compute_bcrypt(
    cost: u32,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
) -> Result<(), CoreError> {
    let salt = salt.try_into().map_err(|_| CoreError::new("a salt of another length"))?;
    let mut key = Zeroizing::new(password.to_vec());
    key.push(0);
    key.truncate(72);
    let tag = bcrypt::bcrypt(cost, salt, &key);
    let tag = tag.get(..out.len()).ok_or(CoreError::new("a tag of another length"))?;
    out.copy_from_slice(tag);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::core::Backend;
    use super::*;

    fn matches(encoded: &str, password: &str) -> Option<bool> {
        let parsed = Parsed::read(&PasswordHash::new(encoded.to_owned()))?;
        let mut tag = vec![0; parsed.tag.len()];
        let mut core = Core::new(Backend::Simd);
        parsed.scheme.compute(&mut core, password.as_bytes(), &parsed.salt, &mut tag).unwrap();
        Some(tag == parsed.tag)
    }

    #[test]
    fn what_a_scheme_takes_and_gives() {
        let params = Argon2Params { memory_kib: 19_456, passes: 2, lanes: 1 };
        for (scheme, tag_len, memory_kib) in [
            (Scheme::Argon2id(params), 32, 19_456),
            (Scheme::Argon2i(params), 32, 19_456),
            (Scheme::Pbkdf2Sha256 { iterations: 1 }, 32, LITTLE_KIB),
            (Scheme::Pbkdf2Sha1 { iterations: 1 }, 20, LITTLE_KIB),
            (Scheme::Bcrypt { cost: 4 }, 23, LITTLE_KIB),
            (Scheme::BcryptSha256 { cost: 4 }, 23, LITTLE_KIB),
            // RFC 7914 section 2: 128 bytes times r times N.
            (Scheme::Scrypt { log_n: 14, r: 8, p: 5 }, 64, 16 * 1024),
        ] {
            let taken = (scheme.tag_len(), scheme.memory_kib());
            assert_eq!(taken, (tag_len, memory_kib), "{scheme:?}");
        }
    }

    #[test]
    fn bcrypt_reads_the_first_72_bytes() {
        let password = |length| Password::new("x".repeat(length));
        let (plain, hashed) = (Scheme::Bcrypt { cost: 4 }, Scheme::BcryptSha256 { cost: 4 });
        assert!(plain.reads_all_of(&password(71)) && !plain.reads_all_of(&password(72)));
        assert!(hashed.reads_all_of(&password(500)));
    }

    #[test]
    fn reads_what_it_writes() {
        let params = Argon2Params { memory_kib: 19_456, passes: 2, lanes: 1 };
        let scheme = Scheme::Argon2id(params);
        let parsed = Parsed { scheme, salt: vec![1; SALT], tag: vec![2; TAG] };
        let written = parsed.write().unwrap();
        assert!(written.expose().starts_with(&prefix(params)));
        assert_eq!(Parsed::read(&written), Some(parsed));
    }

    /// Made by Django 5.2's own hashers.
    fn vectors() -> Vec<serde_json::Value> {
        let text = include_str!("../../../tests/vectors/django_hashes.json");
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        file["vectors"].as_array().unwrap().clone()
    }

    /// Which formats are not taken over is in the second list.
    #[test]
    fn the_passwords_of_django_s_users_match() {
        let mut seen = std::collections::BTreeSet::new();
        for vector in &vectors() {
            let text = |name: &str| vector[name].as_str().unwrap();
            let (encoded, password) = (text("encoded"), text("password"));
            let algorithm = encoded.split('$').next().unwrap();
            if ["md5", "sha1", "unsalted_md5", "crypt", "!"].contains(&algorithm)
                || !encoded.contains('$')
            {
                assert_eq!(matches(encoded, password), None, "{encoded}");
                continue;
            }
            seen.insert(algorithm.to_owned());
            assert_eq!(matches(encoded, password), Some(true), "{encoded}");
            assert_eq!(matches(encoded, &format!("{password} ")), Some(bcrypt_is_blind(vector)));
        }
        let all = ["argon2", "bcrypt", "bcrypt_sha256", "pbkdf2_sha1", "pbkdf2_sha256", "scrypt"];
        assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all);
    }

    /// Without the name that Django puts in front: Rails, PHP, Node and Spring write them so.
    #[test]
    fn raw_hashes_are_taken_as_what_they_are() {
        let mut seen = std::collections::BTreeSet::new();
        for vector in &vectors() {
            let text = |name: &str| vector[name].as_str().unwrap();
            let raw = match text("encoded").split_once('$') {
                Some(("bcrypt", raw)) => raw.to_owned(),
                Some(("argon2", raw)) => format!("${raw}"),
                _ => continue,
            };
            let spellings: Vec<String> = if raw.starts_with("$2b$") {
                ["$2a$", "$2b$", "$2y$"].map(|kind| raw.replacen("$2b$", kind, 1)).into()
            } else {
                vec![raw]
            };
            for spelling in spellings {
                assert_eq!(matches(&spelling, text("password")), Some(true), "{spelling}");
                seen.insert(spelling.split('$').nth(1).unwrap().to_owned());
            }
        }
        assert!(["2a", "2b", "2y", "argon2id"].iter().all(|kind| seen.contains(*kind)), "{seen:?}");
    }

    /// bcrypt does not see what comes after 72 bytes.
    fn bcrypt_is_blind(vector: &serde_json::Value) -> bool {
        let long = vector["password"].as_str().unwrap().len() >= 72;
        long && vector["encoded"].as_str().unwrap().starts_with("bcrypt$")
    }

    #[test]
    fn refuses_what_could_only_be_an_attack_or_a_mistake() {
        let salt_and_tag = "$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA";
        let argon2 = |start: &str| format!("{start}{salt_and_tag}");
        for hash in [
            String::new(),
            "argon2id".to_owned(),
            "!".to_owned(),
            argon2("$argon2id$v=19$m=4194304,t=2,p=1"),
            argon2("$argon2id$v=19$m=64,t=2000,p=1"),
            argon2("$argon2id$v=19$m=64,t=2,p=0"),
            argon2("$argon2id$v=19$m=64,t=2,p=4294967295"),
            argon2("$argon2id$v=16$m=64,t=2,p=1"),
            argon2("$argon2d$v=19$m=64,t=2,p=1"),
            argon2("argon2$argon2d$v=19$m=64,t=2,p=1"),
            "$argon2id$v=19$m=64,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            "pbkdf2_sha256$0$salt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso=".to_owned(),
            "pbkdf2_sha256$99999999$salt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso=".to_owned(),
            "pbkdf2_sha256$+1000$salt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso=".to_owned(),
            "pbkdf2_sha256$1000$salt$AAAA".to_owned(),
            "bcrypt$$2b$31$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e".to_owned(),
            "bcrypt$$2b$04$abcdefghijklmnopqrstuü".to_owned(),
            format!("scrypt$1048576$salt$32$1${}", STANDARD.encode([0; 64])),
            format!("scrypt$1000$salt$8$1${}", STANDARD.encode([0; 64])),
            "md5$seasalt$b614725f4cc025a51ab6a354d12890ab".to_owned(),
        ] {
            assert_eq!(Parsed::read(&PasswordHash::new(hash.clone())), None, "{hash}");
        }
    }
}
