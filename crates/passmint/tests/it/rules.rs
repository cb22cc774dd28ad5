//! Contract section 0: the rules under `/api`.

use crate::harness::{Answer, PASSWORD, Request, Server, get, post, request};

const LOGIN: &str = "/api/v1/token-auth/";

fn server() -> Server {
    let server = Server::start();
    server.add_user("asha");
    server
}

fn credentials_json() -> String {
    format!(r#"{{"username":"asha","password":"{PASSWORD}"}}"#)
}

fn credentials_form() -> String {
    format!("username=asha&password={PASSWORD}")
}

fn multipart(fields: &[(&str, &str)]) -> Request {
    let mut body = String::new();
    for (name, value) in fields {
        for part in
            ["--edge\r\nContent-Disposition: form-data; name=\"", name, "\"\r\n\r\n", value, "\r\n"]
        {
            body.push_str(part);
        }
    }
    post(LOGIN).body("multipart/form-data; boundary=edge", body + "--edge--\r\n")
}

#[track_caller]
fn is_detail(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.has_common_headers();
    let body = answer.json();
    let object = body.as_object().unwrap();
    assert_eq!(object.len(), 1, "{}", answer.body);
    object["detail"].as_str().unwrap().to_owned()
}

#[test]
fn every_path_answers_alike_with_and_without_the_slash_and_under_its_aliases() {
    let server = server();
    for path in ["/api/v1/token-auth", "/api/v2/token-auth"] {
        for path in [path.to_owned(), format!("{path}/")] {
            let answer = server.send(post(&path).json(&credentials_json()));
            assert_eq!(answer.status, 200, "{path}");
        }
    }
    let refresh =
        ["v1/token-refresh", "v1/api-token-refresh", "v2/api-token-refresh", "v2/token-refresh"];
    for path in refresh {
        for path in [format!("/api/{path}"), format!("/api/{path}/")] {
            let token = server.login("asha").refresh_token;
            let answer = server.send(post(&path).form(&format!("refresh_token={token}")));
            assert_eq!(answer.status, 200, "{path}");
        }
    }
    let token = server.login("asha").token;
    for path in ["v1/token-verify", "v1/api-token-verify"] {
        for path in [format!("/api/{path}"), format!("/api/{path}/")] {
            assert_eq!(
                server.send(post(&path).form(&format!("token={token}"))).status,
                200,
                "{path}"
            );
        }
    }
    for path in ["me", "sessions"] {
        for path in [format!("/api/v1/{path}"), format!("/api/v1/{path}/")] {
            assert_eq!(server.send(get(&path).jwt(&token)).status, 200, "{path}");
        }
    }
    for path in ["logout", "password-change"] {
        for path in [format!("/api/v1/{path}"), format!("/api/v1/{path}/")] {
            assert_eq!(server.send(get(&path)).status, 405, "{path}");
        }
    }
}

#[test]
fn all_three_body_types_log_in() {
    let server = server();
    let multipart = multipart(&[("username", "asha"), ("password", PASSWORD)]);
    let requests = [
        post(LOGIN).json(&credentials_json()),
        post(LOGIN).body("application/json; charset=latin-1", credentials_json()),
        post(LOGIN).body("Application/JSON", credentials_json()),
        post(LOGIN).form(&credentials_form()),
        post(LOGIN).body("application/x-www-form-urlencoded;charset=UTF-8", credentials_form()),
        multipart,
        post(LOGIN).json(&format!(
            "\r\n{{\r\n\"password\": \"{PASSWORD}\",\r\n\"username\": \"asha\"}}\r\n"
        )),
    ];
    for request in requests {
        assert_eq!(server.send(request).status, 200);
    }
}

#[test]
fn another_type_or_none_with_a_body_is_415() {
    let server = server();
    for kind in ["text/plain", "application/vnd.api+json", "application/xml"] {
        let answer = server.send(post(LOGIN).body(kind, credentials_json()));
        let detail = is_detail(&answer, 415);
        assert_eq!(detail, format!("Unsupported media type \"{kind}\" in request."));
    }
    let untyped = post(LOGIN).header("Content-Length", "2");
    let mut bytes = untyped.body("", "{}");
    bytes = bytes.header("X-Other", "1");
    assert_eq!(server.send(bytes).status, 415);
}

#[test]
fn no_body_at_all_counts_as_an_empty_form() {
    let server = server();
    let missing = r#"{"username":["missing field"],"password":["missing field"]}"#;
    server.send(post(LOGIN)).is_json(400, missing);
    server.send(post(LOGIN).json("")).is_json(400, missing);
    server.send(post(LOGIN).body("text/plain", "")).is_json(400, missing);
}

#[test]
fn unknown_fields_and_headers_are_ignored() {
    let server = server();
    let form = format!("grant_type=password&client_id=x&{}", credentials_form());
    let request = post(LOGIN)
        .form(&form)
        .header("Productid", "einvoicing_global")
        .header("Service", "online_service")
        .header("Accept", "text/html")
        .header("Authorization", "JWT stale");
    assert_eq!(server.send(request).status, 200);
    let token = server.login("asha").refresh_token;
    let request = post("/api/v1/token-refresh/")
        .form(&format!("refresh_token={token}"))
        .header("Authorization", "JWT stale")
        .header("Authorization", "Basic twice");
    assert_eq!(server.send(request).status, 200);
    let query = format!("{LOGIN}?{}", credentials_form());
    assert_eq!(server.send(post(&query)).status, 400, "never read from a query string");
}

#[test]
fn integers_count_as_their_digits_and_passwords_are_never_trimmed() {
    let server = Server::start();
    server.add_user_with("9876543210", &[], "735192846013579284");
    server.add_user_with("spaced", &[], "  a password in spaces  ");
    let login = |body: &str| server.send(post(LOGIN).json(body)).status;
    assert_eq!(login(r#"{"username":9876543210,"password":735192846013579284}"#), 200);
    assert_eq!(
        login(r#"{"username":" \tspaced\u3000","password":"  a password in spaces  "}"#),
        200
    );
    assert_eq!(login(r#"{"username":"spaced","password":"a password in spaces"}"#), 206);
}

#[test]
fn what_is_neither_text_nor_integer_is_not_a_valid_string() {
    let server = server();
    let long = format!("\"{}\"", "x".repeat(1025));
    for value in
        ["[]", "{}", "[\"asha\"]", "{\"a\":1}", "1.5", "1e3", "true", "\"a\\u0000b\"", &long]
    {
        let body = format!(r#"{{"username":{value},"password":{value}}}"#);
        let faults = r#"{"username":["not a valid string"],"password":["not a valid string"]}"#;
        server.send(post(LOGIN).json(&body)).is_json(400, faults);
    }
    let body = r#"{"username":[],"password":null}"#;
    let faults = r#"{"username":["not a valid string"],"password":["missing field"]}"#;
    server.send(post(LOGIN).json(body)).is_json(400, faults);
    let edge = format!(r#"{{"username":"{}","password":"x"}}"#, "x".repeat(1024));
    assert_eq!(server.send(post(LOGIN).json(&edge)).status, 206);
}

#[test]
fn a_field_given_twice_is_refused_in_any_body_type() {
    let server = server();
    let twice = r#"{"username":"asha","password":"wrong","password":"hunter2"}"#;
    let requests = [
        post(LOGIN).json(twice),
        post(LOGIN).form("username=asha&password=wrong&password=hunter2"),
        multipart(&[("username", "asha"), ("password", "wrong"), ("password", "hunter2")]),
    ];
    for request in requests {
        assert_eq!(is_detail(&server.send(request), 400), "A field is given twice.");
    }
}

#[test]
fn limits_on_body_token_and_depth() {
    let server = server();
    let padded = |bytes: usize| {
        let body = format!(r#"{{"username":"asha","password":"{PASSWORD}","pad":""}}"#);
        let pad = "x".repeat(bytes - body.len());
        body.replace(r#""pad":"""#, &format!(r#""pad":"{pad}""#))
    };
    assert_eq!(server.send(post(LOGIN).json(&padded(16 * 1024))).status, 200);
    is_detail(&server.send(post(LOGIN).json(&padded(16 * 1024 + 1))), 413);
    let long = "x".repeat(8 * 1024 + 1);
    let refresh =
        server.send(post("/api/v1/token-refresh/").form(&format!("refresh_token={long}")));
    refresh.is_json(206, r#"{"error":"Invalid refresh token"}"#);
    let verify = server.send(post("/api/v1/token-verify/").form(&format!("token={long}")));
    verify.is_unauthorized("Error decoding signature.");
    server.send(get("/api/v1/me/").jwt(&long)).is_unauthorized("Error decoding signature.");
    let nested = |depth: usize| {
        let lists = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"username":"asha","password":"{PASSWORD}","deep":{lists}}}"#)
    };
    assert_eq!(server.send(post(LOGIN).json(&nested(16))).status, 200);
    is_detail(&server.send(post(LOGIN).json(&nested(17))), 400);
    is_detail(&server.send(post(LOGIN).json(&nested(5000))), 400);
}

#[test]
fn malformed_bodies_are_400_and_echo_nothing() {
    let server = server();
    let bodies: [&[u8]; 12] = [
        b"{\"username\": hunter2}",
        b"{\"username\":\"hunter2\"",
        b"{\"username\":\"hunter2\",}",
        b"{\"username\":\"hunter2\"} hunter2",
        b"[\"hunter2\"]",
        b"\"hunter2\"",
        b"null",
        b"5",
        b"\xef\xbb\xbf{\"username\":\"hunter2\"}",
        b"{\"username\":\"hunter2\xff\"}",
        b"{\"username\":\"\\ud800hunter2\"}",
        b"{\"username\":NaN,\"password\":\"hunter2\"}",
    ];
    for body in bodies {
        let answer = server.send(post(LOGIN).body("application/json", body));
        let detail = is_detail(&answer, 400);
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    for form in ["username=hunter2%ff&password=x", "username=asha&password=%C3"] {
        is_detail(&server.send(post(LOGIN).form(form)), 400);
    }
    let raw = post(LOGIN).body("application/x-www-form-urlencoded", b"username=\xff");
    is_detail(&server.send(raw), 400);
    for kind in ["multipart/form-data", "multipart/form-data; boundary=other"] {
        let body = "--edge\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nhunter2";
        let answer = server.send(post(LOGIN).body(kind, body));
        assert!(!is_detail(&answer, 400).contains("hunter2"));
    }
}

#[test]
fn wrong_methods_name_what_is_allowed() {
    let server = server();
    for (method, path, allow) in [
        ("GET", LOGIN, "POST, OPTIONS"),
        ("PUT", "/api/v2/token-auth", "POST, OPTIONS"),
        ("PATCH", "/api/v1/token-refresh/", "POST, OPTIONS"),
        ("DELETE", "/api/v1/token-verify/", "POST, OPTIONS"),
        ("POST", "/api/v1/me/", "GET, HEAD, OPTIONS"),
        ("POST", "/api/v1/sessions/", "GET, HEAD, DELETE, OPTIONS"),
        ("GET", "/api/v1/sessions/x/", "DELETE, OPTIONS"),
        ("POST", "/.well-known/jwks.json", "GET, HEAD, OPTIONS"),
    ] {
        let answer = server.send(request(method, path));
        answer.is_json(405, &format!(r#"{{"detail":"Method \"{method}\" not allowed."}}"#));
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    let options = server.send(request("OPTIONS", LOGIN));
    options.is_no_content();
    assert_eq!(options.header("allow"), Some("POST, OPTIONS"));
    let token = server.login("asha").token;
    let head = server.send(request("HEAD", "/api/v1/me/").jwt(&token));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn unknown_paths_are_json_404() {
    let server = server();
    for path in [
        "/",
        "/api/",
        "/api/v1/",
        "/api/v3/token-auth/",
        "/api/v1/TOKEN-AUTH/",
        "/api/v1/me//",
        "/x",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            server.send(request(method, path)).is_json(404, r#"{"detail":"Not found."}"#);
        }
    }
}

#[test]
fn cors_is_open_by_default_and_never_with_credentials() {
    let server = server();
    let preflight = request("OPTIONS", LOGIN)
        .header("Origin", "https://app.example")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization, gstin, productid");
    let answer = server.send(preflight);
    answer.is_no_content();
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST, OPTIONS"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("authorization, gstin, productid")
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    for request in [
        post(LOGIN).json(&credentials_json()),
        post(LOGIN),
        get("/api/v1/me/"),
        get("/api/nowhere"),
    ] {
        let answer = server.send(request.header("Origin", "https://app.example"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("vary"), Some("Origin"));
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("Retry-After, X-Request-Id, WWW-Authenticate")
        );
    }
}

#[test]
fn cors_origins_can_be_named() {
    let server =
        Server::start_with(&[("SERVER__CORS_ORIGINS", "https://app.example, https://b.example")]);
    let from = |origin: &str| {
        let answer = server.send(post(LOGIN).header("Origin", origin));
        assert_eq!(answer.header("vary"), Some("Origin"));
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(from("https://app.example").as_deref(), Some("https://app.example"));
    assert_eq!(from("https://b.example").as_deref(), Some("https://b.example"));
    assert_eq!(from("https://evil.example"), None);
}

#[test]
fn request_ids_are_echoed_when_sane_and_are_in_the_log() {
    let server = server();
    let with = |id: &str| {
        let answer = server.send(post(LOGIN).header("X-Request-Id", id));
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(with("abc-123_~!"), "abc-123_~!");
    assert_eq!(with(&"x".repeat(128)), "x".repeat(128));
    for strange in ["with space", "caf\u{e9}", &"x".repeat(129), ""] {
        let made = with(strange);
        assert!(made != strange && made.len() == 24, "{made}");
    }
    assert_eq!(server.send(get("/forward-auth/reset/in-the-path")).status, 401);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let log = server.log();
    assert!(log.contains(r#""request_id":"abc-123_~!""#), "{log}");
    // A path may hold a secret, so the route is logged instead.
    assert!(log.contains(r#""route":"/forward-auth/{*rest}""#), "{log}");
    assert!(!log.contains("in-the-path"), "{log}");
}

#[test]
fn the_body_is_compact_and_its_keys_are_in_order() {
    let server = server();
    let answer = server.send(post(LOGIN).json(&credentials_json()));
    let order = [
        "{\"token\":\"",
        "\",\"refresh_token\":\"",
        "\",\"token_type\":\"JWT\",\"expires_in\":86400,\"refresh_expires_in\":2592000}",
    ];
    let mut rest = answer.body.as_str();
    for part in order {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{part} in {rest}"));
        rest = after;
    }
    assert_eq!(rest, "");
    assert!(!answer.body.contains(' ') && !answer.body.contains("access"));
}
