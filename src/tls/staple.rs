//! An OCSP response to be stapled (RFC 6960 §4.2): read as far as an operator's mistake would show.
//!
//! Whether it is a good answer for this certificate and until when. Its signature is not verified: the
//! client does that, and gets the bytes as the responder made them. asn1-rs reads the DER.

use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::prelude::ASN1Time;

/// A response about one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Staple {
    pub der: Vec<u8>,
    pub status: Status,
    /// Unix seconds.
    pub this_update: u64,
    /// Unix seconds; `None`: the responder does not say until when it is good.
    pub next_update: Option<u64>,
}

/// What the responder says of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked,
    Unknown,
}

impl Staple {
    /// Reads a response in DER, for the certificate with this serial number.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub(super) fn parse(der: &[u8], serial: &[u8]) -> Result<Self, String> {
        let outline = Outline::parse(der).ok_or(UNSOUND)?;
        if let Some(error) = outline.error {
            return Err(format!("the responder answered with an error: {}", error_name(error)));
        }
        let serial = without_zeros(serial);
        let mut answers = outline.answers.into_iter();
        let Some(answer) = answers.find(|answer| without_zeros(answer.serial) == serial) else {
            return Err("it is about another certificate than the first of the chain".to_owned());
        };
        let Answer { status, this_update, next_update, .. } = answer;
        Ok(Self { der: der.to_vec(), status, this_update, next_update })
    }
}

/// The fields that matter here.
struct Outline<'a> {
    /// OCSPResponseStatus, if it is not `successful`.
    error: Option<u8>,
    answers: Vec<Answer<'a>>,
}

/// A SingleResponse.
struct Answer<'a> {
    serial: &'a [u8],
    status: Status,
    this_update: u64,
    next_update: Option<u64>,
}

impl<'a> Outline<'a> {
    /// RFC 6960 §4.2.1, field by field.
    fn parse(der: &'a [u8]) -> Option<Self> {
        let (after, whole) = Any::from_der(der).ok()?;
        let (rest, status) = Any::from_der(whole.data).ok()?;
        let &[status_code] = status.data else { return None };
        if !after.is_empty() || whole.tag() != Tag::Sequence || status.tag() != Tag::Enumerated {
            return None;
        }
        if status_code != 0 {
            return Some(Self { error: Some(status_code), answers: Vec::new() });
        }
        let (_, explicit) = Any::from_der(rest).ok()?;
        let (_, bytes) = Any::from_der(explicit.data).ok()?;
        let (rest, kind) = Any::from_der(bytes.data).ok()?;
        if kind.oid().ok()?.to_id_string() != BASIC {
            return None;
        }
        let (_, response) = Any::from_der(rest).ok()?;
        let (_, basic) = Any::from_der(response.data).ok()?;
        let (_, data) = Any::from_der(basic.data).ok()?;
        // Version, responder and time of production come before.
        let responses = first_sequence(data.data)?;
        let mut answers = Vec::new();
        let mut rest = responses.data;
        while !rest.is_empty() {
            let (after, one) = Any::from_der(rest).ok()?;
            answers.push(Answer::parse(one.data)?);
            rest = after;
        }
        Some(Self { error: None, answers })
    }
}

impl<'a> Answer<'a> {
    fn parse(fields: &'a [u8]) -> Option<Self> {
        let (rest, id) = Any::from_der(fields).ok()?;
        let (id_rest, _algorithm) = Any::from_der(id.data).ok()?;
        let (id_rest, _issuer_name) = Any::from_der(id_rest).ok()?;
        let (id_rest, _issuer_key) = Any::from_der(id_rest).ok()?;
        let (_, serial) = Any::from_der(id_rest).ok()?;
        let (rest, status) = Any::from_der(rest).ok()?;
        let (rest, this_update) = ASN1Time::from_der(rest).ok()?;
        let next_update = match Any::from_der(rest) {
            Ok((_, field)) if field.class() == Class::ContextSpecific && field.tag() == Tag(0) => {
                let (_, next_update) = ASN1Time::from_der(field.data).ok()?;
                Some(seconds(&next_update)?)
            }
            Ok(_) | Err(_) => None,
        };
        let status = match (status.class(), status.tag()) {
            (Class::ContextSpecific, Tag(0)) => Status::Good,
            (Class::ContextSpecific, Tag(1)) => Status::Revoked,
            (Class::ContextSpecific, Tag(2)) => Status::Unknown,
            _ => return None,
        };
        let (serial, this_update) = (serial.data, seconds(&this_update)?);
        Some(Self { serial, status, this_update, next_update })
    }
}

fn first_sequence(mut rest: &[u8]) -> Option<Any<'_>> {
    loop {
        let (after, field) = Any::from_der(rest).ok()?;
        if field.class() == Class::Universal && field.tag() == Tag::Sequence {
            return Some(field);
        }
        rest = after;
    }
}

fn seconds(time: &ASN1Time) -> Option<u64> {
    u64::try_from(time.timestamp()).ok()
}

/// DER puts a zero before a number that would look negative.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// RFC 6960 §4.2.1, OCSPResponseStatus.
fn error_name(status: u8) -> &'static str {
    match status {
        1 => "malformedRequest",
        2 => "internalError",
        3 => "tryLater",
        5 => "sigRequired",
        6 => "unauthorized",
        _ => "a number that RFC 6960 does not know",
    }
}

const UNSOUND: &str = "it is no OCSP response in DER";

/// id-pkix-ocsp-basic
const BASIC: &str = "1.3.6.1.5.5.7.48.1.1";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Made by `openssl ocsp -index … -respout`, with `-ndays 7` but for the last one.
    const GOOD: &[u8] = include_bytes!("../../tests/data/ocsp/good.der");
    const REVOKED: &[u8] = include_bytes!("../../tests/data/ocsp/revoked.der");
    const UNKNOWN: &[u8] = include_bytes!("../../tests/data/ocsp/unknown.der");
    const ENDLESS: &[u8] = include_bytes!("../../tests/data/ocsp/endless.der");
    const SERIAL: &[u8] = &[0, 0x8f, 1, 2, 3, 4, 5, 6, 7, 8];
    const MADE: u64 = 1_795_647_654;

    #[test]
    fn status_and_times_are_read() {
        for (der, status, days) in [
            (GOOD, Status::Good, Some(7)),
            (REVOKED, Status::Revoked, Some(7)),
            (UNKNOWN, Status::Unknown, Some(7)),
            (ENDLESS, Status::Good, None),
        ] {
            let staple = Staple::parse(der, SERIAL).unwrap();
            assert_eq!(staple.status, status);
            assert_eq!(staple.this_update, MADE);
            assert_eq!(staple.next_update, days.map(|days| MADE + days * 86_400));
            assert_eq!(staple.der, der);
        }
        assert!(Staple::parse(GOOD, &SERIAL[1..]).is_ok(), "a zero in front changes no number");
    }

    #[test]
    fn what_is_no_answer_for_this_certificate_is_refused_with_the_reason() {
        let error = |status: u8| vec![0x30, 3, 10, 1, status];
        let extra = [GOOD, &[0]].concat();
        for (der, serial, says) in [
            (GOOD.to_vec(), &SERIAL[..9], "another certificate"),
            (GOOD.to_vec(), &[][..], "another certificate"),
            (error(3), SERIAL, "tryLater"),
            (error(6), SERIAL, "unauthorized"),
            (error(9), SERIAL, "does not know"),
            (error(0), SERIAL, "no OCSP response"),
            (extra, SERIAL, "no OCSP response"),
            (vec![], SERIAL, "no OCSP response"),
            (b"-----BEGIN".to_vec(), SERIAL, "no OCSP response"),
        ] {
            let found = Staple::parse(&der, serial).unwrap_err();
            assert!(found.contains(says), "{found}");
        }
    }

    #[test]
    fn no_prefix_of_a_response_is_one() {
        for end in 0..GOOD.len() {
            assert!(Staple::parse(&GOOD[..end], SERIAL).is_err(), "{end} bytes");
        }
    }

    proptest! {
        // threat 36
        #[test]
        fn mutated_responses_never_panic(
            at in 0..GOOD.len(), byte: u8, cut in 0..GOOD.len(), junk: Vec<u8>,
        ) {
            let mut der = GOOD.to_vec();
            der[at] = byte;
            drop(Staple::parse(&der, SERIAL));
            drop(Staple::parse(&der[cut..], SERIAL));
            drop(Staple::parse(&junk, SERIAL));
        }
    }
}
