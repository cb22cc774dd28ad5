//! The time of a refused login, measured on one connection, the kinds taking turns.

use std::time::Duration;

use super::{GROUP, Kind, is_refusal};
use crate::cli::selftest::client::{Answer, Connection, Request, Trouble};
use crate::cli::selftest::ground::{Ground, login, nobody};
use crate::cli::selftest::judgement::{Fault, Judgement, otherwise};
use crate::cli::selftest::sheet::Sheet;
use crate::cli::selftest::statistics::Comparison;

/// With fewer samples of a kind, chance alone goes past the bounds.
pub(in crate::cli::selftest) const FEWEST_SAMPLES: u32 = 50;
/// Requests that are not measured: a connection and a server warm up.
const WARM_UP: u32 = 3;
/// Longer waits mean that the name itself is throttled, not how fast requests come.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often one sample is tried again.
const TRIES: u32 = 5;

/// The samples of one kind, in milliseconds.
struct Samples {
    kind: Kind,
    millis: Vec<f64>,
    /// The throttle does not let this kind go on.
    throttled: bool,
}

pub(super) async fn run(ground: &Ground, sheet: &mut Sheet, known: bool) {
    let mut kinds = vec![Kind::Unknown];
    if known {
        kinds.push(Kind::Wrong);
    }
    if ground.given.disabled_username.is_some() {
        kinds.push(Kind::Disabled);
    }
    let first = measure(ground, &kinds, ground.given.samples).await;
    for kind in [Kind::Wrong, Kind::Disabled] {
        let seen = match &first {
            _ if !kinds.contains(&kind) => Err(missing(kind)),
            Ok(samples) => twice(ground, samples, kind).await,
            Err(fault) => Err(fault.clone()),
        };
        let expected = "medians within 0.5 ms or 5 %, area under the curve 0.42 to 0.58";
        sheet.enter(GROUP, format!("time: {}", kind.name()), expected, seen);
    }
}

fn missing(kind: Kind) -> Fault {
    let why = match kind {
        Kind::Disabled => "give --disabled-username NAME",
        Kind::Wrong | Kind::Unknown => "cannot log in",
    };
    Fault::Untested(why.to_owned())
}

/// Judges the samples; what looks like a difference is measured again, with twice as many samples,
/// and then that counts: a busy machine misleads once, a leak always.
async fn twice(ground: &Ground, first: &[Samples], kind: Kind) -> Judgement {
    let suspicious = match judge(first, kind) {
        Err(Fault::Wrong(seen)) => seen,
        other => return other,
    };
    let again = measure(ground, &[Kind::Unknown, kind], ground.given.samples * 2).await?;
    match judge(&again, kind) {
        Err(Fault::Untested(why)) => {
            Err(Fault::Wrong(format!("{suspicious}; not measured again: {why}")))
        }
        Err(Fault::Wrong(seen)) => Err(Fault::Wrong(format!("{seen}; before: {suspicious}"))),
        Ok(seen) => Ok(format!("{seen} (measured again; before: {suspicious})")),
    }
}

fn judge(all: &[Samples], kind: Kind) -> Judgement {
    let of = |kind: Kind| all.iter().find(|samples| samples.kind == kind);
    let (Some(unknown), Some(samples)) = (of(Kind::Unknown), of(kind)) else {
        return Err(missing(kind));
    };
    let enough = |samples: &Samples| samples.millis.len() >= FEWEST_SAMPLES as usize;
    if let Some(few) = [samples, unknown].into_iter().find(|samples| !enough(samples)) {
        let why = if few.throttled { "throttled" } else { "stopped" };
        return Err(Fault::Untested(format!(
            "{why} after {} samples; run against a server with throttle.enabled=false",
            few.millis.len()
        )));
    }
    let Some(comparison) = Comparison::of(&unknown.millis, &samples.millis) else {
        return Err(missing(kind));
    };
    let Comparison { medians, auc, allowed } = comparison;
    let seen = format!(
        "medians {:.2} ms and unknown {:.2} ms (±{allowed:.2}), AUC {auc:.3}, {} samples",
        medians.1,
        medians.0,
        samples.millis.len()
    );
    if comparison.is_alike() { Ok(seen) } else { Err(Fault::Wrong(seen)) }
}

/// Takes `wanted` samples of each kind in turns, each kind first equally often.
async fn measure(ground: &Ground, kinds: &[Kind], wanted: u32) -> Result<Vec<Samples>, Fault> {
    let mut watch = Watch { ground, connection: ground.client.connect().await? };
    for _ in 0..WARM_UP {
        watch.warm_up().await?;
    }
    let new = |kind: &Kind| Samples { kind: *kind, millis: Vec::new(), throttled: false };
    let mut all: Vec<Samples> = kinds.iter().map(new).collect();
    for round in 0..wanted {
        let turn = round as usize % all.len();
        let (later, sooner) = all.split_at_mut(turn);
        for samples in sooner.iter_mut().chain(later).filter(|samples| !samples.throttled) {
            match watch.sample(samples.kind).await? {
                Some(time) => samples.millis.push(time.as_secs_f64() * 1000.0),
                None => samples.throttled = true,
            }
        }
    }
    Ok(all)
}

struct Watch<'a> {
    ground: &'a Ground,
    connection: Connection,
}

impl Watch<'_> {
    /// One refused login of that kind; `None` when the throttle is in the way for long.
    async fn sample(&mut self, kind: Kind) -> Result<Option<Duration>, Fault> {
        for _ in 0..TRIES {
            if kind == Kind::Wrong {
                self.ground.before_a_wrong_login().await?;
            }
            let answer = self.send(&self.login(kind)?).await?;
            if is_refusal(&answer) {
                return Ok(Some(answer.took));
            }
            match answer.retry_after() {
                Some(wait) if wait <= LONGEST_WAIT => {
                    tokio::time::sleep(wait).await;
                    self.warm_up().await?;
                }
                Some(_) => return Ok(None),
                None => return Err(otherwise(&answer).with(kind.name())),
            }
        }
        Ok(None)
    }

    fn login(&self, kind: Kind) -> Result<Request, Fault> {
        let given = &self.ground.given;
        let password = nobody()?;
        Ok(match kind {
            Kind::Unknown => login(&nobody()?, &password),
            Kind::Wrong => login(&given.username, &password),
            Kind::Disabled => {
                login(given.disabled_username.as_deref().unwrap_or_default(), &password)
            }
        })
    }

    /// After a pause the first answer is late, whosever it is.
    async fn warm_up(&mut self) -> Result<(), Fault> {
        let request = self.login(Kind::Unknown)?;
        self.send(&request).await?;
        Ok(())
    }

    /// On the one connection, or a new one when the server has closed it; connecting is not measured.
    async fn send(&mut self, request: &Request) -> Result<Answer, Trouble> {
        if !self.connection.is_open().await {
            self.connection = self.ground.client.connect().await?;
        }
        self.connection.send(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(kind: Kind, count: u32, from: f64) -> Samples {
        let millis = (0..count).map(|index| from + f64::from(index) * 0.01).collect();
        Samples { kind, millis, throttled: count < 100 }
    }

    #[test]
    fn a_leak_fails_and_too_few_samples_say_so() {
        let unknown = || samples(Kind::Unknown, 200, 8.0);
        let with = |other: Samples| judge(&[unknown(), other], Kind::Disabled);
        assert!(with(samples(Kind::Disabled, 200, 8.0)).is_ok());
        assert!(matches!(with(samples(Kind::Disabled, 200, 1.0)), Err(Fault::Wrong(_))));
        let few = with(samples(Kind::Disabled, 7, 1.0));
        let Err(Fault::Untested(why)) = few else { panic!("{few:?}") };
        assert!(why.starts_with("throttled after 7 samples;"), "{why}");
    }
}
