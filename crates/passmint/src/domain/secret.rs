//! Things that must never be printed: their `Debug` says nothing, they have no `Display`, they
//! cannot be serialised, and they are wiped when dropped. Copies that libraries make on the way (the HTTP
//! library's read buffer) are not.

use std::fmt;

use zeroize::Zeroizing;

/// The most bytes a text field, and so a password, may have (contract section 0).
pub const MAX_TEXT_BYTES: usize = 1024;

/// A password in plain text, exactly as it was sent: never trimmed, never folded.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the text as it is.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for hashing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Key material or another secret of any length.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes as they are.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one that uses them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// A stored password hash: a PHC string. Not a secret to the server, but nobody else's business.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes a PHC string.
    pub fn new(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string, for the store and the hasher.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let shown = format!(
            "{:?} {:?} {:?}",
            Password::new("hunter2hunter2".into()),
            SecretBytes::new(vec![104, 117]),
            PasswordHash::new("$argon2id$hunter2".into())
        );
        assert_eq!(shown, "Password(..) SecretBytes(..) PasswordHash(..)");
    }
}
