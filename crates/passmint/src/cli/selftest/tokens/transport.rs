//! How a token is carried: the scheme, two headers, the query string, a cookie; and tokens of the
//! other kind in its place (contract section 4, RFC 6750 section 5.3, RFC 8725 section 3.12).

use super::door::Door;
use super::{GROUP, REFUSED};
use crate::cli::selftest::client::{Request, get};
use crate::cli::selftest::ground::{Ground, Pair};
use crate::cli::selftest::judgement::{
    Judgement, must_be_refused, must_be_unauthorized, must_have_status,
};
use crate::cli::selftest::sheet::Sheet;

const NOT_PROVIDED: &str = "Authentication credentials were not provided.";
const NO_CREDENTIALS: &str = "Invalid Authorization header. No credentials provided.";
const SPACES: &str = "Invalid Authorization header. Credentials string should not contain spaces.";

pub(super) async fn run(ground: &Ground, sheet: &mut Sheet, pair: &Pair, doors: &[Door]) {
    let paths: Vec<&'static str> =
        doors.iter().filter(|door| door.reads_header()).map(|door| door.path()).collect();
    let seen = refresh_token_as_access_token(ground, pair, doors).await;
    sheet.enter(GROUP, "refresh token as access token", format!("401 `{REFUSED}`"), seen);
    let seen = access_token_as_refresh_token(ground, pair).await;
    sheet.enter(
        GROUP,
        "access token as refresh token",
        "206 (or 401) `Invalid refresh token`",
        seen,
    );
    let seen = two_headers(ground, pair, &paths).await;
    sheet.enter(GROUP, "two Authorization headers", format!("401 `{REFUSED}`"), seen);
    let seen = elsewhere(ground, pair, &paths).await;
    sheet.enter(GROUP, "token in query string or cookie", format!("401 `{NOT_PROVIDED}`"), seen);
    let seen = schemes(ground, pair, &paths).await;
    sheet.enter(GROUP, "scheme in any case", "200", seen);
    let seen = malformed(ground, pair, &paths).await;
    sheet.enter(GROUP, "malformed Authorization", "401 with the documented texts", seen);
}

async fn refresh_token_as_access_token(ground: &Ground, pair: &Pair, doors: &[Door]) -> Judgement {
    for door in doors {
        let refused = door.must_refuse(ground, &pair.refresh_token).await;
        refused.map_err(|fault| fault.with(door.path()))?;
    }
    Ok("401".to_owned())
}

async fn access_token_as_refresh_token(ground: &Ground, pair: &Pair) -> Judgement {
    let answer = ground.refresh(&pair.token).await?;
    must_be_refused(&answer, "Invalid refresh token")?;
    Ok("refused".to_owned())
}

async fn two_headers(ground: &Ground, pair: &Pair, paths: &[&'static str]) -> Judgement {
    let good = format!("JWT {}", pair.token);
    let mut on_the_way = 0;
    for path in paths {
        for (first, second) in [(&*good, &*good), (&good, "JWT a.b.c"), ("Basic eDp5", &good)] {
            let request = get(*path).header("authorization", first);
            let answer = ground.send(&request.header("authorization", second)).await?;
            // Some proxies refuse it by themselves, and that is as good.
            if answer.status == 400 {
                on_the_way += 1;
            } else {
                must_be_unauthorized(&answer, REFUSED).map_err(|fault| fault.with(path))?;
            }
        }
    }
    Ok(if on_the_way == 0 { "401".to_owned() } else { "400, from a proxy".to_owned() })
}

async fn elsewhere(ground: &Ground, pair: &Pair, paths: &[&'static str]) -> Judgement {
    let token = &pair.token;
    for path in paths {
        let mut requests: Vec<(&str, Request)> = Vec::new();
        for name in ["token", "access_token", "jwt", "Authorization", "auth"] {
            requests.push((name, get(format!("{path}?{name}={token}"))));
            let cookie = format!("{name}={token}");
            requests.push((name, get(*path).header("cookie", cookie)));
        }
        let form = format!("access_token={token}");
        let kind = "application/x-www-form-urlencoded";
        requests.push(("a form", get(*path).body(kind, form)));
        for name in ["x-auth-token", "x-access-token", "proxy-authorization", "x-authorization"] {
            requests.push((name, get(*path).header(name, format!("JWT {token}"))));
        }
        for (what, request) in requests {
            let answer = ground.send(&request).await?;
            must_be_unauthorized(&answer, NOT_PROVIDED)
                .map_err(|fault| fault.with(&format!("{what} at {path}")))?;
        }
    }
    Ok("401".to_owned())
}

async fn schemes(ground: &Ground, pair: &Pair, paths: &[&'static str]) -> Judgement {
    for path in paths {
        for scheme in ["JWT", "jwt", "Jwt", "Bearer", "bearer", "BEARER", "jwt  "] {
            let header = format!("{scheme} {}", pair.token);
            let answer = ground.send(&get(*path).header("authorization", header)).await?;
            must_have_status(&answer, 200).map_err(|fault| fault.with(scheme))?;
        }
    }
    Ok("200".to_owned())
}

async fn malformed(ground: &Ground, pair: &Pair, paths: &[&'static str]) -> Judgement {
    let token = &pair.token;
    let cases = [
        (token.clone(), NOT_PROVIDED),
        (format!("Basic {token}"), NOT_PROVIDED),
        (format!("Token {token}"), NOT_PROVIDED),
        (format!("JWT,{token}"), NOT_PROVIDED),
        (format!("JWT:{token}"), NOT_PROVIDED),
        (format!("XJWT {token}"), NOT_PROVIDED),
        ("JWT".to_owned(), NO_CREDENTIALS),
        ("Bearer ".to_owned(), NO_CREDENTIALS),
        (format!("JWT {token} {token}"), SPACES),
        (format!("JWT JWT {token}"), SPACES),
        (format!("Bearer JWT {token}"), SPACES),
        (format!("JWT {token},{token}"), REFUSED),
        (format!("JWT \"{token}\""), REFUSED),
        (format!("JWT {token}\u{e9}"), REFUSED),
    ];
    for path in paths {
        for (header, text) in &cases {
            let answer = ground.send(&get(*path).header("authorization", header)).await?;
            let shown = header.replace(token.as_str(), "…");
            must_be_unauthorized(&answer, text)
                .map_err(|fault| fault.with(&format!("`{shown}` at {path}")))?;
        }
    }
    Ok(format!("{} forms, as documented", cases.len()))
}
