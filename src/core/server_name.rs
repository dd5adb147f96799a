//! DNS names as they may stand in an SNI, and the patterns that the configuration matches them with.
//!
//! Owns the one normalisation of names: routing, tickets and logs all see its result, so two
//! spellings of a name can never choose two chains. Never resolves, never looks at public suffixes.
//! Read `client_hello` next: it brings the names in; `route` matches them.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name in its text form: 255 bytes on the wire less the root label and one length byte
/// (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 253;

/// Longest label (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// A DNS name in lower-case ASCII, without trailing dot, that is not an IP address.
///
/// Clones share the text; maps keyed by it are searched with a `&str`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(Arc<str>);

/// A name in the configuration: `orders.example.com`, or `*.example.com` for every name below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamePattern {
    Exact(ServerName),
    /// The suffix without `*.`: takes names with one label or more before it, never itself.
    Below(ServerName),
}

/// Why bytes are not a name that an SNI may carry. `at` counts bytes from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name has {bytes} bytes, the limit is {NAME_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("the name begins with a dot")]
    LeadingDot,
    #[error("the name ends with a dot")]
    TrailingDot,
    #[error("an empty label at byte {at}: two dots in a row")]
    EmptyLabel { at: usize },
    #[error("a label of {bytes} bytes at byte {at}, the limit is {LABEL_BYTES_MAX}")]
    LabelTooLong { at: usize, bytes: usize },
    #[error("the label at byte {at} begins or ends with a hyphen")]
    LabelHyphen { at: usize },
    #[error("a NUL at byte {at}")]
    Nul { at: usize },
    #[error("byte {at} is 0x{byte:02x}, not ASCII: an international name stands in its xn-- form")]
    NotAscii { at: usize, byte: u8 },
    #[error(
        "byte {at} is 0x{byte:02x}: only letters, digits, '-', '_' and '.' may stand in a name"
    )]
    BadCharacter { at: usize, byte: u8 },
    #[error("an IP address is not a name")]
    IpAddress,
    /// Every IPv4 short form (`127.1`) ends so, and no top-level domain does.
    #[error("the last label is a number, as in an IP address")]
    NumericLastLabel,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error(
        "\"*\" alone takes every name: leave the match out instead, and the chain is the default"
    )]
    Everything,
    #[error(
        "'*' at byte {at}: it may only stand for whole labels at the start, as in \"*.example.com\""
    )]
    Wildcard { at: usize },
    /// The rest of the pattern, counted without `*.`, is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Lower-cases and checks `bytes`, into `out`. Allocates nothing.
///
/// # Errors
/// The first rule that is broken; a name longer than [`NAME_BYTES_MAX`] is not looked at further.
pub fn normalise_into<'a>(bytes: &[u8], out: &'a mut [u8; 255]) -> Result<&'a str, NameError> {
    check(bytes)?;
    let out = &mut out[..bytes.len()];
    out.copy_from_slice(bytes);
    out.make_ascii_lowercase();
    // `check` let only ASCII through; the error cannot happen, and would be a refusal, not a panic.
    std::str::from_utf8(out).map_err(|error| {
        let at = error.valid_up_to();
        NameError::NotAscii { at, byte: bytes.get(at).copied().unwrap_or_default() }
    })
}

impl ServerName {
    /// A name from the wire or from the configuration.
    ///
    /// # Errors
    /// As [`normalise_into`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        normalise_into(bytes, &mut [0; 255]).map(|name| Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NamePattern {
    /// Whether this pattern takes `name`, which must be normalised.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == name,
            Self::Below(suffix) => name
                .strip_suffix(suffix.as_str())
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
        }
    }

    /// The exact name, or the suffix without `*.`.
    pub fn name(&self) -> &ServerName {
        match self {
            Self::Exact(name) | Self::Below(name) => name,
        }
    }
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Err(PatternError::Everything);
        }
        let (rest, skipped) = match text.strip_prefix("*.") {
            Some(rest) => (rest, 2),
            None => (text, 0),
        };
        if let Some(at) = rest.find('*') {
            return Err(PatternError::Wildcard { at: at + skipped });
        }
        let name = ServerName::parse(rest.as_bytes())?;
        // The longest name below a suffix must itself fit: one label, one dot, the suffix.
        if skipped > 0 && name.as_str().len() + 2 > NAME_BYTES_MAX {
            return Err(NameError::TooLong { bytes: text.len() }.into());
        }
        Ok(if skipped > 0 { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl FromStr for ServerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text.as_bytes())
    }
}

/// `Hash` and `Eq` are those of the text, so a map keyed by names is searched with a `&str`.
impl Borrow<str> for ServerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ServerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn check(bytes: &[u8]) -> Result<(), NameError> {
    match bytes {
        [] => return Err(NameError::Empty),
        [b'.', ..] => return Err(NameError::LeadingDot),
        _ if bytes.len() > NAME_BYTES_MAX => return Err(NameError::TooLong { bytes: bytes.len() }),
        _ => {}
    }
    let mut label_at = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'.' if at == label_at => return Err(NameError::EmptyLabel { at }),
            b'.' => {
                check_label(bytes, label_at, at)?;
                label_at = at + 1;
            }
            0 => return Err(NameError::Nul { at }),
            // IPv6 is the only text with colons that anyone sends for a name; say so.
            b':' | b'[' => return Err(ip_or(bytes, NameError::BadCharacter { at, byte })),
            0x80.. => return Err(NameError::NotAscii { at, byte }),
            _ => return Err(NameError::BadCharacter { at, byte }),
        }
    }
    if label_at == bytes.len() {
        return Err(NameError::TrailingDot);
    }
    check_label(bytes, label_at, bytes.len())?;
    if bytes[label_at..].iter().all(u8::is_ascii_digit) {
        return Err(ip_or(bytes, NameError::NumericLastLabel));
    }
    Ok(())
}

fn check_label(name: &[u8], at: usize, end: usize) -> Result<(), NameError> {
    let label = &name[at..end];
    if label.len() > LABEL_BYTES_MAX {
        return Err(NameError::LabelTooLong { at, bytes: label.len() });
    }
    if label.first() == Some(&b'-') || label.last() == Some(&b'-') {
        return Err(NameError::LabelHyphen { at });
    }
    Ok(())
}

/// `IpAddress` if `bytes` are one, in brackets or not; `otherwise` if not.
fn ip_or(bytes: &[u8], otherwise: NameError) -> NameError {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let text = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    if text.parse::<std::net::IpAddr>().is_ok() { NameError::IpAddress } else { otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn error(bytes: impl AsRef<[u8]>) -> NameError {
        ServerName::parse(bytes.as_ref()).unwrap_err()
    }

    // threat 5
    #[test]
    fn names_are_lower_cased_and_otherwise_kept() {
        for (given, kept) in [
            ("example.com", "example.com"),
            ("EXAMPLE.Com", "example.com"),
            ("localhost", "localhost"),
            ("_sip._tcp.example.com", "_sip._tcp.example.com"),
            ("a-b.c--d.x", "a-b.c--d.x"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
            ("3com", "3com"),
            ("1.2.3.4a", "1.2.3.4a"),
            ("0x7f.x1", "0x7f.x1"),
        ] {
            assert_eq!(ServerName::parse(given.as_bytes()).unwrap().as_str(), kept);
            assert_eq!(normalise_into(given.as_bytes(), &mut [0; 255]).unwrap(), kept);
        }
    }

    // threat 5
    #[test]
    fn what_is_not_a_plain_dns_name_is_refused_with_its_reason() {
        assert_eq!(error(""), NameError::Empty);
        assert_eq!(error("."), NameError::LeadingDot);
        assert_eq!(error(".example.com"), NameError::LeadingDot);
        assert_eq!(error("example.com."), NameError::TrailingDot);
        assert_eq!(error("a..b"), NameError::EmptyLabel { at: 2 });
        assert_eq!(error("example.com.."), NameError::EmptyLabel { at: 12 });
        assert_eq!(error("-a.b"), NameError::LabelHyphen { at: 0 });
        assert_eq!(error("a.b-"), NameError::LabelHyphen { at: 2 });
        assert_eq!(error("a.-.b"), NameError::LabelHyphen { at: 2 });
        assert_eq!(error("good.example\0.evil"), NameError::Nul { at: 12 });
        assert_eq!(error("bücher.example"), NameError::NotAscii { at: 1, byte: 0xc3 });
        assert_eq!(error(b"a\xff"), NameError::NotAscii { at: 1, byte: 0xff });
        assert_eq!(error("a b"), NameError::BadCharacter { at: 1, byte: b' ' });
        assert_eq!(error("*.a"), NameError::BadCharacter { at: 0, byte: b'*' });
        assert_eq!(error("a:443"), NameError::BadCharacter { at: 1, byte: b':' });
        assert_eq!(error("a\r\nb"), NameError::BadCharacter { at: 1, byte: b'\r' });
        for address in
            ["127.0.0.1", "::1", "[::1]", "fe80::1", "::ffff:10.0.0.1", "255.255.255.255"]
        {
            assert_eq!(error(address), NameError::IpAddress, "{address}");
        }
        for short in ["127.1", "2130706433", "a.1", "256.256.256.256", "1.2.3.4.5"] {
            assert_eq!(error(short), NameError::NumericLastLabel, "{short}");
        }
    }

    // threat 5
    #[test]
    fn lengths_are_limited_to_the_byte() {
        let label = "a".repeat(63);
        assert!(ServerName::parse(label.as_bytes()).is_ok());
        assert_eq!(error("a".repeat(64)), NameError::LabelTooLong { at: 0, bytes: 64 });
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(ServerName::parse(longest.as_bytes()).is_ok());
        for bytes in [254, 255, 256, 10_000] {
            assert_eq!(
                error(&"a.".repeat(bytes).as_bytes()[..bytes]),
                NameError::TooLong { bytes }
            );
        }
    }

    #[test]
    fn a_map_of_names_is_searched_by_text() {
        let map = HashMap::from([(ServerName::parse(b"A.example").unwrap(), 1)]);
        assert_eq!(map.get("a.example"), Some(&1));
        assert_eq!(map.get("b.example"), None);
    }

    #[test]
    fn patterns_match_whole_labels_only() {
        let exact: NamePattern = "Orders.Example.com".parse().unwrap();
        assert_eq!(exact.to_string(), "orders.example.com");
        assert!(exact.matches("orders.example.com"));
        assert!(!exact.matches("a.orders.example.com"));

        let below: NamePattern = "*.EXAMPLE.com".parse().unwrap();
        assert_eq!(below.to_string(), "*.example.com");
        assert_eq!(below.name().as_str(), "example.com");
        assert!(below.matches("a.example.com"));
        assert!(below.matches("a.b.example.com"));
        for other in ["example.com", "aexample.com", "example.com.evil", "a.example.org", ""] {
            assert!(!below.matches(other), "{other}");
        }
        assert!("*.com".parse::<NamePattern>().unwrap().matches("a.com"));
    }

    #[test]
    fn patterns_that_say_something_else_are_refused() {
        let error = |text: &str| text.parse::<NamePattern>().unwrap_err();
        assert_eq!(error("*"), PatternError::Everything);
        assert_eq!(error("a*.b"), PatternError::Wildcard { at: 1 });
        assert_eq!(error("*a.b"), PatternError::Wildcard { at: 0 });
        assert_eq!(error("*.*.b"), PatternError::Wildcard { at: 2 });
        assert_eq!(error("a.*"), PatternError::Wildcard { at: 2 });
        assert_eq!(error("**.b"), PatternError::Wildcard { at: 0 });
        assert_eq!(error("*."), PatternError::Name(NameError::Empty));
        assert_eq!(error("*.a."), PatternError::Name(NameError::TrailingDot));
        assert_eq!(error("*.10.0.0.1"), PatternError::Name(NameError::IpAddress));
        assert_eq!(error(""), PatternError::Name(NameError::Empty));
        let long = format!("*.{}c", "ab.".repeat(84));
        assert_eq!(error(&long), PatternError::Name(NameError::TooLong { bytes: 255 }));
    }

    #[test]
    fn messages_name_the_thing_and_the_limit() {
        assert_eq!(
            NameError::TooLong { bytes: 300 }.to_string(),
            "the name has 300 bytes, the limit is 253"
        );
        assert!(error("a.b-").to_string().contains("byte 2"));
    }

    proptest! {
        // threat 5, threat 48
        #[test]
        fn a_name_is_its_own_normal_form_and_safe_to_log(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(name) = ServerName::parse(&bytes) {
                prop_assert!(name.as_str().len() <= NAME_BYTES_MAX);
                prop_assert!(name.as_str().bytes().all(|byte| matches!(
                    byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'
                )));
                prop_assert_eq!(&ServerName::parse(name.as_str().as_bytes()).unwrap(), &name);
            }
        }

        // threat 6
        #[test]
        fn case_never_makes_another_name(name in "[a-zA-Z0-9_-]{1,20}(\\.[a-zA-Z0-9_-]{1,20}){0,4}") {
            prop_assert_eq!(
                ServerName::parse(name.as_bytes()),
                ServerName::parse(name.to_ascii_uppercase().as_bytes())
            );
        }
    }
}
