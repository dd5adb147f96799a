//! The first packets of a Postgres client, up to its ClientHello: asks for TLS and is promised it,
//! asks for GSSAPI and is refused it, begins with TLS at once, or sends what is not for a gateway.
//!
//! A request is taken only where nothing is behind it: what came before our answer came before TLS,
//! and nobody may take it for what the client said within (CVE-2021-23214). After the promise all
//! bytes are the peek's.

use crate::core::refusal::{Reason, Refusal};

/// One client's prelude.
#[derive(Debug)]
pub struct Postgres {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    /// GSSENCRequest was answered. A second one is refused, so that no client keeps us answering.
    GssRefused,
}

/// What to do with the bytes that are there.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be said yet.
    NeedMore,
    /// Drop the request, all there is, send `answer`, and read on.
    Answer {
        answer: [u8; 1],
    },
    /// The same, and the prelude is over: TLS follows, and nothing else will do.
    Promise {
        answer: [u8; 1],
    },
    /// No request, and TLS or who knows what: the prelude is over, the peek decides.
    NoPrelude,
    /// Packets that go on in plain text. Where that is not allowed: send `answer` and refuse.
    PlainText {
        refusal: Refusal,
        answer: &'static [u8],
    },
    Refuse(Refusal),
}

impl Postgres {
    pub fn new() -> Self {
        Self { state: State::Opening }
    }

    /// Looks at `input`: everything received and not dropped yet. After [`Step::Promise`],
    /// [`Step::NoPrelude`] and what follows it, there is nothing more to ask.
    pub fn step(&mut self, input: &[u8]) -> Step {
        let (code, bytes) = match Packet::read(input) {
            Packet::NeedMore => return Step::NeedMore,
            Packet::Other => return Step::NoPrelude,
            Packet::Start { code, bytes } => (code, bytes),
        };
        match (code, self.state) {
            (SSL_REQUEST, _) => match lone(input, bytes, "SSLRequest") {
                Ok(()) => Step::Promise { answer: *b"S" },
                Err(refusal) => Step::Refuse(refusal),
            },
            (GSSENC_REQUEST, State::Opening) => match lone(input, bytes, "GSSENCRequest") {
                Ok(()) => {
                    self.state = State::GssRefused;
                    Step::Answer { answer: *b"N" }
                }
                Err(refusal) => Step::Refuse(refusal),
            },
            (GSSENC_REQUEST, State::GssRefused) => malformed("a second GSSENCRequest"),
            (CANCEL_REQUEST, _) => Step::PlainText {
                refusal: Refusal::new(Reason::CancelRefused, "a CancelRequest in plain text"),
                // The protocol has no answer to it.
                answer: &[],
            },
            (STARTUP_2..=STARTUP_3_END, _) => Step::PlainText {
                refusal: Refusal::new(
                    Reason::TlsRequired,
                    "a Postgres session that begins in plain text",
                ),
                answer: TLS_REQUIRED,
            },
            _ => Step::NoPrelude,
        }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

/// The start of a packet, as all of a client's first ones have it: its length, itself included, and
/// a code.
enum Packet {
    NeedMore,
    /// No length that such a packet may have.
    Other,
    Start {
        code: u32,
        bytes: usize,
    },
}

impl Packet {
    fn read(input: &[u8]) -> Self {
        // The length has two bytes of zeroes in front. A TLS record begins with 22, text with a letter.
        if input.iter().take(2).any(|byte| *byte != 0) {
            return Self::Other;
        }
        let &[_, _, high, low, ref behind @ ..] = input else { return Self::NeedMore };
        let bytes = usize::from(u16::from_be_bytes([high, low]));
        if !(HEAD_BYTES..=PACKET_BYTES_MAX).contains(&bytes) {
            return Self::Other;
        }
        match *behind {
            [a, b, c, d, ..] => Self::Start { code: u32::from_be_bytes([a, b, c, d]), bytes },
            _ => Self::NeedMore,
        }
    }
}

/// A request is eight bytes, and the client waits for the answer before it sends another.
fn lone(input: &[u8], claimed: usize, name: &str) -> Result<(), Refusal> {
    if claimed != HEAD_BYTES {
        let detail = format!("{name} claims {claimed} bytes, it has {HEAD_BYTES}");
        return Err(Refusal::new(Reason::PreludeMalformed, detail));
    }
    match input.len() - HEAD_BYTES {
        0 => Ok(()),
        behind => {
            let detail = format!("{behind} bytes behind {name}, before it was answered");
            Err(Refusal::new(Reason::PreludeSmuggled, detail))
        }
    }
}

fn malformed(detail: &str) -> Step {
    Step::Refuse(Refusal::new(Reason::PreludeMalformed, detail))
}

/// An ErrorResponse. 28000 is what PostgreSQL itself says where pg_hba.conf has no line for plain text;
/// libpq with sslmode=allow tries again with TLS when it reads any.
const TLS_REQUIRED: &[u8] = b"E\0\0\0\xc1SFATAL\0VFATAL\0C28000\0\
    Mthis server requires SSL, and the connection is not encrypted\0\
    Hset sslmode=verify-full and sslrootcert, and sslcert and sslkey where a client certificate is required\0\0";

/// Length and code.
const HEAD_BYTES: usize = 8;
/// What PostgreSQL takes of a startup packet (MAX_STARTUP_PACKET_LENGTH).
const PACKET_BYTES_MAX: usize = 10_000;

pub(super) const SSL_REQUEST: u32 = 1234 << 16 | 5679;
const GSSENC_REQUEST: u32 = 1234 << 16 | 5680;
const CANCEL_REQUEST: u32 = 1234 << 16 | 5678;
/// Versions 2.0 to 3.65535 of the protocol.
const STARTUP_2: u32 = 2 << 16;
const STARTUP_3_END: u32 = 3 << 16 | 0xffff;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let bytes = u32::try_from(HEAD_BYTES + body.len()).expect("short");
        [&bytes.to_be_bytes(), &code.to_be_bytes(), body].concat()
    }

    fn reason(step: &Step) -> Option<Reason> {
        match step {
            Step::PlainText { refusal, .. } | Step::Refuse(refusal) => Some(refusal.reason),
            Step::NeedMore | Step::Answer { .. } | Step::Promise { .. } | Step::NoPrelude => None,
        }
    }

    #[test]
    fn codes_are_those_of_the_documentation() {
        assert_eq!((SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST), (80877103, 80877104, 80877102));
        assert_eq!(packet(SSL_REQUEST, b""), [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]);
    }

    #[test]
    fn a_request_is_answered_once_it_is_whole_and_alone() {
        let ssl = packet(SSL_REQUEST, b"");
        let gss = packet(GSSENC_REQUEST, b"");
        for end in 0..HEAD_BYTES {
            assert_eq!(Postgres::new().step(&ssl[..end]), Step::NeedMore, "{end}");
            assert_eq!(Postgres::new().step(&gss[..end]), Step::NeedMore, "{end}");
        }
        assert_eq!(Postgres::new().step(&ssl), Step::Promise { answer: *b"S" });
        assert_eq!(Postgres::new().step(&gss), Step::Answer { answer: *b"N" });
    }

    #[test]
    fn gssapi_is_refused_once_and_tls_may_be_asked_for_then() {
        let gss = packet(GSSENC_REQUEST, b"");
        let mut prelude = Postgres::new();
        assert_eq!(prelude.step(&gss), Step::Answer { answer: *b"N" });
        assert_eq!(prelude.step(b""), Step::NeedMore);
        assert_eq!(reason(&prelude.step(&gss)), Some(Reason::PreludeMalformed));
        let mut prelude = Postgres::new();
        prelude.step(&gss);
        assert_eq!(prelude.step(&packet(SSL_REQUEST, b"")), Step::Promise { answer: *b"S" });
    }

    #[test]
    fn bytes_behind_a_request_are_smuggled_whatever_they_are() {
        let hello = [22, 3, 1];
        let startup = packet(3 << 16, b"user\0mallory\0\0");
        for code in [SSL_REQUEST, GSSENC_REQUEST] {
            for behind in [&hello[..], &startup, &[0], &packet(SSL_REQUEST, b"")] {
                let step = Postgres::new().step(&[&packet(code, b"")[..], behind].concat());
                assert_eq!(reason(&step), Some(Reason::PreludeSmuggled), "{code} {behind:?}");
            }
            let step = Postgres::new().step(&packet(code, b"x"));
            assert_eq!(reason(&step), Some(Reason::PreludeMalformed), "{code}");
        }
    }

    #[test]
    fn plain_text_is_told_by_its_first_eight_bytes() {
        for version in [2 << 16, 3 << 16, 3 << 16 | 2, 3 << 16 | 9999] {
            let whole = packet(version, b"user\0alice\0\0");
            for end in HEAD_BYTES..=whole.len() {
                let step = Postgres::new().step(&whole[..end]);
                assert_eq!(reason(&step), Some(Reason::TlsRequired), "{version} {end}");
            }
        }
        // The key had four bytes, and since protocol 3.2 it may have 256.
        for key in [4, 32, 256] {
            let step = Postgres::new().step(&packet(CANCEL_REQUEST, &vec![7; 4 + key]));
            assert_eq!(reason(&step), Some(Reason::CancelRefused));
            assert!(matches!(step, Step::PlainText { answer: [], .. }), "{step:?}");
        }
    }

    #[test]
    fn what_is_no_packet_of_postgres_is_the_peeks_at_once() {
        for other in [
            &[22][..],
            &[22, 3, 1, 2, 0],
            b"G",
            b"GET / HTTP/1.1\r\n",
            &[0, 1],
            &[0, 0, 0, 7],
            &[0, 0, 0x27, 0x11],
            &packet(1 << 16, b""),
            &packet(4 << 16, b""),
            &packet(1234 << 16 | 1, b""),
        ] {
            assert_eq!(Postgres::new().step(other), Step::NoPrelude, "{other:?}");
        }
    }

    #[test]
    fn the_error_is_one_whole_message_with_fields_that_clients_show() {
        let [b'E', a, b, c, d, fields @ ..] = TLS_REQUIRED else { panic!("an ErrorResponse") };
        let length = u32::from_be_bytes([*a, *b, *c, *d]);
        assert_eq!(usize::try_from(length).ok(), Some(4 + fields.len()));
        let fields = fields.strip_suffix(b"\0\0").expect("ends with an empty field");
        let kinds: Vec<u8> = fields.split(|byte| *byte == 0).map(|field| field[0]).collect();
        assert_eq!(kinds, b"SVCMH");
    }

    proptest! {
        /// However the bytes are cut, the last word is the same as for all of them at once, but for
        /// what comes behind a request: that is where the client waits.
        #[test]
        fn crumbs_and_the_whole_are_judged_alike(
            code in prop_oneof![
                Just(SSL_REQUEST), Just(GSSENC_REQUEST), Just(CANCEL_REQUEST), Just(3 << 16), any::<u32>()
            ],
            body in prop::collection::vec(any::<u8>(), 0..40),
            noise in prop::option::of(prop::collection::vec(any::<u8>(), 0..16)),
        ) {
            let input = noise.unwrap_or_else(|| packet(code, &body));
            let whole = Postgres::new().step(&input);
            let mut crumbs = Postgres::new();
            let first = (0..=input.len())
                .map(|end| crumbs.step(&input[..end]))
                .find(|step| *step != Step::NeedMore);
            match first {
                None => prop_assert_eq!(whole, Step::NeedMore),
                Some(Step::Promise { .. } | Step::Answer { .. }) => {
                    let smuggled = reason(&whole) == Some(Reason::PreludeSmuggled);
                    prop_assert_eq!(smuggled, input.len() > HEAD_BYTES);
                }
                Some(step) => prop_assert_eq!(whole, step),
            }
        }

        /// A client is answered twice at most, whatever it goes on to send.
        #[test]
        fn answers_are_bounded(inputs in prop::collection::vec(
            prop_oneof![
                Just(packet(GSSENC_REQUEST, b"")),
                Just(packet(SSL_REQUEST, b"")),
                prop::collection::vec(any::<u8>(), 0..12),
            ],
            0..20,
        )) {
            let (mut prelude, mut answers) = (Postgres::new(), 0);
            for input in inputs {
                match prelude.step(&input) {
                    Step::NeedMore => {}
                    Step::Answer { .. } => answers += 1,
                    Step::Promise { .. } => {
                        answers += 1;
                        break;
                    }
                    Step::NoPrelude | Step::PlainText { .. } | Step::Refuse(_) => break,
                }
            }
            prop_assert!(answers <= 2);
        }
    }
}
