//! What one connection of the load generator says next: the same requests in a round, or a chain
//! in which each request carries the refresh token of the answer before.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use crate::http;

/// How an answer names the access token, in the compact JSON of the contract.
const TOKEN_KEY: &[u8] = br#""token":""#;
/// How a body names its refresh token, in the compact JSON of the contract.
const REFRESH_KEY: &[u8] = br#""refresh_token":""#;
/// Where refresh tokens are exchanged.
const REFRESH_PATH: &str = "/api/v1/token-refresh/";

/// The access token in the answer to a login or a refresh.
pub(crate) fn access_token(body: &[u8]) -> Result<&str> {
    let token = http::scan_string(body, TOKEN_KEY).context("an answer without a token")?;
    std::str::from_utf8(token).context("a token that is no text")
}

/// One connection's part of the conversation.
pub(crate) trait Script {
    /// The bytes to send next.
    fn request(&self) -> &[u8];

    /// Takes the body of an expected answer and makes the next request.
    fn answered(&mut self, body: &[u8]) -> Result<()>;
}

/// The same requests over and over.
pub(crate) struct Round {
    requests: Vec<Vec<u8>>,
    next: usize,
    whole: usize,
}

impl Round {
    /// A round of the given requests.
    pub(crate) fn new(requests: Vec<Vec<u8>>) -> Self {
        Self { requests, next: 0, whole: 0 }
    }

    /// How often all of them have been answered.
    pub(crate) fn whole_rounds(&self) -> usize {
        self.whole
    }
}

impl Script for Round {
    fn request(&self) -> &[u8] {
        self.requests.get(self.next).map(Vec::as_slice).unwrap_or_default()
    }

    fn answered(&mut self, _body: &[u8]) -> Result<()> {
        self.next = (self.next + 1) % self.requests.len().max(1);
        self.whole += usize::from(self.next == 0);
        Ok(())
    }
}

/// A session that refreshes its current refresh token, each time with the one just received.
pub(crate) struct RefreshChain {
    request: Vec<u8>,
    token: Range<usize>,
}

impl RefreshChain {
    /// A chain that starts with the refresh token in `body`, the answer to a login.
    pub(crate) fn from_login(body: &[u8]) -> Result<Self> {
        let token = http::scan_string(body, REFRESH_KEY).context("an answer without a token")?;
        Self::with_token(token)
    }

    fn with_token(token: &[u8]) -> Result<Self> {
        let token = std::str::from_utf8(token).context("a token that is not text")?;
        let request = http::post_json(REFRESH_PATH, &format!(r#"{{"refresh_token":"{token}"}}"#));
        let end = request.len() - 2; // before `"}`
        Ok(Self { token: end - token.len()..end, request })
    }
}

impl Script for RefreshChain {
    fn request(&self) -> &[u8] {
        &self.request
    }

    fn answered(&mut self, body: &[u8]) -> Result<()> {
        let token = http::scan_string(body, REFRESH_KEY).context("an answer without a token")?;
        let place = self.request.get_mut(self.token.clone()).unwrap_or_default();
        // The same token again would be a replayed answer: nothing was written for it, and
        // counting it as a refresh would flatter the server.
        ensure!(place != token, "the refresh token was not rotated");
        if place.len() == token.len() {
            place.copy_from_slice(token);
        } else {
            *self = Self::with_token(token)?;
        }
        Ok(())
    }
}

/// Several chains on one connection, each in its turn.
pub(crate) struct Chains {
    chains: Vec<RefreshChain>,
    next: usize,
}

impl Chains {
    /// Takes the given chains in turn.
    pub(crate) fn new(chains: Vec<RefreshChain>) -> Self {
        Self { chains, next: 0 }
    }
}

impl Script for Chains {
    fn request(&self) -> &[u8] {
        self.chains.get(self.next).map(Script::request).unwrap_or_default()
    }

    fn answered(&mut self, body: &[u8]) -> Result<()> {
        self.chains.get_mut(self.next).context("no chain")?.answered(body)?;
        self.next = (self.next + 1) % self.chains.len();
        Ok(())
    }
}

/// Chains that keep the access tokens they are given, as requests that show them.
pub(crate) struct Collecting {
    chains: Chains,
    path: &'static str,
    most: usize,
    requests: Vec<Vec<u8>>,
}

impl Collecting {
    /// Keeps `most` of the tokens that `chains` are given, for requests of `path`.
    pub(crate) fn new(chains: Chains, path: &'static str, most: usize) -> Self {
        Self { chains, path, most, requests: Vec::with_capacity(most) }
    }

    /// Whether it has all it wants.
    pub(crate) fn is_full(&self) -> bool {
        self.requests.len() >= self.most
    }

    /// The requests as a round.
    pub(crate) fn into_round(self) -> Round {
        Round::new(self.requests)
    }
}

impl Script for Collecting {
    fn request(&self) -> &[u8] {
        self.chains.request()
    }

    fn answered(&mut self, body: &[u8]) -> Result<()> {
        if !self.is_full() {
            let token = access_token(body)?;
            self.requests.push(http::get(self.path, Some(&format!("JWT {token}"))));
        }
        self.chains.answered(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_sends_the_token_it_was_last_given() {
        let mut chain = RefreshChain::from_login(br#"{"refresh_token":"one"}"#).unwrap();
        assert!(chain.request().ends_with(b"\r\n\r\n{\"refresh_token\":\"one\"}"));
        chain.answered(br#"{"token":"t","refresh_token":"two","x":1}"#).unwrap();
        assert!(chain.request().ends_with(b"\r\n\r\n{\"refresh_token\":\"two\"}"));
        chain.answered(br#"{"refresh_token":"three"}"#).unwrap();
        let request = String::from_utf8(chain.request().to_vec()).unwrap();
        assert!(request.ends_with("Content-Length: 25\r\n\r\n{\"refresh_token\":\"three\"}"));
    }

    #[test]
    fn a_chain_refuses_an_answer_that_rotated_nothing() {
        let mut chain = RefreshChain::from_login(br#"{"refresh_token":"one"}"#).unwrap();
        assert!(chain.answered(br#"{"refresh_token":"one"}"#).is_err());
        assert!(chain.answered(br#"{"error":"Invalid refresh token"}"#).is_err());
    }

    #[test]
    fn chains_take_turns_and_keep_their_own_tokens() {
        let chain = |token: &str| RefreshChain::with_token(token.as_bytes()).unwrap();
        let mut chains = Chains::new(vec![chain("a0"), chain("b0")]);
        for (current, answer) in [("a0", "a1"), ("b0", "b1"), ("a1", "a2"), ("b1", "b2")] {
            assert!(chains.request().ends_with(format!("\"{current}\"}}").as_bytes()));
            chains.answered(format!(r#"{{"refresh_token":"{answer}"}}"#).as_bytes()).unwrap();
        }
    }

    #[test]
    fn collecting_keeps_as_many_access_tokens_as_it_wants() {
        let chain = RefreshChain::with_token(b"r0").unwrap();
        let mut collecting = Collecting::new(Chains::new(vec![chain]), "/path", 2);
        for number in 1..4 {
            assert_eq!(collecting.is_full(), number > 2);
            let body = format!(r#"{{"token":"t{number}","refresh_token":"r{number}"}}"#);
            collecting.answered(body.as_bytes()).unwrap();
        }
        let round = collecting.into_round();
        assert_eq!(round.requests.len(), 2);
        let first = String::from_utf8(round.requests[0].clone()).unwrap();
        assert!(first.starts_with("GET /path ") && first.contains("JWT t1\r\n"), "{first}");
    }

    #[test]
    fn a_round_comes_back_to_its_first_request() {
        let mut round = Round::new(vec![b"a".to_vec(), b"b".to_vec()]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend_from_slice(round.request());
            round.answered(b"").unwrap();
        }
        assert_eq!(seen, b"aba");
        assert_eq!(round.whole_rounds(), 1);
    }
}
