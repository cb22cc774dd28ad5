//! Contract sections 4 and 5: `POST /api/v1/token-verify/`, and everything that is not a token.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

use crate::harness::{Server, part, post};

const VERIFY: &str = "/api/v1/token-verify/";

#[test]
fn answers_the_token_and_its_claims() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let claims = String::from_utf8(part(&pair.token, 1)).unwrap();
    let body = format!(r#"{{"token":"{}","claims":{claims}}}"#, pair.token);
    server.send(post(VERIFY).form(&format!("token={}", pair.token))).is_json(200, &body);
}

#[test]
fn missing_and_malformed_fields() {
    let server = Server::start();
    server.send(post(VERIFY)).is_json(400, r#"{"token":["missing field"]}"#);
    let invalid = r#"{"token":["not a valid string"]}"#;
    server.send(post(VERIFY).json(r#"{"token":["x"]}"#)).is_json(400, invalid);
    for text in ["x", "1", " ", "a.b.c"] {
        server
            .send(post(VERIFY).form(&format!("token={text}")))
            .is_unauthorized("Error decoding signature.");
    }
}

#[test]
fn revoked_tokens_are_told_apart() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    server.must(&["session", "end", &pair.session()]);
    let answer = server.send(post(VERIFY).form(&format!("token={}", pair.token)));
    answer.is_unauthorized("Token has been revoked.");
}

/// A token made of those parts, each already text.
fn joined(header: &str, payload: &[u8], signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

#[test]
fn forged_and_malformed_tokens_are_all_one_answer() {
    let server = Server::start();
    server.add_user("asha");
    let token = server.login("asha").token;
    let parts: Vec<&str> = token.split('.').collect();
    let (payload, signature) = (part(&token, 1), parts[2]);
    let kid = serde_json::from_slice::<serde_json::Value>(&part(&token, 0)).unwrap()["kid"].clone();
    let header = |more: &str| format!(r#"{{"typ":"JWT","alg":"ES256","kid":{kid}{more}}}"#);
    let raw_signature = part(&token, 2);
    let mut bad = vec![
        joined(r#"{"typ":"JWT","alg":"none"}"#, &payload, ""),
        joined(&format!(r#"{{"typ":"JWT","alg":"none","kid":{kid}}}"#), &payload, ""),
        joined(&format!(r#"{{"typ":"JWT","alg":"HS256","kid":{kid}}}"#), &payload, signature),
        joined(r#"{"typ":"JWT","alg":"ES256"}"#, &payload, signature),
        joined(r#"{"typ":"JWT","alg":"ES256","kid":"../../etc/passwd"}"#, &payload, signature),
        joined(&header(r#","alg":"ES256""#), &payload, signature),
        format!("{}.{}.{}", parts[0], parts[1], ""),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}.{signature}"),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode(&raw_signature[..63])),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE.encode(&raw_signature)),
        format!(".{}.{signature}", parts[1]),
        format!("{token}="),
        format!("{token}\n"),
        format!(" {token}"),
        "....".to_owned(),
        "a.b.c.d.e".to_owned(),
    ];
    for member in [
        r#","jwk":{}"#,
        r#","jku":"http://evil"#,
        r#","x5u":"u""#,
        r#","crit":["exp"]"#,
        r#","zip":"DEF""#,
        r#","b64":false"#,
    ] {
        bad.push(joined(&header(member), &payload, signature));
    }
    for token in bad {
        let body = serde_json::json!({ "token": token }).to_string();
        let answer = server.send(post(VERIFY).json(&body));
        answer.is_unauthorized("Error decoding signature.");
    }
}
