//! `openssl s_client`: what a user types comes back, sessions resume, refusals read right.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use portcullis_kit::{Authority, ClientSpec, Identity, PlainEcho};

use crate::front::{Front, TLS12, TLS13};
use crate::program::{Finished, Running, command, find, must};

const VERSIONS: [(&str, &str); 2] = [("-tls1_2", TLS12), ("-tls1_3", TLS13)];

#[test]
fn s_client_hears_what_it_says() {
    let Some(openssl) = find("openssl", "openssl") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for (flag, version) in VERSIONS {
        let mut client = s_client(&openssl, &front, Some(&front.client), &["-brief", flag]);
        client.say("who goes there\n");
        client.wait_for("who goes there");
        let finished = client.finish();
        assert!(finished.status.success(), "{version}: {}", finished.text);
        assert!(finished.text.contains("CONNECTION ESTABLISHED"), "{}", finished.text);
        assert!(finished.text.contains(&format!("Protocol version: {version}")));
        assert!(finished.text.contains("Verification: OK"), "{}", finished.text);
        let line = front.served(version, false);
        assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
        assert_eq!(line["sni"], "localhost", "{line}");
        assert_eq!(line["bytes_received"], "who goes there\n".len(), "{line}");
        assert_eq!(line["closing"], "clean", "{line}");
    }
}

#[test]
fn s_client_without_certificate_reads_that_it_needs_one() {
    let Some(openssl) = find("openssl", "openssl") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for (flag, words) in
        [("-tls1_2", "alert handshake failure"), ("-tls1_3", "alert certificate required")]
    {
        let finished = refused(&openssl, &front, None, flag);
        assert!(finished.text.contains(words), "{words}: {}", finished.text);
    }
    assert!(front.refused("no_certificate")["hint"].as_str().unwrap().contains("give it one"));
    assert_eq!(upstream.counts().accepted, 0);
}

#[test]
fn s_client_with_a_bad_certificate_reads_what_is_wrong_with_it() {
    let Some(openssl) = find("openssl", "openssl") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    // A CA made anew under the name of the one that the gateway trusts.
    let namesake = Authority::new("Clients CA").client(&ClientSpec::new("carol"));
    let expired = front.issue(&ClientSpec::new("bob").expired());
    for flag in ["-tls1_2", "-tls1_3"] {
        for identity in [&front.stranger, &namesake] {
            let finished = refused(&openssl, &front, Some(identity), flag);
            assert!(finished.text.contains("alert unknown ca"), "{}", finished.text);
        }
        let finished = refused(&openssl, &front, Some(&expired), flag);
        assert!(finished.text.contains("alert certificate expired"), "{}", finished.text);
    }
    front.refused("unknown_issuer");
    front.refused("certificate_expired");
    assert_eq!(upstream.counts().accepted, 0);
}

#[test]
fn s_client_resumes_a_session_that_it_kept_in_a_file() {
    let Some(openssl) = find("openssl", "openssl") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    let folder = tempfile::tempdir().unwrap();
    for (flag, version) in VERSIONS {
        let file = folder.path().join(version);
        let file = file.to_str().unwrap();
        for (option, kind) in [("-sess_out", "New"), ("-sess_in", "Reused")] {
            let mut client = s_client(&openssl, &front, Some(&front.client), &[option, file, flag]);
            client.wait_for(&format!("{kind}, {version}"));
            // The echo comes after the ticket, which s_client has then written.
            client.say("again\n");
            client.wait_for("again\n");
            assert!(client.finish().status.success());
        }
        let line = front.served(version, true);
        assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
    }
}

/// What one node gives out, another takes, be it from a root or from nginx's key files that openssl
/// has made.
#[test]
fn s_client_resumes_at_another_node_of_the_fleet() {
    let Some(openssl) = find("openssl", "openssl") else { return };
    let upstream = PlainEcho::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut init = command(env!("CARGO_BIN_EXE_portcullis"), "stek init");
    init.arg(path("stek.root"));
    must(init);
    for (name, length) in [("next.key", "80"), ("current.key", "48"), ("previous.key", "80")] {
        let mut rand = command(&openssl, "rand -out");
        rand.arg(path(name)).arg(length);
        must(rand);
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let [root, next, current, previous] =
        ["stek.root", "next.key", "current.key", "previous.key"].map(path);
    for source in [
        format!("{{ root = {root:?} }}"),
        format!("{{ keys = [{next:?}, {current:?}, {previous:?}] }}"),
    ] {
        let tickets = format!("[session_tickets]\nsource = {source}");
        let mut front = Front::before_with(upstream.address(), &tickets);
        let session = |front: &Front, flag: &str, version: &str, option: &str, kind: &str| {
            let file = path(version);
            let options = [option, file.to_str().unwrap(), flag];
            let mut client = s_client(&openssl, front, Some(&front.client), &options);
            client.wait_for(&format!("{kind}, {version}"));
            client.say("again\n");
            client.wait_for("again\n");
            assert!(client.finish().status.success());
        };
        for (flag, version) in VERSIONS {
            session(&front, flag, version, "-sess_out", "New");
        }
        let first = front.change_node();
        for (flag, version) in VERSIONS {
            session(&front, flag, version, "-sess_in", "Reused");
            let line = front.served(version, true);
            assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
        }
        drop(first);
    }
}

/// In TLS 1.3 s_client leaves before it has read a ticket, with every server: full handshakes then.
#[test]
fn s_client_reconnects_five_times() {
    let Some(openssl) = find("openssl", "openssl") else { return };
    let upstream = PlainEcho::start();
    for (flag, version, kind) in
        [("-tls1_2", TLS12, "Reused, TLSv1.2"), ("-tls1_3", TLS13, ", TLSv1.3")]
    {
        let front = Front::before(upstream.address());
        let mut client = s_client(&openssl, &front, Some(&front.client), &["-reconnect", flag]);
        client.say("still there\n");
        client.wait_for("still there\n");
        let finished = client.finish();
        assert!(finished.status.success(), "{}", finished.text);
        assert!(finished.text.matches(kind).count() >= 5, "{version}: {}", finished.text);
        let lines = front.ended(6);
        assert!(lines.iter().all(|line| line["outcome"] == "closed"), "{lines:?}");
        let resumed = lines.iter().filter(|line| line["tls"]["resumed"] == true).count();
        assert!(version == TLS13 || resumed == 5, "{lines:?}");
    }
}

/// Renegotiation (RFC 5246 §7.4.1.1) is refused, and costs this connection alone. // threat 18
#[test]
fn s_client_cannot_renegotiate() {
    let Some(openssl) = find("openssl", "openssl") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    let mut client = s_client(&openssl, &front, Some(&front.client), &["-tls1_2"]);
    client.say("first\n");
    client.wait_for("\nfirst\n");
    client.say("R\n");
    client.wait_for("RENEGOTIATING");
    let finished = client.finish();
    assert!(!finished.text.contains("\nR\n"), "{}", finished.text);
    assert!(!finished.status.success(), "{}", finished.text);
    assert!(finished.text.contains("no renegotiation"), "{}", finished.text);
}

/// A client with little room is sent records that it has room for (RFC 6066 §4), in the handshake too.
#[test]
fn s_client_gets_no_longer_records_than_it_asks_for() {
    let Some(openssl) = find("openssl", "openssl") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    let text = "who goes there? ".repeat(250);
    for (flag, overhead) in [("-tls1_2", 24), ("-tls1_3", 17)] {
        let options = [flag, "-msg", "-maxfraglen", "512"];
        let mut client = s_client(&openssl, &front, Some(&front.client), &options);
        client.say(&format!("{text}and no more\n"));
        client.wait_for("and no more\n");
        let finished = client.finish();
        assert!(finished.status.success(), "{}", finished.text);
        // As -msg shows a header: its type, version and length.
        let lines = finished.text.lines().zip(finished.text.lines().skip(1));
        let headers =
            lines.filter(|(said, _)| said.starts_with("<<<") && said.contains("RecordHeader"));
        let lengths = headers.map(|(_, header)| {
            let bytes: Vec<_> = header.split_whitespace().collect();
            usize::from_str_radix(&bytes[3..].concat(), 16).unwrap()
        });
        let lengths: Vec<_> = lengths.collect();
        let longest = lengths.iter().max().unwrap();
        assert_eq!(*longest, 512 + overhead, "{flag}: {lengths:?}");
    }
}

fn s_client(
    openssl: &PathBuf,
    front: &Front,
    identity: Option<&Identity>,
    options: &[&str],
) -> Running {
    let words = "s_client -connect 127.0.0.1:{port} -servername localhost -CAfile {ca} \
                 -verify_hostname localhost -verify_return_error";
    let mut command = front.command(openssl, words);
    command.args(options);
    if let Some(identity) = identity {
        command.arg("-cert").arg(&identity.chain_path).arg("-key").arg(&identity.key_path);
    }
    Running::start(command)
}

/// A connection that the gateway must not let in.
fn refused(
    openssl: &PathBuf,
    front: &Front,
    identity: Option<&Identity>,
    version: &str,
) -> Finished {
    let client = s_client(openssl, front, identity, &["-brief", version]);
    client.wait_for("SSL alert number");
    let finished = client.finish();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.text);
    finished
}
