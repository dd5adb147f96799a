//! Rules about the identity in a certificate: of a trust (`san`), and of an authorize filter.
//!
//! What a rule takes is for `core::trust` to say; this finds the places, and the help. Next: `trust`,
//! `filter`.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use super::super::error::{Location, Problems};
use super::super::node::At;
use super::super::raw::{RawIdentity, Table};
use super::all;
use crate::core::route::PrefixError;
use crate::core::trust::{
    CommonNameError, DnsError, EmailError, HexError, Matcher, NameKind, NameRule, RuleError,
    SerialError, UriError,
};

type Identities = At<Vec<At<RawIdentity>>>;

/// Rules about names; empty where none are written.
pub(super) fn names(
    written: Option<&Identities>,
    problems: &mut Problems,
) -> Option<Vec<NameRule>> {
    let mut seen = HashSet::new();
    all(elements(written), |element| match &element.value.serial {
        Some(serial) => {
            let help =
                "deny it in an authorize filter of the chain, or pin one certificate with pins";
            problems.add(serial.at.clone(), "a serial number is not a name", help);
            None
        }
        None => once(name(element, problems)?, element, &mut seen, problems),
    })
}

/// Rules about names and serial numbers; empty where none are written.
pub(super) fn matchers(
    written: Option<&Identities>,
    problems: &mut Problems,
) -> Option<Vec<Matcher>> {
    let mut seen = HashSet::new();
    all(elements(written), |element| {
        let matcher = match &element.value.serial {
            Some(text) => {
                single(element, problems)?;
                serial(text, problems)?
            }
            None => Matcher::Name(name(element, problems)?),
        };
        once(matcher, element, &mut seen, problems)
    })
}

fn elements(written: Option<&Identities>) -> &[At<RawIdentity>] {
    written.map_or(&[], |written| &written.value)
}

fn name(element: &At<RawIdentity>, problems: &mut Problems) -> Option<NameRule> {
    single(element, problems)?;
    let RawIdentity { uri, dns, email, ip, cn, serial: _ } = &element.value;
    let written = [uri, dns, email, ip, cn];
    let (kind, text) = NameKind::ALL
        .into_iter()
        .zip(written)
        .find_map(|(kind, written)| Some((kind, written.as_ref()?)))?;
    match NameRule::parse(kind, &text.value) {
        Ok(rule) => Some(rule),
        Err(error) => refuse(text, &error, &help(&text.value, &error), problems),
    }
}

fn serial(text: &At<String>, problems: &mut Problems) -> Option<Matcher> {
    match Matcher::serial(&text.value) {
        Ok(matcher) => Some(matcher),
        Err(error) => refuse(text, &error, &serial_help(&text.value, error), problems),
    }
}

/// A rule has one key: several could be read as "all of them", or as "any".
fn single(element: &At<RawIdentity>, problems: &mut Problems) -> Option<()> {
    let mut written: Vec<(&str, &Location)> = element.value.written().collect();
    written.sort_by_key(|(_, at)| (at.line, at.column));
    match written.as_slice() {
        [_] => Some(()),
        [] => {
            // A key of the wrong type has its own problem.
            let keys = ["uri", "dns", "email", "ip", "cn", "serial"];
            if !keys.iter().any(|key| problems.is_excused(&element.at.child(key).key)) {
                let help =
                    "write { uri = \"spiffe://example.org/**\" } or { dns = \"*.internal\" }";
                problems.add(element.at.clone(), "a rule without a name", help);
            }
            None
        }
        [(first, _), (second, at), ..] => {
            let message = format!("one rule with two keys, {first} and {second}");
            let help = format!(
                "write two elements, {{ {first} = … }} and {{ {second} = … }}; any one that \
                 matches is enough"
            );
            problems.add((*at).clone(), message, help);
            None
        }
    }
}

/// Refuses what is in the list already.
fn once<T: Clone + Eq + Hash + fmt::Display>(
    rule: T,
    element: &At<RawIdentity>,
    seen: &mut HashSet<T>,
    problems: &mut Problems,
) -> Option<T> {
    if !seen.insert(rule.clone()) {
        problems.add(element.at.clone(), format!("{rule} is in this list already"), "");
        return None;
    }
    Some(rule)
}

fn refuse<T>(
    text: &At<String>,
    error: &dyn fmt::Display,
    help: &str,
    problems: &mut Problems,
) -> Option<T> {
    problems.add(text.at.clone(), format!("{:?}: {error}", text.value), help);
    None
}

fn help(text: &str, error: &RuleError) -> String {
    match error {
        RuleError::Uri(error) => uri_help(text, *error),
        RuleError::Dns(DnsError::Wildcard { .. } | DnsError::Name(_)) => {
            "write a name such as \"orders.internal\", or \"*.internal\" for one label more"
                .to_owned()
        }
        RuleError::Email(EmailError::NoAt) => {
            format!("for every mailbox of a host write \"@{text}\"")
        }
        RuleError::Email(EmailError::Wildcard | EmailError::Mailbox | EmailError::Host(_)) => {
            "write an address such as \"me@example.com\", or \"@example.com\" for every mailbox"
                .to_owned()
        }
        RuleError::Ip(PrefixError::HostBits { block }) => format!("did you mean \"{block}\"?"),
        RuleError::Ip(PrefixError::Address | PrefixError::Length { .. }) => {
            "write an address such as \"10.0.0.7\", or a network such as \"10.0.0.0/8\"".to_owned()
        }
        RuleError::Cn(CommonNameError::Everything) => {
            "leave the rule out: an empty list takes everybody".to_owned()
        }
        RuleError::Cn(_) => {
            "write a name such as \"Orders\", \"svc-*\" or \"*-prod\"; others by uri or dns"
                .to_owned()
        }
    }
}

fn uri_help(text: &str, error: UriError) -> String {
    match error {
        UriError::SpiffeScheme => {
            "write \"spiffe://\", then the trust domain and a path".to_owned()
        }
        UriError::SpiffeNoPath => format!("for all ids of the trust domain write \"{text}/**\""),
        UriError::SpiffeSlash => {
            let text = text.trim_end_matches('/');
            format!("for all ids below write \"{text}/**\"")
        }
        UriError::TrustDomain { character } if character.is_ascii_uppercase() => {
            "write the trust domain in lower case".to_owned()
        }
        UriError::AuthorityWildcard => {
            "write one rule for each; wildcards are for the path: \"spiffe://example.org/**\""
                .to_owned()
        }
        UriError::DoubleStar => {
            "write \"/**\" for any number of segments, or one \"*\" within a segment".to_owned()
        }
        UriError::Scheme if !text.contains(':') => format!("did you mean dns = {text:?}?"),
        _ => "write a URI such as \"spiffe://example.org/ns/orders/**\"".to_owned(),
    }
}

fn serial_help(text: &str, error: SerialError) -> String {
    match error {
        SerialError::TooLong { bytes: 32 } => {
            "a digest of 32 bytes belongs into the pins of a trust".to_owned()
        }
        SerialError::Hex(HexError::Character { character: 'x' | 'X' }) => {
            let digits = text.trim_start_matches(['0', 'x', 'X']);
            format!("write the digits only: \"{digits}\"")
        }
        SerialError::Negative | SerialError::TooLong { .. } | SerialError::Hex(_) => {
            "write it in hexadecimal, as the access log does: \"0a1b2c\" or \"0a:1b:2c\"".to_owned()
        }
    }
}
