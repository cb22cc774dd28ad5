//! Headers that every answer must have, whatever was asked, and one that none may have.

use hyper::Method;
use serde_json::json;

use super::GROUP;
use crate::cli::selftest::client::{Answer, Request, get, post, request};
use crate::cli::selftest::ground::{Ground, JWKS, LOGIN, ME, REFRESH, VERIFY, login, nobody};
use crate::cli::selftest::judgement::{Fault, Judgement};
use crate::cli::selftest::sheet::Sheet;

/// A page of somebody else's.
const ORIGIN: &str = "https://evil.example";

pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let sniff = |answer: &Answer| {
        has(answer, "x-content-type-options", |value| value.eq_ignore_ascii_case("nosniff"))
    };
    let seen = everywhere(ground, sniff).await;
    sheet.enter(GROUP, "nosniff on every answer", "X-Content-Type-Options: nosniff", seen);
    let store = |answer: &Answer| has(answer, "cache-control", |value| value.contains("no-store"));
    let seen = everywhere(ground, store).await;
    sheet.enter(GROUP, "no-store on every answer", "Cache-Control: no-store", seen);
    let seen = keys_are_cached_for_a_while(ground).await;
    sheet.enter(GROUP, "public keys cached for a while only", "max-age of at most 3600", seen);
    let seen = everywhere(ground, without_credentials).await;
    let expected = "no Access-Control-Allow-Credentials";
    sheet.enter(GROUP, "CORS never with credentials", expected, seen);
}

fn has(answer: &Answer, name: &str, fits: impl Fn(&str) -> bool) -> Result<(), Fault> {
    match answer.header(name) {
        Some(value) if fits(value) => Ok(()),
        Some(value) => Err(Fault::Wrong(format!("{name}: {value}"))),
        None => Err(Fault::Wrong(format!("no {name}"))),
    }
}

fn without_credentials(answer: &Answer) -> Result<(), Fault> {
    match answer.header("access-control-allow-credentials") {
        None => Ok(()),
        Some(value) => Err(Fault::Wrong(format!("Access-Control-Allow-Credentials: {value}"))),
    }
}

/// One request for each kind of answer, all as a page of another origin would send them.
async fn requests(ground: &Ground) -> Result<Vec<(&'static str, Request)>, Fault> {
    let preflight = request(Method::OPTIONS, LOGIN)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization");
    let mut all = vec![
        ("a refused login", login(&nobody()?, &nobody()?)),
        ("missing fields", post(LOGIN)),
        ("malformed JSON", post(LOGIN).body("application/json", "{")),
        ("another media type", post(LOGIN).body("text/plain", "x")),
        ("a large body", post(LOGIN).body("application/json", vec![b' '; 16 * 1024 + 1])),
        ("a wrong method", get(LOGIN)),
        ("a preflight", preflight),
        ("OPTIONS", request(Method::OPTIONS, ME)),
        ("no credentials", get(ME)),
        ("a forged token", get(ME).jwt("a.b.c")),
        ("a forged token to verify", post(VERIFY).json(&json!({ "token": "a.b.c" }))),
        ("a forged refresh token", post(REFRESH).json(&json!({ "refresh_token": "x" }))),
        ("an unknown path", get("/api/v1/nowhere/")),
    ];
    // The other requests tell enough when the user cannot log in.
    if let Ok(pair) = ground.login().await {
        all.push(("a login", login(&ground.given.username, ground.given.password.expose())));
        all.push(("me", get(ME).jwt(&pair.token)));
        all.push(("HEAD", request(Method::HEAD, ME).jwt(&pair.token)));
        all.push(("sessions", get("/api/v1/sessions/").jwt(&pair.token)));
    }
    Ok(all.into_iter().map(|(what, request)| (what, request.header("origin", ORIGIN))).collect())
}

async fn everywhere(ground: &Ground, check: impl Fn(&Answer) -> Result<(), Fault>) -> Judgement {
    let requests = requests(ground).await?;
    for (what, request) in &requests {
        let answer = ground.send(request).await?;
        if let Some(token) = answer.text("refresh_token").filter(|_| answer.status == 200) {
            // A session that nobody needs; if it cannot be ended, that is another check's matter.
            drop(ground.logout(&token).await);
        }
        let named = format!("{what} ({})", answer.status);
        check(&answer).map_err(|fault| fault.with(&named))?;
    }
    Ok(format!("on {} answers", requests.len()))
}

async fn keys_are_cached_for_a_while(ground: &Ground) -> Judgement {
    let answer = ground.send(&get(JWKS)).await?;
    let cache = answer.header("cache-control").unwrap_or_default();
    let age = cache.split(',').find_map(|part| part.trim().strip_prefix("max-age="));
    match age.and_then(|age| age.parse::<u32>().ok()) {
        Some(0..=3600) => Ok(format!("Cache-Control: {cache}")),
        _ => Err(Fault::Wrong(format!("{} with Cache-Control: {cache:?}", answer.status))),
    }
}
