//! The peek at three hellos: a classic one, a post-quantum one, and that one split over records.

use std::hint::black_box;

use portcullis::core::client_hello::{HelloBuffer, Peek, peek};
use portcullis::core::server_name::{ServerName, normalise_into};

use crate::Case;

const CLASSIC: &[u8] = include_bytes!("../../tests/hellos/go.bin");
const POST_QUANTUM: &[u8] = include_bytes!("../../tests/hellos/chromium.bin");

pub fn cases() -> Vec<Case> {
    let split = records(POST_QUANTUM, 256);
    let wires = [
        ("classic", CLASSIC.to_vec()),
        ("post_quantum", POST_QUANTUM.to_vec()),
        ("post_quantum_split", split),
    ];
    let whole = wires.map(|(name, wire)| {
        let mut joined = HelloBuffer::new();
        assert!(matches!(peek(&wire, &mut joined), Peek::Hello(_)), "{name}");
        let bytes = wire.len();
        let look = move || match peek(black_box(&wire), &mut joined) {
            Peek::Hello(hello) => hello.server_name().map(str::len),
            Peek::NeedMore { .. } | Peek::Reject(_) => None,
        };
        Case::new(format!("hello/{name}"), look).bytes(bytes)
    });
    let others = [("unfinished", &CLASSIC[..100]), ("not_tls", b"GET / HTTP/1.1\r\n")];
    let others = others.map(|(name, input)| {
        let mut joined = HelloBuffer::new();
        let look = move || matches!(peek(black_box(input), &mut joined), Peek::Hello(_));
        Case::new(format!("hello/{name}"), look)
    });
    let name = b"Tenant-4711.Region-Eu.Orders.Example.Com";
    let mut out = [0; 255];
    let names = [
        Case::new("server_name/normalise", move || {
            normalise_into(black_box(name), &mut out).map(str::len)
        }),
        Case::new("server_name/parse", move || ServerName::parse(black_box(name))),
    ];
    whole.into_iter().chain(others).chain(names).collect()
}

/// The message of a hello that came in one record, cut into records of `size` bytes.
fn records(wire: &[u8], size: u16) -> Vec<u8> {
    let message = &wire[5..];
    let parts = message.chunks(usize::from(size));
    let header = |part: &[u8]| {
        let [high, low] = u16::try_from(part.len()).unwrap_or(size).to_be_bytes();
        [22, 3, 1, high, low]
    };
    parts.flat_map(|part| [&header(part)[..], part].concat()).collect()
}
