//! Lines, the thread that writes them, and its sinks.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use crossbeam::channel::TrySendError;
use portcullis_kit::{PATIENCE, eventually, within};
use proptest::prelude::*;
use serde_json::Value;

use super::record::{DETAIL_CHARS_MAX, TEXT_CHARS_MAX};
use super::*;
use crate::core::identity::Identity;
use crate::core::refusal::{Evidence, Reason, Refusal};
use crate::core::relay::{ClosedBy, Closing, Outcome};
use crate::core::session::Marks;
use crate::tls::{ClientFacts, Negotiated, UpstreamFacts, Version};
use crate::worker::{Ending, UpstreamReport};

fn negotiated() -> Negotiated {
    Negotiated {
        version: Version::Tls13,
        suite: "TLS_AES_128_GCM_SHA256",
        group: Some("X25519MLKEM768"),
        alpn: Some(b"postgresql".to_vec()),
        resumed: false,
        hello_retry: false,
    }
}

fn identity() -> Identity {
    Identity {
        subject: "CN=orders-api".to_owned(),
        sans: vec!["uri:spiffe://example.org/orders".to_owned(), "dns:orders.internal".to_owned()],
        issuer: "CN=Partners CA".to_owned(),
        serial: "0a1b2c".to_owned(),
        fingerprint_sha256: [0xab; 32],
        not_before: 0,
        not_after: 1_800_000_000,
    }
}

/// A session that was served.
fn served() -> Report {
    let client = ClientFacts {
        negotiated: negotiated(),
        leaf: None,
        shown: None,
        anchor: None,
        standing: None,
        audit: None,
        memo: None,
        denials: Vec::new(),
    };
    let upstream = UpstreamFacts {
        negotiated: Negotiated { resumed: true, group: None, alpn: None, ..negotiated() },
        leaf: None,
        anchor: None,
        audit: None,
        memo: None,
        asked: None,
    };
    Report {
        id: 0x0001_0000_0000_002a,
        accepted: Duration::from_millis(1_795_327_462_123),
        duration: Duration::from_micros(61_002_345),
        listener: "edge".into(),
        source: "192.0.2.7:40123".parse().expect("an address"),
        proxy: None,
        local: Some("192.0.2.1:8443".parse().expect("an address")),
        server_name: Some("orders.example.com".into()),
        chain: Some("orders".into()),
        client: Some(Arc::new(client)),
        marks: Marks {
            hello: Some(Duration::from_micros(210)),
            handshake: Some(Duration::from_micros(1_480)),
            connected: Some(Duration::from_micros(1_500)),
        },
        cluster: Some("orders-db".into()),
        upstream: Some(UpstreamReport {
            address: "127.0.0.1:6432".parse().expect("an address"),
            ready: true,
            tls: Some(Box::new(upstream)),
        }),
        audits: Vec::new(),
        suppressed: 0,
        bytes_received: 1_234,
        bytes_sent: 56_789,
        ending: Ending::Closed {
            outcome: Outcome { closed_by: ClosedBy::Downstream, how: Closing::Done, reason: None },
            detail: String::new(),
            alert: None,
        },
    }
}

/// A client without a certificate.
fn refused() -> Report {
    let refusal =
        Refusal::new(Reason::NoCertificate, "the client sent no certificate").with_alert(116);
    Report {
        duration: Duration::from_micros(1_250),
        client: None,
        marks: Marks { hello: Some(Duration::from_micros(210)), handshake: None, connected: None },
        cluster: None,
        upstream: None,
        bytes_received: 0,
        bytes_sent: 0,
        ending: Ending::Refused(refusal),
        ..served()
    }
}

/// The line of a report whose client, where it was served, is `identity()`.
fn line(report: &Report, format: LogFormat) -> String {
    let client = report.client.is_some().then(identity);
    line_of(report, &Identities { client }, format)
}

fn line_of(report: &Report, identities: &Identities, format: LogFormat) -> String {
    let mut out = Vec::new();
    let record = Record::of(report, identities);
    match format {
        LogFormat::Json => json::write(&record, &mut out),
        LogFormat::Text => text::write(&record, &mut out),
    }
    String::from_utf8(out).expect("UTF-8")
}

/// A refusal for what is wrong with the certificate of a CA above the client's.
fn refused_for_a_certificate() -> Report {
    let above = Identity { subject: "CN=Partners CA".to_owned(), ..identity() };
    let evidence = Evidence {
        leaf: Some(identity()),
        depth: 1,
        at_depth: Some(above),
        rule: Some("trust.partners.crls".to_owned()),
        hint: Some("ask the partner".to_owned()),
    };
    let refusal = Refusal {
        evidence: Some(Box::new(evidence)),
        ..Refusal::new(Reason::CertificateRevoked, "revoked").with_alert(44)
    };
    Report { ending: Ending::Refused(refusal), ..refused() }
}

#[test]
fn a_refusal_for_a_certificate_describes_it_and_the_client_and_names_the_rule() {
    let json = line(&refused_for_a_certificate(), LogFormat::Json);
    let parsed: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(parsed["rule"], "trust.partners.crls");
    assert_eq!(parsed["hint"], "ask the partner");
    assert_eq!(parsed["certificate"]["side"], "downstream");
    assert_eq!(parsed["certificate"]["depth"], 1);
    assert_eq!(parsed["certificate"]["subject"], "CN=Partners CA");
    assert_eq!(parsed["client"]["subject"], "CN=orders-api");
    let text = line(&refused_for_a_certificate(), LogFormat::Text);
    assert!(text.contains(" rule=\"trust.partners.crls\" certificate_side=downstream "), "{text}");
    assert!(text.contains(" subject=\"CN=orders-api\" "), "{text}");
}

#[test]
fn the_certificate_of_an_upstream_is_not_taken_for_the_clients() {
    let mut report = refused_for_a_certificate();
    if let Ending::Refused(refusal) = &mut report.ending {
        refusal.reason = Reason::UpstreamUntrusted;
    }
    let parsed: Value = serde_json::from_str(&line(&report, LogFormat::Json)).expect("JSON");
    assert_eq!(parsed["certificate"]["side"], "upstream");
    assert_eq!(parsed["client"], Value::Null);
}

#[test]
fn what_was_only_audited_stands_beside_a_session_that_was_served() {
    let refusal = Refusal::new(Reason::SanNotAllowed, "no rule");
    let report = Report { audits: vec![refusal], ..served() };
    let parsed: Value = serde_json::from_str(&line(&report, LogFormat::Json)).expect("JSON");
    assert_eq!(parsed["outcome"], "closed");
    assert_eq!(parsed["audit"][0]["reason"], "san_not_allowed");
    assert_eq!(parsed["audit"][0]["detail"], "no rule");
    let text = line(&report, LogFormat::Text);
    assert!(text.contains(" audit=san_not_allowed audit_detail=\"no rule\" "), "{text}");
}

#[test]
fn json_lines_keep_their_schema() {
    assert_eq!(line(&served(), LogFormat::Json), SERVED_JSON);
    let hint = Reason::NoCertificate.hint().replace('"', "\\\"");
    assert_eq!(line(&refused(), LogFormat::Json), REFUSED_JSON.replace("HINT", &hint));
}

#[test]
fn the_page_lists_exactly_the_fields_of_a_line() {
    let Report { ending, .. } = refused_for_a_certificate();
    let json = line(&Report { ending, ..served() }, LogFormat::Json);
    let parsed: Value = serde_json::from_str(&json).expect("JSON");
    let mut fields = Vec::new();
    for (name, value) in parsed.as_object().expect("an object") {
        fields.push(name.clone());
        if let Some(inner) = value.as_object().filter(|_| name != "upstream_tls") {
            fields.extend(inner.keys().map(|key| format!("{name}.{key}")));
        }
    }
    let page = include_str!("../../../docs/access-log.md");
    let mut listed: Vec<_> = page
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    // The order is held by the snapshots; a parsed object may have another.
    fields.sort();
    listed.sort();
    assert_eq!(listed, fields);
}

#[test]
fn text_lines_keep_their_schema() {
    assert_eq!(line(&served(), LogFormat::Text), SERVED_TEXT);
    let hint = Reason::NoCertificate.hint().replace('"', "\\\"");
    assert_eq!(line(&refused(), LogFormat::Text), REFUSED_TEXT.replace("HINT", &hint));
}

#[test]
fn every_reason_has_its_code_and_whole_hint_in_both_formats() {
    for reason in Reason::ALL {
        let report = Report { ending: Ending::Refused(Refusal::new(*reason, "why")), ..served() };
        let parsed: Value = serde_json::from_str(&line(&report, LogFormat::Json)).expect("JSON");
        assert_eq!(parsed["reason"], reason.code());
        assert_eq!(parsed["hint"], reason.hint());
        let text = line(&report, LogFormat::Text);
        assert!(text.contains(&format!(" reason={} ", reason.code())), "{text}");
        let hint = reason.hint().replace('"', "\\\"");
        assert!(text.contains(&format!(" hint=\"{hint}\" ")), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_of_a_peer_breaks_out_of_its_line_or_field(
        name in any::<String>(),
        subject in "[\\x00-\\x20\"\\\\\u{7f}-\u{9f}\u{2028}\u{2029}\u{202e}\u{feff}a-c😀]{0,400}",
        detail in "\\PC{0,1200}",
    ) {
        // threat 48
        let mut report = served();
        report.server_name = Some(name.clone().into());
        let mut client = report.client.take().expect("a client");
        let facts = Arc::get_mut(&mut client).expect("nobody else has it");
        let identity = Identity {
            subject: subject.clone(), sans: vec![name.clone()], ..identity()
        };
        let identities = Identities { client: Some(identity) };
        facts.negotiated.alpn = Some(name.clone().into_bytes());
        report.client = Some(client);
        report.ending = Ending::Refused(Refusal::new(Reason::NotTls, detail.clone()));
        let cut = |text: &str, max| text.chars().take(max).collect::<String>();
        let capped = |text: &str| cut(text, TEXT_CHARS_MAX);

        let json = line_of(&report, &identities, LogFormat::Json);
        prop_assert!(is_one_line(&json), "{json:?}");
        let parsed: Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(parsed["sni"].as_str(), Some(&*capped(&name)));
        prop_assert_eq!(parsed["client"]["subject"].as_str(), Some(&*capped(&subject)));
        prop_assert_eq!(parsed["client"]["sans"][0].as_str(), Some(&*capped(&name)));
        prop_assert_eq!(parsed["tls"]["alpn"].as_str(), Some(&*capped(&name)));
        if !detail.is_empty() {
            prop_assert_eq!(parsed["detail"].as_str(), Some(&*cut(&detail, DETAIL_CHARS_MAX)));
        }

        let text = line_of(&report, &identities, LogFormat::Text);
        prop_assert!(is_one_line(&text), "{text:?}");
        // What stands outside of quotes is what stands there with a harmless peer.
        let mut harmless = served();
        let word = if detail.is_empty() { "" } else { "x" };
        harmless.ending = Ending::Refused(Refusal::new(Reason::NotTls, word));
        let harmless = line(&harmless, LogFormat::Text);
        prop_assert_eq!(without_values(&text), without_values(&harmless));
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_logged_as_far_as_they_are(alpn in any::<Vec<u8>>()) {
        let mut report = served();
        let client = report.client.as_mut().and_then(Arc::get_mut).expect("a client");
        client.negotiated.alpn = Some(alpn.clone());
        let parsed: Value = serde_json::from_str(&line(&report, LogFormat::Json)).expect("JSON");
        let expected: String =
            String::from_utf8_lossy(&alpn).chars().take(TEXT_CHARS_MAX).collect();
        prop_assert_eq!(parsed["tls"]["alpn"].as_str(), Some(&*expected));
    }
}

/// Ends in the only character that any reader takes for the end of a line.
fn is_one_line(line: &str) -> bool {
    let breaks = |char: char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}');
    line.strip_suffix('\n').is_some_and(|inner| !inner.contains(breaks))
}

/// The line with nothing between its quotes.
fn without_values(line: &str) -> String {
    let (mut escaped, mut inside) = (false, false);
    line.chars()
        .filter(|char| {
            let is_bare = *char == '"' && !escaped;
            escaped = *char == '\\' && !escaped;
            inside ^= is_bare;
            is_bare || !inside
        })
        .collect()
}

#[test]
fn all_records_are_written_when_the_log_is_finished() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let sink = AccessLogSink::File(path.clone());
    for (format, so_far) in [(LogFormat::Json, 0), (LogFormat::Text, 5_000)] {
        let (sender, guard) = AccessLog::start(&sink, format).expect("a log");
        let counts = guard.counts();
        let sender = sender.expect("a queue");
        for _ in 0..5_000 {
            sender.send(served()).expect("the log runs");
        }
        guard.finish(PATIENCE).expect("in time");
        assert_eq!((counts.written(), counts.lost()), (5_000, 0));
        let lines = std::fs::read_to_string(&path).expect("the file").lines().count();
        assert_eq!(lines, so_far + 5_000, "{format:?}: appended");
    }
}

#[test]
fn records_are_written_soon_though_nobody_wakes_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let (sender, guard) =
        AccessLog::start(&AccessLogSink::File(path.clone()), LogFormat::Json).expect("a log");
    sender.expect("a queue").send(refused()).expect("the log runs");
    eventually(PATIENCE, "the line", || {
        std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    });
    drop(guard);
}

#[test]
fn a_sink_that_nobody_reads_costs_records_and_no_time() {
    // threat 43
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let (sender, guard) =
        start(Sink::new(File::from(writer)), AccessLogSink::Stdout, LogFormat::Json)
            .expect("a log");
    let (sent, guard) = within(PATIENCE, "sending to a blocked log", move || {
        let mut sent = 0_u64;
        // More than the queue, one batch and the pipe hold together.
        for _ in 0..4 * QUEUE_MAX {
            match sender.try_send(served()) {
                Ok(()) => sent += 1,
                Err(TrySendError::Full(_)) => return (sent, guard),
                Err(TrySendError::Disconnected(_)) => panic!("the log is gone"),
            }
        }
        panic!("the queue has no bound");
    });
    let counts = guard.counts();
    let patience = Duration::from_millis(50);
    assert_eq!(guard.finish(patience), Err(Unfinished(patience)), "the end does not wait either");
    // Now that it is read, all of them come.
    let text = within(PATIENCE, "reading the log", move || {
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("the log");
        text
    });
    assert_eq!(text.lines().count() as u64, sent);
    assert_eq!((counts.written(), counts.lost()), (sent, 0));
}

#[test]
fn a_sink_whose_reader_is_gone_is_counted() {
    // threat 43
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    drop(reader);
    let (sender, guard) =
        start(Sink::new(File::from(writer)), AccessLogSink::Stdout, LogFormat::Text)
            .expect("a log");
    let counts = guard.counts();
    for _ in 0..10 {
        sender.send(refused()).expect("the log runs");
    }
    guard.finish(PATIENCE).expect("in time");
    assert_eq!((counts.written(), counts.lost()), (0, 10));
}

#[test]
fn a_fifo_without_reader_does_not_hold_up_the_start() {
    // threat 43
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a fifo");
    within(PATIENCE, "starting the log", move || {
        let started = AccessLog::start(&AccessLogSink::File(path), LogFormat::Json);
        drop(started.expect("a log"));
    });
}

#[test]
fn after_a_torn_line_the_next_begins_on_a_line_of_its_own() {
    // threat 43: a disk that was full is a sink that took half a batch.
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe");
    let mut sink = Sink::new(File::from(writer));
    let mut reader = File::from(reader);
    let lines = format!("{}\n", "x".repeat(99)).repeat(10_000);
    sink.write(lines.as_bytes()).expect_err("the pipe is full");
    let mut taken = Vec::new();
    let error = reader.read_to_end(&mut taken).expect_err("the pipe is empty");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_ne!(taken.last(), Some(&b'\n'));
    sink.write(b"whole\n").expect("there is room");
    let mut next = [0; 7];
    reader.read_exact(&mut next).expect("the line");
    assert_eq!(&next, b"\nwhole\n");
}

#[test]
fn a_full_queue_has_the_size_it_is_said_to_have() {
    let bytes = QUEUE_MAX * size_of::<Report>();
    assert!(bytes <= QUEUE_BYTES_MAX, "{bytes}");
}

#[test]
fn without_a_sink_there_is_no_queue() {
    let (sender, guard) = AccessLog::start(&AccessLogSink::Off, LogFormat::Json).expect("no log");
    assert!(sender.is_none());
    assert_eq!(guard.finish(Duration::ZERO), Ok(()));
}

/// What the comment at `QUEUE_MAX` says.
const QUEUE_BYTES_MAX: usize = 4 << 20;

const SERVED_JSON: &str = concat!(
    r#"{"time":"2026-11-22T06:04:22.123Z","id":"000100000000002a","listener":"edge","#,
    r#""source":"192.0.2.7:40123","proxy":null,"local":"192.0.2.1:8443","sni":"orders.example.com","#,
    r#""chain":"orders","outcome":"closed","reason":null,"hint":null,"detail":null,"rule":null,"certificate":null,"#,
    r#""alert":null,"alert_name":null,"closed_by":"downstream","closing":"clean","#,
    r#""duration_ms":61002.345,"hello_ms":0.21,"handshake_ms":1.48,"connected_ms":1.5,"#,
    r#""client":{"subject":"CN=orders-api","#,
    r#""sans":["uri:spiffe://example.org/orders","dns:orders.internal"],"serial":"0a1b2c","#,
    r#""issuer":"CN=Partners CA","#,
    r#""fingerprint":"abababababababababababababababababababababababababababababababab","#,
    r#""not_after":"2027-01-15T08:00:00.000Z"},"audit":null,"#,
    r#""tls":{"version":"TLSv1.3","suite":"TLS_AES_128_GCM_SHA256","group":"X25519MLKEM768","#,
    r#""alpn":"postgresql","resumed":false,"hello_retry":false},"cluster":"orders-db","#,
    r#""upstream":"127.0.0.1:6432","upstream_ready":true,"upstream_tls":{"version":"TLSv1.3","#,
    r#""suite":"TLS_AES_128_GCM_SHA256","group":null,"alpn":null,"resumed":true,"#,
    r#""hello_retry":false},"bytes_received":1234,"bytes_sent":56789,"suppressed":null}"#,
    "\n"
);

const REFUSED_JSON: &str = concat!(
    r#"{"time":"2026-11-22T06:04:22.123Z","id":"000100000000002a","listener":"edge","#,
    r#""source":"192.0.2.7:40123","proxy":null,"local":"192.0.2.1:8443","sni":"orders.example.com","#,
    r#""chain":"orders","outcome":"refused","reason":"no_certificate","hint":"HINT","#,
    r#""detail":"the client sent no certificate","rule":null,"certificate":null,"alert":116,"#,
    r#""alert_name":"certificate_required","closed_by":null,"closing":null,"#,
    r#""duration_ms":1.25,"hello_ms":0.21,"handshake_ms":null,"connected_ms":null,"#,
    r#""client":null,"audit":null,"tls":null,"cluster":null,"upstream":null,"upstream_ready":null,"#,
    r#""upstream_tls":null,"bytes_received":0,"bytes_sent":0,"suppressed":null}"#,
    "\n"
);

const SERVED_TEXT: &str = concat!(
    "2026-11-22T06:04:22.123Z closed source=192.0.2.7:40123 listener=\"edge\" ",
    "sni=\"orders.example.com\" chain=\"orders\" cluster=\"orders-db\" upstream=127.0.0.1:6432 ",
    "upstream_ready=true closed_by=downstream closing=clean duration_ms=61002.345 ",
    "hello_ms=0.210 handshake_ms=1.480 connected_ms=1.500 bytes_received=1234 bytes_sent=56789 ",
    "tls=TLSv1.3 suite=TLS_AES_128_GCM_SHA256 resumed=false alpn=\"postgresql\" ",
    "upstream_tls=TLSv1.3 upstream_resumed=true subject=\"CN=orders-api\" ",
    "san=\"uri:spiffe://example.org/orders\" serial=0a1b2c id=000100000000002a\n"
);

const REFUSED_TEXT: &str = concat!(
    "2026-11-22T06:04:22.123Z refused reason=no_certificate source=192.0.2.7:40123 ",
    "listener=\"edge\" sni=\"orders.example.com\" chain=\"orders\" alert=116 ",
    "alert_name=certificate_required duration_ms=1.250 hello_ms=0.210 bytes_received=0 ",
    "bytes_sent=0 detail=\"the client sent no certificate\" hint=\"HINT\" id=000100000000002a\n"
);
