//! What a client may send after a handshake of TLS 1.2, sealed or not and in any pieces: the data comes out as
//! it went in or the session is refused, and what the client is told opens with its keys and says what we said.
//!
//! An input is a script; `Rogue` seals for it what rustls' client never would. Of TLS 1.3 it is `record`.

#![no_main]

mod facts;
mod site;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use portcullis::core::client_hello::{HelloBuffer, Peek, peek};
use portcullis::core::refusal::Refusal;
use portcullis::core::route::ChainId;
use portcullis::tls::{
    CONTROL_BYTES_MAX, DownstreamTerms, OUT_BYTES_MIN, Outcome, Scratch, Side, Stop, Wire, transfer,
};
use portcullis_kit::{Authority, ClientTls, monotonic_now};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks,
    OutboundPlainMessage,
};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion,
    SupportedCipherSuite,
};

use crate::facts::facts;
use crate::site::material;

// The first byte chooses the cipher, the second is the size of the pieces in which bytes arrive.
fuzz_target!(|data: &[u8]| {
    let Some((&[suite, size], script)) = data.split_first_chunk() else { return };
    let (wire, rogue) = SITE.handshake(usize::from(suite));
    let mut session = Session::new(wire, rogue);
    let mut script = Script(script);
    while let Some(piece) = script.next_piece() {
        // Behind a close_notify of ours only data: with assertions on, rustls panics where it would have to send an
        // alert after one. Without, it makes one that no worker sends.
        if session.closing && !(piece.is_data() && session.held.is_empty()) {
            break;
        }
        match piece {
            Piece::Sealed { content, plain } => {
                let record = session.seal(content, &plain);
                session.arrive(&record, usize::from(size));
            }
            Piece::Broken { content, plain, at, mask } => {
                let mut record = session.seal(content, &plain);
                let at = at % record.len();
                record[at] ^= mask;
                session.arrive(&record, usize::from(size));
            }
            Piece::Raw(bytes) => session.arrive(bytes, usize::from(size)),
            Piece::Answer(len) => session.answer(len),
            Piece::Control => session.settle(),
            Piece::Close => session.close(),
        }
    }
    session.end();
});

/// Both ends of a session, and what each has a right to.
struct Session {
    wire: Wire,
    rogue: Rogue,
    now: Instant,
    scratch: Scratch,
    out: Vec<u8>,
    /// Received and not consumed.
    held: Vec<u8>,
    /// What the client has sealed as data, and how much of it came out.
    sealed: Vec<u8>,
    came_out: usize,
    state: State,
    /// A close_notify or an alert is on its way: then a worker asks for no more.
    closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client has said that it will send nothing more.
    HalfClosed,
    Refused,
}

impl Session {
    fn new(wire: Wire, rogue: Rogue) -> Self {
        Self {
            wire,
            rogue,
            now: monotonic_now(),
            scratch: Scratch::default(),
            out: vec![0; OUT_BYTES_MIN],
            held: Vec::new(),
            sealed: Vec::new(),
            came_out: 0,
            state: State::Open,
            closing: false,
        }
    }

    fn seal(&mut self, content: u8, plain: &[u8]) -> Vec<u8> {
        // More is no data, however well it is sealed (RFC 5246 §6.2.1).
        if content == DATA && plain.len() <= PLAINTEXT_MAX {
            self.sealed.extend_from_slice(plain);
        }
        self.rogue.seal(content, plain)
    }

    /// Bytes of the client's, in pieces.
    fn arrive(&mut self, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size * size + 1) {
            if self.state != State::Open {
                return;
            }
            self.held.extend_from_slice(piece);
            self.read();
        }
    }

    fn read(&mut self) {
        loop {
            let (wire, plain, scratch) = (&mut self.wire, &mut Wire::Plain, &mut self.scratch);
            let done = transfer(wire, plain, &mut self.held, &mut self.out, scratch, self.now);
            assert!(done.consumed <= self.held.len());
            assert!(done.produced <= done.consumed && done.payload == done.produced as u64);
            let rest = self.sealed[self.came_out..].iter();
            assert!(rest.take(done.produced).eq(&self.out[..done.produced]), "not what was sealed");
            self.came_out += done.produced;
            self.held.drain(..done.consumed);
            match done.stop {
                Stop::InputEmpty => return,
                Stop::OutputFull => assert!(done.produced > 0, "no record is longer than the room"),
                Stop::CloseNotify => {
                    self.state = State::HalfClosed;
                    return;
                }
                Stop::Failed(fault) => {
                    assert_eq!(fault.side, Side::From);
                    return self.refused(&fault.refusal);
                }
            }
        }
    }

    /// Nothing more comes out, and the client is told what we say that it is.
    fn refused(&mut self, refusal: &Refusal) {
        assert!(!refusal.detail.is_empty());
        self.state = State::Refused;
        let mut again = self.rogue.seal(DATA, b"more");
        let (wire, plain, scratch) = (&mut self.wire, &mut Wire::Plain, &mut self.scratch);
        let done = transfer(wire, plain, &mut again, &mut self.out, scratch, self.now);
        assert!(matches!(done.stop, Stop::Failed(_)) && done.produced == 0);

        let Some(code) = refusal.alert.filter(|_| !self.closing) else { return };
        let mut control = [0; CONTROL_BYTES_MAX];
        let told = self.wire.seal_alert(code, &mut control);
        if told == 0 {
            // rustls has no alert for these, and keeps its keys.
            assert!(refusal.detail.contains("TooMany"), "{refusal:?}");
            return;
        }
        assert!(self.rogue.opens(&control[..told]).is_empty());
        assert_eq!(self.rogue.end, Some([FATAL, code]), "{refusal:?}");
        let after = self.wire.seal_alert(code, &mut control) + self.wire.seal_close(&mut control);
        assert_eq!(after, 0);
        self.answer(1);
        self.closing = true;
    }

    /// Data for the client, as an upstream sends it.
    fn answer(&mut self, len: usize) {
        if self.closing {
            return;
        }
        let answer: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
        let (mut input, mut received) = (answer.clone(), Vec::new());
        loop {
            let (plain, wire, scratch) = (&mut Wire::Plain, &mut self.wire, &mut self.scratch);
            let done = transfer(plain, wire, &mut input, &mut self.out, scratch, self.now);
            input.drain(..done.consumed);
            received.extend(self.rogue.opens(&self.out[..done.produced]));
            match done.stop {
                Stop::InputEmpty => {
                    assert!(input.is_empty() && (len == 0 || self.state != State::Refused));
                    break;
                }
                Stop::OutputFull => assert!(done.produced > 0, "no record is longer than the room"),
                Stop::CloseNotify => panic!("a plain side has no close_notify"),
                Stop::Failed(fault) => {
                    assert!(!fault.refusal.detail.is_empty());
                    assert!(self.state == State::Refused, "{fault:?}");
                    break;
                }
            }
        }
        assert_eq!(received, answer[..len - input.len()]);
    }

    fn settle(&mut self) {
        if self.closing {
            return;
        }
        let mut control = [0; CONTROL_BYTES_MAX];
        let sealed = self.wire.seal_control(&mut control);
        assert!(self.rogue.opens(&control[..sealed]).is_empty());
        assert!(!self.wire.owes_control());
    }

    fn close(&mut self) {
        if self.closing {
            return;
        }
        self.closing = true;
        let mut control = [0; CONTROL_BYTES_MAX];
        let sealed = self.wire.seal_close(&mut control);
        assert!(self.rogue.opens(&control[..sealed]).is_empty());
        // Who was refused and could not be told gets no clean end.
        let end = (self.state != State::Refused).then_some([WARNING, CLOSE_NOTIFY]);
        assert_eq!(self.rogue.end, end);
        assert_eq!(self.wire.seal_close(&mut control), 0, "once");
    }

    fn end(mut self) {
        // Nothing is refused without a word, nor swallowed.
        if self.state == State::Open && self.held.is_empty() {
            assert_eq!(self.came_out, self.sealed.len());
        }
        self.answer(1);
        self.close();
    }
}

/// The client's end: seals whatever it is given, and reads what it is sent.
struct Rogue {
    seals: Box<dyn MessageEncrypter>,
    sequence: u64,
    opens: Box<dyn MessageDecrypter>,
    opened: u64,
    /// It has said no to a renegotiation, which it does once.
    is_rebuffed: bool,
    /// The alert after which nothing comes.
    end: Option<[u8; 2]>,
}

impl Rogue {
    fn new(peer: ClientConnection) -> Self {
        let Some(SupportedCipherSuite::Tls12(suite)) = peer.negotiated_cipher_suite() else {
            panic!("not TLS 1.2")
        };
        let secrets = peer.dangerous_extract_secrets().unwrap();
        let aead = suite.aead_alg;
        let fixed = aead.key_block_shape().fixed_iv_len;
        let ((sequence, key), (opened, other)) = (secrets.tx, secrets.rx);
        let (key, iv) = parts(key);
        let (fixed_iv, explicit) = iv.split_at(fixed);
        let mut seals = aead.encrypter(key, fixed_iv, explicit);
        // AWS-LC's AES-GCM keys must see every sequence number from zero on.
        for sequence in 0..sequence {
            seals.encrypt(message(DATA, &[]), sequence).unwrap();
        }
        let (key, iv) = parts(other);
        let opens = aead.decrypter(key, &iv[..fixed]);
        Self { seals, sequence, opens, opened, is_rebuffed: false, end: None }
    }

    fn seal(&mut self, content: u8, plain: &[u8]) -> Vec<u8> {
        let sealed = self.seals.encrypt(message(content, plain), self.sequence).unwrap();
        self.sequence += 1;
        sealed.encode()
    }

    /// The data in records that it is sent; alerts are noted.
    fn opens(&mut self, mut sent: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        while let Some((&[content, 3, 3, high, low], rest)) = sent.split_first_chunk() {
            assert_eq!(self.end, None, "more after the end");
            let (payload, rest) = rest.split_at(usize::from(u16::from_be_bytes([high, low])));
            let mut payload = payload.to_vec();
            let version = ProtocolVersion::TLSv1_2;
            let record = InboundOpaqueMessage::new(content.into(), version, &mut payload);
            let opened = self.opens.decrypt(record, self.opened).unwrap();
            self.opened += 1;
            match (content, opened.payload) {
                (DATA, plain) => data.extend_from_slice(plain),
                (ALERT, &[WARNING, NO_RENEGOTIATION]) if !self.is_rebuffed => {
                    self.is_rebuffed = true;
                }
                (ALERT, &[level, code]) if level == FATAL || code == CLOSE_NOTIFY => {
                    self.end = Some([level, code]);
                }
                (_, plain) => panic!("{plain:?} in a record of type {content}"),
            }
            sent = rest;
        }
        assert!(sent.is_empty(), "{sent:?}");
        data
    }
}

fn message(content: u8, plain: &[u8]) -> OutboundPlainMessage<'_> {
    OutboundPlainMessage {
        typ: ContentType::from(content),
        version: ProtocolVersion::TLSv1_2,
        payload: OutboundChunks::Single(plain),
    }
}

fn parts(secrets: ConnectionTrafficSecrets) -> (AeadKey, [u8; 12]) {
    let (key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => panic!("no AEAD of TLS 1.2"),
    };
    (key, iv.as_ref().try_into().unwrap())
}

/// Reads an input.
struct Script<'a>(&'a [u8]);

enum Piece<'a> {
    Sealed {
        content: u8,
        plain: Vec<u8>,
    },
    Broken {
        content: u8,
        plain: Vec<u8>,
        at: usize,
        mask: u8,
    },
    Raw(&'a [u8]),
    /// So many bytes go to the client.
    Answer(usize),
    /// What is owed goes to the client.
    Control,
    /// We close.
    Close,
}

impl Piece<'_> {
    fn is_data(&self) -> bool {
        matches!(self, Self::Sealed { content: DATA, plain } if (1..=PLAINTEXT_MAX).contains(&plain.len()))
    }
}

impl<'a> Script<'a> {
    fn next_piece(&mut self) -> Option<Piece<'a>> {
        let (kind, size) = (self.byte()?, self.byte()?);
        let len = usize::from(size);
        let sealed = |content, plain: &[u8]| Piece::Sealed { content, plain: plain.to_vec() };
        Some(match kind % 16 {
            0 | 1 => sealed(DATA, self.take(len)),
            // Around the limit of a plain text, and of what is read at all.
            2 => sealed(DATA, &vec![kind; PLAINTEXT_MAX - 128 + len]),
            3 => sealed(DATA, &vec![kind; PLAINTEXT_MAX + 2_048 - 128 + len]),
            4 => sealed(kind / 16 + 16, self.take(len)),
            5 => sealed(size, self.take(usize::from(kind / 16))),
            6 => sealed(ALERT, &[kind / 16, size]),
            7 => sealed(ALERT, self.take(len)),
            8 => sealed(HANDSHAKE, self.take(len)),
            // Whole hellos, with something behind them.
            9 => {
                let hellos = HELLO.repeat(1 + usize::from(kind / 16 % 4));
                sealed(HANDSHAKE, &[&hellos, self.take(len)].concat())
            }
            // A message of any type that is as long as it says.
            10 => {
                let body = self.take(len);
                sealed(HANDSHAKE, &[&[kind / 16, 0, 0, body.len() as u8], body].concat())
            }
            11 => {
                let (mask, content) = (self.byte()?, DATA - kind / 16 % 4);
                Piece::Broken { content, plain: self.take(8).to_vec(), at: len, mask }
            }
            12 => Piece::Raw(self.take(len)),
            13 => Piece::Answer(len * len),
            14 => Piece::Control,
            _ => Piece::Close,
        })
    }

    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct Site {
    _authority: Authority,
    /// Terms with one cipher each, and a client that resumes: what it costs is not what is tried here.
    ciphers: Vec<(Arc<DownstreamTerms>, Arc<ClientConfig>)>,
}

impl Site {
    fn handshake(&self, cipher: usize) -> (Wire, Rogue) {
        let (terms, client) = &self.ciphers[cipher % self.ciphers.len()];
        let name = "server.test".try_into().unwrap();
        let mut peer = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut held = sent_by(&mut peer);
        let mut joined = HelloBuffer::new();
        let Peek::Hello(hello) = peek(&held, &mut joined) else { panic!("rustls sends no hello") };
        let mut server = terms.start(facts(&hello));
        // There is no directory of certificates to wait for.
        let ready = pin!(server.certificate()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(ready, Poll::Ready(()));
        for _ in 0..4 {
            let mut out = Vec::new();
            let advance = server.advance(&mut held, &mut out);
            held.drain(..advance.consumed);
            let mut input = &out[..];
            while !input.is_empty() {
                peer.read_tls(&mut input).unwrap();
                peer.process_new_packets().unwrap();
            }
            match advance.outcome {
                Outcome::NeedMore => held.extend(sent_by(&mut peer)),
                Outcome::Failed(refusal) => panic!("{refusal:?}"),
                Outcome::Done => return (server.finish().unwrap().0, Rogue::new(peer)),
            }
        }
        panic!("a handshake without end");
    }
}

fn sent_by(peer: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut bytes).unwrap();
    }
    bytes
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let authority = Authority::new("Servers");
    let server = authority.server(&["server.test"]);
    let (chain, key) = (server.chain_path.display(), server.key_path.display());
    let ciphers = ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"];
    let ciphers = ciphers.map(|cipher| {
        let text = format!(
            r#"
[listener.edge]
address = "127.0.0.1:0"
[listener.edge.chain.default]
tls = "edge"
cluster = "db"
[tls.downstream.edge]
certificates = [{{ chain = "{chain}", key = "{key}" }}]
client_auth = "none"
versions = ["1.2"]
cipher_suites = ["TLS_ECDHE_ECDSA_WITH_{cipher}"]
[cluster.db]
endpoints = ["127.0.0.1:1"]
"#
        );
        let material = material(&text);
        let terms = Arc::clone(material.downstream(0, ChainId(0)).unwrap());
        let client = ClientTls::trusting(&authority).only_tls12().build();
        let mut client = Arc::unwrap_or_clone(client);
        client.enable_secret_extraction = true;
        (terms, Arc::new(client))
    });
    let site = Site { _authority: authority, ciphers: ciphers.into() };
    for cipher in 0..site.ciphers.len() {
        site.handshake(cipher);
    }
    site
});

const HELLO: &[u8] = &[
    1, 0, 0, 41, 3, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 0, 0, 2, 0xc0, 0x2b, 1, 0,
];
const PLAINTEXT_MAX: usize = 16_384;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const NO_RENEGOTIATION: u8 = 100;
