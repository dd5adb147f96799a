//! rustls' errors as refusals: whose fault, which alert, in words that say what to do.
//!
//! What a callback found (`handshake_context`) goes before what rustls says about it. Decides
//! nothing; `handshake` calls it once a handshake has failed. `diagnosis` words what is wrong with
//! certificates.

use rustls::{AlertDescription, Error, PeerIncompatible};

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
pub(super) fn refusal(error: &Error, failure: Option<Refusal>, peer: Peer) -> Refusal {
    let refusal = failure.unwrap_or_else(|| Refusal::new(client_reason(error), words(error)));
    match peer {
        Peer::Client => refusal,
        Peer::Upstream => of_upstream(refusal),
    }
}

/// What is wrong with an upstream, by the reasons for upstreams.
pub(super) fn of_upstream(refusal: Refusal) -> Refusal {
    Refusal { reason: upstream_reason(refusal.reason), ..refusal }
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
        // RFC 6066 §3.
        Reason::SniMismatch | Reason::NoCertificateForName => {
            Some(AlertDescription::UnrecognisedName.into())
        }
        Reason::CertificateUnavailable => Some(AlertDescription::InternalError.into()),
        Reason::CipherMismatch => Some(AlertDescription::HandshakeFailure.into()),
        // certificate_required is TLS 1.3's (RFC 8446 §6.2); before that RFC 5246 §7.4.6 rules.
        Reason::NoCertificate if !is_tls13 => Some(AlertDescription::HandshakeFailure.into()),
        _ => None,
    }
}

fn client_reason(error: &Error) -> Reason {
    match error {
        Error::AlertReceived(_) => Reason::ClientAlert,
        Error::NoCertificatesPresented => Reason::NoCertificate,
        Error::InvalidCertificate(_) => Reason::CertificateInvalid,
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
        | Reason::RevocationUnknown
        | Reason::RevocationStale
        | Reason::ChainTooDeep
        | Reason::NotPinned
        | Reason::SanNotAllowed
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
        Error::PeerIncompatible(why) => match incompatible(why) {
            Reason::VersionMismatch => "no TLS version in common".to_owned(),
            Reason::GroupMismatch => "no key-exchange group in common".to_owned(),
            Reason::CipherMismatch => "no cipher suite or signature scheme in common".to_owned(),
            _ => format!("the peer is incompatible: {why:?}"),
        },
        Error::NoApplicationProtocol => "no ALPN protocol in common".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_older_than_tls_1_2_is_told_that_it_is() {
        let why = PeerIncompatible::SignatureAlgorithmsExtensionRequired;
        let error = Error::PeerIncompatible(why);
        assert_eq!(client_reason(&error), Reason::VersionMismatch);
        assert!(words(&error).contains("TLS 1.1 or older"));
    }
}
