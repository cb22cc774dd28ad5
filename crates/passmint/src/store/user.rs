//! What a store does with users and their passwords.

use async_trait::async_trait;

use super::{By, StoreError};
use crate::domain::secret::PasswordHash;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::{Claims, Credentials, ImportedId, User, UserId, Username};

/// A user to add.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Checked for a new user.
    pub username: Username,
    /// The password's hash.
    pub hash: PasswordHash,
    /// May be empty.
    pub email: String,
    /// In their order.
    pub roles: Vec<String>,
}

/// A user to take over from another system.
#[derive(Clone, Debug)]
pub struct ImportUser {
    /// The id it had there; `None`: it gets a new one.
    pub id: Option<ImportedId>,
    /// Checked for a new user.
    pub username: Username,
    /// Its password's hash, in a format that the hasher reads.
    pub hash: PasswordHash,
    /// Profile, roles and own claims, all of them set.
    pub profile: UserChange,
    /// Whether it may not log in.
    pub disabled: bool,
    /// When it was added there; `None`: now.
    pub created_at: Option<Timestamp>,
}

/// What became of a user to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Added under this id.
    User(UserId),
    /// A user of that name, or of one that differs only in case, exists.
    NameTaken,
}

/// Why a user is not taken over, though nothing is wrong with it.
#[derive(Clone, Debug)]
pub enum ImportConflict {
    /// It is there already, under that name and, where it brings one, that id.
    Same,
    /// This user has its name, or one that differs only in case.
    Name(User),
    /// This user has its id.
    Id(User),
    /// Its id was that of a user who was deleted.
    FormerId,
}

/// What to change about a user; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// New e-mail address.
    pub email: Option<String>,
    /// New first name.
    pub first_name: Option<String>,
    /// New last name.
    pub last_name: Option<String>,
    /// New roles, all of them.
    pub roles: Option<Vec<String>>,
    /// New own claims, all of them.
    pub claims: Option<Claims>,
}

/// A new password.
#[derive(Clone, Debug)]
pub struct PasswordChange {
    /// Whose.
    pub user: UserId,
    /// Its hash.
    pub hash: PasswordHash,
    /// The version that the check of the old password saw; `None` when an operator sets it.
    pub expected_version: Option<u64>,
    /// The session that is kept.
    pub keep: Option<SessionId>,
    /// The request.
    pub by: By,
}

/// Users and their passwords.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// The user of that name with its hash.
    async fn credentials(&self, name: Username) -> Result<Option<Credentials>, StoreError>;

    /// The user of that id with its hash.
    async fn credentials_of(&self, id: UserId) -> Result<Option<Credentials>, StoreError>;

    /// The user of that name, or `None`.
    async fn user_named(&self, name: Username) -> Result<Option<User>, StoreError>;

    /// Up to `limit` users in the order of their ids, beginning after `after`.
    async fn users(&self, after: UserId, limit: u32) -> Result<Vec<User>, StoreError>;

    /// How many users there are, counted up to `most`.
    async fn count_users(&self, most: u32) -> Result<u32, StoreError>;

    /// Adds a user.
    async fn add_user(&self, user: NewUser, by: By) -> Result<Added, StoreError>;

    /// Takes users over, each one or not at all; what became of each, in their order.
    async fn import_users(
        &self,
        users: Vec<ImportUser>,
        by: By,
    ) -> Result<Vec<Result<UserId, ImportConflict>>, StoreError>;

    /// What stands in the way of taking over users of these names and ids, in their order.
    async fn import_conflicts(
        &self,
        users: Vec<(Username, Option<ImportedId>)>,
    ) -> Result<Vec<Option<ImportConflict>>, StoreError>;

    /// Hashes that do not begin with `usual`, of up to `limit` users after that id, and where to go
    /// on: to learn what the hashes in the store cost.
    async fn unusual_hashes(
        &self,
        usual: String,
        after: UserId,
        limit: u32,
    ) -> Result<(Vec<PasswordHash>, Option<UserId>), StoreError>;

    /// Changes what is set in `change`; whether the user exists.
    async fn change_user(&self, id: UserId, change: UserChange, by: By)
    -> Result<bool, StoreError>;

    /// Sets a password and ends all other sessions; `false` when the user is gone, disabled, or its
    /// password was changed meanwhile.
    async fn change_password(&self, change: PasswordChange) -> Result<bool, StoreError>;

    /// Disables (ending all sessions) or enables; whether the user exists.
    async fn set_disabled(&self, id: UserId, disabled: bool, by: By) -> Result<bool, StoreError>;

    /// Deletes a user, ending all sessions; whether it existed. The id is not given again.
    async fn delete_user(&self, id: UserId, by: By) -> Result<bool, StoreError>;
}
