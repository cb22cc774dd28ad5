//! Headers that pretend to another address: none may dodge the throttle (CVE-2023-36456).
//!
//! One unknown user, twelve wrong logins, each from another address as far as the header says. A
//! throttle that counts by name and true network answers 429 after some five (contract section 6).

use std::time::Duration;

use super::GROUP;
use crate::cli::selftest::client::{Answer, Request};
use crate::cli::selftest::ground::{Ground, login, nobody};
use crate::cli::selftest::judgement::{Fault, Judgement, describe};
use crate::cli::selftest::sheet::Sheet;

/// Wrong logins until the throttle must have answered.
const LOGINS: u8 = 12;
/// How often requests may come too fast before the check gives up.
const MOST_WAITS: u32 = 20;
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Headers that some server somewhere takes an address from.
const SPOOFED: [&str; 8] = [
    "x-forwarded-for",
    "x-real-ip",
    "forwarded",
    "x-client-ip",
    "cf-connecting-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
];

pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let expected = format!("429 within {LOGINS} wrong logins");
    let plain = series(ground, None).await;
    let is_off = matches!(plain, Err(Fault::Wrong(_)));
    sheet.enter(GROUP, "throttle", expected.as_str(), plain);
    for name in SPOOFED {
        let seen = series(ground, Some(name)).await.map_err(|fault| match fault {
            Fault::Wrong(seen) if is_off => Fault::Wrong(format!("{seen}: the throttle is off")),
            Fault::Wrong(seen) => Fault::Wrong(format!("{seen}: the throttle is spoofable")),
            untested @ Fault::Untested(_) => untested,
        });
        sheet.enter(GROUP, format!("throttle not dodged by {name}"), expected.as_str(), seen);
    }
}

/// The address that the header pretends to, each time in another network (RFC 2544's range).
fn spoofed(request: Request, header: Option<&'static str>, number: u8) -> Request {
    match header {
        None => request,
        Some("forwarded") => request.header("forwarded", format!("for=198.18.{number}.1")),
        Some(name) => request.header(name, format!("198.18.{number}.1")),
    }
}

/// Wrong logins of one unknown user until the throttle answers.
async fn series(ground: &Ground, header: Option<&'static str>) -> Judgement {
    let name = nobody()?;
    let (mut number, mut waits) = (0, 0);
    while number < LOGINS {
        let request = spoofed(login(&name, &nobody()?), header, number);
        let answer = ground.client.send(&request).await?;
        if answer.status != 429 {
            refused(&answer)?;
            number += 1;
            continue;
        }
        // 429 is also for whoever sends too fast, and then another name is told the same.
        let other = ground.client.send(&login(&nobody()?, &nobody()?)).await?;
        if other.status != 429 {
            let wait = answer.retry_after();
            let wait = wait.ok_or(Fault::Wrong("429 without Retry-After".to_owned()))?;
            return Ok(format!("429 for {} s after {number} wrong logins", wait.as_secs()));
        }
        waits += 1;
        match other.retry_after() {
            Some(wait) if wait <= LONGEST_WAIT && waits <= MOST_WAITS => {
                tokio::time::sleep(wait).await;
            }
            _ => {
                let why = "this network has failed too often of late: wait a minute, and run this group alone";
                return Err(Fault::Untested(why.to_owned()));
            }
        }
    }
    Err(Fault::Wrong(format!("no 429 in {LOGINS} wrong logins")))
}

/// Shed logins (503) count as none; anything but a refusal would make the series meaningless.
fn refused(answer: &Answer) -> Result<(), Fault> {
    match answer.status {
        206 | 401 | 503 => Ok(()),
        _ => Err(Fault::Wrong(describe(answer))),
    }
}
