//! What a ClientHello tells: the facts that routing, admission and the access log ask for.
//!
//! Everything borrows from the input or the joined message and was checked by `parse`; nothing here
//! can fail. GREASE values (RFC 8701) are left out of every answer.

use super::record_limit::RecordLimit;

/// A ClientHello whose every length was checked (RFC 8446 §4.1.2).
#[derive(Debug, Clone, Copy)]
pub struct ClientHello<'a> {
    pub(super) wire_len: usize,
    pub(super) server_name: Option<&'a str>,
    pub(super) legacy_version: u16,
    pub(super) random: &'a [u8; 32],
    pub(super) session_id: &'a [u8],
    pub(super) cipher_suites: U16List<'a>,
    pub(super) compression_methods: &'a [u8],
    /// Each with type and length.
    pub(super) extensions: &'a [u8],
    pub(super) supported_versions: U16List<'a>,
    pub(super) supported_groups: U16List<'a>,
    pub(super) signature_schemes: U16List<'a>,
    pub(super) key_shares: &'a [u8],
    pub(super) alpn: &'a [u8],
    pub(super) psk_identities: usize,
    pub(super) session_ticket_len: usize,
    pub(super) has_early_data: bool,
    pub(super) has_ech: bool,
    pub(super) takes_raw_keys_only: bool,
    pub(super) max_fragment_length: Option<u8>,
    pub(super) record_size_limit: Option<u16>,
}

/// The newest version that a hello speaks, as far as what it lacks depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Newest {
    /// TLS 1.1, or older. With the version by whose records it can be answered.
    Older(u16),
    Tls12,
    /// TLS 1.2, by a client that has tried a newer version in vain, as it says (RFC 7507).
    FellBack,
    #[default]
    Tls13,
    /// TLS 1.3, without the supported_groups that belong to it (RFC 8446 §9.2).
    Tls13WithoutGroups,
    /// TLS 1.3, with a pre-shared key, beside which it may leave out signature_algorithms, or both
    /// supported_groups and key_share, and does.
    Tls13WithKeyAlone,
}

/// A list of 16-bit code points, in the client's order.
#[derive(Debug, Clone, Copy, Default)]
pub struct U16List<'a>(pub(super) &'a [u8]);

/// The protocol names of the ALPN extension, in the client's order (RFC 7301).
#[derive(Debug, Clone)]
pub struct Alpn<'a>(&'a [u8]);

/// The groups that the client sent key shares for, in its order (RFC 8446 §4.2.8).
#[derive(Debug, Clone)]
pub struct KeyShareGroups<'a>(&'a [u8]);

impl<'a> ClientHello<'a> {
    /// The SNI in its normal form; with ECH the outer one.
    pub fn server_name(&self) -> Option<&'a str> {
        self.server_name
    }

    /// Empty if the client sent no ALPN. Never yields an empty name.
    pub fn alpn(&self) -> Alpn<'a> {
        Alpn(self.alpn)
    }

    /// Bytes of input up to the end of the hello, record headers included.
    pub fn wire_len(&self) -> usize {
        self.wire_len
    }

    /// The highest version of clients before TLS 1.3; later ones send 0x0303 here and their own in
    /// `supported_versions`, beside which this one says nothing. Never below 0x0301.
    pub fn legacy_version(&self) -> u16 {
        self.legacy_version
    }

    pub fn supported_versions(&self) -> U16List<'a> {
        self.supported_versions
    }

    pub fn offers_tls13(&self) -> bool {
        self.supported_versions.contains(TLS13)
    }

    pub fn newest(&self) -> Newest {
        // RFC 8446 §4.2.1.
        let offers_tls12 = match self.supported_versions.0.is_empty() {
            true => self.legacy_version >= TLS12,
            false => self.supported_versions.contains(TLS12),
        };
        match self.offers_tls13() {
            true if self.rests_on_its_key() => Newest::Tls13WithKeyAlone,
            true if self.supported_groups.0.is_empty() => Newest::Tls13WithoutGroups,
            true => Newest::Tls13,
            false if !offers_tls12 => Newest::Older(self.older()),
            false if self.cipher_suites.contains(FALLBACK) => Newest::FellBack,
            false => Newest::Tls12,
        }
    }

    /// The newest version before TLS 1.2; that itself where there is none.
    fn older(&self) -> u16 {
        let own =
            [self.legacy_version].into_iter().filter(|_| self.supported_versions.0.is_empty());
        own.chain(self.supported_versions)
            .filter(|it| (TLS10..TLS12).contains(it))
            .max()
            .unwrap_or(TLS12)
    }

    /// RFC 8446 §9.2.
    fn rests_on_its_key(&self) -> bool {
        let has_no_groups = self.supported_groups.0.is_empty() && self.key_shares.is_empty();
        self.has_pre_shared_key() && (self.signature_schemes.0.is_empty() || has_no_groups)
    }

    /// A TLS 1.3 resumption, if any of the keys is ours.
    pub fn has_pre_shared_key(&self) -> bool {
        self.psk_identities > 0
    }

    /// How many pre-shared keys are offered: 32 at most, more is refused.
    pub fn psk_identities(&self) -> usize {
        self.psk_identities
    }

    /// A TLS 1.2 ticket (RFC 5077). An empty extension only asks for one and does not count.
    pub fn has_session_ticket(&self) -> bool {
        self.session_ticket_len > 0
    }

    /// Whether the client offers to resume by ticket or key. A session id alone says nothing:
    /// TLS 1.3 clients send a random one (RFC 8446 §4.1.2).
    pub fn offers_resumption(&self) -> bool {
        self.has_pre_shared_key() || self.has_session_ticket()
    }

    pub fn offers_early_data(&self) -> bool {
        self.has_early_data
    }

    /// Whether the client's first choice is a ChaCha20 suite: a device without AES instructions.
    pub fn prefers_chacha20(&self) -> bool {
        let is_signal = |suite| matches!(suite, EMPTY_RENEGOTIATION_INFO | FALLBACK);
        let first = self.cipher_suites().find(|&suite| !is_signal(suite));
        matches!(first, Some(TLS13_CHACHA20 | 0xcca8..=0xccae))
    }

    pub fn cipher_suites(&self) -> U16List<'a> {
        self.cipher_suites
    }

    pub fn supported_groups(&self) -> U16List<'a> {
        self.supported_groups
    }

    pub fn key_share_groups(&self) -> KeyShareGroups<'a> {
        KeyShareGroups(self.key_shares)
    }

    /// Empty if the client sent no signature_algorithms, which only TLS 1.2 allows.
    pub fn signature_schemes(&self) -> U16List<'a> {
        self.signature_schemes
    }

    /// Whether encrypted_client_hello is there, real or GREASE: nobody but its addressee can tell.
    pub fn has_ech(&self) -> bool {
        self.has_ech
    }

    /// Whether one side, or both, would have to show a bare key in the place of a certificate (RFC 7250).
    pub fn takes_raw_keys_only(&self) -> bool {
        self.takes_raw_keys_only
    }

    /// How long the content of a record for this client may be.
    pub fn record_limit(&self) -> RecordLimit {
        RecordLimit::of(self.max_fragment_length, self.record_size_limit, self.offers_tls13())
    }

    pub fn random(&self) -> &'a [u8; 32] {
        self.random
    }

    /// 0 to 32.
    pub fn session_id_len(&self) -> usize {
        self.session_id.len()
    }
}

impl U16List<'_> {
    pub fn contains(mut self, value: u16) -> bool {
        self.any(|each| each == value)
    }
}

impl Iterator for U16List<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        while let [high, low, rest @ ..] = self.0 {
            self.0 = rest;
            let value = u16::from_be_bytes([*high, *low]);
            if !is_grease(value) {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Alpn<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let [len, rest @ ..] = self.0 {
            let (name, rest) = rest.split_at_checked(usize::from(*len))?;
            self.0 = rest;
            // ALPN's GREASE values are two equal bytes, as those of the code points.
            match name {
                [high, low] if is_grease(u16::from_be_bytes([*high, *low])) => {}
                _ => return Some(name),
            }
        }
        None
    }
}

impl Iterator for KeyShareGroups<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        while let [high, low, len_high, len_low, rest @ ..] = self.0 {
            let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
            self.0 = rest.get(len..)?;
            let group = u16::from_be_bytes([*high, *low]);
            if !is_grease(group) {
                return Some(group);
            }
        }
        None
    }
}

/// 0x0a0a, 0x1a1a, … 0xfafa (RFC 8701 §2).
fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && high & 0x0f == 0x0a
}

const TLS10: u16 = 0x0301;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
const TLS13_CHACHA20: u16 = 0x1303;
const EMPTY_RENEGOTIATION_INFO: u16 = 0x00ff;
const FALLBACK: u16 = 0x5600;
