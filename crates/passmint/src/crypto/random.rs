//! Randomness: the only room that draws it, from the operating system through aws-lc.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The operating system gave no randomness. Nothing can go on without.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no randomness")]
pub struct NoRandomness;

/// `N` bytes from the operating system's generator.
#[expect(clippy::disallowed_methods, reason = "this is the room of randomness")]
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A password of 20 characters with 120 bits, for a user who is to be told it once.
pub fn password() -> Result<String, NoRandomness> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<15>()?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_drawn_twice() {
        let drawn: HashSet<[u8; 16]> = (0..1000).map(|_| bytes().unwrap()).collect();
        assert_eq!(drawn.len(), 1000);
        let passwords: HashSet<String> = (0..1000).map(|_| password().unwrap()).collect();
        assert_eq!(passwords.len(), 1000);
        assert!(passwords.iter().all(|password| password.len() == 20));
    }
}
