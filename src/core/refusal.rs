//! Why a connection was refused or ended badly: one flat list that logs, metrics and docs share.
//!
//! A `Reason` is a stable label; what is particular to one connection stands in `Refusal::detail`.
//! Nothing here decides: `client_hello`, `route`, `session` and `tls` do.

use std::fmt;

use super::identity::Identity;

/// One refused connection: the label that is counted, and what the operator needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// TLS alert sent to the client (RFC 8446 §6), if any.
    pub alert: Option<u8>,
    /// What is particular to this connection. Lower case, no full stop.
    pub detail: String,
    /// The certificates that it is about, where it is about one.
    pub evidence: Option<Box<Evidence>>,
}

/// The certificates behind a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The peer's own certificate; `None` where it cannot be parsed.
    pub leaf: Option<Identity>,
    /// Where in the chain the fault lies: 0 is the leaf, 1 what issued it, and so on.
    pub depth: u8,
    /// The certificate there, where it is not the leaf.
    pub at_depth: Option<Identity>,
    /// The key of the configuration that decided, as `trust.partners.san`.
    pub rule: Option<String>,
    /// What to do about this very refusal, where `Reason::hint` is too general.
    pub hint: Option<String>,
}

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Upstream,
    Operator,
    /// A limit did its work.
    Load,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $blame:ident, $hint:literal;)*) => {
        /// Labels of refusals. `code` is public: metrics and logs carry it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of `index`.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable label in metrics and logs.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            pub const fn blame(self) -> Blame {
                match self { $(Reason::$name => Blame::$blame,)* }
            }

            /// What to do about it: one sentence for whoever is on call.
            pub const fn hint(self) -> &'static str {
                match self { $(Reason::$name => $hint,)* }
            }
        }
    };
}

reasons! {
    // Before TLS.
    Probe = "probe", Client, "the client connected and closed without a byte: most likely a health check; nothing to do";
    HelloTimeout = "hello_timeout", Client, "no complete ClientHello within timeouts.hello: a slow or hostile client, or one that waits for the server to speak first";
    HelloTruncated = "hello_truncated", Client, "the client closed in the middle of its ClientHello: look for a middlebox or a crashing client";
    NotTls = "not_tls", Client, "the client does not speak TLS: point it at the right port, or turn TLS on in it";
    HelloMalformed = "hello_malformed", Client, "the ClientHello breaks the protocol: capture it; a scanner or a broken client";
    HelloTooLarge = "hello_too_large", Client, "the ClientHello claims more than 16 KiB or comes in too many records: a scanner or an attack";
    SniInvalid = "sni_invalid", Client, "the SNI is not a plain DNS name: use a host name without trailing dot, not an IP address";
    NoChain = "no_chain", Operator, "no filter chain of this listener takes this SNI, ALPN and source: add a chain or correct the name the client uses";
    NoRawChain = "no_raw_chain", Client, "plain text on a listener that has no raw chain: turn TLS on in the client, or add a chain with transport = \"raw\"";
    ProxyHeaderMissing = "proxy_header_missing", Operator, "a source in proxy_protocol.from sent no PROXY header: turn it on in the balancer (send-proxy-v2), or take the source out of `from`";
    ProxyHeaderMalformed = "proxy_header_malformed", Operator, "the PROXY header of the balancer breaks the protocol, or ended in the middle: see the detail, then the balancer's settings";
    NoCertificateForName = "no_certificate_for_name", Operator, "no pair in the certificate_dir of this chain's tls is for this name: put one there, named after it, or correct the name the client uses";
    CertificateUnavailable = "certificate_unavailable", Operator, "the gateway's own certificate or key for this name cannot be used: mend the files that the detail names; it is read again five seconds later";
    // Before TLS, where the listener's protocol has a prelude.
    TlsRequired = "tls_required", Client, "the client begins a Postgres session in plain text: write sslmode=verify-full in its connection string, or let a chain with transport = \"raw\" take it";
    CancelRefused = "cancel_refused", Client, "a CancelRequest in plain text has no SNI and proves nothing, so no chain takes it: cancel with libpq 17's PQcancelStart (psycopg's cancel_safe), which does it over TLS, or with pg_cancel_backend";
    PreludeSmuggled = "prelude_smuggled", Client, "bytes came behind the request for TLS before it was answered: an attack on the way (CVE-2021-23214) or a broken client; nothing of them was used";
    PreludeMalformed = "prelude_malformed", Client, "the client breaks the rules for asking for TLS: see the detail; a scanner or a broken client";
    // Limits.
    ConnectionLimit = "connection_limit", Load, "limits.connections is reached: raise it, add nodes, or look for clients that leak connections";
    MemoryLimit = "memory_limit", Load, "the process is near limits.memory: new clients are refused, and idle sessions closed; raise it, add nodes, or lower limits.connections";
    HandshakeLimit = "handshake_limit", Load, "limits.handshakes_in_flight is reached: a connection storm; raise it if the cores are not busy";
    HandshakeRate = "handshake_rate", Load, "more handshakes in a second than the key in the detail allows: a storm of clients that connect anew, or a flood; resumed ones have a fifth of it for themselves; raise it if the cores are not busy";
    SourceConnections = "source_connections", Load, "one address has more connections open than connections_per_source of the listener allows: a client that leaks them, many clients behind one address, or an attack";
    ChainConnections = "chain_connections", Load, "a connection_limit filter of the chain is reached: raise it, or look for clients of this tenant that leak connections";
    RateLimited = "rate_limited", Load, "a rate_limit filter of the chain is reached: raise its rate or burst, or look for a client that connects in a loop";
    ClusterConnectionLimit = "cluster_connection_limit", Load, "limits.connections of the cluster is reached: raise it if the service carries more, or add endpoints";
    ClusterPendingLimit = "cluster_pending_limit", Load, "limits.pending of the cluster is reached: too many clients wait for a dial at a time; its endpoints answer slowly, or are too few";
    Draining = "draining", Load, "this process is shutting down: the balancer in front should have stopped sending clients";
    // The handshake with the client.
    HandshakeTimeout = "handshake_timeout", Client, "the handshake did not end within timeouts.handshake: packet loss, or a client that waits for a smart card or a person";
    NoCertificate = "no_certificate", Client, "the client sent no certificate: give it one (and its key); set client_auth to \"optional\" only where clients need not be known";
    UnknownIssuer = "unknown_issuer", Client, "no anchor of this chain's trust issued the client's certificate: check the CA, and that the client sends leaf and intermediates";
    CertificateExpired = "certificate_expired", Client, "renew the client's certificate; if it should still be valid, check this machine's clock";
    CertificateNotYetValid = "certificate_not_yet_valid", Client, "the client's certificate starts in the future: check the clocks here and where it was issued";
    CertificatePurpose = "certificate_purpose", Client, "the certificate lacks the clientAuth extended key usage: issue a client certificate";
    CertificateSignature = "certificate_signature", Client, "a signature in the client's chain or its proof of possession is wrong: key and certificate of the client do not belong together, or the chain was altered";
    CertificateRevoked = "certificate_revoked", Client, "the client's certificate, or a CA above it, is revoked: issue a new one if that was a mistake";
    RevocationUnknown = "revocation_unknown", Operator, "no revocation list covers the certificate: add its issuer's to `crls` of the trust, or write revocation.unknown = \"accept\"";
    RevocationStale = "revocation_stale", Operator, "the revocation list is past its next update: fetch the current one (the gateway reloads it by itself), or write revocation.stale = \"accept\" until it is back";
    ChainTooDeep = "chain_too_deep", Client, "there are more intermediates between leaf and anchor than depth_max of the trust allows: raise it, or issue the certificate closer to the anchor";
    KeyNotAllowed = "key_not_allowed", Client, "the client's key is of a kind that client_keys of the trust does not list: issue a certificate for another kind of key, or add this one";
    NotPinned = "not_pinned", Client, "the certificate and its key are in no pin of the trust: add the digest in the detail to `pins` if this client is known";
    SanNotAllowed = "san_not_allowed", Client, "no name in the certificate matches `san` of the trust: issue it with a name that does, or add a rule";
    NotAuthorized = "not_authorized", Client, "the client is known, and the authorize filter of the chain does not let it pass: see allow and deny there";
    CertificateInvalid = "certificate_invalid", Client, "the client's certificate breaks a rule of X.509 path validation: see the detail";
    VersionMismatch = "version_mismatch", Client, "client and chain share no TLS version: see `versions` of the chain's tls";
    CipherMismatch = "cipher_mismatch", Client, "client and chain share no cipher suite or signature scheme: see `cipher_suites` and the key types of `certificates`";
    GroupMismatch = "group_mismatch", Client, "client and chain share no key-exchange group: see `groups` of the chain's tls";
    AlpnMismatch = "alpn_mismatch", Client, "the client offers none of the chain's ALPN protocols: correct the client or `alpn` of the chain's tls";
    SniMismatch = "sni_mismatch", Client, "the SNI that TLS saw differs from the one that chose the chain: an attack or a bug; keep the capture";
    ClientAlert = "client_alert", Client, "the client gave up with a TLS alert: unknown_ca, bad_certificate and certificate_unknown mean that it does not trust our certificate, or the name in it; what others mean its own log says";
    ClientClosed = "client_closed", Client, "the client closed during the handshake: it may not trust our certificate, or have timed out";
    ProtocolViolation = "protocol_violation", Client, "the client broke the TLS protocol: a broken library, a middlebox or an attack";
    // The way to the upstream.
    UpstreamConnect = "upstream_connect", Upstream, "no endpoint of the cluster took the connection: is the service up, is the address right?";
    UpstreamTimeout = "upstream_timeout", Upstream, "no endpoint answered within connect.timeout: black hole, firewall, or overload";
    UpstreamUntrusted = "upstream_untrusted", Upstream, "the upstream's certificate was not accepted, and nothing of the client was sent: see the detail, then trust and server_name of the tls.upstream";
    UpstreamNoTls = "upstream_no_tls", Upstream, "the upstream does not offer TLS when it is asked as `prelude` of the cluster says: turn TLS on there (ssl = on in postgresql.conf, with ssl_cert_file and ssl_key_file)";
    UpstreamSmuggled = "upstream_smuggled", Upstream, "bytes came behind the upstream's answer before TLS began: an attack on the way (CVE-2021-23222) or a broken server; nothing of them was used";
    UpstreamTls = "upstream_tls", Upstream, "the TLS handshake with the upstream failed: see the detail";
    UpstreamAlert = "upstream_alert", Upstream, "the upstream ended TLS with the alert in the detail: one about certificates is about ours, `certificate` of the tls.upstream, or the CA that the service believes; its own log says more";
    UpstreamNoName = "upstream_no_name", Operator, "the upstream's server_name is \"$sni\" and the client sent none: give the tls.upstream a fixed name";
    LocalResources = "local_resources", Operator, "this machine is out of what the detail names: descriptors (LimitNOFILE), local ports (net.ipv4.ip_local_port_range) or memory";
    // An established session that ended badly.
    TrustChanged = "trust_changed", Operator, "the trust changed while the session ran, and would no longer let this client in: on_change of the trust says what becomes of such sessions";
    IdleTimeout = "idle_timeout", Client, "no byte in either direction for timeouts.idle: raise it or turn keepalives on in the protocol";
    HalfClosedTimeout = "half_closed_timeout", Client, "one side closed and the other sent nothing for timeouts.half_closed";
    ClientReset = "client_reset", Client, "the client reset the connection";
    UpstreamReset = "upstream_reset", Upstream, "the upstream reset the connection";
    ClientUncleanEof = "client_unclean_eof", Client, "the client closed TCP without close_notify: data may be cut short; passed on as a reset";
    UpstreamUncleanEof = "upstream_unclean_eof", Upstream, "the upstream closed TCP without close_notify: data may be cut short; passed on as a reset";
    ClientRecord = "client_record", Client, "a TLS record of the client could not be opened: corruption on the way, or an attack";
    UpstreamRecord = "upstream_record", Upstream, "a TLS record of the upstream could not be opened: corruption on the way, or a broken library";
    KeyUsedUp = "key_used_up", Operator, "a session over TLS 1.2 has sent all that its key may seal, and TLS 1.2 has no new keys within a session: let the peer connect again, or speak TLS 1.3";
    Internal = "internal", Operator, "a fault of portcullis: please report it with this line";
}

impl Reason {
    /// Dense, for counters in an array of `ALL.len()`.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl Refusal {
    /// A refusal without an alert.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, alert: None, detail: detail.into(), evidence: None }
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        let own = self.evidence.as_deref().and_then(|evidence| evidence.hint.as_deref());
        own.unwrap_or(self.reason.hint())
    }

    #[must_use]
    pub fn with_alert(mut self, alert: u8) -> Self {
        self.alert = Some(alert);
        self
    }

    /// With what to do in this case, in the place of what its reason advises, and no other evidence.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        let evidence = Evidence { hint: Some(hint.into()), ..Evidence::default() };
        self.evidence = Some(Box::new(evidence));
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason.code())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_indexes_dense() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
        }
    }

    #[test]
    fn every_hint_is_one_line_without_a_full_stop() {
        for reason in Reason::ALL {
            assert!(!reason.hint().is_empty() && !reason.hint().ends_with('.'), "{reason:?}");
            assert!(!reason.hint().contains('\n'), "{reason:?}");
        }
    }
}
