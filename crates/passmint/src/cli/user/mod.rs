//! `passmint user`

mod import;

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::control::{self, Request};
use super::output;
use crate::config::Config;
use crate::crypto::random;

#[derive(Subcommand)]
pub(super) enum User {
    /// Add a user. Asks for the password on a terminal; otherwise prints a generated one once.
    Add(Add),
    /// List users.
    List(Json),
    /// Show one user.
    Show(Named),
    /// Change a user's profile, roles or own claims.
    Set(Set),
    /// Set a user's password, ending all sessions.
    Passwd(Passwd),
    /// Forget a user's failed logins, so that nobody is held back any more.
    Unlock(Name),
    /// Take users over from another system, with their ids and passwords.
    Import(import::Import),
    /// Let a disabled user log in again; ended sessions stay ended.
    Enable(Name),
    /// Keep a user out, ending all sessions at once.
    Disable(Name),
    /// Delete a user, ending all sessions at once.
    Delete(Name),
}

#[derive(Args)]
pub(super) struct Json {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Name {
    /// The username.
    name: String,
}

#[derive(Args)]
pub(super) struct Named {
    /// The username.
    name: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Add {
    /// The username: 1 to 150 visible characters.
    name: String,
    /// The e-mail address.
    #[arg(long, default_value = "")]
    email: String,
    /// A role; may be given several times.
    #[arg(long = "role")]
    roles: Vec<String>,
    /// Read the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Passwd {
    /// The username.
    name: String,
    /// Read the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(group(ArgGroup::new("wanted").required(true).multiple(true)))]
pub(super) struct Set {
    /// The username.
    name: String,
    /// New e-mail address.
    #[arg(long, group = "wanted")]
    email: Option<String>,
    /// New first name.
    #[arg(long, group = "wanted")]
    first_name: Option<String>,
    /// New last name.
    #[arg(long, group = "wanted")]
    last_name: Option<String>,
    /// The user's roles from now on; may be given several times.
    #[arg(long = "role", group = "wanted", conflicts_with = "no_roles")]
    roles: Vec<String>,
    /// Take all roles away.
    #[arg(long, group = "wanted")]
    no_roles: bool,
    /// Own claims of the user's tokens, as in `org_id=7`. JSON values are taken as such, anything else
    /// as text; an empty value removes the claim.
    #[arg(value_name = "CLAIM=VALUE", group = "wanted")]
    claims: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl User {
    pub(super) async fn run(self, config: &Config) -> Result<()> {
        match self {
            Self::Add(add) => add.run(config).await,
            Self::List(json) => list(config, json.json).await,
            Self::Show(named) => {
                let user = control::send(config, Request::UserShow { name: named.name }).await?;
                show(&user, named.json)
            }
            Self::Set(set) => set.run(config).await,
            Self::Passwd(passwd) => passwd.run(config).await,
            Self::Unlock(Name { name }) => {
                let request = Request::UserUnlock { name: name.clone() };
                let unlocked = control::send(config, request).await?;
                if unlocked.get("had_failures").and_then(Value::as_bool) == Some(false) {
                    say!(
                        "{name} has no failed logins: nothing was to be forgotten. If a login of {name} is refused \
                         with 429 all the same, its network has failed too often over all names, and waits a \
                         minute or so."
                    );
                } else {
                    say!("All failed logins of {name} are forgotten; no login waits any more.");
                }
                Ok(())
            }
            Self::Import(import) => import.run(config).await,
            Self::Enable(Name { name }) => {
                control::send(config, Request::UserEnable { name: name.clone() }).await?;
                say!("{name} may log in again.");
                Ok(())
            }
            Self::Disable(Name { name }) => {
                control::send(config, Request::UserDisable { name: name.clone() }).await?;
                say!("{name} is disabled, and all sessions are ended.");
                Ok(())
            }
            Self::Delete(Name { name }) => {
                control::send(config, Request::UserDelete { name: name.clone() }).await?;
                say!("{name} is deleted, and all sessions are ended.");
                Ok(())
            }
        }
    }
}

fn show(user: &Value, json: bool) -> Result<()> {
    if json {
        return output::json(user);
    }
    let mut user = user.clone();
    let held = user.as_object_mut().and_then(|fields| fields.shift_remove("held_back"));
    output::fields(&user)?;
    let held: Vec<Value> = held.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    let waits = |held: &&Value| held.get("until").is_some_and(Value::is_string);
    let waiting: Vec<Value> = held.iter().filter(waits).cloned().collect();
    if !waiting.is_empty() {
        output::line("")?;
        let columns = [("network", "HELD BACK FROM"), ("until", "UNTIL"), ("failures", "FAILURES")];
        output::table(&waiting, &columns)?;
    }
    if held.len() > waiting.len() {
        output::line("Failed logins are counted that delay nobody yet.")?;
    }
    Ok(())
}

async fn list(config: &Config, json: bool) -> Result<()> {
    const PAGE: u32 = 1000;
    let mut users = Vec::new();
    let mut after = None;
    loop {
        let mut page = control::send(config, Request::UserList { after, limit: PAGE }).await?;
        let Some(Value::Array(listed)) = page.get_mut("users").map(Value::take) else {
            bail!("the server answered something else")
        };
        users.extend(listed);
        after = page.get("next").and_then(Value::as_i64);
        if after.is_none() {
            break;
        }
    }
    if json {
        return output::json(&Value::Array(users));
    }
    let columns = [
        ("id", "ID"),
        ("username", "USERNAME"),
        ("email", "EMAIL"),
        ("roles", "ROLES"),
        ("disabled_at", "DISABLED"),
    ];
    output::table(&users, &columns)
}

impl Add {
    async fn run(self, config: &Config) -> Result<()> {
        let password = new_password(self.password_stdin)?;
        let Self { name, email, roles, json, .. } = self;
        let request = Request::UserAdd { name: name.clone(), email, roles, password };
        let added = control::send(config, request).await?;
        let id = added.get("id").and_then(Value::as_i64).unwrap_or_default();
        let generated = added.get("password").and_then(Value::as_str);
        if !json {
            say!("Added {name} with id {id}.");
        }
        let Some(password) = generated else {
            return if json { output::json(&added) } else { Ok(()) };
        };
        let shown = if json {
            output::json_seen(&added)
        } else {
            say!("The password, shown only now:");
            output::seen(password)
        };
        shown.map_err(|error| {
            anyhow!("{name} was added with a password that nobody knows (`user passwd` sets another): {error:#}")
        })
    }
}

impl Passwd {
    async fn run(self, config: &Config) -> Result<()> {
        let Self { name, password_stdin, json } = self;
        let given = new_password(password_stdin)?;
        let password = match &given {
            Some(password) => password.clone(),
            None => generate(config, &name, json).await?,
        };
        let generated = given.is_none();
        let request = Request::UserPassword { name: name.clone(), password, generated };
        let set = control::send(config, request).await.map(drop);
        match given {
            Some(_) => set?,
            None => set.with_context(|| {
                format!("the password above may not be set: `user passwd {name}` sets another")
            })?,
        }
        if json && given.is_some() {
            return output::json(&json!({ "password": null }));
        }
        say!("{name} has a new password, and all sessions are ended.");
        Ok(())
    }
}

/// Shows a generated password before it is set: one that could not be shown would lock the user out.
async fn generate(config: &Config, name: &str, json: bool) -> Result<String> {
    // Nobody who is not there gets one.
    control::send(config, Request::UserShow { name: name.to_owned() }).await?;
    let password = random::password()?;
    let shown = if json {
        output::json_seen(&json!({ "password": password }))
    } else {
        say!("The password of {name}, shown only now:");
        output::seen(&password)
    };
    shown.with_context(|| format!("{name} has the password as before"))?;
    Ok(password)
}

impl Set {
    async fn run(self, config: &Config) -> Result<()> {
        let mut claims = Vec::new();
        for claim in &self.claims {
            let Some((name, value)) = claim.split_once('=') else {
                bail!("`{claim}` is no claim: write name=value");
            };
            let value = match value {
                "" => Value::Null,
                // A number that would come out as another one stays a text.
                text => serde_json::from_str(text)
                    .ok()
                    .filter(|value: &Value| !value.is_number() || *text == *value.to_string())
                    .unwrap_or_else(|| Value::from(text)),
            };
            claims.push((name.to_owned(), value));
        }
        let roles = (self.no_roles || !self.roles.is_empty()).then_some(self.roles);
        let request = Request::UserSet(Box::new(control::UserSet {
            name: self.name,
            email: self.email,
            first_name: self.first_name,
            last_name: self.last_name,
            roles,
            claims,
        }));
        show(&control::send(config, request).await?, self.json)
    }
}

/// The first line of standard input, without its end.
pub(super) fn password_from_stdin() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read standard input")?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        bail!("standard input holds no password in its first line");
    }
    Ok(password.to_owned())
}

/// The password from standard input, or asked for on a terminal; `None`: generate one.
fn new_password(stdin: bool) -> Result<Option<String>> {
    if stdin {
        return password_from_stdin().map(Some);
    }
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let first = rpassword::prompt_password("Password (empty: generate one): ")?;
    if first.is_empty() {
        return Ok(None);
    }
    if rpassword::prompt_password("Once more: ")? != first {
        bail!("the two passwords differ");
    }
    Ok(Some(first))
}
