//! Our side of a connection behind rustls' handshake: opener, sealer, and rustls' key schedule.
//!
//! This is what the TLS layer does with the record layer, in its plainest form.

use std::time::Instant;

use portcullis::core::record::{
    Aead, AlertLevel, Event, KeyUpdateRequest, OVERHEAD, OpenLimits, Opened, Opener, PLAINTEXT_MAX,
    RECORD_MAX, RecordError, Role, Sealer, TrafficKeys,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

pub(crate) struct Ours<D> {
    opener: Opener,
    sealer: Sealer,
    kernel: KernelConnection<D>,
    pub(crate) incoming: Vec<u8>,
    pub(crate) outgoing: Vec<u8>,
    pub(crate) received: Vec<u8>,
    pub(crate) peer_closed: bool,
    pub(crate) tickets: usize,
    pub(crate) key_updates_sent: usize,
}

/// What becomes of a ticket.
pub(crate) trait Tickets {
    fn keep(&mut self, body: &[u8]);
}

impl<D> Ours<D> {
    pub(crate) fn new(
        secrets: ExtractedSecrets,
        kernel: KernelConnection<D>,
        role: Role,
        incoming: Vec<u8>,
    ) -> Self {
        let (received, rx) = secrets.rx;
        let (sent, tx) = secrets.tx;
        Self {
            opener: Opener::new(keys(&rx), received, role, OpenLimits::default()),
            sealer: Sealer::new(keys(&tx), sent),
            kernel,
            incoming,
            outgoing: Vec::new(),
            received: Vec::new(),
            peer_closed: false,
            tickets: 0,
            key_updates_sent: 0,
        }
    }

    pub(crate) fn with_key_update_after(mut self, records: u64) -> Self {
        self.sealer = self.sealer.with_key_update_after(records);
        self
    }

    pub(crate) fn send(&mut self, data: &[u8]) {
        for part in data.chunks(PLAINTEXT_MAX) {
            let mut record = vec![0; part.len() + OVERHEAD];
            self.sealer.seal_from(part, &mut record).unwrap();
            self.outgoing.extend(record);
            if self.sealer.wants_key_update() {
                self.update_keys(KeyUpdateRequest::NotRequested);
            }
        }
    }

    pub(crate) fn update_keys(&mut self, request: KeyUpdateRequest) {
        let mut record = [0; 64];
        let length = self.sealer.seal_key_update(request, &mut record).unwrap();
        self.outgoing.extend(&record[..length]);
        let (_, secrets) = self.kernel.update_tx_secret().unwrap();
        self.sealer.rekey(keys(&secrets));
        self.key_updates_sent += 1;
    }

    pub(crate) fn close(&mut self) {
        let mut record = [0; 64];
        let length = self.sealer.seal_close_notify(&mut record).unwrap();
        self.outgoing.extend(&record[..length]);
    }

    pub(crate) fn fail(&mut self, description: u8) {
        let mut record = [0; 64];
        let length = self.sealer.seal_alert(AlertLevel::Fatal, description, &mut record).unwrap();
        self.outgoing.extend(&record[..length]);
    }
}

impl<D> Ours<D>
where
    Self: Tickets,
{
    pub(crate) fn run(&mut self) -> Result<(), RecordError> {
        let mut out = vec![0; RECORD_MAX];
        while !self.peer_closed {
            // Where the keys allow it, every other time within the buffer.
            let is_within = self.opener.opens_in_place() && self.received.len().is_multiple_of(2);
            let opened = match is_within {
                true => self.opener.open_within(&mut self.incoming, 0, 0, now()),
                false => self.opener.open(&self.incoming, &mut out, now()),
            };
            match opened? {
                Opened::NeedMore { .. } => break,
                Opened::NeedRoom { at_least } => panic!("{at_least} bytes of room for a record"),
                Opened::Data { consumed, len } => {
                    let data = if is_within { &self.incoming } else { &out };
                    self.received.extend(&data[..len]);
                    self.incoming.drain(..consumed);
                }
                Opened::Event { consumed, event } => {
                    self.incoming.drain(..consumed);
                    self.act(event);
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::CloseNotify => self.peer_closed = true,
            Event::FatalAlert { description } => panic!("alert {description}"),
            Event::KeyUpdate { request } => {
                let (_, secrets) = self.kernel.update_rx_secret().unwrap();
                self.opener.rekey(keys(&secrets));
                if request == KeyUpdateRequest::Requested {
                    self.update_keys(KeyUpdateRequest::NotRequested);
                }
            }
            Event::Ticket => {
                let body = self.opener.take_ticket().unwrap();
                self.keep(&body);
                self.tickets += 1;
            }
        }
    }
}

impl Tickets for Ours<ClientConnectionData> {
    fn keep(&mut self, body: &[u8]) {
        self.kernel.handle_new_session_ticket(body).unwrap();
    }
}

impl Tickets for Ours<ServerConnectionData> {
    fn keep(&mut self, body: &[u8]) {
        panic!("a client sent a ticket of {} bytes", body.len());
    }
}

pub(crate) fn keys(secrets: &ConnectionTrafficSecrets) -> TrafficKeys {
    let (aead, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Aead::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Aead::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Aead::Chacha20Poly1305, key, iv),
        _ => panic!("an AEAD that we do not know"),
    };
    TrafficKeys::new(aead, key.as_ref(), iv.as_ref().try_into().unwrap()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests need some instant to count from")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
