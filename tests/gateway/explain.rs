//! `portcullis explain` and the running gateway give the same answer to the same client: its chain, the
//! reason, the alert, the words.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, Gateway, Identity, KeyKind, PATIENCE, PlainEcho, ServerTls,
    TlsEcho, Validity, close_write, read_to_end, within,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::hello::{answer, crafted, sni};
use crate::support::{BINARY, Config, NAME, Pki, UPSTREAM_NAME};

/// Everybody who might want to get in.
struct Cast {
    pki: Pki,
    strangers: Authority,
    /// The gateway's, for every name that is asked for.
    front: Identity,
    expired: Identity,
    early: Identity,
    server: Identity,
    nameless: Identity,
    revoked: Identity,
    edwards: Identity,
    bob: Identity,
    mallory: Identity,
    partner: Identity,
    lonely: Identity,
    parade: Identity,
}

/// Below `.test`.
const NAMES: [&str; 14] = [
    "strict", "stale", "lax", "keys", "pins", "shallow", "audit", "plain", "optional", "open",
    "new", "filtered", "proto", "edge",
];

impl Cast {
    fn new() -> Self {
        let (pki, strangers) = (Pki::new(), Authority::new("Strangers"));
        let partners = pki.ca.intermediate("Partners");
        let of = |name: &str| ClientSpec::new(name).uri(&format!("spiffe://test/{name}"));
        let partner = partners.client(&of("partner"));
        let mut parade = partner.leaf_only();
        while parade.chain_der.len() < 11 {
            parade.chain_der.push(partners.certificate().clone());
            parade.chain_pem.push_str(&partners.ca_pem());
        }
        parade.chain_path = pki.ca.write("parade", "crt", &parade.chain_pem);
        let names: Vec<_> = NAMES.iter().map(|name| format!("{name}.test")).collect();
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        names.extend(["*.proto.test", "*.b.proto.test", "strict.test.evil"]);
        Self {
            front: pki.ca.server(&names),
            expired: pki.ca.client(&of("expired").expired()),
            early: pki.ca.client(&of("early").not_yet_valid()),
            server: pki.ca.client(&of("server").wrong_eku()),
            nameless: pki.ca.client(&ClientSpec::new("nameless").dns("nameless.test")),
            revoked: pki.ca.client(&of("revoked")),
            edwards: pki.ca.client(&of("edwards").key(KeyKind::Ed25519)),
            bob: pki.ca.client(&of("bob")),
            mallory: strangers.client(&of("mallory")),
            lonely: partner.leaf_only(),
            partner,
            parade,
            strangers,
            pki,
        }
    }

    /// A chain and a trust for each way to be let in or refused, chosen by `NAME.test`.
    fn config(&self, plain: SocketAddr, opaque: SocketAddr) -> Config {
        let ca = &self.pki.ca;
        let list = ca.write("list", "crl", &ca.revocation_list(&[&self.revoked]));
        let stale = ca.write("stale", "crl", &ca.revocation_list_of(&[], Validity::Expired));
        let crls = |file: &std::path::Path| format!("crls = [\"{}\"]", file.display());
        let everyone = "san = [{ uri = \"spiffe://test/**\" }]";
        let trusts = [
            ("strict", format!("{}\n{everyone}", crls(&list))),
            ("stale", crls(&stale)),
            ("lax", format!("{}\nrevocation = {{ stale = \"accept\" }}", crls(&stale))),
            ("keys", "client_keys = [\"ed25519\"]".to_owned()),
            ("pins", format!("pins = [\"{}\"]", "ab".repeat(32))),
            ("shallow", "depth_max = 0".to_owned()),
            ("audit", format!("mode = \"audit\"\n{everyone}")),
            ("plain", String::new()),
        ];
        let mut config = Config::new(1)
            .listener("edge", "")
            .listener("lan", "")
            .listener("raw", "")
            .cluster("app", &[plain], "")
            .cluster("opaque", &[opaque], "");
        for (name, keys) in &trusts {
            let anchors = ca.ca_path().display();
            config = config
                .table(&format!("[trust.{name}]\nanchors = [\"{anchors}\"]\n{keys}"))
                .downstream(name, &[&self.front], &format!("trust = \"{name}\""));
            let matches = format!("match = {{ server_names = [\"{name}.test\"] }}");
            let keys = format!("{matches}\ntls = \"{name}\"\ncluster = \"app\"");
            config = config.chain("edge", name, &keys);
        }
        self.special(config)
    }

    /// Chains that differ in more than their trust.
    fn special(&self, mut config: Config) -> Config {
        let special = [
            ("optional", "client_auth = \"optional\"\ntrust = \"plain\""),
            ("open", "client_auth = \"none\""),
            ("new", "trust = \"plain\"\nversions = [\"1.3\"]"),
            ("h2", "trust = \"plain\"\nalpn = [\"h2\"]"),
        ];
        for (name, keys) in special {
            config = config.downstream(name, &[&self.front], keys);
        }
        let alice = "{ uri = \"spiffe://test/alice\" }";
        let by = |criteria: &str, rest: &str| {
            format!("match = {{ {criteria} }}\ncluster = \"app\"\n{rest}")
        };
        let allow = format!("{{ type = \"authorize\", allow = [{alice}] }}");
        let watch = format!("{{ type = \"authorize\", deny = [{alice}], mode = \"audit\" }}");
        let filters = format!("tls = \"optional\"\nfilters = [{watch}, {allow}]");
        config
            .chain(
                "edge",
                "optional",
                &by("server_names = [\"optional.test\"]", "tls = \"optional\""),
            )
            .chain("edge", "open", &by("server_names = [\"open.test\"]", "tls = \"open\""))
            .chain("edge", "new", &by("server_names = [\"new.test\"]", "tls = \"new\""))
            .chain("edge", "filtered", &by("server_names = [\"filtered.test\"]", &filters))
            .chain(
                "edge",
                "h2",
                &by("server_names = [\"*.proto.test\"], alpn = [\"h2\"]", "tls = \"h2\""),
            )
            .chain("edge", "other", &by("server_names = [\"*.proto.test\"]", "tls = \"h2\""))
            .chain(
                "edge",
                "unopened",
                &format!(
                    "match = {{ server_names = [\"{UPSTREAM_NAME}\"] }}\ncluster = \"opaque\""
                ),
            )
            .chain("lan", "near", &by("sources = [\"127.0.0.0/30\"]", "tls = \"open\""))
            .chain("lan", "nearest", &by("sources = [\"127.0.0.2\"]", "tls = \"plain\""))
            .chain("raw", "raw", &by("transport = \"raw\", sources = [\"127.0.0.1\"]", ""))
    }
}

/// A client, and what becomes of it; `None`: it gets in.
#[derive(Clone)]
struct Case<'a> {
    listener: &'a str,
    name: &'a str,
    identity: Option<&'a Identity>,
    alpn: &'a [&'a str],
    source: IpAddr,
    only: Option<&'a str>,
    reason: Option<&'a str>,
}

fn case<'a>(
    name: &'a str,
    identity: impl Into<Option<&'a Identity>>,
    reason: impl Into<Option<&'a str>>,
) -> Case<'a> {
    Case {
        listener: "edge",
        name,
        identity: identity.into(),
        alpn: &[],
        source: Ipv4Addr::LOCALHOST.into(),
        only: None,
        reason: reason.into(),
    }
}

fn cases(cast: &Cast) -> Vec<Case<'_>> {
    let alice = &cast.pki.alice;
    let only = |only, case: Case<'static>| Case { only: Some(only), ..case };
    let offers =
        |alpn, name, reason: Option<&'static str>| Case { alpn, ..case(name, alice, reason) };
    let from = |last, identity, reason: Option<&'static str>| Case {
        listener: "lan",
        source: Ipv4Addr::new(127, 0, 0, last).into(),
        ..case(NAME, identity, reason)
    };
    vec![
        case("strict.test", alice, None),
        case("STRICT.Test", alice, None),
        case("strict.test", &cast.edwards, None),
        case("strict.test", &cast.expired, "certificate_expired"),
        case("strict.test", &cast.early, "certificate_not_yet_valid"),
        case("strict.test", &cast.mallory, "unknown_issuer"),
        case("strict.test", &cast.lonely, "unknown_issuer"),
        case("strict.test", &cast.server, "certificate_purpose"),
        case("strict.test", &cast.nameless, "san_not_allowed"),
        case("strict.test", &cast.revoked, "certificate_revoked"),
        case("strict.test", &cast.partner, "revocation_unknown"),
        case("strict.test", &cast.parade, "certificate_invalid"),
        case("strict.test", None, "no_certificate"),
        case("stale.test", alice, "revocation_stale"),
        case("lax.test", alice, None),
        case("keys.test", alice, "key_not_allowed"),
        case("keys.test", &cast.edwards, None),
        case("pins.test", alice, "not_pinned"),
        case("shallow.test", &cast.partner, "chain_too_deep"),
        case("plain.test", &cast.partner, None),
        case("audit.test", &cast.nameless, None),
        case("audit.test", &cast.mallory, None),
        case("audit.test", None, None),
        case("optional.test", None, None),
        case("optional.test", &cast.mallory, "unknown_issuer"),
        case("open.test", &cast.mallory, None),
        case("filtered.test", alice, None),
        case("filtered.test", &cast.bob, "not_authorized"),
        case("filtered.test", None, "not_authorized"),
        only("1.2", case("new.test", None, "version_mismatch")),
        offers(&["h2", "http/1.1"], "a.proto.test", None),
        offers(&["http/1.1"], "a.proto.test", Some("alpn_mismatch")),
        offers(&[], "a.b.proto.test", None),
        offers(&[], "proto.test", Some("no_chain")),
        case("strict.test.evil", alice, "no_chain"),
        from(1, None, None),
        from(2, None, Some("no_certificate")),
        from(2, Some(alice), None),
        from(9, Some(alice), Some("no_chain")),
    ]
}

/// What a gateway did with a client: the alert that it saw, and the line of the access log.
struct Met {
    alert: Option<u8>,
    line: Value,
}

fn connect(address: SocketAddr, source: IpAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

fn meet(gateway: &Gateway, cast: &Cast, case: &Case<'_>, version: &str) -> Met {
    let seen = gateway.access_log().len();
    let client = ClientTls::trusting(&cast.pki.ca).alpn(case.alpn).without_resumption();
    let client = match case.identity {
        Some(identity) => client.identity(identity),
        None => client,
    };
    let client = if version == "1.2" { client.only_tls12() } else { client.only_tls13() };
    let name = ServerName::try_from(case.name.to_owned()).unwrap();
    let connection = ClientConnection::new(client.build(), name).unwrap();
    let socket = connect(gateway.addr(case.listener), case.source);
    let mut stream = StreamOwned::new(connection, socket);
    let mut back = [0; 4];
    let went = stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut back));
    let alert = match went {
        Ok(()) => {
            close_write(&mut stream).unwrap();
            read_to_end(&mut stream).unwrap();
            None
        }
        Err(error) => {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let Some(rustls::Error::AlertReceived(alert)) = tls else {
                panic!("{}: {error}", case.name)
            };
            Some(u8::from(*alert))
        }
    };
    drop(stream);
    Met { alert, line: line_after(gateway, seen) }
}

fn line_after(gateway: &Gateway, seen: usize) -> Value {
    let mut place = 0;
    gateway.wait_access(PATIENCE, |_| {
        place += 1;
        place > seen
    })
}

/// Exit code, standard output, standard error.
fn run(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    command.arg("explain").arg("-c").arg(gateway.config_path()).args(arguments);
    let output = within(PATIENCE, "explain", move || command.output().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn explain(gateway: &Gateway, arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = run(gateway, &[arguments, &["--json"]].concat());
    let answer: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    let admitted = answer["admitted"].as_bool().unwrap();
    assert_eq!(code, Some(if admitted { 0 } else { 1 }), "{answer}");
    answer
}

fn ask(gateway: &Gateway, case: &Case<'_>, version: &str) -> Value {
    let source = case.source.to_string();
    let mut arguments = vec!["--listener", case.listener, "--sni", case.name, "--tls", version];
    arguments.extend(["--source", &source]);
    arguments.extend(case.alpn.iter().flat_map(|protocol| ["--alpn", *protocol]));
    let file = case.identity.map(|identity| identity.chain_path.display().to_string());
    arguments.extend(file.iter().flat_map(|file| ["--cert", file]));
    explain(gateway, &arguments)["listeners"][0].take()
}

/// What both know must be the same.
fn assert_agree(said: &Value, line: &Value) {
    for field in ["reason", "hint", "rule", "chain", "cluster", "alert", "audit"] {
        assert_eq!(said[field], line[field], "{field}\nexplain: {said}\ngateway: {line}");
    }
    // The two look a moment apart, and a certificate that begins in a day begins in 23 hours then.
    let timeless = |detail: &Value| {
        let detail = detail.as_str().map(|detail| detail.split(" is valid only in ").next());
        detail.flatten().map(str::to_owned)
    };
    assert_eq!(timeless(&said["detail"]), timeless(&line["detail"]), "{said}\n{line}");
    for field in ["depth", "subject", "serial", "fingerprint"] {
        let (said, line) = (&said["certificate"][field], &line["certificate"][field]);
        assert_eq!(said, line, "{field}");
    }
    assert_eq!(said["admitted"], line["outcome"] == "closed", "{said}\n{line}");
    if line["tls"].is_object() {
        for field in ["version", "suite", "alpn"] {
            assert_eq!(said["tls"][field], line["tls"][field], "{field}\n{said}\n{line}");
        }
    }
}

/// Exactly one step refuses whom the gateway refuses, all behind it are not asked, and no step refuses
/// whom it lets in.
fn assert_steps(said: &Value) {
    let steps = said["steps"].as_array().unwrap();
    let verdicts: Vec<_> = steps.iter().map(|step| step["verdict"].as_str().unwrap()).collect();
    let refused: Vec<_> = (0..steps.len()).filter(|at| verdicts[*at] == "refused").collect();
    let Some(last) = refused.first().filter(|_| said["admitted"] == false) else {
        assert!(refused.is_empty() && said["admitted"] == true, "{said}");
        return;
    };
    assert_eq!(refused.len(), 1, "{said}");
    assert!(verdicts[last + 1..].iter().all(|verdict| *verdict == "not_asked"), "{said}");
    let (text, detail) = (&steps[*last]["text"], said["detail"].as_str().unwrap());
    assert!(text.as_str().unwrap().contains(detail), "{said}");
    let audits = said["audit"].as_array().map_or(0, Vec::len);
    let would = verdicts.iter().filter(|verdict| **verdict == "would_be_refused").count();
    assert_eq!(audits, would, "{said}");
}

#[test]
fn explain_says_what_the_gateway_does_with_the_same_client() {
    let cast = Cast::new();
    let plain = PlainEcho::start();
    let opaque = TlsEcho::start(ServerTls::new(&cast.pki.upstream).build());
    let gateway = cast.config(plain.address(), opaque.address()).start();
    let mut met = BTreeSet::new();
    for case in &cases(&cast) {
        for version in ["1.2", "1.3"] {
            if case.only.is_some_and(|only| only != version) {
                continue;
            }
            let what = format!("{} at {} in {version}", case.name, case.listener);
            let said = ask(&gateway, case, version);
            assert_eq!(said["reason"].as_str(), case.reason, "{what}: {said}");
            let Met { alert, line } = meet(&gateway, &cast, case, version);
            assert_agree(&said, &line);
            assert_eq!(said["alert"].as_u64(), alert.map(u64::from), "{what}: {said}");
            assert_steps(&said);
            met.extend(case.reason);
        }
    }
    assert!(met.len() > 15, "{met:?}");
    gateway.settled();
}

#[test]
fn explain_says_what_becomes_of_names_that_are_none_and_of_plain_text() {
    let cast = Cast::new();
    let plain = PlainEcho::start();
    let opaque = TlsEcho::start(ServerTls::new(&cast.pki.upstream).build());
    let gateway = cast.config(plain.address(), opaque.address()).start();
    let long = "a".repeat(300);
    for name in ["strict.test.", "127.0.0.1", "::1", "b\u{fc}cher.test", "a b", "*.test", &long] {
        let seen = gateway.access_log().len();
        let mut socket = portcullis_kit::connect_plain(gateway.addr("edge")).unwrap();
        socket.write_all(&crafted(&sni(&[name.as_bytes()]))).unwrap();
        let alert = answer(&socket);
        drop(socket);
        let said = explain(&gateway, &["--listener", "edge", "--sni", name]);
        let said = &said["listeners"][0];
        assert_eq!(said["reason"], "sni_invalid", "{said}");
        assert_eq!(said["alert"], alert[6], "{said}");
        // A client that is refused before its certificate is asked for has none in the log either.
        assert_agree(said, &line_after(&gateway, seen));
        assert_steps(said);
    }
    let nameless = explain(&gateway, &["--listener", "edge", "--no-sni"]);
    let seen = gateway.access_log().len();
    let mut socket = portcullis_kit::connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&crafted(&[])).unwrap();
    answer(&socket);
    drop(socket);
    assert_eq!(nameless["listeners"][0]["reason"], "no_chain");
    assert_agree(&nameless["listeners"][0], &line_after(&gateway, seen));

    for (listener, source, reason) in
        [("raw", 1, None), ("raw", 2, Some("no_raw_chain")), ("edge", 1, Some("not_tls"))]
    {
        let seen = gateway.access_log().len();
        let source = IpAddr::from([127, 0, 0, source]);
        let mut socket = connect(gateway.addr(listener), source);
        // Without a raw chain that takes it, it is closed unread.
        drop(socket.write_all(b"plain text\r\n"));
        drop(socket.shutdown(std::net::Shutdown::Write));
        answer(&socket);
        drop(socket);
        let source = source.to_string();
        let said = explain(&gateway, &["--listener", listener, "--raw", "--source", &source]);
        assert_eq!(said["listeners"][0]["reason"].as_str(), reason, "{said}");
        assert_agree(&said["listeners"][0], &line_after(&gateway, seen));
        assert_steps(&said["listeners"][0]);
    }
    gateway.settled();
}

#[test]
fn what_is_not_opened_is_said_to_be_so() {
    let cast = Cast::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let gateway = cast.config(nowhere, nowhere).start();
    let alice = cast.pki.alice.chain_path.display().to_string();
    let said = explain(&gateway, &["--listener", "edge", "--sni", UPSTREAM_NAME, "--cert", &alice]);
    let said = &said["listeners"][0];
    assert_eq!((&said["handling"], &said["cluster"]), (&"passthrough".into(), &"opaque".into()));
    assert_eq!(said["admitted"], true);
    assert_eq!(said["steps"][1]["verdict"], "not_asked");
    assert!(said["tls"].is_null() && said["path"].is_null(), "{said}");
    // A client of TLS is no other to a listener that looks at nothing.
    let arguments = ["--listener", "raw", "--sni", "any.test", "--source", "127.0.0.1"];
    assert_eq!(explain(&gateway, &arguments)["listeners"][0]["handling"], "raw");
}

#[test]
fn each_listener_answers_for_itself_and_time_can_be_moved() {
    let cast = Cast::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let gateway = cast.config(nowhere, nowhere).start();
    let alice = cast.pki.alice.chain_path.display().to_string();
    let plain = ["--sni", "plain.test", "--cert", &alice, "--source", "127.0.0.9"];
    let said = explain(&gateway, &plain);
    let listeners = said["listeners"].as_array().unwrap();
    let answers: Vec<_> =
        listeners.iter().map(|one| (one["listener"].as_str().unwrap(), &one["reason"])).collect();
    let reasons =
        [("edge", Value::Null), ("lan", "no_chain".into()), ("raw", "no_raw_chain".into())];
    assert_eq!(answers, reasons.each_ref().map(|(name, reason)| (*name, reason)));

    let edge = |name, at| {
        let arguments = ["--listener", "edge", "--sni", name, "--cert", &alice, "--at", at];
        explain(&gateway, &arguments)["listeners"][0]["reason"].clone()
    };
    assert_eq!(edge("plain.test", "+89d"), Value::Null);
    assert_eq!(edge("plain.test", "+91d"), "certificate_expired");
    assert_eq!(edge("plain.test", "-2h"), "certificate_not_yet_valid");
    assert_eq!(edge("strict.test", "+20h"), Value::Null);
    assert_eq!(edge("strict.test", "+2d"), "revocation_stale");
    assert_eq!(edge("plain.test", "2099-01-01T00:00:00Z"), "certificate_expired");

    // Neither answer nor warning sends anybody to a clock that was not asked.
    let arguments = [
        "--listener",
        "edge",
        "--sni",
        "plain.test",
        "--cert",
        &alice,
        "--at",
        "2099-01-01T00:00:00Z",
    ];
    let (_, stdout, stderr) = run(&gateway, &arguments);
    assert!(stdout.contains("look at the time of --at"), "{stdout}");
    assert!(stderr.contains("renew it, or look at the time of --at"), "{stderr}");
    assert!(!format!("{stdout}{stderr}").contains("machine's clock"), "{stdout}{stderr}");
}

#[test]
fn questions_without_an_answer_end_with_two_and_say_what_to_write() {
    let cast = Cast::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let gateway = cast.config(nowhere, nowhere).start();
    for (arguments, says) in [
        (&["--listener", "edge"][..], "--sni"),
        (&["--sni", ""], "--sni"),
        (&["--sni", "a.test", "--raw"], "cannot be used with"),
        (&["--sni", "a.test", "--listener", "egde"], "the listeners are edge, lan, raw"),
        (&["--sni", "a.test"], "say it with --source"),
        (&["--sni", "a.test", "--listener", "edge", "--cert", "gone.pem"], "cannot read gone.pem"),
        (&["--sni", "a.test", "--listener", "edge", "--at", "soon"], "--at: `soon` is no time"),
        (&["--sni", "a.test", "--listener", "edge", "--at", "soon"], "as in \"+30d\"\n"),
        (&["--sni", "a.test", "--listener", "edge", "--tls", "1.1"], "1.2 and 1.3"),
    ] {
        let (code, stdout, stderr) = run(&gateway, arguments);
        assert_eq!((code, &*stdout), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
    let broken = cast.pki.ca.write("broken", "toml", "[listener.edge]\nadress = \"\"\n");
    let mut command = Command::new(BINARY);
    command.args(["explain", "--sni", "a.test", "-c"]).arg(&broken);
    let output = within(PATIENCE, "explain", move || command.output().unwrap());
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(".toml:2:1: ") && stderr.contains("found"), "{stderr}");
}

#[test] // threat 48
fn names_in_certificates_and_arguments_give_a_terminal_no_orders() {
    let cast = Cast::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let gateway = cast.config(nowhere, nowhere).start();
    let evil = "\u{1b}[2J\u{202e}\nit gets in";
    let client = cast.strangers.client(&ClientSpec::new(evil));
    let file = client.chain_path.display().to_string();
    for json in [&[][..], &["--json"]] {
        for name in ["plain.test", evil] {
            let arguments =
                [&["--listener", "edge", "--sni", name, "--cert", &file], json].concat();
            let (code, stdout, _) = run(&gateway, &arguments);
            assert_eq!(code, Some(1), "{stdout}");
            let is_order = |char: char| char.is_control() && char != '\n' || char == '\u{202e}';
            assert!(!stdout.contains(is_order), "{stdout:?}");
            assert!(stdout.lines().all(|line| !line.starts_with("it gets in")), "{stdout}");
        }
    }
}

/// Every field of an answer, with the names of those above it.
fn fields(value: &Value, above: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let name = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
                fields(value, &name, all);
                all.insert(name);
            }
        }
        Value::Array(list) => list.iter().for_each(|one| fields(one, above, all)),
        _ => {}
    }
}

/// The first column of the tables of a part of the page.
fn listed(part: &str) -> BTreeSet<String> {
    let rows = part.lines().filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_fields_and_steps_of_an_answer_are_those_of_the_page() {
    let cast = Cast::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let gateway = cast.config(nowhere, nowhere).start();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/explain.md");
    let page = fs::read_to_string(page).unwrap();
    let (steps_part, fields_part) = page.split_once("## JSON").unwrap();
    let (mut found, mut steps) = (BTreeSet::new(), BTreeSet::new());
    let of = |identity: &Identity| identity.chain_path.display().to_string();
    let (alice, expired) = (of(&cast.pki.alice), of(&cast.expired));
    for arguments in [
        &["--sni", "filtered.test", "--cert", &alice][..],
        &["--sni", "strict.test", "--cert", &expired],
        &["--sni", "strict.test"],
        &["--sni", "strict.test."],
    ] {
        let answer = explain(&gateway, &[&["--listener", "edge"], arguments].concat());
        fields(&answer, "", &mut found);
        let of = answer["listeners"][0]["steps"].as_array().unwrap();
        steps.extend(of.iter().map(|step| step["step"].as_str().unwrap().to_owned()));
    }
    assert_eq!(listed(fields_part), found);
    assert_eq!(listed(steps_part), steps);
}

#[test]
fn a_step_that_passed_says_what_it_rests_on() {
    let cast = Cast::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let gateway = cast.config(nowhere, nowhere).start();
    let file = |identity: &Identity| identity.chain_path.display().to_string();
    let texts = |name: &str, identity: &Identity| {
        let file = file(identity);
        let said = explain(&gateway, &["--listener", "edge", "--sni", name, "--cert", &file]);
        let said = said["listeners"][0].clone();
        let steps = said["steps"].as_array().unwrap();
        let text = |name: &str| {
            let step = steps.iter().find(|step| step["step"] == name).unwrap();
            step["text"].as_str().unwrap().to_owned()
        };
        let all = ["client_keys", "validity", "path", "depth", "revocation", "san"].map(text);
        (said["path"].clone(), all)
    };
    let (path, [keys, validity, way, depth, revocation, san]) =
        texts("strict.test", &cast.pki.alice);
    assert_eq!(path, serde_json::json!(["CN=alice", "CN=Test Root"]));
    assert!(keys.contains("client_keys has \"ecdsa-p256\""), "{keys}");
    assert!(validity.contains(" days, until 20"), "{validity}");
    assert_eq!(way, "CN=alice, issued by the anchor CN=Test Root");
    assert!(depth.starts_with("0 intermediates"), "{depth}");
    assert!(revocation.contains("not among the 1 that the list of CN=Test Root revokes"));
    assert!(revocation.contains("is 1 hour old; the next is due in "), "{revocation}");
    assert_eq!(san, "its name spiffe://test/alice is one of san: uri = \"spiffe://test/**\"");
    let (_, [.., revocation, _]) = texts("lax.test", &cast.pki.alice);
    assert!(revocation.contains("out of date since 1 day"), "{revocation}");
    let (path, [.., depth, _, _]) = texts("plain.test", &cast.partner);
    assert_eq!(path, serde_json::json!(["CN=partner", "CN=Partners", "CN=Test Root"]));
    assert!(depth.starts_with("1 intermediate "), "{depth}");
}
