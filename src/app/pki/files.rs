//! Writing certificates and keys: all or nothing, and never over what is there. Only `replace` does
//! that, for revocation lists.
//!
//! Every text is first written whole to a temporary file beside its destination, created with
//! O_EXCL and its final mode; only when all of them are on disk they get their names, in one step
//! each that fails if the name is taken.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::PkiError;

/// A file to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewFile<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    /// Permission bits, less those that the umask takes.
    pub(super) mode: u32,
}

/// An error if any of these names is taken, be it by a dangling symbolic link. `option` is what the
/// user may choose otherwise.
pub(super) fn refuse_existing<'a>(
    paths: impl IntoIterator<Item = &'a PathBuf>,
    option: &'static str,
) -> Result<(), PkiError> {
    for path in paths {
        match fs::symlink_metadata(path) {
            Ok(_) => return Err(PkiError::Exists { path: path.clone(), option }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(PkiError::Read { path: path.clone(), source }),
        }
    }
    Ok(())
}

/// Makes all the files and the directories they lie in, or none of the files.
pub(super) fn write_all(files: &[NewFile<'_>], option: &'static str) -> Result<(), PkiError> {
    let mut staged = Vec::with_capacity(files.len());
    for file in files {
        let temporary = stage(file.path, file.text.as_bytes(), file.mode);
        staged.push(temporary.map_err(|source| failed(file, source, option))?);
    }
    for (done, (file, temporary)) in files.iter().zip(staged).enumerate() {
        if let Err(error) = temporary.persist_noclobber(file.path) {
            // Ours for certain: these names were free when they were given a moment ago.
            for earlier in &files[..done] {
                drop(fs::remove_file(earlier.path));
            }
            return Err(failed(file, error.error, option));
        }
    }
    Ok(())
}

/// Writes a file in the place of the one that may be there; whoever reads sees either whole.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let written = stage(path, bytes, mode)
        .and_then(|temporary| temporary.persist(path).map_err(|error| error.error));
    match written {
        Ok(_) => Ok(()),
        Err(source) => Err(PkiError::Write { path: path.to_owned(), source }),
    }
}

fn stage(path: &Path, bytes: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).create(directory)?;
    let mut temporary = Builder::new()
        .prefix(".portcullis-pki-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

fn failed(file: &NewFile<'_>, source: io::Error, option: &'static str) -> PkiError {
    let path = file.path.to_owned();
    match source.kind() {
        ErrorKind::AlreadyExists => PkiError::Exists { path, option },
        _ => PkiError::Write { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let [free, taken] = ["free", "taken"].map(|name| directory.path().join(name));
        fs::write(&taken, "theirs").unwrap();
        let file = |path, text| NewFile { path, text, mode: 0o600 };
        let error = write_all(&[file(&free, "a"), file(&taken, "b")], "--dir").unwrap_err();
        assert!(matches!(error, PkiError::Exists { path, .. } if path == taken));
        assert_eq!(fs::read_to_string(&taken).unwrap(), "theirs");
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_dangling_link_is_a_taken_name() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("ca.key");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        refuse_existing([&link], "--dir").unwrap_err();
        let file = NewFile { path: &link, text: "a", mode: 0o600 };
        assert!(matches!(write_all(&[file], "--dir").unwrap_err(), PkiError::Exists { .. }));
        assert!(!directory.path().join("nowhere").exists());
    }

    #[test]
    fn a_file_that_is_replaced_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crl");
        for text in ["a longer text", "short"] {
            replace(&path, text.as_bytes(), 0o644).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = replace(directory.path(), b"", 0o644).unwrap_err();
        assert!(matches!(error, PkiError::Write { .. }), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_is_an_error_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file/ca.crt");
        fs::write(directory.path().join("file"), "").unwrap();
        let file = NewFile { path: &path, text: "a", mode: 0o600 };
        assert!(write_all(&[file], "--dir").unwrap_err().to_string().contains("file/ca.crt"));
    }
}
