//! Our certificate for upstreams: whoever asks for it gets it, and what was asked is kept for whoever has to
//! find out why an upstream said no.
//!
//! Many libraries end TLS without an alert, or with one that says nothing, when a client shows no certificate or
//! the wrong one. `material` builds one for each `tls.upstream`; `upstream` passes on what it noted.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::diagnosis::listed;
use super::handshake_context;
use super::identity::{identify, name_text};
use super::leaf::Leaf;
use super::shown::scheme_text;

/// What is shown to upstreams by one `tls.upstream`.
#[derive(Debug)]
pub(super) struct OwnCertificate {
    key: Option<Arc<CertifiedKey>>,
    /// DER of the issuers in its chain.
    issuers: Vec<Box<[u8]>>,
    /// Who we are by it: "CN=gateway, issued by CN=Gateways".
    holder: String,
    /// The usual answer in words, made once.
    usual: Arc<str>,
    /// Where it is, or would be, written.
    at: String,
}

impl OwnCertificate {
    /// `key` is that of `tls.upstream.NAME`, if it has one.
    pub(super) fn new(name: &str, key: Option<Arc<CertifiedKey>>) -> Self {
        let at = format!("`certificate` of tls.upstream.{name}");
        let chain = key.as_deref().map(|key| &*key.cert).unwrap_or_default();
        let leaf = chain.first().and_then(|leaf| identify(leaf));
        let holder = leaf
            .map(|leaf| format!("{}, issued by {}", leaf.subject, leaf.issuer))
            .unwrap_or_default();
        let usual = match &key {
            Some(_) => format!("it asked for our certificate and got {holder}"),
            None => format!(
                "it asked for our certificate and there is none to show: write {at}, issued by a CA that \
                 the service believes"
            ),
        };
        let issuers = chain.iter().filter_map(|der| issuer_of(der)).collect();
        Self { key, issuers, holder, usual: usual.into(), at }
    }

    /// What becomes of a request for a certificate of one of `authorities` (none: of any), proved by one of
    /// `schemes`, in words.
    fn answer(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Arc<str> {
        let Some(key) = &self.key else { return Arc::clone(&self.usual) };
        let Self { holder, at, .. } = self;
        if key.key.choose_scheme(schemes).is_none() {
            let kind = key.cert.first().and_then(|leaf| Leaf::parse(leaf)).map(|leaf| leaf.key());
            let kind = kind.map_or_else(String::new, |kind| format!(" is {kind} and"));
            let schemes: Vec<_> = schemes.iter().copied().map(scheme_text).collect();
            return format!(
                "it asked for our certificate and got none, for the key of {holder}{kind} signs by nothing that it \
                 takes, which is {}: have {at} issued for another kind of key",
                listed(&schemes, "nothing")
            )
            .into();
        }
        let is_issued_by = |authority: &&[u8]| self.issuers.iter().any(|own| **own == **authority);
        if authorities.is_empty() || authorities.iter().any(is_issued_by) {
            return Arc::clone(&self.usual);
        }
        let named: Vec<_> = authorities.iter().take(NAMED_MAX).map(|der| in_words(der)).collect();
        let more = match authorities.len() - named.len() {
            0 => String::new(),
            more => format!(" or {more} more"),
        };
        format!(
            "it asked for a certificate that is issued by {}{more}, and got {holder}: have {at} issued by a CA that \
             the service names, or let the service believe ours",
            named.join(" or ")
        )
        .into()
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let answer = self.answer(root_hint_subjects, sigschemes);
        handshake_context::with(|context| context.asked = Some(answer));
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// Adds to why an upstream ended a connection what it got when it asked for our certificate.
pub(super) fn add_to(detail: &mut String, asked: Option<&str>) {
    let Some(asked) = asked else { return };
    if !detail.is_empty() {
        detail.push_str("; ");
    }
    detail.push_str(asked);
}

fn issuer_of(certificate: &[u8]) -> Option<Box<[u8]>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.issuer().as_raw().into())
}

fn in_words(authority: &[u8]) -> String {
    match X509Name::from_der(authority) {
        Ok((_, name)) => name_text(&name),
        Err(_) => "(an unreadable name)".to_owned(),
    }
}

/// A request has room for thousands.
const NAMED_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use portcullis_kit::{Authority, ClientSpec};
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];

    fn own(issuer: &Authority) -> OwnCertificate {
        let identity = issuer.client(&ClientSpec::new("gateway"));
        let key = default_provider().key_provider.load_private_key(identity.key_der.clone_key());
        let key = CertifiedKey::new(identity.chain_der.clone(), key.unwrap());
        OwnCertificate::new("db", Some(Arc::new(key)))
    }

    fn subject(authority: &Authority) -> Vec<u8> {
        let (_, parsed) = X509Certificate::from_der(authority.certificate()).unwrap();
        parsed.subject().as_raw().to_vec()
    }

    #[test]
    fn a_request_is_answered_in_words_that_say_what_to_do() {
        let (ours, theirs) = (Authority::new("Gateways"), Authority::new("Partners"));
        let (own, none) = (own(&ours), OwnCertificate::new("db", None));
        let (ours, theirs) = (subject(&ours), subject(&theirs));
        let rsa = [SignatureScheme::RSA_PSS_SHA256];
        let cases: [Case<'_>; 6] = [
            (
                &none,
                &[],
                ECDSA,
                "it asked for our certificate and there is none to show: write `certificate` of tls.upstream.db, \
                 issued by a CA that the service believes",
            ),
            (&own, &[], ECDSA, GOT),
            (&own, &[&theirs, &ours], ECDSA, GOT),
            (
                &own,
                &[&theirs],
                ECDSA,
                "it asked for a certificate that is issued by CN=Partners, and got CN=gateway, issued by CN=Gateways: \
                 have `certificate` of tls.upstream.db issued by a CA that the service names, or let the service \
                 believe ours",
            ),
            (
                &own,
                &[b"\x30\x80no name"],
                ECDSA,
                "it asked for a certificate that is issued by (an unreadable name), and got CN=gateway, issued by \
                 CN=Gateways: have `certificate` of tls.upstream.db issued by a CA that the service names, or let \
                 the service believe ours",
            ),
            (
                &own,
                &[&ours],
                &rsa,
                "it asked for our certificate and got none, for the key of CN=gateway, issued by CN=Gateways is \
                 ecdsa-p256 and signs by nothing that it takes, which is rsa_pss_rsae_sha256: have `certificate` of \
                 tls.upstream.db issued for another kind of key",
            ),
        ];
        for (own, authorities, schemes, expected) in cases {
            assert_eq!(&*own.answer(authorities, schemes), expected);
        }
    }

    /// What we have, the CAs and schemes of the request, what is said.
    type Case<'a> = (&'a OwnCertificate, &'a [&'a [u8]], &'a [SignatureScheme], &'a str);

    const GOT: &str = "it asked for our certificate and got CN=gateway, issued by CN=Gateways";

    #[test]
    fn a_list_as_long_as_a_message_can_be_makes_no_long_text() {
        let own = own(&Authority::new("Gateways"));
        let name: &[u8] = b"\x30\x00";
        let words = own.answer(&vec![name; 16_000], ECDSA);
        assert!(words.contains("(no name) or 15997 more, and got CN=gateway"), "{words}");
        assert!(words.len() < 1_000, "{words}");
    }
}
