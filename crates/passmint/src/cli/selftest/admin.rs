//! What belongs to the admin listener must not be served by the public one.

use hyper::Method;

use super::client::{Answer, Request, get, request};
use super::ground::Ground;
use super::judgement::{Fault, Judgement, otherwise};
use super::sheet::{Group, Sheet};

const GROUP: Group = Group::Admin;
/// What only the admin listener says.
const MARKS: [&str; 3] = ["# TYPE", "# HELP", "\"now\":"];

/// Runs the group.
pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let doors: [(&str, &[&str]); 3] = [
        ("metrics are not public", &["/metrics", "/metrics/", "/admin/metrics", "/api/v1/metrics"]),
        (
            "the admin API is not public",
            &["/admin/api", "/admin/api/", "/admin/api/v1/users", "/admin/", "/admin"],
        ),
        ("the demo's clock is not public", &["/demo/clock", "/demo/clock/"]),
    ];
    for (name, paths) in doors {
        let seen = closed(ground, paths).await;
        sheet.enter(GROUP, name, "404, however it is spelt", seen);
    }
}

/// Other spellings that a proxy or a router could take for the same path.
fn spellings(path: &str) -> Vec<String> {
    let rest = path.trim_start_matches('/');
    let (first, tail) = rest.split_at_checked(1).unwrap_or_default();
    let encoded: String = first.bytes().map(percent_encoding::percent_encode_byte).collect();
    vec![
        path.to_owned(),
        format!("/{path}"),
        format!("/{encoded}{tail}"),
        format!("/./{rest}"),
        format!("/api/../{rest}"),
        format!("/api/v1/%2e%2e/%2e%2e/{rest}"),
        format!("/forward-auth/../{rest}"),
        format!("{path}?x=1"),
        format!("{path};x=1"),
        format!("{path}%00"),
        path.to_uppercase(),
    ]
}

/// The same path by every method that could find a door, and under names that a listener trusts.
fn requests(path: &str) -> Vec<Request> {
    let advance = r#"{"advance":"1s"}"#;
    vec![
        get(path),
        get(path).header("host", "localhost"),
        get(path).header("host", "127.0.0.1:8081"),
        get("/").header("x-original-url", path).header("x-rewrite-url", path),
        request(Method::POST, path).body("application/json", advance),
        request(Method::PUT, path).body("application/json", advance),
        request(Method::OPTIONS, path),
    ]
}

async fn closed(ground: &Ground, paths: &[&str]) -> Judgement {
    let mut tries = 0;
    for path in paths {
        for spelling in spellings(path) {
            for request in requests(&spelling) {
                let answer = ground.send(&request).await?;
                is_closed(&answer).map_err(|fault| fault.with(&spelling))?;
                tries += 1;
            }
        }
    }
    Ok(format!("{tries} tries, all refused"))
}

fn is_closed(answer: &Answer) -> Result<(), Fault> {
    let refused = (400..500).contains(&answer.status);
    if refused && !MARKS.iter().any(|mark| answer.body.contains(mark)) {
        return Ok(());
    }
    Err(otherwise(answer))
}
