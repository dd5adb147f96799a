//! What a client offered, where nothing of it fits: words for the refusal.
//!
//! Reads the hello once more, for a handshake that has failed; decides nothing. `downstream` adds what the
//! chain would have taken.

use rustls::{CipherSuite, NamedGroup, SignatureScheme};

use super::alert::NO_SUITE;
use super::crypto::group_name;
use super::downstream::Offers;
use super::handshake::Version;
use super::shown::{scheme_name, scheme_text};
use crate::core::client_hello::{ClientHello, HelloBuffer, Peek, peek};
use crate::core::refusal::{Evidence, Reason, Refusal};

/// Adds to `refusal` what the hello at the front of `input` offers, and what to do for this client on a chain
/// with `ours`.
pub(super) fn tell(refusal: &mut Refusal, input: &[u8], ours: &Offers) {
    let mut joined = HelloBuffer::new();
    let Peek::Hello(hello) = peek(input, &mut joined) else { return };
    let Words { detail, offers, hint } = match refusal.reason {
        Reason::CipherMismatch => suites_told(&hello, ours, &refusal.detail),
        Reason::GroupMismatch => groups_told(&hello, ours),
        _ => return,
    };
    if let Some(detail) = detail {
        refusal.detail = detail;
    }
    if let Some(hint) = hint {
        let evidence = refusal.evidence.take().map_or_else(Evidence::default, |found| *found);
        refusal.evidence = Some(Box::new(Evidence { hint: Some(hint), ..evidence }));
    }
    if let Some(offers) = offers {
        refusal.detail = format!("{}: the client offers {offers}", refusal.detail);
    }
}

/// What is told of a refusal.
struct Words {
    /// In the place of what it said.
    detail: Option<String>,
    offers: Option<String>,
    hint: Option<String>,
}

fn suites_told(hello: &ClientHello<'_>, ours: &Offers, said: &str) -> Words {
    let suites = Suites::of(hello, ours);
    let schemes = listed(hello.signature_schemes(), scheme);
    // rustls chooses the certificate first, and then it is that which does not fit.
    let is_by_suite = suites.shared.is_empty() && schemes.is_some();
    let detail = is_by_suite.then(|| match (suites.is_of_another_version, suites.version) {
        (false, _) => NO_SUITE.to_owned(),
        (true, Version::Tls13) => format!("{NO_SUITE} that exists in TLS 1.3"),
        (true, Version::Tls12) => {
            format!("{NO_SUITE} that exists before TLS 1.3, and {}", why_tls12(hello))
        }
    });
    let hint = match is_by_suite || said == NO_SUITE || suites.known.is_empty() {
        true => Some(suites.hint()),
        false => key_hint(hello, &suites),
    };
    let offered = listed(hello.cipher_suites().filter(|it| !SIGNALS.contains(it)), suite);
    let offers = match (offered, schemes) {
        (Some(offered), Some(schemes)) => {
            Some(format!("{offered}, and takes signatures by {schemes}"))
        }
        (offered, _) => offered,
    };
    Words { detail, offers, hint }
}

fn groups_told(hello: &ClientHello<'_>, ours: &Offers) -> Words {
    let Some(offers) = listed(hello.supported_groups(), group) else {
        // RFC 8422 §4 lets it leave them out; rustls asks for them.
        let detail = Some("the client names no key-exchange groups".to_owned());
        return Words { detail, offers: None, hint: Some(NO_GROUPS.to_owned()) };
    };
    let shared = hello.supported_groups().map(group).find(|it| is_in(it, &ours.groups));
    let detail = shared
        .as_ref()
        .map(|shared| format!("{shared} exists in TLS 1.3 only, and {}", why_tls12(hello)));
    let hint = shared.map(|shared| {
        format!(
            "nothing but {shared} is in common, which exists in TLS 1.3 only: turn 1.3 on in both, or have them \
             share x25519 or secp256r1"
        )
    });
    Words { detail, offers: Some(offers), hint }
}

/// The client's suites that exist here in the version that was agreed, by IANA's names.
struct Suites {
    version: Version,
    known: Vec<String>,
    /// Those that the chain has.
    shared: Vec<String>,
    /// All of them that exist here are of another version.
    is_of_another_version: bool,
}

impl Suites {
    fn of(hello: &ClientHello<'_>, ours: &Offers) -> Self {
        let version = match hello.offers_tls13() && ours.has_tls13 {
            true => Version::Tls13,
            false => Version::Tls12,
        };
        let here: Vec<_> = hello.cipher_suites().map(suite).filter(|it| is_here(it)).collect();
        let known: Vec<_> = here.iter().filter(|it| version_of(it) == version).cloned().collect();
        let shared = known.iter().filter(|it| is_in(it, &ours.suites)).cloned().collect();
        let is_of_another_version = known.is_empty() && !here.is_empty();
        Self { version, known, shared, is_of_another_version }
    }

    /// What to do where it is the suites that do not fit.
    fn hint(&self) -> String {
        // Where some are shared, the certificate that was chosen is of the other kind of key.
        let is_missing =
            |it: &&String| !self.shared.iter().any(|own| key_kind(own) == key_kind(it));
        match self.known.iter().find(is_missing).or(self.known.first()) {
            Some(missing) => format!(
                "add {missing} to `cipher_suites` of the chain's `tls.downstream`, or update the client"
            ),
            None => match (self.is_of_another_version, self.version) {
                (false, _) => NO_SUITE_HERE,
                (true, Version::Tls13) => ONLY_OLDER_SUITES,
                (true, Version::Tls12) => ONLY_SUITES_OF_TLS13,
            }
            .to_owned(),
        }
    }
}

/// What to do where it is the certificates that do not fit, as far as the hello leaves no doubt about it.
fn key_hint(hello: &ClientHello<'_>, suites: &Suites) -> Option<String> {
    let schemes = hello.signature_schemes();
    let takes: Vec<_> = schemes.filter_map(|code| key_for(code, suites.version)).collect();
    if takes.is_empty() {
        return Some(NO_SIGNATURE_HERE.to_owned());
    }
    // The chain has none of these, or it would have been chosen.
    let (key, shared) = takes.iter().find_map(|(kind, key)| {
        let is_for = |it: &&String| suites.version == Version::Tls13 || key_kind(it) == *kind;
        suites.shared.iter().find(is_for).map(|shared| (key, shared))
    })?;
    Some(format!(
        "both have {shared}, and the client takes no key of this chain's `certificates`: give it a second pair, \
         with {key}, or update the client"
    ))
}

/// Why it is not TLS 1.3 that is spoken.
fn why_tls12(hello: &ClientHello<'_>) -> &'static str {
    match hello.offers_tls13() {
        true => "this chain takes 1.2 alone",
        false => "the client offers 1.2",
    }
}

fn is_in(name: &str, list: &str) -> bool {
    list.split(", ").any(|own| own == name)
}

/// The kind of key that a suite of TLS 1.2 wants.
fn key_kind(suite: &str) -> &'static str {
    if suite.contains("_ECDHE_RSA_") { "RSA" } else { "ECDSA" }
}

/// The key that would sign by this scheme, and of which kind it is to suites (RFC 8422 §5.10). RSA's old
/// padding is for certificates alone in TLS 1.3 (RFC 8446 §4.2.3).
fn key_for(code: u16, version: Version) -> Option<(&'static str, &'static str)> {
    match scheme_name(SignatureScheme::from(code))? {
        "ecdsa_secp256r1_sha256" => Some(("ECDSA", "an ECDSA key on P-256")),
        "ecdsa_secp384r1_sha384" => Some(("ECDSA", "an ECDSA key on P-384")),
        "ecdsa_secp521r1_sha512" => Some(("ECDSA", "an ECDSA key on P-521")),
        "ed25519" => Some(("ECDSA", "an Ed25519 key")),
        name if version == Version::Tls13 && name.starts_with("rsa_pkcs1_") => None,
        _ => Some(("RSA", "an RSA key")),
    }
}

/// Whether the gateway has a suite of this name at all.
fn is_here(name: &str) -> bool {
    let is_modern = name.contains("_GCM_") || name.contains("_CHACHA20_");
    let is_ephemeral = version_of(name) == Version::Tls13 || name.starts_with("TLS_ECDHE_");
    is_modern && is_ephemeral && !name.contains("PSK")
}

fn version_of(suite: &str) -> Version {
    match suite.starts_with("TLS_AES_") || suite.starts_with("TLS_CHACHA20_") {
        true => Version::Tls13,
        false => Version::Tls12,
    }
}

fn suite(code: u16) -> String {
    match CipherSuite::from(code) {
        CipherSuite::Unknown(code) => format!("{code:#06x}"),
        known => format!("{known:?}").replace("TLS13_", "TLS_"),
    }
}

fn scheme(code: u16) -> String {
    scheme_text(SignatureScheme::from(code))
}

fn group(code: u16) -> String {
    match group_name(NamedGroup::from(code)) {
        "unknown" => format!("{code:#06x}"),
        known => known.to_owned(),
    }
}

/// `None`: of nothing.
fn listed(codes: impl Iterator<Item = u16>, name: fn(u16) -> String) -> Option<String> {
    let all: Vec<u16> = codes.collect();
    let few: Vec<String> = all.iter().take(LISTED_MAX).copied().map(name).collect();
    let more = all.len().saturating_sub(LISTED_MAX);
    match (few.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(few.join(", ")),
        (false, more) => Some(format!("{} and {more} more", few.join(", "))),
    }
}

const LISTED_MAX: usize = 6;

const NO_SUITE_HERE: &str = "the client offers none of the cipher suites that exist here, which are those of AES-GCM \
                             and ChaCha20 with ECDHE: update it";
const ONLY_OLDER_SUITES: &str = "the client offers TLS 1.3, and suites of 1.2 only: have it offer \
                                 TLS_AES_128_GCM_SHA256, or 1.2 where the chain takes that";
const ONLY_SUITES_OF_TLS13: &str = "TLS 1.2 would be spoken, and the client offers suites of 1.3 only: turn 1.3 on in \
                                    both, or have the client offer suites of 1.2";
const NO_SIGNATURE_HERE: &str = "the client takes none of the signatures that are made here, which are ECDSA, Ed25519 \
                                 and RSA with SHA-256 or longer, and in TLS 1.3 RSA as PSS only: update it";
const NO_GROUPS: &str = "the client's hello has no supported_groups, so that nobody can know which it takes: update it, \
                         or have it name its curves";

/// TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746) and TLS_FALLBACK_SCSV (RFC 7507) are no suites.
const SIGNALS: [u16; 2] = [0x00ff, 0x5600];
