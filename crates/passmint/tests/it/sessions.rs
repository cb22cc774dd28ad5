//! Contract section 4: listing and ending sessions, logging out.

use crate::harness::{Pair, Server, get, post, request};

const SESSIONS: &str = "/api/v1/sessions/";
const LOGOUT: &str = "/api/v1/logout/";

fn server() -> Server {
    let server = Server::start();
    server.add_user("asha");
    server.add_user("bela");
    server
}

fn end(server: &Server, pair: &Pair, id: &str) -> u16 {
    server.send(request("DELETE", &format!("{SESSIONS}{id}/")).jwt(&pair.token)).status
}

#[test]
fn the_caller_sees_its_own_live_sessions() {
    let server = server();
    server.login("bela");
    let first = server.login("asha");
    let form = format!("username=asha&password={}", crate::harness::PASSWORD);
    let second =
        Pair::of(&server.send(
            post("/api/v1/token-auth/").form(&form).header("User-Agent", "erp/1.0 \u{e9}\t(x)"),
        ));
    let answer = server.send(get(SESSIONS).jwt(&second.token));
    assert_eq!(answer.status, 200);
    let body = answer.json();
    let listed = body["sessions"].as_array().unwrap();
    assert_eq!(listed.len(), 2, "{}", answer.body);
    let keys: Vec<&String> = listed[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "created_at", "last_used_at", "address", "user_agent", "current"]);
    assert_eq!(listed[0]["id"], second.session());
    assert_eq!(listed[0]["current"], true);
    assert_eq!(listed[0]["address"], "127.0.0.1");
    assert_eq!(listed[1]["id"], first.session());
    assert_eq!(listed[1]["current"], false);
    let created = listed[1]["created_at"].as_str().unwrap();
    assert!(created.len() == 20 && created.ends_with('Z'), "{created}");
}

#[test]
fn one_session_is_ended_and_foreign_ones_are_not_found() {
    let server = server();
    let (own, other, foreign) = (server.login("asha"), server.login("asha"), server.login("bela"));
    assert_eq!(end(&server, &own, &foreign.session()), 404);
    assert_eq!(server.me(&foreign.token).status, 200);
    for id in ["x", "00000000-0000-7000-8000-000000000000", "..", "%ff"] {
        let answer = server.send(request("DELETE", &format!("{SESSIONS}{id}/")).jwt(&own.token));
        answer.is_json(404, r#"{"detail":"Not found."}"#);
    }
    server
        .send(request("DELETE", &format!("{SESSIONS}{}/", other.session())).jwt(&own.token))
        .is_no_content();
    server.me(&other.token).is_unauthorized("Token has been revoked.");
    assert_eq!(server.refresh(&other.refresh_token).status, 206);
    assert_eq!(end(&server, &own, &other.session()), 404, "it has ended");
    assert_eq!(end(&server, &own, &own.session()), 204);
    server.me(&own.token).is_unauthorized("Token has been revoked.");
    let explained = server.must(&["session", "explain", &other.session(), "--json"]);
    assert!(explained.contains("logged_out_elsewhere"), "{explained}");
}

#[test]
fn all_others_are_ended() {
    let server = server();
    let (own, other, foreign) = (server.login("asha"), server.login("asha"), server.login("bela"));
    server.send(request("DELETE", SESSIONS).jwt(&own.token)).is_no_content();
    assert_eq!(server.me(&own.token).status, 200);
    assert_eq!(server.me(&foreign.token).status, 200);
    server.me(&other.token).is_unauthorized("Token has been revoked.");
    assert_eq!(server.refresh(&own.refresh_token).status, 200);
}

#[test]
fn logout_ends_the_callers_session() {
    let server = server();
    let (pair, other) = (server.login("asha"), server.login("asha"));
    server.send(post(LOGOUT).jwt(&pair.token)).is_no_content();
    server.me(&pair.token).is_unauthorized("Token has been revoked.");
    server.send(post(LOGOUT).jwt(&pair.token)).is_unauthorized("Token has been revoked.");
    assert_eq!(server.refresh(&pair.refresh_token).status, 206);
    assert_eq!(server.me(&other.token).status, 200);
}

#[test]
fn logout_by_refresh_token_needs_no_header() {
    let server = server();
    let pair = server.login("asha");
    let old = pair.refresh_token.clone();
    let pair = Pair::of(&server.refresh(&old));
    let logout = |token: &str| server.send(post(LOGOUT).form(&format!("refresh_token={token}")));
    logout(&old).is_no_content();
    server.me(&pair.token).is_unauthorized("Token has been revoked.");
    logout(&old).is_no_content();
    logout("unknown").is_no_content();
    server.send(post(LOGOUT)).is_unauthorized("Authentication credentials were not provided.");
    let form = format!("refresh_token={old}");
    let bad_header = post(LOGOUT).form(&form).jwt("garbage");
    server.send(bad_header).is_unauthorized("Error decoding signature.");
}

#[test]
fn without_a_token_nothing_is_listed_or_ended() {
    let server = server();
    let text = "Authentication credentials were not provided.";
    server.send(get(SESSIONS)).is_unauthorized(text);
    server.send(request("DELETE", SESSIONS)).is_unauthorized(text);
    server.send(request("DELETE", &format!("{SESSIONS}x/"))).is_unauthorized(text);
}

#[test]
fn a_session_that_had_given_way_can_still_be_logged_out() {
    let server = Server::start_with(&[("SESSIONS__MAX_PER_USER", "1")]);
    server.add_user("asha");
    let (first, _) = (server.login("asha"), server.login("asha"));
    server.send(post(LOGOUT).jwt(&first.token)).is_no_content();
    server.me(&first.token).is_unauthorized("Token has been revoked.");
    let (second, own) = (server.login("asha"), server.login("asha"));
    assert_eq!(server.me(&second.token).status, 200);
    server.send(request("DELETE", SESSIONS).jwt(&own.token)).is_no_content();
    server.me(&second.token).is_unauthorized("Token has been revoked.");
    assert_eq!(server.me(&own.token).status, 200);
    assert_eq!(server.refresh(&own.refresh_token).status, 200);
}

#[test]
fn logout_names_a_malformed_field() {
    let server = server();
    let fault = r#"{"refresh_token":["not a valid string"]}"#;
    server.send(post(LOGOUT).json(r#"{"refresh_token":[]}"#)).is_json(400, fault);
}

#[test]
fn one_user_changes_only_so_much_and_others_do_not_notice() {
    let server = Server::start_with(&[("THROTTLE__ENABLED", "true")]);
    for name in ["asha", "ravi"] {
        server.add_user(name);
    }
    let (busy, other) = (server.login("asha"), server.login("ravi"));
    let end_others = |token: &str| {
        let answer = server.send(request("DELETE", "/api/v1/sessions/").jwt(token));
        (answer.status, answer.header("retry-after").is_some())
    };
    let answers: Vec<(u16, bool)> = (0..300).map(|_| end_others(&busy.token)).collect();
    assert!(answers[..100].iter().all(|answer| *answer == (204, false)), "{answers:?}");
    assert!(answers.contains(&(429, true)));
    assert_eq!(end_others(&other.token), (204, false));
}

#[test]
fn sessions_are_listed_a_page_at_a_time() {
    let server = Server::start_with(&[("LOGIN__REPEAT_WINDOW", "10m")]);
    server.add_user("asha");
    let mut newest = server.login("asha");
    for _ in 0..120 {
        newest = server.login("asha");
    }
    let list = |path: &str| server.send(get(path).jwt(&newest.token)).json();
    let first = list("/api/v1/sessions/");
    assert_eq!(first["sessions"].as_array().unwrap().len(), 100);
    let next = first["next"].as_str().unwrap();
    let second = list(&format!("/api/v1/sessions/?before={next}"));
    assert_eq!(second["sessions"].as_array().unwrap().len(), 21);
    assert!(second.get("next").is_none());
}
