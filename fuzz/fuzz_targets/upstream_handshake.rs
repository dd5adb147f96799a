//! Any bytes in the clear as an upstream's side of a handshake, in any pieces: it goes on, or is refused with a
//! reason and with the alert that it names, and no stranger is believed.
//!
//! In TLS 1.2 certificates are sent in the clear, so all that reads and judges them is reached.

#![no_main]

mod site;
mod step;

use libfuzzer_sys::fuzz_target;
use portcullis::config::plan::UpstreamTlsId;
use portcullis::tls::{Dialler, Outcome};
use portcullis_kit::Authority;

use crate::site::material;
use crate::step::goes_on;

thread_local! {
    static DIALLER: Dialler = dialler();
}

// The first byte is the size of the pieces.
fuzz_target!(|data: &[u8]| {
    let Some((&size, bytes)) = data.split_first() else { return };
    let mut client = DIALLER.with(|dialler| dialler.start("server.test").unwrap());
    let mut hello = Vec::new();
    assert!(matches!(client.advance(&mut [], &mut hello).outcome, Outcome::NeedMore));
    assert_eq!(hello[0], 22);

    let mut held = Vec::new();
    for piece in bytes.chunks(usize::from(size).max(1) * 16) {
        held.extend_from_slice(piece);
        let mut out = Vec::new();
        let advance = client.advance(&mut held, &mut out);
        if !goes_on(advance, &mut held, &out) {
            return;
        }
    }
});

fn dialler() -> Dialler {
    let authority = Authority::new("Servers");
    let text = format!(
        r#"
[listener.edge]
address = "127.0.0.1:0"
[listener.edge.chain.default]
cluster = "db"
[tls.upstream.db]
server_name = "server.test"
trust = "servers"
[trust.servers]
anchors = ["{}"]
[cluster.db]
endpoints = ["127.0.0.1:1"]
tls = "db"
"#,
        authority.ca_path().display()
    );
    let material = material(&text);
    material.upstream(UpstreamTlsId(0)).dialler()
}
