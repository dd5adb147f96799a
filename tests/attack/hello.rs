//! A recorded ClientHello, taken apart so that a test can say in it what no client would.

/// Extensions (RFC 8446 §4.2).
pub(crate) const KEY_SHARE: u16 = 51;
pub(crate) const PRE_SHARED_KEY: u16 = 41;
const SERVER_NAME: u16 = 0;

/// A hello of OpenSSL: X25519, P-256 among its groups, and a ticket that no gateway here issued.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    /// From the version to the compression methods.
    head: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    pub(crate) fn recorded() -> Self {
        let message = &include_bytes!("../hellos/openssl-tls13-psk.bin")[9..];
        let mut at = 34;
        at += 1 + usize::from(message[at]);
        at += 2 + number(&message[at..]);
        at += 1 + usize::from(message[at]);
        let head = message[..at].to_vec();
        let mut rest = &message[at + 2..];
        let mut extensions = Vec::new();
        while let [high, low, body @ ..] = rest {
            let length = number(body);
            let kind = u16::from_be_bytes([*high, *low]);
            extensions.push((kind, body[2..2 + length].to_vec()));
            rest = &body[2 + length..];
        }
        Self { head, extensions }
    }

    pub(crate) fn without(mut self, kind: u16) -> Self {
        self.extensions.retain(|(of, _)| *of != kind);
        self
    }

    /// In the place where the extension was, or at the end.
    pub(crate) fn with(mut self, kind: u16, body: Vec<u8>) -> Self {
        match self.extensions.iter_mut().find(|(of, _)| *of == kind) {
            Some((_, place)) => *place = body,
            None => self.extensions.push((kind, body)),
        }
        self
    }

    pub(crate) fn server_name(self, name: &[u8]) -> Self {
        let entry = [&[0][..], &prefixed(name)].concat();
        self.with(SERVER_NAME, prefixed(&entry))
    }

    /// A key share for P-256 alone: its base point, which is as good a public key as any.
    pub(crate) fn key_share_p256(self) -> Self {
        let entry = [&[0, 23][..], &prefixed(&P256_BASE_POINT)].concat();
        self.with(KEY_SHARE, prefixed(&entry))
    }

    /// `count` tickets of 96 bytes and binders that fit none.
    pub(crate) fn tickets(self, count: u8) -> Self {
        let ticket = |number: u8| [&prefixed(&[number; 96])[..], &[0; 4]].concat();
        let tickets: Vec<u8> = (0..count).flat_map(ticket).collect();
        let binders: Vec<u8> = (0..count).flat_map(|_| [&[32][..], &[7; 32]].concat()).collect();
        let body = [prefixed(&tickets), prefixed(&binders)].concat();
        self.without(PRE_SHARED_KEY).with(PRE_SHARED_KEY, body)
    }

    /// In one record.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let each =
            |(kind, body): &(u16, Vec<u8>)| [&kind.to_be_bytes()[..], &prefixed(body)].concat();
        let extensions: Vec<u8> = self.extensions.iter().flat_map(each).collect();
        let body = [&self.head[..], &prefixed(&extensions)].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[1][..], &length[1..], &body].concat();
        [&[22, 3, 1][..], &prefixed(&message)].concat()
    }
}

fn number(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// With two bytes of length before it.
fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// SEC 2 §2.4.2, uncompressed.
const P256_BASE_POINT: [u8; 65] = [
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40,
    0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2,
    0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e,
    0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51,
    0xf5,
];
