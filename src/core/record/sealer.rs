//! The sending side of one connection: plaintext in, one record out, in place or beside.
//!
//! Never splits: one call is one record. Never derives keys: the caller rekeys after a KeyUpdate.
//! `pump.rs` is its busiest caller.

use std::fmt;

use aws_lc_rs::error::Unspecified;

use super::{
    ALERT_CLOSE_NOTIFY, CONTENT_ALERT, CONTENT_APPLICATION_DATA, CONTENT_HANDSHAKE, CONTENT_MAX,
    HEADER, KeyUpdateRequest, MESSAGE_KEY_UPDATE, OVERHEAD, PLAINTEXT_MAX, SealError, TrafficKeys,
};

/// Seals the records of one connection, in order.
pub struct Sealer {
    sequence: u64,
    /// After this many records under one key, [`Sealer::wants_key_update`].
    key_update_after: u64,
    /// After this many records under one key, nothing more is sealed.
    records_max: u64,
    keys: TrafficKeys,
    phase: Phase,
    /// The longest content of a record, in bytes.
    content_max: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    RekeyDue,
    Closed,
}

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    Alert,
    Handshake,
    ApplicationData,
}

/// How bad an alert says it is; in TLS 1.3 only close_notify and user_canceled are warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertLevel {
    Warning,
    Fatal,
}

impl Sealer {
    /// `sequence` is the number of records already sent under `keys`.
    #[must_use]
    pub fn new(keys: TrafficKeys, sequence: u64) -> Self {
        let records_max = keys.aead().confidentiality_limit();
        let key_update_after = records_max.min(KEY_UPDATE_AFTER);
        let phase = Phase::Open;
        Self { sequence, key_update_after, records_max, keys, phase, content_max: CONTENT_MAX }
    }

    /// Wants a key update after `records` instead of 2^24, for tests and the cautious. Never later
    /// than the AEAD permits.
    #[must_use]
    pub fn with_key_update_after(self, records: u64) -> Self {
        Self { key_update_after: records.min(self.records_max), ..self }
    }

    /// Seals no more than `bytes` in one record, for a peer without room for more.
    #[must_use]
    pub fn with_content_max(self, bytes: u16) -> Self {
        Self { content_max: bytes.min(CONTENT_MAX), ..self }
    }

    /// Seals in place: `record` is five bytes for the header, the plaintext, and seventeen bytes for
    /// inner type and tag ([`OVERHEAD`] in all).
    ///
    /// # Errors
    /// When `record` has no room for the overhead or holds more than [`Sealer::content_max`], when
    /// the key may seal no more, between a KeyUpdate and its new keys, or after a closing alert.
    #[inline]
    pub fn seal(&mut self, record: &mut [u8], content: ContentType) -> Result<(), SealError> {
        let Some(length) = record.len().checked_sub(OVERHEAD) else {
            return Err(SealError::BufferTooShort { length: record.len(), needed: OVERHEAD });
        };
        let header = self.begin(length)?;
        let (front, body) = record.split_at_mut(HEADER);
        front.copy_from_slice(&header);
        self.keys.unfold();
        let nonce = self.keys.nonce(self.sequence);
        let Some(key) = self.keys.ready() else { return Err(SealError::Refused) };
        let sealed = key.seal(nonce, &header, content.code(), body);
        self.end(sealed)
    }

    /// Nothing was sent for a while: see [`TrafficKeys::fold`].
    pub fn fold(&mut self) {
        self.keys.fold();
    }

    /// Whether there is anything to fold.
    #[must_use]
    pub fn is_expanded(&self) -> bool {
        self.keys.is_expanded()
    }

    /// Seals `plaintext` as one record of application data at the start of `out`; returns its
    /// length, which is [`OVERHEAD`] more.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    #[inline]
    pub fn seal_from(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, SealError> {
        self.seal_content(plaintext, ContentType::ApplicationData, out)
    }

    /// Ends our direction (RFC 8446 §6.1). Nothing can be sealed afterwards.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_close_notify(&mut self, out: &mut [u8]) -> Result<usize, SealError> {
        self.seal_alert(AlertLevel::Warning, ALERT_CLOSE_NOTIFY, out)
    }

    /// Seals an alert. After close_notify or a fatal one nothing can be sealed.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_alert(
        &mut self,
        level: AlertLevel,
        description: u8,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let level_code = match level {
            AlertLevel::Warning => 1,
            AlertLevel::Fatal => 2,
        };
        let length = self.seal_content(&[level_code, description], ContentType::Alert, out)?;
        if level == AlertLevel::Fatal || description == ALERT_CLOSE_NOTIFY {
            self.phase = Phase::Closed;
        }
        Ok(length)
    }

    /// Seals a KeyUpdate (RFC 8446 §4.6.3). [`Sealer::rekey`] must follow before anything else is
    /// sealed.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_key_update(
        &mut self,
        request: KeyUpdateRequest,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let request_code = match request {
            KeyUpdateRequest::NotRequested => 0,
            KeyUpdateRequest::Requested => 1,
        };
        let message = [MESSAGE_KEY_UPDATE, 0, 0, 1, request_code];
        let length = self.seal_content(&message, ContentType::Handshake, out)?;
        self.phase = Phase::RekeyDue;
        Ok(length)
    }

    /// Installs the keys after our KeyUpdate; the sequence number starts at zero.
    pub fn rekey(&mut self, keys: TrafficKeys) {
        self.records_max = keys.aead().confidentiality_limit();
        self.keys = keys;
        self.sequence = 0;
        if self.phase == Phase::RekeyDue {
            self.phase = Phase::Open;
        }
    }

    /// Whether the key is near its confidentiality limit (RFC 8446 §5.5), so that a KeyUpdate should
    /// be sent. It comes seven million records before [`SealError::KeyExhausted`]: asking once a
    /// turn of the pump is enough.
    #[inline]
    #[must_use]
    pub fn wants_key_update(&self) -> bool {
        self.sequence >= self.key_update_after && self.phase == Phase::Open
    }

    /// Whether plaintext is better moved to its place in a record and sealed there than sealed from elsewhere. Never
    /// where records are [narrow](Self::is_narrow): there is no room for so many within the buffer.
    #[inline]
    #[must_use]
    pub fn seals_in_place(&self) -> bool {
        self.keys.work_in_place() && !self.is_narrow()
    }

    /// The longest content of one record, in bytes.
    #[inline]
    #[must_use]
    pub fn content_max(&self) -> usize {
        self.content_max.into()
    }

    /// Whether a record may hold less than the standard's [`PLAINTEXT_MAX`].
    #[inline]
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        self.content_max() < PLAINTEXT_MAX
    }

    /// How many records were sealed under the present keys.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Out of place where the library can: by AWS-LC 786 ns for 16 KiB of AES-128-GCM, where a copy sealed in
    /// place took 901.
    #[inline]
    fn seal_content(
        &mut self,
        plaintext: &[u8],
        content: ContentType,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let header = self.begin(plaintext.len())?;
        let needed = plaintext.len() + OVERHEAD;
        let available = out.len();
        let Some(record) = out.get_mut(..needed) else {
            return Err(SealError::BufferTooShort { length: available, needed });
        };
        let (front, body) = record.split_at_mut(HEADER);
        front.copy_from_slice(&header);
        self.keys.unfold();
        let nonce = self.keys.nonce(self.sequence);
        let Some(key) = self.keys.ready() else { return Err(SealError::Refused) };
        let sealed = key.seal_from(nonce, &header, content.code(), plaintext, body);
        self.end(sealed).map(|()| needed)
    }

    /// Whether a record of `length` bytes may be sealed, and its header, which is also what the
    /// AEAD authenticates (RFC 8446 §5.2).
    #[inline]
    fn begin(&self, length: usize) -> Result<[u8; HEADER], SealError> {
        let max = self.content_max();
        if length > max {
            return Err(SealError::PlaintextTooLong { length, max });
        }
        match self.phase {
            Phase::Open => {}
            Phase::RekeyDue => return Err(SealError::RekeyDue),
            Phase::Closed => return Err(SealError::Closed),
        }
        if self.sequence >= self.records_max {
            return Err(SealError::KeyExhausted { records: self.sequence });
        }
        let [.., high, low] = (length + OVERHEAD - HEADER).to_be_bytes();
        Ok([CONTENT_APPLICATION_DATA, 3, 3, high, low])
    }

    /// Counts a sealed record. One that failed may have left a part of its ciphertext: its nonce is
    /// never used again, and nor is the key.
    #[inline]
    fn end(&mut self, sealed: Result<(), Unspecified>) -> Result<(), SealError> {
        let Ok(()) = sealed else {
            self.phase = Phase::Closed;
            return Err(SealError::Refused);
        };
        self.sequence += 1;
        Ok(())
    }
}

impl ContentType {
    fn code(self) -> u8 {
        match self {
            Self::Alert => CONTENT_ALERT,
            Self::Handshake => CONTENT_HANDSHAKE,
            Self::ApplicationData => CONTENT_APPLICATION_DATA,
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("keys", &self.keys)
            .field("sequence", &self.sequence)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// How many bytes `plaintext` bytes become when sealed in full records: what a buffer must hold.
#[must_use]
pub const fn sealed_length(plaintext: usize) -> usize {
    plaintext + plaintext.div_ceil(PLAINTEXT_MAX) * OVERHEAD
}

/// Records under one key before a KeyUpdate is wanted: 2^24, as rustls, within the 2^24.5 of
/// RFC 8446 §5.5.
const KEY_UPDATE_AFTER: u64 = 1 << 24;
