//! The program of this process as it was called, to be called again.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, Stdio};

/// Where the program stands and what it was told.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// The name that it was called by, and its arguments.
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// Of this process. To be asked at the start: later its file may be another one, which is what
    /// `start` is for.
    ///
    /// # Errors
    /// The system does not know where the program stands.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_default();
        let running = env::current_exe()?;
        // By the name of the call, links in it included: whoever installs a new version next to the old
        // one changes such a link.
        let path = called(&name).filter(|called| is_same(called, &running)).unwrap_or(running);
        Ok(Self { path, name, arguments: arguments.collect() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts what stands there now with the same arguments and this standard input. `variable` is
    /// added to the environment; what systemd says to one process only is left out.
    ///
    /// # Errors
    /// There is no program that can be started.
    pub fn start(&self, stdin: OwnedFd, variable: (&str, &str)) -> io::Result<Child> {
        let (key, value) = variable;
        let mut command = Command::new(&self.path);
        command.arg0(&self.name).args(&self.arguments).env(key, value).stdin(Stdio::from(stdin));
        for variable in OF_ONE_PROCESS {
            command.env_remove(variable);
        }
        command.spawn()
    }
}

/// A variable of the environment, where it is text.
pub fn variable(name: &str) -> Option<String> {
    env::var_os(name)?.into_string().ok()
}

/// What a name on the command line leads to, as the shell has found it (execvp(3)).
fn called(name: &OsString) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.components().count() > 1 || path.is_absolute() {
        return absolute(path).ok();
    }
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(path)).find(|it| it.is_file())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    identity(one).is_some_and(|found| Some(found) == identity(other))
}

/// sd_listen_fds(3), sd_watchdog_enabled(3). The interval of the watchdog is of the service and stays.
const OF_ONE_PROCESS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_program_is_known_by_the_link_that_it_was_called_by() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("program");
        symlink("/bin/sh", &link).unwrap();
        assert_eq!(called(&link.clone().into_os_string()), Some(link.clone()));
        assert!(is_same(&link, Path::new("/bin/sh")));
        assert!(!is_same(&link, Path::new("/dev/null")));
        assert!(called(&"sh".into()).is_some_and(|found| found.is_absolute()));
        assert_eq!(called(&"no such program".into()), None);
    }

    #[test]
    fn this_process_is_known() {
        let program = Program::of_this_process().unwrap();
        assert!(program.path().is_absolute() && program.path().is_file());
    }
}
