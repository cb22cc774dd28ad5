//! Stored password hashes: what is read can be computed, and says the same when it is written anew.

use passmint::crypto::hasher::{Argon2Params, Parsed, Scheme};
use passmint::domain::secret::PasswordHash;

/// Ends in a panic when something of the above does not hold of this input.
pub fn check(data: &[u8]) {
    let Ok(data) = std::str::from_utf8(data) else {
        return;
    };
    let hash = PasswordHash::new(data.to_owned());
    assert_eq!(format!("{hash:?}"), "PasswordHash(..)");
    let Some(parsed) = Parsed::read(&hash) else {
        return;
    };
    // Of what comes from Django nothing is written.
    assert_eq!(parsed.write().is_some(), matches!(parsed.scheme, Scheme::Argon2id(_)));
    if let Some(written) = parsed.write() {
        let again = Parsed::read(&written).expect("what is written can be read");
        assert_eq!(again, parsed);
        assert!(again.write() == Some(written), "one hash has one spelling");
    }
    check_price(&parsed);
}

/// A stored hash is no attack on the server, and no promise that cannot be kept.
fn check_price(parsed: &Parsed) {
    let (salt, tag) = (parsed.salt.len(), parsed.tag.len());
    match parsed.scheme {
        Scheme::Argon2id(price) | Scheme::Argon2i(price) => {
            let Argon2Params { memory_kib, passes, lanes } = price;
            let computable = argon2::Params::new(memory_kib, passes, lanes, Some(tag));
            assert!(computable.is_ok(), "{price:?}: {computable:?}");
            assert!(memory_kib <= 1024 * 1024 && passes <= 20 && lanes <= 16);
            assert!((argon2::MIN_SALT_LEN..=64).contains(&salt));
            assert!((16..=64).contains(&tag), "a short tag is met by chance");
        }
        Scheme::Pbkdf2Sha256 { iterations } => {
            assert!((1..=10_000_000).contains(&iterations) && tag == 32);
        }
        Scheme::Pbkdf2Sha1 { iterations } => {
            assert!((1..=10_000_000).contains(&iterations) && tag == 20);
        }
        Scheme::Bcrypt { cost } | Scheme::BcryptSha256 { cost } => {
            assert!((4..=16).contains(&cost) && salt == 16 && tag == 23);
        }
        Scheme::Scrypt { log_n, r, p } => {
            // RFC 7914 section 6, and what one hash may take of the memory.
            let computable = scrypt::Params::new(log_n, r, p);
            assert!(computable.is_ok(), "{:?}: {computable:?}", parsed.scheme);
            assert!((128 * u64::from(r)) << log_n <= 256 * 1024 * 1024 && p <= 16 && tag == 64);
        }
    }
    assert!(salt > 0);
}
