//! Any bytes as a session ticket: only what was sealed here opens, in its own scope and unaltered, and
//! says what it said; everything else is no ticket, and nothing falls over it.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use portcullis::tls::ticketer::{ScopeBuilder, TicketPolicy, Ticketer};
use portcullis::tls::{Standing, StekKeys};

// The first byte says what is shown: the bytes as they are, or behind the head of a ticket of ours, so that they
// are decrypted; or a ticket with the bytes in it, cut or altered where the second and third byte say.
fuzz_target!(|data: &[u8]| {
    let Some((&[kind, high, low], bytes)) = data.split_first_chunk() else { return };
    let (ours, others) = &*TICKETERS;
    let ticket = ours.seal(&Standing::anonymous(NOW), bytes);
    let at = usize::from(u16::from_be_bytes([high, low]));
    match (kind % 4, ticket) {
        (0, _) => assert!(ours.open(bytes).is_none()),
        (1, Some(ticket)) => {
            let forged = [&ticket[..HEAD], bytes].concat();
            assert!(ours.open(&forged).is_none());
        }
        (2, Some(ticket)) => {
            assert!(ours.open(&ticket[..at % ticket.len()]).is_none());
            let mut altered = ticket;
            let at = at % altered.len();
            altered[at] ^= (kind >> 2).max(1);
            assert!(ours.open(&altered).is_none());
        }
        (_, Some(ticket)) => {
            let (standing, state) = ours.open(&ticket).expect("it is ours");
            assert_eq!((standing, &*state), (Standing::anonymous(NOW), bytes));
            assert!(others.open(&ticket).is_none(), "another scope");
        }
        (_, None) => assert!(bytes.len() > HELLO_ROOM, "{} bytes find no room", bytes.len()),
    }
});

/// Two of the same keys, for two scopes.
static TICKETERS: LazyLock<(Ticketer, Ticketer)> = LazyLock::new(|| {
    let hour = Duration::from_secs(3600);
    let keys = Arc::new(StekKeys::random(hour, hour, NOW).unwrap());
    let of = |scope: &[u8]| {
        let scope = ScopeBuilder::default().part(scope).finish();
        let policy = TicketPolicy { lifetime: 3600, generation: 1, anonymous: true };
        Ticketer::new(Arc::clone(&keys), scope, None, policy, || NOW)
    };
    (of(b"one"), of(b"another"))
});

const NOW: u64 = 1_800_000_000;
/// The format, the key's id and a nonce.
const HEAD: usize = 1 + 16 + 12;
/// What always fits beside the rest of a hello.
const HELLO_ROOM: usize = 11 * 1024;
