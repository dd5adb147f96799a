//! TLS with clients: who is asked for a certificate, which chain takes whom, what is negotiated, and
//! that sessions resume whichever worker they land on.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, Gateway, KeyKind, PATIENCE, PlainEcho, Refusal, ServerTls,
    TlsEcho, TlsStream, Validity, close_write, connect_plain, connect_tls, read_to_end, refusal,
    round_trip,
};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion,
};

use crate::support::{Config, NAME, Pki, UPSTREAM_NAME};

fn finish(mut stream: TlsStream) {
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

fn echo(stream: &mut TlsStream) {
    assert_eq!(round_trip(stream, b"to and fro").unwrap(), b"to and fro");
}

#[test]
fn each_chain_asks_for_certificates_as_it_says() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let mut config = Config::new(1).listener("edge", "").trust("clients", &pki.ca);
    for mode in ["require", "optional", "none"] {
        let trust = if mode == "none" { "" } else { "trust = \"clients\"" };
        config = config
            .chain(
                "edge",
                mode,
                &format!(
                    "match = {{ server_names = [\"{mode}.edge.test\"] }}\ntls = \"{mode}\"\ncluster = \"app\""
                ),
            )
            .downstream(mode, &[&pki.server], &format!("client_auth = \"{mode}\"\n{trust}"));
    }
    let gateway = config.cluster("app", &[echoes.address()], "").start();
    let edge = gateway.addr("edge");
    let strangers = Authority::new("Strangers");
    let mallory = strangers.client(&ClientSpec::new("mallory"));
    for tls12 in [false, true] {
        let with = |client: ClientTls<'_>| {
            if tls12 { client.only_tls12().build() } else { client.only_tls13().build() }
        };
        let anonymous = with(ClientTls::trusting(&pki.ca));
        let alice = with(pki.client());
        let stranger = with(ClientTls::trusting(&pki.ca).identity(&mallory));
        for (name, config, shows) in [
            ("require.edge.test", &alice, true),
            ("optional.edge.test", &alice, true),
            ("optional.edge.test", &anonymous, false),
            ("none.edge.test", &anonymous, false),
            ("none.edge.test", &alice, false),
        ] {
            let mut stream = connect_tls(edge, name, config).unwrap();
            echo(&mut stream);
            finish(stream);
            let line = gateway.wait_access(PATIENCE, |line| {
                line["sni"] == name && line["client"].is_object() == shows
            });
            assert_eq!(line["outcome"], "closed", "{line}");
        }
        let missing = if tls12 {
            AlertDescription::HandshakeFailure
        } else {
            AlertDescription::CertificateRequired
        };
        assert_eq!(refusal(edge, "require.edge.test", &anonymous), Refusal::Alert(missing));
        for name in ["require.edge.test", "optional.edge.test"] {
            let unknown = Refusal::Alert(AlertDescription::UnknownCA);
            assert_eq!(refusal(edge, name, &stranger), unknown, "{name}");
        }
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_handshakes_total", &[]), 10);
    assert_eq!(metrics.refusals("no_certificate"), 2);
    assert_eq!(metrics.refusals("unknown_issuer"), 4);
}

/// Chains of listener `edge`, by what they match; each has a cluster that says its name.
fn routed(pki: &Pki, chains: &[(&str, &str)]) -> (Gateway, Vec<PlainEcho>) {
    let mut config = Config::new(1).listener("edge", "").downstream(
        "open",
        &[&pki.server],
        "client_auth = \"none\"",
    );
    config = config.downstream("sql", &[&pki.server], "client_auth = \"none\"\nalpn = [\"sql\"]");
    let mut echoes = Vec::new();
    for (name, keys) in chains {
        let says = PlainEcho::with(portcullis_kit::Behaviour::Say(name.as_bytes().to_vec()));
        let tls = if keys.contains("alpn") { "sql" } else { "open" };
        config = config
            .chain("edge", name, &format!("{keys}\ntls = \"{tls}\"\ncluster = \"{name}\""))
            .cluster(name, &[says.address()], "");
        echoes.push(says);
    }
    (config.start(), echoes)
}

/// Which chain a client reaches, by the word that its cluster says.
fn reached(gateway: &Gateway, client: ClientTls<'_>, name: &str) -> Result<String, Refusal> {
    let config = client.build();
    match connect_tls(gateway.addr("edge"), name, &config) {
        Ok(mut stream) => {
            let said = read_to_end(&mut stream).unwrap();
            close_write(&mut stream).unwrap();
            Ok(String::from_utf8(said).unwrap())
        }
        Err(_) => Err(refusal(gateway.addr("edge"), name, &config)),
    }
}

#[test]
fn the_longest_name_that_matches_chooses_the_chain() {
    let pki = Pki::new();
    let (gateway, _echoes) = routed(
        &pki,
        &[
            ("exact", "match = { server_names = [\"a.edge.test\"] }"),
            ("wild", "match = { server_names = [\"*.edge.test\"] }"),
            ("sql", "match = { server_names = [\"a.edge.test\"], alpn = [\"sql\"] }"),
            ("default", ""),
        ],
    );
    let anonymous = || ClientTls::trusting(&pki.ca);
    for (name, chain) in [
        ("a.edge.test", "exact"),
        ("A.Edge.TEST", "exact"),
        ("b.edge.test", "wild"),
        (NAME, "default"),
    ] {
        assert_eq!(reached(&gateway, anonymous(), name).unwrap(), chain, "{name}");
    }
    let sql = || anonymous().alpn(&["h2", "sql"]);
    assert_eq!(reached(&gateway, sql(), "a.edge.test").unwrap(), "sql");
    // A server that was not told of ALPN ignores it (RFC 7301 §3.1).
    assert_eq!(reached(&gateway, sql(), "b.edge.test").unwrap(), "wild");
    gateway.settled();
}

#[test]
fn a_name_that_no_chain_takes_is_unrecognized() {
    let pki = Pki::new();
    let (gateway, _echoes) =
        routed(&pki, &[("wild", "match = { server_names = [\"*.edge.test\"] }")]);
    let unknown = Err(Refusal::Alert(AlertDescription::UnrecognisedName));
    for name in [NAME, "other.test", "127.0.0.1"] {
        assert_eq!(reached(&gateway, ClientTls::trusting(&pki.ca), name), unknown, "{name}");
    }
    assert_eq!(reached(&gateway, ClientTls::trusting(&pki.ca), "x.edge.test").unwrap(), "wild");
    let line = gateway.wait_access(PATIENCE, |line| line["sni"] == "other.test");
    assert_eq!(line["reason"], "no_chain", "{line}");
    assert_eq!(line["alert_name"], "unrecognized_name", "{line}");
    gateway.settled();
}

#[test]
fn versions_groups_and_alpn_are_negotiated_as_configured() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let chain = |name: &str| {
        format!(
            "match = {{ server_names = [\"{name}.edge.test\"] }}\ntls = \"{name}\"\ncluster = \"app\""
        )
    };
    let none = "client_auth = \"none\"";
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "new", &chain("new"))
        .downstream("new", &[&pki.server], &format!("{none}\nversions = [\"1.3\"]"))
        .chain("edge", "old", &chain("old"))
        .downstream("old", &[&pki.server], &format!("{none}\nversions = [\"1.2\"]"))
        .chain("edge", "nist", &chain("nist"))
        .downstream("nist", &[&pki.server], &format!("{none}\ngroups = [\"secp256r1\"]"))
        .chain("edge", "sql", &chain("sql"))
        .downstream("sql", &[&pki.server], &format!("{none}\nalpn = [\"sql\", \"web\"]"))
        .cluster("app", &[echoes.address()], "")
        .start();
    let edge = gateway.addr("edge");
    let client = || ClientTls::trusting(&pki.ca);
    let version = |name, client: ClientTls<'_>| {
        let mut stream = connect_tls(edge, name, &client.build()).unwrap();
        echo(&mut stream);
        let version = stream.conn.protocol_version().unwrap();
        finish(stream);
        version
    };
    assert_eq!(version("new.edge.test", client()), ProtocolVersion::TLSv1_3);
    assert_eq!(version("old.edge.test", client()), ProtocolVersion::TLSv1_2);
    let group = |client: ClientTls<'_>| {
        let mut stream = connect_tls(edge, "nist.edge.test", &client.build()).unwrap();
        echo(&mut stream);
        let group = stream.conn.negotiated_key_exchange_group().unwrap().name();
        finish(stream);
        group
    };
    assert_eq!(group(client()), NamedGroup::secp256r1);
    assert_eq!(group(client().groups(&[kx_group::SECP256R1])), NamedGroup::secp256r1);
    let mut sql =
        connect_tls(edge, "sql.edge.test", &client().alpn(&["web", "sql"]).build()).unwrap();
    echo(&mut sql);
    assert_eq!(sql.conn.alpn_protocol(), Some(&b"sql"[..]), "the server's order counts");
    finish(sql);
    for (name, client, alert, reason) in [
        ("new", client().only_tls12(), AlertDescription::ProtocolVersion, "version_mismatch"),
        ("old", client().only_tls13(), AlertDescription::ProtocolVersion, "version_mismatch"),
        (
            "nist",
            client().groups(&[kx_group::X25519]),
            AlertDescription::HandshakeFailure,
            "group_mismatch",
        ),
        ("sql", client().alpn(&["mail"]), AlertDescription::NoApplicationProtocol, "alpn_mismatch"),
    ] {
        let refused = refusal(edge, &format!("{name}.edge.test"), &client.build());
        assert_eq!(refused, Refusal::Alert(alert), "{name}");
        let line = gateway
            .wait_access(PATIENCE, |line| line["chain"] == name && line["outcome"] == "refused");
        assert_eq!(line["reason"], reason, "{line}");
    }
    gateway.settled();
}

#[test]
fn the_first_of_the_chain_s_groups_that_a_share_came_for_is_taken() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let terms = "client_auth = \"none\"\ngroups = [\"secp384r1\", \"x25519\", \"x25519mlkem768\"]";
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"open\"\ncluster = \"app\"")
        .downstream("open", &[&pki.server], terms)
        .cluster("app", &[echoes.address()], "")
        .start();
    let edge = gateway.addr("edge");
    let all = [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP384R1];
    let client = || ClientTls::trusting(&pki.ca).groups(&all);
    // It sends shares for its first two.
    for (client, group, named) in [
        (client(), NamedGroup::X25519, "x25519"),
        (client().only_tls12(), NamedGroup::secp384r1, "secp384r1"),
    ] {
        let mut stream = connect_tls(edge, NAME, &client.build()).unwrap();
        echo(&mut stream);
        assert_eq!(stream.conn.negotiated_key_exchange_group().unwrap().name(), group);
        assert_ne!(stream.conn.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
        finish(stream);
        gateway.wait_access(PATIENCE, |line| line["tls"]["group"] == named);
    }
    gateway.settled();
}

#[test]
fn of_two_certificates_the_client_gets_one_that_it_can_verify() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let rsa = pki.ca.server_with(&[NAME], KeyKind::Rsa2048, Validity::Current);
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"both\"\ncluster = \"app\"")
        .downstream("both", &[&pki.server, &rsa], "client_auth = \"none\"")
        .cluster("app", &[echoes.address()], "")
        .start();
    let suites = |keep: &str| {
        let keep = keep.to_owned();
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains(&keep));
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(pki.ca.roots())
            .with_no_client_auth();
        Arc::new(config)
    };
    for (keep, identity) in [("ECDHE_RSA", &rsa), ("ECDHE_ECDSA", &pki.server)] {
        let mut stream = connect_tls(gateway.addr("edge"), NAME, &suites(keep)).unwrap();
        echo(&mut stream);
        assert_eq!(&stream.conn.peer_certificates().unwrap()[0], identity.leaf(), "{keep}");
        finish(stream);
    }
    gateway.settled();
}

#[test]
fn sessions_resume_on_whichever_worker_they_land() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::new(2)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "")
        .start();
    for tls12 in [false, true] {
        let client = pki.client();
        let config = if tls12 { client.only_tls12() } else { client.only_tls13() }.build();
        for turn in 0..12 {
            let mut stream = connect_tls(gateway.addr("edge"), NAME, &config).unwrap();
            // Reading the answer also reads the ticket for the next turn.
            echo(&mut stream);
            let kind = stream.conn.handshake_kind().unwrap();
            assert_eq!(kind == HandshakeKind::Resumed, turn > 0, "turn {turn}, 1.2: {tls12}");
            finish(stream);
        }
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_handshakes_total", &[("resumed", "true")]), 22);
    assert_eq!(metrics.sum("portcullis_handshakes_total", &[("resumed", "false")]), 2);
    let log = gateway.access_log();
    assert_eq!(log.iter().filter(|line| line["tls"]["resumed"] == true).count(), 22);
    // Who a resumed client is stands in the log as well.
    assert!(log.iter().all(|line| line["client"]["subject"] == "CN=alice"), "{log:?}");
    let workers: HashSet<_> =
        log.iter().map(|line| line["id"].as_str().unwrap()[..4].to_owned()).collect();
    assert_eq!(workers.len(), 2, "both workers served: {workers:?}");
}

/// A client at the end of its handshake, whose question went in one packet with Finished.
fn ask(
    gateway: &Gateway,
    config: &Arc<ClientConfig>,
    question: &[u8],
) -> (ClientConnection, TcpStream) {
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    client.writer().write_all(question).unwrap();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    while client.is_handshaking() || client.wants_write() {
        client.complete_io(&mut socket).unwrap();
    }
    (client, socket)
}

#[test]
fn a_ticket_comes_whether_or_not_anything_is_asked_or_answered() {
    // The kernel accepts for it, and nobody answers: all that a client can get is its ticket.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let pki = Pki::new();
    let gateway = Config::edge(&pki, silent.local_addr().unwrap()).start();
    for question in ["a question", ""] {
        let config = pki.client().only_tls13().build();
        for time in 0..2 {
            let (mut client, mut socket) = ask(&gateway, &config, question.as_bytes());
            assert_ne!(client.read_tls(&mut socket).unwrap(), 0, "{question}");
            client.process_new_packets().unwrap();
            let resumed = client.handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(resumed, time > 0, "{question}");
        }
    }
}

#[test]
fn a_ticket_comes_in_one_packet_with_the_answer() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echoes.address()).start();
    let config = pki.client().only_tls13().build();
    let comes_with_the_answer = |_: &u32| {
        let (mut client, mut socket) = ask(&gateway, &config, b"a question");
        client.read_tls(&mut socket).unwrap();
        client.process_new_packets().unwrap();
        client.reader().read(&mut [0; 16]).is_ok_and(|read| read == 10)
    };
    // On a machine that is busy for 200 ms the kernel sends one ahead.
    let together = (0..20).filter(comes_with_the_answer).count();
    assert!(together >= 12, "{together} of 20");
}

#[test]
fn a_client_whose_ticket_would_not_fit_into_its_hello_comes_back_without_one() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echoes.address()).start();
    let label = "x".repeat(60);
    for (names, resumes) in [(220, false), (1, true), (100, true), (180, false), (400, false)] {
        let spec = (0..names).fold(ClientSpec::new("many"), |spec, number| {
            spec.dns(&format!("{number}.{label}.test"))
        });
        let many = pki.ca.client(&spec);
        for tls12 in [false, true] {
            let client = ClientTls::trusting(&pki.ca).identity(&many);
            let config = if tls12 { client.only_tls12() } else { client.only_tls13() }.build();
            for time in 0..3 {
                let label = format!("{names} names, TLS 1.2: {tls12}, {time}");
                let mut stream = connect_tls(gateway.addr("edge"), NAME, &config).expect(&label);
                echo(&mut stream);
                let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
                assert_eq!(resumed, resumes && time > 0, "{label}");
                finish(stream);
            }
        }
    }
    assert_eq!(gateway.settled().sum("portcullis_refusals_total", &[]), 0);
}

#[test]
fn mutual_tls_on_both_sides_shows_the_gateway_to_the_upstream() {
    let pki = Pki::new();
    let gateway_itself = pki.ca.client(&ClientSpec::new("gateway"));
    let upstream = TlsEcho::start(
        ServerTls::new(&pki.upstream).require_clients_of(&pki.ca).alpn(&["sql"]).build(),
    );
    let pair = crate::support::files(&gateway_itself);
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", &format!("certificate = {pair}\nalpn = [\"sql\"]"))
        .trust("upstreams", &pki.ca)
        .cluster("db", &[upstream.address()], "tls = \"db\"")
        .start();
    let mut stream = pki.connect(&gateway);
    stream.write_all(b"").unwrap();
    echo(&mut stream);
    finish(stream);
    let counts = upstream.wait("a handshake", |counts| !counts.handshakes.is_empty());
    let seen = &counts.handshakes[0];
    assert_eq!(seen.server_name.as_deref(), Some(UPSTREAM_NAME));
    assert_eq!(seen.alpn.as_deref(), Some(&b"sql"[..]));
    assert_eq!(&seen.client_chain[0], gateway_itself.leaf());
    gateway.settled();
}
