//! Owns the command `pki`: CAs, server certificates, client certificates good and bad, revocation
//! lists, and the manifest that `--tenants-from` reads. For load and tests only; the keys lie
//! unprotected. Read `manifest.rs` for the layout.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use time::OffsetDateTime;

use crate::exit::Exit;
use crate::manifest::{BadPair, Manifest, Pair, Tenant};
use crate::{clock, output};

/// Make CAs, tenants and client certificates for load
#[derive(Debug, Clone, Args)]
pub struct Pki {
    /// Directory to write; must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Tenants: server names tN.test, unless --name is given
    #[arg(long, default_value_t = 1)]
    pub tenants: u32,
    /// Server names, one tenant each
    #[arg(long, value_delimiter = ',')]
    pub name: Vec<String>,
    /// Client certificates per tenant
    #[arg(long, default_value_t = 4)]
    pub clients: u32,
    /// Key types of the client certificates, in turn: ecdsa, p384, ed25519, rsa
    #[arg(long, value_delimiter = ',', default_value = "ecdsa")]
    pub client_keys: Vec<String>,
    /// Key type of the server certificates
    #[arg(long, default_value = "ecdsa")]
    pub server_key: String,
    /// Intermediate CAs between the client CA and the client certificates
    #[arg(long, default_value_t = 0)]
    pub intermediates: u32,
    /// Days until the good certificates and the revocation lists expire
    #[arg(long, default_value_t = 365)]
    pub days: u32,
}

impl Pki {
    /// Writes the directory.
    ///
    /// # Errors
    /// A directory with something in it, unknown key types, a full disk.
    pub fn execute(&self) -> Result<Exit> {
        fs::create_dir_all(&self.out)?;
        if fs::read_dir(&self.out)?.next().is_some() {
            bail!("{} is not empty: choose another directory", self.out.display());
        }
        let names: Vec<String> = if self.name.is_empty() {
            (0..self.tenants.max(1)).map(|index| format!("t{index}.test")).collect()
        } else {
            self.name.clone()
        };
        let server_ca = Authority::new("load server CA", "ecdsa", self.days)?;
        write(&self.out.join("server-ca.crt"), &server_ca.pem)?;
        let mut bundle = String::new();
        let mut tenants = Vec::new();
        for name in &names {
            let (tenant, client_ca) = self.tenant(name, &server_ca)?;
            bundle.push_str(&client_ca);
            tenants.push(tenant);
        }
        write(&self.out.join("client-cas.crt"), &bundle)?;
        let manifest = Manifest { schema: "pki/1".to_owned(), tenants };
        let text = serde_json::to_string_pretty(&manifest)?;
        write(&self.out.join("pki.json"), &text)?;
        output::line(format_args!(
            "wrote {} tenants with {} clients each to {}",
            names.len(),
            self.clients,
            self.out.display()
        ));
        Ok(Exit::Met)
    }

    fn tenant(&self, name: &str, server_ca: &Authority) -> Result<(Tenant, String)> {
        let base = PathBuf::from(name);
        let root = self.out.join(&base);
        fs::create_dir_all(root.join("clients"))?;
        fs::create_dir_all(root.join("bad"))?;
        let mut server = leaf(name, ExtendedKeyUsagePurpose::ServerAuth, self.days);
        server.subject_alt_names = vec![dns(name)?];
        let server = self.issue(&base, "server", &server, &self.server_key, server_ca, "")?;

        let top = Authority::new(&format!("{name} client CA"), "ecdsa", self.days)?;
        write(&root.join("client-ca.crt"), &top.pem)?;
        let (issuer, chain) = self.descend(name, &top)?;
        let issuer = issuer.as_ref().unwrap_or(&top);
        let mut clients = Vec::new();
        for index in 0..self.clients {
            let key = &self.client_keys[index as usize % self.client_keys.len().max(1)];
            let file = format!("clients/client-{index:04}");
            let params = client(name, &format!("client-{index:04}"), self.days)?;
            clients.push(self.issue(&base, &file, &params, key, issuer, &chain)?);
        }
        let bad = self.bad(&base, name, issuer, &chain)?;
        let crl = revocation_list(issuer, self.days)?;
        write(&root.join("client-ca.crl"), &crl)?;
        let tenant = Tenant {
            name: name.to_owned(),
            server_name: name.to_owned(),
            server_ca: PathBuf::from("server-ca.crt"),
            server,
            client_ca: base.join("client-ca.crt"),
            crl: base.join("client-ca.crl"),
            clients,
            bad,
        };
        Ok((tenant, top.pem.clone()))
    }

    /// The lowest intermediate, and the chain from it up to, but not with, the top.
    fn descend(&self, name: &str, top: &Authority) -> Result<(Option<Authority>, String)> {
        let mut lowest: Option<Authority> = None;
        let mut chain = String::new();
        for depth in 0..self.intermediates {
            let above = lowest.as_ref().unwrap_or(top);
            let title = format!("{name} client CA, intermediate {}", depth + 1);
            let below = Authority::below(&title, above, self.days)?;
            chain.insert_str(0, &below.pem);
            lowest = Some(below);
        }
        Ok((lowest, chain))
    }

    fn bad(
        &self,
        base: &Path,
        name: &str,
        issuer: &Authority,
        chain: &str,
    ) -> Result<Vec<BadPair>> {
        let stranger = Authority::new("a CA that nobody trusts", "ecdsa", self.days)?;
        let mut expired = client(name, "expired", self.days)?;
        (expired.not_before, expired.not_after) = (day(-20), day(-10));
        let mut not_yet_valid = client(name, "not-yet-valid", self.days)?;
        (not_yet_valid.not_before, not_yet_valid.not_after) = (day(100), day(200));
        let mut revoked = client(name, "revoked", self.days)?;
        revoked.serial_number = Some(SerialNumber::from_slice(&REVOKED_SERIAL));
        let mut wrong_eku = client(name, "wrong-eku", self.days)?;
        wrong_eku.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let unknown_ca = client(name, "unknown-ca", self.days)?;
        [
            ("expired", &expired, issuer),
            ("not-yet-valid", &not_yet_valid, issuer),
            ("revoked", &revoked, issuer),
            ("wrong-eku", &wrong_eku, issuer),
            ("unknown-ca", &unknown_ca, &stranger),
        ]
        .into_iter()
        .map(|(flaw, params, issuer)| {
            let pair = self.issue(base, &format!("bad/{flaw}"), params, "ecdsa", issuer, chain)?;
            Ok(BadPair { flaw: flaw.to_owned(), pair })
        })
        .collect()
    }

    fn issue(
        &self,
        base: &Path,
        file: &str,
        params: &CertificateParams,
        key_type: &str,
        issuer: &Authority,
        chain: &str,
    ) -> Result<Pair> {
        let key = key_pair(key_type)?;
        let certificate = params.signed_by(&key, &issuer.issuer)?;
        let stem = base.join(file);
        let pair = Pair { chain: with_end(&stem, "crt"), key: with_end(&stem, "key") };
        write(&self.out.join(&pair.chain), &format!("{}{chain}", certificate.pem()))?;
        write_secret(&self.out.join(&pair.key), &key.serialize_pem())?;
        Ok(pair)
    }
}

/// `a.b/client.0` keeps its dots, unlike with `Path::with_extension`.
fn with_end(stem: &Path, end: &str) -> PathBuf {
    let mut text = stem.as_os_str().to_owned();
    text.push(".");
    text.push(end);
    PathBuf::from(text)
}

/// A CA with its key.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(title: &str, key_type: &str, days: u32) -> Result<Self> {
        let key = key_pair(key_type)?;
        let params = Self::params(title, days);
        let certificate = params.self_signed(&key)?;
        Ok(Self::from(params, key, &certificate))
    }

    fn below(title: &str, above: &Self, days: u32) -> Result<Self> {
        let key = key_pair("ecdsa")?;
        let params = Self::params(title, days);
        let certificate = params.signed_by(&key, &above.issuer)?;
        Ok(Self::from(params, key, &certificate))
    }

    fn params(title: &str, days: u32) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, title);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (day(-1), day(i64::from(days)));
        params
    }

    fn from(params: CertificateParams, key: KeyPair, certificate: &Certificate) -> Self {
        Self { issuer: Issuer::new(params, key), pem: certificate.pem() }
    }
}

fn leaf(common_name: &str, usage: ExtendedKeyUsagePurpose, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (day(-1), day(i64::from(days)));
    params
}

fn client(tenant: &str, name: &str, days: u32) -> Result<CertificateParams> {
    let mut params = leaf(name, ExtendedKeyUsagePurpose::ClientAuth, days);
    let uri = format!("spiffe://load.test/{tenant}/{name}").try_into()?;
    params.subject_alt_names = vec![SanType::URI(uri), dns(&format!("{name}.{tenant}"))?];
    Ok(params)
}

fn dns(name: &str) -> Result<SanType> {
    let name = name.try_into().with_context(|| format!("{name:?} is not a DNS name"))?;
    Ok(SanType::DnsName(name))
}

fn revocation_list(issuer: &Authority, days: u32) -> Result<String> {
    let params = CertificateRevocationListParams {
        this_update: day(-1),
        next_update: day(i64::from(days)),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from_slice(&REVOKED_SERIAL),
            revocation_time: day(-1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(&issuer.issuer)?.pem()?)
}

fn key_pair(key_type: &str) -> Result<KeyPair> {
    Ok(match key_type {
        "ecdsa" | "p256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        "p384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        "ed25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519)?,
        "rsa" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        _ => bail!("unknown key type {key_type:?}: use ecdsa, p384, ed25519 or rsa"),
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A file that only its owner may read: servers rightly complain about other keys.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// This second, so many days from today.
fn day(offset: i64) -> OffsetDateTime {
    let now = i64::try_from(clock::unix_seconds()).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(now + offset * 86_400).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The serial number of every tenant's revoked client.
const REVOKED_SERIAL: [u8; 8] = [0x52, 0x45, 0x56, 0x4f, 0x4b, 0x45, 0x44, 0x01];
