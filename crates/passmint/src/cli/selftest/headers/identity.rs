//! Identity headers that a client sends by itself: a proxy that copies the answer's must never get
//! the client's (CVE-2025-64484 for the underscores).

use super::{EVIL, GROUP};
use crate::cli::selftest::client::{Answer, Request, get};
use crate::cli::selftest::ground::{FORWARD_AUTH, Ground};
use crate::cli::selftest::judgement::{Fault, Judgement, must_have_status, otherwise};
use crate::cli::selftest::sheet::Sheet;

/// The five that the server answers with (contract section 4).
const IDENTITY: [&str; 5] =
    ["x-auth-user-id", "x-auth-user", "x-auth-email", "x-auth-roles", "x-auth-session"];
/// Other spellings and kin that services behind proxies believe.
const KIN: [&str; 9] = [
    "x_auth_user",
    "x_auth_roles",
    "x-auth-client",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-remote-user",
    "remote-user",
    "x-user",
];

pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let seen = with_a_token(ground).await;
    let expected = "200 with all five headers, none of them the client's";
    sheet.enter(GROUP, "identity headers of the client, with a token", expected, seen);
    let seen = without_a_token(ground).await;
    let expected = "401 without any identity";
    sheet.enter(GROUP, "identity headers of the client, without one", expected, seen);
}

fn lying(mut request: Request) -> Request {
    for name in IDENTITY.into_iter().chain(KIN) {
        request = request.header(name, EVIL);
    }
    // A hop-by-hop header could make a proxy drop the true one (RFC 9110 section 7.6.1).
    request.header("connection", "keep-alive, x-auth-user, authorization-x")
}

fn never_evil(answer: &Answer) -> Result<(), Fault> {
    let evil = |value: &hyper::header::HeaderValue| {
        String::from_utf8_lossy(value.as_bytes()).contains(EVIL)
    };
    if let Some((name, _)) = answer.headers.iter().find(|(_, value)| evil(value)) {
        return Err(Fault::Wrong(format!("{} with the client's own {name}", answer.status)));
    }
    if answer.body.contains(EVIL) { Err(otherwise(answer)) } else { Ok(()) }
}

/// A proxy may keep the path from the outside: then there is nothing to test here.
fn is_hidden(answer: &Answer) -> Result<(), Fault> {
    if matches!(answer.status, 403 | 404) {
        return Err(Fault::Untested(format!("{FORWARD_AUTH} is not served here")));
    }
    Ok(())
}

async fn with_a_token(ground: &Ground) -> Judgement {
    let pair = ground.login().await?;
    for path in [FORWARD_AUTH, "/forward-auth/some/path"] {
        let answer = ground.send(&lying(get(path).jwt(&pair.token))).await?;
        is_hidden(&answer)?;
        must_have_status(&answer, 200)?;
        never_evil(&answer)?;
        for name in IDENTITY {
            if answer.headers.get_all(name).iter().count() != 1 {
                return Err(Fault::Wrong(format!("200 without {name}, or with two")));
            }
        }
    }
    Ok("200, none came back".to_owned())
}

async fn without_a_token(ground: &Ground) -> Judgement {
    for request in [get(FORWARD_AUTH), get(FORWARD_AUTH).jwt("a.b.c")] {
        let answer = ground.send(&lying(request)).await?;
        is_hidden(&answer)?;
        must_have_status(&answer, 401)?;
        never_evil(&answer)?;
        if let Some(name) = IDENTITY.into_iter().find(|name| answer.headers.contains_key(*name)) {
            return Err(Fault::Wrong(format!("401 with {name}")));
        }
    }
    Ok("401, none came back".to_owned())
}
