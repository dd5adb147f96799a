//! The peers against each other, with nothing between them.

use std::io::ErrorKind;

use rustls::AlertDescription;

use super::*;
use crate::authority::{Authority, ClientSpec, Identity};
use crate::connect::{
    Refusal, close_write, connect_plain, connect_tls, read_to_end, refusal, round_trip,
};
use crate::tls::{ClientTls, ServerTls};

struct Fixture {
    root: Authority,
    server: Identity,
    alice: Identity,
}

impl Fixture {
    fn new() -> Self {
        let root = Authority::new("root");
        Self {
            server: root.server(&["upstream.test"]),
            alice: root.client(&ClientSpec::new("alice")),
            root,
        }
    }
}

#[test]
fn a_plain_echo_returns_every_byte_and_then_its_end() {
    let echo = PlainEcho::start();
    let mut stream = connect_plain(echo.address()).unwrap();
    let words = vec![7; 1 << 20];
    assert!(round_trip(&mut stream, &words).unwrap() == words);
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_end(&mut stream).unwrap().is_empty());
    let counts = echo.wait("the end", |counts| counts.closed == 1);
    assert_eq!((counts.accepted, counts.bytes), (1, 1 << 20));
}

#[test]
fn a_tls_echo_knows_its_clients_and_resumes_them() {
    let fixture = Fixture::new();
    let server = ServerTls::new(&fixture.server).require_clients_of(&fixture.root).alpn(&["b"]);
    let echo = TlsEcho::start(server.build());
    let tls = ClientTls::trusting(&fixture.root).identity(&fixture.alice).alpn(&["a", "b"]).build();
    for _ in 0..2 {
        let mut stream = connect_tls(echo.address(), "upstream.test", &tls).unwrap();
        assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
        close_write(&mut stream).unwrap();
        assert!(read_to_end(&mut stream).unwrap().is_empty());
    }
    let seen = echo.counts().handshakes;
    let kinds: Vec<_> = seen.iter().filter_map(|one| one.kind).collect();
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    assert_eq!(seen[0].server_name.as_deref(), Some("upstream.test"));
    assert_eq!(seen[0].alpn.as_deref(), Some(&b"b"[..]));
    assert_eq!(seen[0].client_chain, fixture.alice.chain_der);
}

#[test]
fn each_version_is_spoken_when_it_is_the_only_one() {
    let fixture = Fixture::new();
    let echo = TlsEcho::start(ServerTls::new(&fixture.server).without_resumption().build());
    for (tls, version) in [
        (ClientTls::trusting(&fixture.root).only_tls12(), ProtocolVersion::TLSv1_2),
        (ClientTls::trusting(&fixture.root).only_tls13(), ProtocolVersion::TLSv1_3),
    ] {
        let tls = tls.build();
        for _ in 0..2 {
            let mut stream = connect_tls(echo.address(), "upstream.test", &tls).unwrap();
            round_trip(&mut stream, b"x").unwrap();
            assert_eq!(stream.conn.protocol_version(), Some(version));
            assert_ne!(stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        }
    }
}

#[test]
fn refusals_say_how() {
    let fixture = Fixture::new();
    let server = ServerTls::new(&fixture.server).require_clients_of(&fixture.root).build();
    let echo = TlsEcho::start(server);
    let stranger = Authority::new("other").client(&ClientSpec::new("mallory"));
    let trusting = || ClientTls::trusting(&fixture.root);
    let how = |tls: ClientTls<'_>| refusal(echo.address(), "upstream.test", &tls.build());
    for tls in [trusting().only_tls12(), trusting().only_tls13()] {
        let refused = how(tls);
        let alerts = [AlertDescription::CertificateRequired, AlertDescription::HandshakeFailure];
        assert!(alerts.iter().any(|one| refused == Refusal::Alert(*one)), "{refused:?}");
    }
    let unknown = how(trusting().identity(&stranger));
    assert_eq!(unknown, Refusal::Alert(AlertDescription::UnknownCA));
    let wrong_name = refusal(echo.address(), "other.test", &trusting().build());
    assert!(matches!(wrong_name, Refusal::Server(_)), "{wrong_name:?}");
    echo.wait("four refusals", |counts| counts.refused == 4);
}

#[test]
fn each_behaviour_is_what_it_is_called() {
    let greeter = PlainEcho::with(Behaviour::Greet(b"220 hello".to_vec()));
    let mut stream = connect_plain(greeter.address()).unwrap();
    let mut greeting = [0; 9];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 hello");
    assert_eq!(round_trip(&mut stream, b"echo").unwrap(), b"echo");

    let speaker = PlainEcho::with(Behaviour::Say(b"bye".to_vec()));
    assert_eq!(read_to_end(&mut connect_plain(speaker.address()).unwrap()).unwrap(), b"bye");

    let resetter = PlainEcho::with(Behaviour::Reset);
    let mut stream = connect_plain(resetter.address()).unwrap();
    stream.write_all(b"x").unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let sink = PlainEcho::with(Behaviour::Sink);
    let mut stream = connect_plain(sink.address()).unwrap();
    stream.write_all(&[0; 1000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_end(&mut stream).unwrap().is_empty());
    assert_eq!(sink.counts().bytes, 1000);
}

#[test]
fn dropping_a_server_ends_its_connections() {
    let fixture = Fixture::new();
    let stalled = PlainEcho::with(Behaviour::Stall);
    let mut plain = connect_plain(stalled.address()).unwrap();
    stalled.wait("the connection", |counts| counts.accepted == 1);
    drop(stalled);
    assert_eq!(plain.read(&mut [0; 1]).unwrap(), 0);

    // Behind a window that is closed as well.
    let stalled = PlainEcho::with(Behaviour::Stall);
    let mut plain = connect_plain(stalled.address()).unwrap();
    plain.set_nonblocking(true).unwrap();
    let full = std::iter::repeat_with(|| plain.write(&[7; 64 * 1024])).find_map(Result::err);
    assert_eq!(full.unwrap().kind(), ErrorKind::WouldBlock);
    stalled.wait("the connection", |counts| counts.accepted == 1);
    drop(stalled);
    plain.set_nonblocking(false).unwrap();
    assert_eq!(plain.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let echo = TlsEcho::start(ServerTls::new(&fixture.server).build());
    let tls = ClientTls::trusting(&fixture.root).build();
    let mut stream = connect_tls(echo.address(), "upstream.test", &tls).unwrap();
    round_trip(&mut stream, b"x").unwrap();
    drop(echo);
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
}
