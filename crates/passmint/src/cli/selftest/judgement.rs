//! How a check comes out, and the comparisons that most checks are made of.

use super::client::{Answer, Trouble};

/// What was seen when the server behaved as expected; otherwise why it did not, or could not be asked.
pub(super) type Judgement = Result<String, Fault>;

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server did something else: what was seen.
    Wrong(String),
    /// The check could not be made: why.
    Untested(String),
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unsendable(_) => Self::Untested(trouble.to_string()),
            trouble => Self::Wrong(trouble.to_string()),
        }
    }
}

impl Fault {
    /// The same, with what was tried in front.
    pub(super) fn with(self, tried: &str) -> Self {
        match self {
            Self::Wrong(seen) => Self::Wrong(format!("{tried}: {seen}")),
            Self::Untested(why) => Self::Untested(format!("{tried}: {why}")),
        }
    }

    /// The same for something that a check only needs, but is not about.
    pub(super) fn into_untested(self) -> Self {
        match self {
            Self::Wrong(why) | Self::Untested(why) => Self::Untested(why),
        }
    }
}

/// An answer in a few words for the sheet: no control characters, no token.
pub(super) fn describe(answer: &Answer) -> String {
    const LONGEST: usize = 120;
    let body = conceal(&answer.body);
    let mut shown: String = body.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if body.chars().count() > LONGEST {
        shown.push('…');
    }
    let kind = answer.header("content-type").unwrap_or("no content type");
    match shown.is_empty() {
        true => format!("{} without a body", answer.status),
        false if kind.starts_with("application/json") => format!("{} {shown}", answer.status),
        false => format!("{} ({kind}) {shown}", answer.status),
    }
}

/// The text with what looks like a token cut short: a sheet is passed on.
fn conceal(text: &str) -> String {
    let piece = |piece: &str| -> String {
        for start in ["eyJ", "pmr1_"] {
            if piece.starts_with(start) {
                return format!("{start}…");
            }
        }
        piece.to_owned()
    };
    text.split('"').map(piece).collect::<Vec<_>>().join("\"")
}

/// Exactly that status and body.
pub(super) fn must_be(answer: &Answer, status: u16, body: &str) -> Result<(), Fault> {
    if answer.status == status && answer.body == body {
        return Ok(());
    }
    Err(otherwise(answer))
}

/// That status, whatever the body.
pub(super) fn must_have_status(answer: &Answer, status: u16) -> Result<(), Fault> {
    if answer.status == status { Ok(()) } else { Err(otherwise(answer)) }
}

/// A 401 with that text under both keys, as the contract writes it.
pub(super) fn must_be_unauthorized(answer: &Answer, text: &str) -> Result<(), Fault> {
    must_be(answer, 401, &format!(r#"{{"error":"{text}","detail":"{text}"}}"#))
}

/// A refused login or refresh: 206, or 401 where the operator wants that
/// (`api.invalid_credentials_status`).
pub(super) fn must_be_refused(answer: &Answer, text: &str) -> Result<(), Fault> {
    if answer.status == 401 {
        return must_be_unauthorized(answer, text);
    }
    must_be(answer, 206, &format!(r#"{{"error":"{text}"}}"#))
}

/// Something else than expected: a fault of the server, unless it only asks to stay away for long.
pub(super) fn otherwise(answer: &Answer) -> Fault {
    match (answer.status, answer.retry_after()) {
        (429, Some(wait)) => Fault::Untested(format!(
            "throttled for {} s; run against a server with throttle.enabled=false",
            wait.as_secs()
        )),
        _ => Fault::Wrong(describe(answer)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let headers = HeaderMap::new();
        Answer { status, headers, body: body.to_owned(), took: Duration::ZERO }
    }

    #[test]
    fn tokens_are_not_shown() {
        let body = r#"{"token":"eyJhbGciOi.eyJzdWIi.sig","refresh_token":"pmr1_AAAAsecret"}"#;
        let shown = describe(&answer(200, body));
        assert!(shown.contains(r#""token":"eyJ…""#), "{shown}");
        assert!(!shown.contains("sig") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_long_wait_is_not_held_against_the_server() {
        let mut throttled = answer(429, r#"{"error":"Too many attempts"}"#);
        assert!(matches!(otherwise(&throttled), Fault::Wrong(_)), "no Retry-After");
        throttled.headers.insert("retry-after", hyper::header::HeaderValue::from_static("900"));
        assert!(matches!(otherwise(&throttled), Fault::Untested(_)));
    }
}
