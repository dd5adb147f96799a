//! Session tickets, sealed for a client with leaf and intermediate and opened again: what each
//! resumption costs beside its handshake.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use portcullis::tls::StekKeys;
use portcullis::tls::ticketer::{ScopeBuilder, TicketPolicy, Ticketer};

use crate::Case;
use crate::tls::{Edge, now};

pub fn cases() -> Vec<Case> {
    let standing = Edge::new(0).client().standing.expect("the client was verified");
    let seal = {
        let (ticketer, standing) = (ticketer(), standing.clone());
        move || ticketer.seal(black_box(&standing), black_box(&STATE))
    };
    let ticketer = ticketer();
    let ticket = ticketer.seal(&standing, &STATE).expect("a ticket");
    assert!(ticketer.open(&ticket).is_some(), "our own ticket");
    let mut foreign = ticket.clone();
    foreign[1] ^= 1;
    assert!(ticketer.open(&foreign).is_none(), "no key of ours");
    let stranger = self::ticketer();
    vec![
        Case::new("ticket/seal", seal),
        Case::new("ticket/open", move || ticketer.open(black_box(&ticket))),
        Case::new("ticket/open_foreign", move || stranger.open(black_box(&foreign))),
    ]
}

fn ticketer() -> Ticketer {
    let hour = Duration::from_secs(3_600);
    let keys = StekKeys::random(hour, 12 * hour, now()).expect("ticket keys");
    let scope = ScopeBuilder::default().part(b"a chain and its terms").finish();
    let policy = TicketPolicy { lifetime: 3_600, generation: 1, anonymous: false };
    Ticketer::new(Arc::new(keys), scope, None, policy, now)
}

/// About as long as what rustls keeps of such a client: its chain is in it.
const STATE: [u8; 1_200] = [7; 1_200];
