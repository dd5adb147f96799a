//! What this process may do beyond what any program may, and how it gives that up for good.
//!
//! The kernel keeps capabilities and `no_new_privs` for each thread, and new threads have those of the
//! one that starts them: whoever calls `give_up` must be the only thread. Next: `sandbox`.

use std::io;

use nix::unistd::{Gid, Group, Uid, User, getresgid, getresuid};
use nix::unistd::{setgroups, setresgid, setresuid, setuid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use rustix::thread::{
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_keep_capabilities, set_no_new_privs,
};

/// Who a process runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    user: Uid,
    group: Gid,
}

/// Rights over the machine that are kept, as far as the process has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// To listen on ports below 1024.
    pub low_ports: bool,
    /// To read and write files of other users: what is left of root where it stays root.
    pub files: bool,
}

/// Why privileges were not given up.
#[derive(Debug, thiserror::Error)]
pub enum GiveUpError {
    #[error("only root can become another user")]
    NotRoot,
    #[error("the process cannot become another user")]
    Identity(#[source] io::Error),
    #[error("capabilities cannot be given up")]
    Capabilities(#[source] io::Error),
    #[error("the way back to root is still open")]
    WayBack,
}

/// Nobody who is not root reads this process' memory, and no dump of it is written: keys are in it.
///
/// # Errors
/// The kernel does not do so.
pub fn hide_memory() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// The id of a user, by name or number, and of its own group where it is known by name.
///
/// # Errors
/// The system's list of users cannot be read.
pub fn user(name: &str) -> io::Result<Option<(u32, Option<u32>)>> {
    let found = match name.parse() {
        Ok(number) => {
            let group = User::from_uid(Uid::from_raw(number))?.map(|user| user.gid.as_raw());
            Some((number, group))
        }
        Err(_not_a_number) => {
            User::from_name(name)?.map(|user| (user.uid.as_raw(), Some(user.gid.as_raw())))
        }
    };
    Ok(found)
}

/// The id of a group, by name or number.
///
/// # Errors
/// The system's list of groups cannot be read.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    match name.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_not_a_number) => Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())),
    }
}

impl Identity {
    pub fn new(user: u32, group: u32) -> Self {
        Self { user: Uid::from_raw(user), group: Gid::from_raw(group) }
    }

    /// Of this process.
    pub fn current() -> Self {
        Self { user: Uid::effective(), group: Gid::effective() }
    }

    pub fn is_root(self) -> bool {
        self.user.is_root()
    }
}

/// Becomes `identity`, with no other groups, and gives up all capabilities but `kept`: in this thread, in
/// those it starts, and in what these execute. There is no way back.
///
/// # Errors
/// Some of it did not happen. The process must end.
pub fn give_up(identity: Option<Identity>, kept: Kept) -> Result<(), GiveUpError> {
    let kept = kept.capabilities();
    let before = capabilities(None).map_err(refused)?;
    set_no_new_privs(true).map_err(refused)?;
    bound(kept, before).map_err(refused)?;
    if let Some(identity) = identity
        && !identity.is_all_of_this_process()
    {
        take_on(identity)?;
    }
    let kept = kept & before.permitted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    // Who has nothing more need not ask: a filter of system calls may forbid that.
    if capabilities(None).map_err(refused)? != sets {
        set_capabilities(None, sets).map_err(refused)?;
    }
    clear_ambient_capability_set().map_err(refused)?;
    // Without these the program that is started in the place of this one would have none.
    for capability in kept.iter() {
        configure_capability_in_ambient_set(capability, true).map_err(refused)?;
    }
    let left = capabilities(None).map_err(refused)?;
    let is_root = Uid::effective().is_root();
    if left != sets || (!is_root && setuid(Uid::from_raw(0)).is_ok()) {
        return Err(GiveUpError::WayBack);
    }
    Ok(())
}

/// What the process and its children can never have again.
fn bound(kept: CapabilitySet, before: CapabilitySets) -> Result<(), Errno> {
    if !before.effective.contains(CapabilitySet::SETPCAP) {
        // Not ours to say. `no_new_privs` keeps what is executed from gaining anything.
        return Ok(());
    }
    for capability in CapabilitySet::all().difference(kept).iter() {
        match remove_capability_from_bounding_set(capability) {
            // Newer than this kernel.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn take_on(identity: Identity) -> Result<(), GiveUpError> {
    if !Uid::effective().is_root() {
        return Err(GiveUpError::NotRoot);
    }
    let Identity { user, group } = identity;
    // Else the kernel takes all capabilities away with the last id of root.
    set_keep_capabilities(true).map_err(refused)?;
    let changed = setgroups(&[])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user));
    changed.map_err(|error| GiveUpError::Identity(error.into()))?;
    set_keep_capabilities(false).map_err(refused)?;
    if identity.is_all_of_this_process() { Ok(()) } else { Err(GiveUpError::WayBack) }
}

fn refused(error: Errno) -> GiveUpError {
    GiveUpError::Capabilities(error.into())
}

impl Identity {
    /// The real, effective and saved one.
    fn is_all_of_this_process(self) -> bool {
        let Self { user, group } = self;
        let users = getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [user; 3]);
        users && getresgid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [group; 3])
    }
}

impl Kept {
    fn capabilities(self) -> CapabilitySet {
        let when = |is_kept: bool, set| if is_kept { set } else { CapabilitySet::empty() };
        when(self.low_ports, CapabilitySet::NET_BIND_SERVICE)
            | when(self.files, CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH)
    }
}
