//! Users: adding, changing, disabling, their passwords.

mod import;

use std::sync::Arc;

use serde_json::Value;

pub use import::{ImportFault, ImportOutcome, ImportedUser, check_import};

use super::throttle::{Attempted, NotAdmitted};
use super::{Failure, Parts};
use crate::crypto::hasher::{NotHashed, Overloaded, Turn, Verification};
use crate::crypto::random;
use crate::domain::audit::{Actor, AuditEvent, AuditKind, By};
use crate::domain::password::{WeakPassword, check_new_password};
use crate::domain::secret::Password;
use crate::domain::session::SessionId;
use crate::domain::throttle::LockoutEntry;
use crate::domain::user::{
    BadClaim, BadUsername, Claims, MAX_TOKEN_PROFILE_BYTES, User, UserId, Username, fits_a_token,
};
use crate::store::{Added, NewUser, PasswordChange, UserChange};
use crate::throttle::{Door, Throttled};

/// A user to add.
#[derive(Debug, Default)]
pub struct AddUser {
    /// As typed.
    pub username: String,
    /// May be empty.
    pub email: String,
    /// In their order.
    pub roles: Vec<String>,
    /// `None`: one is generated.
    pub password: Option<Password>,
}

/// What to change about a user.
#[derive(Debug, Default)]
pub struct SetUser {
    /// New e-mail address.
    pub email: Option<String>,
    /// New first name.
    pub first_name: Option<String>,
    /// New last name.
    pub last_name: Option<String>,
    /// New roles, all of them.
    pub roles: Option<Vec<String>>,
    /// Own claims to set; null removes.
    pub claims: Vec<(String, Value)>,
}

/// Why something about a user was not done.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("there is no user of that name")]
    Unknown,
    /// The name is taken, or differs from another only in case.
    #[error("a user of that name, or of one that differs only in upper and lower case, exists")]
    NameTaken,
    /// As it says.
    #[error(transparent)]
    BadName(#[from] BadUsername),
    /// As it says.
    #[error(transparent)]
    Weak(#[from] WeakPassword),
    /// As it says.
    #[error(transparent)]
    BadClaim(#[from] BadClaim),
    /// A role that cannot stand in a comma-joined list.
    #[error(
        "`{0}` is no name for a role: use 1 to 64 characters without comma or control characters"
    )]
    BadRole(String),
    /// Tokens that carry them would be too large for a header.
    #[error("the roles of one user may take at most 2048 bytes together")]
    TooManyRoles,
    /// Name, e-mail, roles and own claims together.
    #[error(
        "name, e-mail, roles and claims of one user may take at most {MAX_TOKEN_PROFILE_BYTES} bytes \
         of a token together; a character that is not ASCII takes 6 or 12"
    )]
    TooLargeForTokens,
    /// A text that is too long for a profile.
    #[error("`{0}` may have at most 254 characters, none of them control characters")]
    BadText(&'static str),
    /// The old password is wrong, or the user may not log in any more.
    #[error("the old password is refused")]
    Refused,
    /// Too many attempts.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The hashing queue is full.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// Its client went away before anything was done; nobody is answered.
    #[error("the client went away")]
    ClientGone,
    /// As it says.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<crate::store::StoreError> for UserError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<NotAdmitted> for UserError {
    fn from(error: NotAdmitted) -> Self {
        match error {
            NotAdmitted::Throttled(throttled) => Self::Throttled(throttled),
            NotAdmitted::ClientGone => Self::ClientGone,
            NotAdmitted::Failed(failure) => Self::Failed(failure),
        }
    }
}

impl From<NotHashed> for UserError {
    fn from(error: NotHashed) -> Self {
        match error {
            NotHashed::Overloaded(overloaded) => Self::Overloaded(overloaded),
            NotHashed::ClientGone => Self::ClientGone,
        }
    }
}

/// Adds and changes users.
#[derive(Clone)]
pub struct UserService(Arc<Parts>);

impl UserService {
    /// Made of `parts`.
    pub fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }

    /// Adds a user; the generated password, if one was asked for, is told once.
    pub async fn add(&self, add: AddUser) -> Result<(UserId, Option<String>), UserError> {
        let username = Username::for_new_user(&add.username)?;
        let roles = checked_roles(add.roles)?;
        check_text("email", &add.email)?;
        check_fit(username.as_str(), &add.email, &roles, &Claims::default())?;
        let (password, generated) =
            self.given_or_generated(add.password, &[username.as_str(), &add.email])?;
        Ok((self.add_unchecked(username, password, add.email, roles).await?, generated))
    }

    /// Adds a user without judging the password: for the demo's documented one.
    pub async fn add_unchecked(
        &self,
        username: Username,
        password: Password,
        email: String,
        roles: Vec<String>,
    ) -> Result<UserId, UserError> {
        let hash = self.0.hashing.hash(password, &self.operators_turn()).await?;
        let user = NewUser { username, hash, email, roles };
        match self.0.store.add_user(user, By::OPERATOR).await? {
            Added::User(id) => Ok(id),
            Added::NameTaken => Err(UserError::NameTaken),
        }
    }

    /// The user of that name.
    pub async fn find(&self, name: &str) -> Result<User, UserError> {
        let found = self.0.store.user_named(Username::canonical(name)).await?;
        found.ok_or(UserError::Unknown)
    }

    /// Whether the user of that name is enabled and has that password; counts as no try. For the demo,
    /// which promises it.
    pub async fn has_password(&self, name: &str, password: Password) -> Result<bool, UserError> {
        let found = self.0.store.credentials(Username::canonical(name)).await?;
        let usable = found.filter(|found| found.user.disabled_at.is_none());
        let Some(usable) = usable else { return Ok(false) };
        let hash = Some(usable.hash);
        let checked = self.0.hashing.verify(password, hash, &self.operators_turn()).await?;
        Ok(matches!(checked.verification, Verification::Match(_)))
    }

    /// Up to `limit` users after that id, or from the first on.
    pub async fn list(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>, UserError> {
        // Imported ids that are no numbers are kept as negative ones.
        Ok(self.0.store.users(after.unwrap_or(UserId(i64::MIN)), limit).await?)
    }

    /// How many users there are, counted up to `most`.
    pub async fn count(&self, most: u32) -> Result<u32, UserError> {
        Ok(self.0.store.count_users(most).await?)
    }

    /// The failed logins of that name that are not forgotten; there need be no such user.
    pub fn lockouts(&self, name: &str) -> Vec<LockoutEntry> {
        self.0.lockouts(&Username::canonical(name))
    }

    /// Forgets the failed logins of that name, from wherever they came. Whether there were any.
    pub async fn unlock(&self, name: &str) -> Result<bool, UserError> {
        let user = self.find(name).await?;
        let had_failures = !self.lockouts(name).is_empty();
        let account = self.0.ring.load().account(&user.username);
        self.0.throttle.unlock(account);
        self.0.keep_throttles().await;
        self.0.note(By::OPERATOR, AuditEvent::new(AuditKind::UserUnlocked).of(user.id));
        Ok(had_failures)
    }

    /// Changes a user's profile, roles and own claims. Tokens show it from the next refresh on.
    pub async fn set(&self, name: &str, set: SetUser) -> Result<(), UserError> {
        let user = self.find(name).await?;
        let new_roles = set.roles.map(checked_roles).transpose()?;
        let texts =
            [("email", &set.email), ("first_name", &set.first_name), ("last_name", &set.last_name)];
        for (what, text) in texts {
            check_text(what, text.as_deref().unwrap_or_default())?;
        }
        let mut claims = user.claims.clone();
        for (name, value) in set.claims {
            claims.set(&name, value)?;
        }
        let email = set.email.as_ref().unwrap_or(&user.email);
        let roles = new_roles.as_ref().unwrap_or(&user.roles);
        check_fit(user.username.as_str(), email, roles, &claims)?;
        let change = UserChange {
            email: set.email,
            first_name: set.first_name,
            last_name: set.last_name,
            roles: new_roles,
            claims: (claims != user.claims).then_some(claims),
        };
        done(self.0.store.change_user(user.id, change, By::OPERATOR).await?)
    }

    /// Sets a password on an operator's word and ends all sessions.
    pub async fn set_password(&self, name: &str, password: Password) -> Result<(), UserError> {
        let user = self.find(name).await?;
        self.check_password(&password, &names(&user))?;
        self.replace_password(&user, password).await
    }

    /// The same with a random password, which is not judged: `password.min_length` may be more.
    pub async fn set_generated_password(
        &self,
        name: &str,
        password: Password,
    ) -> Result<(), UserError> {
        self.replace_password(&self.find(name).await?, password).await
    }

    async fn replace_password(&self, user: &User, password: Password) -> Result<(), UserError> {
        let hash = self.0.hashing.hash(password, &self.operators_turn()).await?;
        let by = By::OPERATOR;
        let change = PasswordChange { user: user.id, hash, expected_version: None, keep: None, by };
        done(self.0.store.change_password(change).await?)
    }

    /// Changes a user's own password and ends all other sessions; the one it was asked from goes on.
    pub async fn change_own_password(
        &self,
        user: UserId,
        session: Option<SessionId>,
        old: Password,
        new: Password,
    ) -> Result<(), UserError> {
        let found = self.0.store.credentials_of(user).await?;
        let found = found.filter(|credentials| credentials.user.disabled_at.is_none());
        // Without a user there is nothing to guess.
        let credentials = found.ok_or(UserError::Refused)?;
        let by = self.0.by(Actor::User(user));
        let name = &credentials.user.username;
        let attempted = Attempted {
            door: Door::TokenAuth,
            name,
            password: &old,
            address: by.address,
            user_agent: "",
        };
        let attempt = self.0.admit_password(attempted).await?;
        let turn = self.0.turn(by.address);
        let hash = Some(credentials.hash.clone());
        let checked = self.0.hashing.verify(old, hash, &turn).await?;
        if let Verification::NoMatch = checked.verification {
            attempt.failed();
            self.0.note(by, AuditEvent::new(AuditKind::PasswordRefused).of(user));
            checked.answer_time.reached(&turn.client_gone).await;
            return Err(UserError::Refused);
        }
        attempt.succeeded();
        self.check_password(&new, &names(&credentials.user))?;
        let hash = self.0.hashing.hash(new, &turn).await?;
        let change = PasswordChange {
            user,
            hash,
            expected_version: Some(credentials.user.password_version),
            keep: session,
            by,
        };
        let changed = self.0.store.change_password(change).await?;
        // Disabled, deleted or changed by somebody else meanwhile: the old password is void.
        if changed { Ok(()) } else { Err(UserError::Refused) }
    }

    /// Disables a user, ending all sessions.
    pub async fn disable(&self, name: &str) -> Result<(), UserError> {
        let user = self.find(name).await?;
        done(self.0.store.set_disabled(user.id, true, By::OPERATOR).await?)
    }

    /// Lets a disabled user log in again. What was ended stays ended.
    pub async fn enable(&self, name: &str) -> Result<(), UserError> {
        let user = self.find(name).await?;
        done(self.0.store.set_disabled(user.id, false, By::OPERATOR).await?)
    }

    /// Deletes a user, ending all sessions.
    pub async fn delete(&self, name: &str) -> Result<(), UserError> {
        let user = self.find(name).await?;
        done(self.0.store.delete_user(user.id, By::OPERATOR).await?)
    }

    /// The given password, if it is good enough, or a generated one with its text to tell once.
    fn given_or_generated(
        &self,
        given: Option<Password>,
        names: &[&str],
    ) -> Result<(Password, Option<String>), UserError> {
        if let Some(password) = given {
            self.check_password(&password, names)?;
            return Ok((password, None));
        }
        let text = random::password().map_err(Failure::internal)?;
        Ok((Password::new(text.clone()), Some(text)))
    }

    fn check_password(&self, password: &Password, names: &[&str]) -> Result<(), WeakPassword> {
        let rules = &self.0.settings.load().password;
        check_new_password(password, names, rules.min_length as usize, &rules.blocklist)
    }

    fn operators_turn(&self) -> Turn {
        Turn::of_operator(self.0.settings.load().login.max_wait)
    }
}

/// What a password should not be made of.
fn names(user: &User) -> [&str; 2] {
    [user.username.as_str(), &user.email]
}

/// The store found no such user any more.
fn done(done: bool) -> Result<(), UserError> {
    if done { Ok(()) } else { Err(UserError::Unknown) }
}

/// Roles that may be kept, each once and in their order.
fn checked_roles(roles: Vec<String>) -> Result<Vec<String>, UserError> {
    const MAX_BYTES: usize = 2048;
    let mut kept = Vec::with_capacity(roles.len());
    for role in roles {
        let fits = (1..=64).contains(&role.chars().count()) && role.trim() == role;
        if !fits || role.contains(|c: char| c == ',' || c.is_control()) {
            return Err(UserError::BadRole(role));
        }
        if !kept.contains(&role) {
            kept.push(role);
        }
        if kept.iter().map(|role| role.len() + 1).sum::<usize>() > MAX_BYTES {
            return Err(UserError::TooManyRoles);
        }
    }
    Ok(kept)
}

/// Refuses what would make the user's tokens longer than Passmint reads them.
fn check_fit(
    username: &str,
    email: &str,
    roles: &[String],
    claims: &Claims,
) -> Result<(), UserError> {
    let fits = fits_a_token(username, email, roles, claims);
    if fits { Ok(()) } else { Err(UserError::TooLargeForTokens) }
}

fn check_text(what: &'static str, text: &str) -> Result<(), UserError> {
    if text.chars().count() > 254 || text.contains(char::is_control) {
        return Err(UserError::BadText(what));
    }
    Ok(())
}
