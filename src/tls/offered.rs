//! What a client offered, where nothing of it fits: words for the refusal.
//!
//! Reads the hello once more, for a handshake that has failed; decides nothing. `downstream` adds what the
//! chain would have taken.

use rustls::{CipherSuite, NamedGroup, SignatureScheme};

use super::crypto::group_name;
use super::shown::scheme_name;
use crate::core::client_hello::{ClientHello, HelloBuffer, Peek, peek};
use crate::core::refusal::{Evidence, Reason, Refusal};

/// Adds to `refusal` what the hello at the front of `input` offers, and what to do for this client on a chain
/// with `suites`.
pub(super) fn tell(refusal: &mut Refusal, input: &[u8], suites: &str) {
    let mut joined = HelloBuffer::new();
    let Peek::Hello(hello) = peek(input, &mut joined) else { return };
    let offers = match refusal.reason {
        Reason::CipherMismatch => {
            let known =
                hello.cipher_suites().map(suite).filter(|it| is_here(it)).collect::<Vec<_>>();
            let shared = known.iter().find(|it| suites.split(", ").any(|own| own == it.as_str()));
            if shared.is_none() {
                // rustls chooses the certificate first, and then it is that which does not fit.
                refusal.detail = "no cipher suite in common".to_owned();
            }
            refusal.evidence = Some(Box::new(Evidence {
                hint: hint(&hello, &known, shared),
                ..refusal.evidence.take().map_or_else(Evidence::default, |found| *found)
            }));
            let offered = listed(hello.cipher_suites().filter(|it| !SIGNALS.contains(it)), suite);
            match listed(hello.signature_schemes(), scheme) {
                None => offered,
                Some(schemes) => {
                    offered.map(|it| format!("{it}, and takes signatures by {schemes}"))
                }
            }
        }
        Reason::GroupMismatch => listed(hello.supported_groups(), group),
        _ => None,
    };
    if let Some(offers) = offers {
        refusal.detail = format!("{}: the client offers {offers}", refusal.detail);
    }
}

/// What to do, where the hello leaves no doubt about it. `known` are its suites that the gateway has at all,
/// `shared` the first that the chain has.
fn hint(hello: &ClientHello<'_>, known: &[String], shared: Option<&String>) -> Option<String> {
    let Some(first) = known.first() else {
        let hint = "the client offers none of the cipher suites that exist here, which are those of AES-GCM and \
                    ChaCha20 with ECDHE: update it";
        return Some(hint.to_owned());
    };
    let Some(shared) = shared else {
        return Some(format!(
            "add {first} to `cipher_suites` of the chain's `tls.downstream`, or update the client"
        ));
    };
    let is_rsa = |code| scheme(code).starts_with("rsa_");
    let takes = |rsa: bool, kind: &str| {
        let by_suite = known.iter().any(|it| !it.contains("_ECDHE_") || it.contains(kind));
        by_suite && hello.signature_schemes().any(|code| is_rsa(code) == rsa)
    };
    match (takes(true, "_ECDHE_RSA_"), takes(false, "_ECDHE_ECDSA_")) {
        (true, false) => Some(second_pair("an RSA", shared)),
        (false, true) => Some(second_pair("an ECDSA", shared)),
        (true, true) | (false, false) => None,
    }
}

fn second_pair(key: &str, shared: &str) -> String {
    format!(
        "both have {shared}, and the client takes no key of this chain's `certificates`: give it a second pair, \
         with {key} key, or update the client"
    )
}

/// Whether the gateway has a suite of this name at all.
fn is_here(name: &str) -> bool {
    let is_tls13 = name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_");
    let is_modern = name.contains("_GCM_") || name.contains("_CHACHA20_");
    is_modern && (is_tls13 || name.starts_with("TLS_ECDHE_")) && !name.contains("PSK")
}

fn suite(code: u16) -> String {
    match CipherSuite::from(code) {
        CipherSuite::Unknown(code) => format!("{code:#06x}"),
        known => format!("{known:?}").replace("TLS13_", "TLS_"),
    }
}

fn scheme(code: u16) -> String {
    let name = scheme_name(SignatureScheme::from(code));
    name.map_or_else(|| format!("{code:#06x}"), ToOwned::to_owned)
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

/// TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746) and TLS_FALLBACK_SCSV (RFC 7507) are no suites.
const SIGNALS: [u16; 2] = [0x00ff, 0x5600];
