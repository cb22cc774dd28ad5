//! The sheet of results: one line per check, then a summary.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::judgement::{Fault, Judgement};
use crate::cli::output::{self, Unwritten};

/// A family of attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Group {
    /// Forged, mangled and misplaced access tokens.
    Tokens,
    /// Rotation, reuse, tampering and the end of sessions.
    Refresh,
    /// Whether answers or their time tell which users exist.
    Enumeration,
    /// Headers that lie, and those that must be there.
    Headers,
    /// Request bodies that break parsers.
    Bodies,
    /// What the public listener must not serve.
    Admin,
}

impl Group {
    /// All, in the order they run. The one that makes most wrong logins is last: after a hundred the throttle lets
    /// this network wait.
    pub(super) const ALL: [Self; 6] =
        [Self::Tokens, Self::Refresh, Self::Bodies, Self::Admin, Self::Headers, Self::Enumeration];

    fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Refresh => "refresh",
            Self::Enumeration => "enumeration",
            Self::Headers => "headers",
            Self::Bodies => "bodies",
            Self::Admin => "admin",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    Skip,
}

struct Row {
    group: Group,
    name: String,
    verdict: Verdict,
    expected: String,
    seen: String,
}

/// The results so far. Lines for people are printed as they come, JSON at the end.
pub(super) struct Sheet {
    json: bool,
    rows: Vec<Row>,
    /// Why a line was not printed.
    unwritten: Option<Unwritten>,
}

impl Sheet {
    /// An empty one.
    pub(super) fn new(json: bool) -> Self {
        Self { json, rows: Vec::new(), unwritten: None }
    }

    /// Enters how a check came out, with what was expected of the server.
    pub(super) fn enter(
        &mut self,
        group: Group,
        name: impl Into<String>,
        expected: impl Into<String>,
        judgement: Judgement,
    ) {
        let (verdict, seen) = match judgement {
            Ok(seen) => (Verdict::Pass, seen),
            Err(Fault::Wrong(seen)) => (Verdict::Fail, seen),
            Err(Fault::Untested(why)) => (Verdict::Skip, why),
        };
        let row = Row { group, name: name.into(), verdict, expected: expected.into(), seen };
        if !self.json {
            let written = output::line(&row.for_people());
            self.unwritten = self.unwritten.take().or(written.err());
        }
        self.rows.push(row);
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    /// Groups of which nothing passed or failed.
    fn untested(&self, groups: &[Group]) -> Vec<&'static str> {
        let tested = |group: Group| {
            self.rows.iter().any(|row| row.group == group && row.verdict != Verdict::Skip)
        };
        groups.iter().filter(|group| !tested(**group)).map(|group| group.name()).collect()
    }

    /// Prints the summary, or everything as JSON. Success: nothing failed, and each of `groups` could
    /// be tested at all.
    pub(super) fn finish(self, url: &str, groups: &[Group]) -> Result<ExitCode> {
        let [passed, failed, skipped] =
            [Verdict::Pass, Verdict::Fail, Verdict::Skip].map(|verdict| self.count(verdict));
        let untested = self.untested(groups);
        if self.json {
            output::json(&json!({
                "url": url,
                "passed": passed,
                "failed": failed,
                "skipped": skipped,
                "untested_groups": untested,
                "checks": self.rows.iter().map(Row::for_programs).collect::<Value>(),
            }))?;
        } else {
            output::line(&format!("{passed} passed, {failed} failed, {skipped} skipped"))?;
            for group in &untested {
                output::line(&format!("The group {group} could not be tested."))?;
            }
        }
        if let Some(unwritten) = self.unwritten {
            return Err(unwritten.into());
        }
        let good = failed == 0 && untested.is_empty();
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "skip",
        }
    }

    fn for_people(&self) -> String {
        let detail = match self.verdict {
            Verdict::Pass | Verdict::Skip => self.seen.clone(),
            Verdict::Fail => format!("expected {}; saw {}", self.expected, self.seen),
        };
        let line =
            format!("{}  {:<11}  {:<46}  {detail}", self.verdict(), self.group.name(), self.name);
        // What a server sent must not move the cursor.
        line.chars().filter(|c| !c.is_control()).collect()
    }

    fn for_programs(&self) -> Value {
        json!({
            "verdict": self.verdict().to_ascii_lowercase(),
            "group": self.group.name(),
            "name": self.name,
            "expected": self.expected,
            "seen": self.seen,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(judgements: &[Judgement]) -> Sheet {
        let mut sheet = Sheet::new(true);
        for judgement in judgements {
            sheet.enter(Group::Admin, "a check", "a 404", judgement.clone());
        }
        sheet
    }

    fn ends_well(judgements: &[Judgement]) -> bool {
        let code = sheet(judgements).finish("http://x", &[Group::Admin]).unwrap();
        code == ExitCode::SUCCESS
    }

    #[test]
    fn a_failure_or_an_untested_group_is_no_success() {
        let pass = || Ok("404".to_owned());
        let skip = || Err(Fault::Untested("no".to_owned()));
        let fail = || Err(Fault::Wrong("200".to_owned()));
        assert!(ends_well(&[pass()]));
        assert!(ends_well(&[pass(), skip()]), "a skip counts as neither");
        assert!(!ends_well(&[pass(), fail()]));
        assert!(!ends_well(&[skip(), skip()]));
        assert!(!ends_well(&[]));
    }

    #[test]
    fn a_line_says_what_was_expected_and_seen() {
        let sheet = sheet(&[Err(Fault::Wrong("200 \x1b[2Jmetrics".to_owned()))]);
        let line = sheet.rows[0].for_people();
        assert!(line.starts_with("FAIL  admin        a check"), "{line}");
        assert!(line.ends_with("expected a 404; saw 200 [2Jmetrics"), "{line}");
    }
}
