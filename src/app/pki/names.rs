//! The names that certificates carry, as a person writes them on the command line.
//!
//! Text becomes an `AlternativeName` or an error that says what is wrong with it; `issue` only sees
//! the former.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::SanType;
use x509_parser::extensions::GeneralName;

/// A subject alternative name (RFC 5280 §4.2.1.6) in a form that can be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AlternativeName {
    /// Lower case; the leftmost label may be `*`.
    Dns(String),
    Ip(IpAddr),
    Uri(String),
    Email(String),
}

impl AlternativeName {
    pub(super) fn encode(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Ip(address) => SanType::IpAddress(*address),
            Self::Uri(uri) => SanType::URI(uri.as_str().try_into()?),
            Self::Email(address) => SanType::Rfc822Name(address.as_str().try_into()?),
        })
    }
}

impl AlternativeName {
    /// A name out of a certificate, as it stands there; `None` for the kinds that are of no use here.
    pub(super) fn decode(name: &GeneralName<'_>) -> Option<Self> {
        Some(match name {
            GeneralName::DNSName(name) => Self::Dns((*name).to_owned()),
            GeneralName::URI(uri) => Self::Uri((*uri).to_owned()),
            GeneralName::RFC822Name(address) => Self::Email((*address).to_owned()),
            GeneralName::IPAddress(octets) => Self::Ip(match **octets {
                [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
                _ => Ipv6Addr::from(<[u8; 16]>::try_from(*octets).ok()?).into(),
            }),
            _ => return None,
        })
    }

    /// As rules of the configuration call it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Ip(_) => "ip",
            Self::Uri(_) => "uri",
            Self::Email(_) => "email",
        }
    }
}

impl fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(text) | Self::Uri(text) | Self::Email(text) => f.write_str(text),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// An IP address or a DNS name.
pub(super) fn server_name(text: &str) -> Result<AlternativeName, String> {
    text.parse().map_or_else(|_not_an_address| dns_name(text), |ip| Ok(AlternativeName::Ip(ip)))
}

/// Labels of letters, digits, `-` and `_`, as names are used in TLS (RFC 1123 §2.1 and practice).
pub(super) fn dns_name(text: &str) -> Result<AlternativeName, String> {
    let name = text.to_ascii_lowercase();
    if !name.is_ascii() {
        return Err("write an internationalised name in its ASCII form, `xn--…`".to_owned());
    }
    if name.len() > NAME_LENGTH_MAX {
        return Err(format!("a DNS name has at most {NAME_LENGTH_MAX} characters"));
    }
    for label in name.strip_prefix("*.").unwrap_or(&name).split('.') {
        check_label(label)?;
    }
    Ok(AlternativeName::Dns(name))
}

/// An absolute URI. Of SPIFFE ids the parts are checked too (SPIFFE-ID §2).
pub(super) fn uri(text: &str) -> Result<AlternativeName, String> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err("a URI starts with a scheme, as in `spiffe://example.org/web`".to_owned());
    };
    let mut letters = scheme.chars();
    if !letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        || !letters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    {
        return Err(format!("`{scheme}` is no URI scheme"));
    }
    if rest.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err("a URI is made of ASCII characters without blanks".to_owned());
    }
    if let Some(id) = text.strip_prefix("spiffe://") {
        check_spiffe(id)?;
    }
    Ok(AlternativeName::Uri(text.to_owned()))
}

/// The SPIFFE id of a workload: a trust domain and a path (SPIFFE-ID §2, X509-SVID §2).
pub(super) fn spiffe(text: &str) -> Result<AlternativeName, String> {
    let Some(id) = text.strip_prefix("spiffe://") else {
        return Err("a SPIFFE id looks like `spiffe://example.org/ns/orders/sa/web`".to_owned());
    };
    if !id.contains('/') {
        return Err("a workload's SPIFFE id has a path after the trust domain".to_owned());
    }
    check_spiffe(id)?;
    Ok(AlternativeName::Uri(text.to_owned()))
}

/// A domain that a CA may issue names at and below.
pub(super) fn domain(text: &str) -> Result<String, String> {
    if text.starts_with("*.") {
        return Err("names below a domain are permitted with it: leave `*.` out".to_owned());
    }
    dns_name(text).map(|name| name.to_string())
}

/// `local@domain` in ASCII.
pub(super) fn email(text: &str) -> Result<AlternativeName, String> {
    match text.rsplit_once('@') {
        Some((local, domain))
            if !local.is_empty() && local.chars().all(|c| c.is_ascii_graphic()) =>
        {
            dns_name(domain)?;
            Ok(AlternativeName::Email(text.to_owned()))
        }
        _ => Err("an e-mail address looks like `alice@example.com`".to_owned()),
    }
}

/// What files of this name are called: a wildcard is spelt out, and what a shell or a file system
/// could take for something else becomes `_`. `None` when nothing is left to see.
pub(super) fn file_stem(name: &str) -> Option<String> {
    let name = name.strip_prefix("*.").map_or(name.to_owned(), |rest| format!("wildcard.{rest}"));
    let plain = |c: char| if c.is_alphanumeric() || "-._@+".contains(c) { c } else { '_' };
    let stem: String = name.chars().map(plain).take(FILE_STEM_MAX).collect();
    let is_visible = !stem.starts_with(['.', '-']) && stem.contains(char::is_alphanumeric);
    is_visible.then_some(stem)
}

fn check_label(label: &str) -> Result<(), String> {
    if label.is_empty() {
        return Err("a DNS name has no empty label and no dot at its end".to_owned());
    }
    if label.len() > LABEL_LENGTH_MAX {
        return Err(format!("a label of a DNS name has at most {LABEL_LENGTH_MAX} characters"));
    }
    if label.contains('*') {
        return Err("`*` stands for the whole first label only, as in `*.example.com`".to_owned());
    }
    if let Some(c) = label.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c)) {
        return Err(format!("`{}` does not belong in a DNS name", c.escape_default()));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("a label of a DNS name neither starts nor ends with `-`".to_owned());
    }
    Ok(())
}

/// What follows `spiffe://`.
fn check_spiffe(id: &str) -> Result<(), String> {
    if id.len() + "spiffe://".len() > SPIFFE_LENGTH_MAX {
        return Err(format!("a SPIFFE id has at most {SPIFFE_LENGTH_MAX} characters"));
    }
    let (domain, path) =
        id.split_once('/').map_or((id, None), |(domain, path)| (domain, Some(path)));
    let in_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    if domain.is_empty() || !domain.chars().all(in_domain) {
        return Err(
            "a SPIFFE trust domain is made of lower-case letters, digits, `.`, `-` and `_`"
                .to_owned(),
        );
    }
    if domain.len() > SPIFFE_DOMAIN_LENGTH_MAX {
        return Err(format!(
            "a SPIFFE trust domain has at most {SPIFFE_DOMAIN_LENGTH_MAX} characters"
        ));
    }
    let in_segment = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_segment = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && part.chars().all(in_segment)
    };
    match path {
        Some(path) if !path.split('/').all(is_segment) => {
            Err("a SPIFFE path is made of non-empty segments of letters, digits, `.`, `-` and `_`"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// RFC 1035 §2.3.4, without the length bytes and the root.
const NAME_LENGTH_MAX: usize = 253;
const LABEL_LENGTH_MAX: usize = 63;
/// SPIFFE-ID §2.3.
const SPIFFE_LENGTH_MAX: usize = 2048;
const SPIFFE_DOMAIN_LENGTH_MAX: usize = 255;
/// With an extension and in UTF-8 this stays below the 255 bytes of Linux file systems.
const FILE_STEM_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dns_names_are_lower_cased_and_wildcards_stand_first() {
        for (text, name) in [
            ("localhost", "localhost"),
            ("A.Example.COM", "a.example.com"),
            ("*.example.com", "*.example.com"),
            ("_sip.xn--bcher-kva.example", "_sip.xn--bcher-kva.example"),
        ] {
            assert_eq!(dns_name(text), Ok(AlternativeName::Dns(name.to_owned())));
        }
        let long = "a".repeat(64);
        for wrong in [
            "",
            ".",
            "a.",
            "a..b",
            "*",
            "a.*.b",
            "*a.b",
            "bücher.example",
            "-a",
            "a b",
            "a/b",
            &long,
        ] {
            dns_name(wrong).expect_err(wrong);
        }
        dns_name(&"a.".repeat(127)).unwrap_err();
    }

    #[test]
    fn servers_are_named_by_address_too() {
        assert_eq!(server_name("::1"), Ok(AlternativeName::Ip("::1".parse().unwrap())));
        assert_eq!(server_name("127.0.0.1"), Ok(AlternativeName::Ip("127.0.0.1".parse().unwrap())));
        assert_eq!(server_name("db"), Ok(AlternativeName::Dns("db".to_owned())));
    }

    #[test]
    fn uris_have_a_scheme_and_spiffe_ids_their_form() {
        for right in [
            "spiffe://example.org",
            "spiffe://example.org/ns/a/sa/b_1.x",
            "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "https://example.org/?q=1",
        ] {
            assert_eq!(uri(right), Ok(AlternativeName::Uri(right.to_owned())));
        }
        for wrong in [
            "",
            "no-scheme",
            "1a:b",
            "a:",
            "spiffe://",
            "spiffe:///path",
            "spiffe://Example.org/a",
            "spiffe://example.org/",
            "spiffe://example.org/a//b",
            "spiffe://example.org/../a",
            "spiffe://example.org/a b",
            "spiffe://example.org/ü",
        ] {
            uri(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn spiffe_ids_of_workloads_have_a_domain_in_lower_case_and_a_path() {
        let longest = format!("spiffe://a/{}", "b".repeat(2048 - 11));
        for right in ["spiffe://example.org/a", "spiffe://a_b-c.d/E/f.g", &longest] {
            assert_eq!(spiffe(right), Ok(AlternativeName::Uri(right.to_owned())));
        }
        let domain = format!("spiffe://{}/a", "b".repeat(256));
        let longer = format!("{longest}b");
        for wrong in [
            "",
            "example.org/a",
            "SPIFFE://example.org/a",
            "spiffe:example.org/a",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe:///a",
            "spiffe://Example.org/a",
            "spiffe://example.org:8443/a",
            "spiffe://user@example.org/a",
            "spiffe://example.org//a",
            "spiffe://example.org/a/",
            "spiffe://example.org/./a",
            "spiffe://example.org/a/..",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org/%61",
            &domain,
            &longer,
        ] {
            spiffe(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn domains_of_cas_have_no_wildcard() {
        assert_eq!(domain("Example.com"), Ok("example.com".to_owned()));
        for wrong in ["*.example.com", ".example.com", "", "10.0.0.0/8"] {
            domain(wrong).expect_err(wrong);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_explained(text in ".{0,40}", path in "[a-z/.%A-Z]{0,12}") {
            for parser in [dns_name, server_name, uri, spiffe, email] {
                if let Err(why) = parser(&text) {
                    prop_assert!(!why.is_empty());
                }
            }
            // What is taken for a SPIFFE id is a URI too.
            let id = format!("spiffe://example.org/{path}");
            prop_assert!(spiffe(&id).is_err() || uri(&id).is_ok());
        }
    }

    #[test]
    fn e_mail_addresses_have_two_parts() {
        email("alice@example.com").unwrap();
        for wrong in ["alice", "@example.com", "alice@", "al ice@example.com", "a@b@"] {
            email(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn file_names_are_harmless() {
        for (name, stem) in [
            ("www.example.com", Some("www.example.com")),
            ("*.example.com", Some("wildcard.example.com")),
            ("::1", Some("__1")),
            ("../../etc/passwd", None),
            ("a/../b", Some("a_.._b")),
            ("Alice Müller", Some("Alice_Müller")),
            ("alice@example.com", Some("alice@example.com")),
            ("-rf", None),
            ("", None),
            ("::", None),
            ("...", None),
        ] {
            assert_eq!(file_stem(name).as_deref(), stem, "{name}");
        }
    }
}
