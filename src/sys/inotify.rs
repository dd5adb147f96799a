//! Directories whose changes the kernel tells of (inotify(7)).
//!
//! Directories and not files: a file that is put in the place of another by rename is another file.
//! What a change means, and when to look for one, is `app`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{
    CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch,
};
use rustix::io::Errno;

/// What is watched.
#[derive(Debug)]
pub struct Inotify {
    queue: OwnedFd,
    watched: BTreeMap<i32, PathBuf>,
}

/// Something that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened<'a> {
    /// To what has this name in this directory.
    Entry(&'a Path, &'a OsStr),
    /// To a directory itself.
    Directory(&'a Path),
    /// So much that the kernel does not know any more to what.
    Anything,
}

impl Inotify {
    pub fn new() -> io::Result<Self> {
        let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { queue, watched: BTreeMap::new() })
    }

    /// Watches these directories from now on and no others; returns those that cannot be watched.
    pub fn watch(&mut self, directories: &BTreeSet<PathBuf>) -> Vec<(PathBuf, io::Error)> {
        let mut failed = Vec::new();
        let mut watched = BTreeMap::new();
        for directory in directories {
            // One that is watched already keeps its watch; one that took the place of another gets
            // one of its own.
            match add_watch(&self.queue, directory, OF_INTEREST) {
                Ok(watch) => drop(watched.insert(watch, directory.clone())),
                Err(error) => failed.push((directory.clone(), error.into())),
            }
        }
        for watch in self.watched.keys().filter(|watch| !watched.contains_key(watch)) {
            // The kernel has forgotten it already where the directory is gone: then this fails.
            let _is_forgotten = remove_watch(&self.queue, *watch);
        }
        self.watched = watched;
        failed
    }

    /// Tells what has happened since the last time, until there is no more.
    pub fn read(&self, mut each: impl FnMut(Happened<'_>)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        let mut events = Reader::new(&self.queue, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                each(Happened::Anything);
            } else if let Some(directory) = self.watched.get(&event.wd()) {
                each(match event.file_name() {
                    Some(name) => Happened::Entry(directory, OsStr::from_bytes(name.to_bytes())),
                    None => Happened::Directory(directory),
                });
            }
        }
    }
}

/// Everything but reading; a right that was given is a change, too.
const OF_INTEREST: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// A dozen events with names of full length.
const READ_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn changes_are_told_by_directory_and_name_and_reading_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("old"), "1").unwrap();
        let mut inotify = Inotify::new().unwrap();
        let missing = path.join("missing");
        let failed = inotify.watch(&BTreeSet::from([path.to_owned(), missing.clone()]));
        assert_eq!(failed.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&missing]);
        let told = |inotify: &Inotify| {
            let mut told = BTreeSet::new();
            let read = inotify.read(|happened| match happened {
                Happened::Entry(of, name) => {
                    assert_eq!(of, path);
                    told.insert(name.to_owned());
                }
                other => panic!("{other:?}"),
            });
            read.unwrap();
            told
        };
        fs::read(path.join("old")).unwrap();
        assert!(told(&inotify).is_empty());
        fs::rename(path.join("old"), path.join("new")).unwrap();
        assert_eq!(told(&inotify), BTreeSet::from(["new".into(), "old".into()]));
        inotify.watch(&BTreeSet::new());
        fs::remove_file(path.join("new")).unwrap();
        assert!(told(&inotify).is_empty());
    }
}
