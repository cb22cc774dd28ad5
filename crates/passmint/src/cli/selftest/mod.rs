//! `passmint selftest URL`: attacks a running server of one's own and says what held.
//!
//! Black-box: it knows the contract and speaks HTTP, so it works against any deployment, behind a
//! proxy too. A family of attacks is a file or folder; `client` speaks HTTP, `ground` is what all
//! attacks stand on, `sheet` keeps the results.

mod admin;
mod bodies;
mod client;
mod enumeration;
mod forge;
mod ground;
mod headers;
mod judgement;
mod public_key;
mod refresh;
mod sheet;
mod statistics;
mod target;
mod tls;
mod tokens;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use self::client::Client;
use self::ground::{Given, Ground};
use self::judgement::describe;
use self::sheet::{Group, Sheet};
use self::target::Target;
use self::tls::Trust;
use super::user::password_from_stdin;
use crate::config::parse_duration;
use crate::domain::secret::Password;

const EXAMPLE: &str = "\
Only attack a server that is yours. The requests are real: dozens of logins, hundreds of failed ones, and \
lines in its log about them.

The demo, in another terminal:
  echo 1234Pass | passmint selftest http://127.0.0.1:8080 --username sample_user --password-stdin

Exit codes: 0 all passed, 1 something failed or a group could not be tested, 2 usage.";

#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Selftest {
    /// The server's public address, as in `https://login.example.org`.
    url: Target,
    /// A user of that server to attack with; its other sessions are left alone.
    #[arg(long, value_name = "NAME")]
    username: String,
    /// Read the user's password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
    /// A disabled user of that server, to see that it cannot be told from an unknown one.
    #[arg(long, value_name = "NAME")]
    disabled_username: Option<String>,
    /// Trust the certificates in this PEM file, of authorities or the server's own, instead of the
    /// system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Do not check the server's certificate.
    #[arg(long)]
    insecure: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Run only this group; may be given several times.
    #[arg(long, value_name = "GROUP", value_enum)]
    only: Vec<Group>,
    /// Samples of each kind for the timing of logins.
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(50..=10_000))]
    samples: u32,
    /// Also wait this long and use a replaced refresh token too late; more than twice
    /// `sessions.reuse_interval`, as in 125s.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    reuse_wait: Option<Duration>,
}

/// A message beside the sheet.
fn tell(text: &str) {
    say!("passmint: {text}");
}

impl Selftest {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let Some(password) = self.password()? else {
            tell("no password: give it with --password-stdin, or run on a terminal");
            return Ok(ExitCode::from(2));
        };
        let url = self.url.to_string();
        let client = self.client()?;
        tell(&format!("attacking {url}. Only attack a server that is yours."));
        client.connect().await.with_context(|| format!("cannot reach {url}"))?;
        let groups: Vec<Group> = Group::ALL
            .into_iter()
            .filter(|group| self.only.is_empty() || self.only.contains(group))
            .collect();
        let mut sheet = Sheet::new(self.json);
        let given = Given {
            username: self.username,
            password,
            disabled_username: self.disabled_username,
            samples: self.samples,
            reuse_wait: self.reuse_wait,
        };
        let ground = Ground::new(client, given);
        // Most checks need a login, and each would say so for itself.
        let first = ground.try_login().await.with_context(|| format!("cannot log in at {url}"))?;
        if matches!(first.status, 206 | 401) {
            let name = &ground.given.username;
            tell(&format!("cannot log in as {name}: {}; is the password right?", describe(&first)));
            return Ok(ExitCode::FAILURE);
        }
        ground.end(&first).await;
        for group in &groups {
            match group {
                Group::Tokens => tokens::run(&ground, &mut sheet).await,
                Group::Refresh => refresh::run(&ground, &mut sheet).await,
                Group::Enumeration => enumeration::run(&ground, &mut sheet).await,
                Group::Headers => headers::run(&ground, &mut sheet).await,
                Group::Bodies => bodies::run(&ground, &mut sheet).await,
                Group::Admin => admin::run(&ground, &mut sheet).await,
            }
        }
        match ground.leave().await {
            0 => {}
            left => tell(&format!("{left} sessions of this run could not be ended")),
        }
        sheet.finish(&url, &groups)
    }

    fn client(&self) -> Result<Client> {
        let trust = match &self.ca {
            _ if self.insecure => Trust::Nobody,
            Some(file) => Trust::File(file),
            None => Trust::System,
        };
        if self.insecure {
            tell("--insecure: the server's certificate is not checked, so anybody can be it.");
        }
        let tls = if self.url.https { Some(tls::connector(&trust)?) } else { None };
        Ok(Client::new(self.url.clone(), tls))
    }

    /// `None`: there is nobody to ask.
    fn password(&self) -> Result<Option<Password>> {
        if self.password_stdin {
            return Ok(Some(Password::new(password_from_stdin()?)));
        }
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let prompt = format!("Password of {}: ", self.username);
        Ok(Some(Password::new(rpassword::prompt_password(prompt)?)))
    }
}
