//! What an upstream may be told of a client and its TLS, in the words of the PROXY protocol.
//!
//! Names come from verified certificates only: whoever reads a header takes it for the gateway's word.
//! The header is `core::proxy_protocol`'s; who wants which part of it is the worker's to know.

use super::downstream::ClientFacts;
use super::leaf::Leaf;
use crate::core::proxy_protocol::{Certificate, Tls};

/// A client's facts, and the texts that had to be made of them.
#[derive(Debug)]
pub struct Announced<'a> {
    facts: &'a ClientFacts,
    common_name: Option<String>,
    identity: Option<String>,
    key_algorithm: Option<String>,
}

impl ClientFacts {
    /// Reads the client's certificate, where it was verified.
    pub fn announced(&self) -> Announced<'_> {
        let leaf = self.verified_leaf().and_then(Leaf::parse);
        Announced {
            facts: self,
            common_name: leaf.as_ref().and_then(Leaf::only_common_name),
            identity: leaf.as_ref().and_then(Leaf::first_name),
            key_algorithm: self.shown.and_then(|shown| shown.key_name()),
        }
    }
}

impl Announced<'_> {
    /// The SPIFFE ID, or the first name of the certificate's with its kind.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// `with_certificate`: the whole certificate, too.
    pub fn tls(&self, with_certificate: bool) -> Tls<'_> {
        let negotiated = &self.facts.negotiated;
        let certificate = match (&self.facts.leaf, self.facts.verified_leaf()) {
            (None, _) => Certificate::None,
            (Some(_), None) => Certificate::Unverified,
            (Some(_), Some(der)) => Certificate::Verified {
                common_name: self.common_name.as_deref(),
                der: with_certificate.then_some(der),
            },
        };
        let shown = self.facts.shown;
        Tls {
            version: negotiated.version.name(),
            cipher: openssl_name(negotiated.suite),
            certificate,
            is_resumed: negotiated.resumed,
            signature_algorithm: shown.and_then(|shown| shown.signature),
            key_algorithm: self.key_algorithm.as_deref(),
            group: negotiated.group.map(|group| match group {
                "x25519mlkem768" => "X25519MLKEM768",
                other => other,
            }),
            // A resumed handshake is signed by nobody.
            signature_scheme: shown.and_then(|shown| shown.scheme).filter(|_| !negotiated.resumed),
        }
    }
}

/// The specification writes suites as OpenSSL does, which for TLS 1.3 are IANA's names.
fn openssl_name(suite: &'static str) -> &'static str {
    match suite {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => "ECDHE-RSA-CHACHA20-POLY1305",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_kit::{Authority, ClientSpec};

    #[test]
    fn suites_have_the_names_that_openssl_gives_them() {
        for (ours, openssl) in [
            ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
            ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
            ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
            ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
            ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
            ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ] {
            assert_eq!(openssl_name(ours), openssl);
        }
    }

    #[test]
    fn an_identity_is_the_one_spiffe_id_or_the_first_name_with_its_kind() {
        let authority = Authority::new("Clients");
        let id = |spec: &ClientSpec| {
            let client = authority.client(spec);
            Leaf::parse(client.leaf()).and_then(|leaf| leaf.first_name())
        };
        let spec = || ClientSpec::new("alice");
        assert_eq!(id(&spec()), None);
        let spiffe = "spiffe://example.org/alice";
        assert_eq!(id(&spec().dns("a.example").uri(spiffe)).as_deref(), Some(spiffe));
        assert_eq!(id(&spec().dns("a.example")).as_deref(), Some("dns:a.example"));
        assert_eq!(id(&spec().uri("dns:a.example")).as_deref(), Some("uri:dns:a.example"));
        assert_eq!(id(&spec().uri(spiffe).uri("spiffe://example.org/bob")), None);
    }
}
