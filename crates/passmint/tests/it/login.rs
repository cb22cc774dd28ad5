//! Contract section 1: `POST /api/v1/token-auth/`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::harness::{Answer, PASSWORD, Server, claims, part, post};

const LOGIN: &str = "/api/v1/token-auth/";
const REFUSED: &str = r#"{"error":"Unable to login with provided credential"}"#;

#[test]
fn right_credentials_give_a_pair() {
    let server = Server::start();
    server.add_user("asha");
    let answer = server.try_login("asha", PASSWORD);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.has_common_headers();
    let body = answer.json();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["token", "refresh_token", "token_type", "expires_in", "refresh_expires_in"]);
    assert_eq!(body["expires_in"], 86_400);
    assert_eq!(body["refresh_expires_in"], 30 * 86_400);
    assert!(body["refresh_token"].as_str().unwrap().starts_with("pmr1_"));
}

#[test]
fn unknown_wrong_and_disabled_are_the_same_bytes_and_headers() {
    let server = Server::start();
    server.add_user("asha");
    server.add_user("disabled");
    server.must(&["user", "disable", "disabled"]);
    let same = |answer: Answer| {
        answer.is_json(206, REFUSED);
        let varying = ["x-request-id", "date"];
        answer
            .headers
            .into_iter()
            .filter(|(name, _)| !varying.contains(&name.as_str()))
            .collect::<Vec<_>>()
    };
    let wrong = same(server.try_login("asha", "not the password"));
    assert_eq!(same(server.try_login("nobody", PASSWORD)), wrong);
    assert_eq!(same(server.try_login("disabled", PASSWORD)), wrong);
    assert_eq!(same(server.try_login("Asha", PASSWORD)), wrong, "case counts");
    assert_eq!(same(server.try_login("asha", &format!("{PASSWORD} "))), wrong);
    assert_eq!(same(server.try_login("asha' OR '1'='1", "x")), wrong);
}

/// `api.invalid_credentials_status = 401`: what is refused looks like a refused access token.
#[test]
fn operators_may_have_401_for_what_is_refused_and_nothing_else_changes() {
    let server = Server::start_with(&[("API__INVALID_CREDENTIALS_STATUS", "401")]);
    server.add_user("asha");
    let pair = server.login("asha");
    let refused = "Unable to login with provided credential";
    server.try_login("asha", "not the password").is_unauthorized(refused);
    let change = |old: &str| {
        let body =
            serde_json::json!({ "old_password": old, "new_password": "another good one 17" });
        let change = post("/api/v1/password-change/").jwt(&pair.token);
        server.send(change.json(&body.to_string()))
    };
    change("not the password").is_unauthorized(refused);
    server.refresh("pmr1_nothing").is_unauthorized("Invalid refresh token");
    server.refresh(&pair.token).is_unauthorized("Invalid refresh token");
    server.refresh("").is_json(400, r#"{"refresh_token":["missing field"]}"#);
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
}

#[test]
fn tokens_are_ascii_and_a_user_who_would_not_fit_into_one_is_refused() {
    let server = Server::start();
    server.add_user("zoë");
    server.must(&["user", "set", "zoë", "city=पुणे", "--role", "größer"]);
    let pair = server.login("zoë");
    let payload = String::from_utf8(part(&pair.token, 1)).unwrap();
    assert!(payload.is_ascii(), "{payload}");
    assert!(payload.contains(r#""username":"zo\u00eb""#), "{payload}");
    assert_eq!(claims(&pair.token)["city"], "पुणे");
    let me = server.me(&pair.token).json();
    assert_eq!((&me["username"], &me["roles"][0]), (&"zoë".into(), &"größer".into()));
    // 600 characters are 1,800 bytes here and 3,600 in a token.
    let long = format!("motto={}", "पु".repeat(300));
    server.must(&["user", "set", "zoë", &long]);
    assert_eq!(server.me(&server.login("zoë").token).status, 200);
    let roles: Vec<String> = (0..5).map(|n| format!("{n}{}", "ü".repeat(60))).collect();
    let mut arguments = vec!["user", "set", "zoë"];
    arguments.extend(roles.iter().flat_map(|role| ["--role", role]));
    let output = server.run(&arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("at most 4500 bytes of a token together"), "{error}");
}

#[test]
fn a_request_says_once_and_validly_whom_it_is_for() {
    let server = Server::start();
    let status = |head: &str| {
        let mut stream = TcpStream::connect(server.public).unwrap();
        stream
            .write_all(format!("GET /healthz {head}Connection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].parse::<u16>().unwrap()
    };
    for good in ["Host: x\r\n", "Host: api.example:8443\r\n", "Host: [::1]:8080\r\n"] {
        assert_eq!(status(&format!("HTTP/1.1\r\n{good}")), 200, "{good}");
    }
    for bad in ["", "Host: x\r\nHost: x\r\n", "Host: a b\r\n", "Host: u@x\r\n", "Host:\r\n"] {
        assert_eq!(status(&format!("HTTP/1.1\r\n{bad}")), 400, "{bad}");
    }
    assert_eq!(status("HTTP/1.0\r\n"), 200, "HTTP/1.0 knows no Host");
}

#[test]
fn missing_fields_are_named_username_first() {
    let server = Server::start();
    let both = r#"{"username":["missing field"],"password":["missing field"]}"#;
    let username = r#"{"username":["missing field"]}"#;
    let password = r#"{"password":["missing field"]}"#;
    for (body, answer) in [
        ("{}", both),
        (r#"{"password":"","username":null}"#, both),
        (r#"{"password":"x"}"#, username),
        (r#"{"password":"x","username":" \u00a0\n "}"#, username),
        (r#"{"username":"asha"}"#, password),
        (r#"{"username":"asha","password":null}"#, password),
    ] {
        server.send(post(LOGIN).json(body)).is_json(400, answer);
    }
    server.send(post(LOGIN).form("username=asha&password=")).is_json(400, password);
    assert_eq!(server.send(post(LOGIN).form("username=asha&password=%20")).status, 206);
}

#[test]
fn a_login_never_ends_another_session() {
    let server = Server::start();
    server.add_user("asha");
    let pairs: Vec<_> = (0..20).map(|_| server.login("asha")).collect();
    for pair in &pairs {
        assert_eq!(server.me(&pair.token).status, 200);
    }
    assert_eq!(server.refresh(&pairs[0].refresh_token).status, 200);
}

#[test]
fn usernames_have_one_canonical_form() {
    let server = Server::start();
    server.add_user(" ｍａｘ@example.com ");
    for spelling in ["max@example.com", "  max@example.com\n", "ｍax@example.com"] {
        assert_eq!(server.login(spelling).claims()["username"], "max@example.com");
    }
    let add = |name: &str| {
        let output = server.run_with_input(&["user", "add", name, "--password-stdin"], PASSWORD);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = add("Max@Example.com");
    assert_eq!(code, Some(1));
    assert!(error.contains("differs only in upper and lower case"), "{error}");
    for (name, part) in [
        ("  ", "at least one character"),
        (&*"x".repeat(151), "at most 150 characters"),
        ("zero\u{200b}width", "invisible"),
        ("bell\u{7}", "control"),
    ] {
        let (code, error) = add(name);
        assert_eq!(code, Some(1), "{name:?}");
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(add(&"x".repeat(150)).0, Some(0));
}

#[test]
fn the_access_token_is_as_the_contract_says() {
    let server = Server::start_with(&[
        ("SERVER__ISSUER", "https://auth.example"),
        ("TOKENS__AUDIENCE", "api"),
    ]);
    let id = server.add_user_with(
        "asha",
        &["--email", "asha@example.com", "--role", "b", "--role", "a"],
        PASSWORD,
    );
    server.must(&["user", "set", "asha", "org_id=7", "plan=gold", "list=[1,2]"]);
    let token = server.login("asha").token;
    let header = String::from_utf8(part(&token, 0)).unwrap();
    assert!(header.starts_with(r#"{"typ":"JWT","alg":"ES256","kid":""#), "{header}");
    let claims = claims(&token);
    let names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "iss",
            "sub",
            "aud",
            "iat",
            "exp",
            "jti",
            "sid",
            "gen",
            "uep",
            "roles",
            "user_id",
            "username",
            "email",
            "orig_iat",
            "token_type",
            "org_id",
            "plan",
            "list",
        ]
    );
    assert_eq!(claims["iss"], "https://auth.example");
    assert_eq!(claims["aud"], "api");
    assert_eq!(claims["sub"], id.to_string());
    assert_eq!(claims["user_id"], id);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 86_400);
    assert_eq!(claims["orig_iat"], claims["iat"]);
    assert_eq!((&claims["gen"], &claims["uep"]), (&0.into(), &0.into()));
    assert_eq!(claims["roles"], serde_json::json!(["b", "a"]));
    assert_eq!(claims["token_type"], "access");
    assert_eq!(claims["org_id"], 7);
    assert_eq!(claims["list"], serde_json::json!([1, 2]));
    assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
    let refused = server.run(&["user", "set", "asha", "uep=9"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("writes itself"));
}

#[test]
fn a_full_hashing_queue_sheds_with_503_before_any_work() {
    let server =
        Server::start_with(&[("LOGIN__MAX_WAIT", "50ms"), ("HASHING__MEMORY_KIB", "65536")]);
    server.add_user("asha");
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let tasks: Vec<_> =
            (0..64).map(|_| scope.spawn(|| server.try_login("asha", "wrong"))).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    let shed: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!shed.is_empty() && shed.len() < 64, "{} of 64 shed", shed.len());
    for answer in shed {
        answer.is_json(503, r#"{"error":"Temporarily overloaded"}"#);
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    }
    server.login("asha");
}
