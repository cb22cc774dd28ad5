//! Every place of the server that takes an access token.

use serde_json::json;

use super::REFUSED;
use crate::cli::selftest::client::{Answer, Request, Trouble, get, post};
use crate::cli::selftest::ground::{FORWARD_AUTH, Ground, ME, VERIFY};
use crate::cli::selftest::judgement::{Fault, must_be_unauthorized, otherwise};

/// Proxies refuse longer header lines by themselves.
const PROXY_LINE: usize = 4000;

/// A place that takes an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// In `Authorization`.
    Me,
    /// In `Authorization`, for proxies; a proxy may keep it from the outside.
    ForwardAuth,
    /// In the body.
    Verify,
}

impl Door {
    /// Its path.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Me => ME,
            Self::ForwardAuth => FORWARD_AUTH,
            Self::Verify => VERIFY,
        }
    }

    /// Whether it reads `Authorization`.
    pub(super) fn reads_header(self) -> bool {
        self != Self::Verify
    }

    /// Headers carry one word of visible ASCII; anything else would be another fault than the token's.
    pub(super) fn can_carry(self, token: &str) -> bool {
        !self.reads_header() || token.bytes().all(|byte| byte.is_ascii_graphic())
    }

    fn request(self, token: &str) -> Request {
        match self {
            Self::Me | Self::ForwardAuth => get(self.path()).jwt(token),
            Self::Verify => post(VERIFY).json(&json!({ "token": token })),
        }
    }

    /// Presents a token.
    pub(super) async fn present(self, ground: &Ground, token: &str) -> Result<Answer, Trouble> {
        ground.send(&self.request(token)).await
    }

    /// Presents a token that is none.
    pub(super) async fn must_refuse(self, ground: &Ground, token: &str) -> Result<(), Fault> {
        let answer = self.present(ground, token).await?;
        let long = self.reads_header() && token.len() > PROXY_LINE;
        // 494 is nginx's own, which it sends as 400.
        if long && matches!(answer.status, 400 | 413 | 414 | 431 | 494) {
            return Ok(());
        }
        must_be_unauthorized(&answer, REFUSED)
    }
}

/// The doors that a genuine token opens. `/api/v1/me/` and `/api/v1/token-verify/` must be among them.
pub(super) async fn open(ground: &Ground, token: &str) -> Result<Vec<Door>, Fault> {
    let mut doors = Vec::new();
    for door in [Door::Me, Door::Verify, Door::ForwardAuth] {
        let answer = door.present(ground, token).await?;
        match (door, answer.status) {
            (_, 200) => doors.push(door),
            // Many proxies do not show this one to the outside.
            (Door::ForwardAuth, 403 | 404) => {}
            _ => return Err(otherwise(&answer).with(door.path())),
        }
    }
    Ok(doors)
}
