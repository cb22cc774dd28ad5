//! What all attacks stand on: the server, a user of it, and the calls that most checks begin with.
//!
//! Sessions that were begun here are ended at the end; those of the user that were there before are
//! left alone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::client::{Answer, Client, Request, Trouble, get, post};
use super::judgement::{Fault, must_have_status, otherwise};
use crate::crypto::random;
use crate::domain::secret::Password;

/// Where to log in.
pub(super) const LOGIN: &str = "/api/v1/token-auth/";
/// Where to refresh.
pub(super) const REFRESH: &str = "/api/v1/token-refresh/";
/// Where to verify.
pub(super) const VERIFY: &str = "/api/v1/token-verify/";
/// What answers to an access token.
pub(super) const ME: &str = "/api/v1/me/";
/// What answers to an access token for proxies.
pub(super) const FORWARD_AUTH: &str = "/forward-auth";
/// The public keys.
pub(super) const JWKS: &str = "/.well-known/jwks.json";
const LOGOUT: &str = "/api/v1/logout/";

/// Wrong logins of one user that no throttle minds (contract section 6), less one to be on the safe
/// side.
const FREE_FAILURES: u32 = 4;
/// A throttle that asks for more than this is not waited out.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often one request waits.
const MOST_WAITS: usize = 10;

/// An access token with its refresh token.
#[derive(Clone)]
pub(super) struct Pair {
    /// The access token.
    pub(super) token: String,
    /// The refresh token.
    pub(super) refresh_token: String,
}

impl Pair {
    /// From a 200 of login or refresh.
    pub(super) fn of(answer: &Answer) -> Result<Self, Fault> {
        must_have_status(answer, 200)?;
        match (answer.text("token"), answer.text("refresh_token")) {
            (Some(token), Some(refresh_token)) => Ok(Self { token, refresh_token }),
            _ => Err(otherwise(answer)),
        }
    }
}

/// What the command line gave.
pub(super) struct Given {
    /// A user of the server.
    pub(super) username: String,
    /// Its password.
    pub(super) password: Password,
    /// A disabled user of the server.
    pub(super) disabled_username: Option<String>,
    /// How many samples of each kind the timing takes.
    pub(super) samples: u32,
    /// How long to wait before a refresh token is used too late.
    pub(super) reuse_wait: Option<Duration>,
}

/// See the module.
pub(super) struct Ground {
    /// Speaks to the server.
    pub(super) client: Client,
    /// What the command line gave.
    pub(super) given: Given,
    begun: Mutex<Vec<String>>,
    failures: AtomicU32,
}

impl Ground {
    /// Nothing is sent yet.
    pub(super) fn new(client: Client, given: Given) -> Self {
        Self { client, given, begun: Mutex::new(Vec::new()), failures: AtomicU32::new(0) }
    }

    /// Sends, and waits where the server asks to come back soon (429, 503).
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Trouble> {
        for _ in 0..MOST_WAITS {
            let answer = self.client.send(request).await?;
            match answer.retry_after() {
                Some(wait) if wait <= PATIENCE => tokio::time::sleep(wait).await,
                _ => return Ok(answer),
            }
        }
        self.client.send(request).await
    }

    /// The user's login with the right password.
    pub(super) async fn try_login(&self) -> Result<Answer, Trouble> {
        let Given { username, password, .. } = &self.given;
        self.send(&login(username, password.expose())).await
    }

    /// Ends the session that a login began, if it did.
    pub(super) async fn end(&self, login: &Answer) {
        if let Some(token) = login.text("refresh_token") {
            // What is not ended now, is when all are.
            self.begun.lock().push(token.clone());
            drop(self.logout(&token).await);
        }
    }

    /// A session of its own for a check. A refusal is no finding, it only leaves the check untested.
    pub(super) async fn login(&self) -> Result<Pair, Fault> {
        let answer = self.try_login().await.map_err(Fault::from);
        let pair = answer.and_then(|answer| Pair::of(&answer));
        let pair = pair.map_err(|fault| fault.with("cannot log in").into_untested())?;
        self.failures.store(0, Ordering::Relaxed);
        self.begun.lock().push(pair.refresh_token.clone());
        Ok(pair)
    }

    /// To be called before each login of the real user with a wrong password: a right one in time
    /// keeps the user clear of the throttle.
    pub(super) async fn before_a_wrong_login(&self) -> Result<(), Fault> {
        if self.failures.load(Ordering::Relaxed) >= FREE_FAILURES {
            let pair = self.login().await?;
            self.logout(&pair.refresh_token).await?;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Refreshes with that token.
    pub(super) async fn refresh(&self, token: &str) -> Result<Answer, Trouble> {
        self.send(&refresh(token)).await
    }

    /// `/api/v1/me/` with that access token.
    pub(super) async fn me(&self, token: &str) -> Result<Answer, Trouble> {
        self.send(&get(ME).jwt(token)).await
    }

    /// Ends the session of a refresh token.
    pub(super) async fn logout(&self, refresh_token: &str) -> Result<(), Fault> {
        let request = post(LOGOUT).json(&json!({ "refresh_token": refresh_token }));
        must_have_status(&self.send(&request).await?, 204)?;
        self.begun.lock().retain(|token| token != refresh_token);
        Ok(())
    }

    /// Ends the session of an access token, as its holder would.
    pub(super) async fn logout_by_access_token(&self, token: &str) -> Result<Answer, Trouble> {
        self.send(&post(LOGOUT).jwt(token)).await
    }

    /// The keys of the JWKS, as they are served.
    pub(super) async fn public_keys(&self) -> Result<Vec<Value>, Fault> {
        let answer = self.send(&get(JWKS)).await?;
        must_have_status(&answer, 200)?;
        let set: Option<Value> = serde_json::from_str(&answer.body).ok();
        let keys = set.and_then(|set| set.get("keys")?.as_array().cloned());
        keys.ok_or_else(|| otherwise(&answer))
    }

    /// Clears the user's count of wrong logins and ends what was begun; how many sessions could not be.
    pub(super) async fn leave(&self) -> usize {
        if self.failures.load(Ordering::Relaxed) > 0 {
            // If it cannot be cleared, the count is forgotten in a day.
            drop(self.login().await);
        }
        let begun = std::mem::take(&mut *self.begun.lock());
        let mut left = 0;
        for token in begun {
            left += usize::from(self.logout(&token).await.is_err());
        }
        left
    }
}

/// A login.
pub(super) fn login(username: &str, password: &str) -> Request {
    post(LOGIN).json(&json!({ "username": username, "password": password }))
}

/// A refresh.
pub(super) fn refresh(token: &str) -> Request {
    post(REFRESH).json(&json!({ "refresh_token": token }))
}

/// A name or password of 16 characters that nobody has.
pub(super) fn nobody() -> Result<String, Fault> {
    let bytes = random::bytes::<8>().map_err(|error| Fault::Untested(error.to_string()))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}
