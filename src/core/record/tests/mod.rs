//! Tests of the record layer, a file a noun; here is the peer that they share.
//!
//! The peer seals whatever it is told, legal or not.

mod aead;
mod known_answer;
mod messages;
mod opener;
mod properties;
mod pump;
mod sealer;
mod within;

use std::time::Instant;

use super::*;

/// A sender that seals any inner plaintext.
struct Peer {
    keys: TrafficKeys,
    sequence: u64,
}

impl Peer {
    fn new() -> Self {
        Self { keys: keys(1), sequence: 0 }
    }

    /// `inner` is content, type and padding.
    fn record(&mut self, inner: &[u8]) -> Vec<u8> {
        let length = u16::try_from(inner.len() + TAG).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut sealed = inner.to_vec();
        self.keys.unfold();
        let nonce = self.keys.nonce(self.sequence);
        let key = self.keys.ready().unwrap();
        let tag = key.seal_detached(nonce, &header, &mut sealed).unwrap();
        self.sequence += 1;
        [&header[..], &sealed, &tag].concat()
    }

    fn content(&mut self, content: u8, body: &[u8]) -> Vec<u8> {
        self.record(&[body, &[content]].concat())
    }

    fn data(&mut self, body: &[u8]) -> Vec<u8> {
        self.content(23, body)
    }

    fn handshake(&mut self, body: &[u8]) -> Vec<u8> {
        self.content(22, body)
    }

    fn alert(&mut self, level: u8, description: u8) -> Vec<u8> {
        self.content(21, &[level, description])
    }

    fn rekey(&mut self, generation: u8) {
        *self = Self { keys: keys(generation), sequence: 0 };
    }
}

/// The opener and its scratch.
struct Receiver {
    opener: Opener,
    out: Vec<u8>,
    now: Instant,
}

impl Receiver {
    fn new(role: Role) -> Self {
        Self::limited(role, OpenLimits::default())
    }

    fn limited(role: Role, limits: OpenLimits) -> Self {
        let opener = Opener::new(keys(1), 0, role, limits);
        Self { opener, out: vec![0; RECORD_MAX], now: now() }
    }

    fn open(&mut self, input: &[u8]) -> Result<Opened, RecordError> {
        self.opener.open(input, &mut self.out, self.now)
    }

    /// Opens a record that must be consumed whole.
    fn event(&mut self, input: &[u8]) -> Result<Option<Event>, RecordError> {
        match self.open(input)? {
            Opened::Data { consumed, .. } => {
                assert_eq!(consumed, input.len());
                Ok(None)
            }
            Opened::Event { consumed, event } => {
                assert_eq!(consumed, input.len());
                Ok(Some(event))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn keys(generation: u8) -> TrafficKeys {
    TrafficKeys::new(Aead::Aes128Gcm, &[generation; 16], &[generation ^ 0x5a; 12]).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests need some instant to count from")]
fn now() -> Instant {
    Instant::now()
}

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUEST: [u8; 5] = [24, 0, 0, 1, 1];

/// A handshake message with its header.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, length[1], length[2], length[3]], body].concat()
}
