//! Users in SQL.

use std::sync::LazyLock;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::row;
use super::session::end_all_of;
use super::writer::Write;
use crate::domain::audit::{AuditEvent, AuditKind};
use crate::domain::revocation::Revocation;
use crate::domain::secret::PasswordHash;
use crate::domain::session::{EndReason, SessionId};
use crate::domain::time::Timestamp;
use crate::domain::user::{Credentials, ImportedId, User, UserId, Username};
use crate::store::{
    Added, By, ImportConflict, ImportUser, NewUser, PasswordChange, StoreError, UserChange,
    UserStore,
};

type Sql<T> = Result<T, rusqlite::Error>;

#[async_trait]
impl UserStore for SqliteStore {
    async fn credentials(&self, name: Username) -> Result<Option<Credentials>, StoreError> {
        self.readers
            .read(move |db| {
                db.prepare_cached(&format!("SELECT {} FROM user WHERE username = ?1", row::USER))?
                    .query_row([name.as_str()], row::credentials)
                    .optional()
            })
            .await
    }

    async fn credentials_of(&self, id: UserId) -> Result<Option<Credentials>, StoreError> {
        self.readers
            .read(move |db| {
                db.prepare_cached(&format!("SELECT {} FROM user WHERE id = ?1", row::USER))?
                    .query_row([id.0], row::credentials)
                    .optional()
            })
            .await
    }

    async fn user_named(&self, name: Username) -> Result<Option<User>, StoreError> {
        Ok(self.credentials(name).await?.map(|credentials| credentials.user))
    }

    async fn users(&self, after: UserId, limit: u32) -> Result<Vec<User>, StoreError> {
        self.readers
            .read(move |db| {
                let sql =
                    format!("SELECT {} FROM user WHERE id > ?1 ORDER BY id LIMIT ?2", row::USER);
                db.prepare_cached(&sql)?.query_map(params![after.0, limit], row::user)?.collect()
            })
            .await
    }

    async fn count_users(&self, most: u32) -> Result<u32, StoreError> {
        const SQL: &str = "SELECT count(*) FROM (SELECT 1 FROM user LIMIT ?1)";
        self.readers
            .read(move |db| db.prepare_cached(SQL)?.query_row([most], |row| row.get(0)))
            .await
    }

    async fn add_user(&self, user: NewUser, by: By) -> Result<Added, StoreError> {
        self.writer.write(move |write| add(write, &user, &by)).await
    }

    async fn import_users(
        &self,
        users: Vec<ImportUser>,
        by: By,
    ) -> Result<Vec<Result<UserId, ImportConflict>>, StoreError> {
        self.writer
            .write(move |write| users.iter().map(|user| import(write, user, &by)).collect())
            .await
    }

    async fn import_conflicts(
        &self,
        users: Vec<(Username, Option<ImportedId>)>,
    ) -> Result<Vec<Option<ImportConflict>>, StoreError> {
        self.readers
            .read(move |db| {
                users.iter().map(|(name, id)| conflict(db, name, id.as_ref())).collect()
            })
            .await
    }

    async fn unusual_hashes(
        &self,
        usual: String,
        after: UserId,
        limit: u32,
    ) -> Result<(Vec<PasswordHash>, Option<UserId>), StoreError> {
        self.readers.read(move |db| unusual_hashes(db, &usual, after, limit)).await
    }

    async fn change_user(
        &self,
        id: UserId,
        change: UserChange,
        by: By,
    ) -> Result<bool, StoreError> {
        self.writer.write(move |write| change_profile(write, id, &change, &by)).await
    }

    async fn change_password(&self, change: PasswordChange) -> Result<bool, StoreError> {
        self.writer.write(move |write| change_password(write, &change)).await
    }

    async fn set_disabled(&self, id: UserId, disabled: bool, by: By) -> Result<bool, StoreError> {
        self.writer.write(move |write| set_disabled(write, id, disabled, &by)).await
    }

    async fn delete_user(&self, id: UserId, by: By) -> Result<bool, StoreError> {
        self.writer.write(move |write| delete(write, id, &by)).await
    }
}

pub(super) fn find(db: &Connection, id: UserId) -> Sql<Option<User>> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {} FROM user WHERE id = ?1", row::USER));
    db.prepare_cached(&SQL)?.query_row([id.0], row::user).optional()
}

/// Whether the demo's user is there and may log in.
pub(super) fn has_demo_user(db: &Connection) -> Sql<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM user WHERE username = 'sample_user' \
                       AND disabled_at IS NULL)";
    db.prepare_cached(SQL)?.query_row([], |row| row.get(0))
}

/// Raises the epoch, so that every access token issued before is refused, but for those of `except`.
pub(super) fn raise_epoch(
    write: &mut Write<'_>,
    user: UserId,
    except: Option<SessionId>,
) -> Sql<bool> {
    let epoch: Option<u64> = write
        .db
        .prepare_cached(
            "UPDATE user SET epoch = epoch + 1, epoch_session = NULL, ended_at = ?2 \
             WHERE id = ?1 RETURNING epoch",
        )?
        .query_row(params![user.0, write.now.micros()], |row| row.get(0))
        .optional()?;
    let Some(epoch) = epoch else {
        return Ok(false);
    };
    if let Some(kept) = except {
        write
            .db
            .prepare_cached("UPDATE session SET epoch = ?2 WHERE id = ?1")?
            .execute(params![kept.0, epoch])?;
    }
    write.revoke(Revocation::User { user, epoch, except })?;
    Ok(true)
}

/// How `epoch_session` says that several sessions have tokens of the user's epoch.
const SEVERAL: [u8; 1] = [0];

/// Notes that a session gets a token of the user's present epoch.
pub(super) fn note_epoch_session(write: &Write<'_>, user: UserId, id: SessionId) -> Sql<()> {
    write
        .db
        .prepare_cached(
            "UPDATE user SET epoch_session = iif(epoch_session IS NULL, ?2, ?3) \
             WHERE id = ?1 AND epoch_session IS NOT ?2 AND epoch_session IS NOT ?3",
        )?
        .execute(params![user.0, id.0, SEVERAL])
        .map(drop)
}

/// Whether any session but `keep` may have tokens of the user's present epoch.
pub(super) fn others_have_tokens(write: &Write<'_>, user: UserId, keep: SessionId) -> Sql<bool> {
    write
        .db
        .prepare_cached(
            "SELECT epoch_session IS NOT NULL AND epoch_session IS NOT ?2 FROM user WHERE id = ?1",
        )?
        .query_row(params![user.0, keep.0], |row| row.get(0))
        .optional()
        .map(|others| others.unwrap_or(false))
}

fn add(write: &mut Write<'_>, user: &NewUser, by: &By) -> Sql<Added> {
    let added = write
        .db
        .prepare_cached(
            "INSERT INTO user (username, username_folded, password_hash, email, roles, created_at, \
             epoch_session) VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL) ON CONFLICT DO NOTHING RETURNING id",
        )?
        .query_row(
            params![
                user.username.as_str(),
                user.username.folded(),
                user.hash.expose(),
                user.email,
                row::roles(&user.roles),
                write.now.micros()
            ],
            |row| row.get(0).map(UserId),
        )
        .optional()?;
    let Some(id) = added else {
        return Ok(Added::NameTaken);
    };
    write.give_user_id(id);
    let event = AuditEvent::new(AuditKind::UserAdded).of(id);
    write.note(by, &event.with("username", user.username.as_str()))?;
    Ok(Added::User(id))
}

/// What stands in the way of a user of that name and id. The id is free if nobody has or had it.
fn conflict(
    db: &Connection,
    username: &Username,
    id: Option<&ImportedId>,
) -> Sql<Option<ImportConflict>> {
    static NAMED: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {} FROM user WHERE username_folded = ?1", row::USER));
    let id = id.map(ImportedId::user_id);
    let namesake =
        db.prepare_cached(&NAMED)?.query_row([username.folded()], row::user).optional()?;
    if let Some(other) = namesake {
        let same = other.username == *username && id.is_none_or(|id| id == other.id);
        return Ok(Some(if same { ImportConflict::Same } else { ImportConflict::Name(other) }));
    }
    let Some(id) = id else {
        return Ok(None);
    };
    if let Some(other) = find(db, id)? {
        return Ok(Some(ImportConflict::Id(other)));
    }
    let former = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM former_user WHERE id = ?1)")?
        .query_row([id.0], |row| row.get(0))?;
    Ok(if former { Some(ImportConflict::FormerId) } else { None })
}

/// Takes one user over.
fn import(
    write: &mut Write<'_>,
    user: &ImportUser,
    by: &By,
) -> Sql<Result<UserId, ImportConflict>> {
    if let Some(conflict) = conflict(write.db, &user.username, user.id.as_ref())? {
        return Ok(Err(conflict));
    }
    let own_id = user.id.as_ref().map(ImportedId::user_id);
    let imported_id = match &user.id {
        Some(ImportedId::Text(text)) => Some(text),
        _ => None,
    };
    let now = write.now.micros();
    let id = write
        .db
        .prepare_cached(
            "INSERT INTO user (id, imported_id, username, username_folded, password_hash, \
             disabled_at, created_at, epoch_session) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL) \
             RETURNING id",
        )?
        .query_row(
            params![
                own_id.map(|id| id.0),
                imported_id,
                user.username.as_str(),
                user.username.folded(),
                user.hash.expose(),
                user.disabled.then_some(now),
                user.created_at.map_or(now, Timestamp::micros),
            ],
            |row| row.get(0).map(UserId),
        )?;
    write.give_user_id(id);
    set_profile(write, id, &user.profile)?;
    let event = AuditEvent::new(AuditKind::UserImported).of(id);
    write.note(by, &event.with("username", user.username.as_str()))?;
    Ok(Ok(id))
}

fn unusual_hashes(
    db: &Connection,
    usual: &str,
    after: UserId,
    limit: u32,
) -> Sql<(Vec<PasswordHash>, Option<UserId>)> {
    let last: Option<i64> = db
        .prepare_cached(
            "SELECT max(id) FROM (SELECT id FROM user WHERE id > ?1 ORDER BY id LIMIT ?2)",
        )?
        .query_row(params![after.0, limit], |row| row.get(0))?;
    let Some(last) = last else {
        return Ok((Vec::new(), None));
    };
    let hashes = db
        .prepare_cached(
            "SELECT password_hash FROM user WHERE id > ?1 AND id <= ?2 \
             AND substr(password_hash, 1, length(?3)) <> ?3",
        )?
        .query_map(params![after.0, last, usual], |row| row.get(0).map(PasswordHash::new))?
        .collect::<Sql<_>>()?;
    Ok((hashes, Some(UserId(last))))
}

fn change_profile(write: &mut Write<'_>, id: UserId, change: &UserChange, by: &By) -> Sql<bool> {
    let changed = set_profile(write, id, change)?;
    if changed {
        let set = [
            ("email", change.email.is_some()),
            ("first_name", change.first_name.is_some()),
            ("last_name", change.last_name.is_some()),
            ("roles", change.roles.is_some()),
            ("claims", change.claims.is_some()),
        ];
        let fields: Vec<&str> = set.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        write.note(by, &AuditEvent::new(AuditKind::UserChanged).of(id).with("fields", fields))?;
    }
    Ok(changed)
}

fn set_profile(write: &Write<'_>, id: UserId, change: &UserChange) -> Sql<bool> {
    let changed = write
        .db
        .prepare_cached(
            "UPDATE user SET email = coalesce(?2, email), first_name = coalesce(?3, first_name), \
             last_name = coalesce(?4, last_name), roles = coalesce(?5, roles), \
             claims = coalesce(?6, claims) WHERE id = ?1",
        )?
        .execute(params![
            id.0,
            change.email,
            change.first_name,
            change.last_name,
            change.roles.as_deref().map(row::roles),
            change.claims.as_ref().map(crate::domain::user::Claims::to_json),
        ])?;
    Ok(changed > 0)
}

fn change_password(write: &mut Write<'_>, change: &PasswordChange) -> Sql<bool> {
    let changed = write
        .db
        .prepare_cached(
            "UPDATE user SET password_hash = ?2, password_version = password_version + 1 \
             WHERE id = ?1 AND (?3 IS NULL OR (password_version = ?3 AND disabled_at IS NULL))",
        )?
        .execute(params![change.user.0, change.hash.expose(), change.expected_version])?;
    if changed == 0 {
        return Ok(false);
    }
    write.note(&change.by, &AuditEvent::new(AuditKind::PasswordChanged).of(change.user))?;
    end_all_of(write, change.user, change.keep, EndReason::PasswordChanged, &change.by)?;
    raise_epoch(write, change.user, change.keep)
}

fn set_disabled(write: &mut Write<'_>, id: UserId, disabled: bool, by: &By) -> Sql<bool> {
    if !disabled {
        let changed = write
            .db
            .prepare_cached("UPDATE user SET disabled_at = NULL WHERE id = ?1")?
            .execute([id.0])?;
        if changed > 0 {
            write.note(by, &AuditEvent::new(AuditKind::UserEnabled).of(id))?;
        }
        return Ok(changed > 0);
    }
    let changed = write
        .db
        .prepare_cached("UPDATE user SET disabled_at = coalesce(disabled_at, ?2) WHERE id = ?1")?
        .execute(params![id.0, write.now.micros()])?;
    if changed == 0 {
        return Ok(false);
    }
    write.note(by, &AuditEvent::new(AuditKind::UserDisabled).of(id))?;
    end_all_of(write, id, None, EndReason::UserDisabled, by)?;
    raise_epoch(write, id, None)
}

fn delete(write: &mut Write<'_>, id: UserId, by: &By) -> Sql<bool> {
    if !raise_epoch(write, id, None)? {
        return Ok(false);
    }
    write.note(by, &AuditEvent::new(AuditKind::UserDeleted).of(id))?;
    end_all_of(write, id, None, EndReason::UserDeleted, by)?;
    write
        .db
        .prepare_cached("INSERT OR IGNORE INTO former_user (id) VALUES (?1)")?
        .execute([id.0])?;
    write.db.prepare_cached("DELETE FROM login_network WHERE user_id = ?1")?.execute([id.0])?;
    write.db.prepare_cached("DELETE FROM user WHERE id = ?1")?.execute([id.0])?;
    Ok(true)
}
