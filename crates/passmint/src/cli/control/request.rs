//! What a command can ask for.

use passmint_verify::Algorithm;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::service::user::ImportedUser;

/// One request. Secrets travel in it, so it has no `Debug`.
#[derive(Serialize, Deserialize)]
pub(in crate::cli) enum Request {
    UserAdd { name: String, email: String, roles: Vec<String>, password: Option<String> },
    UserList { after: Option<i64>, limit: u32 },
    UserShow { name: String },
    UserSet(Box<UserSet>),
    UserPassword { name: String, password: String, generated: bool },
    UserEnable { name: String },
    UserDisable { name: String },
    UserDelete { name: String },
    UserUnlock { name: String },
    UserImport { users: Vec<ImportedUser> },
    UserImportCheck { users: Vec<ImportedUser> },
    SessionList { name: String, ended: bool },
    SessionEnd { id: String },
    SessionEndAll { name: String },
    SessionExplain { id: String },
    KeyList,
    KeyRotate { now: bool },
    KeyRevoke { kid: String },
    KeyImport { content: Vec<u8>, algorithm: Algorithm, verify_only: bool },
    KeyReseal { master_key: Vec<u8>, current: Option<Vec<u8>> },
    AuditList(AuditPage),
    AuditVerify { noted: Option<(i64, String)> },
    DatabaseVersion,
    StoreCheck,
    Settings,
}

impl Request {
    /// Whether it makes sense as the first thing ever done: a new database is made for it.
    pub(super) fn may_begin(&self) -> bool {
        matches!(self, Self::UserAdd { .. } | Self::UserImport { .. } | Self::KeyImport { .. })
    }
}

/// Which audit records to read.
#[derive(Default, Serialize, Deserialize)]
pub(in crate::cli) struct AuditPage {
    pub(in crate::cli) after: i64,
    pub(in crate::cli) before: Option<i64>,
    pub(in crate::cli) user: Option<String>,
    pub(in crate::cli) event: String,
    pub(in crate::cli) limit: u32,
    pub(in crate::cli) newest_first: bool,
}

/// What to change about a user.
#[derive(Serialize, Deserialize)]
pub(in crate::cli) struct UserSet {
    pub(in crate::cli) name: String,
    pub(in crate::cli) email: Option<String>,
    pub(in crate::cli) first_name: Option<String>,
    pub(in crate::cli) last_name: Option<String>,
    pub(in crate::cli) roles: Option<Vec<String>>,
    pub(in crate::cli) claims: Vec<(String, Value)>,
}
