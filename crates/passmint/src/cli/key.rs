//! `passmint key`

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use passmint_verify::Algorithm;
use serde_json::Value;

use super::control::{self, Request};
use super::output;
use crate::app::master_key_file;
use crate::config::Config;
use crate::crypto::key_import::raw_secret;
use crate::crypto::master_key;

#[derive(Subcommand)]
pub(super) enum Key {
    /// List keys and where they stand.
    List(List),
    /// Make a new signing key. It is published for an hour before it signs.
    Rotate(Rotate),
    /// Drop a key at once. Revoking a refresh key ends its sessions.
    Revoke(Revoke),
    /// Import a key, to sign with from now on or only to verify with.
    Import(Import),
    /// Seal all keys anew under another master key.
    Reseal(Reseal),
}

#[derive(Args)]
pub(super) struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Rotate {
    /// Sign with the new key at once. Services that cached the JWKS refuse its tokens until they
    /// fetch it again.
    #[arg(long)]
    now: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Revoke {
    /// The key's id, as `key list` shows it. One in 64 begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    kid: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Alg {
    #[value(name = "ES256")]
    Es256,
    #[value(name = "EdDSA")]
    EdDsa,
    #[value(name = "RS256")]
    Rs256,
    #[value(name = "HS256")]
    Hs256,
}

impl From<Alg> for Algorithm {
    fn from(alg: Alg) -> Self {
        match alg {
            Alg::Es256 => Self::Es256,
            Alg::EdDsa => Self::EdDsa,
            Alg::Rs256 => Self::Rs256,
            Alg::Hs256 => Self::Hs256,
        }
    }
}

#[derive(Args)]
pub(super) struct Import {
    /// A PEM private or public key, or a raw secret for HS256.
    file: PathBuf,
    /// The key's algorithm.
    #[arg(long, value_enum, ignore_case = true)]
    alg: Alg,
    /// Only verify with it; tokens of an existing service stay good.
    #[arg(long)]
    verify_only: bool,
    /// Take an HS256 secret as it is, although it looks like more than a secret: quotes, blanks, `NAME = …`.
    #[arg(long)]
    exactly: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Reseal {
    /// The file of the new master key (`openssl rand -base64 32`, mode 0600). Without it, one is made
    /// beside the old one, which is kept as FILE.old, or FILE.old-2 and so on where that is taken:
    /// backups of its time need it.
    #[arg(long, value_name = "FILE")]
    new_master_key: Option<PathBuf>,
}

impl Key {
    pub(super) async fn run(self, config: &Config) -> Result<()> {
        match self {
            Self::List(List { json }) => list(config, json).await,
            Self::Rotate(Rotate { now, json }) => {
                let made = control::send(config, Request::KeyRotate { now }).await?;
                let gave_way = made.get("gave_way").and_then(Value::as_array);
                for kid in gave_way.into_iter().flatten().filter_map(Value::as_str) {
                    say!("The published key {kid} had not signed yet, and gave way.");
                }
                let from = if now { "now on" } else { "one hour from now on" };
                tell_kid(&made, json, &format!("signs from {from}"))
            }
            Self::Revoke(Revoke { kid }) => {
                let revoked =
                    control::send(config, Request::KeyRevoke { kid: kid.clone() }).await?;
                let effect = match revoked.get("use").and_then(Value::as_str) {
                    Some("signing") => "the tokens that it signed are refused; no session ended",
                    Some("refresh") => "the sessions whose refresh tokens it made have ended",
                    _ => "failed logins are forgotten, so that nobody is held back any more",
                };
                say!("{kid} is revoked: {effect}.");
                Ok(())
            }
            Self::Import(import) => import.run(config).await,
            Self::Reseal(reseal) => reseal.run(config).await,
        }
    }
}

async fn list(config: &Config, json: bool) -> Result<()> {
    let keys = control::send(config, Request::KeyList).await?;
    if json {
        return output::json(&keys);
    }
    let columns = [
        ("kid", "KID"),
        ("use", "USE"),
        ("algorithm", "ALGORITHM"),
        ("state", "STATE"),
        ("state_at", "SINCE/UNTIL"),
    ];
    output::table(keys.as_array().map_or(&[], Vec::as_slice), &columns)
}

fn tell_kid(answer: &Value, json: bool, what: &str) -> Result<()> {
    if json {
        return output::json(answer);
    }
    let kid = answer.get("kid").and_then(Value::as_str).unwrap_or_default();
    say!("The key {what}.");
    Ok(output::line(kid)?)
}

impl Import {
    async fn run(self, config: &Config) -> Result<()> {
        let content = std::fs::read(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        if content.starts_with(b"django-insecure-") {
            say!(
                "passmint: this secret begins with `django-insecure-`: Django makes such ones for \
                 development, and they often stand in a repository. Whoever has it can make tokens."
            );
        }
        if let (Alg::Hs256, false, Some(what)) =
            (self.alg, self.exactly, more_than_a_secret(&content))
        {
            bail!(
                "{} {what}, which services would not take for a part of the secret: write the secret alone, or \
                 add --exactly",
                self.file.display()
            );
        }
        let request = Request::KeyImport {
            content,
            algorithm: self.alg.into(),
            verify_only: self.verify_only,
        };
        let imported = control::send(config, request).await?;
        let what = if self.verify_only { "verifies from now on" } else { "signs from now on" };
        tell_kid(&imported, self.json, what)
    }
}

/// What in the file of an HS256 secret is hardly a part of it.
fn more_than_a_secret(content: &[u8]) -> Option<&'static str> {
    // Random bytes are hardly ever text.
    let line = std::str::from_utf8(raw_secret(content)).ok()?;
    if line.trim().is_empty() {
        // Refused for another reason.
        return None;
    }
    let quoted = |quote: char| line.len() > 1 && line.starts_with(quote) && line.ends_with(quote);
    let is_name = |text: &str| {
        let text = text.trim();
        !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    let assigned = line.split_once(['=', ':']).is_some_and(|(name, value)| {
        is_name(name) && (value.starts_with(' ') || value.trim().starts_with(['"', '\'']))
    });
    let found = [
        (line.starts_with('\u{feff}'), "begins with a byte order mark"),
        (line.trim() != line, "begins or ends with blanks or empty lines"),
        (quoted('"') || quoted('\''), "has the secret in quotes"),
        (assigned, "has a name before the secret"),
    ];
    found.into_iter().find_map(|(is_so, what)| is_so.then_some(what))
}

impl Reseal {
    async fn run(self, config: &Config) -> Result<()> {
        if config.master_key.value.is_some() && self.new_master_key.is_none() {
            bail!("the master key is given by master_key.value: name a file with --new-master-key");
        }
        let current = master_key_file(config);
        let (file, made) = match self.new_master_key {
            Some(file) if !file.exists() => bail!(
                "{0} does not exist: make it with `(umask 077; openssl rand -base64 32 > {0})`",
                file.display()
            ),
            Some(file) => (file, false),
            None => (master_key::next_of(&current), true),
        };
        // A file to be replaced must be the one in use, or the next start would find the wrong key.
        let replaced = if made { Some(master_key::read(&current)?) } else { None };
        let is_empty = std::fs::metadata(&file).map_or(true, |file| file.len() == 0);
        let key =
            if made && is_empty { master_key::create(&file)? } else { master_key::read(&file)? };
        let request = Request::KeyReseal {
            master_key: key.expose().to_vec(),
            current: replaced.map(|key| key.expose().to_vec()),
        };
        let resealed = control::send(config, request).await?;
        let count = resealed.get("resealed").and_then(Value::as_u64).unwrap_or_default();
        let sealed = format!("{count} keys are sealed under {}.", file.display());
        if made {
            let old = master_key::put_next_in_place(&current)?;
            say!("{sealed}");
            say!("It is now {}; the old one is {}.", current.display(), old.display());
        } else {
            say!("{sealed}");
            say!("Give it as master_key.file before the next start.");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_with_something_around_it_is_told_from_one_alone() {
        let secret = "django_x=5^kq83:nfu2-9dd1 xx0p'77aa\"zi4m";
        for alone in [secret.to_owned(), format!("{secret}\n"), format!("{secret}\r\n")] {
            assert_eq!(more_than_a_secret(alone.as_bytes()), None, "{alone:?}");
        }
        for alone in ["ABCDEF=kq83nfu29dd1xx0p77aazi4m", "'kq83nfu2", "KQ83:NFU2"] {
            assert_eq!(more_than_a_secret(alone.as_bytes()), None, "{alone:?}");
        }
        assert_eq!(more_than_a_secret(&[0xff, b' ', 0x0c]), None);
        assert_eq!(more_than_a_secret(&[b' '; 40]), None, "can be guessed, which is worse");
        for (around, what) in [
            (format!("{secret}\n\n"), "empty lines"),
            (format!(" {secret}"), "blanks"),
            (format!("{secret}\t\n"), "blanks"),
            (format!("\u{feff}{secret}\n"), "byte order mark"),
            (format!("'{secret}'\n"), "quotes"),
            (format!("\"{secret}\""), "quotes"),
            (format!("SECRET_KEY = '{secret}'\n"), "a name"),
            (format!("JWT_SECRET=\"{secret}\"\n"), "a name"),
            (format!("SECRET_KEY: {secret}\n"), "a name"),
        ] {
            let found = more_than_a_secret(around.as_bytes()).unwrap_or_default();
            assert!(found.contains(what), "{around:?}: {found}");
        }
    }
}
