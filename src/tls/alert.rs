//! rustls' errors as refusals: whose fault, which alert, in words that say what to do.
//!
//! What a callback found (`handshake_context`) goes before what rustls says about it. Decides
//! nothing; `handshake` calls it once a handshake has failed.

use rustls::{
    AlertDescription, CertificateError, DistinguishedName, Error, OtherError, PeerIncompatible,
    RootCertStore,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::handshake_context::Failure;
use super::identity::{Identity, span};
use crate::core::refusal::{Reason, Refusal};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Client,
    Upstream,
}

/// IANA's name of an alert, for logs.
pub fn alert_name(code: u8) -> &'static str {
    match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "unknown alert",
    }
}

/// The refusal for a handshake that ended with `error`, without its alert.
pub(super) fn refusal(error: &Error, failure: Option<Failure>, peer: Peer) -> Refusal {
    let (reason, detail) = match failure {
        Some(Failure { reason, detail }) => (reason, detail),
        None => (client_reason(error), words(error)),
    };
    match peer {
        Peer::Client => Refusal::new(reason, detail),
        Peer::Upstream => Refusal::new(upstream_reason(reason), detail),
    }
}

/// The alert that rustls sends for `error`, where it is sealed and cannot be read back. `None` when
/// it sends none.
pub(super) fn sealed_alert(error: &Error) -> Option<u8> {
    let alert = match error {
        Error::InvalidCertificate(certificate) => AlertDescription::from(certificate.clone()),
        Error::InvalidMessage(message) => AlertDescription::from(*message),
        Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        Error::NoApplicationProtocol => AlertDescription::NoApplicationProtocol,
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_) => AlertDescription::UnexpectedMessage,
        Error::PeerIncompatible(_) => AlertDescription::HandshakeFailure,
        _ => return None,
    };
    Some(alert.into())
}

/// The alert that suits `reason` better than the one rustls chose, where ours may replace it.
pub(super) fn better_alert(reason: Reason, is_tls13: bool) -> Option<u8> {
    match reason {
        Reason::SniMismatch => Some(AlertDescription::UnrecognisedName.into()),
        Reason::CipherMismatch => Some(AlertDescription::HandshakeFailure.into()),
        // certificate_required is TLS 1.3's (RFC 8446 §6.2); before that RFC 5246 §7.4.6 rules.
        Reason::NoCertificate if !is_tls13 => Some(AlertDescription::HandshakeFailure.into()),
        _ => None,
    }
}

/// What is wrong with a certificate chain, as a client's reason, naming the certificate.
pub(super) fn certificate_failure(
    error: &Error,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: u64,
) -> (Reason, String) {
    let Some(leaf) = Identity::of(end_entity) else {
        return (Reason::CertificateInvalid, "the leaf certificate cannot be parsed".to_owned());
    };
    let Error::InvalidCertificate(error) = error else {
        return (Reason::CertificateInvalid, format!("{}: {}", leaf.sentence(), words(error)));
    };
    let reason = certificate_reason(error);
    let who = culprit(error, &leaf, intermediates);
    let what = match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("expired {} ago", span(now.saturating_sub(not_after.as_secs())))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is valid only in {}", span(not_before.as_secs().saturating_sub(now)))
        }
        CertificateError::UnknownIssuer => missing_issuer(&leaf, intermediates, roots),
        other if is_of_version_1(other) => VERSION_1.to_owned(),
        other => other.to_string(),
    };
    (reason, format!("{}: {what}", who.sentence()))
}

/// `openssl x509 -req` without an extension file makes these, so people do meet it.
fn is_of_version_1(error: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(error)) = error else { return false };
    matches!(error.downcast_ref(), Some(webpki::Error::UnsupportedCertVersion))
}

const VERSION_1: &str = "is of X.509 version 1, which cannot say what it is for: issue it anew with \
                         extensions (`openssl x509 -req -extfile`, or `portcullis pki`)";

fn certificate_reason(error: &CertificateError) -> Reason {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Reason::CertificateExpired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Reason::CertificateNotYetValid
        }
        CertificateError::Revoked => Reason::CertificateRevoked,
        CertificateError::UnknownIssuer => Reason::UnknownIssuer,
        CertificateError::BadSignature => Reason::CertificateSignature,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Reason::CertificatePurpose
        }
        _ => Reason::CertificateInvalid,
    }
}

/// The certificate of the chain that an error of validity is about; else the leaf.
fn culprit(
    error: &CertificateError,
    leaf: &Identity,
    intermediates: &[CertificateDer<'_>],
) -> Identity {
    let is_culprit = |one: &Identity| match error {
        CertificateError::ExpiredContext { not_after, .. } => one.not_after == not_after.as_secs(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            one.not_before == not_before.as_secs()
        }
        _ => false,
    };
    if is_culprit(leaf) {
        return leaf.clone();
    }
    intermediates.iter().filter_map(Identity::of).find(is_culprit).unwrap_or_else(|| leaf.clone())
}

/// Whether an anchor has the name of the CA above this chain. Where a signature is wrong then, it is
/// as good as always another CA of the same name: `BadSignature` to webpki, unknown CA to the user.
pub(super) fn has_namesake(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> bool {
    let sent: Vec<Identity> = intermediates.iter().filter_map(Identity::of).collect();
    Identity::of(end_entity)
        .is_some_and(|leaf| anchor_names(roots).contains(&top(&leaf, &sent).issuer))
}

/// The certificate that the others lead up to; the leaf, if they do not.
fn top<'a>(leaf: &'a Identity, sent: &'a [Identity]) -> &'a Identity {
    let mut last = leaf;
    for _ in 0..sent.len() {
        match sent.iter().find(|one| one.subject == last.issuer && one.subject != one.issuer) {
            Some(next) => last = next,
            None => break,
        }
    }
    last
}

fn anchor_names(roots: &RootCertStore) -> Vec<String> {
    let names = roots.subjects();
    let text =
        |name: &DistinguishedName| Some(X509Name::from_der(name.as_ref()).ok()?.1.to_string());
    names.iter().filter_map(text).collect()
}

/// Why no path leads to an anchor: self-signed, an intermediate left out, or simply foreign.
fn missing_issuer(
    leaf: &Identity,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> String {
    if leaf.subject == leaf.issuer {
        return "it is self-signed, and no anchor of the trust".to_owned();
    }
    let anchors = anchor_names(roots);
    let sent: Vec<Identity> = intermediates.iter().filter_map(Identity::of).collect();
    let last = top(leaf, &sent);
    if anchors.contains(&last.issuer) {
        return format!(
            "an anchor is called {} too, but its key did not sign this chain",
            last.issuer
        );
    }
    let known = match &anchors[..] {
        [] => "there are none".to_owned(),
        all if all.len() <= ANCHORS_NAMED_MAX => format!("the anchors are {}", all.join("; ")),
        all => format!("there are {} anchors", all.len()),
    };
    if intermediates.is_empty() {
        return format!(
            "{} is no anchor ({known}), and the peer sent only its leaf: if {} is an intermediate, \
             send leaf + intermediate",
            leaf.issuer, leaf.issuer
        );
    }
    format!("the chain that was sent ends at {}, which is no anchor ({known})", last.issuer)
}

fn client_reason(error: &Error) -> Reason {
    match error {
        Error::AlertReceived(_) => Reason::ClientAlert,
        Error::NoCertificatesPresented => Reason::NoCertificate,
        Error::InvalidCertificate(error) => certificate_reason(error),
        Error::PeerIncompatible(why) => incompatible(why),
        Error::NoApplicationProtocol => Reason::AlpnMismatch,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidEncryptedClientHello(_)
        | Error::InvalidMessage(_)
        | Error::UnsupportedNameType
        | Error::DecryptError
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord => Reason::ProtocolViolation,
        _ => Reason::Internal,
    }
}

fn incompatible(why: &PeerIncompatible) -> Reason {
    use PeerIncompatible as Why;
    match why {
        Why::NoCipherSuitesInCommon
        | Why::NoSignatureSchemesInCommon
        | Why::NoCertificateRequestSignatureSchemesInCommon => Reason::CipherMismatch,
        Why::NoKxGroupsInCommon
        | Why::KeyShareExtensionRequired
        | Why::NamedGroupsExtensionRequired
        | Why::NoEcPointFormatsInCommon
        | Why::UncompressedEcPointsRequired => Reason::GroupMismatch,
        Why::ServerDoesNotSupportTls12Or13
        | Why::ServerTlsVersionIsDisabledByOurConfig
        | Why::SupportedVersionsExtensionRequired
        | Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled
        // RFC 5246 §7.4.1.4.1 brought it; rustls asks for it before it looks at versions.
        | Why::SignatureAlgorithmsExtensionRequired => Reason::VersionMismatch,
        _ => Reason::ProtocolViolation,
    }
}

fn upstream_reason(reason: Reason) -> Reason {
    match reason {
        Reason::UnknownIssuer
        | Reason::CertificateExpired
        | Reason::CertificateNotYetValid
        | Reason::CertificatePurpose
        | Reason::CertificateSignature
        | Reason::CertificateRevoked
        | Reason::CertificateInvalid
        | Reason::UpstreamUntrusted => Reason::UpstreamUntrusted,
        Reason::Internal => Reason::Internal,
        _ => Reason::UpstreamTls,
    }
}

/// rustls' words, and the name of a received alert.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => {
            let code = u8::from(*alert);
            format!("the peer sent the alert {} ({code})", alert_name(code))
        }
        Error::NoCertificatesPresented => "the client sent no certificate".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired) => {
            "the client names no signature algorithms: TLS 1.1 or older".to_owned()
        }
        other => other.to_string(),
    }
}

const ANCHORS_NAMED_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_client_older_than_tls_1_2_is_told_that_it_is() {
        let why = PeerIncompatible::SignatureAlgorithmsExtensionRequired;
        let error = Error::PeerIncompatible(why);
        assert_eq!(client_reason(&error), Reason::VersionMismatch);
        assert!(words(&error).contains("TLS 1.1 or older"));
    }

    #[test]
    fn a_certificate_of_version_1_is_told_from_other_faults() {
        let other = |error| CertificateError::Other(OtherError(Arc::new(error)));
        assert!(is_of_version_1(&other(webpki::Error::UnsupportedCertVersion)));
        assert!(!is_of_version_1(&other(webpki::Error::BadDer)));
        assert!(!is_of_version_1(&CertificateError::UnknownIssuer));
    }
}
