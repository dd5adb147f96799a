//! Any bytes as the start of a connection: an answer stays an answer whatever comes later, a header
//! ends where it says, and what it says of a client is read again as it is written by us.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::core::proxy_protocol::{
    Addresses, Fields, Header, Origin, Read, read, version_1, version_2,
};

fuzz_target!(|data: &[u8]| {
    let answer = read(data);
    let shorter = &data[..data.len() / 2];
    match read(shorter) {
        Read::NeedMore => {}
        early => assert_eq!(early, answer),
    }
    let Read::Header(Header { bytes, origin }) = answer else { return };
    assert!(bytes <= data.len());
    assert_eq!(read(&data[..bytes]), answer);
    assert_eq!(read(&data[..bytes - 1]), Read::NeedMore);
    let Origin::Client { source, destination } = origin else { return };
    let addresses = Addresses { source, destination };
    let fields = Fields { alpn: Some(&data[bytes..]), crc32c: true, ..Fields::default() };
    let canonical = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
    for header in [version_1(addresses), version_2(addresses, &fields)] {
        match read(&header) {
            Read::Header(Header {
                bytes,
                origin: Origin::Client { source: from, destination: to },
            }) => {
                assert_eq!(bytes, header.len());
                assert_eq!(canonical(from), canonical(source));
                assert_eq!(canonical(to), canonical(destination));
            }
            // Our own field may be longer than what we take from others.
            other => assert!(header.len() > 4096, "{other:?}"),
        }
    }
});
