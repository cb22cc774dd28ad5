//! `passmint user import`: reads what other systems write down of their users.
//!
//! Two forms, told apart by themselves: Django's `dumpdata` (a JSON array or one object a line, other
//! models skipped), and one JSON object a line or an array of them in this server's own words.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::control::{self, Request};
use crate::cli::output;
use crate::config::Config;
use crate::service::user::{ImportOutcome, ImportedUser, check_import};

/// How many users one request carries.
const BATCH: usize = 500;

#[derive(Args)]
pub(in crate::cli) struct Import {
    #[arg(
        help = "The file, or - for standard input: Django's `manage.py dumpdata auth.user`, or a JSON \
                  object a line with id, username, password_hash, email, first_name, last_name, roles, \
                  claims, disabled, created_at"
    )]
    file: String,
    /// Change nothing; say what is wrong with the file. What the database says of it (names and ids that
    /// are taken) comes with the import.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A user of the file, or why there is none; with its place.
struct Entry {
    place: String,
    user: Result<ImportedUser, String>,
}

impl Import {
    pub(super) async fn run(self, config: &Config) -> Result<()> {
        let text = self.read()?;
        let entries = entries(&text)?;
        let mut refused = Vec::new();
        let (mut users, mut places) = (Vec::new(), Vec::new());
        for Entry { place, user } in entries {
            match user {
                Ok(user) => {
                    users.push(user);
                    places.push(place);
                }
                Err(why) => refused.push((place, why)),
            }
        }
        let (mut imported, mut existing) = (0_usize, 0_usize);
        let mut places = places.into_iter();
        if self.dry_run {
            for (place, checked) in places.zip(check_import(users)) {
                match checked {
                    Ok(()) => imported += 1,
                    Err(why) => refused.push((place, why)),
                }
            }
        } else {
            for outcome in send(config, users).await? {
                let place = places.next().unwrap_or_default();
                match outcome {
                    ImportOutcome::Imported => imported += 1,
                    ImportOutcome::Exists => existing += 1,
                    ImportOutcome::Refused(why) => refused.push((place, why)),
                }
            }
        }
        for (place, why) in &refused {
            eprintln!("{place}: {why}");
        }
        if self.dry_run && !self.json {
            eprintln!(
                "{imported} users can be imported, {} would be refused; nothing was changed.",
                refused.len()
            );
        } else if self.json {
            output::json(&json!({
                "imported": imported,
                "existing": existing,
                "refused": refused.iter().map(|(place, why)| json!({ "place": place, "why": why }))
                    .collect::<Vec<_>>(),
            }))?;
        } else {
            eprintln!(
                "{imported} users imported, {existing} were there already, {} refused.",
                refused.len()
            );
        }
        if refused.is_empty() {
            return Ok(());
        }
        bail!("{} users were not taken over; mend the file and import it again", refused.len());
    }

    fn read(&self) -> Result<String> {
        let mut text = String::new();
        if self.file == "-" {
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        } else {
            text = std::fs::read_to_string(&self.file)
                .with_context(|| format!("cannot read {}", self.file))?;
        }
        Ok(text)
    }
}

async fn send(config: &Config, users: Vec<ImportedUser>) -> Result<Vec<ImportOutcome>> {
    let mut outcomes = Vec::with_capacity(users.len());
    let mut users = users.into_iter().peekable();
    while users.peek().is_some() {
        let users = users.by_ref().take(BATCH).collect();
        let answer = control::send(config, Request::UserImport { users }).await?;
        let batch: Vec<ImportOutcome> = serde_json::from_value(answer)?;
        outcomes.extend(batch);
    }
    Ok(outcomes)
}

fn entries(text: &str) -> Result<Vec<Entry>> {
    let text = text.trim_start_matches('\u{feff}');
    let values: Vec<(String, Result<Value, String>)> = if text.trim_start().starts_with('[') {
        let all: Vec<Value> = serde_json::from_str(text).context("the file is no JSON array")?;
        (1..).zip(all).map(|(number, value)| (format!("entry {number}"), Ok(value))).collect()
    } else {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(number, line)| {
                let value = serde_json::from_str(line)
                    .map_err(|error| format!("no JSON object: column {}", error.column()));
                (format!("line {number}"), value)
            })
            .collect()
    };
    if values.is_empty() {
        bail!("the file holds no users");
    }
    let entry = |(place, value): (String, Result<Value, String>)| match value.map(read) {
        Ok(Some(user)) => Some(Entry { place, user }),
        Ok(None) => None,
        Err(why) => Some(Entry { place, user: Err(why) }),
    };
    Ok(values.into_iter().filter_map(entry).collect())
}

/// One user, in either form; `None` for another model of a Django dump.
fn read(value: Value) -> Option<Result<ImportedUser, String>> {
    let Value::Object(mut object) = value else {
        return Some(Err("it is no JSON object".to_owned()));
    };
    let (Some(Value::String(model)), Some(Value::Object(fields))) =
        (object.get("model").cloned(), object.remove("fields"))
    else {
        return Some(serde_json::from_value(Value::Object(object)).map_err(|error| fault(&error)));
    };
    let is_user = model.to_lowercase().ends_with("user") && fields.contains_key("password");
    is_user.then(|| django(object.remove("pk"), fields))
}

/// The library's words quote values; a hash is none of anybody's business.
fn fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let named = text.starts_with("unknown field") || text.starts_with("missing field");
    if named { text } else { "a field is of another type than it should be".to_owned() }
}

/// A user of Django's `auth.user`, or of a model of one's own with the same fields and more.
fn django(id: Option<Value>, mut fields: Map<String, Value>) -> Result<ImportedUser, String> {
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (mut username, email) = (text("username"), text("email"));
    if username.is_empty() {
        // Models that log in by e-mail have no other name.
        username.clone_from(&email);
    }
    if username.is_empty() {
        return Err("it has neither username nor email".to_owned());
    }
    let (password_hash, joined) = (text("password"), text("date_joined"));
    let (first_name, last_name) = (text("first_name"), text("last_name"));
    let active = fields.get("is_active").and_then(Value::as_bool).unwrap_or(true);
    Ok(ImportedUser {
        id,
        username,
        password_hash,
        email,
        first_name,
        last_name,
        roles: group_names(fields.get("groups")),
        claims: Map::new(),
        disabled: !active,
        created_at: (!joined.is_empty()).then_some(joined),
    })
}

/// The names of groups, as `--natural-foreign` writes them. Numbers say nothing to anybody else.
fn group_names(groups: Option<&Value>) -> Vec<String> {
    let groups = groups.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    groups.iter().filter_map(|group| Some(group.get(0)?.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_told_apart() {
        let dump = r#"[
            {"model":"contenttypes.contenttype","pk":1,"fields":{"app_label":"auth"}},
            {"model":"auth.user","pk":7,"fields":{"password":"!x","username":"asha","email":"a@b.c",
             "is_active":false,"date_joined":"2026-11-23T00:11:03.463Z","groups":[["staff"],["ops"]],
             "is_superuser":true,"last_login":null,"user_permissions":[]}}
        ]"#;
        let read: Vec<Entry> = entries(dump).unwrap();
        assert_eq!(read.len(), 1);
        let user = read[0].user.as_ref().ok().unwrap();
        assert_eq!((read[0].place.as_str(), user.username.as_str()), ("entry 2", "asha"));
        assert_eq!((user.id.clone(), user.disabled), (Some(7.into()), true));
        assert_eq!(user.roles, ["staff", "ops"]);

        let lines = "{\"username\":\"asha\",\"id\":\"u-1\"}\n\n{\"usernam\":\"x\"}\nnonsense\n";
        let read = entries(lines).unwrap();
        assert_eq!(read[0].user.as_ref().ok().unwrap().id, Some("u-1".into()));
        assert_eq!(read[1].place, "line 3");
        assert!(read[1].user.as_ref().err().unwrap().contains("usernam"));
        assert!(read[2].user.is_err());
        assert!(entries("  ").is_err());
    }
}
