//! PROXY headers: read from a balancer, written for an upstream.

use std::hint::black_box;

use portcullis::core::proxy_protocol::{
    Addresses, Certificate, Fields, Read, Tls, read, version_1, version_2,
};

use crate::Case;

pub fn cases() -> Vec<Case> {
    let addresses = Addresses {
        source: "203.0.113.7:51234".parse().expect("an address"),
        destination: "192.0.2.1:8443".parse().expect("an address"),
    };
    // What a balancer sends, and what we send when all is asked for.
    let plain = version_2(addresses, &Fields { crc32c: true, ..Fields::default() });
    let full = version_2(addresses, &full());
    let inputs = [("version_1", version_1(addresses)), ("version_2", plain), ("full", full)];
    let reads = inputs.map(|(name, header)| {
        assert!(matches!(read(&header), Read::Header(_)), "{name}");
        let bytes = header.len();
        Case::new(format!("proxy_protocol/read/{name}"), move || read(black_box(&header)))
            .bytes(bytes)
    });
    let fields = self::full();
    let writes = [
        Case::new("proxy_protocol/write/version_1", move || version_1(black_box(addresses))),
        Case::new("proxy_protocol/write/version_2", move || {
            version_2(black_box(addresses), &Fields::default())
        }),
        Case::new("proxy_protocol/write/full", move || {
            version_2(black_box(addresses), black_box(&fields))
        }),
    ];
    reads.into_iter().chain(writes).collect()
}

fn full() -> Fields<'static> {
    Fields {
        alpn: Some(b"postgresql"),
        authority: Some("orders.example.com"),
        unique_id: Some(b"0123456789abcdef"),
        tls: Some(Tls {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            certificate: Certificate::Verified { common_name: Some("orders-api"), der: None },
            is_resumed: false,
            signature_algorithm: Some("ECDSA-SHA256"),
            key_algorithm: Some("EC256"),
            group: Some("X25519MLKEM768"),
            signature_scheme: Some("ecdsa_secp256r1_sha256"),
        }),
        identity: Some("spiffe://example.org/ns/orders/sa/api"),
        crc32c: true,
    }
}
