//! `pki show`: what a certificate says, in the words and forms that the configuration takes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::PkiError;
use super::certificate::{self, hex, shown};
use super::names::AlternativeName;
use super::validity::{moment, seconds, span};
use crate::core::trust::KeyKind;

#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    /// Certificates, or whole chains, in PEM or DER
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Show {
    pub(super) fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        let now = seconds(now)?;
        let mut blocks = Vec::new();
        for path in &self.files {
            let ders = certificate::read(path)?;
            for (index, der) in ders.iter().enumerate() {
                let place = match ders.len() {
                    1 => path.display().to_string(),
                    count => format!("{}, certificate {} of {count}", path.display(), index + 1),
                };
                blocks.push(format!("{place}\n{}", described(path, der, now)?));
            }
        }
        Ok(blocks.join("\n"))
    }
}

fn described(path: &Path, der: &CertificateDer<'_>, now: u64) -> Result<String, PkiError> {
    let parsed = certificate::parse(path, der)?;
    let spki = digest(&SHA256, parsed.public_key().raw);
    let whole = digest(&SHA256, der);
    let mut names = alternative_names(&parsed);
    if names.is_empty() {
        names.push("(none)".to_owned());
    }
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {label:<12} {value}");
    };
    line("subject", &shown(&parsed.subject().to_string()));
    line("issuer", &shown(&parsed.issuer().to_string()));
    line("serial", &hex(parsed.raw_serial()));
    for (index, name) in names.iter().enumerate() {
        line(if index == 0 { "names" } else { "" }, name);
    }
    line("key", &key_kind(parsed.public_key()).to_string());
    line("for", &purpose(&parsed));
    line("valid", &validity(&parsed, now));
    line("fingerprint", &hex(whole.as_ref()));
    line("key's pin", &format!("sha256/{}", STANDARD.encode(spki.as_ref())));
    line("", &hex(spki.as_ref()));
    Ok(text)
}

/// As the rules of a trust are written: `uri = "spiffe://example.org/web"`.
fn alternative_names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(extension) = parsed.subject_alternative_name() else {
        return vec!["(cannot be parsed)".to_owned()];
    };
    let names = extension.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    let rule = |name: AlternativeName| {
        format!("{} = {}", name.kind(), toml::Value::from(shown(&name.to_string())))
    };
    let other = || "(of a kind that no rule is about)".to_owned();
    names.iter().map(|name| AlternativeName::decode(name).map_or_else(other, rule)).collect()
}

fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    let algorithm = &key.algorithm;
    if algorithm.algorithm == OID_SIG_ED25519 {
        return KeyKind::Ed25519;
    }
    if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        return match key.parsed() {
            Ok(PublicKey::RSA(key)) => {
                let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
                let significant = &key.modulus[zeros..];
                let unused = significant.first().map_or(0, |byte| byte.leading_zeros());
                let bits = u32::try_from(significant.len() * 8).unwrap_or(u32::MAX);
                KeyKind::Rsa(bits.saturating_sub(unused))
            }
            _ => KeyKind::Other,
        };
    }
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match curve {
        Some(curve) if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            if curve == OID_EC_P256 {
                KeyKind::EcdsaP256
            } else if curve == OID_NIST_EC_P384 {
                KeyKind::EcdsaP384
            } else if curve == OID_NIST_EC_P521 {
                KeyKind::EcdsaP521
            } else {
                KeyKind::Other
            }
        }
        _ => KeyKind::Other,
    }
}

fn purpose(parsed: &X509Certificate<'_>) -> String {
    if let Ok(Some(constraints)) = parsed.basic_constraints()
        && constraints.value.ca
    {
        return match constraints.value.path_len_constraint {
            None => "CA, of leaves and of CAs".to_owned(),
            Some(0) => "CA, of leaves only".to_owned(),
            Some(count) => format!("CA, of leaves and of CAs, {count} in a row"),
        };
    }
    let Ok(extension) = parsed.extended_key_usage() else {
        return "(cannot be parsed)".to_owned();
    };
    let Some(usage) = extension.map(|extension| extension.value) else {
        return "anything (it has no extended key usage)".to_owned();
    };
    let uses = [
        (usage.server_auth, "server"),
        (usage.client_auth, "client"),
        (usage.any, "anything"),
        (usage.code_signing, "code signing"),
        (usage.email_protection, "e-mail"),
        (usage.time_stamping, "time stamps"),
        (usage.ocsp_signing, "OCSP"),
        (!usage.other.is_empty(), "other uses"),
    ];
    let uses: Vec<_> = uses.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    uses.join(", ")
}

fn validity(parsed: &X509Certificate<'_>, now: u64) -> String {
    let second = |time: i64| u64::try_from(time).unwrap_or(0);
    let from = second(parsed.validity().not_before.timestamp());
    let until = second(parsed.validity().not_after.timestamp());
    let state = if now > until {
        format!("expired {} ago", span(now - until))
    } else if now < from {
        format!("valid in {}", span(from - now))
    } else {
        format!("{} left", span(until - now))
    };
    format!("{} to {}, {state}", moment(from), moment(until))
}

const EXAMPLES: &str = "\
Examples:
  portcullis pki show pki/alice.crt
  openssl s_client -connect HOST:PORT -showcerts </dev/null >seen.pem; portcullis pki show seen.pem
For the configuration: names are elements of `san`; the fingerprint, or either form
of the key's pin, is one of `pins`.";
