//! What a worker tells a handshake of the hello that it has peeked at.

use portcullis::core::client_hello::ClientHello;
use portcullis::tls::{HelloFacts, OfferedGroups};

pub fn facts<'a>(hello: &ClientHello<'a>) -> HelloFacts<'a> {
    HelloFacts {
        sni: hello.server_name(),
        prefers_chacha20: hello.prefers_chacha20(),
        newest: hello.newest(),
        takes_raw_keys_only: hello.takes_raw_keys_only(),
        record_limit: hello.record_limit(),
        groups: OfferedGroups::of(hello),
    }
}
