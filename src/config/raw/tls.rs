//! TLS terms with clients and with upstreams, as a file says them. Next: `trust`.

use super::super::error::{Location, Problems};
use super::super::node::{At, FromNode, Key, Named, Node, join};
use super::{List, Table};

tables! {
    /// `[tls]`
    RawTls {
        /// TLS with clients.
        downstream: Named<RawDownstreamTls>,
        /// TLS with upstreams.
        upstream: Named<RawUpstreamTls>,
    }

    /// `[tls.downstream.NAME]`
    RawDownstreamTls {
        /// Certificates of the gateway, chosen by the client's SNI and signature algorithms. This or
        /// `certificate_dir` must be written.
        certificates: List<RawCertificate>,
        /// A directory of certificates and keys, relative to this file, chosen by the client's SNI,
        /// instead of `certificates`: `NAME.crt` with `NAME.key`, `NAME.pem` with both, or
        /// `NAME/tls.crt` with `NAME/tls.key`; `_wildcard.example.com` for `*.example.com`. Each is
        /// read when a client first asks for it (docs/certificates.md).
        certificate_dir: String,
        /// "require", "optional" or "none". Default: "require".
        client_auth: String,
        /// A `[trust.NAME]`. Must be written unless `client_auth` is "none".
        trust: String,
        /// ALPN protocols, most preferred first, 64 at most. Default: [], no negotiation.
        alpn: List<String>,
        /// "1.2" and "1.3". Default: both.
        versions: List<String>,
        /// IANA names, most preferred first. Default: the suites of TLS 1.3 and the ECDHE suites of
        /// TLS 1.2, AES-128-GCM first.
        cipher_suites: List<String>,
        /// Key exchange, most preferred first: a client gets the first that it sent a key share for,
        /// without one the first that it lists. Default:
        /// ["x25519mlkem768", "x25519", "secp256r1", "secp384r1"].
        groups: List<String>,
        /// "tickets" or "off". Default: "tickets".
        resumption: String,
        /// TLS 1.3 tickets after a handshake, from 1 to 8. Default: 1.
        tickets_sent: u64,
    }

    /// A certificate and its key.
    RawCertificate {
        /// PEM file, leaf first, relative to this file. Must be written.
        chain: String,
        /// PEM file of the private key, relative to this file. Must be written.
        key: String,
        /// File of an OCSP response in DER, relative to this file, which is stapled for clients that
        /// ask. Default: none.
        ocsp: String,
    }

    /// A certificate to show to upstreams and its key.
    RawPair {
        /// PEM file, leaf first, relative to this file. Must be written.
        chain: String,
        /// PEM file of the private key, relative to this file. Must be written.
        key: String,
    }

    /// `[tls.upstream.NAME]`
    RawUpstreamTls {
        /// The name to ask for and to find in the upstream's certificate: a DNS name, an IP
        /// address, or "$sni", the name that the client asked for. Must be written.
        server_name: String,
        /// A `[trust.NAME]`. Must be written.
        trust: String,
        /// What the gateway shows of itself. Left out: no client certificate.
        certificate: RawPair,
        /// ALPN protocols to offer, most preferred first, 64 at most. Default: [].
        alpn: List<String>,
        /// "1.2" and "1.3". Default: both.
        versions: List<String>,
        /// IANA names, most preferred first. Default: as for downstream.
        cipher_suites: List<String>,
        /// Key exchange, most preferred first. Default: as for downstream.
        groups: List<String>,
        /// "tickets" or "off". Default: "tickets".
        resumption: String,
    }
}
