//! A `Host` that lies, and its forwarded kin: keys, issuer and redirects must not follow it
//! (CVE-2025-64101, GO-2025-3721).

use serde_json::Value;

use super::{EVIL, GROUP};
use crate::cli::selftest::client::{Answer, Request, get};
use crate::cli::selftest::forge::Compact;
use crate::cli::selftest::ground::{Ground, JWKS, Pair, login};
use crate::cli::selftest::judgement::{Fault, Judgement, must_have_status, otherwise};
use crate::cli::selftest::sheet::Sheet;

const METADATA: &str = "/.well-known/oauth-authorization-server";
/// Headers that tell a server what it is called.
const LIES: [(&str, &str); 6] = [
    ("host", EVIL),
    ("x-forwarded-host", EVIL),
    ("x-host", EVIL),
    ("x-original-url", "https://evil.example/"),
    ("x-forwarded-proto", "https://evil.example/"),
    ("forwarded", "host=evil.example;proto=https"),
];

pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let seen = unchanged(ground, JWKS).await;
    sheet.enter(GROUP, "Host: evil does not change the JWKS", "the same keys, or refused", seen);
    let seen = issuer(ground).await;
    sheet.enter(GROUP, "Host: evil does not change iss", "the same iss, or refused", seen);
    let seen = unchanged(ground, METADATA).await;
    let seen = match seen {
        Err(Fault::Untested(_)) => Err(Fault::Untested(format!("{METADATA} is not served here"))),
        other => other,
    };
    sheet.enter(GROUP, "Host: evil does not change metadata", "the same, or refused", seen);
    let seen = nowhere(ground).await;
    sheet.enter(GROUP, "Host: evil comes back nowhere", "no redirect, no link", seen);
}

fn names_evil(answer: &Answer) -> Result<(), Fault> {
    let evil = |value: &hyper::header::HeaderValue| {
        String::from_utf8_lossy(value.as_bytes()).contains(EVIL)
    };
    match answer.headers.iter().find(|(_, value)| evil(value)) {
        Some((name, _)) => Err(Fault::Wrong(format!("{} with it in {name}", answer.status))),
        None if answer.body.contains(EVIL) => Err(otherwise(answer)),
        None => Ok(()),
    }
}

/// What a document says is the same whatever the server is told it is called. A proxy may refuse a
/// strange `Host`, or have another site for it.
async fn unchanged(ground: &Ground, path: &str) -> Judgement {
    let truth = ground.send(&get(path)).await?;
    must_have_status(&truth, 200).map_err(Fault::into_untested)?;
    for (name, value) in LIES {
        let answer = ground.send(&get(path).header(name, value)).await?;
        let what = format!("{name}: {value}");
        names_evil(&answer).map_err(|fault| fault.with(&what))?;
        if answer.status == 200 && answer.body != truth.body {
            return Err(Fault::Wrong(format!("other content with {what}")));
        }
    }
    Ok(format!("the same, or refused, with {} lies", LIES.len()))
}

async fn issuer(ground: &Ground) -> Judgement {
    let iss = |token: &str| -> Option<Value> { Compact::read(token)?.claims.get("iss").cloned() };
    let truth = iss(&ground.login().await?.token);
    for (name, value) in LIES {
        let request: Request = login(&ground.given.username, ground.given.password.expose());
        let answer = ground.send(&request.header(name, value)).await?;
        let what = format!("{name}: {value}");
        names_evil(&answer).map_err(|fault| fault.with(&what))?;
        if answer.status != 200 {
            continue;
        }
        let pair = Pair::of(&answer)?;
        drop(ground.logout(&pair.refresh_token).await);
        if iss(&pair.token) != truth {
            return Err(Fault::Wrong(format!("another iss with {what}")));
        }
    }
    Ok(format!("{}, or refused", truth.unwrap_or_default()))
}

async fn nowhere(ground: &Ground) -> Judgement {
    for path in ["/", "/api/v1/me", "/api/v1/token-auth", "//evil.example/", "/docs"] {
        for (name, value) in LIES {
            let answer = ground.send(&get(path).header(name, value)).await?;
            names_evil(&answer).map_err(|fault| fault.with(&format!("{path} with {name}")))?;
        }
    }
    Ok("nowhere".to_owned())
}
