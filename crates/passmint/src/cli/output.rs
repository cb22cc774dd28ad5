//! Data on standard output: tables for people, JSON for programs. Words for people on standard error.

use std::fmt::Arguments;
use std::io::{self, Write as _};

use anyhow::Result;
use serde_json::Value;

/// Standard output took no more: its disk is full, or its reader has gone.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(super) struct Unwritten(io::Error);

/// Prints one line. A reader that has seen enough, as `head` does, is no failure.
pub(super) fn line(text: &str) -> Result<(), Unwritten> {
    match print(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Unwritten(error)),
        _ => Ok(()),
    }
}

/// Prints one line that somebody has to see: a reader that has gone is a failure, too.
pub(super) fn seen(text: &str) -> Result<()> {
    Ok(print(text).map_err(Unwritten)?)
}

/// Prints a line on standard error, as `eprintln!` does. Where nobody can read it, it is lost: what was done
/// is done, and what is left to do goes on.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::say_line(format_args!($($text)*)) };
}

pub(super) fn say_line(text: Arguments<'_>) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}")?;
    output.flush()
}

/// Prints JSON, one document.
pub(super) fn json(value: &Value) -> Result<()> {
    Ok(line(&serde_json::to_string_pretty(value)?)?)
}

/// The same, which somebody has to see.
pub(super) fn json_seen(value: &Value) -> Result<()> {
    seen(&serde_json::to_string_pretty(value)?)
}

/// Prints a list of objects as a table of those columns.
pub(super) fn table(rows: &[Value], columns: &[(&str, &str)]) -> Result<()> {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|(key, _)| cell(row.get(*key))).collect())
        .collect();
    let width = |column: usize, title: &str| {
        let longest = cells.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count());
        longest.max().unwrap_or(0).max(title.len())
    };
    let widths: Vec<usize> =
        columns.iter().enumerate().map(|(index, (_, title))| width(index, title)).collect();
    let print = |texts: Vec<String>| {
        let padded: Vec<String> =
            texts.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}")).collect();
        self::line(padded.join("  ").trim_end())
    };
    print(columns.iter().map(|(_, title)| (*title).to_owned()).collect())?;
    for row in cells {
        print(row)?;
    }
    Ok(())
}

/// Prints one object, a field a line.
pub(super) fn fields(value: &Value) -> Result<()> {
    let Value::Object(fields) = value else { return Ok(()) };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields {
        line(&format!("{name:<width$}  {}", cell(Some(value))))?;
    }
    Ok(())
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        // What a client called itself, or a name, must not move the cursor.
        Some(Value::String(text)) => text.chars().filter(|c| !c.is_control()).collect(),
        Some(Value::Array(parts)) if parts.is_empty() => "-".to_owned(),
        Some(Value::Array(parts)) => {
            parts.iter().map(|part| cell(Some(part))).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}
