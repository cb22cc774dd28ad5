//! The master key's file: 32 random bytes in base64, mode 0600.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::random;
use crate::domain::secret::SecretBytes;

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The database has keys, but the file is not there.
    #[error(
        "the database holds keys sealed under a master key, but {0} does not exist: put the file \
         back, or name it with master_key.file"
    )]
    Missing(PathBuf),
    /// Not 32 bytes in base64.
    #[error(
        "{0} is not a master key: it must hold 32 bytes in base64, as `openssl rand -base64 32` prints"
    )]
    Malformed(PathBuf),
    /// Others can read it.
    #[error("{0} can be read by others: run `chmod 600 {0}`")]
    Exposed(PathBuf),
    /// The system said no.
    #[error("cannot read or write the master key {0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// As it says.
    #[error(transparent)]
    Randomness(#[from] random::NoRandomness),
}

/// Reads the key of `path`.
pub fn read(path: &Path) -> Result<SecretBytes, MasterKeyError> {
    let io = |cause: std::io::Error| match cause.kind() {
        std::io::ErrorKind::NotFound => MasterKeyError::Missing(path.to_owned()),
        _ => MasterKeyError::Io(path.to_owned(), cause),
    };
    let mut file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(MasterKeyError::Exposed(path.to_owned()));
    }
    let mut text = Zeroizing::new(String::new());
    (&mut file).take(1024).read_to_string(&mut text).map_err(io)?;
    let key = STANDARD.decode(text.trim()).ok().filter(|key| key.len() == 32);
    key.map(SecretBytes::new).ok_or_else(|| MasterKeyError::Malformed(path.to_owned()))
}

/// Makes a key and its file, which must not exist yet. Durable before it returns: keys are going to
/// be sealed under it.
pub fn create(path: &Path) -> Result<SecretBytes, MasterKeyError> {
    let io = |cause| MasterKeyError::Io(path.to_owned(), cause);
    let key = random::bytes::<32>()?.to_vec();
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(&key)));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    sync_folder(path).map_err(io)?;
    Ok(SecretBytes::new(key))
}

/// Puts `current` aside as `old` and `new` in its place, durably.
pub fn replace(current: &Path, new: &Path, old: &Path) -> Result<(), MasterKeyError> {
    std::fs::rename(current, old)
        .and_then(|()| std::fs::rename(new, current))
        .and_then(|()| sync_folder(current))
        .map_err(|cause| MasterKeyError::Io(current.to_owned(), cause))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}
