//! One script, two judges: whatever a peer seals, we accept what rustls accepts, with the same data.
//!
//! A script is any bytes; they become a stream of records, most of them authentic. Where the verdicts
//! may differ is written at [`compare`]. `main.rs` calls this with random scripts, the fuzz target
//! `record` with chosen ones.

use std::cell::RefCell;

use portcullis::core::record::{
    Event, OpenLimits, Opened, Opener, RECORD_MAX, RecordError, Role, TrafficKeys,
};
use portcullis_kit::unbuffered::{Configs, Connection, RawSealer, Unbuffered};
use rustls::client::ClientConnectionData;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::kernel::KernelConnection;
use rustls::{Error, PeerMisbehaved};

use super::ours::{keys, now};

/// Panics when the verdicts differ.
pub(crate) fn judge(script: &[u8]) {
    let Some((first, script)) = script.split_first() else { return };
    let (client, server) = SHARED.with_borrow(|shared| shared.configs.handshake());
    if first % 2 == 0 {
        judge_as(client, server, Role::Server, script);
    } else {
        let mut server = server;
        let mut client = client;
        client.incoming.append(&mut server.outgoing);
        client.run(None).unwrap();
        judge_as(server, client, Role::Client, script);
    }
}

struct Shared {
    configs: Configs,
    /// Judges tickets as rustls does.
    tickets: KernelConnection<ClientConnectionData>,
}

thread_local! {
    static SHARED: RefCell<Shared> = RefCell::new(shared());
}

fn shared() -> Shared {
    let configs = Configs::new(TLS13_AES_128_GCM_SHA256);
    let (client, _) = configs.handshake();
    let (_, tickets) = client.connection.into_kernel().unwrap();
    Shared { configs, tickets }
}

/// What came of a stream.
#[derive(Debug, PartialEq)]
enum Verdict<E> {
    /// All was accepted, or more is awaited.
    Open,
    Closed,
    Refused(E),
}

#[derive(Debug, PartialEq)]
enum Ours {
    Record(RecordError),
    Alert(u8),
    Ticket(Error),
}

fn judge_as<S: Connection, R: Connection>(
    sender: Unbuffered<S>,
    mut receiver: Unbuffered<R>,
    role: Role,
    script: &[u8],
) {
    let (secrets, mut kernel) = sender.connection.into_kernel().unwrap();
    let (sequence, secrets) = secrets.tx;
    let mut generations = vec![keys(&secrets)];
    let mut sealer = RawSealer::new(TLS13_AES_128_GCM_SHA256, secrets, sequence);
    let mut stream = Vec::new();
    let mut pieces = Pieces { script };
    while let Some(piece) = pieces.next_piece() {
        match piece {
            Piece::Sealed(inner) => stream.extend(sealer.seal(&inner)),
            Piece::Broken { inner, at, mask } => {
                let mut record = sealer.seal(&inner);
                let at = at % record.len();
                record[at] ^= mask;
                stream.extend(record);
            }
            Piece::Raw(bytes) => stream.extend(bytes),
            Piece::KeyUpdate(inner) => {
                stream.extend(sealer.seal(&inner));
                let (_, secrets) = kernel.update_tx_secret().unwrap();
                generations.push(keys(&secrets));
                sealer = RawSealer::new(TLS13_AES_128_GCM_SHA256, secrets, 0);
            }
        }
    }
    generations.reverse();
    let (ours, our_data) = our_verdict(&stream, generations, sequence, role);

    receiver.received.clear();
    receiver.incoming.extend_from_slice(&stream);
    let mut theirs = their_verdict(&mut receiver);
    if let (Verdict::Refused(_), Verdict::Open) = (&ours, &theirs) {
        // We refuse from the first byte that is wrong; rustls waits for the whole record or message.
        // Give it all that it can be waiting for.
        for _ in 0..5 {
            receiver.incoming.extend(sealer.seal(&[&[0; 16_384][..], &[22]].concat()));
        }
        theirs = their_verdict(&mut receiver);
    }
    compare((&ours, &our_data), (&theirs, &receiver.received));
}

fn our_verdict(
    stream: &[u8],
    mut generations: Vec<TrafficKeys>,
    sequence: u64,
    role: Role,
) -> (Verdict<Ours>, Vec<u8>) {
    let first = generations.pop().unwrap();
    let mut opener = Opener::new(first, sequence, role, OpenLimits::default());
    let (mut data, mut out, now) = (Vec::new(), vec![0; RECORD_MAX], now());
    let mut rest = stream;
    let verdict = loop {
        match opener.open(rest, &mut out, now) {
            Ok(Opened::NeedMore { at_least }) => {
                assert!(at_least > rest.len() && at_least <= RECORD_MAX);
                break Verdict::Open;
            }
            Ok(Opened::NeedRoom { at_least }) => panic!("{at_least} bytes of room for a record"),
            Ok(Opened::Data { consumed, len }) => {
                assert!(consumed > len);
                data.extend_from_slice(&out[..len]);
                rest = &rest[consumed..];
            }
            Ok(Opened::Event { consumed, event }) => {
                rest = &rest[consumed..];
                match event {
                    Event::CloseNotify => break Verdict::Closed,
                    Event::FatalAlert { description } => {
                        break Verdict::Refused(Ours::Alert(description));
                    }
                    // A script may spell a key update that the sender does not follow: then no
                    // keys are left, and any others fail as well.
                    Event::KeyUpdate { .. } => {
                        opener.rekey(generations.pop().unwrap_or_else(wrong))
                    }
                    Event::Ticket => {
                        let body = opener.take_ticket().unwrap();
                        if let Err(error) = keep(&body) {
                            break Verdict::Refused(Ours::Ticket(error));
                        }
                    }
                }
            }
            Err(error) => {
                assert_eq!(opener.open(rest, &mut out, now), Err(error), "it stays failed");
                break Verdict::Refused(Ours::Record(error));
            }
        }
    };
    (verdict, data)
}

fn their_verdict<C: Connection>(receiver: &mut Unbuffered<C>) -> Verdict<Error> {
    match receiver.run(None) {
        Ok(()) if receiver.peer_closed => Verdict::Closed,
        Ok(()) => Verdict::Open,
        Err(error) => Verdict::Refused(error),
    }
}

fn compare(
    (ours, our_data): (&Verdict<Ours>, &[u8]),
    (theirs, their_data): (&Verdict<Error>, &[u8]),
) {
    match (ours, theirs) {
        // RFC 8446 §5.4: an empty handshake fragment MUST be refused; rustls lets 32 pass, and
        // goes on to whatever follows.
        (Verdict::Refused(Ours::Record(RecordError::EmptyFragment { content: 22 })), _) => {
            assert!(their_data.starts_with(our_data), "{ours:?}, {theirs:?}");
        }
        // Our caps on what brings no data are for all of it between two records of data; rustls begins to
        // count anew with each record of another kind.
        (
            Verdict::Refused(Ours::Record(
                RecordError::TooManyEmptyRecords { .. }
                | RecordError::TooManyKeyUpdates { .. }
                | RecordError::TooManyTickets { .. },
            )),
            _,
        ) => assert!(their_data.starts_with(our_data), "{ours:?}, {theirs:?}"),
        // rustls allows four user_canceled in a lifetime; we cap them as records without data.
        (
            _,
            Verdict::Refused(Error::PeerMisbehaved(PeerMisbehaved::TooManyWarningAlertsReceived)),
        ) => assert!(our_data.starts_with(their_data), "{ours:?}, {theirs:?}"),
        (Verdict::Open, Verdict::Open)
        | (Verdict::Closed, Verdict::Closed)
        | (Verdict::Refused(_), Verdict::Refused(_)) => {
            assert_eq!(our_data, their_data, "{ours:?}, {theirs:?}");
        }
        (ours, theirs) => panic!("we say {ours:?}, rustls says {theirs:?}"),
    }
}

fn keep(body: &[u8]) -> Result<(), Error> {
    SHARED.with_borrow_mut(|shared| shared.tickets.handle_new_session_ticket(body))
}

fn wrong() -> TrafficKeys {
    TrafficKeys::new(portcullis::core::record::Aead::Aes128Gcm, &[0; 16], &[0; 12]).unwrap()
}

/// Reads a script.
struct Pieces<'a> {
    script: &'a [u8],
}

enum Piece {
    Sealed(Vec<u8>),
    Broken {
        inner: Vec<u8>,
        at: usize,
        mask: u8,
    },
    Raw(Vec<u8>),
    /// A key update after which the sender changes its keys.
    KeyUpdate(Vec<u8>),
}

impl Pieces<'_> {
    fn next_piece(&mut self) -> Option<Piece> {
        let (kind, size) = (self.byte()?, self.byte()?);
        let body = self.take(usize::from(size % 32));
        let inner =
            |content: u8, padding: usize| [&body[..], &[content], &vec![0; padding]].concat();
        Some(match kind % 16 {
            0..=2 => Piece::Sealed(inner(23, 0)),
            3 => Piece::Sealed(inner(23, usize::from(size))),
            // Two sizes around the limits of plaintext and ciphertext.
            4 => Piece::Sealed(inner(23, 16_384 - body.len() + usize::from(size / 128))),
            5 => Piece::Sealed(inner(23, 16_620 - usize::from(size))),
            6 | 7 => Piece::Sealed(inner(22, 0)),
            8 => Piece::Sealed([&[4, 0, 0, size % 32], &body[..], &[22]].concat()),
            9 => Piece::Sealed(vec![24, 0, 0, 1, size % 3, 22]),
            10 => Piece::Sealed(vec![size % 4, body.first().copied().unwrap_or(0), 21]),
            11 => Piece::Sealed(inner(21, 0)),
            12 => Piece::Sealed(body),
            13 => Piece::Broken { inner: inner(23, 0), at: usize::from(size), mask: kind },
            14 => Piece::Raw(body),
            _ => Piece::KeyUpdate(vec![24, 0, 0, 1, size % 2, 22]),
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.script.split_first()?;
        self.script = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.script.split_at(length.min(self.script.len()));
        self.script = rest;
        taken.to_vec()
    }
}
