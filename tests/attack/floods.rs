//! Many clients that cost little and want much: an honest one must not notice.

use std::io::{Read, Write};
use std::time::Duration;

use portcullis_kit::{PATIENCE, PlainEcho, connect_plain, connect_tls, eventually, monotonic_now};

use super::hello::{Hello, PRE_SHARED_KEY};
use super::support::{Keys, NAME, Pki, crowd, echo, until_closed};

/// A handshake that was waited for a second gives its place to who comes: before that, none does.
const PLACES_HELD: Duration = Duration::from_millis(900);

/// A round trip beside an attack, in a debug build on a busy machine.
const NOTICEABLE: Duration = Duration::from_secs(2);

// threat 1
#[test]
fn slow_hellos_take_neither_memory_nor_the_places_of_handshakes() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let keys = Keys {
        tables: "[limits]\nhandshakes_in_flight = 16",
        listener: "timeouts = { hello = \"60s\", handshake = \"60s\" }",
        ..Keys::default()
    };
    let gateway = pki.gateway(upstream.address(), keys);
    let mut session = pki.session(&gateway);
    let before = gateway.resident();
    let hello = Hello::recorded().wire();
    let mut slow = crowd(gateway.addr("edge"), 500);
    eventually(PATIENCE, "the crowd", || {
        (gateway.metrics().sum("portcullis_connections_open", &[]) == 501).then_some(())
    });
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 500 * 12 * 1024 + ALLOCATOR_STEP, "{grown} bytes for 500 silent clients");
    for byte in &hello[..20] {
        for socket in &mut slow {
            socket.write_all(&[*byte]).unwrap();
        }
        let began = monotonic_now();
        echo(&mut session);
        assert!(began.elapsed() < NOTICEABLE, "{:?}", began.elapsed());
    }
    let began = monotonic_now();
    echo(&mut pki.session(&gateway));
    assert!(began.elapsed() < NOTICEABLE, "{:?}", began.elapsed());
    assert_eq!(gateway.metrics().sum("portcullis_handshakes_in_flight", &[]), 0);
    drop((session, slow));
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("handshake_limit"), 0);
    assert_eq!(metrics.refusals("hello_truncated"), 500);
}

// threat 9
#[test]
fn stalled_handshakes_are_bounded_and_those_beyond_are_closed_at_once() {
    let pki = Pki::new();
    // Where a busy machine has not closed them in time all is played again.
    let is_in_time = (0..5).any(|_| those_beyond_are_closed_at_once(&pki));
    assert!(is_in_time, "those beyond are not closed within {PLACES_HELD:?}");
}

/// `false`: it took so long that a handshake may have given up its place.
fn those_beyond_are_closed_at_once(pki: &Pki) -> bool {
    let upstream = PlainEcho::start();
    let keys = Keys {
        tables: "[limits]\nhandshakes_in_flight = 4",
        listener: "timeouts = { hello = \"3s\", handshake = \"3s\" }",
        ..Keys::default()
    };
    let gateway = pki.gateway(upstream.address(), keys);
    let mut session = pki.session(&gateway);
    let hello = Hello::recorded().without(PRE_SHARED_KEY).wire();
    let began = monotonic_now();
    let mut stalled = crowd(gateway.addr("edge"), 4);
    for socket in &mut stalled {
        socket.write_all(&hello).unwrap();
        socket.read_exact(&mut [0; 5]).unwrap();
    }
    for _ in 0..20 {
        let mut beyond = connect_plain(gateway.addr("edge")).unwrap();
        beyond.write_all(&hello).unwrap();
        let answer = until_closed(&beyond);
        if began.elapsed() > PLACES_HELD {
            return false;
        }
        assert_eq!(answer, b"");
    }
    echo(&mut session);
    // Their deadline gives the places back.
    stalled.iter().for_each(|socket| drop(until_closed(socket)));
    let again = connect_tls(gateway.addr("edge"), NAME, &pki.alice());
    echo(&mut again.unwrap());
    drop((session, stalled));
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("handshake_limit"), 20);
    assert_eq!(metrics.refusals("handshake_timeout"), 4);
    assert_eq!(upstream.counts().bytes, 2 + 1, "nothing of who was not let in");
    true
}

// threat 31
#[test]
fn connections_beyond_the_limit_hold_nothing() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let keys = Keys { tables: "[limits]\nconnections = 2", ..Keys::default() };
    let gateway = pki.gateway(upstream.address(), keys);
    let mut session = pki.session(&gateway);
    let other = pki.session(&gateway);
    for socket in crowd(gateway.addr("edge"), 100) {
        assert_eq!(until_closed(&socket), b"");
    }
    // Who was turned away does not stand in the way of who comes when there is room.
    drop(other);
    eventually(PATIENCE, "a place", || {
        (gateway.metrics().sum("portcullis_connections_open", &[]) == 1).then_some(())
    });
    echo(&mut pki.session(&gateway));
    echo(&mut session);
    drop(session);
    assert_eq!(gateway.settled().refusals("connection_limit"), 100);
}

// threat 3
#[test]
fn claims_of_64_kib_cost_no_memory() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let mut session = pki.session(&gateway);
    let before = gateway.resident();
    let claims: [&[u8]; 3] = [
        // A record that claims 64 KiB, a hello that does, a hello of 16 MiB in a good record.
        &[22, 3, 1, 255, 255],
        &[22, 3, 1, 64, 0, 1, 0, 255, 255],
        &[22, 3, 1, 64, 0, 1, 255, 255, 255],
    ];
    let mut sockets = crowd(gateway.addr("edge"), 300);
    for (socket, claim) in sockets.iter_mut().zip(claims.iter().cycle()) {
        socket.write_all(claim).unwrap();
    }
    for socket in &sockets {
        assert_eq!(until_closed(socket)[..5], [21, 3, 3, 0, 2], "an alert");
    }
    let grown = gateway.resident().saturating_sub(before);
    // Believed, the smallest claims alone would take 300 × 64 KiB.
    assert!(grown < 300 * 32 * 1024, "{grown} bytes for 300 claims");
    echo(&mut session);
    drop((session, sockets));
    gateway.settled();
}

// threat 42
#[test]
fn a_noisy_neighbour_is_not_heard() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let mut session = pki.session(&gateway);
    let address = gateway.addr("raw");
    // Four flows that never pause, on the same worker.
    let noise: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut socket = connect_plain(address).unwrap();
                let mut reader = socket.try_clone().unwrap();
                let back = std::thread::spawn(move || {
                    std::io::copy(&mut reader, &mut std::io::sink()).unwrap()
                });
                let block = vec![7; 256 * 1024];
                for _ in 0..200 {
                    socket.write_all(&block).unwrap();
                }
                socket.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(back.join().unwrap(), 200 * 256 * 1024);
            })
        })
        .collect();
    let mut trips = 0;
    while noise.iter().any(|thread| !thread.is_finished()) {
        let began = monotonic_now();
        echo(&mut session);
        assert!(began.elapsed() < NOTICEABLE, "{:?}", began.elapsed());
        trips += 1;
    }
    assert!(trips > 0, "the noise was over before a byte came back");
    noise.into_iter().for_each(|thread| thread.join().unwrap());
    drop(session);
    gateway.settled();
}

/// The allocator takes memory from the system in pieces of 4 MiB, whatever the last byte was for.
const ALLOCATOR_STEP: u64 = 4 * 1024 * 1024;
