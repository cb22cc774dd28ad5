//! Attacks on refresh tokens and sessions (contract sections 2 and 3).

mod tamper;

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::Value;

use super::client::{Answer, Trouble};
use super::forge::Compact;
use super::ground::{Ground, Pair, refresh};
use super::judgement::{
    Fault, Judgement, must_be, must_be_refused, must_be_unauthorized, must_have_status, otherwise,
};
use super::sheet::{Group, Sheet};

const GROUP: Group = Group::Refresh;
const INVALID: &str = "Invalid refresh token";
const REVOKED: &str = "Token has been revoked.";
/// How many refresh with one token at once.
const PARALLEL: usize = 20;

/// Runs the group.
pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let seen = rotation(ground).await;
    sheet.enter(GROUP, "rotation", "another pair of the same session, which works", seen);
    let seen = replay(ground).await;
    let expected = "the same refresh token and jti again (with sessions.reuse_interval 0: not so)";
    sheet.enter(GROUP, "immediate replay", expected, seen);
    let seen = parallel(ground).await;
    let expected = format!("{PARALLEL} answers with one and the same refresh token, which works");
    sheet.enter(GROUP, "parallel refreshes of one token", expected, seen);
    tampered(ground, sheet).await;
    let seen = logout(ground).await;
    let expected =
        "204; then 401 `Token has been revoked.` and 206 (or 401) `Invalid refresh token`";
    sheet.enter(GROUP, "logout ends access and refresh", expected, seen);
    let seen = logout_by_refresh_token(ground).await;
    sheet.enter(GROUP, "logout by refresh token", expected, seen);
    let seen = late_reuse(ground).await;
    let expected =
        "206 (or 401), and the whole session ended: the same and 401 `Token has been revoked.`";
    sheet.enter(GROUP, "late reuse ends the session", expected, seen);
}

/// A claim of an access token, as it stands there.
fn claim(token: &str, name: &str) -> Option<Value> {
    Compact::read(token)?.claims.get(name).cloned()
}

async fn refreshed(ground: &Ground, token: &str) -> Result<Pair, Fault> {
    Pair::of(&ground.refresh(token).await?)
}

async fn is_invalid(ground: &Ground, token: &str) -> Result<(), Fault> {
    must_be_refused(&ground.refresh(token).await?, INVALID)
}

async fn rotation(ground: &Ground) -> Judgement {
    let first = ground.login().await?;
    let second = refreshed(ground, &first.refresh_token).await?;
    if second.refresh_token == first.refresh_token {
        return Err(Fault::Wrong("the same refresh token again".to_owned()));
    }
    if claim(&second.token, "jti") == claim(&first.token, "jti") {
        return Err(Fault::Wrong("the same jti again".to_owned()));
    }
    let sessions = (claim(&first.token, "sid"), claim(&second.token, "sid"));
    if sessions.0.is_none() || sessions.0 != sessions.1 {
        return Err(Fault::Wrong("another session, or none".to_owned()));
    }
    must_have_status(&ground.me(&second.token).await?, 200)
        .map_err(|fault| fault.with("me with the new token"))?;
    refreshed(ground, &second.refresh_token).await.map_err(|fault| fault.with("the next"))?;
    Ok("rotated twice".to_owned())
}

async fn replay(ground: &Ground) -> Judgement {
    let first = ground.login().await?;
    let second = refreshed(ground, &first.refresh_token).await?;
    for _ in 0..3 {
        let again = refreshed(ground, &first.refresh_token).await?;
        let same = again.refresh_token == second.refresh_token
            && claim(&again.token, "jti") == claim(&second.token, "jti");
        if !same {
            return Err(Fault::Wrong("another pair: one token has two successors".to_owned()));
        }
    }
    refreshed(ground, &second.refresh_token).await.map_err(|fault| fault.with("the successor"))?;
    Ok("the same pair, three times".to_owned())
}

/// All connections are there before the first request is sent, so that they do race.
async fn parallel(ground: &Ground) -> Judgement {
    let pair = ground.login().await?;
    let connections = join_all((0..PARALLEL).map(|_| ground.client.connect())).await;
    let request = refresh(&pair.refresh_token);
    let mut racers = connections.into_iter().collect::<Result<Vec<_>, Trouble>>()?;
    let answers = join_all(racers.iter_mut().map(|racer| racer.send(&request))).await;
    let mut successors = HashSet::new();
    for answer in answers {
        let answer = answer?;
        // Whoever was told to come back later does so, well within the reuse interval.
        let answer = match answer.retry_after() {
            Some(_) if answer.status == 429 => ground.send(&request).await?,
            _ => answer,
        };
        successors.insert(Pair::of(&answer)?.refresh_token);
    }
    if successors.len() != 1 || successors.contains(&pair.refresh_token) {
        return Err(Fault::Wrong(format!("{} different refresh tokens", successors.len())));
    }
    for successor in successors {
        refreshed(ground, &successor).await.map_err(|fault| fault.with("the successor"))?;
    }
    Ok("one lineage".to_owned())
}

async fn tampered(ground: &Ground, sheet: &mut Sheet) {
    let expected = "206 (or 401) `Invalid refresh token`";
    let pair = match ground.login().await {
        Ok(pair) => pair,
        Err(fault) => return sheet.enter(GROUP, "tampering", expected, Err(fault)),
    };
    let families = tamper::all(&pair.refresh_token);
    if families.is_none() {
        let why = "the refresh token has another form than this version knows";
        let untested = Err(Fault::Untested(why.to_owned()));
        sheet.enter(GROUP, "tampering", expected, untested);
    }
    for (name, tampered) in families.unwrap_or_default() {
        let seen = all_invalid(ground, &tampered).await;
        sheet.enter(GROUP, name, expected, seen);
    }
    let seen = missing(ground).await;
    sheet.enter(GROUP, "empty token", "400 `missing field`", seen);
    let still = refreshed(ground, &pair.refresh_token).await;
    let still = still.map(|_| "200: no attack did it harm".to_owned());
    sheet.enter(GROUP, "genuine refresh token after all attacks", "200", still);
}

async fn all_invalid(ground: &Ground, tampered: &[tamper::Tampered]) -> Judgement {
    for (what, token) in tampered {
        is_invalid(ground, token).await.map_err(|fault| fault.with(what))?;
    }
    Ok(format!("{} tries, all refused", tampered.len()))
}

async fn missing(ground: &Ground) -> Judgement {
    must_be(&ground.refresh("").await?, 400, r#"{"refresh_token":["missing field"]}"#)?;
    Ok("400".to_owned())
}

/// The pair no longer works.
async fn is_over(ground: &Ground, pair: &Pair) -> Result<(), Fault> {
    let me = ground.me(&pair.token).await?;
    must_be_unauthorized(&me, REVOKED).map_err(|fault| fault.with("me"))?;
    is_invalid(ground, &pair.refresh_token).await.map_err(|fault| fault.with("refresh"))
}

async fn logout(ground: &Ground) -> Judgement {
    let (pair, bystander) = (ground.login().await?, ground.login().await?);
    let answer = ground.logout_by_access_token(&pair.token).await?;
    must_have_status(&answer, 204).map_err(|fault| fault.with("logout"))?;
    is_over(ground, &pair).await?;
    must_have_status(&ground.me(&bystander.token).await?, 200)
        .map_err(|fault| fault.with("another session of the user"))?;
    Ok("204, 401, refused; another session lives on".to_owned())
}

async fn logout_by_refresh_token(ground: &Ground) -> Judgement {
    let pair = ground.login().await?;
    ground.logout(&pair.refresh_token).await.map_err(|fault| fault.with("logout"))?;
    is_over(ground, &pair).await?;
    Ok("204, 401, refused".to_owned())
}

async fn late_reuse(ground: &Ground) -> Judgement {
    let Some(wait) = ground.given.reuse_wait else {
        let why = "takes its time: give --reuse-wait DURATION, more than twice \
                   sessions.reuse_interval (125s)";
        return Err(Fault::Untested(why.to_owned()));
    };
    let first = ground.login().await?;
    let second = refreshed(ground, &first.refresh_token).await?;
    super::tell(&format!("waiting {} s before a token is used too late", wait.as_secs()));
    tokio::time::sleep(wait).await;
    let late: Answer = ground.refresh(&first.refresh_token).await?;
    if late.status == 200 {
        let seen = "200: a replaced token still refreshes (was the wait more than twice \
                    sessions.reuse_interval?)";
        return Err(Fault::Wrong(seen.to_owned()));
    }
    must_be_refused(&late, INVALID).map_err(|_| otherwise(&late))?;
    is_over(ground, &second).await.map_err(|fault| fault.with("the successor"))?;
    must_be_unauthorized(&ground.me(&first.token).await?, REVOKED)?;
    Ok("refused, and the session is over".to_owned())
}
