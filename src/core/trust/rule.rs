//! One rule about a name in a certificate, typed: a DNS name never matches a rule about URIs.
//!
//! Next: `uri`, `dns`, `email` and `common_name`, what each kind of rule takes.

use std::fmt;
use std::net::IpAddr;

use super::common_name::{CommonNameError, CommonNamePattern};
use super::dns::{DnsError, DnsPattern};
use super::email::{EmailError, EmailPattern};
use super::uri::{UriError, UriPattern};
use crate::core::route::{Prefix, PrefixError};

/// The names of a leaf certificate, each kind apart, as they stand in it and complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names<'a> {
    pub uris: Vec<&'a str>,
    pub dns: Vec<&'a str>,
    pub emails: Vec<&'a str>,
    pub ips: Vec<IpAddr>,
    /// Common names of the subject; looked at only by rules that say `cn`.
    pub common_names: Vec<&'a str>,
}

/// A rule about one kind of name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NameRule {
    Uri(UriPattern),
    Dns(DnsPattern),
    Email(EmailPattern),
    Ip(Prefix),
    Cn(CommonNamePattern),
}

/// A name that a rule took, as it stands in the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchedName<'a> {
    Text(&'a str),
    Ip(IpAddr),
}

/// Which names a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    Uri,
    Dns,
    Email,
    Ip,
    Cn,
}

/// Why a text is not a rule of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error(transparent)]
    Email(#[from] EmailError),
    #[error(transparent)]
    Ip(#[from] PrefixError),
    #[error(transparent)]
    Cn(#[from] CommonNameError),
}

impl NameRule {
    /// # Errors
    /// The first thing in `text` that is no rule of this kind.
    pub fn parse(kind: NameKind, text: &str) -> Result<Self, RuleError> {
        Ok(match kind {
            NameKind::Uri => Self::Uri(UriPattern::parse(text)?),
            NameKind::Dns => Self::Dns(DnsPattern::parse(text)?),
            NameKind::Email => Self::Email(EmailPattern::parse(text)?),
            NameKind::Ip => Self::Ip(text.parse()?),
            NameKind::Cn => Self::Cn(CommonNamePattern::parse(text)?),
        })
    }

    /// Whether a name of the rule's kind fits it. A SPIFFE id fits only if it is the only URI: of a
    /// certificate with more, nobody could say whose it is (X509-SVID §2). An IPv4 address within an
    /// IPv6 one (`::ffff:10.0.0.1`) fits no rule.
    pub fn matches(&self, names: &Names<'_>) -> bool {
        self.matched(names).is_some()
    }

    /// The name by which it `matches`.
    pub fn matched<'a>(&self, names: &Names<'a>) -> Option<MatchedName<'a>> {
        match self {
            Self::Uri(rule) if rule.is_spiffe() => match names.uris.as_slice() {
                [uri] => rule.matches(uri).then_some(MatchedName::Text(uri)),
                _ => None,
            },
            // An IPv6 address to name constraints, which an IPv4 one of the same digits may be outside of.
            Self::Ip(rule) => {
                address(&names.ips, |ip| *ip == ip.to_canonical() && rule.contains(*ip))
            }
            _ => self.occurrence(names),
        }
    }

    /// Whether a name of the rule's kind fits it, whatever other names there are: enough to refuse.
    pub(super) fn occurs_in(&self, names: &Names<'_>) -> bool {
        self.occurrence(names).is_some()
    }

    fn occurrence<'a>(&self, names: &Names<'a>) -> Option<MatchedName<'a>> {
        match self {
            Self::Uri(rule) => first(&names.uris, |uri| rule.matches(uri)),
            Self::Dns(rule) => first(&names.dns, |name| rule.matches(name)),
            Self::Email(rule) => first(&names.emails, |address| rule.matches(address)),
            Self::Ip(rule) => address(&names.ips, |ip| rule.contains(*ip)),
            Self::Cn(rule) => first(&names.common_names, |name| rule.matches(name)),
        }
    }
}

fn first<'a>(names: &[&'a str], fits: impl Fn(&str) -> bool) -> Option<MatchedName<'a>> {
    names.iter().copied().find(|name| fits(name)).map(MatchedName::Text)
}

fn address<'a>(ips: &[IpAddr], fits: impl Fn(&IpAddr) -> bool) -> Option<MatchedName<'a>> {
    ips.iter().copied().find(fits).map(MatchedName::Ip)
}

impl NameKind {
    pub const ALL: [Self; 5] = [Self::Uri, Self::Dns, Self::Email, Self::Ip, Self::Cn];

    /// The key of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uri => "uri",
            Self::Dns => "dns",
            Self::Email => "email",
            Self::Ip => "ip",
            Self::Cn => "cn",
        }
    }
}

impl fmt::Display for MatchedName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// As the configuration writes it: `uri = "spiffe://example.org/**"`. Two rules that differ are
/// shown differently.
impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = match self {
            Self::Uri(rule) => (NameKind::Uri, rule.to_string()),
            Self::Dns(rule) => (NameKind::Dns, rule.to_string()),
            Self::Email(rule) => (NameKind::Email, rule.to_string()),
            Self::Ip(rule) => (NameKind::Ip, rule.to_string()),
            Self::Cn(rule) => (NameKind::Cn, rule.to_string()),
        };
        write!(f, "{} = {text:?}", kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(kind: NameKind, text: &str) -> NameRule {
        NameRule::parse(kind, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_spiffe_id_beside_another_uri_matches_no_rule_about_spiffe_ids() {
        let spiffe = rule(NameKind::Uri, "spiffe://example.org/**");
        let other = rule(NameKind::Uri, "https://example.org/a");
        let id = "spiffe://example.org/a";
        let names = |uris: &[&'static str]| Names { uris: uris.to_vec(), ..Names::default() };
        assert!(spiffe.matches(&names(&[id])));
        for uris in [
            &[id, "https://example.org/a"][..],
            &["https://example.org/a", id],
            &[id, id],
            &[id, "spiffe://evil/a"],
            &[id, ""],
        ] {
            assert!(!spiffe.matches(&names(uris)), "{uris:?}");
            assert!(spiffe.occurs_in(&names(uris)), "{uris:?}");
        }
        assert!(other.matches(&names(&[id, "https://example.org/a"])));
        assert!(!spiffe.matches(&names(&[])));
    }

    #[test]
    fn the_name_that_matched_is_told() {
        let names = Names {
            dns: vec!["b.example", "a.example"],
            ips: vec!["11.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()],
            ..Names::default()
        };
        let matched = |kind, text| rule(kind, text).matched(&names).map(|name| name.to_string());
        assert_eq!(matched(NameKind::Dns, "a.example").as_deref(), Some("a.example"));
        assert_eq!(matched(NameKind::Dns, "*.example").as_deref(), Some("b.example"));
        assert_eq!(matched(NameKind::Ip, "10.0.0.0/8").as_deref(), Some("10.0.0.1"));
        assert_eq!(matched(NameKind::Cn, "a.example"), None);
    }

    #[test]
    fn a_rule_matches_names_of_its_own_kind_only() {
        let (dns, cn) = (rule(NameKind::Dns, "a.example"), rule(NameKind::Cn, "a.example"));
        let as_dns = Names { dns: vec!["a.example"], ..Names::default() };
        let as_cn = Names { common_names: vec!["a.example"], ..Names::default() };
        let as_rest =
            Names { uris: vec!["a.example"], emails: vec!["a.example"], ..Names::default() };
        assert!(dns.matches(&as_dns) && cn.matches(&as_cn));
        for (rule, names) in [(&dns, &as_cn), (&cn, &as_dns), (&dns, &as_rest), (&cn, &as_rest)] {
            assert!(!rule.matches(names), "{rule} on {names:?}");
        }
    }

    #[test]
    fn addresses_are_in_their_network_and_families_do_not_mix() {
        let names = |ip: &str| Names { ips: vec![ip.parse().unwrap()], ..Names::default() };
        for (network, ip, matches) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "10.0.0.1", false),
            ("0.0.0.0/0", "::1", false),
            // Name constraints on IPv4 say nothing about it.
            ("10.0.0.0/8", "::ffff:10.0.0.1", false),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(rule(NameKind::Ip, network).matches(&names(ip)), matches, "{network} {ip}");
        }
        // What is doubtful takes nobody off a list of whom to deny.
        assert!(rule(NameKind::Ip, "10.0.0.0/8").occurs_in(&names("::ffff:10.0.0.1")));
        assert!(matches!(
            NameRule::parse(NameKind::Ip, "10.1.0.0/8"),
            Err(RuleError::Ip(PrefixError::HostBits { .. }))
        ));
        assert_eq!(NameRule::parse(NameKind::Ip, "ten"), Err(RuleError::Ip(PrefixError::Address)));
    }

    #[test]
    fn rules_are_shown_as_the_configuration_writes_them() {
        for (kind, text, shown) in [
            (NameKind::Uri, "spiffe://a/**", r#"uri = "spiffe://a/**""#),
            (NameKind::Dns, "*.A.example", r#"dns = "*.a.example""#),
            (NameKind::Email, "*@a.example", r#"email = "@a.example""#),
            (NameKind::Ip, "10.0.0.1", r#"ip = "10.0.0.1/32""#),
            (NameKind::Cn, "a \"b\" \\", r#"cn = "a \"b\" \\""#),
        ] {
            assert_eq!(rule(kind, text).to_string(), shown);
        }
    }

    fn kind() -> impl Strategy<Value = NameKind> {
        prop::sample::select(NameKind::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn no_rule_matches_what_stands_only_in_other_kinds(
            kind in kind(),
            text in "(spiffe://)?[a-c*@./:]{1,12}",
            name in "(spiffe://)?[a-c*@./:]{1,12}",
        ) {
            let Ok(rule) = NameRule::parse(kind, &text) else { return Ok(()) };
            let mut names = Names {
                uris: vec![&name],
                dns: vec![&name],
                emails: vec![&name],
                ips: Vec::new(),
                common_names: vec![&name],
            };
            match kind {
                NameKind::Uri => names.uris.clear(),
                NameKind::Dns => names.dns.clear(),
                NameKind::Email => names.emails.clear(),
                NameKind::Ip => {}
                NameKind::Cn => names.common_names.clear(),
            }
            prop_assert!(!rule.matches(&names) && !rule.occurs_in(&names));
        }
    }
}
