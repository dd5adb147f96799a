//! Certificates and keys in memory: a CA that signs itself, and what CAs sign.
//!
//! It reads the CA's two files and writes none. Every certificate says exactly what it is for:
//! `basicConstraints`, key usage, extended key usage, and key identifiers that let verifiers find
//! the issuer (RFC 5280 §4.2.1).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList,
    CertificateRevocationListParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    PublicKeyData, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::PkiError;
use super::certificate::{key_identifier, shown};
use super::key::KeyKind;
use super::leaf::Purpose;
use super::names::AlternativeName;
use super::pair::Pair;
use super::revoked::Revocation;
use super::validity::{Window, date, seconds};

/// A certificate with its key, as text for files and as a line for people.
#[derive(Debug)]
pub(super) struct Issued {
    /// PEM: the certificate, then those intermediates that its peers need to find the root.
    pub(super) chain: String,
    /// PKCS #8 PEM.
    pub(super) key: Zeroizing<String>,
    pub(super) summary: String,
}

/// A CA to be made.
#[derive(Debug)]
pub(super) struct AuthoritySpec<'a> {
    pub(super) name: &'a str,
    pub(super) key: KeyKind,
    pub(super) days: u32,
    /// How many CAs may stand below one another under it; `None`: as many as its own CA allows.
    pub(super) path_length: Option<u8>,
    /// Empty: any.
    pub(super) permitted_dns: &'a [String],
}

/// A leaf to be made.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) common_name: String,
    pub(super) names: Vec<AlternativeName>,
    /// What it is made for, in words only.
    pub(super) role: Purpose,
    /// What it says that it may be used for.
    pub(super) purpose: Purpose,
    pub(super) key: KeyKind,
    /// Cut to that of its CA.
    pub(super) window: Window,
}

/// A CA that was loaded from its files and may sign at this moment.
#[derive(Debug)]
pub(super) struct Issuing {
    issuer: Issuer<'static, KeyPair>,
    path: PathBuf,
    /// The common name, or all of the name when it has none, for people.
    pub(super) name: String,
    /// DER of the name.
    pub(super) subject: Vec<u8>,
    pub(super) key_identifier: Option<Vec<u8>>,
    /// PEM of what stands between the leaf and the root: empty when the CA is the root.
    intermediates: String,
    /// The names of those, from this CA upward.
    pub(super) line: Vec<String>,
    not_after: u64,
    path_length: Option<u32>,
    /// Of each CA that constrains names, the domains that it permits.
    permitted_dns: Vec<Vec<String>>,
}

/// A CA that signs itself.
pub(super) fn root(spec: &AuthoritySpec<'_>, now: SystemTime) -> Result<Issued, PkiError> {
    let now = seconds(now)?;
    let key = spec.key.generate()?;
    let window = Window::days(now, spec.days);
    let certificate = authority_params(spec, spec.path_length, window)?.self_signed(&key)?;
    Ok(Issued {
        chain: certificate.pem(),
        summary: format!(
            "CA \"{}\", {}, {}",
            shown(spec.name),
            spec.key.described(),
            window.described(now)
        ),
        key: Zeroizing::new(key.serialize_pem()),
    })
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
        let constraints = own.basic_constraints().ok().flatten().map(|found| found.value.clone());
        let Some(constraints) = constraints.filter(|constraints| constraints.ca) else {
            return Err(refused("its basic constraints say so"));
        };
        if own.public_key().raw != key.subject_public_key_info() {
            let (certificate, key) = (files.certificate.clone(), files.key.clone());
            return Err(PkiError::Mismatch { certificate, key });
        }
        let until = u64::try_from(own.validity().not_after.timestamp()).unwrap_or(0);
        if until <= seconds(now)? {
            return Err(PkiError::Expired { path: files.certificate.clone(), date: date(until) });
        }
        let between = parsed.iter().zip(&blocks).filter(|(one, _)| one.subject() != one.issuer());
        let (line, intermediates): (Vec<_>, Vec<_>) =
            between.map(|(one, block)| (name(one), format!("{block}\n"))).unzip();
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&ders[0], key)?,
            path: files.certificate.clone(),
            name: name(own),
            subject: own.subject().as_raw().to_vec(),
            key_identifier: key_identifier(own),
            intermediates: intermediates.concat(),
            line,
            not_after: until,
            path_length: constraints.path_len_constraint,
            permitted_dns: parsed.iter().filter_map(permitted_dns).collect(),
        })
    }

    /// A CA below this one.
    pub(super) fn intermediate(
        &self,
        spec: &AuthoritySpec<'_>,
        now: SystemTime,
    ) -> Result<Issued, PkiError> {
        if spec.name == self.name {
            // Verifiers would take it for one that signs itself.
            return Err(PkiError::SameName { name: spec.name.to_owned() });
        }
        let now = seconds(now)?;
        let window = self.cut(Window::days(now, spec.days))?;
        let path_length = self.path_length_below(spec.path_length)?;
        let key = spec.key.generate()?;
        let certificate =
            authority_params(spec, path_length, window)?.signed_by(&key, &self.issuer)?;
        let permitted = match spec.permitted_dns {
            [] => String::new(),
            domains => format!(" for {}", domains.join(", ")),
        };
        Ok(Issued {
            chain: certificate.pem() + &self.intermediates,
            summary: format!(
                "intermediate CA \"{}\"{permitted} below \"{}\", {}, {}",
                shown(spec.name),
                shown(&self.name),
                spec.key.described(),
                window.described(now)
            ),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// A leaf for `subject`, never valid longer than the CA.
    pub(super) fn leaf(&self, subject: &Subject, now: SystemTime) -> Result<Issued, PkiError> {
        let window = self.cut(subject.window)?;
        let key = subject.key.generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&subject.common_name);
        params.subject_alt_names =
            subject.names.iter().map(AlternativeName::encode).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (server, client) =
            (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        params.extended_key_usages = match subject.purpose {
            Purpose::Server => vec![server],
            Purpose::Client => vec![client],
            Purpose::Both => vec![server, client],
            Purpose::None => Vec::new(),
        };
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number()?);
        (params.not_before, params.not_after) = (at(window.from), at(window.until));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            chain: certificate.pem() + &self.intermediates,
            summary: self.summary(subject, &window.described(seconds(now)?)),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// The list of what this CA has revoked.
    pub(super) fn revocation_list(
        &self,
        number: u64,
        revoked: &[Revocation],
        window: Window,
    ) -> Result<CertificateRevocationList, PkiError> {
        let usages = self.issuer.key_usages();
        if !usages.is_empty() && !usages.contains(&KeyUsagePurpose::CrlSign) {
            let reason = "its key usage does not let it sign revocation lists";
            return Err(PkiError::NotAnAuthority { path: self.path.clone(), reason });
        }
        let params = CertificateRevocationListParams {
            this_update: at(window.from),
            next_update: at(window.until),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|one| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(one.serial.as_bytes()),
                    revocation_time: at(one.at),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: match &self.key_identifier {
                Some(identifier) => KeyIdMethod::PreSpecified(identifier.clone()),
                None => KeyIdMethod::Sha256,
            },
        };
        Ok(params.signed_by(&self.issuer)?)
    }

    fn cut(&self, window: Window) -> Result<Window, PkiError> {
        let ended = || PkiError::EndsBefore { path: self.path.clone(), date: date(self.not_after) };
        window.within(self.not_after).ok_or_else(ended)
    }

    fn path_length_below(&self, asked: Option<u8>) -> Result<Option<u8>, PkiError> {
        let Some(allowed) = self.path_length else { return Ok(asked) };
        let below =
            allowed.checked_sub(1).filter(|below| asked.is_none_or(|n| u32::from(n) <= *below));
        let Some(below) = below else {
            return Err(PkiError::TooDeep { path: self.path.clone(), allowed });
        };
        Ok(Some(asked.unwrap_or(u8::try_from(below).unwrap_or(u8::MAX))))
    }

    fn summary(&self, subject: &Subject, validity: &str) -> String {
        let names: Vec<_> = subject.names.iter().map(ToString::to_string).collect();
        let names =
            if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        let (role, name, key) =
            (subject.role.described(), shown(&subject.common_name), subject.key.described());
        let mut summary = format!("{role} \"{name}\"{names}, {key}, {validity}");
        if subject.purpose != subject.role {
            summary += &format!(", marked for use as {}", subject.purpose.described());
        }
        for name in subject.names.iter().filter(|name| self.is_outside(name)) {
            summary += &format!(", to be refused: its CA may not issue {name}");
        }
        summary
    }

    fn is_outside(&self, name: &AlternativeName) -> bool {
        let AlternativeName::Dns(name) = name else { return false };
        let is_below = |domain: &String| {
            name.strip_suffix(&**domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.permitted_dns.iter().any(|domains| !domains.iter().any(is_below))
    }
}

fn read(files: &Pair, path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => files.missing(),
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

fn name(certificate: &X509Certificate<'_>) -> String {
    let common = certificate.subject().iter_common_name().next();
    let common = common.and_then(|name| name.as_str().ok());
    common.map_or_else(|| certificate.subject().to_string(), ToOwned::to_owned)
}

/// `None` when it constrains no DNS names.
fn permitted_dns(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let constraints = certificate.name_constraints().ok()??.value;
    let permitted = constraints.permitted_subtrees.as_ref()?;
    let domains: Vec<_> = permitted
        .iter()
        .filter_map(|subtree| match subtree.base {
            GeneralName::DNSName(domain) => Some(domain.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    (!domains.is_empty()).then_some(domains)
}

fn authority_params(
    spec: &AuthoritySpec<'_>,
    path_length: Option<u8>,
    window: Window,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(spec.name);
    params.is_ca = IsCa::Ca(
        path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained),
    );
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number()?);
    let domains = spec.permitted_dns.iter().cloned().map(GeneralSubtree::DnsName);
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: domains.collect(),
        excluded_subtrees: Vec::new(),
    });
    (params.not_before, params.not_after) = (at(window.from), at(window.until));
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// 127 random bits: positive, never zero at the front, within 20 bytes (RFC 5280 §4.1.2.2).
fn serial_number() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| PkiError::NoRandomness)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn at(seconds: u64) -> OffsetDateTime {
    rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
}

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";
