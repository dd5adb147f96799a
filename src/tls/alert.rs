//! rustls' errors as refusals: whose fault, which alert, in words that say what to do.
//!
//! What a callback found (`handshake_context`) goes before what rustls says about it. Decides
//! nothing; `handshake` calls it once a handshake has failed. `diagnosis` words what is wrong with
//! certificates.

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::core::client_hello::Newest;
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

/// Why rustls ended a handshake.
#[derive(Debug)]
pub(super) enum Fault {
    /// A Finished that does not fit the handshake.
    Finished,
    /// An alert that is neither a warning nor fatal.
    Level,
    Other(Error),
}

/// The refusal for a connection that ended with `error`, without its alert.
pub(super) fn refusal(error: &Error, peer: Peer) -> Refusal {
    by(peer, Refusal::new(client_reason(error), words(error)))
}

fn by(peer: Peer, refusal: Refusal) -> Refusal {
    match peer {
        Peer::Client => refusal,
        Peer::Upstream => of_upstream(refusal),
    }
}

/// What is wrong with an upstream, by the reasons for upstreams.
pub(super) fn of_upstream(refusal: Refusal) -> Refusal {
    Refusal { reason: upstream_reason(refusal.reason), ..refusal }
}

/// An upstream that has answered a hello with `answer`.
pub(super) fn without_tls(answer: &[u8]) -> Refusal {
    let start = &answer[..answer.len().min(ANSWER_SHOWN_MAX)];
    let detail = format!("it answered without TLS, with {:?}", String::from_utf8_lossy(start));
    Refusal::new(Reason::UpstreamTls, detail).with_hint(WITHOUT_TLS)
}

impl Fault {
    /// rustls has the same error for a record that does not open and for a wrong Finished. Only the
    /// latter is done with: `discard` bytes of it are.
    pub(super) fn of(error: Error, discard: usize) -> Self {
        match error {
            Error::DecryptError if discard > 0 => Self::Finished,
            error => Self::Other(error),
        }
    }

    /// The same, where rustls has answered an alert: before TLS 1.3 it does so for its level alone, and in 1.3 for
    /// warnings too. Both stand in `record` as it was opened.
    pub(super) fn answered(self, record: &[u8], is_tls13: bool) -> Self {
        match self {
            Self::Other(Error::AlertReceived(_))
                if !is_tls13 || !matches!(record.get(LEVEL_AT), Some(&(WARNING | FATAL))) =>
            {
                Self::Level
            }
            fault => fault,
        }
    }

    /// Whether what came has not even the header of a record.
    pub(super) fn is_no_record(&self) -> bool {
        matches!(
            self,
            Self::Other(Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion
            ))
        )
    }

    /// The refusal for the handshake, without its alert. `failure` is what was found out before.
    pub(super) fn refusal(&self, failure: Option<Refusal>, peer: Peer) -> Refusal {
        match (failure, self) {
            (Some(failure), _) => by(peer, failure),
            (None, Self::Finished) => by(peer, Refusal::new(Reason::ProtocolViolation, FINISHED)),
            (None, Self::Level) => by(peer, Refusal::new(Reason::ProtocolViolation, NO_SUCH_LEVEL)),
            (None, Self::Other(error)) => refusal(error, peer),
        }
    }

    /// The alert that rustls has sent, where it is sealed and cannot be read back.
    pub(super) fn sealed_alert(&self, is_tls13: bool) -> Option<u8> {
        match self {
            Self::Finished => Some(AlertDescription::DecryptError.into()),
            Self::Level => Some(AlertDescription::IllegalParameter.into()),
            // A warning, or close_notify: in the handshake rustls takes none in TLS 1.3.
            Self::Other(Error::AlertReceived(_)) if is_tls13 => {
                Some(AlertDescription::DecodeError.into())
            }
            Self::Other(error) => sealed_alert(error),
        }
    }

    /// The alert that was due and that rustls has not sent.
    pub(super) fn missed_alert(&self) -> Option<u8> {
        match self {
            Self::Finished | Self::Level => None,
            Self::Other(error) => sealed_alert(error),
        }
    }

    /// The alert that suits better than the one rustls chose, where ours may replace it.
    pub(super) fn better_alert(&self, reason: Reason, is_tls13: bool) -> Option<u8> {
        match self {
            // Of a record's header (RFC 5246 §6.2.1, RFC 8446 §5.1).
            Self::Other(Error::InvalidMessage(InvalidMessage::MessageTooLarge)) => {
                Some(AlertDescription::RecordOverflow.into())
            }
            // The type of a record (RFC 5246 §6, RFC 8446 §5).
            Self::Other(Error::InvalidMessage(
                InvalidMessage::InvalidEmptyPayload | InvalidMessage::InvalidContentType,
            )) => Some(AlertDescription::UnexpectedMessage.into()),
            Self::Finished | Self::Level | Self::Other(_) => better_alert(reason, is_tls13),
        }
    }

    /// What a hello lacks that rustls refuses in coarser words, and the alert for it.
    pub(super) fn of_hello(&self, newest: Newest) -> Option<Refusal> {
        use PeerIncompatible as Why;
        let Self::Other(Error::PeerIncompatible(why)) = self else { return None };
        // RFC 8446 §9.2.
        let lacks = |extension| {
            let detail = format!("the client offers TLS 1.3 without {extension}");
            let alert = AlertDescription::MissingExtension.into();
            Some(Refusal::new(Reason::ProtocolViolation, detail).with_alert(alert))
        };
        match (why, newest) {
            (
                Why::NoKxGroupsInCommon | Why::SignatureAlgorithmsExtensionRequired,
                Newest::Tls13WithKeyAlone,
            ) => Some(key_alone(why)),
            (Why::KeyShareExtensionRequired, _) => lacks("key_share"),
            (Why::UncompressedEcPointsRequired, _) => {
                // RFC 8422 §5.1.2.
                let detail = "ec_point_formats of the client's hello lack uncompressed";
                let alert = AlertDescription::IllegalParameter.into();
                Some(Refusal::new(Reason::ProtocolViolation, detail).with_alert(alert))
            }
            (Why::NoKxGroupsInCommon, Newest::Tls13WithoutGroups) => lacks("supported_groups"),
            (
                Why::SignatureAlgorithmsExtensionRequired,
                Newest::Tls13 | Newest::Tls13WithoutGroups,
            ) => lacks("signature_algorithms"),
            (Why::SignatureAlgorithmsExtensionRequired, Newest::Tls12 | Newest::FellBack) => {
                // RFC 5246 §7.4.1.4.1.
                let detail = "the client names no signature algorithms, and wants SHA-1 thereby";
                let alert = AlertDescription::HandshakeFailure.into();
                Some(Refusal::new(Reason::CipherMismatch, detail).with_alert(alert))
            }
            (Why::SignatureAlgorithmsExtensionRequired, Newest::Older(_)) => {
                let detail = "the client speaks TLS 1.1 or older";
                let alert = AlertDescription::ProtocolVersion.into();
                Some(Refusal::new(Reason::VersionMismatch, detail).with_alert(alert))
            }
            _ => None,
        }
    }
}

/// Of a hello that would do where its key is taken. rustls asks for the rest before it looks at that.
fn key_alone(why: &PeerIncompatible) -> Refusal {
    let extension = match why {
        PeerIncompatible::SignatureAlgorithmsExtensionRequired => "signature_algorithms",
        _ => "supported_groups",
    };
    let detail = format!(
        "the client offers TLS 1.3 by a pre-shared key without {extension}, which RFC 8446 §9.2 allows and is asked \
         for here"
    );
    let hint = format!("have the client's library send {extension} in every hello, as most do");
    let alert = AlertDescription::MissingExtension.into();
    Refusal::new(Reason::ProtocolViolation, detail).with_alert(alert).with_hint(hint)
}

/// The record of a fatal alert before anything is sealed (RFC 8446 §5.1 and §6).
pub fn unsealed_alert(alert: u8) -> [u8; 7] {
    [CONTENT_ALERT, 3, 3, 0, 2, FATAL, alert]
}

/// A close_notify before anything is sealed.
pub(super) const UNSEALED_CLOSE: [u8; 7] = [CONTENT_ALERT, 3, 3, 0, 2, WARNING, 0];

/// Whether a close_notify that nothing seals stands at the front of `records`: a sealed one is longer.
pub(super) fn is_unsealed_close(records: &[u8]) -> bool {
    matches!(records, [CONTENT_ALERT, 3, _, 0, 2, WARNING | FATAL, 0, ..])
}

/// Whether `record`, which rustls has opened where it lay, is a close_notify: what it says stands before the tag, with
/// any cipher of TLS 1.2.
pub(super) fn is_opened_close(record: &[u8]) -> bool {
    let [CONTENT_ALERT, _, _, _, _, payload @ ..] = record else { return false };
    matches!(payload.last_chunk::<{ 2 + TAG }>(), Some([WARNING | FATAL, 0, ..]))
}

/// The alert that rustls sends for `error`, or that it should send. `None` when it sends none.
pub(super) fn sealed_alert(error: &Error) -> Option<u8> {
    let alert = match error {
        Error::InvalidCertificate(certificate) => AlertDescription::from(certificate.clone()),
        Error::InvalidMessage(message) => AlertDescription::from(*message),
        Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        Error::NoApplicationProtocol => AlertDescription::NoApplicationProtocol,
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            AlertDescription::UnexpectedMessage
        }
        Error::PeerMisbehaved(why) => misbehaved(why),
        Error::PeerIncompatible(_) => AlertDescription::HandshakeFailure,
        _ => return None,
    };
    Some(alert.into())
}

/// As rustls answers it, by its source; and as RFC 8446 would have what it does not answer.
fn misbehaved(why: &PeerMisbehaved) -> AlertDescription {
    use PeerMisbehaved as Why;
    match why {
        Why::IncorrectBinder => AlertDescription::DecryptError,
        Why::MissingBinderInPskExtension => AlertDescription::DecodeError,
        Why::MissingKeyShare
        | Why::MissingPskExtensionInSecondClientHello
        | Why::MissingPskModesExtension => AlertDescription::MissingExtension,
        Why::InvalidCertCompression | Why::SelectedUnofferedCertCompression => {
            AlertDescription::BadCertificate
        }
        Why::SelectedUnofferedCipherSuite | Why::ServerHelloMustOfferUncompressedEcPoints => {
            AlertDescription::HandshakeFailure
        }
        Why::DisallowedEncryptedExtension
        | Why::UnexpectedCleartextExtension
        | Why::UnsolicitedCertExtension
        | Why::UnsolicitedEchExtension
        | Why::UnsolicitedEncryptedExtension
        | Why::UnsolicitedServerHelloExtension => AlertDescription::UnsupportedExtension,
        Why::IllegalMiddleboxChangeCipherSpec
        | Why::IllegalTlsInnerPlaintext
        | Why::KeyEpochWithPendingFragment
        | Why::MessageInterleavedWithHandshakeMessage
        | Why::RejectedEarlyDataInterleavedWithHandshakeMessage
        | Why::TooManyEmptyFragments
        | Why::TooManyKeyUpdateRequests
        | Why::TooManyRenegotiationRequests
        | Why::TooManyWarningAlertsReceived
        | Why::TooMuchEarlyDataReceived => AlertDescription::UnexpectedMessage,
        _ => AlertDescription::IllegalParameter,
    }
}

fn better_alert(reason: Reason, is_tls13: bool) -> Option<u8> {
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
        Error::AlertReceived(AlertDescription::CloseNotify) => Reason::ClientClosed,
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
        | Why::NamedGroupsExtensionRequired => Reason::GroupMismatch,
        Why::ServerDoesNotSupportTls12Or13
        | Why::ServerTlsVersionIsDisabledByOurConfig
        | Why::SupportedVersionsExtensionRequired
        | Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled => Reason::VersionMismatch,
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
        Reason::ClientAlert => Reason::UpstreamAlert,
        Reason::Internal => Reason::Internal,
        _ => Reason::UpstreamTls,
    }
}

/// rustls' words, and the name of a received alert.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::AlertReceived(AlertDescription::CloseNotify) => CLOSED.to_owned(),
        Error::AlertReceived(alert) => {
            let code = u8::from(*alert);
            format!("the peer sent the alert {} ({code})", alert_name(code))
        }
        Error::NoCertificatesPresented => "the client sent no certificate".to_owned(),
        Error::PeerIncompatible(why) => match incompatible(why) {
            Reason::VersionMismatch => "no TLS version in common".to_owned(),
            Reason::GroupMismatch => "no key-exchange group in common".to_owned(),
            Reason::CipherMismatch if *why == PeerIncompatible::NoCipherSuitesInCommon => {
                NO_SUITE.to_owned()
            }
            Reason::CipherMismatch => "no signature scheme in common".to_owned(),
            _ => format!("the peer is incompatible: {why:?}"),
        },
        Error::NoApplicationProtocol => "no ALPN protocol in common".to_owned(),
        other => other.to_string(),
    }
}

/// What a refusal says whose client took leave before there was a session.
pub(super) const CLOSED: &str = "the peer closed in the middle of the handshake, with close_notify";

/// What a refusal says whose client and chain have no suite for the certificate that was chosen.
pub(super) const NO_SUITE: &str = "no cipher suite in common";

/// Of every cipher suite.
pub(super) const TAG: usize = 16;

/// What is said of an alert by whose level nobody knows whether it ends anything.
pub(super) const NO_SUCH_LEVEL: &str = "the peer sent an alert of a level that does not exist";

/// In a record in the clear, or sealed by TLS 1.3 and opened: behind its header.
const LEVEL_AT: usize = 5;

const CONTENT_ALERT: u8 = 21;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

const WITHOUT_TLS: &str = "name in `endpoints` a port on which the service speaks TLS, or turn TLS on in it; for \
                           Postgres, which begins in plain text, set `prelude` of the cluster to \"postgres\"";

/// Enough to tell HTTP from SMTP, and little in a log.
const ANSWER_SHOWN_MAX: usize = 24;

/// Of both sides: one of them has not seen what the other has.
const FINISHED: &str =
    "the peer's Finished is wrong: the handshake was altered on the way, or its library is broken";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_older_than_tls_1_2_is_told_that_it_is() {
        let why = PeerIncompatible::SignatureAlgorithmsExtensionRequired;
        let fault = Fault::Other(Error::PeerIncompatible(why));
        let refusal = fault.of_hello(Newest::Older(0x0302)).unwrap();
        assert_eq!((refusal.reason, refusal.alert), (Reason::VersionMismatch, Some(70)));
        assert!(refusal.detail.contains("TLS 1.1 or older"));
        let newer = fault.of_hello(Newest::Tls12).unwrap();
        assert_eq!((newer.reason, newer.alert), (Reason::CipherMismatch, Some(40)));
    }

    #[test]
    fn who_takes_leave_in_a_handshake_has_closed_and_sent_no_other_alert() {
        let refused = |alert| Fault::of(Error::AlertReceived(alert), 0).refusal(None, Peer::Client);
        let closed = refused(AlertDescription::CloseNotify);
        assert_eq!((closed.reason, &*closed.detail), (Reason::ClientClosed, CLOSED));
        assert_eq!(refused(AlertDescription::UnknownCA).reason, Reason::ClientAlert);
    }

    #[test]
    fn a_finished_that_is_wrong_is_no_record_that_does_not_open() {
        for (discard, alert, reason) in [(0, 20, "decrypt"), (60, 51, "Finished")] {
            let fault = Fault::of(Error::DecryptError, discard);
            assert_eq!(fault.sealed_alert(true), Some(alert));
            assert!(fault.refusal(None, Peer::Client).detail.contains(reason));
        }
    }
}
