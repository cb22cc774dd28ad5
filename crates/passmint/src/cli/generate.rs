//! `passmint completions` and `passmint man`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Command};
use clap_complete::Shell;

use super::output;

#[derive(Args)]
pub(super) struct Completions {
    /// For which shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, command: &mut Command) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "passmint", &mut script);
        Ok(output::line(String::from_utf8_lossy(&script).trim_end())?)
    }
}

#[derive(Args)]
pub(super) struct Man {
    /// The folder to write into.
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(self, command: Command) -> Result<()> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command, folder))
            .with_context(|| format!("cannot write man pages into {}", folder.display()))
    }
}
