//! Whether a login tells which users exist, by its answer (here) or by its time (`timing`).

mod timing;

use hyper::HeaderMap;

use super::client::Answer;
use super::ground::{Ground, login, nobody};
use super::judgement::{Fault, Judgement, describe, must_be_refused, otherwise};
use super::sheet::{Group, Sheet};

const GROUP: Group = Group::Enumeration;
/// What every refused login says.
const REFUSED: &str = "Unable to login with provided credential";

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No such user.
    Unknown,
    /// The real user, a wrong password.
    Wrong,
    /// A disabled user.
    Disabled,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown user",
            Self::Wrong => "wrong password",
            Self::Disabled => "disabled user",
        }
    }
}

/// Whether an answer is the documented refusal: 206, or the 401 that an operator may ask for.
fn is_refusal(answer: &Answer) -> bool {
    must_be_refused(answer, REFUSED).is_ok()
}

/// Runs the group.
pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let expected = "206 (or 401) with the documented body, and the headers of an unknown user";
    let unknown = match Reference::ask(ground).await {
        Ok(reference) => {
            let seen = describe(&reference.answer);
            sheet.enter(GROUP, "answer: unknown user", expected, Ok(seen));
            reference
        }
        Err(fault) => return sheet.enter(GROUP, "answer: unknown user", expected, Err(fault)),
    };
    // Without a login that works, `wrong password` would only be another unknown user.
    let known = ground.login().await;
    let seen = match &known {
        Ok(_) => same(ground, Kind::Wrong, &ground.given.username, &unknown).await,
        Err(fault) => Err(fault.clone()),
    };
    sheet.enter(GROUP, "answer: wrong password", expected, seen);
    let seen = almost(ground, &unknown).await;
    sheet.enter(GROUP, "answer: name in another case", expected, seen);
    let seen = match &ground.given.disabled_username {
        Some(name) => same(ground, Kind::Disabled, name, &unknown).await,
        None => Err(Fault::Untested("give --disabled-username NAME".to_owned())),
    };
    sheet.enter(GROUP, "answer: disabled user", expected, seen);
    timing::run(ground, sheet, known.is_ok()).await;
}

/// What an unknown user is told, and which headers differ from answer to answer anyway.
struct Reference {
    answer: Answer,
    varying: Vec<String>,
}

impl Reference {
    async fn ask(ground: &Ground) -> Result<Self, Fault> {
        let first = ground.send(&login(&nobody()?, &nobody()?)).await?;
        let second = ground.send(&login(&nobody()?, &nobody()?)).await?;
        if !is_refusal(&first) {
            return Err(otherwise(&first));
        }
        let mut varying = vec!["date".to_owned(), "x-request-id".to_owned()];
        for name in first.headers.keys() {
            if first.headers.get(name) != second.headers.get(name) {
                varying.push(name.to_string());
            }
        }
        Ok(Self { answer: first, varying })
    }

    /// Names of headers with their values; of those that vary anyway only the names.
    fn comparable(&self, headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            let varies = self.varying.iter().any(|varying| varying == name.as_str());
            let value =
                if varies { "…".into() } else { String::from_utf8_lossy(value.as_bytes()) };
            format!("{name}: {value}")
        };
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    fn judge(&self, answer: &Answer) -> Judgement {
        if answer.status != self.answer.status || answer.body != self.answer.body {
            return Err(otherwise(answer));
        }
        let (here, there) =
            (self.comparable(&answer.headers), self.comparable(&self.answer.headers));
        let extra = here.iter().find(|line| !there.contains(line));
        let lacking = there.iter().find(|line| !here.contains(line));
        match (extra, lacking) {
            (None, None) if here.len() == there.len() => Ok("the same".to_owned()),
            (Some(line), _) => Err(Fault::Wrong(format!("the header `{line}`"))),
            (_, Some(line)) => Err(Fault::Wrong(format!("no header `{line}`"))),
            _ => Err(Fault::Wrong("a header more often".to_owned())),
        }
    }
}

async fn same(ground: &Ground, kind: Kind, name: &str, unknown: &Reference) -> Judgement {
    if kind == Kind::Wrong {
        ground.before_a_wrong_login().await?;
    }
    unknown.judge(&ground.send(&login(name, &nobody()?)).await?)
}

/// The right password under almost the right name.
async fn almost(ground: &Ground, unknown: &Reference) -> Judgement {
    let name = &ground.given.username;
    let mut other = name.to_uppercase();
    if other == *name {
        other = name.to_lowercase();
    }
    if other == *name {
        return Err(Fault::Untested("the name has no letters".to_owned()));
    }
    unknown.judge(&ground.send(&login(&other, ground.given.password.expose())).await?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Answer {
            status,
            headers: map,
            body: format!(r#"{{"error":"{REFUSED}"}}"#),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_header_more_less_or_other_is_seen_and_one_that_varies_is_not() {
        let plain = [("date", "now"), ("vary", "Origin"), ("x-trace", "1")];
        let varying = vec!["date".to_owned(), "x-trace".to_owned()];
        let reference = Reference { answer: answer(206, &plain), varying };
        let judge = |status, headers| reference.judge(&answer(status, headers)).is_ok();
        assert!(judge(206, &plain));
        assert!(judge(206, &[("date", "then"), ("vary", "Origin"), ("x-trace", "2")]));
        assert!(!judge(401, &plain));
        assert!(!judge(206, &[("date", "now"), ("vary", "Origin")]));
        assert!(!judge(206, &[("date", "now"), ("vary", "Accept"), ("x-trace", "1")]));
        let twice = [("date", "now"), ("vary", "Origin"), ("vary", "Origin"), ("x-trace", "1")];
        assert!(!judge(206, &twice));
    }
}
