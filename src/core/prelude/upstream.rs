//! Asking a Postgres server for TLS: the request, and what its answer means.
//!
//! The answer is one byte without protection. `S` alone lets TLS begin; whatever came behind it came
//! before TLS and is refused (CVE-2021-23222). Nothing else that it says is believed or shown.

use super::postgres::SSL_REQUEST;
use crate::core::refusal::{Reason, Refusal};

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    NeedMore,
    /// TLS may begin.
    Yes,
    Refused(Refusal),
}

/// The request: its length, and its code.
pub const fn request() -> [u8; 8] {
    let [a, b, c, d] = SSL_REQUEST.to_be_bytes();
    [0, 0, 0, 8, a, b, c, d]
}

/// Looks at `input`: everything received since the request was sent.
pub fn answer(input: &[u8]) -> Answer {
    let said = match input {
        [] => return Answer::NeedMore,
        [b'S'] => return Answer::Yes,
        [b'S', behind @ ..] => {
            let detail = format!("{} bytes behind its S, before TLS began", behind.len());
            return Answer::Refused(Refusal::new(Reason::UpstreamSmuggled, detail));
        }
        [b'N', ..] => "N: it has no TLS".to_owned(),
        // A server that cannot start a session says so like this.
        [b'E', ..] => "an error message: it is overloaded, or not PostgreSQL".to_owned(),
        [byte, ..] => format!("byte 0x{byte:02x}: it is not PostgreSQL"),
    };
    let detail = format!("it answered the SSLRequest with {said}");
    Answer::Refused(Refusal::new(Reason::UpstreamNoTls, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(input: &[u8]) -> Option<Reason> {
        match answer(input) {
            Answer::Refused(refusal) => Some(refusal.reason),
            Answer::NeedMore | Answer::Yes => None,
        }
    }

    #[test]
    fn the_request_is_that_of_the_documentation() {
        assert_eq!(request(), [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
    }

    #[test]
    fn only_a_lone_s_lets_tls_begin() {
        assert_eq!(answer(b""), Answer::NeedMore);
        assert_eq!(answer(b"S"), Answer::Yes);
        for other in 0..=u8::MAX {
            if other != b'S' {
                assert_eq!(reason(&[other]), Some(Reason::UpstreamNoTls), "{other}");
                assert_eq!(reason(&[other, b'S']), Some(Reason::UpstreamNoTls), "{other}");
            }
            assert_eq!(reason(&[b'S', other]), Some(Reason::UpstreamSmuggled), "{other}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_behind_the_answer_is_never_shown(behind in "[a-zA-Z]{24,40}") {
            for first in [b'S', b'N', b'E', b'x'] {
                let Answer::Refused(refusal) = answer(&[&[first], behind.as_bytes()].concat()) else {
                    return Err(TestCaseError::fail("more than one byte is never good"));
                };
                prop_assert!(!refusal.detail.contains(&behind));
            }
        }
    }
}
