//! Every check of `passmint selftest` is seen to fail: the real server stands behind a proxy that has
//! one fault, and exactly the checks that are about it fail.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use passmint_verify::{Jwk, JwkSet, VerifyingKey};
use serde_json::Value;

use crate::faulty_proxy::{
    Asked, HONEST, Proxy, Weakness, accept, after, answer, before, forward, throttled,
};
use crate::harness::{Answer, Server, get};
use crate::selftest::Sheet;

fn server() -> Server {
    let server = Server::start();
    server.add_user("asha");
    server
}

/// Runs one group against the server behind the weakness; exactly these checks fail.
#[track_caller]
fn finds(server: &Server, group: &str, weakness: Weakness, checks: &[&str]) {
    let proxy = Proxy::before(server.public, weakness);
    let sheet = Sheet::of(&proxy.url(), &["--only", group]);
    assert_eq!(sheet.with("fail"), checks, "{}", sheet.text);
    assert_eq!(sheet.code, Some(i32::from(!checks.is_empty())));
}

#[test]
fn an_honest_proxy_changes_nothing() {
    let server = server();
    for group in ["tokens", "refresh", "bodies", "admin"] {
        finds(&server, group, HONEST, &[]);
    }
}

/// The PEM of a P-256 key, by hand.
fn pem(jwk: &Jwk) -> String {
    let decode = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_ref().unwrap()).unwrap();
    let prefix = "3059301306072a8648ce3d020106082a8648ce3d03010703420004";
    let prefix: Vec<u8> = (0..prefix.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&prefix[at..at + 2], 16).unwrap())
        .collect();
    let text = STANDARD.encode([prefix, decode(&jwk.x), decode(&jwk.y)].concat());
    let (first, second) = text.split_at(64);
    format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn servers_that_believe_the_header_are_found() {
    let server = server();
    let none = after(|asked, answer| {
        if asked.alg().trim().eq_ignore_ascii_case("none") {
            accept(answer);
        }
    });
    finds(&server, "tokens", none, &["alg none in every case", "members named twice"]);
    let confused = after(|asked, answer| {
        if asked.alg() == "HS256"
            && asked.jwks().keys.iter().any(|key| asked.is_hs256_with(pem(key).as_bytes()))
        {
            accept(answer);
        }
    });
    finds(&server, "tokens", confused, &["HMAC with public key: PEM"]);
    let embedded = after(|asked, answer| {
        let Ok(jwk) = serde_json::from_value::<Jwk>(asked.part(0)["jwk"].clone()) else { return };
        let (message, signature) = asked.signed();
        if VerifyingKey::try_from(&jwk).is_ok_and(|key| key.accepts(&message, &signature)) {
            accept(answer);
        }
    });
    finds(&server, "tokens", embedded, &["jwk in the token"]);
    let file = after(|asked, answer| {
        let kid = asked.part(0)["kid"].as_str().unwrap_or_default().to_owned();
        if kid.contains("dev/null") && asked.is_hs256_with(b"") {
            accept(answer);
        }
    });
    finds(&server, "tokens", file, &["kid that is a path"]);
    let query = after(|asked, answer| {
        let kid = asked.part(0)["kid"].as_str().unwrap_or_default().to_owned();
        if kid.contains("UNION") && asked.is_hs256_with(b"k") {
            accept(answer);
        }
    });
    finds(&server, "tokens", query, &["kid that is a query"]);
    let fetched = before(|asked| {
        let url = asked.part(0)["jku"].as_str().unwrap_or_default().to_owned();
        if let Some(rest) = url.strip_prefix("http://") {
            let address = rest.split('/').next().unwrap().parse().unwrap();
            let keys: JwkSet =
                serde_json::from_str(&get("/jwks.json").try_send(address).unwrap().body).unwrap();
            assert_eq!(keys.keys.len(), 1);
        }
        None
    });
    finds(&server, "tokens", fetched, &["jku and x5u are not fetched"]);
}

#[test]
fn lenient_decoders_and_careless_verifiers_are_found() {
    let server = server();
    let lenient = before(|asked| {
        if asked.path == "/api/v1/token-verify/" {
            let token = asked.token().replace(['=', ' ', '\n', '\r', '\t'], "");
            asked.body = serde_json::json!({ "token": token }).to_string().into_bytes();
        }
        None
    });
    finds(&server, "tokens", lenient, &["padding", "white space"]);
    let psychic = after(|asked, answer| {
        if asked.signed().1 == [0; 64] {
            accept(answer);
        }
    });
    finds(&server, "tokens", psychic, &["psychic signature (r = s = 0) and kin"]);
    let told = after(|asked, answer| {
        if asked.part(1)["exp"] == 1 {
            answer.body =
                answer.body.replace("Error decoding signature.", "Signature has expired.");
        }
    });
    finds(&server, "tokens", told, &["expired and forged is forged"]);
    let unchecked = after(|asked, answer| {
        if asked.part(1)["roles"][0] == "admin" || asked.part(1)["exp"] == "9999999999" {
            accept(answer);
        }
    });
    let checks = ["claims: exp absent or of another type", "claims: roles changed"];
    finds(&server, "tokens", unchecked, &checks);
    let long = after(|asked, answer| {
        if asked.token().len() > 8192 {
            *answer = self::answer(502, "text/html", "<h1>Bad Gateway</h1>");
        }
    });
    finds(&server, "tokens", long, &["far too long"]);
}

#[test]
fn tokens_taken_from_the_wrong_place_are_found() {
    let server = server();
    let query = before(|asked| {
        let token = asked.path.split_once("?token=").map(|(_, token)| format!("JWT {token}"));
        asked.headers.extend(token.map(|token| ("authorization".to_owned(), token)));
        None
    });
    finds(&server, "tokens", query, &["token in query string or cookie"]);
    let first = before(|asked| {
        let mut seen = false;
        asked
            .headers
            .retain(|(name, _)| name != "authorization" || !std::mem::replace(&mut seen, true));
        None
    });
    finds(&server, "tokens", first, &["two Authorization headers"]);
    let mixed = after(|asked, answer| {
        if asked.token().starts_with("pmr1_") {
            accept(answer);
        }
    });
    finds(&server, "tokens", mixed, &["refresh token as access token"]);
    let picky = after(|asked, answer| {
        if asked.header("authorization").is_some_and(|header| header.starts_with("bearer ")) {
            answer.status = 401;
        }
    });
    finds(&server, "tokens", picky, &["scheme in any case"]);
}

/// Refresh tokens that the server gave.
static GIVEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Refresh tokens that came back to the proxy.
static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

#[test]
fn faults_of_refreshing_are_found() {
    let server = server();
    let strict = before(|asked| {
        let token = asked.field("refresh_token").filter(|_| asked.path.contains("refresh"))?;
        let again = token.starts_with("pmr1_") && !SEEN.lock().unwrap().insert(token);
        again.then(|| answer(206, "application/json", r#"{"error":"Invalid refresh token"}"#))
    });
    finds(&server, "refresh", strict, &["immediate replay", "parallel refreshes of one token"]);
    let prefix = Weakness {
        before: |asked| {
            let token = asked.field("refresh_token").filter(|token| token.len() > 100)?;
            let given = GIVEN.lock().unwrap();
            let whole = given.iter().find(|whole| whole.starts_with(&token))?;
            asked.body = serde_json::json!({ "refresh_token": whole }).to_string().into_bytes();
            None
        },
        after: |_, answer| {
            let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            GIVEN.lock().unwrap().extend(body["refresh_token"].as_str().map(str::to_owned));
        },
    };
    finds(&server, "refresh", prefix, &["cut at every length class"]);
    let forgetful =
        before(|asked| asked.path.contains("logout").then(|| answer(204, "application/json", "")));
    let checks = ["logout by refresh token", "logout ends access and refresh"];
    finds(&server, "refresh", forgetful, &checks);
    let failing = after(|asked, answer| {
        if asked.field("refresh_token").is_some_and(|token| token.len() > 3000) {
            answer.status = 500;
        }
    });
    finds(&server, "refresh", failing, &["white space, case, encoding"]);
}

#[test]
fn faults_of_bodies_are_found() {
    let server = server();
    let last_wins = after(|asked, answer| {
        if answer.body.contains("given twice") && asked.is_login() {
            *answer = self::answer(206, "application/json", "{}");
        }
    });
    finds(&server, "bodies", last_wins, &["a field twice: JSON, form, multipart"]);
    let nul = after(|asked, answer| {
        if asked.body.windows(6).any(|window| window == b"\\u0000") {
            *answer = self::answer(500, "text/html", "<h1>Server Error (500)</h1>");
        }
    });
    let checks =
        ["NUL in a field", "tokens of another type to refresh", "tokens of another type to verify"];
    finds(&server, "bodies", nul, &checks);
    let echo = after(|asked, answer| {
        if answer.status == 400 && answer.body.contains("JSON parse error") {
            let text = String::from_utf8_lossy(&asked.body).into_owned();
            answer.body = serde_json::json!({ "detail": text }).to_string();
        }
    });
    finds(&server, "bodies", echo, &["malformed JSON, nothing echoed"]);
    let page = after(|_, answer| {
        if answer.status == 413 {
            answer.headers = vec![("content-type".to_owned(), "text/html".to_owned())];
        }
    });
    finds(&server, "bodies", page, &["bodies over 16 KiB"]);
}

#[test]
fn doors_that_should_be_closed_are_found() {
    let server = server();
    let metrics = after(|asked, answer| {
        if asked.path == "/metrics/" {
            *answer = self::answer(200, "text/plain", "# TYPE passmint_http_requests counter\n");
        }
    });
    finds(&server, "admin", metrics, &["metrics are not public"]);
    let clock = after(|asked, answer| {
        if asked.path == "/api/../demo/clock" && asked.method == "POST" {
            accept(answer);
        }
    });
    finds(&server, "admin", clock, &["the demo's clock is not public"]);
    let by_name = after(|asked, answer| {
        if asked.path == "/admin/api" && asked.header("host") == Some("localhost") {
            accept(answer);
        }
    });
    finds(&server, "admin", by_name, &["the admin API is not public"]);
}

/// Checks of the group `headers` that fail beside those of the throttle, which another test is about.
#[track_caller]
fn finds_in_headers(server: &Server, weakness: Weakness, checks: &[&str]) {
    let proxy = Proxy::before(server.public, weakness);
    let sheet = Sheet::of(&proxy.url(), &["--only", "headers"]);
    let mut failed = sheet.with("fail");
    failed.retain(|name| !name.starts_with("throttle"));
    assert_eq!(failed, checks, "{}", sheet.text);
}

fn without(answer: &mut Answer, header: &str) {
    answer.headers.retain(|(name, _)| name != header);
}

fn with(answer: &mut Answer, name: &str, value: &str) {
    answer.headers.push((name.to_owned(), value.to_owned()));
}

#[test]
fn missing_and_harmful_headers_are_found() {
    let server = server();
    let sniffing = after(|_, answer| {
        if answer.status == 404 {
            without(answer, "x-content-type-options");
        }
    });
    finds_in_headers(&server, sniffing, &["nosniff on every answer"]);
    let stored = after(|_, answer| {
        if answer.status == 206 {
            without(answer, "cache-control");
        }
    });
    finds_in_headers(&server, stored, &["no-store on every answer"]);
    let forever = after(|asked, answer| {
        if asked.path.contains("jwks") {
            without(answer, "cache-control");
            with(answer, "cache-control", "public, max-age=31536000");
        }
    });
    finds_in_headers(&server, forever, &["public keys cached for a while only"]);
    let shared = after(|asked, answer| {
        if asked.method == "OPTIONS" {
            with(answer, "access-control-allow-credentials", "true");
        }
    });
    finds_in_headers(&server, shared, &["CORS never with credentials"]);
}

#[test]
fn servers_that_believe_headers_of_the_client_are_found() {
    let server = server();
    let echo = after(|asked, answer| {
        if let Some(user) = asked.header("x_auth_user") {
            with(answer, "x-forwarded-user", user);
        }
    });
    let checks = [
        "identity headers of the client, with a token",
        "identity headers of the client, without one",
    ];
    finds_in_headers(&server, echo, &checks);
    let named = after(|asked, answer| {
        if asked.path.contains("jwks") && asked.header("x-forwarded-host").is_some() {
            answer.body = r#"{"keys":[]}"#.to_owned();
        }
    });
    finds_in_headers(&server, named, &["Host: evil does not change the JWKS"]);
    let linked = after(|asked, answer| {
        if asked.path == "/docs" && asked.header("host") == Some("evil.example") {
            with(answer, "location", "https://evil.example/docs/");
        }
    });
    finds_in_headers(&server, linked, &["Host: evil comes back nowhere"]);
    // A token of another server's, as if it had been issued under that name.
    let issuing = after(|asked, answer| {
        if asked.is_login() && answer.status == 200 && asked.header("x-host").is_some() {
            let claims = URL_SAFE_NO_PAD.encode(r#"{"iss":"https://other.example"}"#);
            let mut body = answer.json();
            let token = body["token"].as_str().unwrap();
            let parts: Vec<&str> = token.split('.').collect();
            body["token"] = format!("{}.{claims}.{}", parts[0], parts[2]).into();
            answer.body = body.to_string();
        }
    });
    finds_in_headers(&server, issuing, &["Host: evil does not change iss"]);
}

#[test]
fn servers_that_tell_who_exists_are_found() {
    fn wrong(asked: &Asked) -> bool {
        asked.is_login() && asked.field("username").as_deref() == Some("asha")
    }
    let server = server();
    let finds = |weakness: Weakness, check: &str| {
        let proxy = Proxy::before(server.public, weakness);
        let sheet = Sheet::of(&proxy.url(), &["--only", "enumeration", "--samples", "50"]);
        assert!(sheet.with("fail").contains(&check), "{check}: {}", sheet.text);
        assert_eq!(sheet.code, Some(1));
    };
    let body = after(|asked, answer| {
        if asked.is_login() && answer.status == 206 && !wrong(asked) {
            answer.body = r#"{"error":"No such user"}"#.to_owned();
        }
    });
    finds(body, "answer: unknown user");
    let header = after(|asked, answer| {
        if answer.status == 206 && wrong(asked) {
            answer.headers.push(("x-attempts-left".to_owned(), "4".to_owned()));
        }
    });
    finds(header, "answer: wrong password");
    let folding = after(|asked, answer| {
        if asked.field("username").as_deref() == Some("ASHA") {
            answer.status = 200;
        }
    });
    finds(folding, "answer: name in another case");
    let slow = after(|asked, answer| {
        if answer.status == 206 && wrong(asked) {
            std::thread::sleep(Duration::from_millis(40));
        }
    });
    finds(slow, "time: wrong password");
}

/// One test for all, because the throttle's state is one.
#[test]
fn a_throttle_is_coped_with_and_one_that_believes_headers_is_found() {
    let server = server();
    server.add_user("gone");
    server.must(&["user", "disable", "gone"]);
    let sound = before(|asked| throttled(asked, "the socket's"));
    let proxy = Proxy::before(server.public, sound);
    let options = [
        &["--only", "headers", "--only", "enumeration", "--only", "bodies"] as &[&str],
        &["--disabled-username", "gone", "--samples", "50"],
    ]
    .concat();
    let sheet = Sheet::of(&proxy.url(), &options);
    // Whether the times of a throttled server are alike is not asked here: `selftest` does.
    let mut failed = sheet.with("fail");
    failed.retain(|name| !name.starts_with("time: wrong"));
    assert!(failed.is_empty(), "{}", sheet.text);
    let measured = sheet.verdicts["time: wrong password"].as_str();
    assert!(measured != "skip", "right logins in between keep the user clear: {}", sheet.text);
    assert_eq!(sheet.verdicts["time: disabled user"], "skip", "{}", sheet.text);
    assert!(
        sheet.text.contains("run against a server with throttle.enabled=false"),
        "{}",
        sheet.text
    );
    let spoofable = before(|asked| {
        let address = asked.header("x-real-ip").unwrap_or("the socket's").to_owned();
        throttled(asked, &address)
    });
    let proxy = Proxy::before(server.public, spoofable);
    let sheet = Sheet::of(&proxy.url(), &["--only", "headers"]);
    assert_eq!(sheet.with("fail"), ["throttle not dodged by x-real-ip"], "{}", sheet.text);
    assert!(sheet.text.contains("the throttle is spoofable"), "{}", sheet.text);
    let absent = before(|asked| asked.is_login().then(|| forward(asked)));
    let proxy = Proxy::before(server.public, absent);
    let sheet = Sheet::of(&proxy.url(), &["--only", "headers"]);
    // Where the server itself has a throttle, the test of an absent one needs it off: `server()` does.
    assert!(sheet.with("fail").contains(&"throttle"), "{}", sheet.text);
    assert!(sheet.text.contains("the throttle is off"), "{}", sheet.text);
}

/// Something that answers 200 to everything, with a pair of tokens.
fn yes_man(body: &'static str) -> Proxy {
    let answer = Arc::new(body);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(move || {
        let body = *answer;
        async move { ([("content-type", "application/json")], body) }
    });
    runtime.spawn(async move { axum::serve(listener, router).await });
    Proxy { address, runtime: Some(runtime) }
}

#[test]
fn a_server_that_says_yes_to_everything_fails() {
    // {"typ":"JWT","alg":"ES256","kid":"k"} . {"iss":"x","sub":"1","sid":"s"} . some bytes
    let pair = concat!(
        r#"{"token":"eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ."#,
        r#"eyJpc3MiOiJ4Iiwic3ViIjoiMSIsInNpZCI6InMifQ.AAAA","#,
        r#""refresh_token":"some-token","keys":[]}"#
    );
    let sheet = Sheet::of(&yes_man(pair).url(), &["--samples", "50"]);
    assert_eq!(sheet.code, Some(1));
    assert!(sheet.with("fail").len() >= 50, "{}", sheet.text);
    for check in [
        "alg none in every case",
        "psychic signature (r = s = 0) and kin",
        "rotation",
        "logout ends access and refresh",
        "answer: unknown user",
        "throttle",
        "throttle not dodged by x-forwarded-for",
        "nosniff on every answer",
        "malformed JSON, nothing echoed",
        "metrics are not public",
    ] {
        assert_eq!(sheet.verdicts.get(check).map(String::as_str), Some("fail"), "{check}");
    }
    // Without a token to attack with, the groups that need one are untested.
    let sheet = Sheet::of(&yes_man("{}").url(), &["--only", "tokens"]);
    assert_eq!((sheet.with("fail").len(), sheet.with("skip").len(), sheet.code), (0, 1, Some(1)));
}
