//! `passmint user import`: takes users over from another system. What the file may look like is in `file`.

mod file;

use std::collections::HashMap;
use std::io::Read as _;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use self::file::{Entry, LeftBehind, Roles};
use crate::app::refuse_to_begin_over_another;
use crate::cli::control::{self, Request};
use crate::cli::output;
use crate::config::Config;
use crate::service::user::{ImportFault, ImportOutcome, ImportedUser, check_import};
use crate::store::sqlite::is_nothing;

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
    /// Change nothing; say what the import would do.
    #[arg(long)]
    dry_run: bool,
    /// The role of a group that a Django dump gives by number, as in 4=billing.
    #[arg(long, value_name = "NUMBER=ROLE", value_parser = group)]
    group: Vec<(i64, String)>,
    /// A role for users of a Django dump with `is_staff`.
    #[arg(long, value_name = "ROLE")]
    staff_role: Option<String>,
    /// A role for users of a Django dump with `is_superuser`.
    #[arg(long, value_name = "ROLE")]
    superuser_role: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn group(text: &str) -> Result<(i64, String), String> {
    let (number, role) = text.split_once('=').ok_or("write NUMBER=ROLE, as in 4=billing")?;
    let number = number.parse().map_err(|_| format!("{number} is no number"))?;
    Ok((number, role.to_owned()))
}

/// A user of the file that may be taken over; `at` is its index there.
struct Candidate {
    at: usize,
    user: ImportedUser,
}

/// What the import did, or would do.
struct Report {
    imported: usize,
    existing: usize,
    /// Of those that are there already: users to whom the file gives roles.
    existing_with_roles: usize,
    refused: Vec<Refused>,
    left: LeftBehind,
}

/// A user of the file who is not taken over.
#[derive(Serialize)]
struct Refused {
    place: String,
    user: Option<String>,
    why: String,
}

impl Import {
    pub(super) async fn run(mut self, config: &Config) -> Result<()> {
        let roles = Roles {
            groups: HashMap::from_iter(std::mem::take(&mut self.group)),
            staff: self.staff_role.take(),
            superuser: self.superuser_role.take(),
        };
        let (entries, left) = file::read(&self.text()?, roles)?;
        let places: Vec<String> = entries.iter().map(|entry| entry.place.clone()).collect();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
        let (mut candidates, mut refused) = sift(entries, &places);
        // Those that bring an id come first: the others get the next one that is free.
        candidates.sort_by_key(|candidate| candidate.user.id.is_none());
        let sent_as = |candidate: &Candidate| (candidate.at, !candidate.user.roles.is_empty());
        let order: Vec<(usize, bool)> = candidates.iter().map(sent_as).collect();
        let users = candidates.into_iter().map(|candidate| candidate.user).collect();
        let (mut imported, mut existing, mut existing_with_roles) = (0, 0, 0);
        let mut outcomes = Vec::new();
        let sent = self.send(config, users, &mut outcomes).await;
        for ((at, has_roles), outcome) in order.into_iter().zip(outcomes) {
            match outcome {
                ImportOutcome::Imported => imported += 1,
                ImportOutcome::Exists => {
                    existing += 1;
                    existing_with_roles += usize::from(has_roles);
                }
                ImportOutcome::Refused(why) => refused.push((at, why)),
            }
        }
        refused.sort();
        let refused = refused.into_iter().map(|(at, why)| Refused {
            place: places.get(at).cloned().unwrap_or_default(),
            user: names.get(at).cloned().flatten(),
            why,
        });
        let refused = refused.collect();
        let shown = self.show(&Report { imported, existing, existing_with_roles, refused, left });
        sent.context("not all users were looked at; import the file again")?;
        shown
    }

    fn text(&self) -> Result<String> {
        let mut text = String::new();
        if self.file == "-" {
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        } else {
            text = std::fs::read_to_string(&self.file)
                .with_context(|| format!("cannot read {}", self.file))?;
        }
        Ok(text)
    }

    /// Adds to `outcomes` what becomes, or would become, of each of these users; of the first ones only,
    /// if there is an error.
    async fn send(
        &self,
        config: &Config,
        users: Vec<ImportedUser>,
        outcomes: &mut Vec<ImportOutcome>,
    ) -> Result<()> {
        if self.dry_run && is_nothing(&config.database.sqlite) {
            refuse_to_begin_over_another(config)?;
            // Nothing to be in the way of anybody.
            outcomes.resize(users.len(), ImportOutcome::Imported);
            return Ok(());
        }
        let mut users = users.into_iter().peekable();
        while users.peek().is_some() {
            let users = users.by_ref().take(BATCH).collect();
            let request = if self.dry_run {
                Request::UserImportCheck { users }
            } else {
                Request::UserImport { users }
            };
            let batch: Vec<ImportOutcome> =
                serde_json::from_value(control::send(config, request).await?)?;
            outcomes.extend(batch);
        }
        Ok(())
    }

    fn show(&self, report: &Report) -> Result<()> {
        let Report { imported, existing, existing_with_roles, refused, left } = report;
        for Refused { place, user, why } in refused {
            match user {
                Some(user) => say!("{place}: {why} (user {user:?})"),
                None => say!("{place}: {why}"),
            }
        }
        left.show();
        if *existing_with_roles > 0 {
            say!(
                "Not taken over, since they are there already: the roles of {}. `user set NAME --role ROLE` sets them.",
                users(*existing_with_roles)
            );
        }
        if self.json {
            output::json(&json!({
                "imported": imported,
                "existing": existing,
                "refused": refused,
                "left_behind": {
                    "is_staff": left.staff,
                    "is_superuser": left.superuser,
                    "user_permissions": left.permissions,
                    "ids": left.ids,
                    "other_models": left.others,
                },
            }))?;
        } else if self.dry_run {
            say!(
                "{} would be imported, {existing} would be there already, {} would be refused; \
                 nothing was changed.",
                users(*imported),
                refused.len()
            );
        } else {
            say!(
                "{} imported, {existing} there already, {} refused.",
                users(*imported),
                refused.len()
            );
        }
        if refused.is_empty() {
            return Ok(());
        }
        let verb = if self.dry_run { "would not be" } else { "not" };
        bail!("{} {verb} taken over; mend the file and import it again", users(refused.len()));
    }
}

impl LeftBehind {
    fn show(&self) {
        for (what, count, remedy) in [
            ("is_staff", self.staff, ": --staff-role ROLE makes a role of it"),
            ("is_superuser", self.superuser, ": --superuser-role ROLE makes a role of it"),
            ("user_permissions", self.permissions, "; only groups become roles"),
        ] {
            if count > 0 {
                say!("{what} of {} is not taken over{remedy}", users(count));
            }
        }
        if self.ids > 0 {
            say!(
                "{} of the dump without pk, as --natural-primary leaves it out: given new ids. Tokens of the \
                 old service name others by them, so do not import its key.",
                users(self.ids)
            );
        }
        if !self.others.is_empty() {
            let others = self.others.iter().map(|(model, count)| format!("{count} of {model}"));
            let others = others.collect::<Vec<_>>().join(", ");
            say!("Passed over, for these are no users: {others}.");
        }
    }
}

/// A number of users in words.
fn users(count: usize) -> String {
    if count == 1 { "1 user".to_owned() } else { format!("{count} users") }
}

/// Those that can be taken over as far as the file tells, and why the others cannot, by index.
fn sift(entries: Vec<Entry>, places: &[String]) -> (Vec<Candidate>, Vec<(usize, String)>) {
    let (mut read, mut refused) = (Vec::new(), Vec::new());
    for (at, entry) in entries.into_iter().enumerate() {
        match entry.user {
            Ok(user) => read.push(Candidate { at, user }),
            Err(why) => refused.push((at, why)),
        }
    }
    let faults = check_import(read.iter().map(|candidate| &candidate.user));
    let at: Vec<usize> = read.iter().map(|candidate| candidate.at).collect();
    let place = |earlier: usize| at.get(earlier).and_then(|at| places.get(*at)).map_or("", |p| p);
    let mut good = Vec::new();
    for (candidate, fault) in read.into_iter().zip(faults) {
        match fault {
            None => good.push(candidate),
            Some(ImportFault::Wrong(why)) => refused.push((candidate.at, why)),
            Some(ImportFault::SameName(earlier)) => refused.push((
                candidate.at,
                format!(
                    "its username {:?} is that of {}, too: names that differ only in case are one",
                    candidate.user.username,
                    place(earlier)
                ),
            )),
            Some(ImportFault::SameId(earlier)) => {
                refused.push((candidate.at, format!("its id is that of {}, too", place(earlier))));
            }
        }
    }
    (good, refused)
}
