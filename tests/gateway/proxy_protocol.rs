//! PROXY headers: taken from the balancers that are listed and from nobody else, and sent to upstreams
//! before a client's bytes. The headers here are written and read by hand, not by the gateway's code.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use portcullis_kit::{
    Authority, ClientSpec, Gateway, PATIENCE, PlainEcho, ServerTls, close_write, connect_plain,
    connect_tls, eventually, monotonic_now, read_to_end, round_trip,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::hello::answer;
use crate::support::{Config, NAME, Pki, UPSTREAM_NAME};

const FROM_HERE: &str = "proxy_protocol = { from = [\"127.0.0.1/32\"] }";

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 40123 443\r\n";

/// The same in version 2, with a checksum and a vector that nobody knows.
fn binary() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x17".to_vec();
    header.extend_from_slice(&[203, 0, 113, 9, 198, 51, 100, 1, 0x9c, 0xbb, 0x01, 0xbb]);
    header.extend_from_slice(&[0xea, 0, 1, 7, 3, 0, 4, 0, 0, 0, 0]);
    let sum = crc32c::crc32c(&header).to_be_bytes();
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum);
    header
}

fn listening(pki: &Pki, upstream: SocketAddr, keys: &str) -> Config {
    let source = "match = { sources = [\"203.0.113.0/24\"] }\ntls = \"edge\"\ncluster = \"app\"";
    Config::new(1)
        .listener("edge", &format!("{FROM_HERE}\n{keys}"))
        .chain("edge", "documented", source)
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .cluster("app", &[upstream], "")
}

fn logged(gateway: &Gateway, key: &str, value: &str) -> Value {
    gateway.wait_access(PATIENCE, |line| line[key] == value)
}

/// Alice, behind a balancer that writes `header` and then her first flight, in pieces of `size`.
fn through_balancer(
    pki: &Pki,
    gateway: &Gateway,
    header: &[u8],
    size: usize,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from(NAME).unwrap();
    let mut connection = ClientConnection::new(pki.client().build(), name).unwrap();
    let mut bytes = header.to_vec();
    connection.write_tls(&mut bytes).unwrap();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    for piece in bytes.chunks(size) {
        socket.write_all(piece).unwrap();
    }
    StreamOwned::new(connection, socket)
}

#[test] // threat 47
fn a_listed_balancer_says_who_the_client_is() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = listening(&pki, echoes.address(), "").start();
    let mut count = 0;
    for header in [LINE.to_vec(), binary()] {
        // Alone, with the hello in one segment, and cut at every byte.
        for size in [header.len(), usize::MAX, 1] {
            let mut stream = through_balancer(&pki, &gateway, &header, size);
            let by = stream.sock.local_addr().unwrap().to_string();
            assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
            close_write(&mut stream).unwrap();
            assert_eq!(read_to_end(&mut stream).unwrap(), b"");
            let line = logged(&gateway, "proxy", &by);
            assert_eq!(line["source"], "203.0.113.9:40123", "{line}");
            assert_eq!(line["chain"], "documented", "routed by the client's address: {line}");
            assert_eq!(line["local"], gateway.addr("edge").to_string(), "{line}");
            assert_eq!(line["bytes_received"], 5, "{line}");
            count += 1;
        }
    }
    assert_eq!(gateway.settled().sum("portcullis_sessions_total", &[]), count);
}

#[test] // threat 47
fn whoever_is_not_listed_cannot_say_who_he_is() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = listening(&pki, echoes.address(), "").start();
    for header in [LINE.to_vec(), binary()] {
        let stranger = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let stranger = stranger.unwrap();
        stranger.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        stranger.connect(&gateway.addr("edge").into()).unwrap();
        let mut stranger = TcpStream::from(stranger);
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(&header).unwrap();
        assert_eq!(answer(&stranger), b"");
        let by = stranger.local_addr().unwrap().to_string();
        drop(stranger);
        let line = logged(&gateway, "source", &by);
        assert_eq!((&line["reason"], &line["proxy"]), (&"not_tls".into(), &Value::Null), "{line}");
        assert!(line["detail"].as_str().unwrap().contains("PROXY protocol"), "{line}");
    }
    // And without a header he is served as who he is.
    let direct = direct_from(Ipv4Addr::new(127, 0, 0, 3), &pki, &gateway);
    let line = logged(&gateway, "source", &direct);
    assert_eq!((&line["chain"], &line["proxy"]), (&"default".into(), &Value::Null), "{line}");
    gateway.settled();
}

/// A session of Alice from this address of loopback; what the gateway knows her by.
fn direct_from(address: Ipv4Addr, pki: &Pki, gateway: &Gateway) -> String {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(address), 0).into()).unwrap();
    socket.connect(&gateway.addr("edge").into()).unwrap();
    let socket = TcpStream::from(socket);
    let source = socket.local_addr().unwrap().to_string();
    let name = ServerName::try_from(NAME).unwrap();
    let connection = ClientConnection::new(pki.client().build(), name).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    assert_eq!(round_trip(&mut stream, b"direct").unwrap(), b"direct");
    close_write(&mut stream).unwrap();
    read_to_end(&mut stream).unwrap();
    source
}

#[test] // threat 47
fn a_listed_source_without_a_good_header_is_refused() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = listening(&pki, echoes.address(), "").start();
    let mut bad_sum = binary();
    *bad_sum.last_mut().unwrap() ^= 1;
    // The claim alone is enough: nothing behind it is waited for.
    let claim = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
    let long = [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat();
    for (bytes, reason, word) in [
        (&b"\x16\x03\x01\x02\x00"[..], "proxy_header_missing", "no PROXY header"),
        (b"GET / HTTP/1.1\r\n\r\n", "proxy_header_missing", "no PROXY header"),
        (b"PROXY TCP4 1.2.3.4 5.6.7 1 2\r\n", "proxy_header_malformed", "two addresses"),
        (&bad_sum, "proxy_header_malformed", "checksum"),
        (claim, "proxy_header_malformed", "claims 65535 bytes"),
        (&long, "proxy_header_malformed", "within 107 bytes"),
    ] {
        let mut socket = connect_plain(gateway.addr("edge")).unwrap();
        socket.write_all(bytes).unwrap();
        assert_eq!(answer(&socket), b"", "{bytes:?}");
        let by = socket.local_addr().unwrap().to_string();
        drop(socket);
        let line = logged(&gateway, "source", &by);
        assert_eq!(line["reason"], reason, "{line}");
        assert!(line["detail"].as_str().unwrap().contains(word), "{line}");
    }
    // Cut in the middle.
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&LINE[..20]).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    answer(&socket);
    let line = logged(&gateway, "source", &socket.local_addr().unwrap().to_string());
    assert_eq!(line["reason"], "proxy_header_malformed", "{line}");
    assert!(line["detail"].as_str().unwrap().contains("closed after 20 bytes"), "{line}");
    drop(socket);
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("proxy_header_missing"), 2);
    assert_eq!(metrics.refusals("proxy_header_malformed"), 5);
    assert_eq!(echoes.counts().accepted, 0);
}

#[test] // threat 47
fn a_slow_header_is_cut_at_the_deadline_of_the_hello_although_it_makes_progress() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway =
        listening(&pki, echoes.address(), "timeouts = { hello = \"400ms\", handshake = \"15s\" }");
    let gateway = gateway.start();
    let began = monotonic_now();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let slow = [LINE, &[22; 200]].concat();
    let cut = slow.chunks(1).any(|byte| {
        let waits = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
        socket.write_all(byte).is_err()
            || !matches!(socket.read(&mut [0; 16]), Err(error) if waits(error.kind()))
    });
    let took = began.elapsed();
    assert!(cut && took >= Duration::from_millis(350) && took < Duration::from_secs(4), "{took:?}");
    gateway.wait_access(PATIENCE, |line| line["reason"] == "hello_timeout");
    drop(socket);
    gateway.settled();
}

#[test]
fn a_balancers_own_connections_are_its_own() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = listening(&pki, echoes.address(), "").start();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    // A health check: LOCAL, and the end.
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    let by = socket.local_addr().unwrap().to_string();
    socket.write_all(local).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    answer(&socket);
    let line = logged(&gateway, "source", &by);
    assert_eq!((&line["reason"], &line["proxy"]), (&"probe".into(), &by.clone().into()), "{line}");
    // One that goes on, and clients whom the balancer cannot name.
    for header in [&local[..], b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00"] {
        let mut stream = through_balancer(&pki, &gateway, header, usize::MAX);
        let by = stream.sock.local_addr().unwrap().to_string();
        assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
        close_write(&mut stream).unwrap();
        read_to_end(&mut stream).unwrap();
        let line = logged(&gateway, "source", &by);
        assert_eq!((&line["chain"], &line["proxy"]), (&"default".into(), &by.into()), "{line}");
    }
    // A check that says nothing at all is one, too.
    let silent = connect_plain(gateway.addr("edge")).unwrap();
    let by = silent.local_addr().unwrap().to_string();
    drop(silent);
    logged(&gateway, "source", &by);
    assert_eq!(gateway.settled().refusals("probe"), 2);
}

#[test]
fn a_header_goes_before_plain_text_whose_server_speaks_first() {
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let gateway = Config::new(1)
        .listener("edge", FROM_HERE)
        .chain(
            "edge",
            "plain",
            "match = { transport = \"raw\", sources = [\"203.0.113.9\"] }\ncluster = \"app\"",
        )
        .cluster("app", &[upstream.local_addr().unwrap()], "")
        .start();
    let mut client = connect_plain(gateway.addr("edge")).unwrap();
    client.write_all(&binary()).unwrap();
    let mut server = accepted(&upstream);
    server.write_all(b"220 ready\r\n").unwrap();
    let mut banner = [0; 11];
    client.read_exact(&mut banner).unwrap();
    client.write_all(b"QUIT\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&server), b"QUIT\r\n", "nothing of the header");
    drop((client, server));
    gateway.settled();
}

/// A header as an upstream reads it.
#[derive(Debug, PartialEq)]
struct Told {
    source: SocketAddr,
    destination: SocketAddr,
    /// By type, those within 0x20 behind it.
    vectors: Vec<(u8, Vec<u8>)>,
    /// Bits and verification result of 0x20.
    ssl: Option<(u8, u32)>,
}

impl Told {
    /// Reads one header of version 2 with IPv4 addresses, and not a byte more.
    fn read(stream: &mut impl Read) -> Self {
        let mut fixed = [0; 16];
        stream.read_exact(&mut fixed).unwrap();
        assert_eq!(&fixed[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
        let mut block = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
        stream.read_exact(&mut block).unwrap();
        let address = |ip: usize, port: usize| {
            let ip = <[u8; 4]>::try_from(&block[ip..ip + 4]).unwrap();
            SocketAddr::from((ip, u16::from_be_bytes([block[port], block[port + 1]])))
        };
        let (source, destination) = (address(0, 8), address(4, 10));
        let mut told = Self { source, destination, vectors: Vec::new(), ssl: None };
        told.walk(&block[12..]);
        if let Some((_, sum)) = told.vectors.iter().find(|(kind, _)| *kind == 3) {
            let mut whole = [&fixed[..], &block].concat();
            let vector = [&[3, 0, 4], &sum[..]].concat();
            let at = whole.windows(7).position(|bytes| bytes == vector).unwrap();
            whole[at + 3..at + 7].fill(0);
            assert_eq!(crc32c::crc32c(&whole).to_be_bytes(), sum[..]);
        }
        told
    }

    fn walk(&mut self, mut rest: &[u8]) {
        while let [kind, high, low, behind @ ..] = rest {
            let (value, behind) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            self.vectors.push((*kind, value.to_vec()));
            if *kind == 0x20 {
                self.ssl = Some((value[0], u32::from_be_bytes(value[1..5].try_into().unwrap())));
                self.walk(&value[5..]);
            }
            rest = behind;
        }
    }

    fn text(&self, wanted: u8) -> Option<&str> {
        let (_, value) = self.vectors.iter().find(|(kind, _)| *kind == wanted)?;
        Some(std::str::from_utf8(value).unwrap())
    }
}

const ALL: &str =
    r#"tlvs = ["ssl", "authority", "alpn", "unique_id", "client_cert", "identity", "crc32c"]"#;

fn told_about_alice(told: &Told, pki: &Pki, line: &Value) {
    assert_eq!(line["source"], told.source.to_string(), "{line}");
    assert_eq!(line["id"], told.text(0x05).unwrap(), "{line}");
    assert_eq!(told.text(0x02), Some(NAME));
    assert_eq!(told.text(0xe0), Some("spiffe://test/alice"));
    assert_eq!(told.text(0x21), line["tls"]["version"].as_str());
    assert_eq!(told.text(0x22), Some("alice"));
    assert_eq!(told.text(0x25), Some("EC256"));
    let certificate = told.vectors.iter().find(|(kind, _)| *kind == 0x28);
    assert_eq!(certificate.map(|(_, der)| &der[..]), Some(&**pki.alice.leaf()));
}

#[test]
fn an_upstream_is_told_of_each_client_once_and_before_its_bytes() {
    let pki = Pki::new();
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Dialled for the client, and made ahead of need.
    for pool in ["", "pool = { ready_min = 1, ready_max = 1 }"] {
        let gateway = Config::new(1)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .mutual(&pki, "alpn = [\"h2\", \"edge/1\"]")
            .cluster(
                "app",
                &[upstream.local_addr().unwrap()],
                &format!("proxy_protocol = {{ {ALL} }}\n{pool}"),
            )
            .start();
        let config = pki.client().alpn(&["edge/1"]).build();
        for resumed in [false, true] {
            if !pool.is_empty() {
                one_is_ready(&gateway);
            }
            let mut stream = connect_tls(gateway.addr("edge"), NAME, &config).unwrap();
            let mut server = accepted(&upstream);
            // Before the client has sent anything.
            let told = Told::read(&mut server);
            assert_eq!(told.source, stream.sock.local_addr().unwrap());
            assert_eq!(told.destination, gateway.addr("edge"));
            stream.write_all(b"hello").unwrap();
            let mut heard = [0; 5];
            server.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"hello");
            server.write_all(b"there").unwrap();
            stream.read_exact(&mut heard).unwrap();
            close_write(&mut stream).unwrap();
            assert_eq!(answer(&server), b"");
            drop(server);
            assert_eq!(read_to_end(&mut stream).unwrap(), b"");
            let line = logged(&gateway, "source", &told.source.to_string());
            told_about_alice(&told, &pki, &line);
            assert_eq!(line["upstream_ready"], !pool.is_empty(), "{line}");
            assert_eq!(line["tls"]["resumed"], resumed, "{line}");
            assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&5.into(), &5.into()));
            assert_eq!(told.text(0x01), Some("edge/1"));
            assert_eq!(told.text(0x23), Some("TLS_AES_128_GCM_SHA256"));
            assert_eq!(told.text(0x24), Some("ecdsa-with-SHA256"));
            assert_eq!(told.text(0x26), line["tls"]["group"].as_str());
            // Shown in this very connection, and signed for, only where the handshake is whole.
            let (bits, scheme) =
                if resumed { (0x05, None) } else { (0x07, Some("ecdsa_secp256r1_sha256")) };
            assert_eq!((told.ssl, told.text(0x27)), (Some((bits, 0)), scheme));
        }
        drop(upstream_left(&upstream));
        gateway.settled();
    }
}

/// The next connection, with `PATIENCE` for what comes on it.
fn accepted(upstream: &TcpListener) -> TcpStream {
    let (socket, _) = upstream.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What a pool has dialled meanwhile and nobody uses.
fn upstream_left(upstream: &TcpListener) -> Vec<TcpStream> {
    upstream.set_nonblocking(true).unwrap();
    let left = std::iter::from_fn(|| upstream.accept().ok()).map(|(socket, _)| socket).collect();
    upstream.set_nonblocking(false).unwrap();
    left
}

#[test]
fn version_1_and_what_the_balancer_said_go_on_to_the_upstream() {
    let pki = Pki::new();
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = upstream.local_addr().unwrap();
    for (keys, expected) in [
        ("proxy_protocol = { version = 1 }", LINE.to_vec()),
        ("proxy_protocol = {}", {
            let mut header = binary()[..28].to_vec();
            header[15] = 12;
            header
        }),
    ] {
        let gateway = Config::new(1)
            .listener("edge", FROM_HERE)
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .mutual(&pki, "")
            .cluster("app", &[address], keys)
            .start();
        let mut stream = through_balancer(&pki, &gateway, &binary(), usize::MAX);
        stream.write_all(b"hello").unwrap();
        let server = accepted(&upstream);
        close_write(&mut stream).unwrap();
        assert_eq!(answer(&server), [&expected[..], b"hello"].concat());
        drop(server);
        read_to_end(&mut stream).unwrap();
        gateway.settled();
    }
}

/// `[tls.upstream.db]` before a cluster whose header goes inside it or before it.
fn over_tls(pki: &Pki, upstream: SocketAddr, inside: bool, alpn: &str) -> Gateway {
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .upstream("db", alpn)
        .trust("upstreams", &pki.ca)
        .cluster(
            "app",
            &[upstream],
            &format!("tls = \"db\"\nproxy_protocol = {{ inside_tls = {inside}, {ALL} }}"),
        )
        .start()
}

fn serve(pki: &Pki, socket: TcpStream, tls: &str) -> StreamOwned<ServerConnection, TcpStream> {
    let config = ServerTls::new(&pki.upstream);
    let config = if tls == "1.2" { config.only_tls12() } else { config };
    StreamOwned::new(ServerConnection::new(config.build()).unwrap(), socket)
}

#[test]
fn a_header_goes_before_the_upstreams_tls_or_first_inside_it() {
    let pki = Pki::new();
    for (inside, tls) in [(false, "1.3"), (true, "1.3"), (true, "1.2")] {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let gateway = over_tls(&pki, upstream.local_addr().unwrap(), inside, "");
        let ready = gateway.metrics().sum("portcullis_upstream_ready_hits_total", &[]);
        assert_eq!(ready, 0);
        let client = {
            let gateway_address = gateway.addr("edge");
            let config = pki.client().build();
            std::thread::spawn(move || {
                let mut stream = connect_tls(gateway_address, NAME, &config).unwrap();
                let back = round_trip(&mut stream, b"hello").unwrap();
                close_write(&mut stream).unwrap();
                read_to_end(&mut stream).unwrap();
                (back, stream.sock.local_addr().unwrap())
            })
        };
        let (told, mut stream) = if inside {
            // Connections made ahead of need come first: the client's is the one that speaks.
            let (sender, spoken) = std::sync::mpsc::channel();
            let (server, tls) = (ServerTls::new(&pki.upstream), tls.to_owned());
            let config = if tls == "1.2" { server.only_tls12() } else { server }.build();
            std::thread::spawn(move || {
                for socket in upstream.incoming() {
                    let (config, sender) = (Arc::clone(&config), sender.clone());
                    std::thread::spawn(move || {
                        let connection = ServerConnection::new(config).unwrap();
                        let mut stream = StreamOwned::new(connection, socket.unwrap());
                        let mut first = [0; 1];
                        if stream.read_exact(&mut first).is_ok() {
                            let told = Told::read(&mut first.chain(&mut stream));
                            drop(sender.send((told, stream)));
                        }
                    });
                }
            });
            spoken.recv_timeout(PATIENCE).unwrap()
        } else {
            let mut socket = accepted(&upstream);
            let told = Told::read(&mut socket);
            (told, serve(&pki, socket, tls))
        };
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let (back, source) = client.join().unwrap();
        assert_eq!((&back[..], told.source), (&b"hello"[..], source));
        let line = logged(&gateway, "source", &source.to_string());
        told_about_alice(&told, &pki, &line);
        assert_eq!(line["bytes_received"], 5, "{line}");
        if !inside {
            assert_eq!(line["upstream_ready"], false, "{line}");
            assert_eq!(gateway.metrics().sum("portcullis_upstream_ready", &[]), 0);
        }
        drop(stream);
        gateway.settled();
    }
}

#[test] // threat 29
fn a_ready_connection_that_dies_with_its_header_is_replaced_by_one_with_a_header() {
    let pki = Pki::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster(
            "app",
            &[listener.local_addr().unwrap()],
            &format!("proxy_protocol = {{ {ALL} }}\npool = {{ ready_min = 1, ready_max = 1 }}"),
        )
        .start();
    let mut first = accepted(&listener);
    one_is_ready(&gateway);
    let mut stream = pki.connect(&gateway);
    let told = Told::read(&mut first);
    drop(first);
    // The next one in the pool, or a dial: whichever it is, it hears the same and the client's bytes.
    stream.write_all(b"hello").unwrap();
    let (again, mut second) = first_that_is_told(listener);
    assert_eq!(again, told);
    let mut heard = [0; 5];
    second.read_exact(&mut heard).unwrap();
    second.write_all(&heard).unwrap();
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    close_write(&mut stream).unwrap();
    assert_eq!(answer(&second), b"");
    drop(second);
    read_to_end(&mut stream).unwrap();
    assert_eq!(gateway.settled().sum("portcullis_sessions_total", &[]), 1);
}

fn one_is_ready(gateway: &Gateway) {
    eventually(PATIENCE, "a ready connection", || {
        (gateway.metrics().sum("portcullis_upstream_ready", &[]) == 1).then_some(())
    });
}

/// Of the connections that come, the first that begins to speak, and what it is told.
fn first_that_is_told(listener: TcpListener) -> (Told, TcpStream) {
    let (sender, spoken) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let (mut socket, mut first) = (socket.unwrap(), [0; 1]);
                if socket.read_exact(&mut first).is_ok() {
                    let told = Told::read(&mut first.chain(&mut socket));
                    drop(sender.send((told, socket)));
                }
            });
        }
    });
    spoken.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn nobody_vouches_for_a_client_that_was_not_verified() {
    let pki = Pki::new();
    let stranger = Authority::new("Strangers").client(&ClientSpec::new("mallory"));
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let optional = "client_auth = \"optional\"";
    let anchors = pki.ca.ca_path().display();
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .downstream("edge", &[&pki.server], &format!("trust = \"clients\"\n{optional}"))
        .table(&format!("[trust.clients]\nanchors = [\"{anchors}\"]\nmode = \"audit\""))
        .cluster("app", &[upstream.local_addr().unwrap()], &format!("proxy_protocol = {{ {ALL} }}"))
        .start();
    for (identity, bits) in [(None, 0x01), (Some(&stranger), 0x07)] {
        let client = portcullis_kit::ClientTls::trusting(&pki.ca);
        let client = identity.into_iter().fold(client, |client, one| client.identity(one));
        let mut stream = connect_tls(gateway.addr("edge"), NAME, &client.build()).unwrap();
        let mut server = accepted(&upstream);
        let told = Told::read(&mut server);
        assert_eq!(told.ssl, Some((bits, 1)));
        assert_eq!([0x22, 0x28, 0xe0].map(|kind| told.text(kind)), [None; 3], "{told:?}");
        close_write(&mut stream).unwrap();
        drop(server);
        read_to_end(&mut stream).unwrap();
    }
    gateway.settled();
}

#[test]
fn bytes_that_nobody_opens_follow_a_header_too() {
    let pki = Pki::new();
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "cluster = \"app\"")
        .cluster("app", &[upstream.local_addr().unwrap()], &format!("proxy_protocol = {{ {ALL} }}"))
        .start();
    let address = gateway.addr("edge");
    let config = portcullis_kit::ClientTls::trusting(&pki.ca).build();
    let client = std::thread::spawn(move || {
        let mut stream = connect_tls(address, UPSTREAM_NAME, &config).unwrap();
        let back = round_trip(&mut stream, b"hello").unwrap();
        close_write(&mut stream).unwrap();
        drop(read_to_end(&mut stream));
        back
    });
    let mut socket = accepted(&upstream);
    let told = Told::read(&mut socket);
    assert_eq!((told.text(0x02), told.ssl), (Some(UPSTREAM_NAME), None));
    assert_eq!([0x01, 0xe0].map(|kind| told.text(kind)), [None; 2], "{told:?}");
    let mut stream = serve(&pki, socket, "1.3");
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    stream.write_all(&heard).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(client.join().unwrap(), b"hello");
    drop(stream);
    gateway.settled();
}
