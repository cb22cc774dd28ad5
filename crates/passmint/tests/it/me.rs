//! Contract section 4: `GET /api/v1/me/` and the header that every call carries.

use crate::harness::{PASSWORD, Server, get};

const ME: &str = "/api/v1/me/";

#[test]
fn tells_who_the_caller_is() {
    let server = Server::start();
    let options = ["--email", "asha@example.com", "--role", "clerk", "--role", "auditor"];
    let id = server.add_user_with("asha", &options, PASSWORD);
    server.must(&["user", "set", "asha", "--first-name", "Asha", "--last-name", "R\u{e3}o"]);
    let pair = server.login("asha");
    let expires = jiff::Timestamp::from_second(pair.claims()["exp"].as_i64().unwrap()).unwrap();
    let body = format!(
        r#"{{"id":{id},"username":"asha","email":"asha@example.com","first_name":"Asha","last_name":"Rão","roles":["clerk","auditor"],"session_id":"{}","token_expires_at":"{expires}"}}"#,
        pair.session()
    );
    for scheme in ["JWT", "jwt", "Jwt", "Bearer", "bearer", "JWT  ", "BEARER    "] {
        let request = get(ME).header("Authorization", format!("{scheme} {}", pair.token));
        server.send(request).is_json(200, &body);
    }
}

#[test]
fn the_table_of_refusals() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let with = |value: &str| server.send(get(ME).header("Authorization", value));
    let not_provided = "Authentication credentials were not provided.";
    server.send(get(ME)).is_unauthorized(not_provided);
    for other in ["", "Basic YTpi", &format!("Token {}", pair.token), &pair.token] {
        with(other).is_unauthorized(not_provided);
    }
    for bare in ["JWT", "Bearer", "jwt   "] {
        with(bare).is_unauthorized("Invalid Authorization header. No credentials provided.");
    }
    for spaced in [format!("JWT {} x", pair.token), "JWT a  b".to_owned()] {
        with(&spaced).is_unauthorized(
            "Invalid Authorization header. Credentials string should not contain spaces.",
        );
    }
    let invalid = "Error decoding signature.";
    for garbage in ["JWT garbage", "JWT a.b.c", "JWT ....", &format!("JWT {}", pair.refresh_token)]
    {
        with(garbage).is_unauthorized(invalid);
    }
    let twice = get(ME).jwt(&pair.token).jwt(&pair.token);
    server.send(twice).is_unauthorized(invalid);
    let raw = get(ME).header("Authorization", b"JWT caf\xe9");
    server.send(raw).is_unauthorized(invalid);
    server.send(get(&format!("{ME}?token={}", pair.token))).is_unauthorized(not_provided);
    assert_eq!(server.me(&pair.token).status, 200);
}

#[test]
fn expired_is_said_of_genuine_tokens_only() {
    let server = Server::demo(&[]);
    let pair = server.login_with("sample_user", "1234Pass");
    server.advance("24h");
    server.me(&pair.token).is_unauthorized("Signature has expired.");
    let tampered = format!("{}A", &pair.token[..pair.token.len() - 1]);
    let other = format!("{}B", &pair.token[..pair.token.len() - 1]);
    for forged in [tampered, other] {
        if forged != pair.token {
            server.me(&forged).is_unauthorized("Error decoding signature.");
        }
    }
}

#[test]
fn there_is_no_leeway_at_the_end() {
    let server = Server::start_with(&[("TOKENS__ACCESS_LIFETIME", "1s")]);
    server.add_user("asha");
    let pair = server.login("asha");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    server.me(&pair.token).is_unauthorized("Signature has expired.");
}
