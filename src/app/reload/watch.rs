//! Which directories have to be watched for a set of files, and whether one of these has changed.
//!
//! A file is reached through names, and each of them may come to mean another: `cert.pem` is replaced
//! by rename, `..data` of a Kubernetes volume is a link that is replaced, a directory is removed and
//! made again. All names on the way are watched, in the directories that hold them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::files::Files;
use crate::sys::inotify::{Happened, Inotify};

/// The files that are watched.
#[derive(Debug)]
pub(super) struct Watch {
    queue: Inotify,
    names: Names,
    /// Directories of which was said that they cannot be watched.
    told: BTreeSet<PathBuf>,
}

/// Names in directories, as the kernel knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    directories: BTreeSet<PathBuf>,
    entries: BTreeSet<PathBuf>,
    /// Directories of which every entry counts.
    whole: BTreeSet<PathBuf>,
}

/// Where the names stand that lead to files.
#[derive(Debug, Default)]
pub struct Ways {
    /// Directories that hold one of the names, or of which every entry counts; without links.
    pub directories: BTreeSet<PathBuf>,
    /// The names themselves, links and what is missing among them.
    pub entries: BTreeSet<PathBuf>,
}

/// The ways to `files`, as they are now.
pub fn ways(files: &Files) -> Ways {
    let Names { directories, entries, whole: _ } = Names::of(files);
    Ways { directories, entries }
}

impl Watch {
    /// Nothing is watched yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { queue: Inotify::new()?, names: Names::default(), told: BTreeSet::new() })
    }

    /// Watches `files` from now on. True where a name is watched that was not before: it may have
    /// changed unseen.
    pub(super) fn set(&mut self, files: &Files) -> bool {
        let before = std::mem::take(&mut self.names);
        for _ in 0..ATTEMPTS_MAX {
            let names = Names::of(files);
            if names == self.names {
                break;
            }
            // Looked at again afterwards: a link may have changed before it was watched.
            self.names = names;
            self.arm();
        }
        !self.names.entries.is_subset(&before.entries) || !self.names.whole.is_subset(&before.whole)
    }

    /// Whether one of the files has changed since this was asked last.
    ///
    /// # Errors
    /// The kernel tells no more.
    pub(super) fn has_changed(&self) -> io::Result<bool> {
        let mut is_ours = false;
        self.queue.read(|happened| is_ours |= self.names.concern(happened))?;
        Ok(is_ours)
    }

    fn arm(&mut self) {
        for (directory, error) in self.queue.watch(&self.names.directories) {
            // One that is gone is seen as gone by the next look.
            if error.kind() != io::ErrorKind::NotFound && self.told.insert(directory.clone()) {
                tracing::warn!(
                    directory = %directory.display(), %error,
                    "changes of files in it are not noticed, only SIGHUP reloads them; where inotify is \
                     out of watches, raise fs.inotify.max_user_watches"
                );
            }
        }
    }
}

impl Names {
    fn of(files: &Files) -> Self {
        let mut names = Self::default();
        let mut last: Option<(&Path, Option<PathBuf>)> = None;
        for file in &files.files {
            let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else { continue };
            // Files stand together: the way to them is walked once.
            let real = match last.take() {
                Some((known, real)) if known == parent => real,
                _ => names.walk(parent),
            };
            if let Some(real) = &real {
                names.walk(&real.join(name));
            }
            last = Some((parent, real));
        }
        for directory in &files.directories {
            if let Some(real) = names.walk(directory) {
                names.directories.insert(real.clone());
                names.whole.insert(real);
            }
        }
        names
    }

    /// Notes every name on the way to `path` that is a link, missing, or the last. Returns where the
    /// way leads; `None` if it leads nowhere.
    fn walk(&mut self, path: &Path) -> Option<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut ahead = names_of(path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            match std::fs::symlink_metadata(&next) {
                Ok(found) if found.is_symlink() => {
                    self.entry(&at, &next);
                    links += 1;
                    let target = std::fs::read_link(&next).ok().filter(|_| links <= LINKS_MAX)?;
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    ahead.extend(names_of(&target));
                }
                Ok(_) => {
                    if ahead.is_empty() {
                        self.entry(&at, &next);
                    }
                    at = next;
                }
                Err(_missing) => {
                    self.entry(&at, &next);
                    return None;
                }
            }
        }
        Some(at)
    }

    fn entry(&mut self, directory: &Path, entry: &Path) {
        self.directories.insert(directory.to_owned());
        self.entries.insert(entry.to_owned());
    }

    fn concern(&self, happened: Happened<'_>) -> bool {
        match happened {
            Happened::Entry(directory, name) => {
                self.whole.contains(directory) || self.entries.contains(&directory.join(name))
            }
            Happened::Directory(_) | Happened::Anything => true,
        }
    }
}

/// The names of a path, last first.
fn names_of(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

/// As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// Links do not change more often between two looks.
const ATTEMPTS_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn files(paths: &[PathBuf]) -> Files {
        Files { files: paths.iter().cloned().collect(), directories: BTreeSet::new() }
    }

    #[test]
    fn every_link_on_the_way_to_a_file_is_watched() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let path = |name: &str| root.join(name);
        fs::create_dir(path("..2024")).unwrap();
        fs::write(path("..2024/tls.crt"), "1").unwrap();
        symlink("..2024", path("..data")).unwrap();
        symlink("..data/tls.crt", path("tls.crt")).unwrap();
        symlink(&root, path("alias")).unwrap();
        let names = Names::of(&files(&[path("alias/tls.crt")]));
        for entry in ["alias", "tls.crt", "..data", "..2024/tls.crt"] {
            assert!(names.entries.contains(&path(entry)), "{entry}: {names:?}");
        }
        assert!(names.directories.contains(&path("..2024")));
        assert!(names.concern(Happened::Entry(&root, "..data".as_ref())));
        assert!(!names.concern(Happened::Entry(&root, "another".as_ref())));
    }

    #[test]
    fn what_is_missing_is_waited_for_where_the_way_ends() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let names = Names::of(&files(&[root.join("a/b/c.crt")]));
        assert!(names.concern(Happened::Entry(&root, "a".as_ref())), "{names:?}");
        fs::create_dir_all(root.join("a/b")).unwrap();
        let names = Names::of(&files(&[root.join("a/b/c.crt")]));
        assert!(names.concern(Happened::Entry(&root.join("a/b"), "c.crt".as_ref())), "{names:?}");
    }

    #[test]
    fn links_in_a_circle_end_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let names = Names::of(&files(&[root.join("a")]));
        assert!(names.entries.contains(&root.join("b")));
    }
}
