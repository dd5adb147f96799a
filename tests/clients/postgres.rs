//! psycopg (libpq 17 or later, which can start with TLS at once) through the gateway to a real
//! PostgreSQL that speaks plain TCP.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_kit::Identity;
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::front::{Front, TLS12, TLS13};
use crate::program::{Finished, Running, command, find, missing, must, run, serve};

struct Postgres {
    python: PathBuf,
    address: SocketAddr,
    _database: Database,
}

/// A server that lives as long as this.
pub(crate) struct Database {
    pub(crate) address: SocketAddr,
    _server: Running,
    _folder: TempDir,
}

#[test]
fn psycopg_queries_copies_and_is_notified() {
    let Some(postgres) = Postgres::start() else { return };
    let front = Front::before_with(postgres.address, r#"alpn = ["postgresql"]"#);
    for version in [TLS12, TLS13] {
        let finished = talk(&postgres, &front, version, Some(&front.client));
        assert!(finished.status.success(), "{version}: {}", finished.text);
        assert_eq!(finished.text, "queried\ncopied\nnotified\n", "{version}");
        let line = front.served(version, false);
        assert_eq!(line["tls"]["alpn"], "postgresql", "{line}");
        assert_eq!(line["sni"], "localhost", "{line}");
        assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
        assert_eq!(line["closing"], "clean", "{line}");
    }
}

#[test]
fn psycopg_is_told_why_it_is_refused() {
    let Some(postgres) = Postgres::start() else { return };
    let front = Front::before_with(postgres.address, r#"alpn = ["postgresql"]"#);
    let stranger = Some(&front.stranger);
    for (version, identity, words) in [
        (TLS12, None, "alert handshake failure"),
        (TLS13, None, "alert certificate required"),
        (TLS12, stranger, "alert unknown ca"),
        (TLS13, stranger, "alert unknown ca"),
    ] {
        let finished = talk(&postgres, &front, version, identity);
        assert!(!finished.status.success(), "{version}: {}", finished.text);
        assert!(finished.text.contains(words), "{version}, {words}: {}", finished.text);
    }
}

impl Postgres {
    fn start() -> Option<Self> {
        let python = find("python3", "python3")?;
        let probe = "import psycopg; assert psycopg.pq.version() >= 170000";
        let mut import = command(&python, "-c");
        if !run({
            import.arg(probe);
            import
        })
        .status
        .success()
        {
            missing(
                "psycopg with libpq 17 or later",
                "python3-venv, then pip install psycopg[binary]",
            );
            return None;
        }
        let database = Database::start()?;
        Some(Self { python, address: database.address, _database: database })
    }
}

impl Database {
    pub(crate) fn start() -> Option<Self> {
        let (initdb, server) = (find("initdb", "postgresql")?, find("postgres", "postgresql")?);
        let folder = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            let user = |flag| must(command("id", &format!("{flag} postgres"))).trim().parse().ok();
            chown(folder.path(), user("-u"), user("-g")).unwrap();
        }
        let data = folder.path().join("data");
        let words = "--auth=trust --username=postgres --encoding=UTF8 --locale=C --no-sync -D";
        let mut init = as_postgres(&initdb, words);
        must({
            init.arg(&data);
            init
        });
        let (mut server, address) =
            serve("database system is ready to accept connections", |port| {
                let words = format!("-h 127.0.0.1 -p {port} -c fsync=off -D");
                let mut command = as_postgres(&server, &words);
                command.arg(&data).arg("-k").arg(folder.path());
                command
            });
        // Immediate shutdown: whatever clients do.
        server.end_with(Signal::QUIT);
        Some(Self { address, _server: server, _folder: folder })
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

fn talk(
    postgres: &Postgres,
    front: &Front,
    version: &str,
    identity: Option<&Identity>,
) -> Finished {
    let mut command = front.command(&postgres.python, "");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/postgres.py"));
    command.arg(front.port().to_string()).arg(front.ca()).arg(version);
    if let Some(identity) = identity {
        command.arg(&identity.chain_path).arg(&identity.key_path);
    }
    run(command)
}
