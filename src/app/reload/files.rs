//! The files that a configuration is made of, and what they say as one fingerprint.
//!
//! Reads configuration, certificates, keys and lists once more, beside those that load them: what is
//! compared is what stands in the files, not what became of it. Next: `watch`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::config::error::Problem;
use crate::config::plan::Plan;
use crate::config::{self, Seen};

/// The files of a configuration, and the directories whose files it takes as they come. Absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub files: BTreeSet<PathBuf>,
    pub directories: BTreeSet<PathBuf>,
}

/// Of all bytes of all files: the same for the same files only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// A configuration as its files say it.
#[derive(Debug)]
pub struct Reading {
    pub plan: Result<Plan, Vec<Problem>>,
    pub files: Files,
    pub fingerprint: Fingerprint,
}

/// Notes files while they are read.
struct Recorder {
    files: Files,
    digest: Context,
}

/// Reads the configuration file at `path`, what it includes, and what they name.
///
/// The fingerprint is taken before anybody loads the named files: what changes in between is seen as a
/// change, later.
pub fn read(path: &Path) -> Reading {
    let mut recorder = Recorder { files: Files::default(), digest: Context::new(&SHA256) };
    let plan = config::load_seen(path, &mut |seen| recorder.see(seen));
    if let Ok(plan) = &plan {
        let named: BTreeSet<&Path> = plan.files().iter().map(|file| file.path.as_path()).collect();
        named.into_iter().for_each(|path| recorder.look_at(path));
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(recorder.digest.finish().as_ref());
    Reading { plan, files: recorder.files, fingerprint: Fingerprint(fingerprint) }
}

impl Recorder {
    fn see(&mut self, seen: Seen<'_>) {
        match seen {
            Seen::File(path, bytes) => {
                self.begin(path);
                self.add(bytes.unwrap_or(UNREADABLE));
                self.files.files.extend(absolute(path));
            }
            Seen::Directory(path) => self.files.directories.extend(absolute(path)),
        }
    }

    /// A file, or all files of a directory, that the plan names.
    fn look_at(&mut self, path: &Path) {
        match entries(path) {
            Ok(entries) => self.look_at_directory(path, &entries),
            Err(_not_a_directory) => self.look_at_file(path),
        }
    }

    /// A `certificate_dir`, with the directories in it. There may be a hundred thousand pairs, so their
    /// place and time count here, not their bytes: as for those who keep what they have read of them.
    fn look_at_directory(&mut self, path: &Path, entries: &BTreeSet<PathBuf>) {
        self.files.directories.insert(path.to_owned());
        for entry in entries {
            match self::entries(entry) {
                Ok(inner) => {
                    if self.files.directories.len() < DIRECTORIES_MAX {
                        self.files.directories.insert(entry.clone());
                    }
                    inner.iter().for_each(|file| self.look_at_inode(file));
                }
                Err(_not_a_directory) => self.look_at_inode(entry),
            }
        }
    }

    fn look_at_inode(&mut self, path: &Path) {
        self.begin(path);
        match std::fs::metadata(path) {
            Ok(found) => {
                let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
                for number in [found.dev(), found.ino(), found.len()] {
                    self.add(&number.to_be_bytes());
                }
                times.iter().for_each(|time| self.add(&time.to_be_bytes()));
            }
            Err(_) => self.add(UNREADABLE),
        }
    }

    fn look_at_file(&mut self, path: &Path) {
        self.begin(path);
        if self.add_content(path).is_err() {
            self.add(UNREADABLE);
        }
        self.files.files.insert(path.to_owned());
    }

    fn add_content(&mut self, path: &Path) -> io::Result<()> {
        // Opening a pipe would wait for whoever writes into it.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut file = File::open(path)?.take(FILE_BYTES_MAX);
        // It may be a private key.
        let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
        let mut digest = Context::new(&SHA256);
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => digest.update(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.add(digest.finish().as_ref());
        Ok(())
    }

    fn begin(&mut self, path: &Path) {
        self.add(path.as_os_str().as_encoded_bytes());
    }

    fn add(&mut self, bytes: &[u8]) {
        self.digest.update(&(bytes.len() as u64).to_be_bytes());
        self.digest.update(bytes);
    }
}

/// What is in a directory, in the order of names.
fn entries(path: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(entries.take(ENTRIES_MAX).collect())
}

/// No digest is as long.
const UNREADABLE: &[u8] = b"unreadable";

const PIECE_BYTES: usize = 64 * 1024;

/// Longer than any file that loads.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Files of one directory: 100,000 pairs, and room.
const ENTRIES_MAX: usize = 400_000;

/// Directories that are watched: each takes a watch of the kernel's (fs.inotify.max_user_watches). What
/// changes in those beyond is taken at the next reload.
const DIRECTORIES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONFIG: &str = r#"
include = ["conf.d/*.toml"]
[listener.edge]
address = "127.0.0.1:0"
chain.default = { cluster = "echo" }
[cluster.echo]
endpoints = ["127.0.0.1:7000"]
tls = "echo"
[tls.upstream.echo]
server_name = "echo.example.com"
trust = "echo"
[trust.echo]
anchors = ["ca.crt"]
"#;

    #[test]
    fn a_fingerprint_is_of_all_that_the_configuration_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("main.toml"), CONFIG).unwrap();
        fs::create_dir(path("conf.d")).unwrap();
        let mut seen = Vec::new();
        let mut differs = |why: &str| {
            let reading = read(&path("main.toml"));
            assert!(reading.plan.is_ok(), "{:?}", reading.plan);
            assert!(!seen.contains(&reading.fingerprint), "{why}");
            seen.push(reading.fingerprint);
            assert_eq!(read(&path("main.toml")).fingerprint, reading.fingerprint);
            reading.files
        };
        let files = differs("nothing is there yet");
        assert!(files.files.contains(&path("ca.crt")), "though it is missing");
        assert!(files.directories.contains(&path("conf.d")));
        fs::write(path("ca.crt"), "1").unwrap();
        differs("a file came");
        fs::write(path("ca.crt"), "2").unwrap();
        differs("a file changed");
        fs::remove_file(path("ca.crt")).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path("ca.crt"), fifo, mode, 0).unwrap();
        assert!(read(&path("main.toml")).plan.is_ok(), "a pipe is not waited for");
        fs::remove_file(path("ca.crt")).unwrap();
        fs::write(path("ca.crt"), "3").unwrap();
        fs::write(path("conf.d/log.toml"), "[log]").unwrap();
        assert!(differs("a file is included").files.contains(&path("conf.d/log.toml")));
        fs::write(path("main.toml"), format!("{CONFIG}\n# a word")).unwrap();
        differs("the configuration changed");
    }
}
