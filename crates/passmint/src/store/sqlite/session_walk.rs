//! The background walk over the sessions: what has run out, what a revoked key made, what is old.

use rusqlite::{Connection, params};

use super::SqliteStore;
use super::row;
use super::session::{end_one, find};
use super::writer::Write;
use crate::domain::audit::{AuditEvent, AuditKind};
use crate::domain::moment::Moment;
use crate::domain::revocation::Revocation;
use crate::domain::session::{EndReason, Session, SessionId};
use crate::store::{By, RevocationStore as _, StoreError, SweepSessions, SweptSessions};

type Sql<T> = Result<T, rusqlite::Error>;

impl SqliteStore {
    /// One step: a look by a reader, and a write only where it found something.
    pub(super) async fn walk_sessions(
        &self,
        sweep: SweepSessions,
    ) -> Result<SweptSessions, StoreError> {
        let now = Moment { wall: self.clock.now(), running: self.running_time() };
        let looked = self.readers.read(move |db| look_over(db, &sweep, now)).await?;
        let Looked { next, run_out, old, of_revoked_key } = looked;
        if run_out.is_empty() && old.is_empty() && of_revoked_key.is_empty() {
            return Ok(SweptSessions { next, ..SweptSessions::default() });
        }
        self.writer
            .write(move |write| {
                let deleted = delete_old(write, &old, &sweep)?;
                let ended = end_run_out(write, &run_out, &sweep)?
                    + end_of_revoked_key(write, &of_revoked_key)?;
                Ok(SweptSessions { next, ended, deleted })
            })
            .await
    }
}

/// What one step of the walk found.
struct Looked {
    /// Where to go on.
    next: Option<SessionId>,
    run_out: Vec<SessionId>,
    /// Ended ones that are kept long enough.
    old: Vec<SessionId>,
    of_revoked_key: Vec<SessionId>,
}

fn look_over(db: &Connection, sweep: &SweepSessions, now: Moment) -> Sql<Looked> {
    let sql = format!(
        "SELECT {}, ended_running_time, refresh_key IN (SELECT number FROM revoked_key) \
         FROM session WHERE id > ?1 ORDER BY id LIMIT ?2",
        row::SESSION
    );
    let after = sweep.after.map_or([0; 16], |id| id.0);
    let sessions: Vec<(Session, Option<i64>, bool)> = db
        .prepare_cached(&sql)?
        .query_map(params![after, sweep.batch], |row| {
            let first = row::SESSION_COLUMNS;
            Ok((row::session(row)?, row.get(first)?, row.get(first + 1)?))
        })?
        .collect::<Sql<_>>()?;
    let full = sessions.len() >= sweep.batch as usize;
    let mut looked = Looked {
        next: sessions.last().filter(|_| full).map(|(session, ..)| session.id),
        run_out: Vec::new(),
        old: Vec::new(),
        of_revoked_key: Vec::new(),
    };
    for (session, ended_running_time, of_revoked_key) in sessions {
        if let (Some((wall, _)), Some(running)) = (session.ended, ended_running_time) {
            if sweep.by_age && (Moment { wall, running }).is_older_than(sweep.keep_ended, now) {
                looked.old.push(session.id);
            }
        } else if of_revoked_key {
            looked.of_revoked_key.push(session.id);
        } else if sweep.by_age && session.run_out(now, &sweep.policy).is_some() {
            looked.run_out.push(session.id);
        }
    }
    Ok(looked)
}

/// Ends what had run out when it was looked at, unless a refresh has come in between.
fn end_run_out(write: &mut Write<'_>, run_out: &[SessionId], sweep: &SweepSessions) -> Sql<u64> {
    let mut ended = 0;
    for id in run_out {
        let Some(session) = find(write.db, *id)? else {
            continue;
        };
        if let Some(reason) = session.run_out(write.moment(), &sweep.policy) {
            ended += u64::from(end_one(write, *id, reason, &By::SERVER)?);
        }
    }
    Ok(ended)
}

/// Ends sessions whose refresh key was revoked, with one audit record for all of them.
fn end_of_revoked_key(write: &mut Write<'_>, sessions: &[SessionId]) -> Sql<u64> {
    let reason = EndReason::KeyRevoked;
    let mut ended = 0;
    for id in sessions {
        let changed = write
            .db
            .prepare_cached(
                "UPDATE session SET ended_at = ?2, end_reason = ?3, ended_running_time = ?4 \
                 WHERE id = ?1 AND ended_at IS NULL",
            )?
            .execute(params![id.0, write.now.micros(), reason.name(), write.running_time])?;
        if changed > 0 {
            write.revoke(Revocation::Session(*id))?;
            ended += 1;
        }
    }
    if ended > 0 {
        write.sessions_ended(reason, ended);
        let event = AuditEvent::new(AuditKind::SessionsEnded).with("reason", reason.name());
        write.note(&By::SERVER, &event.with("count", ended))?;
    }
    Ok(ended)
}

fn delete_old(write: &Write<'_>, old: &[SessionId], sweep: &SweepSessions) -> Sql<u64> {
    let before = write.moment().minus(sweep.keep_ended);
    let mut deleted = 0;
    for id in old {
        deleted += write
            .db
            .prepare_cached(
                "DELETE FROM session WHERE id = ?1 AND ended_running_time < ?2 AND ended_at < ?3",
            )?
            .execute(params![id.0, before.running, before.wall.micros()])?
            as u64;
    }
    Ok(deleted)
}
