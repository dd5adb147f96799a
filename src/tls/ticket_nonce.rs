//! The nonces of session tickets (RFC 8446 §4.6.1), of 8 bytes where rustls makes 32: wolfSSL as it is built by default
//! takes none that are longer, and ends the session at the first ticket
//! ([ADR 20](../../docs/adr/0020-short-ticket-nonces.md)).
//!
//! rustls has no setting for them. A nonce is used twice: for the ticket's key, which `key_schedule` derives, and in
//! the message that carries the ticket, which the suite seals. Both ask here, within one call into rustls, and the
//! handshake's context remembers for the second what the first did. Clients' tickets only, and the first of each
//! handshake.

use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error};

use super::handshake_context;

/// Where the first nonce of a handshake is.
#[derive(Debug, Default)]
pub(super) enum TicketNonce {
    #[default]
    None,
    /// A key was derived by its first bytes; the message that says so is yet to be sealed.
    Derived([u8; MADE as usize]),
    Sent,
}

/// Of rustls.
const MADE: u8 = 32;
/// Of ours: as many as OpenSSL's. It has to be another one for each ticket of a session, and is random.
const KEPT: u8 = 8;

/// The parts of an HkdfLabel (RFC 8446 §7.1) as rustls puts them together, with the nonce cut, where `parts` are those
/// of a ticket's key and the ticket is a client's first.
pub(super) fn cut_label<'a>(parts: &[&'a [u8]]) -> Option<[&'a [u8]; 6]> {
    let [length, label_length, prefix, label @ b"resumption", [MADE], nonce] = *parts else {
        return None;
    };
    let whole: [u8; MADE as usize] = nonce.try_into().ok()?;
    let is_first = handshake_context::with(|context| {
        let is_client = context.newest.is_some();
        let is_first = is_client && matches!(context.ticket_nonce, TicketNonce::None);
        if is_first {
            context.ticket_nonce = TicketNonce::Derived(whole);
        }
        is_first
    });
    let cut = [length, label_length, prefix, label, &[KEPT], &nonce[..KEPT.into()]];
    is_first.filter(|is_first| *is_first).map(|_| cut)
}

/// A cipher whose encrypters send the nonce by which the key was derived.
pub(super) struct Sealing(pub &'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Sealing {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Encrypter(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Encrypter(Box<dyn MessageEncrypter>);

impl MessageEncrypter for Encrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let Some(cut) = cut_message(&message) else { return self.0.encrypt(message, sequence) };
        let payload = OutboundChunks::Single(&cut);
        self.0.encrypt(OutboundPlainMessage { payload, ..message }, sequence)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}

/// The handshake's first ticket with its nonce cut, and what is behind it; `None` of all else.
fn cut_message(message: &OutboundPlainMessage<'_>) -> Option<Vec<u8>> {
    if message.typ != ContentType::Handshake {
        return None;
    }
    handshake_context::with(|context| {
        let TicketNonce::Derived(nonce) = &context.ticket_nonce else { return None };
        let cut = cut_ticket(message.payload.to_vec(), nonce)?;
        context.ticket_nonce = TicketNonce::Sent;
        Some(cut)
    })?
}

/// `flight` without the end of the nonce in the NewSessionTicket that it begins with; `None` where it begins otherwise,
/// or that has another nonce.
fn cut_ticket(mut flight: Vec<u8>, nonce: &[u8; MADE as usize]) -> Option<Vec<u8>> {
    let [NEW_SESSION_TICKET, length @ ..] = flight.first_chunk_mut::<4>()? else { return None };
    let cut =
        u32::from_be_bytes([0, length[0], length[1], length[2]]).checked_sub(u32::from(CUT))?;
    length.copy_from_slice(&cut.to_be_bytes()[1..]);
    let (made, rest) = flight.get_mut(NONCE_AT..)?.split_first_mut()?;
    if *made != MADE || !rest.starts_with(nonce) {
        return None;
    }
    *made = KEPT;
    let nonce_ends = NONCE_AT + 1 + usize::from(MADE);
    flight.drain(nonce_ends - usize::from(CUT)..nonce_ends);
    Some(flight)
}

const CUT: u8 = MADE - KEPT;
/// Its type in front of a handshake message.
const NEW_SESSION_TICKET: u8 = 4;
/// Behind type, length, ticket_lifetime and ticket_age_add stands the nonce with its length.
const NONCE_AT: usize = 4 + 4 + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::client_hello::Newest;
    use crate::tls::handshake_context::{HandshakeContext, enter};

    const NONCE: [u8; MADE as usize] = [9; MADE as usize];

    fn count(bytes: &[u8]) -> u8 {
        bytes.len().try_into().unwrap()
    }

    fn ticket(nonce: &[u8], rest: &[u8]) -> Vec<u8> {
        let body = [&[0; 8][..], &[count(nonce)], nonce, rest].concat();
        [&[4, 0, 0, count(&body)][..], &body].concat()
    }

    fn of_a_client() -> HandshakeContext {
        HandshakeContext { newest: Some(Newest::Tls13), ..HandshakeContext::default() }
    }

    fn label<'a>(label: &'a [u8], nonce: &'a [u8]) -> [&'a [u8]; 6] {
        [&[0, 32], &[16], b"tls13 ", label, &[32], nonce]
    }

    #[test]
    fn the_first_nonce_of_a_client_is_cut_in_the_key_and_no_other() {
        let (first, second) =
            (label(b"resumption", &NONCE), label(b"resumption", &[8; MADE as usize]));
        let cut = |parts: &[&[u8]]| cut_label(parts).map(|cut| cut.concat());
        assert_eq!(cut(&first), None, "outside a handshake");
        enter(&mut HandshakeContext::default(), || {
            assert_eq!(cut(&first), None, "an upstream's ticket");
        });
        enter(&mut of_a_client(), || {
            assert_eq!(cut(&label(b"finished", &NONCE)), None);
            assert_eq!(cut(&label(b"resumption", &NONCE[1..])), None);
            let expected = [&[0, 32, 16][..], b"tls13 resumption", &[8], &NONCE[..8]].concat();
            assert_eq!(cut(&first), Some(expected));
            assert_eq!(cut(&second), None);
        });
    }

    #[test]
    fn the_message_is_cut_where_the_key_was() {
        let flight = [ticket(&NONCE, b"sealed"), ticket(&[8; MADE as usize], b"another")].concat();
        let expected =
            [ticket(&NONCE[..8], b"sealed"), ticket(&[8; MADE as usize], b"another")].concat();
        assert_eq!(cut_ticket(flight, &NONCE), Some(expected));
        for other in
            [ticket(&[8; MADE as usize], b""), ticket(&NONCE[1..], b""), vec![20, 0, 0, 0], vec![]]
        {
            assert_eq!(cut_ticket(other.clone(), &NONCE), None, "{other:?}");
        }
        let whole = ticket(&NONCE, b"");
        for end in 0..whole.len() {
            assert_eq!(cut_ticket(whole[..end].to_vec(), &NONCE), None, "{end}");
        }
    }

    #[test]
    fn a_message_is_cut_once_and_only_behind_its_key() {
        let flight = ticket(&NONCE, b"sealed");
        let sent = |typ| {
            let payload = OutboundChunks::Single(&flight);
            let version = rustls::ProtocolVersion::TLSv1_3;
            cut_message(&OutboundPlainMessage { typ, version, payload })
        };
        assert_eq!(sent(ContentType::Handshake), None, "outside a handshake");
        enter(&mut of_a_client(), || {
            assert_eq!(sent(ContentType::Handshake), None);
            assert!(cut_label(&label(b"resumption", &NONCE)).is_some());
            assert_eq!(sent(ContentType::ApplicationData), None);
            assert_eq!(sent(ContentType::Handshake), Some(ticket(&NONCE[..8], b"sealed")));
            assert_eq!(sent(ContentType::Handshake), None);
        });
    }
}
