//! Users in SQL.

use std::sync::LazyLock;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::row;
use super::session::end_all_of;
use super::writer::Write;
use crate::domain::revocation::Revocation;
use crate::domain::session::{EndReason, SessionId};
use crate::domain::user::{Credentials, User, UserId, Username};
use crate::store::{Added, NewUser, PasswordChange, StoreError, UserChange, UserStore};

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

    async fn add_user(&self, user: NewUser) -> Result<Added, StoreError> {
        self.writer.write(move |write| add(write, &user)).await
    }

    async fn change_user(&self, id: UserId, change: UserChange) -> Result<bool, StoreError> {
        self.writer.write(move |write| change_profile(write, id, &change)).await
    }

    async fn change_password(&self, change: PasswordChange) -> Result<bool, StoreError> {
        self.writer.write(move |write| change_password(write, &change)).await
    }

    async fn set_disabled(&self, id: UserId, disabled: bool) -> Result<bool, StoreError> {
        self.writer.write(move |write| set_disabled(write, id, disabled)).await
    }

    async fn delete_user(&self, id: UserId) -> Result<bool, StoreError> {
        self.writer.write(move |write| delete(write, id)).await
    }
}

pub(super) fn find(db: &Connection, id: UserId) -> Sql<Option<User>> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {} FROM user WHERE id = ?1", row::USER));
    db.prepare_cached(&SQL)?.query_row([id.0], row::user).optional()
}

/// Raises the epoch, so that every access token issued before is refused, but for those of `except`.
pub(super) fn raise_epoch(
    write: &mut Write<'_>,
    user: UserId,
    except: Option<SessionId>,
) -> Sql<bool> {
    let epoch: Option<u64> = write
        .db
        .prepare_cached("UPDATE user SET epoch = epoch + 1 WHERE id = ?1 RETURNING epoch")?
        .query_row([user.0], |row| row.get(0))
        .optional()?;
    if let Some(epoch) = epoch {
        write.revoke(Revocation::User { user, epoch, except })?;
    }
    Ok(epoch.is_some())
}

fn add(write: &Write<'_>, user: &NewUser) -> Sql<Added> {
    let added = write
        .db
        .prepare_cached(
            "INSERT INTO user (username, username_folded, password_hash, email, roles, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING RETURNING id",
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
    Ok(added.map_or(Added::NameTaken, Added::User))
}

fn change_profile(write: &Write<'_>, id: UserId, change: &UserChange) -> Sql<bool> {
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
    end_all_of(write, change.user, change.keep, EndReason::PasswordChanged)?;
    raise_epoch(write, change.user, change.keep)
}

fn set_disabled(write: &mut Write<'_>, id: UserId, disabled: bool) -> Sql<bool> {
    if !disabled {
        let changed = write
            .db
            .prepare_cached("UPDATE user SET disabled_at = NULL WHERE id = ?1")?
            .execute([id.0])?;
        return Ok(changed > 0);
    }
    let changed = write
        .db
        .prepare_cached("UPDATE user SET disabled_at = coalesce(disabled_at, ?2) WHERE id = ?1")?
        .execute(params![id.0, write.now.micros()])?;
    if changed == 0 {
        return Ok(false);
    }
    end_all_of(write, id, None, EndReason::UserDisabled)?;
    raise_epoch(write, id, None)
}

fn delete(write: &mut Write<'_>, id: UserId) -> Sql<bool> {
    end_all_of(write, id, None, EndReason::UserDeleted)?;
    if !raise_epoch(write, id, None)? {
        return Ok(false);
    }
    write.db.prepare_cached("DELETE FROM user WHERE id = ?1")?.execute([id.0])?;
    Ok(true)
}
