//! The certificate that we show to a client, in the words that a PROXY header has for it.
//!
//! `served` reads it with the certificate; the resolver says which of them a handshake took. Next:
//! `announced`.

use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
    OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::FromDer;

use super::leaf::key_kind;
use crate::core::trust::KeyKind;

/// How our certificate was made, and what was signed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// OpenSSL's short name of what the certificate is signed with.
    pub(super) signature: Option<&'static str>,
    pub(super) key: KeyKind,
    /// IANA's name of what a full handshake is signed with.
    pub(super) scheme: Option<&'static str>,
}

impl Shown {
    pub(super) fn of(key: &CertifiedKey) -> Self {
        let parsed = key.cert.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        let Some((_, certificate)) = parsed else {
            return Self { signature: None, key: KeyKind::Other, scheme: None };
        };
        Self {
            signature: signature_name(&certificate.signature_algorithm.algorithm),
            key: key_kind(certificate.public_key()),
            scheme: None,
        }
    }

    /// As HAProxy writes it: "RSA2048", "EC256".
    pub(super) fn key_name(&self) -> Option<String> {
        match self.key {
            KeyKind::EcdsaP256 => Some("EC256".to_owned()),
            KeyKind::EcdsaP384 => Some("EC384".to_owned()),
            KeyKind::EcdsaP521 => Some("EC521".to_owned()),
            KeyKind::Ed25519 => Some("ED25519".to_owned()),
            KeyKind::Rsa(bits) => Some(format!("RSA{bits}")),
            KeyKind::Other => None,
        }
    }
}

fn signature_name(algorithm: &Oid<'_>) -> Option<&'static str> {
    let names = [
        (OID_SIG_ECDSA_WITH_SHA256, "ecdsa-with-SHA256"),
        (OID_SIG_ECDSA_WITH_SHA384, "ecdsa-with-SHA384"),
        (OID_SIG_ECDSA_WITH_SHA512, "ecdsa-with-SHA512"),
        (OID_PKCS1_SHA256WITHRSA, "RSA-SHA256"),
        (OID_PKCS1_SHA384WITHRSA, "RSA-SHA384"),
        (OID_PKCS1_SHA512WITHRSA, "RSA-SHA512"),
        (OID_PKCS1_RSASSAPSS, "RSASSA-PSS"),
        (OID_SIG_ED25519, "ED25519"),
    ];
    names.into_iter().find(|(oid, _)| oid == algorithm).map(|(_, name)| name)
}

/// Its name for people, or its number.
pub(super) fn scheme_text(scheme: SignatureScheme) -> String {
    let name = match scheme {
        // Nobody signs by these any more; some say that they would (RFC 9155).
        SignatureScheme::RSA_PKCS1_SHA1 => Some("rsa_pkcs1_sha1"),
        SignatureScheme::ECDSA_SHA1_Legacy => Some("ecdsa_sha1"),
        scheme => scheme_name(scheme),
    };
    name.map_or_else(|| format!("{:#06x}", u16::from(scheme)), ToOwned::to_owned)
}

/// IANA's registry "TLS SignatureScheme", as far as it is spoken here.
pub(super) fn scheme_name(scheme: SignatureScheme) -> Option<&'static str> {
    Some(match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::ED25519 => "ed25519",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        _ => return None,
    })
}
