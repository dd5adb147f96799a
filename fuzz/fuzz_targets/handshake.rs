//! Any bytes from a client in the clear, in any pieces: a handshake goes on, or is refused with a reason and
//! with the alert that it names; nothing is eaten that was not there, and no stranger gets through.
//!
//! The first hello may be one whose keys do not fit, so that a second one is asked for.

#![no_main]

mod facts;
mod site;
mod step;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use portcullis::core::client_hello::{HelloBuffer, Peek, peek};
use portcullis::core::route::ChainId;
use portcullis::tls::DownstreamTerms;
use portcullis_kit::Authority;

use crate::facts::facts;
use crate::site::material;
use crate::step::goes_on;

// The first byte chooses the terms and whether the first hello comes whole, the second is the size of pieces.
fuzz_target!(|data: &[u8]| {
    let Some((&[kind, size], bytes)) = data.split_first_chunk() else { return };
    let mut joined = HelloBuffer::new();
    let Peek::Hello(hello) = peek(bytes, &mut joined) else { return };
    let facts = facts(&hello);
    let mut server = SITE.terms[usize::from(kind) % SITE.terms.len()].start(facts);
    // There is no directory of certificates to wait for.
    let ready = pin!(server.certificate()).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(ready, Poll::Ready(()));

    // The peek has seen all of the hello before there is a handshake.
    let (hello, rest) = bytes.split_at(hello.wire_len());
    let mut held = Vec::new();
    for piece in std::iter::once(hello).chain(rest.chunks(usize::from(size).max(1) * 8)) {
        held.extend_from_slice(piece);
        let mut out = Vec::new();
        let advance = server.advance(&mut held, &mut out);
        if !goes_on(advance, &mut held, &out) {
            return;
        }
    }
});

struct Site {
    _authority: Authority,
    terms: Vec<Arc<DownstreamTerms>>,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let authority = Authority::new("Servers");
    let server = authority.server(&["server.test"]);
    let (chain, key) = (server.chain_path.display(), server.key_path.display());
    let certificates = format!("certificates = [{{ chain = \"{chain}\", key = \"{key}\" }}]");
    // What is asked again for P-384, and what is not.
    let terms = ["", "groups = [\"secp384r1\"]", "versions = [\"1.2\"]"].map(|crypto| {
        let text = format!(
            r#"
[listener.edge]
address = "127.0.0.1:0"
[listener.edge.chain.default]
tls = "edge"
cluster = "db"
[tls.downstream.edge]
{certificates}
client_auth = "none"
{crypto}
[cluster.db]
endpoints = ["127.0.0.1:1"]
"#
        );
        let material = material(&text);
        Arc::clone(material.downstream(0, ChainId(0)).unwrap())
    });
    Site { _authority: authority, terms: terms.into() }
});
