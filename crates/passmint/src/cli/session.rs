//! `passmint session`

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::control::{self, Request};
use super::output;
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum Session {
    /// List a user's sessions.
    List(List),
    /// End one session, or all of a user.
    End(End),
    /// Say why a session ended: "why was I logged out?"
    Explain(Explain),
}

#[derive(Args)]
pub(super) struct List {
    /// The username.
    name: String,
    /// Show ended sessions too.
    #[arg(long)]
    ended: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false, id = "which")]
pub(super) struct End {
    /// The session's id.
    #[arg(group = "which")]
    id: Option<String>,
    /// All sessions of this user.
    #[arg(long, group = "which", value_name = "NAME")]
    user: Option<String>,
}

#[derive(Args)]
pub(super) struct Explain {
    /// The session's id: the claim `sid` of a token.
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Session {
    pub(super) async fn run(self, config: &Config) -> Result<()> {
        match self {
            Self::List(List { name, ended, json }) => {
                let sessions = control::send(config, Request::SessionList { name, ended }).await?;
                if json {
                    return output::json(&sessions);
                }
                let columns = [
                    ("id", "ID"),
                    ("created_at", "CREATED"),
                    ("last_used_at", "LAST USED"),
                    ("address", "ADDRESS"),
                    ("reason", "ENDED"),
                    ("user_agent", "CLIENT"),
                ];
                output::table(sessions.as_array().map_or(&[], Vec::as_slice), &columns)
            }
            Self::End(End { id, user }) => {
                let request = match (id, user) {
                    (Some(id), _) => Request::SessionEnd { id },
                    (None, user) => Request::SessionEndAll { name: user.unwrap_or_default() },
                };
                let ended = control::send(config, request).await?;
                let count = ended.get("ended").and_then(Value::as_u64).unwrap_or_default();
                match count {
                    0 => say!("No session was live."),
                    1 => say!("1 session ended."),
                    count => say!("{count} sessions ended."),
                }
                Ok(())
            }
            Self::Explain(Explain { id, json }) => {
                let session = control::send(config, Request::SessionExplain { id }).await?;
                if json {
                    return output::json(&session);
                }
                output::fields(&session)
            }
        }
    }
}
