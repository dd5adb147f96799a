//! Files with secrets of the process: read whole, and only if nobody else on the machine can.
//!
//! Whoever can read a ticket key can pass for any client, so a mode that lets others read is an error
//! and no warning. The one exception is a file of root's that its group may read: that is how a service
//! without rights is given a secret that it cannot change, and how Kubernetes mounts one. A link is followed and the file that it leads to is judged, once it is open: nobody
//! can put another in its place between the look and the reading. `source` says what is in them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// Why a file was not read, said after its path.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("has mode {0:04o}, so others than its owner may read or write it")]
    Exposed(u32),
    #[error("is longer than {BYTES_MAX} bytes")]
    TooLong,
}

/// What becomes of a secret that others could read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    Refused,
    /// It is about to be replaced.
    Accepted,
}

impl SecretFileError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Read(error) => match error.kind() {
                io::ErrorKind::NotFound => {
                    "relative paths start at the directory of the configuration file, and `~` is not expanded"
                }
                io::ErrorKind::PermissionDenied => {
                    "the user that portcullis runs as must be able to read it"
                }
                _ => "",
            },
            Self::NotAFile => "write the path of a file",
            Self::Exposed(_) => {
                "whoever reads it can pass for any client: chmod 0600 (0640 only where it is root's), and \
                 if others may have read it, put new keys in its place (docs/tickets.md)"
            }
            Self::TooLong => "is this the right file?",
        }
    }
}

/// The whole of `path`, in memory that is wiped.
///
/// # Errors
/// When it cannot be read, or others can.
pub fn read(path: &Path, exposure: Exposure) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    // A pipe would keep the opening waiting for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(opened.map_err(|error| SecretFileError::Read(error.into()))?);
    let metadata = file.metadata().map_err(SecretFileError::Read)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let mode = metadata.mode() & 0o777;
    if is_exposed(mode, metadata.uid()) && exposure == Exposure::Refused {
        return Err(SecretFileError::Exposed(mode));
    }
    if metadata.len() > BYTES_MAX as u64 {
        return Err(SecretFileError::TooLong);
    }
    // All of it at once: a buffer that grew would leave secrets behind where it was.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(SecretFileError::Read)?;
    if bytes.len() > BYTES_MAX { Err(SecretFileError::TooLong) } else { Ok(bytes) }
}

/// Whether a file of this mode and owner is open to more than its owner, or, where that is root, to more
/// than the reading of its group.
fn is_exposed(mode: u32, owner: u32) -> bool {
    let others = if owner == ROOT { 0o037 } else { 0o077 };
    mode & others != 0
}

const ROOT: u32 = 0;

/// Sixty-four keys of HAProxy with comments are eight.
const BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    // threat 21
    #[test]
    fn a_file_that_others_can_read_or_write_is_refused() {
        for mode in [0o600, 0o400, 0o700] {
            let (_folder, path) = file(mode);
            assert_eq!(&read(&path, Exposure::Refused).unwrap()[..], b"secret");
        }
        for mode in [0o660, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777] {
            let (_folder, path) = file(mode);
            let error = read(&path, Exposure::Refused).unwrap_err();
            assert!(matches!(error, SecretFileError::Exposed(found) if found == mode));
            assert!(error.help().contains("chmod 0600"));
            assert_eq!(&read(&path, Exposure::Accepted).unwrap()[..], b"secret");
        }
    }

    // threat 21
    #[test]
    fn only_root_may_let_the_group_read_and_nobody_lets_it_write() {
        for mode in [0o600, 0o400, 0o640, 0o440] {
            assert!(!is_exposed(mode, ROOT), "{mode:o}");
            assert_eq!(is_exposed(mode, 1000), mode & 0o040 != 0, "{mode:o}");
        }
        for mode in [0o660, 0o650, 0o460, 0o604, 0o642, 0o644, 0o444] {
            assert!(is_exposed(mode, ROOT) && is_exposed(mode, 1000), "{mode:o}");
        }
    }

    // threat 21
    #[test]
    fn a_link_is_as_readable_as_what_it_leads_to() {
        for (mode, is_read) in [(0o600, true), (0o644, false)] {
            let (folder, path) = file(mode);
            let link = folder.path().join("link");
            symlink(&path, &link).unwrap();
            assert_eq!(read(&link, Exposure::Refused).is_ok(), is_read, "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_file_of_keys_is_told_and_never_waited_for() {
        let (folder, path) = file(0o600);
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        for not_a_file in [folder.path(), &fifo] {
            let error = read(not_a_file, Exposure::Refused).unwrap_err();
            assert!(matches!(error, SecretFileError::NotAFile), "{error}");
        }
        fs::write(&path, vec![0; BYTES_MAX + 1]).unwrap();
        assert!(matches!(read(&path, Exposure::Refused), Err(SecretFileError::TooLong)));
        let missing = read(&folder.path().join("none"), Exposure::Refused).unwrap_err();
        assert!(missing.to_string().starts_with("cannot be read: "), "{missing}");
        assert!(missing.help().contains("relative paths"));
    }
}
