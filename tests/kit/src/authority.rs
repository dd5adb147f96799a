//! A certificate authority that lives as long as a test: CAs, intermediates, servers, clients,
//! revocation lists, and everything that can be wrong with them.
//!
//! Certificates are handed out as PEM and DER and lie in one temporary directory that goes away
//! with the last value that names it. It never talks TLS: `connect` and `echo` do.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevocationReason, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

use crate::clock::wall_now;

/// A CA: a root, or an intermediate below one. ECDSA P-256.
#[derive(Debug)]
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
    /// What a leaf sends after itself: this CA first, the root left out.
    intermediates: Vec<Certificate>,
    root: CertificateDer<'static>,
    directory: Arc<Directory>,
    ca_path: PathBuf,
}

/// An end entity's certificate chain and private key, in memory and on disk.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first, intermediates after it, the root left out.
    pub chain_pem: String,
    pub key_pem: String,
    pub chain_der: Vec<CertificateDer<'static>>,
    pub key_der: PrivateKeyDer<'static>,
    pub chain_path: PathBuf,
    pub key_path: PathBuf,
    serial: SerialNumber,
    directory: Arc<Directory>,
}

/// What a client certificate says. `ClientSpec::new("alice")` is a good one; each method makes it
/// say more, or makes it wrong.
#[derive(Debug, Clone, Default)]
pub struct ClientSpec {
    pub common_name: String,
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub validity: Validity,
    pub purpose: Purpose,
    pub key: KeyKind,
    /// `None`: 16 bytes taken from the key, so that no two are the same.
    pub serial: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Validity {
    /// From an hour ago for ninety days.
    #[default]
    Current,
    /// Ended yesterday.
    Expired,
    /// Starts tomorrow, an hour after this time of day: tests say "in 1 day" however long they take.
    NotYet,
    /// From an hour ago until so long from now.
    For(Duration),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Exactly `clientAuth`.
    #[default]
    Client,
    /// Exactly `serverAuth`: the wrong one for a client.
    Server,
    /// No extended key usage at all, which RFC 5280 §4.2.1.12 reads as any purpose.
    Unstated,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyKind {
    #[default]
    EcdsaP256,
    Rsa2048,
    Ed25519,
}

#[derive(Debug)]
struct Directory {
    temporary: TempDir,
    files: AtomicU32,
}

impl Authority {
    /// A root CA with this common name, in a temporary directory of its own.
    pub fn new(name: &str) -> Self {
        let directory = Arc::new(Directory {
            temporary: TempDir::with_prefix("portcullis-kit-").expect("a temporary directory"),
            files: AtomicU32::new(0),
        });
        let (params, key) = ca_params(name);
        let certificate = params.self_signed(&key).expect("a root signs itself");
        let ca_path = directory.write(name, "crt", &certificate.pem());
        Self {
            params,
            key,
            root: certificate.der().clone(),
            certificate,
            intermediates: Vec::new(),
            directory,
            ca_path,
        }
    }

    /// A CA below this one. Its leaves send its certificate after their own.
    pub fn intermediate(&self, name: &str) -> Self {
        let (params, key) = ca_params(name);
        let certificate =
            params.signed_by(&key, &self.issuer()).expect("a CA signs its intermediate");
        let mut intermediates = vec![certificate.clone()];
        intermediates.extend_from_slice(&self.intermediates);
        let ca_path = self.directory.write(name, "crt", &certificate.pem());
        Self {
            params,
            key,
            certificate,
            intermediates,
            root: self.root.clone(),
            directory: Arc::clone(&self.directory),
            ca_path,
        }
    }

    /// A server certificate for these names, which may be DNS names, wildcards or IP addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.server_with(names, KeyKind::EcdsaP256, Validity::Current)
    }

    /// `server`, with a key of this kind and this validity.
    pub fn server_with(&self, names: &[&str], key: KeyKind, validity: Validity) -> Identity {
        let (ips, dns): (Vec<_>, Vec<_>) =
            names.iter().map(ToString::to_string).partition(|name| name.parse::<IpAddr>().is_ok());
        self.issue(&ClientSpec {
            common_name: names.first().copied().unwrap_or("server").to_owned(),
            dns,
            ips: ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
            validity,
            key,
            purpose: Purpose::Server,
            ..ClientSpec::default()
        })
    }

    /// A client certificate that says what `spec` says.
    pub fn client(&self, spec: &ClientSpec) -> Identity {
        self.issue(spec)
    }

    /// A revocation list (PEM) of these identities, current for a day.
    pub fn revocation_list(&self, revoked: &[&Identity]) -> String {
        let serials: Vec<_> = revoked.iter().map(|identity| identity.serial()).collect();
        self.revocation_list_of(&serials, Validity::Current)
    }

    /// A revocation list (PEM) of certificates of this CA by their serial numbers: current for a day,
    /// or out of date since yesterday.
    pub fn revocation_list_of(&self, serials: &[Vec<u8>], validity: Validity) -> String {
        let at = |offset: i64| rcgen::date_time_ymd(1970, 1, 1) + since_1970(offset);
        let (from, until) = match validity {
            Validity::Current => (-HOUR, DAY),
            Validity::Expired => (-30 * DAY, -DAY),
            Validity::NotYet => (DAY + HOUR, 30 * DAY),
            Validity::For(time) => (-HOUR, time.as_secs().cast_signed()),
        };
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from(serial.clone()),
            revocation_time: at(-HOUR / 2),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at(from),
            next_update: at(until),
            crl_number: SerialNumber::from(since_1970(0).as_secs()),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer()).expect("a CA signs its revocation list");
        list.pem().expect("a revocation list has a PEM form")
    }

    /// The serial number of this CA's own certificate.
    pub fn serial(&self) -> Vec<u8> {
        self.params.serial_number.as_ref().expect("every CA gets one").to_bytes()
    }

    /// Writes a file into this authority's directory and returns where.
    pub fn write(&self, name: &str, extension: &str, text: &str) -> PathBuf {
        self.directory.write(name, extension, text)
    }

    /// This CA's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// This CA's own certificate as PEM: what goes into a trust bundle.
    pub fn ca_pem(&self) -> String {
        self.certificate.pem()
    }

    /// The file of `ca_pem`.
    pub fn ca_path(&self) -> &Path {
        &self.ca_path
    }

    /// This CA's private key, for programs that sign in its name.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The directory in which all files of this authority and its intermediates lie.
    pub fn directory(&self) -> &Path {
        self.directory.temporary.path()
    }

    /// A trust store that holds the root above this CA.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("a root that webpki reads");
        Arc::new(roots)
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    fn issue(&self, spec: &ClientSpec) -> Identity {
        let key = generate(spec.key);
        let params = leaf_params(spec, &key);
        let serial = params.serial_number.clone().expect("leaf_params sets a serial number");
        let leaf = params.signed_by(&key, &self.issuer()).expect("a CA signs a leaf");
        let mut chain = vec![leaf];
        chain.extend_from_slice(&self.intermediates);
        let (chain_pem, key_pem) = (pem_chain(&chain), key.serialize_pem());
        let chain_path = self.directory.write(&spec.common_name, "crt", &chain_pem);
        let key_path = chain_path.with_extension("key");
        write_private(&key_path, &key_pem);
        Identity {
            key_der: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            chain_pem,
            key_pem,
            chain_der: der_chain(&chain),
            chain_path,
            key_path,
            serial,
            directory: Arc::clone(&self.directory),
        }
    }
}

impl Identity {
    /// The same leaf and key, sent without its intermediates: the classic mistake.
    pub fn leaf_only(&self) -> Self {
        let chain_der = vec![self.chain_der[0].clone()];
        let end = self.chain_pem.find(PEM_END).expect("a certificate in the chain");
        let chain_pem = self.chain_pem[..end + PEM_END.len()].to_owned();
        let chain_path = self.directory.write("leaf-only", "crt", &chain_pem);
        Self {
            chain_pem,
            key_pem: self.key_pem.clone(),
            chain_der,
            key_der: self.key_der.clone_key(),
            chain_path,
            key_path: self.key_path.clone(),
            serial: self.serial.clone(),
            directory: Arc::clone(&self.directory),
        }
    }

    /// The end entity's certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain_der[0]
    }

    /// The serial number as the certificate carries it, big end first.
    pub fn serial(&self) -> Vec<u8> {
        self.serial.to_bytes()
    }
}

impl ClientSpec {
    /// A current client certificate with an ECDSA P-256 key and no alternative name.
    pub fn new(common_name: &str) -> Self {
        Self { common_name: common_name.to_owned(), ..Self::default() }
    }

    #[must_use]
    pub fn uri(mut self, uri: &str) -> Self {
        self.uris.push(uri.to_owned());
        self
    }

    #[must_use]
    pub fn dns(mut self, name: &str) -> Self {
        self.dns.push(name.to_owned());
        self
    }

    #[must_use]
    pub fn email(mut self, address: &str) -> Self {
        self.emails.push(address.to_owned());
        self
    }

    #[must_use]
    pub fn ip(mut self, address: IpAddr) -> Self {
        self.ips.push(address);
        self
    }

    #[must_use]
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    #[must_use]
    pub fn validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    #[must_use]
    pub fn expired(self) -> Self {
        self.validity(Validity::Expired)
    }

    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        self.validity(Validity::NotYet)
    }

    #[must_use]
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    #[must_use]
    pub fn wrong_eku(self) -> Self {
        self.purpose(Purpose::Server)
    }

    #[must_use]
    pub fn serial(mut self, serial: &[u8]) -> Self {
        self.serial = Some(serial.to_vec());
        self
    }
}

impl Directory {
    /// A new file `NAME-N.EXTENSION`; whatever a file name should not hold becomes `_`.
    fn write(&self, name: &str, extension: &str, text: &str) -> PathBuf {
        let plain: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(40)
            .collect();
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.temporary.path().join(format!("{plain}-{number}.{extension}"));
        fs::write(&path, text).expect("the temporary directory takes a file");
        path
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .expect("a new file in the temporary directory");
    file.write_all(text.as_bytes()).expect("the temporary directory takes a file");
}

fn ca_params(name: &str) -> (CertificateParams, KeyPair) {
    let key = generate(KeyKind::EcdsaP256);
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, -DAY, 3650 * DAY);
    params.serial_number = Some(serial_of(&params, &key));
    (params, key)
}

/// A serial number taken from the key: positive, without a leading zero (RFC 5280 §4.1.2.2).
fn serial_of(params: &CertificateParams, key: &KeyPair) -> SerialNumber {
    let mut serial = params.key_identifier(key);
    serial.truncate(16);
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from(serial)
}

fn leaf_params(spec: &ClientSpec, key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&spec.common_name);
    let text = |name: &String| name.as_str().try_into().expect("an ASCII alternative name");
    params.subject_alt_names = spec.uris.iter().map(|uri| SanType::URI(text(uri))).collect();
    params.subject_alt_names.extend(spec.dns.iter().map(|name| SanType::DnsName(text(name))));
    params.subject_alt_names.extend(spec.emails.iter().map(|name| SanType::Rfc822Name(text(name))));
    params.subject_alt_names.extend(spec.ips.iter().map(|ip| SanType::IpAddress(*ip)));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match spec.purpose {
        Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Purpose::Unstated => vec![],
    };
    params.use_authority_key_identifier_extension = true;
    let (from, until) = match spec.validity {
        Validity::Current => (-HOUR, 90 * DAY),
        Validity::Expired => (-30 * DAY, -DAY),
        Validity::NotYet => (DAY + HOUR, 30 * DAY),
        Validity::For(time) => (-HOUR, time.as_secs().cast_signed()),
    };
    set_validity(&mut params, from, until);
    let given = spec.serial.clone().map(SerialNumber::from);
    params.serial_number = Some(given.unwrap_or_else(|| serial_of(&params, key)));
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn generate(kind: KeyKind) -> KeyPair {
    match kind {
        KeyKind::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyKind::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
    }
    .expect("aws-lc makes a key")
}

fn pem_chain(chain: &[Certificate]) -> String {
    chain.iter().map(Certificate::pem).collect()
}

fn der_chain(chain: &[Certificate]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|certificate| certificate.der().clone()).collect()
}

/// Validity in seconds before (negative) and after the clock's now.
fn set_validity(params: &mut CertificateParams, from: i64, until: i64) {
    let at = |offset: i64| rcgen::date_time_ymd(1970, 1, 1) + since_1970(offset);
    (params.not_before, params.not_after) = (at(from), at(until));
}

fn since_1970(offset: i64) -> Duration {
    let now = wall_now().duration_since(UNIX_EPOCH).expect("the clock is set after 1970");
    Duration::from_secs(now.as_secs().saturating_add_signed(offset))
}

const PEM_END: &str = "-----END CERTIFICATE-----\n";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[cfg(test)]
mod tests;
