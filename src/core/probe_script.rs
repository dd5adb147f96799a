//! What a probe says to a service, and which answers are good.
//!
//! One message and the beginning of one answer: enough to know that somebody is there who speaks the
//! protocol. Judges bytes and sends none.

use std::sync::Arc;

/// One exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeScript {
    /// Sent first; empty where the service speaks first.
    send: Arc<[u8]>,
    /// The answer is good if it begins with any of these. Not empty, and none of them is.
    expect: Vec<Arc<[u8]>>,
}

/// What an answer is worth so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Good,
    NeedMore,
    Bad,
}

/// A script that comes with the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Postgres,
    Redis,
    Mqtt,
    Smtp,
}

impl ProbeScript {
    /// An exchange of the operator's own; `expect` is not empty.
    pub fn own(send: &[u8], expect: &[u8]) -> Self {
        Self { send: send.into(), expect: vec![expect.into()] }
    }

    /// `in_tls`: it is asked inside TLS.
    pub fn of(service: Service, in_tls: bool) -> Self {
        let (send, expect): (&[u8], &[&[u8]]) = match (service, in_tls) {
            // TLS or none, the answer is one byte (PostgreSQL's protocol, "SSL Session Encryption").
            (Service::Postgres, false) => (PG_SSL_REQUEST, &[b"S", b"N"]),
            // Who is in TLS already has no use for that: it asks to log in, and is asked who it is.
            (Service::Postgres, true) => (PG_STARTUP, &[b"R"]),
            // One that wants a password is up; one that is loading or has lost its master is not.
            (Service::Redis, _) => (b"PING\r\n", &[b"+PONG", b"-NOAUTH", b"-NOPERM"]),
            // MQTT 3.1.1 §3.2.2.3: accepted, bad user name or password, not authorized.
            (Service::Mqtt, _) => {
                (MQTT_CONNECT, &[b"\x20\x02\x00\x00", b"\x20\x02\x00\x04", b"\x20\x02\x00\x05"])
            }
            // RFC 5321 §4.3.2: the service is ready.
            (Service::Smtp, _) => (b"", &[b"220"]),
        };
        Self { send: send.into(), expect: expect.iter().map(|bytes| Arc::from(*bytes)).collect() }
    }

    pub fn send(&self) -> &[u8] {
        &self.send
    }

    /// What the bytes that came so far are worth.
    pub fn judge(&self, answer: &[u8]) -> Answer {
        let mut verdict = Answer::Bad;
        for expected in &self.expect {
            if answer.starts_with(expected) {
                return Answer::Good;
            }
            if expected.starts_with(answer) {
                verdict = Answer::NeedMore;
            }
        }
        verdict
    }
}

/// Length 8, code 80877103.
const PG_SSL_REQUEST: &[u8] = b"\x00\x00\x00\x08\x04\xd2\x16\x2f";
/// Length 25, protocol 3.0, a user's name.
const PG_STARTUP: &[u8] = b"\x00\x00\x00\x19\x00\x03\x00\x00user\x00portcullis\x00\x00";
/// MQTT 3.1.1, clean session, no will, a minute of keepalive, and a name of its own: another client of
/// the same name would be put out.
const MQTT_CONNECT: &[u8] = b"\x10\x1d\x00\x04MQTT\x04\x02\x00\x3c\x00\x11portcullis-health";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_of_real_services_are_told_apart() {
        let of = ProbeScript::of;
        for (script, answer, worth) in [
            (of(Service::Postgres, false), &b"S"[..], Answer::Good),
            (of(Service::Postgres, false), b"N", Answer::Good),
            (of(Service::Postgres, false), b"E\x00\x00", Answer::Bad),
            (of(Service::Postgres, true), b"R\x00\x00\x00\x17\x00\x00\x00\x0a", Answer::Good),
            (of(Service::Postgres, true), b"EFATAL", Answer::Bad),
            (of(Service::Redis, false), b"+PONG\r\n", Answer::Good),
            (of(Service::Redis, false), b"-NOAUTH Authentication required.\r\n", Answer::Good),
            (of(Service::Redis, false), b"-LOADING Redis is loading", Answer::Bad),
            (of(Service::Redis, false), b"-NO", Answer::NeedMore),
            (of(Service::Mqtt, false), b"\x20\x02\x00\x05", Answer::Good),
            (of(Service::Mqtt, true), b"\x20\x02\x00\x03", Answer::Bad),
            (of(Service::Smtp, false), b"220 mail ESMTP\r\n", Answer::Good),
            (of(Service::Smtp, false), b"421 later\r\n", Answer::Bad),
            (of(Service::Smtp, false), b"", Answer::NeedMore),
            (ProbeScript::own(b"hello", b"world"), b"word", Answer::Bad),
        ] {
            assert_eq!(script.judge(answer), worth, "{script:?} {answer:?}");
        }
    }

    #[test]
    fn lengths_in_the_messages_are_those_of_the_messages() {
        assert_eq!(usize::from(PG_STARTUP[3]), PG_STARTUP.len());
        assert_eq!(usize::from(PG_SSL_REQUEST[3]), PG_SSL_REQUEST.len());
        assert_eq!(usize::from(MQTT_CONNECT[1]), MQTT_CONNECT.len() - 2);
        assert_eq!(usize::from(MQTT_CONNECT[13]), MQTT_CONNECT.len() - 14);
    }

    proptest! {
        #[test]
        fn every_part_of_a_good_answer_needs_more_until_it_is_good(
            expected in prop::collection::vec(any::<u8>(), 1..20),
            rest in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let script = ProbeScript::own(b"", &expected);
            let answer = [expected.as_slice(), rest.as_slice()].concat();
            for end in 0..=answer.len() {
                let worth = if end < expected.len() { Answer::NeedMore } else { Answer::Good };
                prop_assert_eq!(script.judge(&answer[..end]), worth);
            }
            let mut other = answer;
            other[0] ^= 1;
            prop_assert_eq!(script.judge(&other), Answer::Bad);
        }
    }
}
