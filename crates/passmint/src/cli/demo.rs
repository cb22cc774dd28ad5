//! `passmint demo`: everything on an embedded database, with calls to try.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::output;
use super::serve::{OnHangup, Running};
use crate::app::{self, Opening, Server};
use crate::clock::{Clock, SystemClock, TurnableClock};
use crate::config::{Config, Place, Sources};
use crate::domain::secret::Password;
use crate::domain::user::Username;
use crate::service::Services;
use crate::service::user::UserError;
use crate::telemetry;

/// The documented sample user.
const USER: &str = "sample_user";
const PASSWORD: &str = "1234Pass";

#[derive(Args)]
pub(super) struct Demo {
    /// Let POST /demo/clock {"advance":"25h"} on the admin listener turn the server's clock.
    #[arg(long)]
    clock: bool,
}

impl Demo {
    pub(super) async fn run(self, mut sources: Sources) -> Result<()> {
        let temporary = match &sources.data {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("passmint-demo-")
                    .permissions(Permissions::from_mode(0o700))
                    .tempdir()
                    .context("cannot make a temporary folder")?,
            ),
        };
        if let Some(folder) = &temporary {
            sources.data = Some(folder.path().to_owned());
        }
        let config = Config::load(&sources)?;
        let by_default = |setting: &crate::config::Effective| {
            setting.setting == "log.level" && setting.place == Place::Default
        };
        if config.effective.iter().any(by_default) {
            sources.overrides.push(("log.level", "warn".to_owned()));
        }
        let taken = [
            free_port(&mut sources, "server.listen", config.server.listen),
            free_port(&mut sources, "server.admin_listen", config.server.admin_listen),
        ];
        let config = Config::load(&sources)?;
        let telemetry = telemetry::start(&config.log, &config.otlp)?;
        let clock =
            self.clock.then(|| Arc::new(TurnableClock::new(Arc::new(SystemClock::default()))));
        let time: Arc<dyn Clock> = match &clock {
            Some(clock) => Arc::clone(clock) as _,
            None => Arc::new(SystemClock::default()),
        };
        let services = app::open(config, time, Opening::Demo).await?;
        let changed = !add_sample_user(&services).await?;
        let server = Server::bind(services.clone(), clock)?;
        let (public, admin) = server.urls()?;
        let running = Running::start(server, services, sources.clone(), telemetry, OnHangup::Stop)?;
        let listeners = [("the demo", &public), ("its admin listener", &admin)];
        for (taken, (what, url)) in taken.into_iter().zip(listeners) {
            if let Some(taken) = taken {
                say!("passmint: {taken} is taken, so {what} is at {url} instead.");
            }
        }
        let data = sources.data.unwrap_or_default();
        if changed {
            let data = quoted(&data.display().to_string());
            say!(
                "passmint: in {data}, {USER} cannot log in with {PASSWORD} any more. \
                 `user delete {USER}`, and the next demo adds it anew."
            );
        }
        let banner = banner(&public, &admin, &data.display().to_string(), self.clock);
        output::line(&banner)?;
        running.wait().await
    }
}

/// Lets the system choose a port where the configured one is taken; which one was.
fn free_port(
    sources: &mut Sources,
    setting: &'static str,
    wanted: SocketAddr,
) -> Option<SocketAddr> {
    let taken = TcpListener::bind(wanted).is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse);
    taken.then(|| {
        sources.overrides.push((setting, SocketAddr::new(wanted.ip(), 0).to_string()));
        wanted
    })
}

/// Whether the sample user can log in with its password.
async fn add_sample_user(services: &Services) -> Result<bool> {
    let password = Password::new(PASSWORD.to_owned());
    let email = "sample_user@example.com".to_owned();
    let name = Username::canonical(USER);
    let others = services.users.list(None, 1).await?;
    if others.iter().any(|user| user.username != name) && services.users.find(USER).await.is_err() {
        bail!(
            "this folder holds the data of other users: the demo would add one with a known password"
        );
    }
    let added = services.users.add_unchecked(name, password.clone(), email, Vec::new()).await;
    match added {
        Ok(_) => Ok(true),
        Err(UserError::NameTaken) => Ok(services.users.has_password(USER, password).await?),
        Err(error) => Err(error).context("cannot add the sample user"),
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn banner(public: &str, admin: &str, data: &str, clock: bool) -> String {
    let turn = if clock {
        format!(
            "\n  Turn the clock on by a day and an hour, and see the token expire:\n\
             \n    curl -s {admin}/demo/clock -d '{{\"advance\":\"25h\"}}'\n"
        )
    } else {
        String::new()
    };
    let program = std::env::current_exe()
        .map_or("passmint".into(), |path| quoted(&path.display().to_string()));
    let data = quoted(data);
    format!(
        r#"Passmint demo is ready at {public} with the user {USER} / {PASSWORD}

  Log in:

    ANSWER=$(curl -s {public}/api/v1/token-auth/ -d username={USER} -d password={PASSWORD})
    echo "$ANSWER"

  Use the token:

    TOKEN=$(echo "$ANSWER" | cut -d '"' -f 4)
    curl -s {public}/api/v1/me/ -H "Authorization: JWT $TOKEN"

  Refresh:

    REFRESH=$(echo "$ANSWER" | cut -d '"' -f 8)
    curl -s {public}/api/v1/token-refresh/ -d refresh_token="$REFRESH"
{turn}
  Keys for services that check tokens   {public}/.well-known/jwks.json
  Metrics                               {admin}/metrics
  Docs                                  docs/README.md in the source; {program} help
  Commands beside it                    {program} --data {data} user list
  Stop                                  Ctrl-C
"#
    )
}
