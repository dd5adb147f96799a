//! Keeps this process from all files but a few (Landlock, landlock(7)): for good, in this thread, in those
//! that it starts, and in what these execute. What is open already stays open.
//!
//! Says nothing about which files these are. Whoever calls `Sandbox::enter` must be the only thread.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    RestrictSelfError, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};
use rustix::io::Errno;

/// What may be done below a directory, or with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Read,
    /// Files may be made and written, and none removed.
    Write,
    /// A unix socket may be made and removed.
    Socket,
    Execute,
}

/// Files that may be used, not yet in force.
#[derive(Debug)]
pub struct Sandbox {
    rules: RulesetCreated,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// With the version of Landlock that the kernel has.
    Whole(u32),
    /// As `Whole`; the kernel does not know every kind of access yet.
    InPart(u32),
    /// The processes before this one, of which each was started by the last, have left no room for
    /// another: theirs holds.
    Inherited,
    /// The kernel has no Landlock, or it is off.
    No,
}

impl Sandbox {
    /// Nothing may be used yet.
    ///
    /// # Errors
    /// The kernel refuses what it knows.
    pub fn new() -> io::Result<Self> {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))
            // Signals only to what is started in the place of this process.
            .and_then(|rules| rules.scope(Scope::Signal))
            .and_then(Ruleset::create);
        Ok(Self { rules: rules.map_err(io::Error::other)? })
    }

    /// Allows `rights` over `path`, or below it. `Ok(false)`: there is nothing, and nothing is allowed.
    ///
    /// # Errors
    /// The kernel refuses what it knows.
    pub fn allow(&mut self, path: &Path, rights: &[Right]) -> io::Result<bool> {
        let Ok(opened) = PathFd::new(path) else { return Ok(false) };
        let is_directory = rustix::fs::fstat(opened.as_fd())
            .is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir());
        let mut access = BitFlags::<AccessFs>::empty();
        rights.iter().for_each(|right| access |= right.access());
        if !is_directory {
            access &= AccessFs::from_file(KNOWN);
        }
        let added = (&mut self.rules).add_rule(PathBeneath::new(opened, access));
        added.map(|_| true).map_err(io::Error::other)
    }

    /// From here on nothing else can be opened.
    ///
    /// # Errors
    /// The kernel refuses what it knows.
    pub fn enter(self) -> io::Result<Entered> {
        match self.rules.restrict_self() {
            Ok(RestrictionStatus { ruleset, landlock, .. }) => Ok(match ruleset {
                RulesetStatus::FullyEnforced => Entered::Whole(version(landlock)),
                RulesetStatus::PartiallyEnforced => Entered::InPart(version(landlock)),
                RulesetStatus::NotEnforced => Entered::No,
            }),
            Err(error) if is_too_deep(&error) => Ok(Entered::Inherited),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Whether this process was started in a sandbox: everybody may list the root directory otherwise.
pub fn is_inside() -> bool {
    std::fs::read_dir("/").is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The libraries and the loader that this program runs on: what it takes to execute it again. Empty for one
/// that has none.
pub fn libraries() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    let is_library = |path: &&Path| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.contains(".so"))
    };
    let mut found: Vec<_> = paths.filter(is_library).map(Path::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

impl Right {
    fn access(self) -> BitFlags<AccessFs> {
        match self {
            Self::Read => AccessFs::ReadFile | AccessFs::ReadDir,
            Self::Write => {
                AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::ReadFile | AccessFs::Truncate
            }
            Self::Socket => AccessFs::MakeSock | AccessFs::RemoveFile,
            Self::Execute => AccessFs::Execute | AccessFs::ReadFile,
        }
    }
}

fn version(landlock: LandlockStatus) -> u32 {
    match landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            let number =
                kernel_abi.or_else(|| (1..99).find(|abi| ABI::from(*abi) == effective_abi));
            number.and_then(|abi| u32::try_from(abi).ok()).unwrap_or(0)
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}

/// There may be sixteen, one within the other.
fn is_too_deep(error: &RulesetError) -> bool {
    let RulesetError::RestrictSelf(RestrictSelfError::RestrictSelfCall { source, .. }) = error
    else {
        return false;
    };
    source.raw_os_error() == Some(Errno::TOOBIG.raw_os_error())
}

/// All that is kept from is of this version or an older one.
const KNOWN: ABI = ABI::V6;
