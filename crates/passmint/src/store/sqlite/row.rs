//! Rows to domain types and back.

use std::net::IpAddr;

use rusqlite::Row;
use rusqlite::types::Type;

use crate::domain::secret::PasswordHash;
use crate::domain::session::{Anchor, EndReason, Session, SessionId};
use crate::domain::time::Timestamp;
use crate::domain::user::{Claims, Credentials, User, UserId, Username};

/// The columns that [`session`] reads, in its order.
pub(super) const SESSION: &str = "id, user_id, secret_hash, generation, anchor_generation, \
     anchor_at, created_at, rotated_at, refresh_expires_at, refresh_key, address, user_agent, \
     foreign_replay_at, ended_at, end_reason, created_running_time, rotated_running_time, epoch";
/// How many those are.
pub(super) const SESSION_COLUMNS: usize = 18;

/// The columns that [`user`] and [`credentials`] read, in their order.
pub(super) const USER: &str = "id, username, email, first_name, last_name, roles, claims, epoch, \
     password_version, disabled_at, created_at, password_hash, imported_id, ended_at";

pub(super) fn session(row: &Row<'_>) -> Result<Session, rusqlite::Error> {
    let ended_at: Option<i64> = row.get(13)?;
    let reason: Option<String> = row.get(14)?;
    let reason = reason.as_deref().and_then(EndReason::from_name);
    Ok(Session {
        id: SessionId(row.get(0)?),
        user: UserId(row.get(1)?),
        secret_hash: row.get(2)?,
        generation: row.get(3)?,
        anchor: Anchor { generation: row.get(4)?, at: time(row, 5)? },
        created_at: time(row, 6)?,
        rotated_at: time(row, 7)?,
        refresh_expires_at: time(row, 8)?,
        refresh_key: row.get(9)?,
        address: row.get::<_, Option<String>>(10)?.and_then(|text| text.parse().ok()),
        user_agent: row.get(11)?,
        foreign_replay_at: row.get::<_, Option<i64>>(12)?.map(Timestamp::from_micros),
        created_running: row.get(15)?,
        rotated_running: row.get(16)?,
        epoch: row.get(17)?,
        // A reason this version does not know still means: ended.
        ended: ended_at.map(|at| (Timestamp::from_micros(at), reason.unwrap_or(EndReason::Admin))),
    })
}

pub(super) fn user(row: &Row<'_>) -> Result<User, rusqlite::Error> {
    let roles: String = row.get(5)?;
    Ok(User {
        id: UserId(row.get(0)?),
        imported_id: row.get(12)?,
        username: Username::stored(row.get(1)?),
        email: row.get(2)?,
        first_name: row.get(3)?,
        last_name: row.get(4)?,
        roles: serde_json::from_str(&roles).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(5, Type::Text, Box::new(error))
        })?,
        claims: Claims::from_json(row.get_ref(6)?.as_str()?),
        epoch: row.get(7)?,
        password_version: row.get(8)?,
        disabled_at: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
        created_at: time(row, 10)?,
        sessions_ended_at: time(row, 13)?,
    })
}

pub(super) fn credentials(row: &Row<'_>) -> Result<Credentials, rusqlite::Error> {
    Ok(Credentials { user: user(row)?, hash: PasswordHash::new(row.get(11)?) })
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp, rusqlite::Error> {
    row.get(column).map(Timestamp::from_micros)
}

pub(super) fn address(address: Option<IpAddr>) -> Option<String> {
    address.map(|address| address.to_canonical().to_string())
}

pub(super) fn roles(roles: &[String]) -> String {
    serde_json::Value::from(roles).to_string()
}
