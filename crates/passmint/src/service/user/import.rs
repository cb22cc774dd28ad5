//! Taking users over from another system, with the ids and the password hashes they have there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{UserError, UserService, check_fit, check_text, checked_roles};
use crate::crypto::hasher::{KINDS, Parsed};
use crate::domain::audit::By;
use crate::domain::secret::PasswordHash;
use crate::domain::time::Timestamp;
use crate::domain::user::{Claims, ImportedId, User, UserId, Username};
use crate::store::{ImportConflict, ImportUser, UserChange};

/// What stands for a password that nobody has: no hash begins so.
const UNUSABLE: &str = "!";
/// The largest id that a user may bring: a billion users may be added later.
const LARGEST_ID: i64 = UserId::LARGEST - 1_000_000_000;

/// A user as another system wrote it down. Its hash is a secret, so there is no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedUser {
    /// The id there: a number or a text; absent: it gets a new one.
    #[serde(default)]
    pub id: Option<Value>,
    /// As it is there; made canonical.
    pub username: String,
    /// In one of the formats that are verified; empty or with a leading `!`: no password.
    #[serde(default)]
    pub password_hash: String,
    /// May be empty.
    #[serde(default)]
    pub email: String,
    /// May be empty.
    #[serde(default)]
    pub first_name: String,
    /// May be empty.
    #[serde(default)]
    pub last_name: String,
    /// In their order.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Own claims of the user's tokens.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// Whether the user may not log in.
    #[serde(default)]
    pub disabled: bool,
    /// When it was added there, ISO 8601.
    #[serde(default)]
    pub created_at: Option<String>,
}

/// What became of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportOutcome {
    /// Taken over.
    Imported,
    /// The same user is there already: nothing was changed.
    Exists,
    /// Why it was not taken over.
    Refused(String),
}

/// What is wrong with a user of a file, as far as that can be seen without a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportFault {
    /// What, in words.
    Wrong(String),
    /// Its name is that of the user with this index, or differs from it only in case.
    SameName(usize),
    /// Its id is that of the user with this index.
    SameId(usize),
}

impl UserService {
    /// What [`UserService::import`] would answer; nothing is changed.
    pub async fn import_check(
        &self,
        users: Vec<ImportedUser>,
    ) -> Result<Vec<ImportOutcome>, UserError> {
        let checked: Vec<_> = users.iter().map(accept).collect();
        let good = checked.iter().flatten().map(|user| (user.username.clone(), user.id.clone()));
        let mut conflicts = self.0.store.import_conflicts(good.collect()).await?.into_iter();
        let outcome = |checked: Result<ImportUser, String>| match checked {
            Ok(user) => conflicts.next().flatten().map_or(ImportOutcome::Imported, |conflict| {
                told(&user.username, user.id.as_ref(), conflict)
            }),
            Err(why) => ImportOutcome::Refused(why),
        };
        Ok(checked.into_iter().map(outcome).collect())
    }

    /// Takes users over, each one or not at all; what became of each, in their order. They log in with
    /// the passwords they have, and the first login replaces the hash by one of today's price.
    pub async fn import(&self, users: Vec<ImportedUser>) -> Result<Vec<ImportOutcome>, UserError> {
        let (mut outcomes, mut good) = (Vec::with_capacity(users.len()), Vec::new());
        for user in &users {
            match accept(user) {
                Ok(user) => {
                    outcomes.push(Err((user.username.clone(), user.id.clone())));
                    good.push(user);
                }
                Err(why) => outcomes.push(Ok(ImportOutcome::Refused(why))),
            }
        }
        let hashes: Vec<PasswordHash> = good.iter().map(|user| user.hash.clone()).collect();
        self.0.hashing.learn_more(&self.0.hashing.schemes(&hashes));
        let mut added = self.0.store.import_users(good, By::OPERATOR).await?.into_iter();
        let filled = outcomes.into_iter().map(|outcome| {
            outcome.unwrap_or_else(|(username, id)| match added.next() {
                Some(Ok(_)) => ImportOutcome::Imported,
                Some(Err(conflict)) => told(&username, id.as_ref(), conflict),
                None => ImportOutcome::Refused("it was not looked at".to_owned()),
            })
        });
        Ok(filled.collect())
    }
}

/// What stands in the way of a user of that name and id, in words.
fn told(username: &Username, id: Option<&ImportedId>, conflict: ImportConflict) -> ImportOutcome {
    let why = match conflict {
        ImportConflict::Same => return ImportOutcome::Exists,
        ImportConflict::Name(User { username: other, .. }) if other != *username => format!(
            "its username {:?} differs only in case from {:?}, who is there already: rename one of them",
            username.as_str(),
            other.as_str()
        ),
        ImportConflict::Name(other) => format!(
            "{:?} is there already with the id {} instead of {}: services know users by their id, so \
             delete the one that is there, or mend the id",
            username.as_str(),
            other.subject(),
            id.map(ImportedId::to_string).unwrap_or_default(),
        ),
        ImportConflict::Id(other) => format!(
            "its id is that of {:?}; import into a new folder first, and add others after it",
            other.username.as_str()
        ),
        ImportConflict::FormerId => {
            "its id was that of a user who was deleted, and is not given again: \
            import into a new folder"
                .to_owned()
        }
    };
    ImportOutcome::Refused(why)
}

/// What of these users can be seen to be wrong without a database, in their order.
pub fn check_import<'a>(users: impl Iterator<Item = &'a ImportedUser>) -> Vec<Option<ImportFault>> {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut ids: HashMap<UserId, usize> = HashMap::new();
    let mut check = |(at, user)| {
        let user = accept(user).map_err(ImportFault::Wrong)?;
        if let Some(earlier) = names.insert(user.username.folded(), at) {
            return Err(ImportFault::SameName(earlier));
        }
        match user.id.and_then(|id| ids.insert(id.user_id(), at)) {
            Some(earlier) => Err(ImportFault::SameId(earlier)),
            None => Ok(()),
        }
    };
    users.enumerate().map(|numbered| check(numbered).err()).collect()
}

/// Checks one user; what is wrong with it, in words.
fn accept(user: &ImportedUser) -> Result<ImportUser, String> {
    let said = |error: UserError| error.to_string();
    let username =
        Username::for_new_user(&user.username).map_err(|error| said(UserError::BadName(error)))?;
    let roles = checked_roles(user.roles.clone()).map_err(said)?;
    for (what, text) in
        [("email", &user.email), ("first_name", &user.first_name), ("last_name", &user.last_name)]
    {
        check_text(what, text).map_err(said)?;
    }
    let mut claims = Claims::default();
    for (name, value) in &user.claims {
        claims.set(name, value.clone()).map_err(|error| said(UserError::BadClaim(error)))?;
    }
    check_fit(username.as_str(), &user.email, &roles, &claims).map_err(said)?;
    Ok(ImportUser {
        id: user.id.as_ref().map(read_id).transpose()?,
        username,
        hash: read_hash(&user.password_hash)?,
        profile: UserChange {
            email: Some(user.email.clone()),
            first_name: Some(user.first_name.clone()),
            last_name: Some(user.last_name.clone()),
            roles: Some(roles),
            claims: Some(claims),
        },
        disabled: user.disabled,
        created_at: user.created_at.as_deref().map(read_time).transpose()?,
    })
}

fn read_id(id: &Value) -> Result<ImportedId, String> {
    let id = match id {
        Value::Number(number) => ImportedId::read(&number.to_string()),
        Value::String(text) => ImportedId::read(text),
        _ => return Err("its id is neither a number nor a text".to_owned()),
    };
    match &id {
        ImportedId::Number(number) if *number <= LARGEST_ID => Ok(id),
        ImportedId::Text(text)
            if !text.is_empty()
                && text.len() <= ImportedId::MAX_BYTES
                && text.chars().all(|c| c.is_ascii_graphic())
                // Almost a number: it would be another one for every reader.
                && text.parse::<f64>().is_err() =>
        {
            Ok(id)
        }
        _ => Err(format!(
            "its id must be a whole number from 0 to {LARGEST_ID}, or a text of 1 to {} visible \
             ASCII characters",
            ImportedId::MAX_BYTES
        )),
    }
}

fn read_hash(text: &str) -> Result<PasswordHash, String> {
    if text.is_empty() || text.starts_with(UNUSABLE) {
        return Ok(PasswordHash::new(UNUSABLE.to_owned()));
    }
    let hash = PasswordHash::new(text.to_owned());
    if Parsed::read(&hash).is_some() {
        return Ok(hash);
    }
    // The algorithm's name tells what to do about it and is no secret; the rest may be one.
    let algorithm: String = text
        .split('$')
        .find(|part| !part.is_empty())
        .unwrap_or_default()
        .chars()
        .take(20)
        .collect();
    let known = algorithm.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let algorithm = if known && text.contains('$') { algorithm } else { "unknown".to_owned() };
    let why = if KINDS.contains(&algorithm.as_str()) {
        "is damaged, or takes more memory or time than is allowed"
    } else {
        "is of a kind that is not verified"
    };
    Err(format!("its password hash ({algorithm}) {why}: import it without one and set a password"))
}

fn read_time(text: &str) -> Result<Timestamp, String> {
    text.parse::<jiff::Timestamp>()
        .map(|at| Timestamp::from_micros(at.as_microsecond()))
        .map_err(|_| "its created_at (date_joined in a dump of Django's) is no time: write 2026-11-23T14:42:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(json: &str) -> Result<ImportUser, String> {
        accept(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_is_wrong_is_said_without_the_hash() {
        for (json, part) in [
            (r#"{"username":" "}"#, "at least one character"),
            (r#"{"username":"a","id":-1}"#, "whole number"),
            (r#"{"username":"a","id":"1e3"}"#, "whole number"),
            (r#"{"username":"a","id":9007199254740993}"#, "whole number"),
            (r#"{"username":"a","id":[]}"#, "neither"),
            (r#"{"username":"a","password_hash":"md5$salt$5ecre7"}"#, "(md5) is of a kind"),
            (r#"{"username":"a","password_hash":"5ecre7"}"#, "(unknown) is of a kind"),
            (
                r#"{"username":"a","password_hash":"pbkdf2_sha256$1$s$5ecre7"}"#,
                "(pbkdf2_sha256) is damaged",
            ),
            (r#"{"username":"a","password_hash":"$2b$04$5ecre7"}"#, "(2b) is damaged"),
            (r#"{"username":"a","claims":{"sub":1}}"#, "writes itself"),
            (r#"{"username":"a","created_at":"yesterday"}"#, "no time"),
        ] {
            let why = accepted(json).err().unwrap();
            assert!(why.contains(part) && !why.contains("5ecre7"), "{json}: {why}");
        }
    }

    #[test]
    fn a_user_without_a_password_is_taken_over_all_the_same() {
        for hash in ["", "!", "!kV9x"] {
            let user =
                accepted(&format!(r#"{{"username":"a","password_hash":"{hash}"}}"#)).unwrap();
            assert_eq!(user.hash.expose(), "!");
        }
    }
}
