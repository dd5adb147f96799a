//! How much of a stream one record for a client may hold, by what the client says of its buffers.
//!
//! Two extensions speak of it, max_fragment_length (RFC 6066 §4) and record_size_limit (RFC 8449). Neither is
//! answered: the client's own records may have any length. What is sent to it keeps to the limit, for a client that
//! names one may have no room for more.

use crate::core::record::CONTENT_MAX;

/// The longest content of a record for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordLimit {
    /// As the protocol has it, 2^14 bytes.
    #[default]
    Standard,
    /// So many bytes, which are fewer: at least [`RecordLimit::LEAST`].
    Content(u16),
    /// A length that there is not, in the extension of this name; to be answered by illegal_parameter.
    Illegal { extension: &'static str, value: u16 },
}

impl RecordLimit {
    /// The least that a client may ask for: 64 with the type that TLS 1.3 has behind the content.
    pub const LEAST: u16 = RECORD_SIZE_LEAST - 1;

    /// The longest content in bytes.
    #[must_use]
    pub fn content_max(self) -> u16 {
        match self {
            Self::Content(bytes) => bytes,
            Self::Standard | Self::Illegal { .. } => CONTENT_MAX,
        }
    }

    /// By the values of the extensions. Beside a record_size_limit the other one is not looked at (RFC 8449 §5).
    pub(super) fn of(
        max_fragment_length: Option<u8>,
        record_size_limit: Option<u16>,
        offers_tls13: bool,
    ) -> Self {
        let content = match (record_size_limit, max_fragment_length) {
            (Some(value @ ..RECORD_SIZE_LEAST), _) => {
                return Self::Illegal { extension: "record_size_limit", value };
            }
            // With the content's type, in TLS 1.3.
            (Some(bytes), _) => bytes - u16::from(offers_tls13),
            (None, Some(power @ 1..=4)) => 1 << (8 + power),
            (None, Some(value)) => {
                let value = value.into();
                return Self::Illegal { extension: "max_fragment_length", value };
            }
            (None, None) => return Self::Standard,
        };
        if content < CONTENT_MAX { Self::Content(content) } else { Self::Standard }
    }
}

/// RFC 8449 §4.
const RECORD_SIZE_LEAST: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::client_hello::tests::Sample;
    use crate::core::client_hello::{HelloBuffer, Peek, peek};

    #[test]
    fn a_limit_is_what_the_extensions_say_it_is() {
        use RecordLimit::{Content, Standard};
        let fragment = |value| RecordLimit::of(Some(value), None, true);
        assert_eq!([1, 2, 3, 4].map(fragment), [512, 1024, 2048, 4096].map(Content));
        for value in [0, 5, 255] {
            let expected =
                RecordLimit::Illegal { extension: "max_fragment_length", value: value.into() };
            assert_eq!(fragment(value), expected);
        }
        for (value, tls13, tls12) in [
            (64, Content(63), Content(64)),
            (1025, Content(1024), Content(1025)),
            (16_383, Content(16_382), Content(16_383)),
            (16_384, Content(16_383), Standard),
            (16_385, Standard, Standard),
            (u16::MAX, Standard, Standard),
        ] {
            assert_eq!(RecordLimit::of(None, Some(value), true), tls13, "{value}");
            assert_eq!(RecordLimit::of(None, Some(value), false), tls12, "{value}");
        }
        for value in [0, 63] {
            let expected = RecordLimit::Illegal { extension: "record_size_limit", value };
            assert_eq!(RecordLimit::of(None, Some(value), false), expected);
        }
        assert_eq!(RecordLimit::of(None, None, true), Standard);
        for other in [0, 1] {
            let both = RecordLimit::of(Some(other), Some(16_385), true);
            assert_eq!(both, Standard, "the other one does not count");
        }
    }

    #[test]
    fn a_hello_asks_for_what_its_extensions_say() {
        let limit = |sample: Sample| {
            let (wire, mut joined) = (sample.wire(), HelloBuffer::new());
            let Peek::Hello(hello) = peek(&wire, &mut joined) else { panic!("{wire:?}") };
            hello.record_limit()
        };
        assert_eq!(limit(Sample::new()), RecordLimit::Standard);
        assert_eq!(limit(Sample::new().with(1, [3])), RecordLimit::Content(2048));
        let both = Sample::new().with(1, [3]).with(28, [1, 1]);
        assert_eq!(limit(both), RecordLimit::Content(256));
    }

    #[test]
    fn what_is_no_limit_is_the_standard() {
        let illegal = RecordLimit::Illegal { extension: "record_size_limit", value: 1 };
        let all = [RecordLimit::Standard, illegal, RecordLimit::Content(RecordLimit::LEAST)];
        assert_eq!(all.map(RecordLimit::content_max), [16_384, 16_384, 63]);
    }
}
