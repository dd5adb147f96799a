//! Where the process writes beside its listeners: the file of the access log, the admin socket.
//!
//! Says what is wrong with them at the place that names them; makes and opens nothing. `run` opens
//! them, `check` asks beforehand.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::config::error::Problem;
use crate::config::plan::{AccessLog, AccessLogSink, Admin, AdminAddress, Plan};

/// What can be known to be wrong without opening anything.
pub fn problems(plan: &Plan) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some(admin) = &plan.admin
        && let AdminAddress::Unix(path) = &admin.address
        && let Err(error) = parent(path)
    {
        found.push(admin_problem(admin, &error));
    }
    if let AccessLogSink::File(path) = &plan.access_log.sink {
        let is_directory = path.is_dir().then(|| io::Error::from(ErrorKind::IsADirectory));
        if let Err(error) = parent(path).and(is_directory.map_or(Ok(()), Err)) {
            found.extend(access_log_problem(&plan.access_log, &error));
        }
    }
    found
}

/// Why the admin server does not listen.
pub fn admin_problem(admin: &Admin, error: &io::Error) -> Problem {
    let (address, help) = match &admin.address {
        AdminAddress::Tcp(address) => {
            let help = match error.kind() {
                ErrorKind::AddrInUse => format!(
                    "another process listens there, perhaps a second gateway: `ss -ltnp 'sport = :{}'` says which",
                    address.port()
                ),
                ErrorKind::AddrNotAvailable => {
                    format!("{} is no address of this machine: `ip addr` lists them", address.ip())
                }
                _ => String::new(),
            };
            (address.to_string(), help)
        }
        AdminAddress::Unix(path) => {
            let help = match error.kind() {
                ErrorKind::AddrInUse => {
                    "a file is in its place that is no socket, or somebody listens on it: \
                     choose another path"
                        .to_owned()
                }
                _ => directory_help(path, error),
            };
            (format!("unix:{}", path.display()), help)
        }
    };
    let message = format!("the admin server cannot listen on {address}: {error}");
    Problem { at: admin.at.clone(), message, help }
}

/// Why the access log is not written; `None` where no place in a file asked for its sink.
pub fn access_log_problem(access_log: &AccessLog, error: &io::Error) -> Option<Problem> {
    let (sink, help) = match &access_log.sink {
        AccessLogSink::Off => return None,
        AccessLogSink::Stdout => ("standard output".to_owned(), String::new()),
        AccessLogSink::File(path) => {
            let help = match error.kind() {
                ErrorKind::IsADirectory => "write the path of a file in it".to_owned(),
                _ => directory_help(path, error),
            };
            (path.display().to_string(), help)
        }
    };
    let message = format!("the access log cannot be written to {sink}: {error}");
    Some(Problem { at: access_log.at.clone()?, message, help })
}

/// The directory of a file that is to be made.
fn parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    if fs::metadata(parent)?.is_dir() { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
}

fn directory_help(path: &Path, error: &io::Error) -> String {
    let parent = path.parent().unwrap_or(path).display();
    match error.kind() {
        ErrorKind::NotFound => format!("make the directory {parent} first"),
        ErrorKind::NotADirectory => format!("{parent} is not a directory"),
        ErrorKind::PermissionDenied => {
            format!("the user that portcullis runs as must be able to write in {parent}")
        }
        ErrorKind::ReadOnlyFilesystem => {
            format!(
                "{parent} is read-only: choose another, or add it to ReadWritePaths of the systemd unit"
            )
        }
        _ => String::new(),
    }
}
