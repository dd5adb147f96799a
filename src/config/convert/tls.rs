//! TLS terms with clients and with upstreams.
//!
//! Names files and never opens them: `tls::material` does. Next: `trust`, which these name;
//! `listener`, which uses these.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::super::error::{Location, Problems};
use super::super::node::{At, Entry};
use super::super::plan::{
    CertificateFiles, CipherSuite, ClientAuth, CryptoPolicy, DownstreamTls, FileRef, Group,
    Resumption, TlsVersion, TrustId, UpstreamServerName, UpstreamTls,
};
use super::super::raw::{RawCertificate, RawDownstreamTls, RawPair, RawUpstreamTls};
use super::{Names, all, choice, file, filled, number, one_of, required};
use crate::core::server_name::{NameError, ServerName};

type Strings = At<Vec<At<String>>>;

pub(super) fn downstream(
    entry: &Entry<RawDownstreamTls>,
    names: &Names,
    problems: &mut Problems,
) -> Option<DownstreamTls> {
    let raw = &entry.value;
    let certificates = certificates(entry, problems);
    let client_auth = client_auth(entry, names, problems);
    let alpn = alpn(raw.alpn.as_ref(), problems);
    let policy = (raw.versions.as_ref(), raw.cipher_suites.as_ref(), raw.groups.as_ref());
    let crypto = crypto(policy, problems);
    let resumption = resumption(raw.resumption.as_ref(), problems);
    let tickets_sent = resumption
        .and_then(|resumption| tickets_sent(resumption, raw.tickets_sent.as_ref(), problems));
    let (certificates, certificate_dir) = certificates?;
    Some(DownstreamTls {
        name: Arc::clone(&entry.name),
        at: entry.at.clone(),
        certificates,
        certificate_dir,
        client_auth: client_auth?,
        alpn: alpn?,
        crypto: crypto?,
        resumption: resumption?,
        tickets_sent: tickets_sent?,
    })
}

pub(super) fn upstream(
    entry: &Entry<RawUpstreamTls>,
    names: &Names,
    problems: &mut Problems,
) -> Option<UpstreamTls> {
    let raw = &entry.value;
    let example = ("server_name", "\"db.internal\"");
    let server_name = required(raw.server_name.as_ref(), &entry.at, example, problems)
        .and_then(|written| server_name(written, problems));
    let trust = required(raw.trust.as_ref(), &entry.at, ("trust", "\"NAME\""), problems)
        .and_then(|written| names.trust.find(written, problems));
    let certificate = match &raw.certificate {
        None => Some(None),
        Some(written) => client_certificate(written, problems).map(Some),
    };
    let alpn = alpn(raw.alpn.as_ref(), problems);
    let policy = (raw.versions.as_ref(), raw.cipher_suites.as_ref(), raw.groups.as_ref());
    let crypto = crypto(policy, problems);
    let resumption = resumption(raw.resumption.as_ref(), problems);
    Some(UpstreamTls {
        name: Arc::clone(&entry.name),
        at: entry.at.clone(),
        server_name: server_name?,
        trust: TrustId(trust?),
        certificate: certificate?,
        alpn: alpn?,
        crypto: crypto?,
        resumption: resumption?,
    })
}

/// A name to find in an upstream's certificate: a DNS name, or an IP address.
pub(super) fn fixed_name(written: &At<String>, problems: &mut Problems) -> Option<Arc<str>> {
    let text = written.value.as_str();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Arc::from(address.to_string()));
    }
    match text.parse::<ServerName>() {
        Ok(name) => Some(Arc::from(name.as_str())),
        Err(error) => {
            let help = match error {
                _ if text.starts_with('$') => "did you mean \"$sni\"?",
                NameError::TrailingDot => "leave the last dot out",
                _ => "write a DNS name such as \"db.internal\", or an IP address",
            };
            problems.add(written.at.clone(), format!("{text:?}: {error}"), help);
            None
        }
    }
}

fn server_name(written: &At<String>, problems: &mut Problems) -> Option<UpstreamServerName> {
    if written.value == "$sni" {
        return Some(UpstreamServerName::ClientSni);
    }
    fixed_name(written, problems).map(UpstreamServerName::Fixed)
}

/// A list, or a directory: one of the two.
fn certificates(
    entry: &Entry<RawDownstreamTls>,
    problems: &mut Problems,
) -> Option<(Vec<CertificateFiles>, Option<FileRef>)> {
    let raw = &entry.value;
    if let Some(directory) = &raw.certificate_dir {
        if raw.certificates.is_some() || problems.is_excused(&entry.at.child("certificates").key) {
            let help = "keep one of the two: single pairs can stand in the directory as well";
            problems.add(directory.at.clone(), "certificates are listed here as well", help);
            return None;
        }
        return file(directory, problems).map(|directory| (Vec::new(), Some(directory)));
    }
    if problems.is_excused(&entry.at.child("certificate_dir").key) {
        return None;
    }
    let pair = "[{ chain = \"pki/edge.crt\", key = \"pki/edge.key\" }]";
    let example = ("certificates", &*format!("{pair}, or certificate_dir = \"certs/\""));
    let written = required(raw.certificates.as_ref(), &entry.at, example, problems)?;
    let pairs = all(filled(written, example, problems)?, |pair| certificate(pair, problems))?;
    Some((pairs, None))
}

fn certificate(written: &At<RawCertificate>, problems: &mut Problems) -> Option<CertificateFiles> {
    let RawCertificate { chain, key, ocsp } = &written.value;
    let pair = pair(chain.as_ref(), key.as_ref(), &written.at, problems);
    let ocsp = match ocsp {
        None => Some(None),
        Some(written) => file(written, problems).map(Some),
    };
    let (chain, key) = pair?;
    Some(CertificateFiles { chain, key, ocsp: ocsp? })
}

fn client_certificate(written: &At<RawPair>, problems: &mut Problems) -> Option<CertificateFiles> {
    let RawPair { chain, key } = &written.value;
    let (chain, key) = pair(chain.as_ref(), key.as_ref(), &written.at, problems)?;
    Some(CertificateFiles { chain, key, ocsp: None })
}

fn pair(
    chain: Option<&At<String>>,
    key: Option<&At<String>>,
    at: &Location,
    problems: &mut Problems,
) -> Option<(FileRef, FileRef)> {
    let chain = required(chain, at, ("chain", "\"pki/edge.crt\""), problems)
        .and_then(|written| file(written, problems));
    let key = required(key, at, ("key", "\"pki/edge.key\""), problems)
        .and_then(|written| file(written, problems));
    Some((chain?, key?))
}

fn client_auth(
    entry: &Entry<RawDownstreamTls>,
    names: &Names,
    problems: &mut Problems,
) -> Option<ClientAuth> {
    type Make = fn(TrustId) -> ClientAuth;
    let modes: [(&str, Option<Make>); 3] = [
        ("require", Some(ClientAuth::Require)),
        ("optional", Some(ClientAuth::Optional)),
        ("none", None),
    ];
    let raw = &entry.value;
    let mode =
        choice(raw.client_auth.as_ref(), Some(ClientAuth::Require as Make), &modes, problems)?;
    let Some(make) = mode else {
        let Some(trust) = &raw.trust else { return Some(ClientAuth::None) };
        let help = "leave trust out, or write client_auth = \"require\"";
        problems.add(trust.at.clone(), "nobody is asked for a certificate here", help);
        return None;
    };
    let at = entry.at.child("trust");
    let Some(trust) = &raw.trust else {
        if !problems.is_excused(&at.key) {
            let message = match &raw.client_auth {
                Some(written) => format!("missing, and client_auth is {:?}", written.value),
                None => "missing, and clients must have a certificate by default".to_owned(),
            };
            let help = "write trust = \"NAME\" of a [trust.NAME], or client_auth = \"none\"";
            problems.add(at, message, help);
        }
        return None;
    };
    names.trust.find(trust, problems).map(|id| make(TrustId(id)))
}

fn resumption(written: Option<&At<String>>, problems: &mut Problems) -> Option<Resumption> {
    let choices = [("tickets", Resumption::Tickets), ("off", Resumption::Off)];
    choice(written, Resumption::Tickets, &choices, problems)
}

fn tickets_sent(
    resumption: Resumption,
    written: Option<&At<u64>>,
    problems: &mut Problems,
) -> Option<u8> {
    match (resumption, written) {
        (Resumption::Off, None | Some(At { value: 0, .. })) => Some(0),
        (Resumption::Off, Some(tickets)) => {
            let message = format!("{} tickets, and resumption is \"off\"", tickets.value);
            let help = "leave tickets_sent out, or write resumption = \"tickets\"";
            problems.add(tickets.at.clone(), message, help);
            None
        }
        (Resumption::Tickets, Some(At { value: 0, at })) => {
            let help = "write resumption = \"off\" for no tickets at all";
            problems.add(at.clone(), "0 is not from 1 to 8", help);
            None
        }
        (Resumption::Tickets, written) => number(written, 1, 1..=8, problems),
    }
}

/// Of the longest ones these fill the 16 KiB that we take of a hello ourselves; the field has 64.
const ALPN_PROTOCOLS_MAX: usize = 64;

/// ALPN protocols, in order of preference.
pub(super) fn alpn(written: Option<&Strings>, problems: &mut Problems) -> Option<Vec<Arc<str>>> {
    let Some(written) = written else { return Some(Vec::new()) };
    if let Some(beyond) = written.value.get(ALPN_PROTOCOLS_MAX) {
        let message = format!("{} protocols, more than {ALPN_PROTOCOLS_MAX}", written.value.len());
        problems.add(beyond.at.clone(), message, "a hello has room for no more");
        return None;
    }
    let mut seen = BTreeSet::new();
    all(&written.value, |protocol| {
        let text = protocol.value.as_str();
        // RFC 7301 §3.1: a protocol name is 1 to 255 bytes.
        if !(1..=255).contains(&text.len()) {
            let message = format!("an ALPN protocol has 1 to 255 bytes, this has {}", text.len());
            problems.add(protocol.at.clone(), message, "");
            return None;
        }
        if !seen.insert(text) {
            problems.add(protocol.at.clone(), format!("{text:?} is in this list already"), "");
            return None;
        }
        Some(Arc::from(text))
    })
}

/// A list of words without repetition, or its default.
fn chosen<T: Copy>(
    written: Option<&Strings>,
    choices: &[(&str, T)],
    key: &str,
    problems: &mut Problems,
) -> Option<Vec<T>> {
    let Some(written) = written else {
        return Some(choices.iter().map(|(_, value)| *value).collect());
    };
    let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
    let example = format!("[{}]", names.join(", "));
    let list = filled(written, (key, &example), problems)?;
    let mut seen = BTreeSet::new();
    all(list, |element| {
        let value = one_of(element, choices, problems)?;
        if !seen.insert(element.value.as_str()) {
            let message = format!("{:?} is in this list already", element.value);
            problems.add(element.at.clone(), message, "");
            return None;
        }
        Some(value)
    })
}

fn crypto(
    (versions, suites, groups): (Option<&Strings>, Option<&Strings>, Option<&Strings>),
    problems: &mut Problems,
) -> Option<CryptoPolicy> {
    let suites_at = suites.map(|written| &written.at);
    let groups_at = groups.map(|written| &written.at);
    let versions = chosen(versions, VERSIONS, "versions", problems);
    let cipher_suites = chosen(suites, CIPHER_SUITES, "cipher_suites", problems);
    let groups = chosen(groups, GROUPS, "groups", problems);
    let (versions, mut cipher_suites, groups) = (versions?, cipher_suites?, groups?);
    if suites_at.is_none() {
        cipher_suites.retain(|suite| versions.contains(&version_of(*suite)));
    }
    let fits = versions.iter().all(|version| {
        let suite = cipher_suites.iter().any(|suite| version_of(*suite) == *version);
        let group = *version == TlsVersion::Tls13
            || groups.iter().any(|group| *group != Group::X25519MlKem768);
        nothing_for(*version, "cipher suite", suite, suites_at, problems)
            & nothing_for(*version, "group", group, groups_at, problems)
    });
    fits.then_some(CryptoPolicy { versions, cipher_suites, groups })
}

/// Notes that a version is allowed and could never be negotiated.
fn nothing_for(
    version: TlsVersion,
    what: &str,
    found: bool,
    at: Option<&Location>,
    problems: &mut Problems,
) -> bool {
    let Some(at) = at.filter(|_| !found) else { return true };
    let version = match version {
        TlsVersion::Tls12 => "1.2",
        TlsVersion::Tls13 => "1.3",
    };
    let help = format!("add one, or take {version:?} out of versions");
    problems.add(at.clone(), format!("no {what} here is for TLS {version}"), help);
    false
}

fn version_of(suite: CipherSuite) -> TlsVersion {
    match suite {
        CipherSuite::Tls13Aes128GcmSha256
        | CipherSuite::Tls13Aes256GcmSha384
        | CipherSuite::Tls13Chacha20Poly1305Sha256 => TlsVersion::Tls13,
        CipherSuite::EcdheEcdsaAes128GcmSha256
        | CipherSuite::EcdheEcdsaAes256GcmSha384
        | CipherSuite::EcdheEcdsaChacha20Poly1305Sha256
        | CipherSuite::EcdheRsaAes128GcmSha256
        | CipherSuite::EcdheRsaAes256GcmSha384
        | CipherSuite::EcdheRsaChacha20Poly1305Sha256 => TlsVersion::Tls12,
    }
}

const VERSIONS: &[(&str, TlsVersion)] = &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

/// In the default order: AES-128-GCM first, because SHA-384 costs 55 µs more a handshake.
/// As the file writes it.
pub fn suite_name(suite: CipherSuite) -> &'static str {
    name_in(CIPHER_SUITES, suite)
}

/// As the file writes it.
pub fn group_name(group: Group) -> &'static str {
    name_in(GROUPS, group)
}

fn name_in<T: PartialEq + Copy>(all: &[(&'static str, T)], one: T) -> &'static str {
    all.iter().find(|(_, known)| *known == one).map_or("", |(name, _)| name)
}

const CIPHER_SUITES: &[(&str, CipherSuite)] = &[
    ("TLS_AES_128_GCM_SHA256", CipherSuite::Tls13Aes128GcmSha256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::Tls13Aes256GcmSha384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::Tls13Chacha20Poly1305Sha256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::EcdheEcdsaAes128GcmSha256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::EcdheRsaAes128GcmSha256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::EcdheEcdsaAes256GcmSha384),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::EcdheRsaAes256GcmSha384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdheEcdsaChacha20Poly1305Sha256,
    ),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::EcdheRsaChacha20Poly1305Sha256),
];

const GROUPS: &[(&str, Group)] = &[
    ("x25519mlkem768", Group::X25519MlKem768),
    ("x25519", Group::X25519),
    ("secp256r1", Group::Secp256r1),
    ("secp384r1", Group::Secp384r1),
];
