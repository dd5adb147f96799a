//! A PostgreSQL server of a test's own, in plain TCP or with TLS, on loopback.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::program::{Running, command, find, must, serve};

/// A server that lives as long as this, and trusts whoever reaches it.
pub(crate) struct Database {
    pub(crate) address: SocketAddr,
    _server: Running,
    _folder: TempDir,
}

/// What a server shows, and whose clients it takes.
pub(crate) struct Tls {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) clients: PathBuf,
}

impl Database {
    /// In plain TCP. `name` is its `cluster_name`.
    pub(crate) fn plain(name: &str) -> Option<Self> {
        Self::start(name, None)
    }

    /// In TLS only, and for clients with a certificate; the role `scram`, once there is one, has to know
    /// its password.
    pub(crate) fn with_tls(name: &str, tls: &Tls) -> Option<Self> {
        Self::start(name, Some(tls))
    }

    fn start(name: &str, tls: Option<&Tls>) -> Option<Self> {
        let (initdb, server) = (find("initdb", "postgresql")?, find("postgres", "postgresql")?);
        let folder = tempfile::tempdir().unwrap();
        give(folder.path());
        let data = folder.path().join("data");
        let words = "--auth=trust --username=postgres --encoding=UTF8 --locale=C --no-sync -D";
        let mut init = as_postgres(&initdb, words);
        init.arg(&data);
        must(init);
        let mut options = format!("-c fsync=off -c cluster_name={name}");
        if let Some(tls) = tls {
            for (file, setting) in [
                (&tls.chain, "ssl_cert_file"),
                (&tls.key, "ssl_key_file"),
                (&tls.clients, "ssl_ca_file"),
            ] {
                let own = folder.path().join(setting);
                fs::copy(file, &own).unwrap();
                fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
                give(&own);
                options += &format!(" -c {setting}={}", own.display());
            }
            options += " -c ssl=on";
            let who = "hostssl all scram 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n\
                       hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n";
            fs::write(data.join("pg_hba.conf"), who).unwrap();
        }
        let (mut server, address) =
            serve("database system is ready to accept connections", |port| {
                let words = format!("-h 127.0.0.1 -p {port} {options} -D");
                let mut command = as_postgres(&server, &words);
                command.arg(&data).arg("-k").arg(folder.path());
                command
            });
        // Immediate shutdown: whatever clients do.
        server.end_with(Signal::QUIT);
        Some(Self { address, _server: server, _folder: folder })
    }
}

/// To the user that the server runs as.
fn give(path: &Path) {
    if geteuid().is_root() {
        let user = |flag| must(command("id", &format!("{flag} postgres"))).trim().parse().ok();
        chown(path, user("-u"), user("-g")).unwrap();
    }
}

/// PostgreSQL refuses to run as root; `setpriv` changes the user and then is the program.
fn as_postgres(program: &Path, words: &str) -> Command {
    if !geteuid().is_root() {
        return command(program, words);
    }
    let user = "--reuid=postgres --regid=postgres --clear-groups --";
    let mut command = command("setpriv", user);
    command.arg(program).args(words.split_whitespace()).current_dir("/");
    command
}
