//! The signature: zeros, cut off, of another token, of another length (RFC 7518 section 3.4,
//! RFC 8032 section 5.1.7; CVE-2022-21449).

use super::{Attack, Forgery, Material};
use crate::cli::selftest::forge::encode;
use crate::cli::selftest::public_key::ecdsa_der;

/// The order of P-256 (SEC 2 section 2.4.2): as `r` or `s` it is zero again.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

pub(super) fn attacks(material: &Material) -> Vec<Attack> {
    vec![psychic(material), cut_or_longer(material), of_another_token(material), flipped(material)]
}

fn forgeries(material: &Material, signatures: Vec<(String, Vec<u8>)>) -> Vec<Forgery> {
    let made = |(what, signature): (String, Vec<u8>)| {
        Forgery::new(what, material.genuine.signed_as(&encode(signature)))
    };
    signatures.into_iter().map(made).collect()
}

fn psychic(material: &Material) -> Attack {
    let length = material.genuine.signature.len();
    let one = [[0; 31].as_slice(), &[1]].concat();
    let zero = [0; 32];
    let signatures = vec![
        ("all zeros".to_owned(), vec![0; length]),
        ("all ones".to_owned(), vec![0xff; length]),
        ("r = s = 0".to_owned(), [zero, zero].concat()),
        ("r = s = n".to_owned(), [ORDER, ORDER].concat()),
        ("r = 0, s = 1".to_owned(), [zero.to_vec(), one.clone()].concat()),
        ("r = 1, s = 0".to_owned(), [one.clone(), zero.to_vec()].concat()),
        ("r = s = 1".to_owned(), [one.clone(), one].concat()),
        ("r = s = 0 in DER".to_owned(), ecdsa_der(&[0; 64])),
    ];
    Attack::new("psychic signature (r = s = 0) and kin", forgeries(material, signatures))
}

fn cut_or_longer(material: &Material) -> Attack {
    let signature = &material.genuine.signature;
    let length = signature.len();
    let mut signatures = Vec::new();
    for end in [0, 1, 8, 16, length / 2, length.saturating_sub(1)] {
        let cut = signature.get(..end).unwrap_or_default().to_vec();
        signatures.push((format!("the first {end} bytes"), cut));
    }
    let without_first = signature.get(1..).unwrap_or_default().to_vec();
    signatures.push(("without its first byte".to_owned(), without_first));
    signatures.push(("a zero in front".to_owned(), [&[0], &**signature].concat()));
    signatures.push(("a zero behind".to_owned(), [&**signature, &[0]].concat()));
    signatures.push(("twice".to_owned(), [&**signature, signature].concat()));
    if length == 64 {
        signatures.push(("in DER".to_owned(), ecdsa_der(signature)));
    }
    Attack::new("signature cut off or too long", forgeries(material, signatures))
}

fn of_another_token(material: &Material) -> Attack {
    let (one, two) = (&material.genuine, &material.other);
    let forgeries = vec![
        Forgery::new("the signature of another session", one.signed_as(two.part(2))),
        Forgery::new("the claims of another session", two.signed_as(one.part(2))),
    ];
    Attack::new("signature of another token", forgeries)
}

/// One bit in each eighth of the signature.
fn flipped(material: &Material) -> Attack {
    let signature = &material.genuine.signature;
    let mut signatures = Vec::new();
    for eighth in 0..8 {
        let place = eighth * signature.len() / 8;
        let mut changed = signature.clone();
        if let Some(byte) = changed.get_mut(place) {
            *byte ^= 1;
        }
        signatures.push((format!("a bit of byte {place}"), changed));
    }
    Attack::new("signature with a bit flipped", forgeries(material, signatures))
}
