//! The `authorize` filter: who of the verified clients of a chain may pass.

use std::fmt;

use super::hex::{self, HexError};
use super::policy::LeafFacts;
use super::rule::NameRule;
use super::{Mode, list};

/// Longest serial number, in bytes (RFC 5280 §4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;

/// Lists of one filter. `deny` goes first; an empty `allow` lets everybody else pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorize {
    pub allow: Vec<Matcher>,
    pub deny: Vec<Matcher>,
    pub mode: Mode,
}

/// One element of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Matcher {
    Name(NameRule),
    /// Big-endian, without leading zeros.
    Serial(Box<[u8]>),
}

/// What a filter says of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// By this element of `allow`; `None`: it has none, and lets everybody pass.
    Allowed(Option<&'a Matcher>),
    /// By this element of `deny`.
    Denied(&'a Matcher),
    /// `allow` has elements, and none matches.
    NotAllowed,
}

/// Why a text is not a serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    #[error("a serial number is not negative")]
    Negative,
    #[error("the serial number has {bytes} bytes, the limit is {SERIAL_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error(transparent)]
    Hex(#[from] HexError),
}

impl Authorize {
    /// `None`: a client without a certificate, whom no element matches.
    pub fn decide(&self, client: Option<&LeafFacts<'_>>) -> Decision<'_> {
        let denies = |matcher: &&Matcher| client.is_some_and(|client| matcher.denies(client));
        let allows = |matcher: &&Matcher| client.is_some_and(|client| matcher.allows(client));
        if let Some(denied) = self.deny.iter().find(denies) {
            return Decision::Denied(denied);
        }
        match self.allow.iter().find(allows) {
            None if !self.allow.is_empty() => Decision::NotAllowed,
            allowed => Decision::Allowed(allowed),
        }
    }

    /// The whole filter in a text, for digests and logs: two that differ, if only in order, never
    /// give the same.
    pub fn describe(&self) -> String {
        let Self { allow, deny, mode } = self;
        list("allow", allow) + &list("deny", deny) + &format!("mode = {mode}\n")
    }
}

impl Matcher {
    /// A serial number in hexadecimal, as the access log has it, with colons between the bytes or
    /// without. Leading zeros do not count.
    ///
    /// # Errors
    /// What is no number, or one that no certificate can have.
    pub fn serial(text: &str) -> Result<Self, SerialError> {
        if text.starts_with('-') {
            return Err(SerialError::Negative);
        }
        let bytes = hex::parse(text)?;
        let serial = without_zeros(&bytes);
        match serial.len() {
            0..=SERIAL_BYTES_MAX => Ok(Self::Serial(Box::from(serial))),
            bytes => Err(SerialError::TooLong { bytes }),
        }
    }

    fn allows(&self, client: &LeafFacts<'_>) -> bool {
        match self {
            Self::Name(rule) => rule.matches(&client.names),
            Self::Serial(serial) => without_zeros(client.serial) == &**serial,
        }
    }

    /// Who has the name among others has it: a second URI takes nobody off this list.
    fn denies(&self, client: &LeafFacts<'_>) -> bool {
        match self {
            Self::Name(rule) => rule.occurs_in(&client.names),
            Self::Serial(_) => self.allows(client),
        }
    }
}

/// As the configuration writes it. Two that differ are shown differently.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(rule) => write!(f, "{rule}"),
            Self::Serial(serial) if serial.is_empty() => f.write_str("serial = \"00\""),
            Self::Serial(serial) => write!(f, "serial = \"{}\"", hex::show(serial)),
        }
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let leading = number.iter().take_while(|byte| **byte == 0).count();
    &number[leading..]
}

#[cfg(test)]
mod tests {
    use super::super::key::KeyKind;
    use super::super::rule::{NameKind, Names};
    use super::*;
    use proptest::prelude::*;

    fn name(kind: NameKind, text: &str) -> Matcher {
        Matcher::Name(NameRule::parse(kind, text).unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    fn serial(text: &str) -> Matcher {
        Matcher::serial(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn client(names: Names<'static>) -> LeafFacts<'static> {
        LeafFacts {
            names,
            key: KeyKind::Ed25519,
            fingerprint: [0; 32],
            spki: [0; 32],
            serial: &[0, 0xa1, 0xb2],
        }
    }

    fn orders() -> LeafFacts<'static> {
        client(Names { uris: vec!["spiffe://example.org/orders"], ..Names::default() })
    }

    #[test]
    fn deny_goes_before_allow_and_names_its_element() {
        let everyone = name(NameKind::Uri, "spiffe://example.org/**");
        let one = serial("a1:b2");
        let mut filter = Authorize { allow: vec![everyone.clone()], ..Authorize::default() };
        assert_eq!(filter.decide(Some(&orders())), Decision::Allowed(Some(&everyone)));
        filter.deny = vec![serial("01"), one.clone()];
        assert_eq!(filter.decide(Some(&orders())), Decision::Denied(&one));
        filter.allow.clear();
        filter.deny.truncate(1);
        assert_eq!(filter.decide(Some(&orders())), Decision::Allowed(None));
    }

    #[test]
    fn who_matches_nothing_is_not_allowed_and_neither_is_who_has_no_certificate() {
        let allow = vec![name(NameKind::Dns, "orders.internal"), serial("a1b3")];
        let filter = Authorize { allow, ..Authorize::default() };
        assert_eq!(filter.decide(Some(&orders())), Decision::NotAllowed);
        assert_eq!(filter.decide(None), Decision::NotAllowed);
        let deny = vec![serial("a1b2")];
        let filter = Authorize { deny, ..Authorize::default() };
        assert_eq!(filter.decide(None), Decision::Allowed(None));
    }

    #[test]
    fn a_second_uri_lets_nobody_in_and_takes_nobody_off_the_deny_list() {
        let rule = name(NameKind::Uri, "spiffe://example.org/**");
        let uris = vec!["https://example.org/", "spiffe://example.org/orders"];
        let client = client(Names { uris, ..Names::default() });
        let allow = Authorize { allow: vec![rule.clone()], ..Authorize::default() };
        assert_eq!(allow.decide(Some(&client)), Decision::NotAllowed);
        let deny = Authorize { deny: vec![rule.clone()], ..Authorize::default() };
        assert_eq!(deny.decide(Some(&client)), Decision::Denied(&rule));
    }

    #[test]
    fn leading_zeros_of_a_serial_number_do_not_count() {
        for text in ["a1b2", "A1:B2", "00:a1:b2", "0a1b2", "0000a1b2"] {
            assert_eq!(serial(text), Matcher::Serial(Box::from([0xa1, 0xb2])), "{text}");
            assert!(serial(text).allows(&orders()), "{text}");
        }
        assert!(!serial("a1b200").allows(&orders()));
        assert!(!serial("b2").allows(&orders()));
        let zero = LeafFacts { serial: &[0], ..orders() };
        assert!(serial("0").allows(&zero) && !serial("0").allows(&orders()));
        assert_eq!(serial("0").to_string(), "serial = \"00\"");
    }

    #[test]
    fn what_is_no_serial_number_is_refused_with_the_reason() {
        let error = |text: &str| Matcher::serial(text).expect_err(text);
        assert_eq!(error(""), SerialError::Hex(HexError::Empty));
        assert_eq!(error("-01"), SerialError::Negative);
        assert_eq!(error("-"), SerialError::Negative);
        assert_eq!(error("0x1f"), SerialError::Hex(HexError::Character { character: 'x' }));
        assert_eq!(error("1:2"), SerialError::Hex(HexError::Colons));
        assert!(Matcher::serial(&format!("00{}", "ff".repeat(20))).is_ok());
        assert_eq!(error(&"ff".repeat(21)), SerialError::TooLong { bytes: 21 });
    }

    fn filter() -> impl Strategy<Value = Authorize> {
        let matcher = || {
            let serials = "[0-3]{1,3}".prop_map(|text| serial(&text));
            let names = "[a\",\\\\ ]{1,3}".prop_map(|text| name(NameKind::Cn, &text));
            prop::collection::vec(prop_oneof![serials, names], 0..3)
        };
        let mode = prop::sample::select(vec![Mode::Enforce, Mode::Audit]);
        (matcher(), matcher(), mode).prop_map(|(allow, deny, mode)| Authorize { allow, deny, mode })
    }

    proptest! {
        #[test]
        fn filters_that_differ_are_described_differently(a in filter(), b in filter()) {
            prop_assert_eq!(a == b, a.describe() == b.describe());
        }

        #[test]
        fn any_text_is_a_serial_number_or_refused(text in "[0-9a-fA-F:-]{0,50}|(?s).{0,20}") {
            if let Ok(matcher) = Matcher::serial(&text) {
                let shown = matcher.to_string();
                prop_assert!(shown.starts_with("serial = \""), "{}", shown);
            }
        }
    }
}
