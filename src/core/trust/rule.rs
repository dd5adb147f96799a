//! One rule about a name in a certificate, typed: a DNS name never matches a rule about URIs.

use std::fmt;
use std::net::IpAddr;

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
    Uri(Box<str>),
    Dns(Box<str>),
    Email(Box<str>),
    Ip(Box<str>),
    Cn(Box<str>),
}

impl NameRule {
    /// Whether a name of the rule's kind fits it.
    pub fn matches(&self, names: &Names<'_>) -> bool {
        match self {
            Self::Uri(rule) => names.uris.contains(&&**rule),
            Self::Dns(rule) => names.dns.contains(&&**rule),
            Self::Email(rule) => names.emails.contains(&&**rule),
            Self::Ip(rule) => names.ips.iter().any(|ip| ip.to_string() == **rule),
            Self::Cn(rule) => names.common_names.contains(&&**rule),
        }
    }
}

/// As the configuration writes it: `uri = "spiffe://example.org/**"`.
impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(rule) => write!(f, "uri = {rule:?}"),
            Self::Dns(rule) => write!(f, "dns = {rule:?}"),
            Self::Email(rule) => write!(f, "email = {rule:?}"),
            Self::Ip(rule) => write!(f, "ip = {rule:?}"),
            Self::Cn(rule) => write!(f, "cn = {rule:?}"),
        }
    }
}
