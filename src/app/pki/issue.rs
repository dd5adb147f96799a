//! Certificates and keys in memory: a CA that signs itself, and leaves that a CA signs.
//!
//! It reads the CA's two files and writes none. Every certificate says exactly what it is for:
//! `basicConstraints`, key usage, extended key usage, and key identifiers that let verifiers find
//! the issuer (RFC 5280 §4.2.1).

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, RsaKeySize, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::names::AlternativeName;
use super::{KeyKind, Pair, PkiError};

/// A certificate with its key, as text for files and as a line for people.
#[derive(Debug)]
pub(super) struct Issued {
    /// PEM: the certificate, then those intermediates that its peers need to find the root.
    pub(super) chain: String,
    /// PKCS #8 PEM.
    pub(super) key: Zeroizing<String>,
    pub(super) summary: String,
}

/// Whom a leaf is for.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) common_name: String,
    names: Vec<AlternativeName>,
    purpose: Purpose,
}

/// A CA that was loaded from its files and may sign at this moment.
#[derive(Debug)]
pub(super) struct Issuing {
    issuer: Issuer<'static, KeyPair>,
    /// PEM of what stands between the leaf and the root: empty when the CA is the root.
    intermediates: String,
    /// Seconds since 1970.
    not_after: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Server,
    Client,
}

/// A CA that signs itself, and may have one more CA below it.
pub(super) fn authority(
    name: &str,
    kind: KeyKind,
    days: u32,
    now: SystemTime,
) -> Result<Issued, PkiError> {
    let key = generate(kind, RsaKeySize::_3072)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number()?);
    let now = seconds(now)?;
    set_validity(&mut params, now, now + u64::from(days) * DAY);
    let certificate = params.self_signed(&key)?;
    Ok(Issued {
        chain: certificate.pem(),
        summary: format!(
            "CA \"{}\", {}, until {}",
            shown(name),
            described(kind, "3072"),
            params.not_after.date()
        ),
        key: Zeroizing::new(key.serialize_pem()),
    })
}

impl Subject {
    pub(super) fn server(common_name: &str, names: Vec<AlternativeName>) -> Self {
        Self { common_name: common_name.to_owned(), names, purpose: Purpose::Server }
    }

    pub(super) fn client(common_name: &str, names: Vec<AlternativeName>) -> Self {
        Self { common_name: common_name.to_owned(), names, purpose: Purpose::Client }
    }
}

impl Issuing {
    /// Reads a CA's files: its certificate, which may be an intermediate followed by those above
    /// it, and its private key.
    pub(super) fn load(files: &Pair, now: SystemTime) -> Result<Self, PkiError> {
        let text = read(files, &files.certificate)?;
        let key_text = Zeroizing::new(read(files, &files.key)?);
        let key = KeyPair::from_pem(&key_text)
            .map_err(|source| PkiError::NotAKey { path: files.key.clone(), source })?;
        let refused = |reason| PkiError::NotAnAuthority { path: files.certificate.clone(), reason };
        let blocks: Vec<_> = pem_blocks(&text).collect();
        let ders = blocks
            .iter()
            .map(|block| CertificateDer::from_pem_slice(block.as_bytes()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_not_pem| refused("it is not PEM"))?;
        let parsed = ders
            .iter()
            .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_not_x509| refused("a certificate in it cannot be parsed"))?;
        let Some(own) = parsed.first() else {
            return Err(refused("it holds no certificate in PEM"));
        };
        if !own.is_ca() {
            return Err(refused("its basic constraints say so"));
        }
        if own.public_key().raw != key.subject_public_key_info() {
            let (certificate, key) = (files.certificate.clone(), files.key.clone());
            return Err(PkiError::Mismatch { certificate, key });
        }
        let not_after = own.validity().not_after;
        let until = u64::try_from(not_after.timestamp()).unwrap_or(0);
        if until <= seconds(now)? {
            let date = not_after.to_datetime().date().to_string();
            return Err(PkiError::Expired { path: files.certificate.clone(), date });
        }
        let between = parsed.iter().zip(&blocks).filter(|(one, _)| one.subject() != one.issuer());
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&ders[0], key)?,
            intermediates: between.map(|(_, block)| format!("{block}\n")).collect(),
            not_after: until,
        })
    }

    /// A leaf for `subject` that is valid for `days`, or as long as the CA if that is shorter.
    pub(super) fn leaf(
        &self,
        subject: &Subject,
        kind: KeyKind,
        days: u32,
        now: SystemTime,
    ) -> Result<Issued, PkiError> {
        let key = generate(kind, RsaKeySize::_2048)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&subject.common_name);
        params.subject_alt_names =
            subject.names.iter().map(AlternativeName::encode).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match subject.purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number()?);
        let now = seconds(now)?;
        let until = (now + u64::from(days) * DAY).min(self.not_after);
        set_validity(&mut params, now, until);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            chain: certificate.pem() + &self.intermediates,
            summary: summary(subject, kind, &params.not_after.date().to_string()),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

fn read(files: &Pair, path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            let directory = files.certificate.parent().unwrap_or(Path::new(".")).to_owned();
            PkiError::NoAuthority { directory }
        }
        _ => PkiError::Read { path: path.to_owned(), source },
    })
}

/// The certificates in a file, each from its first dash to its last.
fn pem_blocks(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(PEM_BEGIN).map(|(start, _)| {
        let rest = &text[start..];
        rest.find(PEM_END).map_or(rest, |end| &rest[..end + PEM_END.len()])
    })
}

fn summary(subject: &Subject, kind: KeyKind, until: &str) -> String {
    let purpose = match subject.purpose {
        Purpose::Server => "server",
        Purpose::Client => "client",
    };
    let names: Vec<_> = subject.names.iter().map(ToString::to_string).collect();
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let (name, key) = (shown(&subject.common_name), described(kind, "2048"));
    format!("{purpose} \"{name}\"{names}, {key}, until {until}")
}

/// A name without what a terminal would take for a command.
fn shown(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn described(kind: KeyKind, rsa_bits: &str) -> String {
    match kind {
        KeyKind::Ecdsa => "ECDSA P-256".to_owned(),
        KeyKind::Rsa => format!("RSA {rsa_bits}"),
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn generate(kind: KeyKind, rsa: RsaKeySize) -> Result<KeyPair, PkiError> {
    Ok(match kind {
        KeyKind::Ecdsa => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        KeyKind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rsa)?,
    })
}

/// 127 random bits: positive, never zero at the front, within 20 bytes (RFC 5280 §4.1.2.2).
fn serial_number() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| PkiError::NoRandomness)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// From an hour ago, for machines whose clocks are behind, until `until` (seconds since 1970).
fn set_validity(params: &mut CertificateParams, now: u64, until: u64) {
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    (params.not_before, params.not_after) = (at(now.saturating_sub(HOUR)), at(until));
}

fn seconds(now: SystemTime) -> Result<u64, PkiError> {
    Ok(now.duration_since(UNIX_EPOCH).map_err(|_before| PkiError::Clock)?.as_secs())
}

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
