//! Refresh tokens: only what the key authenticated is read, and it has one spelling.
//!
//! The first byte says what follows: `t` the text of a token; `b` its bytes, given prefix and
//! checksum; `f` the fields of a genuine one, then edits of its text (position, byte).

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use passmint::crypto::refresh_token::{PREFIX, RefreshToken, SessionSecret};
use passmint::domain::session::SessionId;
use passmint::domain::time::Timestamp;

/// Numbers 3 and 4; there is no other.
static KEYS: LazyLock<[hmac::Key; 2]> =
    LazyLock::new(|| [3, 4].map(|byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])));

/// Ends in a panic when something of the above does not hold of this input.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((b't', text)) => {
            if let Ok(text) = std::str::from_utf8(text) {
                read(text);
            }
        }
        Some((b'b', bytes)) => {
            let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
            read(&format!("{text}{:08x}", crc32fast::hash(text.as_bytes())));
        }
        Some((b'f', fields)) => genuine(fields),
        _ => {}
    }
}

fn key(number: u32) -> Option<&'static hmac::Key> {
    match number {
        3 => Some(&KEYS[0]),
        4 => Some(&KEYS[1]),
        _ => None,
    }
}

fn read(text: &str) -> Option<RefreshToken> {
    let token = RefreshToken::decode(text, key)?;
    let key = key(token.key).expect("of a known key");
    assert_eq!(token.encode(key), text, "one token has one spelling");
    Some(token)
}

fn genuine(fields: &[u8]) {
    let mut bytes = [0; 53];
    let taken = fields.len().min(bytes.len());
    bytes[..taken].copy_from_slice(&fields[..taken]);
    let (head, secret) = bytes.split_last_chunk::<16>().expect("37 and 16");
    let at = |from: usize| <[u8; 8]>::try_from(&head[from..from + 8]).expect("8 bytes");
    let [.., a, b, c, d] = at(13);
    let token = RefreshToken {
        key: if head[0] % 2 == 0 { 3 } else { 4 },
        session: SessionId(*head[1..].first_chunk().expect("16 bytes")),
        generation: u32::from_be_bytes([a, b, c, d]),
        issued_at: Timestamp::from_micros(i64::from_be_bytes(at(21))),
        expires_at: Timestamp::from_micros(i64::from_be_bytes(at(29))),
        secret: SessionSecret::new(*secret),
    };
    let text = token.encode(key(token.key).expect("known"));
    let again = read(&text).expect("it is genuine");
    assert_eq!(format!("{token:?}"), format!("{again:?}"));
    assert_eq!(token.secret.hash(), again.secret.hash());
    let other = RefreshToken { secret: SessionSecret::new([7; 16]), ..token };
    assert_eq!(format!("{other:?}"), format!("{again:?}"), "the secret shows");

    let mut changed = text.clone().into_bytes();
    for edit in fields[taken..].chunks_exact(2) {
        let position = usize::from(edit[0]) % changed.len();
        changed[position] = edit[1];
    }
    if let Ok(changed) = std::str::from_utf8(&changed).map(str::to_owned)
        && changed != text
    {
        assert!(read(&changed).is_none(), "{changed} was never given out");
    }
}
