//! Session tickets that are good in one scope only and never outlive what they stand for.
//!
//! A ticket is `version | key id | nonce | AES-256-GCM(authentication, generation, rustls' state)`.
//! The scope (chain, terms, client authentication, anchors, ALPN) is associated data, so a ticket of
//! another chain does not decrypt and the handshake is a full one (threat 20). Keys come from `stek`.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use rustls::server::ProducesTickets;

use super::UnixClock;
use super::handshake_context::{self, Authentication};
use super::identity::sha256;
use super::stek::{KEY_ID_BYTES, StekKeys};

/// Seals and opens the tickets of one scope.
pub(super) struct Ticketer {
    keys: Arc<StekKeys>,
    scope: Scope,
    /// Seconds since the last full authentication.
    lifetime: u32,
    generation: u64,
    /// Clients need not authenticate: without a verified certificate the ticket is an anonymous one.
    anonymous: bool,
    clock: UnixClock,
}

/// What a ticket is good for, as a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope([u8; 32]);

/// Builds a scope out of parts; each is length-prefixed, so no two lists of parts are the same bytes.
#[derive(Debug, Default)]
pub(super) struct ScopeBuilder(Vec<u8>);

/// How a `Ticketer` is to work.
#[derive(Debug, Clone, Copy)]
pub(super) struct TicketPolicy {
    pub lifetime: u32,
    pub generation: u64,
    pub anonymous: bool,
}

impl ScopeBuilder {
    pub(super) fn part(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn finish(self) -> Scope {
        Scope(sha256(&self.0))
    }
}

impl Ticketer {
    pub(super) fn new(
        keys: Arc<StekKeys>,
        scope: Scope,
        policy: TicketPolicy,
        clock: UnixClock,
    ) -> Self {
        let TicketPolicy { lifetime, generation, anonymous } = policy;
        Self { keys, scope, lifetime, generation, anonymous, clock }
    }

    /// Whose ticket this is: what the verifier found, or what the ticket said that is being renewed.
    fn authentication(&self) -> Option<Authentication> {
        let known = handshake_context::with(|context| context.verified.or(context.ticket))?;
        known.or_else(|| self.anonymous.then(|| Authentication::anonymous((self.clock)())))
    }

    fn seal(&self, state: &[u8]) -> Option<Vec<u8>> {
        let authentication = self.authentication()?;
        let keys = self.keys.keys();
        let stek = keys.current()?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(PREFIX + CLAIMS + state.len() + TAG);
        ticket.push(FORMAT);
        ticket.extend_from_slice(&stek.id);
        ticket.extend_from_slice(&nonce);
        write_claims(&mut ticket, authentication, self.generation);
        ticket.extend_from_slice(state);
        let tag = stek
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.scope.0),
                &mut ticket[PREFIX..],
            )
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8]) -> Option<(Authentication, Vec<u8>)> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (&format, rest) = ticket.split_first()?;
        let (id, rest) = rest.split_at_checked(KEY_ID_BYTES)?;
        let (&nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        if format != FORMAT {
            return None;
        }
        let keys = self.keys.keys();
        let stek = keys.find(id)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = stek.key.open_in_place(nonce, Aad::from(self.scope.0), &mut plain).ok()?;
        let (authentication, state) = read_claims(opened)?;
        let state = state.to_vec();
        Some((authentication, state))
    }

    /// A clock that was set back does not make a ticket older than it is, nor invalid.
    fn is_live(&self, authentication: Authentication) -> bool {
        let now = (self.clock)();
        now.saturating_sub(authentication.at) <= u64::from(self.lifetime)
            && now <= authentication.not_after
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        // A hello may list a hundred identities; honest clients send one or two (threat 19).
        let may_try = handshake_context::with(|context| {
            context.ticket = None;
            context.tickets_tried = context.tickets_tried.saturating_add(1);
            context.tickets_tried <= TICKETS_TRIED_MAX
        });
        if may_try != Some(true) {
            return None;
        }
        let (authentication, state) = self.open(cipher)?;
        if !self.is_live(authentication) {
            return None;
        }
        handshake_context::with(|context| context.ticket = Some(authentication));
        Some(state)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").field("generation", &self.generation).finish_non_exhaustive()
    }
}

fn write_claims(out: &mut Vec<u8>, authentication: Authentication, generation: u64) {
    let Authentication { at, not_after, identity } = authentication;
    out.extend_from_slice(&at.to_be_bytes());
    out.extend_from_slice(&not_after.to_be_bytes());
    out.extend_from_slice(&generation.to_be_bytes());
    out.extend_from_slice(&identity);
}

fn read_claims(plain: &[u8]) -> Option<(Authentication, &[u8])> {
    let (&at, rest) = plain.split_first_chunk()?;
    let (&not_after, rest) = rest.split_first_chunk()?;
    let (_generation, rest) = rest.split_first_chunk::<8>()?;
    let (&identity, state) = rest.split_first_chunk()?;
    let (at, not_after) = (u64::from_be_bytes(at), u64::from_be_bytes(not_after));
    Some((Authentication { at, not_after, identity }, state))
}

/// Changes whenever the layout does: an older ticket is then a foreign one.
const FORMAT: u8 = 1;
const PREFIX: usize = 1 + KEY_ID_BYTES + NONCE_LEN;
const CLAIMS: usize = 8 + 8 + 8 + 32;
const TAG: usize = 16;
/// A client chain of 32 KiB and room for the rest of the state.
const TICKET_BYTES_MAX: usize = 40 * 1024;
const TICKETS_TRIED_MAX: u8 = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tls::handshake_context::HandshakeContext;

    const NOW: u64 = 1_800_000_000;

    fn ticketer(keys: &Arc<StekKeys>, scope: &[u8]) -> Ticketer {
        let scope = ScopeBuilder::default().part(scope).finish();
        let policy = TicketPolicy { lifetime: 3600, generation: 1, anonymous: false };
        Ticketer::new(Arc::clone(keys), scope, policy, || NOW)
    }

    fn fresh_keys() -> Arc<StekKeys> {
        let hour = Duration::from_secs(3600);
        Arc::new(StekKeys::random(hour, hour, NOW).unwrap())
    }

    fn sealed(ticketer: &Ticketer, authentication: Authentication) -> Vec<u8> {
        let verified = Some(authentication);
        let mut context = HandshakeContext { verified, ..HandshakeContext::default() };
        handshake_context::enter(&mut context, || ticketer.encrypt(b"state")).unwrap()
    }

    fn opened(ticketer: &Ticketer, ticket: &[u8]) -> Option<Vec<u8>> {
        let mut context = HandshakeContext::default();
        handshake_context::enter(&mut context, || ticketer.decrypt(ticket))
    }

    fn authentication() -> Authentication {
        Authentication { at: NOW, not_after: NOW + 100, identity: [7; 32] }
    }

    #[test]
    fn ticket_opens_in_its_scope_and_tells_whose_it_is() {
        let keys = fresh_keys();
        let ticket = sealed(&ticketer(&keys, b"a"), authentication());
        let mut context = HandshakeContext::default();
        let another_worker = ticketer(&keys, b"a");
        let state = handshake_context::enter(&mut context, || another_worker.decrypt(&ticket));
        assert_eq!(state.as_deref(), Some(&b"state"[..]));
        assert_eq!(context.ticket, Some(authentication()));
    }

    // threat 20
    #[test]
    fn ticket_of_another_scope_or_other_keys_is_none() {
        let keys = fresh_keys();
        let ticket = sealed(&ticketer(&keys, b"a"), authentication());
        assert!(opened(&ticketer(&keys, b"b"), &ticket).is_none());
        assert!(opened(&ticketer(&fresh_keys(), b"a"), &ticket).is_none());
    }

    // threat 19
    #[test]
    fn ticket_that_is_cut_or_altered_anywhere_is_none() {
        let keys = fresh_keys();
        let ticketer = ticketer(&keys, b"a");
        let ticket = sealed(&ticketer, authentication());
        for at in 0..ticket.len() {
            assert!(opened(&ticketer, &ticket[..at]).is_none(), "cut at {at}");
            let mut altered = ticket.clone();
            altered[at] ^= 1;
            assert!(opened(&ticketer, &altered).is_none(), "altered at {at}");
        }
        assert!(opened(&ticketer, &vec![1; TICKET_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn ticket_is_none_when_its_time_is_over() {
        let keys = fresh_keys();
        let ticketer = ticketer(&keys, b"a");
        let cases = [
            (Authentication { at: NOW - 3600, ..authentication() }, true),
            (Authentication { at: NOW - 3601, ..authentication() }, false),
            (Authentication { not_after: NOW, ..authentication() }, true),
            (Authentication { not_after: NOW - 1, ..authentication() }, false),
            // The clock was set back since (threat 38).
            (Authentication { at: NOW + 1000, ..authentication() }, true),
        ];
        for (authentication, lives) in cases {
            let ticket = sealed(&ticketer, authentication);
            assert_eq!(opened(&ticketer, &ticket).is_some(), lives, "{authentication:?}");
        }
    }

    // threat 19
    #[test]
    fn only_so_many_tickets_are_tried_in_one_handshake() {
        let keys = fresh_keys();
        let ticketer = ticketer(&keys, b"a");
        let ticket = sealed(&ticketer, authentication());
        let mut context = HandshakeContext::default();
        handshake_context::enter(&mut context, || {
            for _ in 0..TICKETS_TRIED_MAX {
                assert!(ticketer.decrypt(&ticket).is_some());
            }
            assert!(ticketer.decrypt(&ticket).is_none());
        });
        assert_eq!(context.ticket, None);
    }

    #[test]
    fn nobody_gets_a_ticket_without_having_been_authenticated() {
        let ticketer = ticketer(&fresh_keys(), b"a");
        let mut context = HandshakeContext::default();
        assert!(handshake_context::enter(&mut context, || ticketer.encrypt(b"state")).is_none());
        assert!(ticketer.encrypt(b"state").is_none());
    }
}
