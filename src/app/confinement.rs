//! What the process keeps of its rights: who it becomes, which files it can still open, which system calls it
//! can still make, and how a later configuration is held against that.
//!
//! Entered by `run` once the configuration is read, before there is any other thread and before anything
//! is bound: what is loaded at the start is then loaded as each reload will load it. docs/security.md
//! says what is left, and how to see that.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::problems;
use super::reload::{Files, Ways, ways};
use crate::config::error::{Location, Problem};
use crate::config::plan::{self, AccessLogSink, Account, AdminAddress, Io, Plan};
use crate::sys::call_filter::{self, Filtered, Rings};
use crate::sys::privileges::{self, GiveUpError, Identity, Kept};
use crate::sys::sandbox::{self, Entered, Right, Sandbox};
use crate::sys::status::Status;

/// What of the files of a configuration this process can read.
#[derive(Debug, Default)]
pub struct Confinement {
    /// `None`: whatever its user can.
    readable: Option<Readable>,
}

/// Names without links, and what they stood for then: the kernel goes by that, not by names.
#[derive(Debug, Default)]
struct Readable {
    directories: BTreeMap<PathBuf, Inode>,
    /// What stands in a directory that the whole machine shares.
    files: BTreeMap<PathBuf, Inode>,
}

/// Device and number; `None` where there is nothing.
type Inode = Option<(u64, u64)>;

/// Gives up all that serving `plan`, which stands in `file`, does not need. `program` is what an upgrade
/// starts.
///
/// # Errors
/// The configuration wants what this machine cannot do, at the place that says so. The process must end:
/// it may have given up a part.
pub fn enter(
    file: &Path,
    plan: &Plan,
    files: &Files,
    program: Option<&Path>,
) -> Result<Confinement, Vec<Problem>> {
    let whole = |error: &io::Error, what: &str| {
        let message = format!("{what}: {error}");
        vec![Problem { at: Location::whole(file), message, help: String::new() }]
    };
    if Status::read().threads().is_some_and(|threads| threads > 1) {
        let error = io::Error::other("there are other threads already");
        return Err(whole(&error, "the sandbox would not hold in all of the process"));
    }
    let account = match plan.runtime.account.as_ref().map(identity) {
        None => None,
        Some(Ok(account)) => Some(account),
        // In the sandbox of the process whose place this one takes, the list of users cannot be read.
        // That one has become the user, and root is nobody there any more.
        Some(Err(_)) if !Identity::current().is_root() && sandbox::is_inside() => None,
        Some(Err(problem)) => return Err(vec![problem]),
    };
    // Looked up and opened while that may still be done.
    let readable = Readable::of(plan, files);
    let sandbox = prepare(plan, &readable, program)
        .map_err(|error| whole(&error, "the sandbox cannot be set up"))?;
    let is_root = account.unwrap_or_else(Identity::current).is_root();
    let kept = Kept { low_ports: has_low_ports(plan), files: is_root };
    privileges::give_up(account, kept).map_err(|error| vec![not_given_up(file, plan, &error)])?;
    if is_root {
        tracing::warn!(
            "the process runs as root: write runtime.user, the name of a user that can read the files \
             of the configuration"
        );
    }
    let entered = match sandbox {
        None => {
            tracing::warn!("there is no sandbox: runtime.sandbox is \"off\"");
            Entered::No
        }
        Some(sandbox) => {
            let entered = sandbox.enter();
            let entered =
                entered.map_err(|error| whole(&error, "the sandbox cannot be entered"))?;
            // Last: it forbids some of what is done above.
            let filtered = call_filter::enter(rings(plan));
            let filtered = filtered
                .map_err(|error| whole(&error, "system calls cannot be filtered (seccomp)"))?;
            tell(plan, entered, &filtered).map_err(|missing| vec![missing.problem(file)])?;
            entered
        }
    };
    let is_confined = entered != Entered::No;
    if is_confined && let Some(alone) = files.files.iter().find(|file| stands_alone(file)) {
        tracing::warn!(
            file = %alone.display(),
            "the file lies in a directory that the whole machine shares: the process can read it as it is now, \
             and not one that is put in its place; for reloads give it a directory of its own"
        );
    }
    Ok(Confinement { readable: is_confined.then_some(readable) })
}

/// Becomes whom the gateway would be, where this process is root: what it reads from here on is what that
/// one can read. Says what is wrong with `runtime.user` and `runtime.group` on this machine.
pub fn become_its_user(file: &Path, plan: &Plan) -> Option<Problem> {
    let account = match identity(plan.runtime.account.as_ref()?) {
        Ok(account) => account,
        Err(problem) => return Some(problem),
    };
    if !Identity::current().is_root() {
        return None;
    }
    let kept = Kept { low_ports: false, files: account.is_root() };
    let refused = privileges::give_up(Some(account), kept).err()?;
    Some(not_given_up(file, plan, &refused))
}

impl Confinement {
    /// The files of a configuration that this process cannot read, whoever owns them.
    pub fn problems(&self, file: &Path, files: &Files) -> Vec<Problem> {
        let Some(readable) = &self.readable else { return Vec::new() };
        let readable = readable.unchanged();
        let all = files.files.iter().chain(&files.directories);
        let beyond = all.filter(|path| !readable.has(path)).map(|path| Problem {
            at: Location::whole(file),
            message: format!("{} is outside of the sandbox of this process", path.display()),
            help: "it can read the directories that the configuration named when it was started, and \
                   none that was made anew since: restart the process, or put the file into one of these"
                .to_owned(),
        });
        beyond.take(PROBLEMS_MAX).collect()
    }
}

impl Readable {
    fn of(plan: &Plan, files: &Files) -> Self {
        let mut readable = Self::default();
        readable.add(&ways(files));
        readable.add(&ways(&Files { files: resolver_files(), ..Files::default() }));
        for directory in plan.downstream_tls.iter().filter_map(|tls| tls.certificate_dir.as_ref()) {
            readable.add_targets(&directory.path);
        }
        readable
    }

    fn add(&mut self, ways: &Ways) {
        for directory in &ways.directories {
            // The one above as well: then it may be removed and made again.
            for directory in directory.ancestors().take(2) {
                if !is_shared(directory) {
                    self.add_directory(directory);
                }
            }
        }
        let alone = ways.entries.iter().filter(|entry| {
            entry.parent().is_some_and(is_shared)
                && entry.symlink_metadata().is_ok_and(|found| found.is_file())
        });
        self.files.extend(alone.map(|entry| (entry.clone(), inode(entry))));
    }

    fn add_directory(&mut self, directory: &Path) {
        self.directories.insert(directory.to_owned(), inode(directory));
    }

    /// Where the links lead that stand in a `certificate_dir` instead of its files, as those of certbot. A
    /// name that is added later has a directory beside those that there are.
    fn add_targets(&mut self, directory: &Path) {
        let children = |directory: &Path| {
            std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
        };
        for entry in children(directory) {
            if entry.is_dir() {
                for link in children(&entry).filter(|path| path.is_symlink()) {
                    let target = link.canonicalize().ok();
                    self.add_target(target.as_deref().and_then(Path::parent), &entry);
                }
            } else if entry.is_symlink() {
                self.add_target(entry.canonicalize().ok().as_deref(), directory);
            }
        }
    }

    /// `target` is what stands for `link`: its parent holds it, and what will stand beside it.
    fn add_target(&mut self, target: Option<&Path>, link: &Path) {
        let Some(parent) = target.and_then(Path::parent) else { return };
        let is_below = link.canonicalize().is_ok_and(|link| parent.starts_with(&link));
        if !is_below && !is_shared(parent) {
            self.add_directory(parent);
        } else if let Some(target) = target.filter(|target| !is_below && !is_shared(target)) {
            self.add_directory(target);
        }
    }

    /// What is still what it was.
    fn unchanged(&self) -> Self {
        let same = |of: &BTreeMap<PathBuf, Inode>| {
            of.iter()
                .filter(|(path, known)| inode(path) == **known)
                .map(|(path, known)| (path.clone(), *known))
                .collect()
        };
        Self { directories: same(&self.directories), files: same(&self.files) }
    }

    /// Whether what `path` leads to may be read; true where it leads nowhere, which is another's to say.
    fn has(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return self.has_missing(path) };
        self.files.contains_key(&real)
            || self.directories.keys().any(|directory| real.starts_with(directory))
    }

    fn has_missing(&self, path: &Path) -> bool {
        let Some(Ok(parent)) = path.parent().map(Path::canonicalize) else { return true };
        self.directories.keys().any(|directory| parent.starts_with(directory))
    }
}

/// `None` where the configuration wants none.
fn prepare(
    plan: &Plan,
    readable: &Readable,
    program: Option<&Path>,
) -> io::Result<Option<Sandbox>> {
    if plan.runtime.sandbox == plan::Sandbox::Off {
        return Ok(None);
    }
    let mut sandbox = Sandbox::new()?;
    for path in readable.directories.keys().chain(readable.files.keys()) {
        sandbox.allow(path, &[Right::Read])?;
    }
    // The process looks at itself there: its memory, its descriptors.
    sandbox.allow(Path::new("/proc"), &[Right::Read])?;
    if let AccessLogSink::File(path) = &plan.access_log.sink {
        // A file of its own, as /dev/null, or one that is made again after it was renamed.
        let parent = path.parent().filter(|parent| !real(parent).is_some_and(|it| is_shared(&it)));
        sandbox.allow(parent.unwrap_or(path), &[Right::Write])?;
    }
    if let Some(AdminAddress::Unix(path)) = plan.admin.as_ref().map(|admin| &admin.address)
        && let Some(parent) = path.parent()
    {
        sandbox.allow(parent, &[Right::Socket])?;
    }
    if let Some(program) = program {
        allow_program(&mut sandbox, program)?;
    }
    Ok(Some(sandbox))
}

/// What stands in the place of the program, now and after another version was put there.
fn allow_program(sandbox: &mut Sandbox, program: &Path) -> io::Result<()> {
    let Startable { directories, files } = Startable::of(program);
    for directory in directories {
        sandbox.allow(&directory, &[Right::Read, Right::Execute])?;
    }
    for file in files {
        sandbox.allow(&file, &[Right::Execute])?;
    }
    for library in sandbox::libraries() {
        let is_loader =
            library.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-"));
        if is_loader {
            sandbox.allow(&library, &[Right::Execute])?;
        }
        if let Some(directory) = library.parent() {
            sandbox.allow(directory, &[Right::Read])?;
        }
    }
    sandbox.allow(Path::new("/etc/ld.so.cache"), &[Right::Read])?;
    Ok(())
}

/// What of the way to a program may be executed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Startable {
    /// Where another version may come to stand, and nothing else.
    directories: BTreeSet<PathBuf>,
    /// What stands there now. A rule for a directory would be one for all that is in it.
    files: BTreeSet<PathBuf>,
}

impl Startable {
    fn of(program: &Path) -> Self {
        let mut startable = Self::default();
        let name = program.file_name().unwrap_or_default();
        let way = ways(&Files { files: BTreeSet::from([program.to_owned()]), ..Files::default() });
        for entry in way.entries {
            // The directory of a name is one of the entries, too: nothing that is replaced.
            if entry.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                continue;
            }
            if let Some(directory) = entry.parent() {
                if !is_shared(directory) && is_only_for(directory, name) {
                    startable.directories.insert(directory.to_owned());
                } else {
                    tracing::debug!(
                        directory = %directory.display(),
                        "other programs stand beside this one: an upgrade in place cannot start what \
                         replaces it there"
                    );
                }
            }
            if entry.is_file() {
                startable.files.insert(entry);
            }
        }
        startable
    }
}

/// Whether nothing below `directory` can be executed but what is called after `name`. False where there is
/// too much to look at.
fn is_only_for(directory: &Path, name: &OsStr) -> bool {
    let mut ahead = vec![directory.to_owned()];
    let mut seen = 0;
    while let Some(directory) = ahead.pop() {
        let Ok(entries) = directory.read_dir() else { return false };
        for entry in entries.flatten() {
            seen += 1;
            let is_named =
                entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes());
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                ahead.push(entry.path());
            }
            let is_other = found.is_file() && found.mode() & 0o111 != 0 && !is_named;
            if is_other || seen > BESIDE_MAX {
                return false;
            }
        }
    }
    true
}

fn identity(account: &Account) -> Result<Identity, Problem> {
    let Account { user, user_at, group } = account;
    let missing = |at: &Location, found: io::Result<()>, what: &str, name: &str| {
        let message = match found {
            Ok(()) => format!("there is no {what} {name:?} on this machine"),
            Err(error) => format!("the {what} {name:?} cannot be looked up: {error}"),
        };
        let help = match what {
            "user" => format!("`useradd --system {name}` makes one"),
            _ => format!("`groupadd --system {name}` makes one"),
        };
        Problem { at: at.clone(), message, help }
    };
    let (uid, own) = match privileges::user(user) {
        Ok(Some(found)) => found,
        Ok(None) => return Err(missing(user_at, Ok(()), "user", user)),
        Err(error) => return Err(missing(user_at, Err(error), "user", user)),
    };
    let gid = match (group, own) {
        (None, Some(own)) => own,
        (None, None) => {
            return Err(Problem {
                at: user_at.clone(),
                message: format!("the user {user} has no name, and so no group of its own"),
                help: "write runtime.group as well".to_owned(),
            });
        }
        (Some((group, at)), _) => match privileges::group(group) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(missing(at, Ok(()), "group", group)),
            Err(error) => return Err(missing(at, Err(error), "group", group)),
        },
    };
    Ok(Identity::new(uid, gid))
}

fn not_given_up(file: &Path, plan: &Plan, error: &GiveUpError) -> Problem {
    let account = plan.runtime.account.as_ref();
    let at = account.map_or_else(|| Location::whole(file), |account| account.user_at.clone());
    let help = match error {
        GiveUpError::NotRoot => {
            "start the process as root, or as that user and without runtime.user"
        }
        GiveUpError::Identity(_) => {
            "a container must leave it CAP_SETUID and CAP_SETGID, or start it as that user"
        }
        GiveUpError::Capabilities(_) => {
            "a filter of system calls may forbid it: allow `capset` (in a unit: `SystemCallFilter=capset`), \
             or start the process without rights (`AmbientCapabilities=` of a unit)"
        }
        GiveUpError::WayBack => "please report this with the version of the kernel",
    };
    Problem { at, message: problems::chain(error), help: help.to_owned() }
}

/// Whether the driver makes rings. What a reload says of it counts from the next start.
fn rings(plan: &Plan) -> Rings {
    match plan.runtime.io {
        Io::IoUring => Rings::Allowed,
        Io::Epoll => Rings::Forbidden,
    }
}

/// What a sandbox that is required takes and this machine has not.
struct Missing {
    what: String,
    help: &'static str,
}

impl Missing {
    fn problem(self, file: &Path) -> Problem {
        let Self { what, help } = self;
        Problem {
            at: Location::whole(file),
            message: format!("runtime.sandbox is \"required\", and {what}"),
            help: format!("{help}; or write \"auto\""),
        }
    }
}

fn tell(plan: &Plan, entered: Entered, filtered: &Filtered) -> Result<(), Missing> {
    let is_required = plan.runtime.sandbox == plan::Sandbox::Required;
    if entered == Entered::No && is_required {
        return Err(Missing {
            what: "this kernel has no Landlock".to_owned(),
            help: "Linux 5.13 has it, where `lsm=` of the kernel's command line names it",
        });
    }
    let unfiltered = match filtered {
        Filtered::Yes | Filtered::Inherited => None,
        Filtered::No(error) => Some(Missing {
            what: format!("this process may not filter its system calls ({error})"),
            help: "the kernel must be built with CONFIG_SECCOMP_FILTER, and a filter that the process is \
                   started in must allow `seccomp` (in a unit: `SystemCallFilter=seccomp`)",
        }),
        Filtered::Processor => Some(Missing {
            what: "system calls are filtered on x86-64, aarch64 and riscv64 only".to_owned(),
            help: "put the filter of the service manager around the process",
        }),
    };
    if is_required && let Some(missing) = unfiltered {
        return Err(missing);
    }
    let seccomp = unfiltered.is_none();
    match entered {
        Entered::Whole(landlock) | Entered::InPart(landlock) => tracing::info!(
            landlock,
            seccomp,
            "the process can open files of its configuration and logs only"
        ),
        Entered::Inherited => {
            tracing::info!(
                seccomp,
                "the process can open what those before it could, and nothing else"
            );
        }
        Entered::No => tracing::warn!(
            seccomp,
            "there is no sandbox: this kernel has no Landlock (Linux 5.13), `lsm=` of its command line leaves it \
             out, or a container's filter of system calls does; the process can open whatever its user can"
        ),
    }
    if let Some(Missing { what, help }) = unfiltered {
        tracing::warn!("no system call is forbidden: {what}: {help}");
    }
    Ok(())
}

/// Ports that take a right to listen on.
fn has_low_ports(plan: &Plan) -> bool {
    let admin = plan.admin.as_ref().and_then(|admin| match &admin.address {
        AdminAddress::Tcp(address) => Some(address.port()),
        AdminAddress::Unix(_) => None,
    });
    let ports = plan.listeners.iter().map(|listener| listener.address.port()).chain(admin);
    ports.into_iter().any(|port| (1..1_024).contains(&port))
}

/// What is read to look host names up.
fn resolver_files() -> BTreeSet<PathBuf> {
    ["/etc/resolv.conf", "/etc/hosts"].map(PathBuf::from).into()
}

fn inode(path: &Path) -> Inode {
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}

fn real(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

/// Whether only the file itself may be read, of all that its directory has.
fn stands_alone(file: &Path) -> bool {
    real(file).is_some_and(|file| file.parent().is_some_and(is_shared))
}

/// Directories in which files of everybody stand: of these only the files that are named may be read.
fn is_shared(directory: &Path) -> bool {
    SHARED.iter().any(|shared| Path::new(shared) == directory)
        || directory.parent() == Some(Path::new("/home"))
}

const SHARED: [&str; 27] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/etc",
    "/etc/ssl",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local/bin",
    "/usr/share",
    "/var",
    "/var/lib",
];

/// A line each is enough to see what happened.
const PROBLEMS_MAX: usize = 20;

/// Files below the directory of a program that has one of its own; versions that are kept are among them.
const BESIDE_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn install(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn what_stands_beside_a_program_may_not_be_executed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let [program, link, other] = ["lib/portcullis/portcullis", "bin/portcullis", "bin/other"]
            .map(|path| root.join(path));
        install(&program);
        install(&other);
        symlink("../lib/portcullis/portcullis", &link).unwrap();
        let own = root.join("lib/portcullis");
        let by_link = Startable::of(&link);
        assert_eq!(by_link.directories, BTreeSet::from([own.clone()]));
        assert_eq!(by_link.files, BTreeSet::from([link, program]));
        let another = root.join("bin/another");
        install(&another);
        let files = BTreeSet::from([another.clone()]);
        assert_eq!(Startable::of(&another), Startable { directories: BTreeSet::new(), files });
        // Nor what comes to stand below it.
        install(&own.join("tools/sh"));
        assert_eq!(Startable::of(&own.join("portcullis")).directories, BTreeSet::new());
    }

    #[test]
    fn versions_beside_each_other_may_be_executed_by_a_link_that_changes() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        install(&root.join("1/portcullis"));
        install(&root.join("2/portcullis"));
        symlink("1", root.join("current")).unwrap();
        let startable = Startable::of(&root.join("current/portcullis"));
        let directories = BTreeSet::from([root.clone(), root.join("1")]);
        let files = BTreeSet::from([root.join("1/portcullis")]);
        assert_eq!(startable, Startable { directories, files });
    }
}
