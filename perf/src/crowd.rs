//! Owns the crowd: thousands of clients, each with a key and a certificate of its own, signed by the CA
//! of the stage. More than a gateway remembers, so that what it has learned of one client is of no use.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Makes a crowd's files, `NAME.crt` beside `NAME.key`, below the CA in `pki`.
pub(crate) fn make(pki: &Path, folder: &Path, count: u32) -> Result<()> {
    let file = |name: &str| {
        let path = pki.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let key = KeyPair::from_pem(&file("ca.key")?)?;
    let issuer = Issuer::from_ca_cert_pem(&file("ca.crt")?, key)?;
    fs::create_dir(folder)?;
    for number in 0..count {
        let name = format!("client-{number:05}");
        let key = KeyPair::generate()?;
        let certificate = client(&name).signed_by(&key, &issuer)?;
        fs::write(folder.join(format!("{name}.crt")), certificate.pem())?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// As `portcullis pki client` makes it, which would take a process for each.
fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 1, 1));
    params
}

/// Portcullis remembers the chains of 8,192 clients and the certificates of 1,024 (`chain_memo.rs` and
/// `leaves.rs` in `src/tls`). Of more, one after the other, it has forgotten each when it comes again.
pub(crate) const CROWD: u32 = 10_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everyone_has_a_key_and_a_certificate_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut ca = client("CA");
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = ca.self_signed(&key).unwrap();
        fs::write(folder.path().join("ca.crt"), certificate.pem()).unwrap();
        fs::write(folder.path().join("ca.key"), key.serialize_pem()).unwrap();
        let crowd = folder.path().join("crowd");
        make(folder.path(), &crowd, 20).unwrap();
        let files = fs::read_dir(&crowd).unwrap().map(|entry| entry.unwrap().path());
        let contents: BTreeSet<_> = files.map(|file| fs::read(file).unwrap()).collect();
        assert_eq!(contents.len(), 40);
    }
}
