//! Which access tokens were found genuine, so that their signature is not checked again.
//!
//! A token is kept as 16 bytes: the first 112 bits of its SHA-256 and, in the rest, the hour in which it
//! expires. What it says is not kept, for whoever shows it shows that too. Somebody who forges one would have to
//! meet a digest that is kept: of a million there is one in 2^92 tries.
//!
//! The table grows as tokens come, to two to four places a token, for few that meet in a bucket: up to the
//! setting `tokens.cache_mib`. Then those that were not shown for the longest time make room, first of all
//! those that have expired. Whether a session lives is not known here.

use aws_lc_rs::digest;
use parking_lot::Mutex;

/// Tokens that share a place in a shard and make room for one another: four cache lines.
const WAYS: usize = 16;
/// Parts of the table with a lock each.
const SHARDS: usize = 64;
/// Buckets of a shard when its first token comes.
const FIRST_BUCKETS: usize = 4;

/// Up to [`WAYS`] tokens, the one that was shown last in front. Zero is an empty place.
type Bucket = [Entry; WAYS];

/// The digest in the upper 112 bits, the hour of its `exp` in the lower 16.
type Entry = u128;

/// What tokens were checked by: the version of the key ring, and how often the rules have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) ring: u64,
    pub(super) rules: u64,
}

/// A token as the table knows it.
#[derive(Clone, Copy)]
pub(super) struct TokenDigest(u128);

impl TokenDigest {
    /// Of a token.
    pub(super) fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let [first, ..] = *digest.as_ref().as_chunks::<16>().0 else { return Self(0) };
        Self(u128::from_be_bytes(first) & !EXPIRY)
    }
}

/// The same with the time from which on it counts no more.
#[derive(Clone, Copy)]
pub(super) struct ExpiringToken(Entry);

impl TokenDigest {
    /// With its `exp`, in seconds since 1970.
    pub(super) fn expiring_at(self, exp: i64) -> ExpiringToken {
        // Until the hour is over.
        ExpiringToken(self.0 | u128::from(hour(exp.saturating_add(3599))))
    }
}

/// The table.
pub(super) struct KnownTokens(Box<[Mutex<Shard>]>);

#[derive(Default)]
struct Shard {
    basis: Basis,
    /// None, or a power of two of them.
    buckets: Vec<Bucket>,
    filled: usize,
}

impl Default for KnownTokens {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl KnownTokens {
    /// Whether a token was found genuine on that basis.
    pub(super) fn contains(&self, digest: TokenDigest, basis: Basis) -> bool {
        self.shard(digest).is_some_and(|shard| shard.lock().find(digest, basis))
    }

    /// Remembers a token that was found genuine on that basis; `now` in seconds since 1970. All tokens together
    /// take at most `most` bytes.
    pub(super) fn insert(&self, token: ExpiringToken, basis: Basis, now: i64, most: usize) {
        let most = most / SHARDS / size_of::<Bucket>();
        if let Some(shard) = self.shard(TokenDigest(token.0)) {
            shard.lock().insert(token.0, basis, hour(now), most.max(FIRST_BUCKETS));
        }
    }

    fn shard(&self, digest: TokenDigest) -> Option<&Mutex<Shard>> {
        self.0.get(usize::try_from(digest.0 >> 122).ok()?)
    }
}

/// The part of an entry that is no digest.
const EXPIRY: u128 = u16::MAX as u128;

/// The hour of a time in seconds since 1970, modulo seven years.
fn hour(time: i64) -> u16 {
    let [.., high, low] = time.div_euclid(3600).to_be_bytes();
    u16::from_be_bytes([high, low])
}

impl Shard {
    fn find(&mut self, digest: TokenDigest, basis: Basis) -> bool {
        if self.basis != basis {
            return false;
        }
        let Some(bucket) = bucket_of(&mut self.buckets, digest.0) else { return false };
        let Some(at) = bucket.iter().position(|entry| is_of(*entry, digest.0)) else {
            return false;
        };
        let (upto, _) = bucket.split_at_mut(at + 1);
        upto.rotate_right(1);
        true
    }

    fn insert(&mut self, entry: Entry, basis: Basis, now: u16, most: usize) {
        if self.basis != basis {
            *self = Self { basis, ..Self::default() };
        }
        self.make_room(now, most);
        let Some(bucket) = bucket_of(&mut self.buckets, entry) else { return };
        let free = bucket.iter().position(|old| is_of(*old, entry) || is_over(*old, now));
        let (upto, _) = bucket.split_at_mut(free.unwrap_or(WAYS - 1) + 1);
        upto.rotate_right(1);
        let Some(first) = upto.first_mut() else { return };
        self.filled += usize::from(std::mem::replace(first, entry) == 0);
    }

    /// Doubles the shard once half of it holds tokens that have not expired: fuller, a bucket too many
    /// would have one token more than places, and those push one another out.
    fn make_room(&mut self, now: u16, most: usize) {
        if self.buckets.len() > most {
            // The setting was lowered.
            *self = Self { basis: self.basis, ..Self::default() };
        }
        let places = self.buckets.len() * WAYS;
        let doubled = (2 * self.buckets.len()).max(FIRST_BUCKETS);
        if (places > 0 && self.filled < places / 2) || doubled > most {
            return;
        }
        for entry in self.buckets.iter_mut().flatten().filter(|entry| is_over(**entry, now)) {
            self.filled -= usize::from(*entry != 0);
            *entry = 0;
        }
        if places > 0 && self.filled < places / 4 {
            return;
        }
        let old = std::mem::replace(&mut self.buckets, vec![[0; WAYS]; doubled]);
        for entry in old.into_iter().flat_map(|bucket| bucket.into_iter().rev()) {
            // Half of a bucket's tokens belong into another one now, so that none is lost.
            if entry != 0
                && let Some(bucket) = bucket_of(&mut self.buckets, entry)
            {
                bucket.rotate_right(1);
                let [first, ..] = bucket;
                *first = entry;
            }
        }
    }
}

/// Where a token is, if it is there. The first bits have chosen the shard.
fn bucket_of(buckets: &mut [Bucket], entry: Entry) -> Option<&mut Bucket> {
    let mask = u128::try_from(buckets.len()).ok()?.checked_sub(1)?;
    buckets.get_mut(usize::try_from((entry >> 64) & mask).ok()?)
}

fn is_of(entry: Entry, digest: u128) -> bool {
    entry & !EXPIRY == digest & !EXPIRY
}

/// Whether the place is free: empty, or its token has expired.
fn is_over(entry: Entry, now: u16) -> bool {
    let [.., high, low] = entry.to_be_bytes();
    let left = u16::from_be_bytes([high, low]).wrapping_sub(now).cast_signed();
    entry == 0 || left <= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASIS: Basis = Basis { ring: 1, rules: 0 };
    const HOUR: i64 = 3600;
    const MIB: usize = 1024 * 1024;

    fn token(number: u32) -> String {
        format!("token {number}")
    }

    fn table(tokens: u32, most: usize) -> KnownTokens {
        let known = KnownTokens::default();
        for number in 0..tokens {
            known.insert(TokenDigest::of(&token(number)).expiring_at(HOUR), BASIS, 0, most);
        }
        known
    }

    fn found(known: &KnownTokens, tokens: std::ops::Range<u32>) -> usize {
        tokens.filter(|number| known.contains(TokenDigest::of(&token(*number)), BASIS)).count()
    }

    fn bytes(known: &KnownTokens) -> usize {
        known.0.iter().map(|shard| size_of_val(shard.lock().buckets.as_slice())).sum()
    }

    #[test]
    fn only_what_was_remembered_is_known_and_only_on_its_basis() {
        let known = table(10_000, MIB);
        assert!(found(&known, 0..10_000) >= 9_990);
        assert_eq!(found(&known, 10_000..20_000), 0);
        let digest = TokenDigest::of(&token(1));
        for other in [Basis { ring: 2, ..BASIS }, Basis { rules: 1, ..BASIS }] {
            assert!(!known.contains(digest, other), "{other:?}");
        }
        known.insert(digest.expiring_at(HOUR), Basis { ring: 2, ..BASIS }, 0, MIB);
        assert!(!known.contains(digest, BASIS));
    }

    #[test]
    fn a_token_more_takes_a_few_bytes_and_never_more_than_is_given() {
        let known = table(100_000, 64 * MIB);
        assert!(found(&known, 0..100_000) >= 99_900);
        assert!(bytes(&known) <= 8 * MIB, "{}", bytes(&known));
        let known = table(100_000, MIB);
        assert_eq!(bytes(&known), MIB);
        // 65,536 places.
        let left = found(&known, 0..100_000);
        assert!((55_000..=65_536).contains(&left), "{left}");
        (0..100).for_each(|number| {
            known.insert(TokenDigest::of(&token(number)).expiring_at(HOUR), BASIS, 0, MIB / 4);
        });
        assert!(bytes(&known) < MIB, "a smaller share counts at once");
    }

    #[test]
    fn those_that_expired_and_those_not_shown_for_long_make_room() {
        let known = KnownTokens::default();
        let show = |number: u32, expires_at: i64, now: i64| {
            let token = TokenDigest::of(&token(number)).expiring_at(expires_at);
            known.insert(token, BASIS, now, 2 * MIB);
        };
        (0..12_000).for_each(|number| show(number, HOUR, 0));
        let full = bytes(&known);
        (12_000..24_000).for_each(|number| show(number, 2 * HOUR, HOUR));
        // Shards grow apart, so that some do for other reasons.
        assert!(bytes(&known) <= full * 3 / 2, "the expired ones were kept");
        assert!(found(&known, 12_000..24_000) >= 11_950);
        for number in 24_000..400_000 {
            show(number, 2 * HOUR, HOUR);
            assert_eq!(found(&known, 18_000..18_001), 1, "shown all the time");
        }
        assert!(found(&known, 12_000..24_000) < 1_200);
    }
}
