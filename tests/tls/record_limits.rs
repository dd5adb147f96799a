//! What a client with little room for records is sent, in a handshake and after it.

use std::sync::Arc;

use portcullis::config::plan::ClientAuth;
use portcullis::core::client_hello::RecordLimit;
use portcullis::core::refusal::Reason;
use portcullis::tls::HelloFacts;
use portcullis::tls::handshake::Outcome;
use portcullis_kit::{Authority, ClientSpec};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::{ClientConfig, HandshakeKind};

use crate::support::*;

/// No record of TLS among `sent` holds more than the limit.
pub(crate) fn assert_within(limit: RecordLimit, sent: &[u8]) {
    let mut rest = sent;
    while let Some((&[content, _, _, high, low], behind)) = rest.split_first_chunk() {
        let length = u16::from_be_bytes([high, low]);
        let (_, next) = behind.split_at(length.into());
        // An inner type and a tag, or an explicit nonce and a tag.
        let overhead = if content == HANDSHAKE { 0 } else { 24 };
        assert!(length <= limit.content_max() + overhead, "{limit:?}: {content} {length}");
        rest = next;
    }
    assert!(rest.is_empty());
}

const HANDSHAKE: u8 = 22;

#[test]
fn a_handshake_keeps_to_what_the_client_has_room_for() {
    let (servers, clients) = (Authority::new("Servers"), Authority::new("Clients"));
    let alice = clients.client(&ClientSpec::new("alice"));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut world = World::new();
        let trust = world.trust(&clients);
        let chain = world.chain("a", &servers.server(&[NAME]), ClientAuth::Require(trust));
        let terms = world.terms(chain);
        for bytes in [RecordLimit::LEAST, 512, 16_383] {
            let limit = RecordLimit::Content(bytes);
            let config = Arc::new(client_config(servers.roots(), version, Some(&alice)));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut client = client(&config, NAME);
                let hello = HelloFacts { record_limit: limit, ..hello(NAME) };
                let done = drive(begin(&terms, hello), &mut client, usize::MAX);
                let done = done.map_err(|error| error.0).unwrap();
                assert_within(limit, &done.sent);
                assert_eq!(client.handshake_kind(), Some(kind), "the ticket came in pieces");
                assert!(bytes > 63 || done.sent.len() > 4 * 63, "or there was nothing to keep to");
            }
        }
    }
}

/// A server's hello of 20 records stands before it, with a key share of ML-KEM.
#[test]
fn an_alert_behind_many_short_records_goes_out() {
    let servers = Authority::new("Servers");
    let mut world = World::new();
    let chain = world.chain("a", &servers.server(&[NAME]), ClientAuth::None);
    world.plan.downstream_tls[0].alpn = vec!["postgresql".into()];
    let kx_groups = vec![kx_group::X25519MLKEM768];
    let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(servers.roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = client(&Arc::new(config), NAME);
    let record_limit = RecordLimit::Content(RecordLimit::LEAST);
    let hello = HelloFacts { record_limit, ..hello(NAME) };
    let Err((refusal, error)) = drive(begin(&world.terms(chain), hello), &mut client, usize::MAX)
    else {
        panic!("a protocol in common");
    };
    assert_eq!(refusal.reason, Reason::AlpnMismatch);
    let expected = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
    assert_eq!(error, Some(expected));
}

#[test]
fn a_length_that_there_is_not_is_an_illegal_parameter() {
    let mut world = World::new();
    let servers = Authority::new("Servers");
    let chain = world.chain("a", &servers.server(&[NAME]), ClientAuth::None);
    let record_limit = RecordLimit::Illegal { extension: "record_size_limit", value: 63 };
    let mut server = begin(&world.terms(chain), HelloFacts { record_limit, ..hello(NAME) });
    let mut out = Vec::new();
    let Outcome::Failed(refusal) = server.advance(&mut [], &mut out).outcome else {
        panic!("a handshake began");
    };
    assert_eq!(refusal.reason, Reason::HelloMalformed);
    assert!(refusal.detail.ends_with("record_size_limit 63"), "{}", refusal.detail);
    assert_eq!(out, [21, 3, 3, 0, 2, 2, 47]);
}
