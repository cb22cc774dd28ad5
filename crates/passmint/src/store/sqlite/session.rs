//! Sessions in SQL.

use std::sync::LazyLock;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::row;
use super::writer::Write;
use crate::domain::audit::{AuditEvent, AuditKind};
use crate::domain::network::Network;
use crate::domain::revocation::Revocation;
use crate::domain::session::{EndReason, Presentation, Presented, Session, SessionId};
use crate::domain::time::{Timestamp, micros};
use crate::domain::user::{User, UserId};
use crate::store::{
    By, Lineage, RotateRefresh, Rotation, SessionPage, SessionStore, Sessions, StartSession,
    StoreError, SweepSessions, SweptSessions, Uncommitted,
};

type Sql<T> = Result<T, rusqlite::Error>;

#[async_trait]
impl SessionStore for SqliteStore {
    async fn start_session(
        &self,
        start: StartSession,
    ) -> Result<Uncommitted<Option<Lineage>>, StoreError> {
        self.writer.write_hot(move |write| start_session(write, &start)).await
    }

    async fn rotate_refresh(
        &self,
        rotate: RotateRefresh,
    ) -> Result<Uncommitted<Rotation>, StoreError> {
        self.writer.write_hot(move |write| rotate_refresh(write, &rotate)).await
    }

    async fn end_sessions(
        &self,
        which: Sessions,
        reason: EndReason,
        by: By,
    ) -> Result<u64, StoreError> {
        self.writer.write(move |write| end_sessions(write, which, reason, &by)).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<(Session, Option<User>)>, StoreError> {
        self.readers
            .read(move |db| {
                let Some(session) = find(db, id)? else {
                    return Ok(None);
                };
                let user = super::user::find(db, session.user)?;
                Ok(Some((session, user)))
            })
            .await
    }

    async fn sessions_of(
        &self,
        user: UserId,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        let now = self.clock.now();
        self.readers.read(move |db| sessions_of(db, user, page, now)).await
    }

    async fn sweep_sessions(&self, sweep: SweepSessions) -> Result<SweptSessions, StoreError> {
        self.walk_sessions(sweep).await
    }
}

pub(super) fn find(db: &Connection, id: SessionId) -> Sql<Option<Session>> {
    db.prepare_cached(&format!("SELECT {} FROM session WHERE id = ?1", row::SESSION))?
        .query_row([id.0], row::session)
        .optional()
}

fn start_session(write: &mut Write<'_>, start: &StartSession) -> Sql<Option<Lineage>> {
    let Some(user) = super::user::find(write.db, start.user)? else {
        return Ok(None);
    };
    let stale = user.disabled_at.is_some()
        || user.epoch != start.epoch
        || user.password_version != start.password_version;
    if stale {
        return Ok(None);
    }
    let now = write.now;
    write.note_issue()?;
    write
        .db
        .prepare_cached(
            "INSERT INTO session (id, user_id, secret_hash, generation, anchor_generation, \
             anchor_at, created_at, rotated_at, refresh_expires_at, refresh_key, address, \
             user_agent, created_running_time, rotated_running_time, epoch) \
             VALUES (?1, ?2, ?3, 0, 0, ?4, ?4, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10)",
        )?
        .execute(params![
            start.id.0,
            start.user.0,
            start.secret_hash,
            now.micros(),
            start.policy.refresh_expires_at(now, now).micros(),
            start.refresh_key,
            row::address(start.address),
            start.user_agent,
            write.running_time,
            user.epoch,
        ])?;
    super::user::note_epoch_session(write, start.user, start.id)?;
    if let Some((verified, better)) = &start.rehash {
        write
            .db
            .prepare_cached(
                "UPDATE user SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2",
            )?
            .execute(params![start.user.0, verified.expose(), better.expose()])?;
    }
    evict(write, start)?;
    if let Some(address) = start.address {
        super::throttle::note_network(write, start.user, Network::of(address))?;
    }
    let event = AuditEvent::new(AuditKind::LoginGranted).of(start.user).in_session(start.id);
    write.note(&start.by, &if start.repeat { event.with("repeat", true) } else { event })?;
    Ok(find(write.db, start.id)?.map(|session| Lineage { session, user }))
}

/// Ends what is over `max_per_user`: never-refreshed sessions first, oldest first, and not the new
/// one.
fn evict(write: &mut Write<'_>, start: &StartSession) -> Sql<()> {
    /// How many one login ends at most, where `max_per_user` was lowered.
    const AT_ONCE: u32 = 500;
    let live: i64 = write
        .db
        .prepare_cached("SELECT live FROM session_count WHERE user_id = ?1")?
        .query_row([start.user.0], |row| row.get(0))?;
    let live = u32::try_from(live).unwrap_or(0);
    let mut excess = live.saturating_sub(start.policy.max_per_user.max(1)).min(AT_ONCE);
    for refreshed in ["generation = 0", "generation > 0"] {
        if excess == 0 {
            break;
        }
        let giving_way: Vec<[u8; 16]> = write
            .db
            .prepare_cached(&format!(
                "SELECT id FROM session WHERE user_id = ?1 AND ended_at IS NULL AND id <> ?2 \
                 AND {refreshed} ORDER BY id LIMIT ?3"
            ))?
            .query_map(params![start.user.0, start.id.0, excess], |row| row.get(0))?
            .collect::<Sql<_>>()?;
        for id in giving_way {
            end_one(write, SessionId(id), EndReason::Evicted, &By::SERVER)?;
            excess -= 1;
        }
    }
    Ok(())
}

/// The one conditional write of a refresh: n becomes n+1 only where it still is n, live.
const ROTATE: &str = "UPDATE session SET \
     generation = generation + 1, \
     anchor_generation = iif(generation = 0 OR ?4 - rotated_at > ?5, generation, anchor_generation), \
     anchor_at = iif(generation = 0 OR ?4 - rotated_at > ?5, ?4, anchor_at), \
     rotated_at = ?4, \
     rotated_running_time = ?10, \
     refresh_expires_at = min(?4 + ?6, created_at + ?7), \
     refresh_key = ?8, \
     address = coalesce(?9, address) \
     WHERE id = ?1 AND generation = ?2 AND secret_hash = ?3 AND ended_at IS NULL \
     AND ?4 < created_at + ?7 \
     RETURNING ";

/// The whole statement of a rotation: `?1` session, `?2` generation, `?3` secret hash, `?4` now, `?5`
/// reuse interval, `?6` idle lifetime, `?7` maximal lifetime (microseconds), `?8` refresh key, `?9`
/// address, `?10` running time. Public for the bench harness, whose bare writer runs the very same.
pub fn rotation_statement() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("{ROTATE}{}", row::SESSION));
    &SQL
}

fn rotate_refresh(write: &mut Write<'_>, rotate: &RotateRefresh) -> Sql<Rotation> {
    let policy = &rotate.policy;
    let rotated = write
        .db
        .prepare_cached(rotation_statement())?
        .query_row(
            params![
                rotate.session.0,
                rotate.generation,
                rotate.secret_hash,
                write.now.micros(),
                micros(policy.reuse_interval),
                micros(policy.idle_lifetime),
                micros(policy.max_lifetime),
                rotate.refresh_key,
                row::address(rotate.address),
                write.running_time,
            ],
            row::session,
        )
        .optional()?;
    let Some(session) = rotated else {
        return answer_without_rotation(write, rotate);
    };
    let Some(user) = super::user::find(write.db, session.user)? else {
        return Ok(Rotation::Dead);
    };
    write.note_issue()?;
    super::user::note_epoch_session(write, user.id, session.id)?;
    if policy.end_access_token_on_refresh {
        write.revoke(Revocation::Generation {
            session: session.id,
            generation: session.generation,
            from: write.now.plus(policy.reuse_interval),
        })?;
    }
    Ok(Rotation::Rotated(Box::new(Lineage { session, user })))
}

/// The write found no row to change: why not decides the answer.
fn answer_without_rotation(write: &mut Write<'_>, rotate: &RotateRefresh) -> Sql<Rotation> {
    let Some(session) = find(write.db, rotate.session)? else {
        return Ok(Rotation::Dead);
    };
    let presented = Presented {
        generation: rotate.generation,
        issued_at: rotate.issued_at,
        secret_hash: &rotate.secret_hash,
    };
    let now = write.less_stall(session.rotated_at);
    let run_out = session.run_out(write.moment(), &rotate.policy);
    match session.judge(&presented, now, rotate.policy.reuse_interval) {
        Presentation::Replay if run_out.is_none() => replay(write, session, rotate),
        Presentation::Theft => {
            end_one(write, session.id, EndReason::ReuseDetected, &rotate.by)?;
            Ok(Rotation::Reused)
        }
        Presentation::StateLost => {
            end_one(write, session.id, EndReason::StateLost, &rotate.by)?;
            Ok(Rotation::StateLost)
        }
        // It would have been rotated or repeated, had the maximal lifetime not been lowered meanwhile.
        // Only both clocks together end it.
        Presentation::Current | Presentation::Replay => {
            if let Some(reason) = run_out {
                end_one(write, session.id, reason, &By::SERVER)?;
            }
            Ok(Rotation::Expired)
        }
        Presentation::Dead => Ok(Rotation::Dead),
    }
}

/// How often repetitions of one session are noted, in microseconds: a minute. Whoever repeats a token in
/// a loop must not fill the audit log.
const NOTED_EVERY: i64 = 60_000_000;

/// Gives the current lineage again. Nothing of it is written; a first repetition from another
/// network leaves its mark on the session.
fn replay(write: &mut Write<'_>, session: Session, rotate: &RotateRefresh) -> Sql<Rotation> {
    let Some(user) = super::user::find(write.db, session.user)? else {
        return Ok(Rotation::Dead);
    };
    let foreign = match (session.address, rotate.address) {
        (Some(known), Some(now)) => {
            Network::of(known).neighbourhood() != Network::of(now).neighbourhood()
        }
        _ => false,
    };
    if foreign && session.foreign_replay_at.is_none() {
        write
            .db
            .prepare_cached("UPDATE session SET foreign_replay_at = ?2 WHERE id = ?1")?
            .execute(params![session.id.0, write.now.micros()])?;
    }
    let noted = write
        .db
        .prepare_cached(
            "UPDATE session SET replay_noted_at = ?2 WHERE id = ?1 \
             AND (replay_noted_at IS NULL OR abs(?2 - replay_noted_at) >= ?3)",
        )?
        .execute(params![session.id.0, write.now.micros(), NOTED_EVERY])?;
    if noted > 0 {
        let event = AuditEvent::new(AuditKind::RefreshReplayed).of(user.id).in_session(session.id);
        write.note(&rotate.by, &event.with("other_network", foreign))?;
    }
    Ok(Rotation::Replayed(Box::new(Lineage { session, user })))
}

/// Ends one live session; whether there was something to end. A session that had merely given way or
/// fallen asleep still has access tokens that run: a reason that ends those ends it once more.
pub(super) fn end_one(
    write: &mut Write<'_>,
    id: SessionId,
    reason: EndReason,
    by: &By,
) -> Sql<bool> {
    let user: Option<i64> = write
        .db
        .prepare_cached(
            "UPDATE session SET ended_at = coalesce(ended_at, ?2), end_reason = ?3, \
             ended_running_time = coalesce(ended_running_time, ?4) \
             WHERE id = ?1 AND (ended_at IS NULL \
                 OR (?5 AND end_reason IN ('evicted', 'idle'))) RETURNING user_id",
        )?
        .query_row(
            params![
                id.0,
                write.now.micros(),
                reason.name(),
                write.running_time,
                reason.ends_access_tokens()
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(user) = user else {
        return Ok(false);
    };
    if reason.ends_access_tokens() {
        write.revoke(Revocation::Session(id))?;
    }
    write.sessions_ended(reason, 1);
    let event = AuditEvent::new(AuditKind::SessionEnded).of(UserId(user)).in_session(id);
    write.note(by, &event.with("reason", reason.name()))?;
    Ok(true)
}

fn end_sessions(write: &mut Write<'_>, which: Sessions, reason: EndReason, by: &By) -> Sql<u64> {
    match which {
        Sessions::One(id) => Ok(u64::from(end_one(write, id, reason, by)?)),
        Sessions::Proven(id) => {
            let ended = end_one(write, id, reason, by)?;
            if !ended && find(write.db, id)?.is_none() {
                write.revoke(Revocation::Session(id))?;
            }
            Ok(u64::from(ended))
        }
        Sessions::OneOf(user, id) => {
            let own = find(write.db, id)?.is_some_and(|session| session.user == user);
            Ok(u64::from(own && end_one(write, id, reason, by)?))
        }
        Sessions::AllOfExcept(user, keep) => {
            let ended = end_all_of(write, user, Some(keep), reason, by)?;
            if ended > 0 || super::user::others_have_tokens(write, user, keep)? {
                super::user::raise_epoch(write, user, Some(keep))?;
            }
            Ok(ended)
        }
        Sessions::AllOf(user) => {
            let ended = end_all_of(write, user, None, reason, by)?;
            // Even where no session is known: another service's tokens have none.
            super::user::raise_epoch(write, user, None)?;
            Ok(ended)
        }
    }
}

/// Ends the user's live sessions but `keep` in one statement. Their access tokens are the affair of
/// the epoch that the caller raises.
pub(super) fn end_all_of(
    write: &mut Write<'_>,
    user: UserId,
    keep: Option<SessionId>,
    reason: EndReason,
    by: &By,
) -> Sql<u64> {
    let changed = write
        .db
        .prepare_cached(
            "UPDATE session SET ended_at = ?2, end_reason = ?3, ended_running_time = ?4 \
             WHERE user_id = ?1 AND ended_at IS NULL AND id IS NOT ?5",
        )?
        .execute(params![
            user.0,
            write.now.micros(),
            reason.name(),
            write.running_time,
            keep.map(|id| id.0)
        ])? as u64;
    if changed > 0 {
        write.sessions_ended(reason, changed);
        let event = AuditEvent::new(AuditKind::SessionsEnded).of(user);
        write.note(by, &event.with("reason", reason.name()).with("count", changed))?;
    }
    Ok(changed)
}

fn sessions_of(
    db: &Connection,
    user: UserId,
    page: SessionPage,
    now: Timestamp,
) -> Sql<Vec<Session>> {
    let which = if page.ended {
        "user_id = ?1 AND ?2 IS NOT NULL"
    } else {
        "user_id = ?1 AND ended_at IS NULL AND refresh_expires_at > ?2"
    };
    let sql = format!(
        "SELECT {} FROM session WHERE {which} AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4",
        row::SESSION
    );
    let before = page.before.map(|id| id.0);
    db.prepare_cached(&sql)?
        .query_map(params![user.0, now.micros(), before, page.limit], row::session)?
        .collect()
}
