//! A directory of certificates, each read when a client first asks for its name.
//!
//! `index` knows the names, from a listing alone; `cache` keeps what was read, at most so many;
//! `loader` reads, on threads of its own, while the handshake waits. A worker that finds its pair in
//! memory takes no lock and reads no file. A pair that cannot be used is refused by itself.

mod cache;
mod index;
mod loader;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use self::cache::{Cache, Held};
use self::index::{Entry, Index, Pair, PairFiles};
pub(super) use self::loader::Loader;
use super::UnixClock;
use super::leaf::LeafPurpose;
use super::note::{DirectoryNote, Due, owner};
use super::pem::{self, Findings};
use super::served::Served;
use crate::config::error::Problem;
use crate::config::plan::{CertificateFiles, FileRef};
use crate::core::expiry::Urgency;
use crate::core::refusal::{Reason, Refusal};

/// The pairs of one `tls.downstream`.
#[derive(Debug)]
pub(super) struct CertificateDir {
    directory: FileRef,
    index: Index,
    cache: Cache,
    loader: Arc<Loader>,
    clock: UnixClock,
    /// Counted with those of the directory that this one takes the place of: clients may be served from both
    /// at a time.
    loads: Arc<AtomicU64>,
}

/// The certificate for a client, or why there is none.
pub(super) type Answer = Result<Arc<Served>, Refusal>;

/// What is known when a handshake begins.
#[derive(Debug)]
pub(super) enum Found {
    Ready(Answer),
    Loading(oneshot::Receiver<Answer>),
}

/// Of the files of a pair: whether they are the same as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([Option<FileStamp>; 3]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl CertificateDir {
    /// Lists the directory. Of `previous`, which served it before, all stays in memory whose files are
    /// the same; what has changed is read now, and what cannot be used as it is now stays as it was.
    /// `None` after a problem.
    pub(super) fn load(
        directory: &FileRef,
        loader: &Arc<Loader>,
        clock: UnixClock,
        previous: Option<&Self>,
        findings: &mut Findings,
    ) -> Option<Arc<Self>> {
        let (index, oddities) = match list(&directory.path) {
            Ok(entries) => Index::build(entries.into_iter()),
            Err(error) => {
                let path = directory.path.display();
                let message = format!("cannot list {path}: {error}");
                findings.problem(&directory.at, message, list_help(&error));
                return None;
            }
        };
        let path = directory.path.display();
        let more = oddities.len().saturating_sub(TOLD_MAX);
        for (message, help) in oddities.into_iter().take(TOLD_MAX) {
            findings.warning(&directory.at, format!("{path}: {message}"), help);
        }
        if more > 0 {
            let message = format!("{path}: {more} more of that kind");
            findings.warning(&directory.at, message, "mend those, then look again");
        }
        match index.pairs() {
            [] => findings.warning(
                &directory.at,
                format!("{path} holds no certificate: every client will be refused"),
                "put NAME.crt and NAME.key into it, NAME.pem with both, or NAME/tls.crt and \
                 NAME/tls.key",
            ),
            [first, ..] => {
                // One for all: they are written by the same hand.
                let key = first.files(&directory.path).key;
                let key = FileRef { path: key, at: directory.at.clone() };
                pem::check_mode(&key, findings);
            }
        }
        let loads = previous.map(|previous| Arc::clone(&previous.loads));
        let this = Self {
            directory: directory.clone(),
            cache: Cache::new(index.pairs().len(), LOADED_MAX),
            index,
            loader: Arc::clone(loader),
            clock,
            loads: loads.unwrap_or_default(),
        };
        if let Some(previous) = previous {
            this.inherit(previous, findings);
        }
        Some(Arc::new(this))
    }

    pub(super) fn path(&self) -> &Path {
        &self.directory.path
    }

    pub(super) fn loader(&self) -> &Arc<Loader> {
        &self.loader
    }

    /// The certificate for a name, normalised: from memory, or on its way.
    pub(super) fn find(self: &Arc<Self>, name: Option<&str>) -> Found {
        let Some(name) = name else {
            let detail = "the client sent no SNI, and certificate_dir has no default";
            return Found::Ready(Err(no_certificate(detail)));
        };
        let Some(number) = self.index.find(name) else {
            let path = self.directory.path.display();
            let detail = format!("{path} has no certificate for \"{name}\"");
            return Found::Ready(Err(no_certificate(detail)));
        };
        if let Some(held) = self.cache.get(number)
            && !held.is_due((self.clock)())
        {
            return Found::Ready(held.answer());
        }
        self.loader.request(self, number)
    }

    /// Reads a pair into memory, unless another client had it read in the meantime.
    fn read_in(&self, number: u32) -> Answer {
        let before = self.cache.get(number);
        if let Some(held) = &before
            && !held.is_due((self.clock)())
        {
            return held.answer();
        }
        let Some(pair) = self.index.pairs().get(number as usize) else {
            return Err(Refusal::new(Reason::Internal, "a pair that is in no list"));
        };
        let (held, warnings) = self.read(pair);
        warnings.iter().for_each(|warning| tracing::warn!("{}", warning.one_line()));
        if let Err(why) = &held.outcome
            && before.as_ref().and_then(|held| held.outcome.as_ref().err()) != Some(why)
        {
            tracing::warn!("{}: {why}: its clients are refused", self.directory.at.key);
        }
        let answer = held.answer();
        self.cache.put(number, Arc::new(held));
        answer
    }

    /// Reads the files of a pair.
    fn read(&self, pair: &Pair) -> (Held, Vec<Problem>) {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let files = pair.files(&self.directory.path);
        // Before the files: what changes while they are read is then a change.
        let stamp = Stamp::of(&files);
        let now = (self.clock)();
        let file = |path| FileRef { path, at: self.directory.at.clone() };
        if let Some(path) = files.irregular() {
            // Opening a FIFO would wait for whoever writes into it.
            let why = format!("{} is not a regular file", path.display());
            return (Held { outcome: Err(why.into()), stamp, read_at: now }, Vec::new());
        }
        let has_staple = matches!(stamp.0, [_, _, Some(_)]);
        let files = CertificateFiles {
            chain: file(files.chain),
            key: file(files.key),
            ocsp: has_staple.then(|| file(files.ocsp)),
        };
        let mut findings = Findings::default();
        let served = pem::certified_key(&files, LeafPurpose::Server, now, &mut findings);
        let Findings { problems, mut warnings } = findings;
        let outcome = served.ok_or_else(|| {
            let told: Vec<String> = problems.iter().map(sentence).collect();
            told.join("; and ").into()
        });
        if let (Ok(served), Some(name)) = (&outcome, pair.example())
            && !served.is_for(&name)
        {
            warnings.push(Problem {
                at: self.directory.at.clone(),
                message: format!(
                    "the certificate in {} is not for the name of its file but for {}",
                    files.chain.path.display(),
                    served.names()
                ),
                help: "clients that check names will refuse it: issue it for this name, or name \
                       the file after what it is for"
                    .to_owned(),
            });
        }
        (Held { outcome, stamp, read_at: now }, warnings)
    }

    /// Takes over what `previous` has in memory.
    fn inherit(&self, previous: &Self, findings: &mut Findings) {
        for (number, held) in previous.cache.all() {
            let Some(pair) = previous.index.pairs().get(number as usize) else { continue };
            let Some(number) = self.index.find_same(pair) else { continue };
            let (Ok(served), Some(pair)) = (&held.outcome, self.index.pairs().get(number as usize))
            else {
                continue;
            };
            let files = pair.files(&self.directory.path);
            if Stamp::of(&files) == held.stamp {
                self.cache.put(number, held);
                continue;
            }
            let (fresh, warnings) = self.read(pair);
            let kept = match &fresh.outcome {
                Ok(_) => {
                    findings.warnings.extend(warnings);
                    Arc::new(fresh)
                }
                Err(why) => {
                    let message = format!("{why}: the certificate that was there before stays");
                    let help = "put both files of the pair in place, and reload";
                    findings.warning(&self.directory.at, message, help);
                    let outcome = Ok(Arc::clone(served));
                    // Its stamp is that of no file, so that the next reload looks again.
                    Arc::new(Held { outcome, ..*held })
                }
            };
            self.cache.put(number, kept);
        }
    }

    /// Reads every pair, into nothing: what is wrong with them. For `check`, which has the time.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut more = 0usize;
        for pair in self.index.pairs() {
            let (held, mut told) = self.read(pair);
            if let Err(why) = held.outcome {
                let help = "the other names of the directory are served all the same".to_owned();
                told.push(Problem { at: self.directory.at.clone(), message: (*why).into(), help });
            }
            let room = CHECKED_MAX.saturating_sub(found.len());
            more += told.len().saturating_sub(room);
            found.extend(told.into_iter().take(room));
        }
        if more > 0 {
            let path = self.directory.path.display();
            let message = format!("{path}: {more} more warnings about its pairs");
            let help = "mend those, then look again".to_owned();
            found.push(Problem { at: self.directory.at.clone(), message, help });
        }
        found
    }

    pub(super) fn note(&self, now: u64) -> DirectoryNote {
        let (mut loaded, mut unusable, mut due) = (0, 0, Due::default());
        let mut earliest: Option<(u32, u64)> = None;
        for (number, held) in self.cache.all() {
            let Ok(served) = &held.outcome else {
                unusable += 1;
                continue;
            };
            loaded += 1;
            due.count(Urgency::of_certificate(served.not_before, served.not_after, now));
            if earliest.is_none_or(|(_, end)| served.not_after < end) {
                earliest = Some((number, served.not_after));
            }
        }
        let earliest = earliest.and_then(|(number, end)| {
            let pair = self.index.pairs().get(number as usize)?;
            Some((self.directory.path.join(pair.file_name()), end))
        });
        DirectoryNote {
            owner: owner(&self.directory),
            path: self.directory.path.clone(),
            pairs: self.index.pairs().len(),
            loaded,
            unusable,
            loads: self.loads.load(Ordering::Relaxed),
            earliest,
            due,
        }
    }
}

impl Stamp {
    fn of(files: &PairFiles) -> Self {
        Self([&files.chain, &files.key, &files.ocsp].map(|path| FileStamp::of(path)))
    }
}

impl FileStamp {
    /// Of the file that a link leads to; `None` where there is none.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

fn list(directory: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // What is no UTF-8 is no name that a client can ask for.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type()?;
        let is_pair = [".crt", ".key", ".pem"].iter().any(|end| name.ends_with(end));
        // A link may lead to a directory; those to files are known by their names.
        let is_directory =
            kind.is_dir() || (kind.is_symlink() && !is_pair && entry.path().is_dir());
        entries.push(Entry { name, is_directory });
        if entries.len() > ENTRIES_MAX {
            let message = format!("it has more than {ENTRIES_MAX} entries");
            return Err(io::Error::other(message));
        }
    }
    Ok(entries)
}

fn list_help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "relative paths start at the directory of the configuration file, and `~` is not expanded"
        }
        io::ErrorKind::NotADirectory => "write the path of a directory of certificates and keys",
        io::ErrorKind::PermissionDenied => {
            "the user that portcullis runs as must be able to read it"
        }
        _ => "",
    }
}

/// A problem without its place, which is the directory's.
fn sentence(problem: &Problem) -> String {
    match problem.help.as_str() {
        "" => problem.message.clone(),
        help => format!("{} ({help})", problem.message),
    }
}

fn no_certificate(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::NoCertificateForName, detail)
}

fn unavailable(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::CertificateUnavailable, detail)
}

/// Pairs in memory, of each directory: with the index of 100,000 names 41 MiB (docs/certificates.md).
const LOADED_MAX: usize = 10_000;

/// Two files a pair, half a million pairs.
const ENTRIES_MAX: usize = 1_000_000;

/// A directory that is full of something else is told of in a few lines.
const TOLD_MAX: usize = 16;
const CHECKED_MAX: usize = 50;
