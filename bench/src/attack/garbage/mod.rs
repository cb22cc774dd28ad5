//! Malformed requests, made from a seed: the same number is the same request in every run.
//!
//! None of them is a login that could reach hashing, or a million of them would take hours.

mod bodies;
mod heads;
mod tokens;

use super::dice::Dice;

/// What must come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// One answer: where the request ends is beyond doubt. The connection can go on.
    Answer,
    /// An answer or the end of the connection.
    Refusal,
    /// The same, but the server may wait for more: it is told that nothing more comes.
    HangUp,
}

/// A malformed request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// What is wrong with it.
    pub(crate) kind: &'static str,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
    /// What must come of it.
    pub(crate) then: Then,
    /// It must not be granted whatever it asks for: it carries a token that is none.
    pub(crate) refused: bool,
}

/// Genuine tokens, to be broken.
#[derive(Clone)]
pub(crate) struct Tokens {
    /// An access token.
    pub(crate) access: String,
    /// A refresh token.
    pub(crate) refresh: String,
}

/// Makes a request of one kind.
type Maker = fn(&mut Dice, &Tokens) -> (Vec<u8>, Then);

const VERIFY: &str = "/api/v1/token-verify/";
const REFRESH: &str = "/api/v1/token-refresh/";

/// The request of that number.
pub(crate) fn case(seed: u64, number: u32, tokens: &Tokens) -> Case {
    let mut dice = Dice::new(seed, number.into());
    let (harmless, broken) = (heads::KINDS.len() + bodies::KINDS.len(), tokens::KINDS.len());
    let roll = dice.below(harmless + broken);
    let mut kinds = heads::KINDS.iter().chain(bodies::KINDS).chain(tokens::KINDS);
    let unreachable: &(&str, Maker) = &("nothing", |_, _| (Vec::new(), Then::HangUp));
    let (kind, make) = kinds.nth(roll).unwrap_or(unreachable);
    let (bytes, then) = make(&mut dice, tokens);
    Case { kind, bytes, then, refused: roll >= harmless }
}

/// A request with a body whose length is stated as it is.
fn with_body(method: &str, path: &str, header_lines: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{header_lines}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Some bytes that break neither a line nor a head.
fn line_bytes(dice: &mut Dice, count: usize) -> Vec<u8> {
    let mut bytes = dice.bytes(count);
    bytes.retain(|byte| !b"\r\n".contains(byte));
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn tokens() -> Tokens {
        Tokens {
            access: format!(
                "eyJhbGciOiJFUzI1NiJ9.{}.{}",
                "eyJzdWIiOiI3In0".repeat(9),
                "c2ln".repeat(21)
            ),
            refresh: format!("pmr1_{}", "AbCd0123".repeat(16)),
        }
    }

    #[test]
    fn the_same_number_is_the_same_request_and_another_seed_another() {
        let tokens = tokens();
        for number in 0..5_000 {
            assert_eq!(case(1, number, &tokens), case(1, number, &tokens), "{number}");
        }
        let differ = (0..100).filter(|n| case(1, *n, &tokens) != case(2, *n, &tokens)).count();
        assert!(differ > 95, "{differ}");
    }

    #[test]
    fn every_kind_comes_up_and_varies() {
        let tokens = tokens();
        let mut kinds: BTreeMap<&str, HashSet<Vec<u8>>> = BTreeMap::new();
        for number in 0..20_000 {
            let case = case(3, number, &tokens);
            kinds.entry(case.kind).or_default().insert(case.bytes);
        }
        let all = heads::KINDS.len() + bodies::KINDS.len() + tokens::KINDS.len();
        assert_eq!(kinds.len(), all, "two kinds of one name?");
        for (kind, requests) in &kinds {
            assert!(requests.len() >= 5, "{kind}: {} different ones", requests.len());
        }
    }

    #[test]
    fn nothing_could_be_a_login() {
        let tokens = tokens();
        for number in 0..50_000 {
            let case = case(4, number, &tokens);
            let text = String::from_utf8_lossy(&case.bytes);
            let login = text.contains("token-auth") && text.contains("username");
            if case.then == Then::Answer && login {
                assert!(
                    ["password twice", "neither text nor integer", "no password"]
                        .contains(&case.kind),
                    "{}: {text}",
                    case.kind
                );
            }
        }
    }

    #[test]
    fn what_must_be_answered_states_where_it_ends() {
        let tokens = tokens();
        for number in 0..50_000 {
            let case = case(5, number, &tokens);
            if case.then != Then::Answer {
                continue;
            }
            let end = memchr::memmem::find(&case.bytes, b"\r\n\r\n").expect(case.kind) + 4;
            let head = std::str::from_utf8(&case.bytes[..end]).expect(case.kind);
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length = length.map_or(0, |length| length.parse().expect(case.kind));
            assert_eq!(case.bytes.len() - end, length, "{}: {head}", case.kind);
        }
    }

    #[test]
    fn no_broken_token_is_the_genuine_one() {
        let tokens = tokens();
        for number in 0..50_000 {
            let case = case(6, number, &tokens);
            if case.refused {
                let text = String::from_utf8_lossy(&case.bytes).into_owned();
                let words =
                    || text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.=".contains(c)));
                let genuine = |word: &str| word == tokens.access || word == tokens.refresh;
                let once = words().filter(|word| genuine(word)).count();
                // Where a genuine one is, something else is wrong.
                let elsewhere = ["two authorizations", "a strange scheme"].contains(&case.kind);
                assert!(once == 0 || elsewhere, "{}: {text}", case.kind);
            }
        }
    }
}
