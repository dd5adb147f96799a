//! psycopg (libpq 17 or later, which can start with TLS at once) through the gateway to a real
//! PostgreSQL that speaks plain TCP, and through `config/postgres.toml`.

use std::path::PathBuf;

use portcullis_kit::Identity;

use crate::database::Database;
use crate::front::{Front, TLS12, TLS13};
use crate::program::{Finished, must, python_with, run};
use crate::psql::Servers;

struct Postgres {
    python: PathBuf,
    database: Database,
}

#[test]
fn psycopg_queries_copies_and_is_notified() {
    let Some(postgres) = Postgres::start() else { return };
    let front = Front::before_with(postgres.database.address, r#"alpn = ["postgresql"]"#);
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
    let front = Front::before_with(postgres.database.address, r#"alpn = ["postgresql"]"#);
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

/// By both ways to ask for TLS, to both servers of the sample.
#[test]
fn psycopg_cancels_over_tls_whatever_way_it_asked() {
    let Some(python) = psycopg() else { return };
    let Some(servers) = Servers::start("") else { return };
    for server in ["orders", "billing"] {
        for negotiation in ["postgres", "direct"] {
            let mut command = servers.gateway.command(&python, "");
            command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/postgres_cancel.py"));
            command.arg(format!("{server}.pg.example.com"));
            command.arg(servers.gateway.port().to_string()).arg(negotiation);
            assert_eq!(must(command), format!("{server}\ncancelled\n"), "{negotiation}");
            let line = servers.gateway.logged(|line| line["chain"] == server);
            // libpq offers it in both ways since 17, and with sslnegotiation=direct insists.
            assert_eq!(line["tls"]["alpn"], "postgresql", "{line}");
        }
    }
}

impl Postgres {
    fn start() -> Option<Self> {
        Some(Self { python: psycopg()?, database: Database::plain("postgres")? })
    }
}

fn psycopg() -> Option<PathBuf> {
    let probe = "import psycopg; assert psycopg.pq.version() >= 170000";
    python_with(probe, "psycopg with libpq 17 or later", "psycopg[binary]")
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
