//! Sealing private and refresh keys at rest (AES-256-GCM, RFC 5116) under the master key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::domain::secret::SecretBytes;

/// What the seal check holds when it is opened.
const CHECK: &[u8] = b"passmint seal check";

/// The seal could not be opened: another master key, or tampered data.
#[derive(Debug, thiserror::Error)]
#[error("the seal does not open with this master key")]
pub struct BrokenSeal;

/// Seals and opens under one master key of 32 bytes.
pub struct Sealer(RandomizedNonceKey);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// For a master key; it must have 32 bytes.
    pub fn new(master_key: &SecretBytes) -> Result<Self, BrokenSeal> {
        RandomizedNonceKey::new(&AES_256_GCM, master_key.expose()).map(Self).map_err(|_| BrokenSeal)
    }

    /// Seals `secret`; it opens only under the same `label` (the key's id and use).
    pub fn seal(&self, label: &str, secret: &[u8]) -> Result<Vec<u8>, BrokenSeal> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(label.as_bytes()), &mut sealed)
            .map_err(|_| BrokenSeal)?;
        let mut out = nonce.as_ref().to_vec();
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`Sealer::seal`] made under the same label.
    pub fn open(&self, label: &str, sealed: &[u8]) -> Result<SecretBytes, BrokenSeal> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(BrokenSeal)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| BrokenSeal)?;
        let mut body = zeroize::Zeroizing::new(body.to_vec());
        let secret = self
            .0
            .open_in_place(nonce, Aad::from(label.as_bytes()), &mut body)
            .map_err(|_| BrokenSeal)?;
        Ok(SecretBytes::new(secret.to_vec()))
    }

    /// Something to keep beside the keys that only the same master key opens.
    pub fn make_check(&self) -> Result<Vec<u8>, BrokenSeal> {
        self.seal("check", CHECK)
    }

    /// Whether that was made under `master_key`.
    pub fn is_check_of(master_key: &SecretBytes, check: &[u8]) -> bool {
        Self::new(master_key).is_ok_and(|sealer| sealer.passes(check))
    }

    /// Whether that was made under this master key.
    pub fn passes(&self, check: &[u8]) -> bool {
        self.open("check", check).is_ok_and(|opened| opened.expose() == CHECK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_the_same_key_and_label() {
        let sealer = Sealer::new(&SecretBytes::new(vec![1; 32])).unwrap();
        let other = Sealer::new(&SecretBytes::new(vec![2; 32])).unwrap();
        let sealed = sealer.seal("a", b"secret").unwrap();
        assert_eq!(sealer.open("a", &sealed).unwrap().expose(), b"secret");
        assert!(sealer.open("b", &sealed).is_err());
        assert!(other.open("a", &sealed).is_err());
        assert!(sealer.open("a", &sealed[..5]).is_err());
        assert!(sealer.passes(&sealer.make_check().unwrap()));
        assert!(!other.passes(&sealer.make_check().unwrap()));
        let check = sealer.make_check().unwrap();
        let is_check_of = |key| Sealer::is_check_of(&SecretBytes::new(key), &check);
        assert!(is_check_of(vec![1; 32]) && !is_check_of(vec![2; 32]) && !is_check_of(vec![1; 31]));
        assert!(Sealer::new(&SecretBytes::new(vec![1; 31])).is_err());
        assert_eq!(format!("{sealer:?}"), "Sealer(..)");
    }
}
