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
    #[error(
        "cannot read or write the master key {0}: {1}. It must belong to the user that runs Passmint: run this as that user"
    )]
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

/// Makes a key and its file, which must not exist yet, or be empty: what a full disk left of an earlier try.
/// Durable before it returns: keys are going to be sealed under it.
pub fn create(path: &Path) -> Result<SecretBytes, MasterKeyError> {
    let io = |cause| MasterKeyError::Io(path.to_owned(), cause);
    if std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0) {
        std::fs::remove_file(path).map_err(io)?;
    }
    let key = random::bytes::<32>()?.to_vec();
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(&key)));
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(cause) = written {
        // A part of a key is no key.
        drop(std::fs::remove_file(path));
        return Err(io(cause));
    }
    sync_folder(path).map_err(io)?;
    Ok(SecretBytes::new(key))
}

/// Where the key that is to follow that of `path` is made.
pub fn next_of(path: &Path) -> PathBuf {
    with_suffix(path, "new")
}

/// Puts the next key in the place of `path`, durably: at every moment there is a whole key there. Returns where
/// the one that was there is now.
pub fn put_next_in_place(path: &Path) -> Result<PathBuf, MasterKeyError> {
    let old = unused(path, "old");
    std::fs::hard_link(path, &old)
        .or_else(|_| std::fs::copy(path, &old).map(drop))
        .and_then(|()| std::fs::rename(next_of(path), path))
        .and_then(|()| sync_folder(path))
        .map_err(|cause| MasterKeyError::Io(path.to_owned(), cause))?;
    Ok(old)
}

/// The first of `path.suffix`, `path.suffix-2`, … that is not there.
fn unused(path: &Path, suffix: &str) -> PathBuf {
    let numbered = (2..).map(|number| with_suffix(path, &format!("{suffix}-{number}")));
    let mut all = std::iter::once(with_suffix(path, suffix)).chain(numbered);
    // Of endlessly many names one is free.
    all.find(|name| std::fs::symlink_metadata(name).is_err()).unwrap_or_else(|| path.to_owned())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(matches!(read(&path), Err(MasterKeyError::Missing(_))));
        let made = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().expose(), made.expose());
        assert!(matches!(create(&path), Err(MasterKeyError::Io(..))), "it is there already");
        assert!(matches!(
            read(folder.path()),
            Err(MasterKeyError::Exposed(_) | MasterKeyError::Io(..))
        ));
    }

    #[test]
    fn only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        create(&path).unwrap();
        for (mode, may) in [
            (0o400, true),
            (0o600, true),
            (0o700, true),
            (0o640, false),
            (0o604, false),
            (0o610, false),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let exposed = matches!(read(&path), Err(MasterKeyError::Exposed(_)));
            assert_eq!(!exposed, may, "{mode:o}");
        }
    }

    #[test]
    fn what_is_not_32_bytes_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        create(&path).unwrap();
        for bytes in [31, 33] {
            fs::write(&path, STANDARD.encode(vec![7; bytes])).unwrap();
            assert!(matches!(read(&path), Err(MasterKeyError::Malformed(_))), "{bytes}");
        }
        fs::write(&path, format!(" {}\n\n", STANDARD.encode([7; 32]))).unwrap();
        assert_eq!(read(&path).unwrap().expose(), [7; 32]);
    }

    #[test]
    fn the_next_key_takes_the_place_and_no_older_one_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let mut keys = vec![create(&path).unwrap()];
        for old in ["master.key.old", "master.key.old-2", "master.key.old-3"] {
            assert_eq!(next_of(&path), folder.path().join("master.key.new"));
            let next = create(&next_of(&path)).unwrap();
            let put_aside = put_next_in_place(&path).unwrap();
            assert_eq!(put_aside, folder.path().join(old));
            assert_eq!(read(&put_aside).unwrap().expose(), keys.last().unwrap().expose());
            assert_eq!(read(&path).unwrap().expose(), next.expose());
            assert!(!next_of(&path).exists());
            keys.push(next);
        }
        assert!(put_next_in_place(&path).is_err(), "there is no next one");
    }

    #[test]
    fn the_folder_of_a_name_without_one_is_the_one_at_hand() {
        assert!(sync_folder(Path::new("master.key")).is_ok());
        assert!(sync_folder(Path::new("/nowhere/master.key")).is_err());
    }
}
