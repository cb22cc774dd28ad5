//! Contract sections 2 and 3: `POST /api/v1/token-refresh/` and the table of answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{PASSWORD, Pair, Server, claims, get, post};

const PATH: &str = "/api/v1/token-refresh/";
const INVALID: &str = r#"{"error":"Invalid refresh token"}"#;
const EXPIRED: &str = r#"{"error":"Refresh token has expired"}"#;

fn server() -> Server {
    let server = Server::start();
    server.add_user("asha");
    server
}

#[test]
fn the_current_token_is_rotated() {
    let server = server();
    let first = server.login("asha");
    let answer = server.refresh(&first.refresh_token);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.has_common_headers();
    let body = answer.json();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["token", "refresh_token", "token_type", "expires_in", "refresh_expires_in"]);
    assert_eq!(
        (&body["expires_in"], &body["refresh_expires_in"]),
        (&86_400.into(), &2_592_000.into())
    );
    let second = Pair::of(&answer);
    assert_ne!(second.refresh_token, first.refresh_token);
    let (before, after) = (first.claims(), second.claims());
    assert_eq!(after["sid"], before["sid"]);
    assert_eq!(after["gen"], 1);
    assert_eq!(after["orig_iat"], before["orig_iat"]);
    assert_ne!(after["jti"], before["jti"]);
    assert_eq!(server.me(&first.token).status, 200, "its access token lives on");
    assert_eq!(server.me(&second.token).status, 200);
}

#[test]
fn token_is_the_other_name_and_refresh_token_counts_when_both_are_there() {
    let server = server();
    let pair = server.login("asha");
    let form = format!("token={}", pair.refresh_token);
    let pair = Pair::of(&server.send(post(PATH).form(&form)));
    let both = format!("token=garbage&refresh_token={}", pair.refresh_token);
    let pair = Pair::of(&server.send(post(PATH).form(&both)));
    let wrong = format!("token={}&refresh_token=garbage", pair.refresh_token);
    server.send(post(PATH).form(&wrong)).is_json(206, INVALID);
}

#[test]
fn a_lost_answer_costs_nothing() {
    let server = server();
    let first = server.login("asha");
    let second = Pair::of(&server.refresh(&first.refresh_token));
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        let again = Pair::of(&server.refresh(&first.refresh_token));
        assert_eq!(again.refresh_token, second.refresh_token);
        for claim in ["jti", "iat", "exp", "gen", "sid"] {
            assert_eq!(again.claims()[claim], second.claims()[claim], "{claim}");
        }
    }
    assert_eq!(server.refresh(&second.refresh_token).status, 200);
}

#[test]
fn reuse_after_the_interval_ends_the_session_and_not_the_user() {
    let server = Server::start_with(&[("SESSIONS__REUSE_INTERVAL", "1s")]);
    server.add_user("asha");
    let other = server.login("asha");
    let first = server.login("asha");
    let second = Pair::of(&server.refresh(&first.refresh_token));
    std::thread::sleep(Duration::from_millis(1100));
    server.refresh(&first.refresh_token).is_json(206, INVALID);
    server.refresh(&second.refresh_token).is_json(206, INVALID);
    for token in [&first.token, &second.token] {
        server.me(token).is_unauthorized("Token has been revoked.");
    }
    assert_eq!(server.me(&other.token).status, 200);
    assert_eq!(server.refresh(&other.refresh_token).status, 200);
    let explained = server.must(&["session", "explain", &first.session(), "--json"]);
    assert!(explained.contains("reuse_detected"), "{explained}");
}

#[test]
fn an_interval_of_zero_gives_no_second_chance() {
    let server = Server::start_with(&[("SESSIONS__REUSE_INTERVAL", "0s")]);
    server.add_user("asha");
    let first = server.login("asha");
    let second = Pair::of(&server.refresh(&first.refresh_token));
    server.refresh(&first.refresh_token).is_json(206, INVALID);
    server.refresh(&second.refresh_token).is_json(206, INVALID);
}

#[test]
fn tampered_unknown_and_foreign_tokens_are_invalid() {
    let server = server();
    let pair = server.login("asha");
    let token = &pair.refresh_token;
    let mut flipped = token.clone().into_bytes();
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    let other = Server::start();
    other.add_user("asha");
    let foreign = other.login("asha").refresh_token;
    for bad in [
        String::from_utf8(flipped).unwrap(),
        token[..token.len() - 1].to_owned(),
        format!("{token}A"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        token.to_uppercase(),
        foreign,
        "garbage".to_owned(),
        "123".to_owned(),
        pair.token.clone(),
    ] {
        server.refresh(&bad).is_json(206, INVALID);
    }
    server.send(post(PATH).json(r#"{"refresh_token":123}"#)).is_json(206, INVALID);
    assert_eq!(server.refresh(token).status, 200, "no harm done");
}

#[test]
fn missing_and_malformed_fields() {
    let server = server();
    let missing = r#"{"refresh_token":["missing field"]}"#;
    for body in ["{}", r#"{"refresh_token":null}"#, r#"{"refresh_token":""}"#, r#"{"token":""}"#] {
        server.send(post(PATH).json(body)).is_json(400, missing);
    }
    let invalid = r#"{"refresh_token":["not a valid string"]}"#;
    for body in [
        r#"{"refresh_token":[]}"#,
        r#"{"refresh_token":true}"#,
        r#"{"token":{}}"#,
        r#"{"refresh_token":"a\u0000"}"#,
    ] {
        server.send(post(PATH).json(body)).is_json(400, invalid);
    }
}

#[test]
fn a_genuine_token_past_its_lifetime_has_expired() {
    let server = Server::start_with(&[("SESSIONS__IDLE_LIFETIME", "1s")]);
    server.add_user("asha");
    let pair = server.login("asha");
    std::thread::sleep(Duration::from_millis(1100));
    server.refresh(&pair.refresh_token).is_json(400, EXPIRED);
    assert_eq!(server.me(&pair.token).status, 200, "the access token runs out by itself");
}

#[test]
fn the_maximal_lifetime_bounds_every_token() {
    let server =
        Server::start_with(&[("SESSIONS__IDLE_LIFETIME", "2s"), ("SESSIONS__MAX_LIFETIME", "3s")]);
    server.add_user("asha");
    let first = server.login("asha");
    let began = first.claims()["orig_iat"].as_i64().unwrap();
    assert!(first.claims()["exp"].as_i64().unwrap() <= began + 3);
    std::thread::sleep(Duration::from_millis(1500));
    let second = Pair::of(&server.refresh(&first.refresh_token));
    std::thread::sleep(Duration::from_millis(1700));
    server.refresh(&second.refresh_token).is_json(400, EXPIRED);
    server.me(&second.token).is_unauthorized("Signature has expired.");
}

#[test]
fn disabled_and_deleted_users_do_not_refresh() {
    let server = server();
    server.add_user("bela");
    let (asha, bela) = (server.login("asha"), server.login("bela"));
    server.must(&["user", "disable", "asha"]);
    server.must(&["user", "delete", "bela"]);
    server.refresh(&asha.refresh_token).is_json(206, INVALID);
    server.refresh(&bela.refresh_token).is_json(206, INVALID);
    server.must(&["user", "enable", "asha"]);
    server.refresh(&asha.refresh_token).is_json(206, INVALID);
    server.me(&asha.token).is_unauthorized("Token has been revoked.");
}

#[test]
fn a_token_newer_than_the_database_is_loud() {
    let mut server = server();
    let first = server.login("asha");
    server.stop();
    let copy = server.data.join("copy");
    std::fs::create_dir(&copy).unwrap();
    let file = |name: &str| (server.data.join(name), copy.join(name));
    for (from, to) in [file("passmint.db"), file("passmint.db-wal")] {
        if from.exists() {
            std::fs::copy(from, to).unwrap();
        }
    }
    server.start_again();
    let second = Pair::of(&server.refresh(&first.refresh_token));
    server.stop();
    for name in ["passmint.db", "passmint.db-wal", "passmint.db-shm"] {
        drop(std::fs::remove_file(server.data.join(name)));
        if copy.join(name).exists() {
            std::fs::copy(copy.join(name), server.data.join(name)).unwrap();
        }
    }
    server.start_again();
    server.refresh(&second.refresh_token).is_json(206, INVALID);
    server.refresh(&first.refresh_token).is_json(206, INVALID);
    server.me(&first.token).is_unauthorized("Token has been revoked.");
    let explained = server.must(&["session", "explain", &first.session(), "--json"]);
    assert!(explained.contains("state_lost"), "{explained}");
    assert!(server.log().contains("lost commits"));
}

#[test]
fn profile_changes_show_from_the_next_refresh_on() {
    let server = server();
    let pair = server.login("asha");
    server.must(&[
        "user",
        "set",
        "asha",
        "--email",
        "new@example.com",
        "--role",
        "admin",
        "org_id=3",
    ]);
    let pair = Pair::of(&server.refresh(&pair.refresh_token));
    let claims = pair.claims();
    assert_eq!((&claims["email"], &claims["org_id"]), (&"new@example.com".into(), &3.into()));
    assert_eq!(claims["roles"], serde_json::json!(["admin"]));
}

#[test]
fn refreshing_with_an_access_token_where_allowed() {
    let server = Server::demo(&[
        ("SESSIONS__REFRESH_WITH_ACCESS_TOKEN", "true"),
        ("TOKENS__AUDIENCE", "api"),
    ]);
    let pair = server.login_with("sample_user", "1234Pass");
    let renew = |token: &str| server.send(post(PATH).form(&format!("token={token}")));
    server.advance("20h");
    let answer = renew(&pair.token);
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{}", answer.body);
    let mut token = body["token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&token)["orig_iat"], pair.claims()["orig_iat"]);
    assert_eq!(server.me(&token).status, 200);
    server.advance("5h");
    renew(&pair.token).is_json(400, EXPIRED);
    for _ in 0..7 {
        token = renew(&token).json()["token"].as_str().unwrap().to_owned();
        server.advance("20h");
    }
    server.advance("3h");
    renew(&token).is_json(400, EXPIRED);
    assert_eq!(
        server.refresh(&pair.refresh_token).status,
        200,
        "the refresh token is another matter"
    );
    renew("a.b.c").is_json(206, INVALID);
    server.must(&["session", "end", &pair.session()]);
    renew(&token).is_json(206, INVALID);
    let other = server.login_with("sample_user", "1234Pass");
    assert_eq!(renew(&other.token).status, 200);
    server.must(&["session", "end", &other.session()]);
    renew(&other.token).is_json(206, INVALID);
}

#[test]
fn renewing_while_the_user_is_disabled_gives_no_token_that_lives_on() {
    let server = Server::start_with(&[
        ("SESSIONS__REFRESH_WITH_ACCESS_TOKEN", "true"),
        ("HASHING__MEMORY_KIB", "64"),
    ]);
    let mut renewed = 0;
    for round in 0..40 {
        let name = format!("user-{round}");
        server.add_user(&name);
        let first = server.login(&name).token;
        let stop = AtomicBool::new(false);
        let tokens: Vec<String> = std::thread::scope(|scope| {
            let renew = || {
                let mut tokens = vec![first.clone()];
                while !stop.load(Ordering::Relaxed) {
                    let answer = server.send(post(PATH).form(&format!("token={first}")));
                    if answer.status == 200 {
                        tokens.push(answer.json()["token"].as_str().unwrap().to_owned());
                    }
                }
                tokens
            };
            let clients: Vec<_> = (0..3).map(|_| scope.spawn(renew)).collect();
            server.must(&["user", "disable", &name]);
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        renewed += tokens.len() - 3;
        for token in &tokens {
            assert_eq!(server.send(get("/forward-auth").jwt(token)).status, 401, "round {round}");
        }
    }
    assert!(renewed > 40, "only {renewed} renewals");
}

#[test]
fn an_access_token_is_not_a_refresh_token_by_default() {
    let server = server();
    let pair = server.login("asha");
    server.send(post(PATH).form(&format!("token={}", pair.token))).is_json(206, INVALID);
}

#[test]
fn a_refresh_can_end_the_access_tokens_of_earlier_generations() {
    let server = Server::start_with(&[
        ("SESSIONS__END_ACCESS_TOKEN_ON_REFRESH", "true"),
        ("SESSIONS__REUSE_INTERVAL", "1s"),
    ]);
    server.add_user("asha");
    let first = server.login("asha");
    let second = Pair::of(&server.refresh(&first.refresh_token));
    assert_eq!(server.me(&first.token).status, 200, "within the grace");
    std::thread::sleep(Duration::from_millis(1100));
    server.me(&first.token).is_unauthorized("Token has been revoked.");
    assert_eq!(server.me(&second.token).status, 200);
}

#[test]
fn over_max_per_user_never_refreshed_sessions_give_way_first_oldest_first() {
    let server = Server::start_with(&[("SESSIONS__MAX_PER_USER", "3")]);
    server.add_user("asha");
    let kept = Pair::of(&server.refresh(&server.login("asha").refresh_token));
    let second = server.login("asha");
    let third = server.login("asha");
    let fourth = server.login("asha");
    server.refresh(&second.refresh_token).is_json(206, INVALID);
    assert_eq!(server.me(&second.token).status, 200, "its access token runs out by itself");
    for pair in [&kept, &third, &fourth] {
        assert_eq!(server.refresh(&pair.refresh_token).status, 200);
    }
    server.login("asha");
    server.refresh(&kept.refresh_token).is_json(206, INVALID);
    let explained = server.must(&["session", "explain", &second.session(), "--json"]);
    assert!(explained.contains("evicted"), "{explained}");
}

#[test]
fn a_replay_from_another_network_marks_the_session() {
    let server = Server::start_with(&[("SERVER__TRUSTED_PROXIES", "127.0.0.0/8")]);
    server.add_user("asha");
    let from = |address: &str, path: &str, form: &str| {
        server.send(post(path).form(form).header("X-Forwarded-For", address))
    };
    let login = format!("username=asha&password={PASSWORD}");
    let pair = Pair::of(&from("192.0.2.1", "/api/v1/token-auth/", &login));
    let form = format!("refresh_token={}", pair.refresh_token);
    Pair::of(&from("192.0.2.9", PATH, &form));
    let explain = || server.must(&["session", "explain", &pair.session(), "--json"]);
    let mark = r#""replayed_from_another_network_at": null"#;
    Pair::of(&from("192.0.2.200", PATH, &form));
    assert!(explain().contains(mark), "{}", explain());
    Pair::of(&from("198.51.100.1", PATH, &form));
    assert!(!explain().contains(mark), "{}", explain());
}
