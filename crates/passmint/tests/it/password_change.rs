//! Contract section 4: `POST /api/v1/password-change/`.

use crate::harness::{Answer, PASSWORD, Pair, Server, note_secret, post};

const NEW: &str = "another-Canary-of-1-user";
const REFUSED: &str = r#"{"error":"Unable to login with provided credential"}"#;

fn change(server: &Server, pair: &Pair, old: &str, new: &str) -> Answer {
    note_secret(NEW);
    let body = serde_json::json!({ "old_password": old, "new_password": new }).to_string();
    server.send(post("/api/v1/password-change/").json(&body).jwt(&pair.token))
}

fn server() -> Server {
    let server = Server::start();
    server.add_user("asha");
    server
}

#[test]
fn keeps_the_current_pair_and_ends_all_other_sessions() {
    let server = server();
    let (own, other) = (server.login("asha"), server.login("asha"));
    change(&server, &own, PASSWORD, NEW).is_no_content();
    assert_eq!(server.me(&own.token).status, 200);
    server.me(&other.token).is_unauthorized("Token has been revoked.");
    assert_eq!(server.refresh(&other.refresh_token).status, 206);
    let own = Pair::of(&server.refresh(&own.refresh_token));
    assert_eq!(server.me(&own.token).status, 200);
    server.try_login("asha", PASSWORD).is_json(206, REFUSED);
    let new = server.login_with("asha", NEW);
    assert_eq!(server.me(&new.token).status, 200);
    assert_eq!(new.claims()["uep"], 1);
    let explained = server.must(&["session", "explain", &other.session(), "--json"]);
    assert!(explained.contains("password_changed"), "{explained}");
}

#[test]
fn ends_access_tokens_of_sessions_that_had_merely_given_way() {
    let server = Server::start_with(&[("SESSIONS__MAX_PER_USER", "1")]);
    server.add_user("asha");
    let (evicted, own) = (server.login("asha"), server.login("asha"));
    assert_eq!(server.me(&evicted.token).status, 200);
    change(&server, &own, PASSWORD, NEW).is_no_content();
    server.me(&evicted.token).is_unauthorized("Token has been revoked.");
    assert_eq!(server.me(&own.token).status, 200);
}

#[test]
fn a_wrong_old_password_is_refused_like_a_login() {
    let server = server();
    let own = server.login("asha");
    change(&server, &own, "wrong", NEW).is_json(206, REFUSED);
    assert_eq!(server.login("asha").claims()["uep"], 0);
}

#[test]
fn weak_and_missing_passwords_say_why() {
    let server = server();
    let own = server.login("asha");
    let short = "This password is too short: it must have at least 15 characters.";
    change(&server, &own, PASSWORD, "short")
        .is_json(400, &format!(r#"{{"new_password":["{short}"]}}"#));
    change(&server, &own, PASSWORD, "").is_json(400, r#"{"new_password":["missing field"]}"#);
    let both = r#"{"old_password":["missing field"],"new_password":["missing field"]}"#;
    server.send(post("/api/v1/password-change/").jwt(&own.token)).is_json(400, both);
    let long = "x".repeat(1025);
    let fault = r#"{"new_password":["not a valid string"]}"#;
    change(&server, &own, PASSWORD, &long).is_json(400, fault);
    server
        .send(post("/api/v1/password-change/"))
        .is_unauthorized("Authentication credentials were not provided.");
}

#[test]
fn an_operators_change_ends_every_session() {
    let server = server();
    let pair = server.login("asha");
    let output = server.run_with_input(&["user", "passwd", "asha", "--password-stdin"], NEW);
    assert!(output.status.success());
    note_secret(NEW);
    server.me(&pair.token).is_unauthorized("Token has been revoked.");
    assert_eq!(server.refresh(&pair.refresh_token).status, 206);
    server.login_with("asha", NEW);
}
