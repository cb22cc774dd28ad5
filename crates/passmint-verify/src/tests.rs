//! What [`verify`] accepts and refuses, with real keys.

use aws_lc_rs::encoding::{AsBigEndian as _, EcPublicKeyUncompressedBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::{
    Algorithm, Claims, Jwk, JwkSet, KeySet, KnownClaims, MAX_TOKEN_BYTES, Rejection, Rules,
    VerifyingKey, payload_of, verify,
};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const FOREIGN: &[u8] = b"another service's secret, 32 long";
const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 60 * 60;

fn rules() -> Rules {
    Rules { issuer: "https://login.example.org".to_owned(), audience: None, max_lifetime: DAY }
}

/// A key of our own under `own`, one of another service under `other`, and its secret for tokens that name
/// no key.
fn keys() -> KeySet {
    let key = |secret| VerifyingKey::hs256(secret).unwrap();
    let mut keys = KeySet::default();
    keys.insert("own".to_owned(), key(SECRET));
    keys.insert_foreign("other".to_owned(), key(FOREIGN));
    keys.accept_without_kid(key(FOREIGN));
    keys
}

/// The claims of a token of our own.
fn own() -> Value {
    json!({
        "iss": "https://login.example.org", "sub": "7", "sid": "s", "gen": 3, "uep": 2,
        "iat": NOW, "exp": NOW + DAY, "orig_iat": NOW - 5, "token_type": "access",
        "username": "asha", "email": "a@example.org", "roles": ["clerk", "auditor"],
    })
}

/// The same with those members set; null takes one out.
fn with(mut claims: Value, others: Value) -> Value {
    let (Value::Object(claims_of), Value::Object(others)) = (&mut claims, others) else { panic!() };
    for (name, value) in others {
        if value.is_null() {
            claims_of.remove(&name);
        } else {
            claims_of.insert(name, value);
        }
    }
    claims
}

fn compact(header: &str, payload: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
    let signature = encode(&sign(input.as_bytes()));
    format!("{input}.{signature}")
}

fn hs256(secret: &'static [u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    move |input| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input).as_ref().to_vec()
}

/// A token of our own key with those claims, as text.
fn signed(claims: &str) -> String {
    compact(r#"{"typ":"JWT","alg":"HS256","kid":"own"}"#, claims, hs256(SECRET))
}

fn checked(claims: &Value) -> Result<Claims, Rejection> {
    verify(&signed(&claims.to_string()), &keys(), &rules(), NOW)
}

/// A token of the other service, with or without the name of its key.
fn foreign(claims: &Value, kid: bool) -> Result<Claims, Rejection> {
    let header = if kid {
        r#"{"typ":"JWT","alg":"HS256","kid":"other"}"#
    } else {
        r#"{"typ":"JWT","alg":"HS256"}"#
    };
    verify(&compact(header, &claims.to_string(), hs256(FOREIGN)), &keys(), &rules(), NOW)
}

#[track_caller]
fn is_refused(outcome: Result<Claims, Rejection>, why: &'static str) {
    assert_eq!(outcome.map(|claims| claims.json), Err(Rejection::Invalid(why)));
}

#[test]
fn a_token_of_our_own_says_what_was_signed() {
    let claims = checked(&own()).unwrap();
    assert_eq!(claims.json, own().to_string());
    assert_eq!((claims.subject.as_str(), claims.session.as_deref()), ("7", Some("s")));
    assert_eq!((claims.generation, claims.user_epoch, claims.foreign), (3, 2, false));
    assert_eq!((claims.issued_at, claims.expires_at), (NOW, NOW + DAY));
    assert_eq!(claims.session_began_at, NOW - 5);
    assert_eq!((claims.username.as_str(), claims.email.as_str()), ("asha", "a@example.org"));
    assert_eq!(claims.roles, ["clerk", "auditor"]);

    let bare = json!({ "gen": null, "uep": null, "orig_iat": null, "username": null,
                       "email": null, "roles": null });
    let claims = checked(&with(own(), bare)).unwrap();
    assert_eq!((claims.generation, claims.user_epoch, claims.session_began_at), (0, 0, NOW));
    assert!(claims.username.is_empty() && claims.email.is_empty() && claims.roles.is_empty());
}

#[test]
fn a_known_token_is_read_again_as_it_was() {
    let token = signed(&own().to_string());
    let payload = payload_of(&token).unwrap();
    assert_eq!(payload, own().to_string().as_bytes());
    let known = KnownClaims::read(&payload).unwrap();
    assert_eq!((&*known.subject, &*known.session), ("7", "s"));
    assert_eq!((known.generation, known.user_epoch, known.expires_at), (3, 2, NOW + DAY));
    assert_eq!((&*known.username, &*known.email), ("asha", "a@example.org"));
    assert_eq!(known.roles.iter().map(|role| &*role.0).collect::<Vec<_>>(), ["clerk", "auditor"]);
    assert!(payload_of("no token").is_none() && KnownClaims::read(b"{}").is_none());
}

#[test]
fn every_algorithm_verifies_what_its_key_signed_and_nothing_else() {
    let random = SystemRandom::new();
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let point: EcPublicKeyUncompressedBin<'_> = p256.public_key().as_be_bytes().unwrap();
    let rsa_parts = PublicKeyComponents::<Vec<u8>>::from(rsa.public_key());
    let set = JwkSet {
        keys: vec![
            Jwk::es256(&point.as_ref()[1..33], &point.as_ref()[33..]),
            Jwk::ed25519(ed25519.public_key().as_ref()),
            Jwk::rs256(&rsa_parts.n, &rsa_parts.e),
        ],
    };
    let keys = KeySet::from_jwks(&set).unwrap();
    let sign = |alg: &str, input: &[u8]| match alg {
        "ES256" => p256.sign(&random, input).unwrap().as_ref().to_vec(),
        "EdDSA" => ed25519.sign(input).as_ref().to_vec(),
        _ => {
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(&RSA_PKCS1_SHA256, &random, input, &mut signature).unwrap();
            signature
        }
    };
    for jwk in &set.keys {
        let alg = jwk.alg.as_deref().unwrap();
        let token = |named: &str, by: &str| {
            let header = format!(r#"{{"typ":"JWT","alg":"{named}","kid":"{}"}}"#, jwk.kid);
            compact(&header, &own().to_string(), |input| sign(by, input))
        };
        assert!(verify(&token(alg, alg), &keys, &rules(), NOW).is_ok(), "{alg}");
        for other in ["ES256", "EdDSA", "RS256"].into_iter().filter(|other| *other != alg) {
            for token in [token(alg, other), token(other, alg), token(other, other)] {
                is_refused(verify(&token, &keys, &rules(), NOW), "signature does not match");
            }
        }
    }
    let mut thumbprints: Vec<_> = set.keys.iter().map(crate::thumbprint).collect();
    assert_eq!(thumbprints, set.keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>());
    thumbprints.dedup();
    assert_eq!(thumbprints.len(), 3);
}

#[test]
fn keys_of_the_wrong_size_are_refused() {
    assert!(VerifyingKey::es256(&[4; 64]).is_err() && VerifyingKey::es256(&[4; 65]).is_err());
    assert!(VerifyingKey::ed25519(&[1; 31]).is_err());
    assert!(VerifyingKey::hs256(&[1; 31]).is_err() && VerifyingKey::hs256(&[1; 32]).is_ok());
    let jwk = |text: &str| VerifyingKey::try_from(&serde_json::from_str::<Jwk>(text).unwrap());
    assert!(jwk(r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#).is_err());
    assert!(jwk(r#"{"kty":"oct"}"#).is_err());
    for alg in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        assert!(!alg.is_symmetric(), "{alg}");
    }
    assert!(Algorithm::Hs256.is_symmetric());
}

#[test]
fn thumbprints_are_of_the_required_members() {
    // RFC 8037 appendix A.3.
    let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    assert_eq!(Jwk::ed25519(&x).kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    // RFC 7517 appendix A.1, its thumbprint by another implementation.
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let jwk = Jwk::es256(
        &part("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"),
        &part("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"),
    );
    assert_eq!(jwk.kid, "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
}

#[test]
fn the_header_names_type_algorithm_and_key_and_nothing_else() {
    let payload = own().to_string();
    let refused = |header: &str, why| {
        let token = compact(header, &payload, hs256(SECRET));
        is_refused(verify(&token, &keys(), &rules(), NOW), why);
    };
    let accepted = compact(r#"{"alg":"HS256","typ":"jwt","kid":"own"}"#, &payload, hs256(SECRET));
    assert!(verify(&accepted, &keys(), &rules(), NOW).is_ok());
    refused(r#"{"alg":"HS256","kid":"own"}"#, "no typ");
    refused(r#"{"alg":"HS256","typ":"at+jwt","kid":"own"}"#, "another typ");
    refused(r#"{"alg":"HS256","typ":"JWT","kid":"nobody"}"#, "unknown kid");
    refused(r#"{"alg":"none","typ":"JWT","kid":"own"}"#, "signature does not match");
    refused(r#"{"alg":"ES256","typ":"JWT"}"#, "no kid");
    refused(r#"{"alg":"HS256","typ":"JWT"}"#, "signature does not match");
    for header in [
        r#"{"typ":"JWT","kid":"own"}"#,
        r#"{"alg":"HS256","typ":"JWT","kid":"own","crit":"exp"}"#,
        r#"{"alg":"HS256","typ":"JWT","kid":7}"#,
        r#"["HS256"]"#,
    ] {
        refused(header, "not a compact JWS");
    }
    // A header of 1,024 bytes, and one of one more.
    let long = |kid: usize| format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(kid));
    let room = 1024 - long(0).len();
    refused(&long(room), "unknown kid");
    refused(&long(room + 1), "not a compact JWS");
}

#[test]
fn only_three_parts_of_strict_base64url_are_a_token() {
    let token = signed(&own().to_string());
    for broken in [
        format!("{token}."),
        format!("{token}.x"),
        format!("{token}="),
        token.replacen('.', "", 1),
        token.replacen('.', "+.", 1),
        String::new(),
    ] {
        is_refused(verify(&broken, &keys(), &rules(), NOW), "not a compact JWS");
    }
    let (input, _) = token.rsplit_once('.').unwrap();
    is_refused(verify(&format!("{input}."), &keys(), &rules(), NOW), "signature does not match");
    for payload in ["[]", "7", r#"{"a":1,"a":1}"#, r#"{"a":1} x"#] {
        is_refused(verify(&signed(payload), &keys(), &rules(), NOW), "payload is not an object");
    }
    assert!(checked(&with(own(), json!({ "more": { "deep": [null, 1] } }))).is_ok());
}

#[test]
fn a_token_of_8_kib_is_read_and_a_longer_one_is_not() {
    let token = |padding: usize| {
        let claims = with(own(), json!({ "padding": "p".repeat(padding) }));
        signed(&claims.to_string())
    };
    let mut padding = 5_000;
    while token(padding + 1).len() <= MAX_TOKEN_BYTES {
        padding += 1;
    }
    assert_eq!(token(padding).len(), 8 * 1024);
    assert!(verify(&token(padding), &keys(), &rules(), NOW).is_ok());
    is_refused(verify(&token(padding + 1), &keys(), &rules(), NOW), "longer than 8 KiB");
}

#[test]
fn what_must_be_there_is_and_has_its_type() {
    for (others, why) in [
        (json!({ "exp": null }), "no exp"),
        (json!({ "sub": null }), "no subject"),
        (json!({ "sub": null, "user_id": 7 }), "a required claim is missing"),
        (json!({ "sid": null }), "a required claim is missing"),
        (json!({ "iat": null }), "a required claim is missing"),
        (json!({ "user_id": 1.5 }), "user_id is neither number nor text"),
        (json!({ "user_id": [7] }), "user_id is neither number nor text"),
        (json!({ "sub": 7 }), "a text claim is not a text"),
        (json!({ "sid": true }), "a text claim is not a text"),
        (json!({ "username": 7 }), "a text claim is not a text"),
        (json!({ "gen": -1 }), "a counter claim is not a whole number"),
        (json!({ "gen": 1_u64 << 32 }), "gen"),
        (json!({ "uep": "1" }), "a counter claim is not a whole number"),
        (json!({ "roles": "clerk" }), "roles is not a list of texts"),
        (json!({ "roles": [7] }), "roles is not a list of texts"),
        (json!({ "exp": "soon" }), "a date claim is not a number of seconds"),
        (json!({ "exp": true }), "a date claim is not a number of seconds"),
        (json!({ "iat": -1 }), "a date claim is not a number of seconds"),
        (json!({ "nbf": 9.0e15 }), "a date claim is not a number of seconds"),
        (json!({ "exp": (1_i64 << 53) + 1 }), "a date claim is not a number of seconds"),
        (json!({ "orig_iat": 1e300 }), "a date claim is not a number of seconds"),
        (json!({ "iss": null }), "another iss"),
        (json!({ "iss": "https://evil.example" }), "another iss"),
        (json!({ "iss": 7 }), "a text claim is not a text"),
        (json!({ "token_type": null }), "not an access token"),
        (json!({ "token_type": "refresh" }), "not an access token"),
        (json!({ "aud": "somebody" }), "another aud"),
        // The greatest date that is one: it is read, and then it is too late.
        (json!({ "exp": 1_i64 << 53 }), "lives longer than configured"),
    ] {
        is_refused(checked(&with(own(), others)), why);
    }
    let unread = json!({ "user_id": "7", "nbf": 0.9, "iat": 1_800_000_000.75, "uep": u64::MAX });
    let claims = checked(&with(own(), unread)).unwrap();
    assert_eq!((claims.issued_at, claims.user_epoch), (NOW, u64::MAX), "fractions are dropped");
    assert!(checked(&with(own(), json!({ "nbf": 1.7e9 }))).is_ok());
}

#[test]
fn times_are_kept_to_the_second() {
    let at = |others: Value| checked(&with(own(), others)).map(|claims| claims.expires_at);
    let span = |iat, exp| at(json!({ "iat": iat, "exp": exp }));
    assert_eq!(span(NOW - DAY + 1, NOW + 1), Ok(NOW + 1));
    assert_eq!(span(NOW - DAY, NOW), Err(Rejection::Expired));
    assert_eq!(span(NOW, NOW + DAY + 1), Err(Rejection::Invalid("lives longer than configured")));
    assert!(span(NOW + 60, NOW + 61).is_ok(), "clocks of other nodes");
    assert_eq!(span(NOW + 61, NOW + 62), Err(Rejection::Invalid("iat lies in the future")));
    assert!(at(json!({ "nbf": NOW })).is_ok());
    assert_eq!(at(json!({ "nbf": NOW + 1 })), Err(Rejection::Invalid("nbf lies in the future")));
    // Expired is said of genuine tokens only.
    is_refused(checked(&with(own(), json!({ "iat": 1, "exp": 2, "iss": "x" }))), "another iss");
}

#[test]
fn an_audience_that_is_asked_for_is_there() {
    let asked = Rules { audience: Some("api".to_owned()), ..rules() };
    let with_audience = |aud: Value| {
        verify(&signed(&with(own(), json!({ "aud": aud })).to_string()), &keys(), &asked, NOW)
    };
    for good in [json!("api"), json!(["other", "api"])] {
        assert!(with_audience(good).is_ok());
    }
    for bad in
        [Value::Null, json!("other"), json!([]), json!(["other"]), json!(["api", 7]), json!(7)]
    {
        is_refused(with_audience(bad), "another aud");
    }
    // Another service need not know of it; if it says one, that is ours.
    let theirs = |aud: Value| {
        let claims = with(json!({ "user_id": 7, "exp": NOW + 5 }), json!({ "aud": aud }));
        let header = r#"{"typ":"JWT","alg":"HS256"}"#;
        verify(&compact(header, &claims.to_string(), hs256(FOREIGN)), &keys(), &asked, NOW)
    };
    assert!(theirs(Value::Null).is_ok() && theirs(json!("api")).is_ok());
    is_refused(theirs(json!("other")), "another aud");
}

#[test]
fn of_another_services_token_only_whose_it_is_and_its_times_count() {
    for kid in [false, true] {
        let claims = foreign(&own(), kid).unwrap();
        assert_eq!((claims.subject.as_str(), claims.foreign), ("7", true));
        assert_eq!((claims.session, claims.generation, claims.user_epoch), (None, 0, 0));
        assert!(claims.username.is_empty() && claims.email.is_empty() && claims.roles.is_empty());
        assert_eq!((claims.issued_at, claims.expires_at), (NOW - 5, NOW + DAY), "the earlier one");
        assert_eq!(claims.session_began_at, NOW - 5);

        let old = foreign(&json!({ "user_id": 41, "exp": NOW + 5 }), kid).unwrap();
        assert_eq!((old.subject.as_str(), old.issued_at), ("41", NOW + 5 - DAY), "the earliest");
        for id in [json!(-7), json!(u64::MAX), json!("k-1")] {
            let named = foreign(&json!({ "user_id": id, "exp": NOW + 5 }), kid).unwrap();
            assert_eq!(named.subject, id.to_string().trim_matches('"'));
        }
        let of = |others: Value| {
            foreign(&with(json!({ "sub": "7", "iat": NOW, "exp": NOW + 5 }), others), kid)
        };
        assert_eq!(of(json!({})).unwrap().session_began_at, NOW);
        is_refused(of(json!({ "iat": NOW + 1 })), "iat lies in the future");
        is_refused(of(json!({ "iat": null, "orig_iat": NOW + 1 })), "iat lies in the future");
        is_refused(of(json!({ "iss": "another" })), "another iss");
        is_refused(of(json!({ "token_type": "refresh" })), "not an access token");
        assert!(of(json!({ "token_type": "access" })).is_ok());
        is_refused(of(json!({ "sub": null })), "no subject");
        assert_eq!(of(json!({ "exp": NOW })).map(|c| c.json), Err(Rejection::Expired));
    }
}

#[test]
fn a_secret_for_tokens_without_kid_is_not_found_by_one_and_public_keys_are_not_tried() {
    let mut keys = KeySet::default();
    let pair = Ed25519KeyPair::generate().unwrap();
    keys.accept_without_kid(VerifyingKey::ed25519(pair.public_key().as_ref()).unwrap());
    let payload = json!({ "user_id": 7, "exp": NOW + 5 }).to_string();
    let sign = |input: &[u8]| -> Vec<u8> {
        let signature: signature::Signature = pair.sign(input);
        signature.as_ref().to_vec()
    };
    let token = compact(r#"{"typ":"JWT","alg":"HS256"}"#, &payload, sign);
    is_refused(verify(&token, &keys, &rules(), NOW), "signature does not match");
    keys.accept_without_kid(VerifyingKey::hs256(FOREIGN).unwrap());
    let header = r#"{"typ":"JWT","alg":"HS256","kid":""}"#;
    let token = compact(header, &payload, hs256(FOREIGN));
    is_refused(verify(&token, &keys, &rules(), NOW), "unknown kid");
    let header = r#"{"alg":"HS256"}"#;
    assert!(verify(&compact(header, &payload, hs256(FOREIGN)), &keys, &rules(), NOW).is_ok());
}
