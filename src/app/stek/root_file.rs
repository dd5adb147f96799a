//! Writing root files: whole or not at all, readable by their owner alone from the first moment.
//!
//! A text goes to a temporary file beside its destination, is on disk before it gets the name, and the
//! name changes hands in one step: a node that reads meanwhile sees the old file or the new one.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Makes `path`; `AlreadyExists` if something is there, be it a link that leads nowhere.
pub(super) fn create(path: &Path, text: &str) -> io::Result<()> {
    let staged = stage(path, text)?;
    staged.persist_noclobber(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Puts `text` in the place of what is in `path`. Where that is a link, the file changes that it leads
/// to. The owner stays: a file of the gateway's that root has changed must not become root's. So does the
/// group's right to read one of root's: the gateway may have no other.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let old = fs::metadata(&path)?;
    let staged = stage(&path, text)?;
    let new = staged.as_file().metadata()?;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        fchown(staged.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    if old.uid() == 0 && old.mode() & 0o077 == 0o040 {
        staged.as_file().set_permissions(Permissions::from_mode(0o640))?;
    }
    staged.persist(&path).map_err(|error| error.error)?;
    sync_folder(&path)
}

fn stage(path: &Path, text: &str) -> io::Result<NamedTempFile> {
    let mut staged = Builder::new()
        .prefix(".portcullis-stek-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder(path))?;
    staged.write_all(text.as_bytes())?;
    staged.as_file().sync_all()?;
    Ok(staged)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
