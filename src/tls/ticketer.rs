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
        let ring = self.keys.ring();
        let stek = ring.current()?;
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
        let ring = self.keys.ring();
        let stek = ring.find(id)?;
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
