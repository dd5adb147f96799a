//! psql, with the libpq of the distribution, through `config/postgres.toml` to two PostgreSQL servers
//! by name: one in plain TCP, one that is asked for TLS.

use std::process::Command;

use portcullis_kit::{PATIENCE, eventually};
use rustix::process::Signal;

use crate::database::{Database, Tls};
use crate::program::{Running, find, must, run};
use crate::sample::{Sample, Served};

pub(crate) struct Servers {
    pub(crate) gateway: Served,
    _orders: Database,
    _billing: Database,
}

impl Servers {
    pub(crate) fn start(more: &str) -> Option<Self> {
        let sample = Sample::prepare("postgres.toml").and(more);
        let tls = Tls {
            chain: sample.pki("billing-db.crt"),
            key: sample.pki("billing-db.key"),
            clients: sample.pki("ca.crt"),
        };
        let orders = Database::plain("orders")?;
        let billing = Database::with_tls("billing", &tls)?;
        let sample = sample.with("127.0.0.1:5432", orders.address);
        let gateway = sample.with("127.0.0.1:5433", billing.address).start();
        Some(Self { gateway, _orders: orders, _billing: billing })
    }

    /// psql on `server`, with these words of a connection string and behind it.
    fn psql(&self, server: &str, connection: &str, query: &str) -> Command {
        let mut command = self.gateway.command("psql", "-X -w -At");
        let port = self.gateway.port();
        command.arg(format!(
            "host={server}.pg.example.com hostaddr=127.0.0.1 port={port} user=postgres \
             sslrootcert=pki/ca.crt connect_timeout=20 {connection}"
        ));
        command.args(["-c", query]);
        command
    }

    /// Until a query with these words runs there.
    fn wait_for_query(&self, server: &str, words: &str) {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
             AND query LIKE '%{words}%' AND pid <> pg_backend_pid()"
        );
        eventually(PATIENCE, "a query that runs", || {
            (must(self.psql(server, &format!("sslmode=verify-full {ALICE}"), &count)) == "1\n")
                .then_some(())
        });
    }
}

const ALICE: &str = "sslcert=pki/alice.crt sslkey=pki/alice.key";
const NOBODY: &str = "sslcert=/nonexistent sslkey=/nonexistent";
const WHERE: &str = "SELECT current_setting('cluster_name'), ssl, coalesce(client_dn, '') \
                     FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[test]
fn psql_reaches_each_server_by_its_name() {
    let (Some(_), Some(servers)) = (find("psql", "postgresql-client"), Servers::start("")) else {
        return;
    };
    let documented = servers.gateway.said(&["psql "], &format!("-X -At -c \"{WHERE}\""));
    assert_eq!(must(documented), "orders|f|\n");
    let connection = format!("sslmode=verify-full {ALICE}");
    // Until one gets a connection that was made, and asked for TLS, ahead of need.
    eventually(PATIENCE, "a ready connection", || {
        let said = must(servers.psql("billing", &connection, WHERE));
        assert_eq!(said, "billing|t|/CN=gateway\n");
        let lines = servers.gateway.access_log();
        lines.iter().any(|line| line["upstream_ready"] == true).then_some(())
    });
    for server in ["orders", "billing"] {
        let line = servers.gateway.logged(|line| line["chain"] == server);
        assert_eq!(line["sni"], format!("{server}.pg.example.com"), "{line}");
        assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
        assert_eq!(line["upstream_tls"].is_object(), server == "billing", "{line}");
        assert_eq!(line["outcome"], "closed", "{line}");
    }
    let other = run(servers.psql("other", &connection, WHERE));
    assert!(other.text.contains("unrecognized name"), "{}", other.text);
    servers.gateway.refused("no_chain");
}

#[test]
fn psql_reads_that_it_must_speak_tls() {
    let (Some(_), Some(servers)) = (find("psql", "postgresql-client"), Servers::start("")) else {
        return;
    };
    let plain = run(servers.psql("orders", "sslmode=disable", WHERE));
    assert!(!plain.status.success(), "{}", plain.text);
    assert!(plain.text.contains("FATAL:  this server requires SSL"), "{}", plain.text);
    assert!(plain.text.contains("HINT:  set sslmode=verify-full"), "{}", plain.text);
    let line = servers.gateway.refused("tls_required");
    assert!(line["hint"].as_str().unwrap().contains("sslmode=verify-full"), "{line}");
    // Whoever asks for TLS first, or again, gets it.
    for mode in ["allow", "prefer", "require", "verify-ca", "verify-full"] {
        let said = must(servers.psql("orders", &format!("sslmode={mode} {ALICE}"), WHERE));
        assert_eq!(said, "orders|f|\n", "{mode}");
    }
    // Once what sslmode=require is.
    let mut old = servers.psql("orders", ALICE, WHERE);
    old.env("PGREQUIRESSL", "1");
    assert_eq!(must(old), "orders|f|\n");
    let nobody = run(servers.psql("orders", &format!("sslmode=verify-full {NOBODY}"), WHERE));
    assert!(nobody.text.contains("alert certificate required"), "{}", nobody.text);
    servers.gateway.refused("no_certificate");
}

/// The password is bound to the certificate that the client sees, and the server shows another one.
#[test]
fn channel_binding_notices_that_there_are_two_sessions_of_tls() {
    let (Some(_), Some(servers)) = (find("psql", "postgresql-client"), Servers::start("")) else {
        return;
    };
    let alice = format!("sslmode=verify-full {ALICE}");
    must(servers.psql("billing", &alice, "CREATE ROLE scram LOGIN PASSWORD 'secret'"));
    // In this order: what is written last counts.
    let scram = format!("{alice} user=scram password=secret dbname=postgres");
    let bound = run(servers.psql("billing", &scram, WHERE));
    assert!(bound.text.contains("channel binding"), "{}", bound.text);
    let unbound = format!("{scram} channel_binding=disable");
    assert_eq!(must(servers.psql("billing", &unbound, WHERE)), "billing|t|/CN=gateway\n");
}

#[test]
fn pg_isready_is_answered_without_a_certificate() {
    let (Some(program), Some(servers)) =
        (find("pg_isready", "postgresql-client"), Servers::start(""))
    else {
        return;
    };
    let mut ready = servers.gateway.command(program, "-h 127.0.0.1 -p {port} -t 20");
    ready.env("PGSSLCERT", "/nonexistent").env("PGSSLKEY", "/nonexistent");
    assert!(must(ready).contains("accepting connections"));
    servers.gateway.refused("tls_required");
}

/// Ctrl-C in psql sends a CancelRequest in plain text, whatever the connection speaks.
#[test]
fn psql_cancels_in_plain_text_where_a_raw_chain_takes_it() {
    if find("psql", "postgresql-client").is_none() {
        return;
    }
    let raw =
        "\n[listener.pg.chain.cancel]\nmatch = { transport = \"raw\" }\ncluster = \"orders\"\n";
    for (more, is_cancelled) in [("", false), (raw, true)] {
        let Some(servers) = Servers::start(more) else { return };
        let connection = format!("sslmode=verify-full {ALICE}");
        let psql = servers.psql("orders", &connection, "SELECT pg_sleep(600)");
        let psql = Running::start(psql);
        servers.wait_for_query("orders", "pg_sleep");
        psql.signal(Signal::INT);
        if is_cancelled {
            let finished = psql.finish();
            let words = "canceling statement due to user request";
            assert!(finished.text.contains(words), "{}", finished.text);
        } else {
            let line = servers.gateway.refused("cancel_refused");
            assert_eq!(line["listener"], "pg", "{line}");
            servers.wait_for_query("orders", "pg_sleep");
        }
    }
}
