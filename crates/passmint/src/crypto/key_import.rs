//! Reads keys that an operator brings: PEM private or public keys, raw secrets for HS256.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use passmint_verify::Algorithm;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use super::signing_key::{NewSecret, SigningError, from_secret, modulus_bytes, public_jwk};
use crate::domain::secret::SecretBytes;

/// Why a file is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No PEM in it.
    #[error(
        "the file holds no PEM key (-----BEGIN PRIVATE KEY----- or -----BEGIN PUBLIC KEY-----)"
    )]
    NotPem,
    /// A private key under a password.
    #[error(
        "this private key is encrypted: decrypt it first, with `openssl pkey -in FILE -out DECRYPTED`"
    )]
    Encrypted,
    /// Another kind of key where a raw secret was wanted. A public key must never become a secret
    /// (CVE-2015-9235 and its kin).
    #[error(
        "the file holds a key in PEM, DER or JWK, but HS256 takes a raw secret: give the key's own \
         algorithm with --alg (ES256, EdDSA, RS256), or the bytes of the secret alone"
    )]
    NotRaw,
    /// A secret that anybody would try.
    #[error(
        "this secret can be guessed: it is a published example or has too few different bytes. Whoever \
         knows it can make tokens for every user"
    )]
    Guessable,
    /// A PEM section of another kind.
    #[error("the file holds no private or public key but another PEM section")]
    OtherSection,
    /// The key does not fit.
    #[error("this is not a usable {0} key: {1}")]
    NotThatKey(Algorithm, String),
    /// A signing key was wanted.
    #[error("this is a public key: it can only be imported with --verify-only")]
    PublicOnly,
}

/// A key as it came.
pub enum Imported {
    /// Can sign.
    Private(NewSecret),
    /// Can only verify.
    Public {
        /// `kid`.
        kid: String,
        /// As the store keeps it.
        public: Vec<u8>,
    },
}

/// Reads the file's `content` as a key of that algorithm. A raw HS256 secret loses one line end,
/// which editors and shells add.
pub fn read(algorithm: Algorithm, content: &[u8]) -> Result<Imported, ImportError> {
    if algorithm.is_symmetric() {
        let secret = raw_secret(content);
        if is_encoded_key(content) {
            return Err(ImportError::NotRaw);
        }
        let imported = private(algorithm, secret)?;
        return if is_guessable(secret) { Err(ImportError::Guessable) } else { Ok(imported) };
    }
    if is_encrypted(content) {
        return Err(ImportError::Encrypted);
    }
    let (kind, der) =
        <(SectionKind, Vec<u8>)>::from_pem_slice(content).map_err(|_| ImportError::NotPem)?;
    let imported = match kind {
        SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
            private(algorithm, &der)
        }
        SectionKind::PublicKey => public(algorithm, &der),
        _ => Err(ImportError::OtherSection),
    }?;
    let (Imported::Private(NewSecret { public, .. }) | Imported::Public { public, .. }) = &imported;
    if algorithm == Algorithm::Rs256 && modulus_bytes(public) > LONGEST_MODULUS {
        let why = "it has more than 4096 bits, and tokens would be too long to be read".to_owned();
        return Err(ImportError::NotThatKey(algorithm, why));
    }
    Ok(imported)
}

/// The HS256 secret in a file: without one line end, which editors and shells add.
pub fn raw_secret(content: &[u8]) -> &[u8] {
    let secret = content.strip_suffix(b"\n").unwrap_or(content);
    secret.strip_suffix(b"\r").unwrap_or(secret)
}

/// Bytes of the modulus of an RSA key of 4,096 bits.
const LONGEST_MODULUS: usize = 512;

/// Whether a secret is one of those that examples publish, or hardly varies.
fn is_guessable(secret: &[u8]) -> bool {
    const LEAST_DIFFERENT: usize = 8;
    let different: std::collections::HashSet<&u8> = secret.iter().collect();
    let text = String::from_utf8_lossy(secret).to_lowercase();
    different.len() < LEAST_DIFFERENT || text.contains("your-256-bit-secret")
}

/// Whether this is an asymmetric key or a certificate in one of the usual encodings: PEM, DER, a JWK or
/// JWKS, SSH's, or the base64 of DER.
fn is_encoded_key(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let text = text.trim_start_matches('\u{feff}').trim();
    let bare: Vec<u8> =
        content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = STANDARD.decode(&bare).unwrap_or_default();
    is_der(content)
        || is_der(&decoded)
        || text.contains("-----BEGIN ")
        || text.starts_with(['{', '[']) && text.contains("\"kty\"")
        || ["ssh-", "ecdsa-sha2-"].iter().any(|kind| text.starts_with(kind))
}

/// Whether this is a private key that only a password opens: PKCS #8 (RFC 7468 section 11), or OpenSSL's own
/// way (RFC 1421 section 4.6.1.1).
fn is_encrypted(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// Keys in DER are sequences that begin with a sequence or a number.
fn is_der(content: &[u8]) -> bool {
    let sequence = match content {
        [0x30, 0x82, high, low, rest @ ..] => {
            Some((usize::from(u16::from_be_bytes([*high, *low])), rest))
        }
        [0x30, 0x81, length, rest @ ..] | [0x30, length @ 0..=0x7f, rest @ ..] => {
            Some((usize::from(*length), rest))
        }
        _ => None,
    };
    sequence.is_some_and(|(length, rest)| {
        length <= rest.len() && length + 1 >= rest.len() && matches!(rest, [0x30 | 0x02, ..])
    })
}

fn private(algorithm: Algorithm, secret: &[u8]) -> Result<Imported, ImportError> {
    from_secret(algorithm, SecretBytes::new(secret.to_vec()))
        .map(Imported::Private)
        .map_err(|error: SigningError| ImportError::NotThatKey(algorithm, error.to_string()))
}

/// What stands before the key in a `SubjectPublicKeyInfo` of P-256 (RFC 5480): the same 26 bytes for
/// every uncompressed point, the last of them already the point's.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same of Ed25519 (RFC 8410).
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn public(algorithm: Algorithm, spki: &[u8]) -> Result<Imported, ImportError> {
    let wrong = |why: &str| ImportError::NotThatKey(algorithm, why.to_owned());
    let bytes = match algorithm {
        Algorithm::Es256 => spki.strip_prefix(&P256_SPKI),
        Algorithm::EdDsa => spki.strip_prefix(&ED25519_SPKI),
        Algorithm::Rs256 | Algorithm::Hs256 => Some(spki),
    };
    let bytes = bytes.ok_or_else(|| wrong("the public key is of another type"))?;
    super::signing_key::public_key(algorithm, bytes).map_err(|error| wrong(&error.to_string()))?;
    let jwk = public_jwk(algorithm, bytes).map_err(|error| wrong(&error.to_string()))?;
    Ok(Imported::Public { kid: jwk.kid, public: bytes.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::super::signing_key::generate;
    use super::*;

    const ASYMMETRIC: [Algorithm; 3] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];

    fn pem(kind: &str, der: &[u8]) -> Vec<u8> {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der)).into()
    }

    /// A value in DER: its tag, its length, and what it holds.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let length = match content.len() {
            0..=0x7f => vec![length[1]],
            0x80..=0xff => vec![0x81, length[1]],
            _ => vec![0x82, length[0], length[1]],
        };
        [&[tag], &length[..], content].concat()
    }

    /// The `SubjectPublicKeyInfo` of an RSA key of that many bytes.
    fn rsa_spki(bytes: usize) -> Vec<u8> {
        let modulus = [&[0], &vec![0xd5; bytes][..]].concat();
        let numbers = [der(2, &modulus), der(2, &[1, 0, 1])].concat();
        let algorithm = der(0x30, b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00");
        let key = [&[0], &der(0x30, &numbers)[..]].concat();
        der(0x30, &[algorithm, der(3, &key)].concat())
    }

    fn spki(algorithm: Algorithm, public: &[u8]) -> Vec<u8> {
        match algorithm {
            // The prefix has the first byte of the point already.
            Algorithm::Es256 => [&P256_SPKI, public].concat(),
            Algorithm::EdDsa => [&ED25519_SPKI, public].concat(),
            _ => public.to_vec(),
        }
    }

    fn refusal(algorithm: Algorithm, content: &[u8]) -> ImportError {
        read(algorithm, content).err().unwrap()
    }

    #[test]
    fn private_and_public_keys_of_each_algorithm_are_read_and_no_others() {
        for algorithm in ASYMMETRIC {
            let key = generate(algorithm).unwrap();
            let private = pem("PRIVATE KEY", key.secret.expose());
            let Imported::Private(read_again) = read(algorithm, &private).unwrap() else {
                panic!("{algorithm}: a private key was read as a public one");
            };
            assert_eq!((&read_again.kid, &read_again.public), (&key.kid, &key.public));
            if algorithm == Algorithm::Rs256 {
                continue;
            }
            let public = pem("PUBLIC KEY", &spki(algorithm, &key.public));
            let Imported::Public { kid, public } = read(algorithm, &public).unwrap() else {
                panic!("{algorithm}: a public key was read as a private one");
            };
            assert_eq!((kid, public), (key.kid, key.public));
            for other in ASYMMETRIC.into_iter().filter(|other| *other != algorithm) {
                assert!(matches!(refusal(other, &private), ImportError::NotThatKey(..)));
            }
        }
    }

    #[test]
    fn rsa_keys_have_2048_to_4096_bits() {
        for (bytes, part) in [(255, "2048"), (513, "4096"), (1024, "4096")] {
            let error = refusal(Algorithm::Rs256, &pem("PUBLIC KEY", &rsa_spki(bytes)));
            assert!(error.to_string().contains(part), "{bytes}: {error}");
        }
        for bytes in [256, 384, 512] {
            let read = read(Algorithm::Rs256, &pem("PUBLIC KEY", &rsa_spki(bytes)));
            assert!(matches!(read, Ok(Imported::Public { .. })), "{bytes}");
        }
    }

    #[test]
    fn what_is_no_key_in_pem_is_named() {
        let other = pem("CERTIFICATE", b"any");
        assert!(matches!(refusal(Algorithm::Es256, &other), ImportError::OtherSection));
        assert!(matches!(refusal(Algorithm::Es256, b"any"), ImportError::NotPem));
        let pkcs8 = pem("ENCRYPTED PRIVATE KEY", b"any");
        let of_openssl = pem("RSA PRIVATE KEY", b"any");
        let of_openssl = String::from_utf8(of_openssl).unwrap();
        let of_openssl = of_openssl.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n", 1);
        for encrypted in [&pkcs8[..], of_openssl.as_bytes()] {
            assert!(matches!(refusal(Algorithm::Rs256, encrypted), ImportError::Encrypted));
        }
    }

    #[test]
    fn a_secret_loses_one_line_end_and_nothing_else() {
        let secret = "0123456789abcdefghijklmnopqrstuv";
        for (content, expected) in [
            (format!("{secret}\n"), secret.to_owned()),
            (format!("{secret}\r\n"), secret.to_owned()),
            (format!("{secret}\r"), secret.to_owned()),
            (format!("{secret}\n\n"), format!("{secret}\n")),
            (format!(" {secret} "), format!(" {secret} ")),
        ] {
            let read = read(Algorithm::Hs256, content.as_bytes());
            let Ok(Imported::Private(key)) = read else { panic!("{content:?}") };
            assert_eq!(key.secret.expose(), expected.as_bytes());
        }
    }

    #[test]
    fn a_secret_that_anybody_would_try_is_refused() {
        let read = |text: &str| read(Algorithm::Hs256, text.as_bytes());
        assert!(matches!(read(&"1234567".repeat(5)), Err(ImportError::Guessable)));
        assert!(read(&"12345678".repeat(5)).is_ok());
        let published = "this is Your-256-Bit-Secret, is it not";
        assert!(matches!(read(published), Err(ImportError::Guessable)));
        assert!(matches!(
            read("too short, 31 different bytes.."),
            Err(ImportError::NotThatKey(..))
        ));
    }

    /// A public key that signs would let everybody sign.
    #[test]
    fn no_key_in_any_encoding_becomes_a_secret() {
        let key = generate(Algorithm::EdDsa).unwrap();
        let [short, long] = [spki(Algorithm::EdDsa, &key.public), rsa_spki(256)];
        let longer = der(0x30, &[der(0x30, &[5; 100]), der(3, &[6; 60])].concat());
        assert_eq!((short[1], longer[1], long[1]), (42, 0x81, 0x82));
        for spki in [&short, &longer, &long] {
            let with_line_end = [spki, &b"\n"[..]].concat();
            let base64 = STANDARD.encode(spki);
            let in_lines = [&base64[..20], "\r\n", &base64[20..], "\n"].concat();
            let in_pem = pem("PUBLIC KEY", spki);
            let after_a_mark = ["\u{feff}".as_bytes(), &in_pem[..]].concat();
            for content in [spki.clone(), with_line_end, in_lines.into(), in_pem, after_a_mark] {
                let error = refusal(Algorithm::Hs256, &content);
                assert!(matches!(error, ImportError::NotRaw), "{content:?}: {error}");
            }
        }
        for text in [
            r#" {"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            r#"[{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj"}]"#,
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJbwXGZ7 asha@example.com",
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAI asha",
        ] {
            assert!(matches!(refusal(Algorithm::Hs256, text.as_bytes()), ImportError::NotRaw));
        }
        // What only looks like one is a secret.
        let mut random = [0_u8; 44];
        random.iter_mut().zip(0x30..).for_each(|(byte, value)| *byte = value);
        let of_another_length = [&[0x30, 40, 0x30][..], &random[3..]].concat();
        let holds_no_number = [&[0x30, 42, 0x31][..], &random[3..]].concat();
        for secret in [
            &random[..],
            &of_another_length,
            &holds_no_number,
            br#"{"a":"0123456789 abcdefghijklmn"}"#,
        ] {
            assert!(read(Algorithm::Hs256, secret).is_ok(), "{secret:?}");
        }
    }
}
