//! Refresh tokens changed byte by byte and cut at every length that means something.
//!
//! Prefix and checksum are no secret, so an attacker mends the checksum; only then is it the MAC that
//! refuses. The layout is that of `crypto/refresh_token.rs`, and a test here holds it to that.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::crypto::refresh_token::PREFIX;

/// The fields inside a token with their lengths in bytes.
const REGIONS: [(&str, usize); 7] = [
    ("key id", 4),
    ("session", 16),
    ("generation", 4),
    ("time of issue", 8),
    ("expiry", 8),
    ("secret", 16),
    ("MAC", 32),
];
/// Hexadecimal digits at the end.
const CHECKSUM: usize = 8;

/// What was done to a token, and the result.
pub(super) type Tampered = (String, String);

/// All changes, by check. `None` when the token has another form.
pub(super) fn all(token: &str) -> Option<Vec<(&'static str, Vec<Tampered>)>> {
    let fields = fields(token)?;
    Some(vec![
        ("a byte changed in every field, checksum mended", every_field(&fields)),
        ("fields that grant more, checksum mended", greedy(&fields)),
        ("a character changed anywhere", every_character(token)),
        ("cut at every field, checksum mended", cut_fields(&fields)),
        ("cut at every length class", cut_text(token)),
        ("white space, case, encoding", respelled(token, &fields)),
    ])
}

fn fields(token: &str) -> Option<Vec<u8>> {
    if !token.is_ascii() {
        return None;
    }
    let body = token.len().checked_sub(CHECKSUM).and_then(|end| token.get(..end))?;
    let bytes = URL_SAFE_NO_PAD.decode(body.strip_prefix(PREFIX)?).ok()?;
    let length: usize = REGIONS.iter().map(|(_, length)| length).sum();
    (bytes.len() == length).then_some(bytes)
}

/// The token of those bytes, with a right checksum.
fn mended(bytes: &[u8]) -> String {
    let body = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let checksum = crc32fast::hash(body.as_bytes());
    format!("{body}{checksum:08x}")
}

/// Each field with where it begins and ends.
fn regions() -> impl Iterator<Item = (&'static str, usize, usize)> {
    REGIONS.iter().scan(0, |at, (name, length)| {
        let start = *at;
        *at += length;
        Some((*name, start, *at))
    })
}

fn every_field(fields: &[u8]) -> Vec<Tampered> {
    let mut tampered = Vec::new();
    for (name, start, end) in regions() {
        for (place, bit) in [(start, 0x80), (start.midpoint(end), 0x10), (end - 1, 0x01)] {
            let mut bytes = fields.to_vec();
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= bit;
            }
            tampered.push((format!("{name}, byte {}", place - start), mended(&bytes)));
        }
    }
    tampered
}

/// The fields with the region of that name replaced.
fn with_field(fields: &[u8], name: &str, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = fields.to_vec();
    for (_, start, end) in regions().filter(|(region, ..)| *region == name) {
        if let Some(region) = bytes.get_mut(start..end) {
            change(region);
        }
    }
    bytes
}

fn greedy(fields: &[u8]) -> Vec<Tampered> {
    let one_more = |region: &mut [u8]| {
        if let Some(last) = region.last_mut() {
            *last = last.wrapping_add(1);
        }
    };
    let far = |region: &mut [u8]| {
        if let Some(byte) = region.get_mut(1) {
            *byte = byte.wrapping_add(1);
        }
    };
    let changes = [
        ("the next generation", with_field(fields, "generation", one_more)),
        ("a later expiry", with_field(fields, "expiry", far)),
        ("another key", with_field(fields, "key id", one_more)),
        ("another session", with_field(fields, "session", one_more)),
        ("a MAC of zeros", with_field(fields, "MAC", |region| region.fill(0))),
        ("a secret of zeros", with_field(fields, "secret", |region| region.fill(0))),
        ("nothing but zeros", vec![0; fields.len()]),
    ];
    changes.into_iter().map(|(what, bytes)| (what.to_owned(), mended(&bytes))).collect()
}

/// Some 24 places, first and last character among them.
fn every_character(token: &str) -> Vec<Tampered> {
    let step = (token.len() / 23).max(1);
    let places = (0..token.len()).step_by(step).chain([token.len() - 1]);
    let change = |place: usize| {
        let character = token.get(place..=place).unwrap_or_default();
        let other = if character == "A" { "B" } else { "A" };
        let mut changed = token.to_owned();
        changed.replace_range(place..=place, other);
        (format!("character {place}"), changed)
    };
    places.map(change).collect()
}

fn cut_fields(fields: &[u8]) -> Vec<Tampered> {
    let ends = regions().map(|(_, _, end)| end).filter(|end| *end < fields.len());
    let last = [fields.len() - 1, fields.len() - 16];
    let cut = |end: usize| {
        let bytes = fields.get(..end).unwrap_or_default();
        (format!("the first {end} bytes"), mended(bytes))
    };
    let mut tampered: Vec<Tampered> = [0].into_iter().chain(ends).chain(last).map(cut).collect();
    tampered.push(("a byte more".to_owned(), mended(&[fields, &[0]].concat())));
    tampered.push(("all of it twice".to_owned(), mended(&[fields, fields].concat())));
    tampered
}

fn cut_text(token: &str) -> Vec<Tampered> {
    let length = token.len();
    let ends = [
        1,
        PREFIX.len() - 1,
        PREFIX.len(),
        PREFIX.len() + 1,
        length / 2,
        length - CHECKSUM - 1,
        length - CHECKSUM,
        length - CHECKSUM + 1,
        length - 1,
    ];
    let cut = |end: usize| {
        (format!("the first {end} characters"), token.get(..end).unwrap_or_default().to_owned())
    };
    let mut tampered: Vec<Tampered> = ends.into_iter().map(cut).collect();
    for start in [1, PREFIX.len()] {
        let rest = token.get(start..).unwrap_or_default();
        tampered.push((format!("without the first {start} characters"), rest.to_owned()));
    }
    tampered
}

fn respelled(token: &str, fields: &[u8]) -> Vec<Tampered> {
    let padded = format!("{PREFIX}{}==", URL_SAFE_NO_PAD.encode(fields));
    let padded = format!("{padded}{:08x}", crc32fast::hash(padded.as_bytes()));
    let standard = format!("{PREFIX}{}", STANDARD_NO_PAD.encode(fields));
    let standard = format!("{standard}{:08x}", crc32fast::hash(standard.as_bytes()));
    let mut tampered = vec![
        ("a space in front".to_owned(), format!(" {token}")),
        ("a space behind".to_owned(), format!("{token} ")),
        ("a line end behind".to_owned(), format!("{token}\n")),
        ("upper case".to_owned(), token.to_uppercase()),
        ("a checksum in upper case".to_owned(), upper_checksum(token)),
        ("padding inside, checksum mended".to_owned(), padded),
        ("the standard alphabet, checksum mended".to_owned(), standard),
        ("two tokens".to_owned(), format!("{token}{token}")),
        ("quotes".to_owned(), format!("\"{token}\"")),
        ("3,000 letters".to_owned(), "A".repeat(3000)),
        ("over 8 KiB".to_owned(), format!("{token}{}", "A".repeat(8 * 1024))),
    ];
    // A checksum without letters, a body without - and _: then nothing was changed.
    tampered.retain(|(_, changed)| changed != token);
    tampered
}

fn upper_checksum(token: &str) -> String {
    let (body, checksum) = token.split_at_checked(token.len() - CHECKSUM).unwrap_or_default();
    format!("{body}{}", checksum.to_uppercase())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;

    use super::*;
    use crate::crypto::refresh_token::{RefreshToken, SessionSecret};
    use crate::domain::session::SessionId;
    use crate::domain::time::Timestamp;

    const KEY: u32 = 0x0102_0304;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[9; 32])
    }

    fn genuine() -> String {
        let token = RefreshToken {
            key: KEY,
            session: SessionId([0xa0; 16]),
            generation: 0x0506_0708,
            issued_at: Timestamp::from_micros(0x1112_1314_1516),
            expires_at: Timestamp::from_micros(0x2122_2324_2526),
            secret: SessionSecret::new([0xb0; 16]),
        };
        token.encode(&key())
    }

    #[test]
    fn the_layout_is_that_of_the_server() {
        let bytes = fields(&genuine()).unwrap();
        assert_eq!(mended(&bytes), genuine());
        let region = |name: &str| {
            let (_, start, end) = regions().find(|(region, ..)| *region == name).unwrap();
            bytes[start..end].to_vec()
        };
        assert_eq!(region("key id"), [1, 2, 3, 4]);
        assert_eq!(region("session"), [0xa0; 16]);
        assert_eq!(region("generation"), [5, 6, 7, 8]);
        assert_eq!(region("time of issue"), [0, 0, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16]);
        assert_eq!(region("expiry"), [0, 0, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26]);
        assert_eq!(region("secret"), [0xb0; 16]);
    }

    #[test]
    fn nothing_tampered_is_genuine_and_mended_checksums_are_right() {
        let key = key();
        let families = all(&genuine()).unwrap();
        for (name, tampered) in &families {
            assert!(!tampered.is_empty(), "{name}");
            for (what, token) in tampered {
                let read = RefreshToken::decode(token, |_| Some(&key));
                assert!(read.is_none(), "{name}: {what}");
                assert!(!token.is_empty(), "{name}: {what}");
            }
            for (what, token) in tampered.iter().filter(|_| name.contains("mended")) {
                let (body, checksum) = token.split_at(token.len() - CHECKSUM);
                let right = format!("{:08x}", crc32fast::hash(body.as_bytes()));
                assert_eq!(checksum, right, "{name}: {what}");
            }
        }
        assert!(all("some.other.token").is_none());
    }
}
