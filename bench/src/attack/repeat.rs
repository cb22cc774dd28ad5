//! Clients that log in before every call: a login that repeats an earlier one
//! (`login.repeat_window`) against one that is hashed, and against a refresh.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Site;
use super::ground::{self, ANY_NUMBER_OF_REQUESTS, HOME, LoginRequest, Newcomers};
use crate::load;
use crate::measure::PASSWORD;
use crate::report::{Bound, Measured, Pair, Row};
use crate::script::{Chains, RefreshChain, Round};
use crate::server::{Server, Setting};

/// Logins are repeated within this; nothing here takes as long.
const WINDOW: Setting = ("PASSMINT_LOGIN__REPEAT_WINDOW", "10m");
/// Users who log in once and then for the first time never again.
const NEWCOMERS: u32 = 50_000;
/// Connections that newcomers share.
const NEWCOMERS_CONNECTIONS: u32 = 16;
/// Those who come again, after the newcomers by number, and refresh.
const REGULARS: u32 = 128;
/// Connections that they share.
const CONNECTIONS: usize = 64;
/// Time between the first logins and the loads: what they started in the server is over.
const SETTLE: Duration = Duration::from_millis(200);

/// Interleaved rounds of the three, and the rows.
pub(crate) fn take(site: &Site<'_>) -> Result<Vec<Row>> {
    let settings = [ANY_NUMBER_OF_REQUESTS.as_slice(), &[WINDOW]].concat();
    let regulars = NEWCOMERS..NEWCOMERS + REGULARS;
    let installation = site.ground.prepare("repeat", &settings, 0..regulars.end)?;
    let server = installation.start()?;
    let logins = ground::log_in(&server, regulars.clone())?;
    std::thread::sleep(SETTLE);
    let mut loads = Loads::new(&logins)?;
    let (mut hashed, mut refreshed) = (Measured::default(), Measured::default());
    for number in 0..site.scale.rounds {
        loads.round(&server, site, &mut hashed, &mut refreshed)?;
        if let Some((one, other)) = hashed.pairs.last().zip(refreshed.pairs.last()) {
            eprintln!(
                "  round {}: {:.0}/s repeated, {:.0}/s hashed, {:.0}/s refreshed",
                number + 1,
                one.server.rate,
                one.bare,
                other.bare
            );
        }
    }
    server.stop()?;
    Ok(rows(hashed, refreshed))
}

/// What each connection goes on with from round to round.
struct Loads {
    repeats: Vec<Round>,
    newcomers: Vec<Newcomers>,
    chains: Vec<Chains>,
}

impl Loads {
    fn new(logins: &[Vec<u8>]) -> Result<Self> {
        let mut request = LoginRequest::with_password(PASSWORD);
        let (mut repeats, mut chains) = (Vec::new(), Vec::new());
        let mut users = NEWCOMERS..;
        for part in logins.chunks(logins.len().div_ceil(CONNECTIONS).max(1)) {
            let own = users.by_ref().take(part.len());
            repeats.push(Round::new(own.map(|user| request.of(user, HOME).to_vec()).collect()));
            let own: Result<Vec<_>> =
                part.iter().map(|body| RefreshChain::from_login(body)).collect();
            chains.push(Chains::new(own?));
        }
        let newcomers = (0..NEWCOMERS_CONNECTIONS)
            .map(|first| Newcomers::new(PASSWORD, first, NEWCOMERS_CONNECTIONS))
            .collect();
        Ok(Self { repeats, newcomers, chains })
    }

    fn round(
        &mut self,
        server: &Server,
        site: &Site<'_>,
        hashed: &mut Measured,
        refreshed: &mut Measured,
    ) -> Result<()> {
        let (address, window) = (server.address(), site.scale.round);
        let hashes = load::run(address, &mut self.newcomers, 200, window)?;
        let repeats = load::run(address, &mut self.repeats, 200, window)?;
        let refreshes = load::run(address, &mut self.chains, 200, window)?;
        let used = self.newcomers.iter().map(Newcomers::next).max().unwrap_or_default();
        ensure!(used < NEWCOMERS, "there are no newcomers left");
        for (measured, other) in [(&mut *hashed, &hashes), (&mut *refreshed, &refreshes)] {
            measured.check(other);
        }
        hashed.push(Pair { server: repeats.clone(), bare: hashes.rate });
        refreshed.push(Pair { server: repeats, bare: refreshes.rate });
        Ok(())
    }
}

fn rows(mut hashed: Measured, refreshed: Measured) -> Vec<Row> {
    // In times, not percent.
    hashed.samples.iter_mut().for_each(|sample| *sample /= 100.0);
    vec![
        Row {
            title: "repeat: repeated logins, of hashed ones".to_owned(),
            bound: Bound::Times(15.0),
            measured: hashed,
        },
        Row {
            title: "repeat: repeated logins, of refreshes".to_owned(),
            bound: Bound::Percent(60.0),
            measured: refreshed,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Outcome;
    use crate::script::Script as _;

    fn measured(repeated: f64, other: f64) -> Measured {
        let mut measured = Measured::default();
        let server = Outcome { rate: repeated, ..Outcome::default() };
        measured.push(Pair { server, bare: other });
        measured
    }

    #[test]
    fn the_ratios_are_of_the_repeated_logins() {
        let met = |hashed, refreshed| {
            let rows = rows(measured(1_500.0, hashed), measured(1_500.0, refreshed));
            rows.iter().map(Row::is_met).collect::<Vec<_>>()
        };
        assert_eq!(met(100.0, 2_500.0), [true, true]);
        assert_eq!(met(101.0, 2_501.0), [false, false]);
    }

    #[test]
    fn regulars_log_in_by_the_name_whose_session_they_refresh() {
        let logins: Vec<_> = (0..REGULARS)
            .map(|number| format!(r#"{{"token":"t","refresh_token":"r{number}"}}"#).into_bytes())
            .collect();
        let loads = Loads::new(&logins).unwrap();
        assert_eq!((loads.repeats.len(), loads.chains.len()), (CONNECTIONS, CONNECTIONS));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text(loads.repeats[1].request()).contains(&ground::name(NEWCOMERS + 2)));
        assert!(text(loads.chains[1].request()).contains("\"r2\""));
    }
}
