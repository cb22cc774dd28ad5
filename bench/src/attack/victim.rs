//! Somebody guesses one user's password from thousands of networks, while that user goes on
//! logging in from a network it is known from.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Site;
use super::client::Client;
use super::ground::{self, HOME};
use super::open_loop::{self, InTurn, Stream};
use super::tally::Tally;
use crate::load::Window;
use crate::measure::PASSWORD;
use crate::report::{Bound, Fault, Row, as_f64};

/// Guesses a second: a thousand a minute.
const GUESSES: f64 = 1_000.0 / 60.0;
/// Networks that they come from, in turn.
const NETWORKS: u32 = 10_000;
/// The guesses of an hour that may be tried (`throttle.account_failures`, by default).
const TRIES: f64 = 100.0;
const GRANTED: &[u16] = &[200];
/// A guess that was tried, by its answer; one that is throttled is not.
const TRIED: &[u16] = &[206];

/// Wrong passwords, all of one length, each from the next network.
fn guesses() -> InTurn {
    let guess = |network: u32| {
        ground::template_login(&format!("Wrong-Horse-{:03}", network % 1_000), network)
    };
    InTurn((0..NETWORKS).map(guess).collect())
}

/// Guesses and logs in, and the rows.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let installation = site.ground.prepare("victim", &[], 0..0)?;
    let server = installation.start()?;
    let home = ground::template_login(PASSWORD, HOME);
    ground::granted(&mut Client::connect(server.address())?, &home).context("the first login")?;
    let mut guesses = guesses();
    let mut logins = InTurn(vec![home]);
    let streams = vec![
        Stream {
            title: "guesses",
            rate: GUESSES,
            connections: 256,
            expected: &[206, 429],
            source: &mut guesses,
        },
        Stream {
            title: "victim's logins",
            rate: site.scale.victim_logins,
            connections: 16,
            expected: &[200, 206, 429, 503],
            source: &mut logins,
        },
    ];
    let window = Window { warm_up: Duration::ZERO, measured: site.scale.guessing };
    let tallies = open_loop::run(server.address(), streams, window)?;
    server.stop()?;
    let mut tallies = tallies.into_iter();
    let (guesses, logins) = tallies.next().zip(tallies.next()).context("no tallies")?;
    eprintln!("  {guesses}\n  {logins}");
    Ok(rows(&guesses, &logins))
}

fn rows(guesses: &Tally, logins: &Tally) -> Vec<Row> {
    let mut faults = [guesses.faults(), logins.faults()].concat();
    if guesses.count(TRIED) == 0 {
        faults.push(Fault::Wrong("no guess was tried: nobody attacked".to_owned()));
    }
    let success = 100.0 * as_f64(logins.count(GRANTED)) / as_f64(logins.planned());
    let tried = as_f64(guesses.count(TRIED));
    let all = guesses.planned();
    vec![
        Row::of(
            "victim: own logins from a known network".to_owned(),
            Bound::OfAll(99.0),
            Some(success),
            &faults,
        ),
        Row::of(
            format!("victim: of {all} guesses within the hour, tried"),
            Bound::Count(TRIES),
            Some(tried),
            &faults,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Instant;

    use super::super::open_loop::Source as _;
    use super::*;

    fn tally(statuses: &[(u16, usize)]) -> Tally {
        let now = Instant::now();
        let window = Window { warm_up: Duration::ZERO, measured: Duration::from_secs(1) };
        let mut tally = Tally::new("x", &[200, 206, 429], now, window);
        let all: usize = statuses.iter().map(|(_, count)| count).sum();
        tally.plan(u32::try_from(all).unwrap());
        for (status, count) in statuses {
            for _ in 0..*count {
                tally.sent(now, now);
                tally.answered(*status, b"", now, now);
            }
        }
        tally
    }

    #[test]
    fn what_is_throttled_is_no_try_and_no_login() {
        let met = |guesses, logins| {
            rows(&tally(guesses), &tally(logins)).iter().map(Row::is_met).collect::<Vec<_>>()
        };
        assert_eq!(met(&[(206, 100), (429, 900)], &[(200, 99), (429, 1)]), [true, true]);
        assert_eq!(met(&[(206, 101), (429, 899)], &[(200, 98), (429, 2)]), [false, false]);
        assert_eq!(met(&[(429, 1000)], &[(200, 100)]), [false, false]);
    }

    #[test]
    fn every_guess_comes_from_another_network_than_the_victim() {
        let mut guesses = guesses();
        let home = ground::template_login(PASSWORD, HOME);
        let network = |request: &[u8]| {
            let text = String::from_utf8(request.to_vec()).unwrap();
            text.lines().find(|line| line.starts_with("X-Forwarded-For")).unwrap().to_owned()
        };
        let seen: HashSet<_> =
            (0..NETWORKS).map(|number| network(guesses.request(number))).collect();
        assert_eq!(seen.len(), 10_000);
        assert!(!seen.contains(&network(&home)));
    }
}
