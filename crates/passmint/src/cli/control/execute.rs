//! Does what a command asks for, and shows the outcome as JSON.

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};

use super::request::{AuditPage, Request, UserSet};
use crate::config::{Config, Effective};
use crate::domain::audit::{Actor, AuditRecord, ChainLink};
use crate::domain::key::KeyUse;
use crate::domain::moment::Moment;
use crate::domain::secret::{Password, SecretBytes};
use crate::domain::session::{EndReason, Session, SessionId};
use crate::domain::time::Timestamp;
use crate::domain::user::{User, UserId};
use crate::service::Services;
use crate::service::session::SessionPage;
use crate::service::user::{AddUser, SetUser, UserError};
use crate::store::sqlite::SqliteStore;
use crate::store::{AuditQuery, StoredKey};

pub(super) async fn execute(services: &Services, request: Request) -> Result<Value> {
    match request {
        Request::UserAdd { .. }
        | Request::UserList { .. }
        | Request::UserShow { .. }
        | Request::UserSet(_)
        | Request::UserPassword { .. }
        | Request::UserEnable { .. }
        | Request::UserDisable { .. }
        | Request::UserDelete { .. }
        | Request::UserUnlock { .. }
        | Request::UserImport { .. }
        | Request::UserImportCheck { .. } => user(services, request).await,
        Request::SessionList { .. }
        | Request::SessionEnd { .. }
        | Request::SessionEndAll { .. }
        | Request::SessionExplain { .. } => session(services, request).await,
        Request::KeyList
        | Request::KeyRotate { .. }
        | Request::KeyRevoke { .. }
        | Request::KeyImport { .. }
        | Request::KeyReseal { .. } => key(services, request).await,
        Request::AuditList(page) => audit_page(services, page).await,
        Request::AuditVerify { noted } => {
            let read = |(number, hash): (i64, String)| {
                let hint = "what was noted is no number and hash: give NUMBER:HASH";
                ChainLink::read(number, &hash).context(hint)
            };
            let whole = services.audit.verify(noted.map(read).transpose()?).await?;
            Ok(json!({
                "records": whole.to.sequence - whole.from.sequence,
                "first": whole.from.sequence + 1,
                "sequence": whole.to.sequence,
                "hash": whole.to.hex(),
            }))
        }
        Request::DatabaseVersion => Ok(json!(SqliteStore::newest_version())),
        Request::Settings => Ok(json!({
            "settings": show_settings(&services.settings.load()),
            "reload_failed": services.parts.reload_failed.lock().clone(),
            "certificate_until": services.metrics.certificate_until().map(Timestamp::iso8601),
            "clock_trusted": services.parts.clock_guard.lock().may_destroy(),
        })),
        Request::StoreCheck => Ok(services.parts.check_store().await.map(|()| Value::Null)?),
    }
}

async fn user(services: &Services, request: Request) -> Result<Value> {
    let users = &services.users;
    match request {
        Request::UserAdd { name, email, roles, password } => {
            let password = password.map(Password::new);
            let add = AddUser { username: name, email, roles, password };
            let (id, generated) = users.add(add).await?;
            Ok(json!({ "id": id.0, "password": generated }))
        }
        Request::UserList { after, limit } => {
            let users = users.list(after.map(UserId), limit).await?;
            let full = users.len() >= limit as usize;
            let next = users.last().filter(|_| full).map(|user| user.id.0);
            let shown: Vec<Value> = users.iter().map(show_user).collect();
            Ok(json!({ "users": shown, "next": next }))
        }
        Request::UserShow { name } => {
            let mut shown = show_user(&users.find(&name).await?);
            if let Value::Object(fields) = &mut shown {
                fields.insert("held_back".to_owned(), show_lockouts(services, &name));
            }
            Ok(shown)
        }
        Request::UserUnlock { name } => Ok(json!({ "had_failures": users.unlock(&name).await? })),
        Request::UserImport { users: imported } => Ok(json!(users.import(imported).await?)),
        Request::UserImportCheck { users: imported } => {
            Ok(json!(users.import_check(imported).await?))
        }
        Request::UserSet(set) => {
            let UserSet { name, email, first_name, last_name, roles, claims } = *set;
            let set = SetUser { email, first_name, last_name, roles, claims };
            users.set(&name, set).await?;
            Ok(show_user(&users.find(&name).await?))
        }
        Request::UserPassword { name, password, generated } => {
            let password = Password::new(password);
            if generated {
                users.set_generated_password(&name, password).await?;
            } else {
                users.set_password(&name, password).await?;
            }
            Ok(Value::Null)
        }
        Request::UserEnable { name } => Ok(users.enable(&name).await.map(|()| Value::Null)?),
        Request::UserDisable { name } => Ok(users.disable(&name).await.map(|()| Value::Null)?),
        Request::UserDelete { name } => Ok(users.delete(&name).await.map(|()| Value::Null)?),
        _ => Err(anyhow!("not about users")),
    }
}

async fn session(services: &Services, request: Request) -> Result<Value> {
    let sessions = &services.sessions;
    match request {
        Request::SessionList { name, ended } => {
            let user = services.users.find(&name).await?;
            let listed = sessions
                .of_user(user.id, SessionPage { ended, before: None, limit: u32::MAX })
                .await?;
            Ok(listed.iter().map(show_session).collect())
        }
        Request::SessionEnd { id } => {
            let id = parse_session(&id)?;
            let ended = sessions.end(id, EndReason::Admin, Actor::Operator).await?;
            if !ended && sessions.find(id).await?.is_none() {
                return Err(unknown_session(&id.to_string()));
            }
            Ok(json!({ "ended": u64::from(ended) }))
        }
        Request::SessionEndAll { name } => {
            let user = services.users.find(&name).await?;
            Ok(json!({ "ended": sessions.end_all(user.id).await? }))
        }
        Request::SessionExplain { id } => {
            let id = parse_session(&id)?;
            let found = sessions.find(id).await?;
            let (session, user) = found.ok_or_else(|| unknown_session(&id.to_string()))?;
            let mut shown = show_session(&session);
            if let Value::Object(fields) = &mut shown {
                let name = user.map(|user| user.username.to_string());
                fields.insert("username".to_owned(), json!(name));
                fields.insert("explanation".to_owned(), json!(explain(services, &session)));
            }
            Ok(shown)
        }
        _ => Err(anyhow!("not about sessions")),
    }
}

async fn key(services: &Services, request: Request) -> Result<Value> {
    let keys = &services.keys;
    match request {
        Request::KeyList => Ok(keys.list().await?.iter().map(show_key).collect()),
        Request::KeyRotate { now } => {
            let (kid, gave_way) = keys.rotate(now).await?;
            Ok(json!({ "kid": kid, "gave_way": gave_way }))
        }
        Request::KeyRevoke { kid } => {
            let use_ = keys.revoke(&kid).await?;
            Ok(json!({ "use": show_use(use_).0 }))
        }
        Request::KeyImport { content, algorithm, verify_only } => {
            let kid = keys.import(&content, algorithm, verify_only).await?;
            Ok(json!({ "kid": kid }))
        }
        Request::KeyReseal { master_key, current } => {
            let current = current.map(SecretBytes::new);
            let count = keys.reseal(&SecretBytes::new(master_key), current.as_ref()).await?;
            Ok(json!({ "resealed": count }))
        }
        _ => Err(anyhow!("not about keys")),
    }
}

async fn audit_page(services: &Services, page: AuditPage) -> Result<Value> {
    let user = match page.user {
        Some(name) => Some(services.audit.user(&name).await?.ok_or(UserError::Unknown)?),
        None => None,
    };
    let AuditPage { after, before, event, limit, newest_first, .. } = page;
    let query = AuditQuery { after, before, user, event, limit, newest_first };
    let records = services.audit.records(query).await?;
    Ok(records.iter().map(show_record).collect())
}

/// Every setting as it counts, secrets hidden.
pub(in crate::cli) fn show_settings(config: &Config) -> Value {
    let show = |setting: &Effective| {
        json!({
            "setting": setting.setting,
            "value": setting.value,
            "place": setting.place.to_string(),
        })
    };
    config.effective.iter().map(show).collect()
}

fn show_record(record: &AuditRecord) -> Value {
    let mut shown = serde_json::Map::new();
    shown.insert("sequence".to_owned(), record.link.sequence.into());
    if let Ok(Value::Object(fields)) = serde_json::from_str(&record.text) {
        shown.extend(fields);
    }
    shown.insert("hash".to_owned(), record.link.hex().into());
    Value::Object(shown)
}

/// From where attempts for a user wait, and until when; and failures that may yet lead to it.
fn show_lockouts(services: &Services, name: &str) -> Value {
    let now = services.parts.clock.steady();
    let mut entries = services.users.lockouts(name);
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.until), entry.scope));
    entries
        .iter()
        .map(|entry| {
            json!({
                "network": entry.scope.to_string(),
                "failures": entry.failures,
                "until": (entry.until > now).then(|| entry.until.iso8601()),
            })
        })
        .collect()
}

fn parse_session(id: &str) -> Result<SessionId> {
    // Not echoed: people paste whole tokens here.
    SessionId::parse(id).context(
        "this is no session id: it is the claim `sid` of a token, as `session list` shows it",
    )
}

fn unknown_session(id: &str) -> anyhow::Error {
    anyhow!(
        "there is no session {id}: it never was, or it ended longer than sessions.keep_ended ago"
    )
}

fn show_user(user: &User) -> Value {
    let claims: serde_json::Map<String, Value> =
        user.claims.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    json!({
        "id": user.public_id(),
        "username": user.username.as_str(),
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "roles": user.roles,
        "claims": claims,
        "created_at": user.created_at.iso8601(),
        "disabled_at": user.disabled_at.map(Timestamp::iso8601),
    })
}

fn show_session(session: &Session) -> Value {
    json!({
        "id": session.id.to_string(),
        "user_id": session.user.0,
        "created_at": session.created_at.iso8601(),
        "last_used_at": session.rotated_at.iso8601(),
        "refresh_expires_at": session.refresh_expires_at.iso8601(),
        "refreshed": session.generation,
        "address": session.address.map(|address| address.to_string()),
        "user_agent": session.user_agent,
        "replayed_from_another_network_at": session.foreign_replay_at.map(Timestamp::iso8601),
        "ended_at": session.ended.map(|(at, _)| at.iso8601()),
        "reason": session.ended.map(|(_, reason)| reason.name()),
    })
}

fn explain(services: &Services, session: &Session) -> String {
    // By the wall clock alone: nothing is ended here.
    let now = Moment { wall: services.parts.clock.now(), running: i64::MAX };
    let policy = services.settings.load().sessions.policy();
    let ended = session.ended.map(|(_, reason)| reason).or_else(|| session.run_out(now, &policy));
    ended.map_or_else(
        || "It is live: its user was not logged out.".to_owned(),
        |reason| reason.explanation().to_owned(),
    )
}

/// What a key is for, and its algorithm.
fn show_use(use_: KeyUse) -> (&'static str, &'static str) {
    match use_ {
        KeyUse::Refresh => ("refresh", "HMAC-SHA-256"),
        KeyUse::Digest => ("digest", "HMAC-SHA-256"),
        KeyUse::Signing(algorithm) => ("signing", algorithm.name()),
    }
}

fn show_key(key: &StoredKey) -> Value {
    let (use_, algorithm) = show_use(key.use_);
    json!({
        "kid": key.kid,
        "use": use_,
        "algorithm": algorithm,
        "state": key.state.name(),
        "state_at": key.state.at().map(Timestamp::iso8601),
        "created_at": key.created_at.iso8601(),
        "imported": key.imported,
    })
}
