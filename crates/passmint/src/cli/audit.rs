//! `passmint audit`

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::control::{self, AuditPage, Request};
use super::output;
use crate::config::Config;
use crate::domain::audit::AuditKind;

/// How many records one request brings.
const PAGE: u32 = 1000;

#[derive(Subcommand)]
pub(super) enum Audit {
    /// List records, the newest first.
    List(List),
    /// Check that no record was changed, taken out or put in, and print the newest hash.
    Verify(Verify),
    /// Print all records, the oldest first, one JSON object a line with its number and hash.
    Export(Export),
}

#[derive(Args)]
pub(super) struct List {
    /// Only those about this user, also if it was deleted since.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only events whose name begins so, as in `login.` or `session.ended`.
    #[arg(long, default_value = "", value_name = "NAME")]
    event: String,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Verify {
    /// A number and hash that an earlier check printed: the record must still be there.
    #[arg(long, value_name = "NUMBER:HASH", value_parser = noted)]
    expect: Option<(i64, String)>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn noted(text: &str) -> Result<(i64, String), String> {
    let parts = text.split_once(':').and_then(|(number, hash)| Some((number.parse().ok()?, hash)));
    let parts = parts.filter(|(number, _)| *number > 0);
    parts
        .map(|(number, hash)| (number, hash.to_owned()))
        .ok_or_else(|| "write NUMBER:HASH".to_owned())
}

#[derive(Args)]
pub(super) struct Export {
    /// Only records after this number: to go on where the last export ended.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: i64,
}

impl Audit {
    pub(super) async fn run(self, config: &Config) -> Result<()> {
        match self {
            Self::List(list) => list.run(config).await,
            Self::Verify(verify) => verify.run(config).await,
            Self::Export(Export { after }) => export(config, after).await,
        }
    }
}

async fn page(config: &Config, page: AuditPage) -> Result<Vec<Value>> {
    match control::send(config, Request::AuditList(page)).await? {
        Value::Array(records) => Ok(records),
        _ => bail!("the server answered something else"),
    }
}

fn number(record: &Value) -> Option<i64> {
    record.get("sequence")?.as_i64()
}

impl List {
    async fn run(self, config: &Config) -> Result<()> {
        let kinds = AuditKind::ALL.iter().map(|kind| kind.name());
        if !kinds.clone().any(|name| name.starts_with(&self.event)) {
            let all: Vec<_> = kinds.collect();
            bail!(
                "--event {}: no event's name begins so; there are {}",
                self.event,
                all.join(", ")
            );
        }
        let mut records: Vec<Value> = Vec::new();
        let mut before = None;
        while records.len() < self.limit as usize {
            let left = self.limit - u32::try_from(records.len()).unwrap_or(self.limit);
            let limit = left.min(PAGE);
            let (user, event) = (self.user.clone(), self.event.clone());
            let asked = AuditPage { after: 0, before, user, event, limit, newest_first: true };
            let found = page(config, asked).await?;
            before = found.last().and_then(number);
            let full = found.len() == limit as usize;
            records.extend(found);
            if !full {
                break;
            }
        }
        if self.json {
            return output::json(&Value::Array(records));
        }
        let rows: Vec<Value> = records.into_iter().map(row).collect();
        let columns = [
            ("sequence", "NO"),
            ("at", "AT"),
            ("event", "EVENT"),
            ("actor", "ACTOR"),
            ("user_id", "USER"),
            ("address", "ADDRESS"),
            ("more", "MORE"),
        ];
        output::table(&rows, &columns)
    }
}

/// For the table: what has no column of its own is told together.
fn row(mut record: Value) -> Value {
    const COLUMNS: [&str; 8] =
        ["sequence", "at", "event", "actor", "user_id", "address", "request_id", "hash"];
    let Value::Object(fields) = &mut record else { return record };
    let more: Vec<String> = fields
        .iter()
        .filter(|(name, _)| !COLUMNS.contains(&name.as_str()))
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect();
    fields.insert("more".to_owned(), more.join(" ").into());
    record
}

impl Verify {
    async fn run(self, config: &Config) -> Result<()> {
        let whole = control::send(config, Request::AuditVerify { noted: self.expect }).await?;
        if self.json {
            return output::json(&whole);
        }
        let text = |name: &str| whole.get(name).map(ToString::to_string).unwrap_or_default();
        say!(
            "The audit log is whole: {} records, from number {} to number {}. To be noted elsewhere, \
             for --expect of a later check:",
            text("records"),
            text("first"),
            text("sequence")
        );
        let hash = whole.get("hash").and_then(Value::as_str).unwrap_or_default();
        Ok(output::line(&format!("{}:{hash}", text("sequence")))?)
    }
}

async fn export(config: &Config, mut after: i64) -> Result<()> {
    loop {
        let asked = AuditPage { after, limit: PAGE, ..AuditPage::default() };
        let records = page(config, asked).await?;
        let Some(last) = records.last().and_then(number) else {
            return Ok(());
        };
        for record in &records {
            output::line(&json!(record).to_string())?;
        }
        after = last;
    }
}
