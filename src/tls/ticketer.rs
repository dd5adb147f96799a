//! Session tickets that are good in one scope only and never outlive what they stand for.
//!
//! A ticket is `version | key id | nonce | AES-256-GCM(standing, generation, rustls' state)`. The scope
//! (chain, terms, client authentication, rules of trust and filters, ALPN) is associated data, so a
//! ticket of another chain, or from before a rule changed, does not decrypt and the handshake is a full
//! one (threat 20). Anchors, revocation lists and times are looked up at each resumption; what does not
//! hold there is a full handshake too, which then says why. Keys come from `stek`.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use rustls::server::ProducesTickets;

use super::UnixClock;
use super::handshake_context;
use super::identity::sha256;
use super::standing::{AnchorKey, CertificateKey, Standing, Verified};
use super::stek::{KEY_ID_BYTES, StekKeys};
use super::trust::TrustStore;
use crate::core::client_hello::HELLO_BYTES_MAX;

/// Seals and opens the tickets of one scope.
pub struct Ticketer {
    keys: Arc<StekKeys>,
    scope: Scope,
    /// Whom clients are measured by; `None` where nobody is asked for a certificate.
    trust: Option<Arc<TrustStore>>,
    /// Seconds since the last full authentication.
    lifetime: u32,
    generation: u64,
    /// Clients need not authenticate: without a verified certificate the ticket is an anonymous one.
    anonymous: bool,
    clock: UnixClock,
}

/// What a ticket is good for, as a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope([u8; 32]);

/// Builds a scope out of parts; each is length-prefixed, so no two lists of parts are the same bytes.
#[derive(Debug, Default)]
pub struct ScopeBuilder(Vec<u8>);

/// How a `Ticketer` is to work.
#[derive(Debug, Clone, Copy)]
pub struct TicketPolicy {
    pub lifetime: u32,
    pub generation: u64,
    pub anonymous: bool,
}

impl ScopeBuilder {
    pub fn part(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn finish(self) -> Scope {
        Scope(sha256(&self.0))
    }
}

impl Ticketer {
    pub fn new(
        keys: Arc<StekKeys>,
        scope: Scope,
        trust: Option<Arc<TrustStore>>,
        policy: TicketPolicy,
        clock: UnixClock,
    ) -> Self {
        let TicketPolicy { lifetime, generation, anonymous } = policy;
        Self { keys, scope, trust, lifetime, generation, anonymous, clock }
    }

    /// Whose ticket this is: what the verifier found, or what the ticket said that is being renewed.
    /// Nobody's where a trust that only audits let the client in: each time is to be counted.
    fn standing(&self) -> Option<Standing> {
        let (known, is_audited) = handshake_context::with(|context| {
            let known = context.verified.as_ref().or(context.ticket.as_ref()).cloned();
            (known, context.audit.is_some())
        })?;
        if is_audited {
            return None;
        }
        known.or_else(|| self.anonymous.then(|| Standing::anonymous((self.clock)())))
    }

    /// A ticket for whoever `standing` is, with rustls' `state`; `None` where it would be too long.
    pub fn seal(&self, standing: &Standing, state: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.keys();
        let stek = keys.current()?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let claims = CLAIMS + CLAIMS_A_CERTIFICATE * standing.verified.path.len();
        let bytes = PREFIX + claims + state.len() + TAG;
        if bytes > TICKET_BYTES_MAX {
            return None;
        }
        let mut ticket = Vec::with_capacity(bytes);
        ticket.push(FORMAT);
        ticket.extend_from_slice(&stek.id);
        ticket.extend_from_slice(&nonce);
        write_claims(&mut ticket, standing, self.generation)?;
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

    /// Whose ticket this is, and rustls' state; `None` for one that is not of this scope and these keys.
    pub fn open(&self, ticket: &[u8]) -> Option<(Standing, Vec<u8>)> {
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
        let (standing, state) = read_claims(opened)?;
        let state = state.to_vec();
        Some((standing, state))
    }

    /// Whether the client that this ticket stands for would be let in now. A clock that was set back
    /// does not make a ticket older than it is, nor invalid.
    fn holds(&self, standing: &Standing) -> bool {
        let now = (self.clock)();
        now.saturating_sub(standing.at) <= u64::from(self.lifetime)
            && now <= standing.verified.until
            && match &self.trust {
                Some(trust) => trust.holds(standing, now),
                None => standing.verified.is_anonymous(),
            }
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
        self.seal(&self.standing()?, plain)
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
        let (standing, state) = self.open(cipher)?;
        if !self.holds(&standing) {
            return None;
        }
        handshake_context::with(|context| context.ticket = Some(standing));
        Some(state)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// `None` for a path that is longer than webpki follows.
fn write_claims(out: &mut Vec<u8>, standing: &Standing, generation: u64) -> Option<()> {
    let Standing { at, verified } = standing;
    let Verified { from, until, identity, anchor, path } = &**verified;
    out.extend_from_slice(&at.to_be_bytes());
    out.extend_from_slice(&from.to_be_bytes());
    out.extend_from_slice(&until.to_be_bytes());
    out.extend_from_slice(&generation.to_be_bytes());
    out.extend_from_slice(identity);
    out.extend_from_slice(&anchor.0);
    out.push(u8::try_from(path.len()).ok()?);
    for certificate in path {
        out.extend_from_slice(&certificate.issuer.to_be_bytes());
        out.extend_from_slice(&certificate.serial.to_be_bytes());
    }
    Some(())
}

fn read_claims(plain: &[u8]) -> Option<(Standing, &[u8])> {
    let (&at, rest) = plain.split_first_chunk()?;
    let (&from, rest) = rest.split_first_chunk()?;
    let (&until, rest) = rest.split_first_chunk()?;
    let (_generation, rest) = rest.split_first_chunk::<8>()?;
    let (&identity, rest) = rest.split_first_chunk()?;
    let (&anchor, rest) = rest.split_first_chunk()?;
    let (&count, mut rest) = rest.split_first()?;
    let mut path = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (&issuer, after) = rest.split_first_chunk()?;
        let (&serial, after) = after.split_first_chunk()?;
        let (issuer, serial) = (u64::from_be_bytes(issuer), u128::from_be_bytes(serial));
        path.push(CertificateKey { issuer, serial });
        rest = after;
    }
    let verified = Verified {
        from: u64::from_be_bytes(from),
        until: u64::from_be_bytes(until),
        identity,
        anchor: AnchorKey(anchor),
        path: path.into(),
    };
    Some((Standing { at: u64::from_be_bytes(at), verified: Arc::new(verified) }, rest))
}

/// Changes whenever the layout does: an older ticket is then a foreign one.
const FORMAT: u8 = 2;
const PREFIX: usize = 1 + KEY_ID_BYTES + NONCE_LEN;
const CLAIMS: usize = 8 + 8 + 8 + 8 + 32 + 16 + 1;
const CLAIMS_A_CERTIFICATE: usize = 8 + 16;
const TAG: usize = 16;
/// The client's chain is in it, and the client sends it back in a hello: one that grew beyond its limit
/// would be refused. What else is in a hello is less than 4 KiB, with post-quantum shares of keys.
const TICKET_BYTES_MAX: usize = HELLO_BYTES_MAX - 4 * 1024;
const TICKETS_TRIED_MAX: u8 = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::tls::handshake_context::HandshakeContext;

    const NOW: u64 = 1_800_000_000;

    fn ticketer(keys: &Arc<StekKeys>, scope: &[u8]) -> Ticketer {
        let scope = ScopeBuilder::default().part(scope).finish();
        let policy = TicketPolicy { lifetime: 3600, generation: 1, anonymous: false };
        Ticketer::new(Arc::clone(keys), scope, None, policy, || NOW)
    }

    fn fresh_keys() -> Arc<StekKeys> {
        let hour = Duration::from_secs(3600);
        Arc::new(StekKeys::random(hour, hour, NOW).unwrap())
    }

    fn sealed(ticketer: &Ticketer, standing: Standing) -> Vec<u8> {
        let verified = Some(standing);
        let mut context = HandshakeContext { verified, ..HandshakeContext::default() };
        handshake_context::enter(&mut context, || ticketer.encrypt(b"state")).unwrap()
    }

    fn opened(ticketer: &Ticketer, ticket: &[u8]) -> Option<Vec<u8>> {
        let mut context = HandshakeContext::default();
        handshake_context::enter(&mut context, || ticketer.decrypt(ticket))
    }

    fn standing(at: u64, until: u64) -> Standing {
        let verified = Verified {
            from: 0,
            until,
            identity: [7; 32],
            anchor: AnchorKey([9; 16]),
            path: Box::default(),
        };
        Standing { at, verified: Arc::new(verified) }
    }

    #[test]
    fn claims_are_read_as_they_were_written() {
        let path = [(1, 2), (u64::MAX, u128::MAX)]
            .map(|(issuer, serial)| CertificateKey { issuer, serial });
        let verified = Verified {
            path: path.into(),
            ..Verified {
                path: Box::default(),
                from: 3,
                until: 4,
                identity: [5; 32],
                anchor: AnchorKey([6; 16]),
            }
        };
        let standing = Standing { at: 7, verified: Arc::new(verified) };
        let mut claims = Vec::new();
        write_claims(&mut claims, &standing, 8).unwrap();
        assert_eq!(claims.len(), CLAIMS + 2 * CLAIMS_A_CERTIFICATE);
        for cut in 0..claims.len() {
            assert!(read_claims(&claims[..cut]).is_none(), "{cut}");
        }
        claims.extend_from_slice(b"state");
        assert_eq!(read_claims(&claims), Some((standing, &b"state"[..])));
    }

    proptest! {
        /// Whoever holds the keys may seal what he likes: a build with another layout, for one.
        #[test]
        fn what_is_read_of_any_bytes_is_written_as_it_was(bytes in vec(any::<u8>(), 0..400)) {
            if let Some((standing, state)) = read_claims(&bytes) {
                let mut claims = Vec::new();
                let generation = u64::from_be_bytes(bytes[24..32].try_into().unwrap());
                write_claims(&mut claims, &standing, generation).unwrap();
                prop_assert_eq!([&claims, state].concat(), bytes);
            } else {
                let count = bytes.get(CLAIMS - 1).map_or(0, |count| usize::from(*count));
                prop_assert!(bytes.len() < CLAIMS + CLAIMS_A_CERTIFICATE * count);
            }
        }
    }

    #[test]
    fn ticket_opens_in_its_scope_and_tells_whose_it_is() {
        let keys = fresh_keys();
        let ticket = sealed(&ticketer(&keys, b"a"), standing(NOW, NOW + 100));
        let mut context = HandshakeContext::default();
        let another_worker = ticketer(&keys, b"a");
        let state = handshake_context::enter(&mut context, || another_worker.decrypt(&ticket));
        assert_eq!(state.as_deref(), Some(&b"state"[..]));
        assert_eq!(context.ticket, Some(standing(NOW, NOW + 100)));
    }

    // threat 20
    #[test]
    fn ticket_of_another_scope_or_other_keys_is_none() {
        let keys = fresh_keys();
        let ticket = sealed(&ticketer(&keys, b"a"), standing(NOW, NOW + 100));
        assert!(opened(&ticketer(&keys, b"b"), &ticket).is_none());
        assert!(opened(&ticketer(&fresh_keys(), b"a"), &ticket).is_none());
    }

    // threat 19
    #[test]
    fn ticket_that_is_cut_or_altered_anywhere_is_none() {
        let keys = fresh_keys();
        let ticketer = ticketer(&keys, b"a");
        let ticket = sealed(&ticketer, standing(NOW, NOW + 100));
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
            (standing(NOW - 3600, NOW + 100), true),
            (standing(NOW - 3601, NOW + 100), false),
            (standing(NOW, NOW), true),
            (standing(NOW, NOW - 1), false),
            // The clock was set back since (threat 38).
            (standing(NOW + 1000, NOW + 100), true),
        ];
        for (standing, lives) in cases {
            let ticket = sealed(&ticketer, standing.clone());
            assert_eq!(opened(&ticketer, &ticket).is_some(), lives, "{standing:?}");
        }
    }

    // threat 19
    #[test]
    fn only_so_many_tickets_are_tried_in_one_handshake() {
        let keys = fresh_keys();
        let ticketer = ticketer(&keys, b"a");
        let ticket = sealed(&ticketer, standing(NOW, NOW + 100));
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
