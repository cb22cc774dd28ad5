//! The data folder, the database in it, and its keys.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;

use super::{Finding, Verdict};
use crate::app::{mark_folders, master_key_file};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::crypto::master_key as key_file;
use crate::crypto::sealing::Sealer;
use crate::domain::secret::SecretBytes;
use crate::store::sqlite::{Examined, HighestUserId, OpenError, SqliteStore};

/// `None` where there is no folder: that is said of the database.
pub(super) fn folder(folder: &Path) -> Option<Finding> {
    const WHAT: &str = "data folder";
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let shown = folder.display();
    let is_open = std::fs::metadata(folder).ok()?.permissions().mode() & 0o077 != 0;
    let is_writable = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let (verdict, text) = if !is_writable {
        let text = format!(
            "{shown} is not yours to write: run this as the user that runs Passmint, or give the \
             folder to it"
        );
        (Verdict::Wrong, text)
    } else if is_open {
        (Verdict::Advice, format!("{shown} is open to other users: run `chmod 700 {shown}`"))
    } else if is_network_file_system(folder) {
        let text = format!(
            "{shown} is on a network file system, where SQLite can neither lock nor share memory \
             reliably: put it on a local disk"
        );
        (Verdict::Wrong, text)
    } else {
        (Verdict::Good, shown.to_string())
    };
    Some(Finding::new(verdict, WHAT, text))
}

/// Whether a folder is on NFS, SMB or CIFS (`statfs(2)`).
fn is_network_file_system(folder: &Path) -> bool {
    const NFS: i64 = 0x6969;
    const SMB: i64 = 0x517b;
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    rustix::fs::statfs(folder).is_ok_and(|found| [NFS, SMB, CIFS, SMB2].contains(&found.f_type))
}

/// The name of the findings about the database file.
const DATABASE: &str = "database";

/// It is not known whether there is a database: that is no first start.
pub(super) fn unseen(path: &Path, error: &std::io::Error) -> Finding {
    let text = format!(
        "cannot look at {}: {error}. Run this as the user that runs Passmint",
        path.display()
    );
    Finding::new(Verdict::Wrong, DATABASE, text)
}

/// The file is gone or was emptied under a server that has it open.
pub(super) fn gone_while_held(path: &Path) -> Finding {
    let text = format!(
        "{} is gone or empty, but the server that runs still holds it: copy it while it does, from \
         /proc/PID/fd, or restore a backup",
        path.display()
    );
    Finding::new(Verdict::Wrong, DATABASE, text)
}

/// A server would not start on it.
pub(super) fn must_not_begin(error: &anyhow::Error) -> Finding {
    Finding::new(Verdict::Wrong, DATABASE, format!("{error:#}"))
}

/// Below this a server is about to fail, or has begun to.
const TOO_LITTLE: u64 = 32 << 20;
/// Below this it is time to look.
const LITTLE: u64 = 512 << 20;

/// What is left on the data's file system for who is not root; `None` where that cannot be told.
pub(super) fn free_space(folder: &Path) -> Option<Finding> {
    const WHAT: &str = "free space";
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let found = rustix::fs::statvfs(folder).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} MiB are free for {}", free >> 20, folder.display());
    Some(match free {
        0..TOO_LITTLE => {
            Finding::new(Verdict::Wrong, WHAT, text + ": logins and refreshes fail on a full disk")
        }
        TOO_LITTLE..LITTLE => Finding::new(Verdict::Advice, WHAT, text),
        _ => Finding::new(Verdict::Good, WHAT, text),
    })
}

/// How far ahead tokens may have been issued before it is said.
const AHEAD: Duration = Duration::from_hours(24);

pub(super) fn database(path: &Path, examined: Option<&Result<Examined, OpenError>>) -> Finding {
    const WHAT: &str = DATABASE;
    let shown = path.display();
    let Some(examined) = examined else {
        let text = format!("{shown} does not exist yet; the first start makes it");
        return Finding::new(Verdict::Advice, WHAT, text);
    };
    let newest = SqliteStore::newest_version();
    let now = SystemClock::default().now();
    match examined {
        Err(error) => Finding::new(Verdict::Wrong, WHAT, error.to_string()),
        Ok(Examined { quick_check, .. }) if quick_check != "ok" => {
            let text =
                format!("{shown} is damaged ({quick_check}): stop the server and restore a backup");
            Finding::new(Verdict::Wrong, WHAT, text)
        }
        Ok(Examined { version, .. }) if *version > newest => {
            let text = format!(
                "{shown} has schema {version}, this Passmint knows {newest}: run the newer Passmint"
            );
            Finding::new(Verdict::Wrong, WHAT, text)
        }
        Ok(Examined { version, .. }) if *version < newest => {
            let text =
                format!("schema {version} of {newest}: run `passmint db migrate` or start it");
            Finding::new(Verdict::Advice, WHAT, text)
        }
        Ok(Examined { issued_until: Some(until), .. }) if *until > now.plus(AHEAD) => {
            let text = format!(
                "tokens were issued while the clock was ahead, up to {}: revocations are kept until \
                 after that. Nothing is lost; see docs/explanation/sessions.md",
                until.iso8601()
            );
            Finding::new(Verdict::Advice, WHAT, text)
        }
        Ok(_) if rustix::fs::access(path, Access::WRITE_OK).is_err() => {
            let text = format!(
                "{shown} is not yours to write: run this as the user that runs Passmint, or `chmod 600` it"
            );
            Finding::new(Verdict::Wrong, WHAT, text)
        }
        Ok(Examined { version, .. }) => {
            Finding::new(Verdict::Good, WHAT, format!("{shown}, schema {version}, undamaged"))
        }
    }
}

pub(super) fn master_key(config: &Config, examined: Option<Examined>) -> Finding {
    const WHAT: &str = "master key";
    let seal_check = examined.and_then(|examined| examined.seal_check);
    let fits =
        |key: &SecretBytes| seal_check.as_ref().is_none_or(|check| Sealer::is_check_of(key, check));
    let wrong = |place: &str| {
        let text = format!(
            "{place} is not the master key that the database's keys are sealed under: put the right \
             one back from its copy"
        );
        Finding::new(Verdict::Wrong, WHAT, text)
    };
    if let Some(key) = &config.master_key.value {
        if !fits(key) {
            return wrong("master_key.value");
        }
        return Finding::new(Verdict::Good, WHAT, "given by master_key.value");
    }
    let file = master_key_file(config);
    match key_file::read(&file) {
        Ok(key) if !fits(&key) => match key_file::read(&key_file::next_of(&file)) {
            Ok(next) if seal_check.is_some() && fits(&next) => {
                let text = "`key reseal` was cut off before the new key was in its place; the next start \
                            of the server, or any other command, completes it";
                Finding::new(Verdict::Advice, WHAT, text)
            }
            _ => wrong(&file.display().to_string()),
        },
        Ok(_) => {
            let text = format!("{}; keep a copy apart from the database's backups", file.display());
            Finding::new(Verdict::Good, WHAT, text)
        }
        Err(key_file::MasterKeyError::Missing(_)) if seal_check.is_none() => {
            Finding::new(Verdict::Advice, WHAT, "not made yet; the first start makes it")
        }
        Err(error) => Finding::new(Verdict::Wrong, WHAT, error.to_string()),
    }
}

/// The demo's user has a password that everybody can read.
pub(super) fn demo_user(examined: Option<&Examined>) -> Option<Finding> {
    let text = "the demo's user sample_user, whose password is documented, may log in here: `passmint user \
                delete sample_user`, or give it another name";
    let there = examined.is_some_and(|examined| examined.has_demo_user);
    there.then(|| Finding::new(Verdict::Advice, "users", text))
}

/// Whether the highest id of a user can be read where it is noted outside the database.
pub(super) fn highest_user_id(config: &Config, examined: Option<&Examined>) -> Option<Finding> {
    let read = HighestUserId::read(&mark_folders(config), examined?.database_id?);
    read.err().map(|error| Finding::new(Verdict::Wrong, "highest user id", error.to_string()))
}

/// Keys of other services that are believed until somebody revokes them.
pub(super) fn keys(examined: Option<&Examined>) -> Option<Finding> {
    let keys = &examined?.keys_for_good;
    if keys.is_empty() {
        return None;
    }
    let named: Vec<String> = keys.iter().map(|(kid, use_)| format!("{kid} ({use_})")).collect();
    let text = format!(
        "verify for good: {}. Whoever has such a secret or private key says who a token is for; once the \
         last token of the old service has run out, `passmint key revoke KID`",
        named.join(", ")
    );
    Some(Finding::new(Verdict::Advice, "keys", text))
}
