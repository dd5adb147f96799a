//! One side of an established TLS 1.3 session: our record layer, rustls' key schedule.
//!
//! Owns the opener and the sealer of `core::record` and the `KernelConnection` that derives their
//! next keys and files session tickets. `wire` drives it.

use std::fmt;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{ConnectionTrafficSecrets, Error, ExtractedSecrets};

use super::alert::{Peer, alert_name};
use super::sessions::TICKET_BYTES_MAX;
use crate::core::record::{
    Aead, AlertLevel, Event, KeyUpdateRequest, OpenLimits, Opener, RecordError, Role, SealError,
    Sealer, TrafficKeys,
};
use crate::core::refusal::{Reason, Refusal};

/// An established TLS 1.3 connection.
pub struct Tls13 {
    pub(super) opener: Opener,
    pub(super) sealer: Sealer,
    kernel: Kernel,
    /// The peer asked for a KeyUpdate; any one of ours settles all that it asked for.
    reply_owed: bool,
    /// We said close_notify or sent a fatal alert: nothing is owed any more.
    is_closed: bool,
}

/// What an event means for the pass that met it.
pub(super) enum Heard {
    GoOn,
    CloseNotify,
}

enum Kernel {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

impl Tls13 {
    /// To a client that takes records of so much content.
    pub(super) fn server(
        connection: UnbufferedServerConnection,
        content_max: u16,
    ) -> Result<Self, Refusal> {
        let (secrets, kernel) =
            connection.dangerous_into_kernel_connection().map_err(|error| internal(&error))?;
        let it = Self::new(secrets, Kernel::Server(kernel), Role::Server)?;
        Ok(Self { sealer: it.sealer.with_content_max(content_max), ..it })
    }

    pub(super) fn client(connection: UnbufferedClientConnection) -> Result<Self, Refusal> {
        let (secrets, kernel) =
            connection.dangerous_into_kernel_connection().map_err(|error| internal(&error))?;
        Self::new(secrets, Kernel::Client(kernel), Role::Client)
    }

    fn new(secrets: ExtractedSecrets, kernel: Kernel, role: Role) -> Result<Self, Refusal> {
        let ExtractedSecrets { tx: (sealed, tx), rx: (opened, rx) } = secrets;
        Ok(Self {
            opener: Opener::new(keys(&rx)?, opened, role, OpenLimits::default()),
            sealer: Sealer::new(keys(&tx)?, sealed),
            kernel,
            reply_owed: false,
            is_closed: false,
        })
    }

    pub(super) fn peer(&self) -> Peer {
        match self.kernel {
            Kernel::Server(_) => Peer::Client,
            Kernel::Client(_) => Peer::Upstream,
        }
    }

    /// A key update is due after `records` under one key, instead of 2^24.
    pub(super) fn with_key_update_after(self, records: u64) -> Self {
        Self { sealer: self.sealer.with_key_update_after(records.max(1)), ..self }
    }

    pub(super) fn owes_control(&self) -> bool {
        !self.is_closed && (self.reply_owed || self.sealer.wants_key_update())
    }

    /// Writes the one KeyUpdate that is owed and moves to the next sending keys.
    pub(super) fn seal_control(&mut self, out: &mut [u8]) -> Result<usize, SealError> {
        if !self.owes_control() {
            return Ok(0);
        }
        let bytes = self.sealer.seal_key_update(KeyUpdateRequest::NotRequested, out)?;
        self.reply_owed = false;
        let next = self.update_tx().map_err(|_refusal| SealError::Refused)?;
        self.sealer.rekey(next);
        Ok(bytes)
    }

    pub(super) fn seal_close(&mut self, out: &mut [u8]) -> usize {
        let sealed = self.sealer.seal_close_notify(out);
        self.is_closed |= sealed.is_ok();
        sealed.unwrap_or(0)
    }

    pub(super) fn seal_alert(&mut self, alert: u8, out: &mut [u8]) -> usize {
        let sealed = self.sealer.seal_alert(AlertLevel::Fatal, alert, out);
        self.is_closed |= sealed.is_ok();
        sealed.unwrap_or(0)
    }

    /// Acts on what the peer said beside its data.
    pub(super) fn hear(&mut self, event: Event) -> Result<Heard, Refusal> {
        match event {
            Event::CloseNotify => Ok(Heard::CloseNotify),
            Event::FatalAlert { description } => Err(self.alerted(description)),
            Event::KeyUpdate { request } => {
                let next = match &mut self.kernel {
                    Kernel::Server(kernel) => kernel.update_rx_secret(),
                    Kernel::Client(kernel) => kernel.update_rx_secret(),
                };
                let (_sequence, secrets) = next.map_err(|error| internal(&error))?;
                self.opener.rekey(keys(&secrets)?);
                self.reply_owed |= request == KeyUpdateRequest::Requested;
                Ok(Heard::GoOn)
            }
            Event::Ticket => {
                if let (Kernel::Client(kernel), Some(ticket)) =
                    (&mut self.kernel, self.opener.take_ticket())
                    && ticket.len() <= TICKET_BYTES_MAX
                {
                    kernel.handle_new_session_ticket(&ticket).map_err(|error| {
                        let detail = format!("the upstream sent a bad session ticket: {error}");
                        Refusal::new(Reason::UpstreamRecord, detail).with_alert(DECODE_ERROR)
                    })?;
                }
                Ok(Heard::GoOn)
            }
        }
    }

    /// A record of the peer that cannot be taken.
    pub(super) fn refused(&self, error: RecordError) -> Refusal {
        let reason = match (self.peer(), error) {
            (Peer::Upstream, _) => Reason::UpstreamRecord,
            (Peer::Client, RecordError::BadRecordMac) => Reason::ClientRecord,
            (Peer::Client, _) => Reason::ProtocolViolation,
        };
        Refusal::new(reason, error.to_string()).with_alert(error.alert())
    }

    fn alerted(&self, description: u8) -> Refusal {
        let name = alert_name(description);
        match self.peer() {
            Peer::Client => Refusal::new(
                Reason::ClientAlert,
                format!("the client sent the alert {name} ({description})"),
            ),
            Peer::Upstream => Refusal::new(
                Reason::UpstreamAlert,
                format!("the upstream sent the alert {name} ({description})"),
            ),
        }
    }

    fn update_tx(&mut self) -> Result<TrafficKeys, Refusal> {
        let next = match &mut self.kernel {
            Kernel::Server(kernel) => kernel.update_tx_secret(),
            Kernel::Client(kernel) => kernel.update_tx_secret(),
        };
        let (_sequence, secrets) = next.map_err(|error| internal(&error))?;
        keys(&secrets)
    }
}

impl fmt::Debug for Tls13 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls13")
            .field("opener", &self.opener)
            .field("sealer", &self.sealer)
            .field("reply_owed", &self.reply_owed)
            .finish_non_exhaustive()
    }
}

/// The keys of one direction, of TLS 1.2 too. rustls' secrets wipe themselves when dropped.
pub(super) fn keys(secrets: &ConnectionTrafficSecrets) -> Result<TrafficKeys, Refusal> {
    let (aead, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Aead::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Aead::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Aead::Chacha20Poly1305, key, iv),
        _ => return Err(Refusal::new(Reason::Internal, "a suite without a record layer")),
    };
    let Some(iv) = iv.as_ref().first_chunk() else {
        return Err(Refusal::new(Reason::Internal, "an IV that is too short"));
    };
    TrafficKeys::new(aead, key.as_ref(), iv)
        .map_err(|error| Refusal::new(Reason::Internal, error.to_string()))
}

fn internal(error: &Error) -> Refusal {
    Refusal::new(Reason::Internal, error.to_string())
}

const DECODE_ERROR: u8 = 50;

/// Each session holds one or two for as long as it lives; a byte more, and the allocator takes 1,024.
const _: () = assert!(size_of::<Tls13>() <= 896);
