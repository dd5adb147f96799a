//! The files of the suite, as the package `cryptography-vectors` of PyPI brings them, and OpenSSL to
//! open what stands in PKCS#12.
//!
//! Which of them belong together is in `cases`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use portcullis_kit::missing;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The folder `PKITS_data`.
#[derive(Debug)]
pub(crate) struct Vectors(PathBuf);

impl Vectors {
    /// By the first `python3` on the path. Without the package or without OpenSSL: `None` and a loud
    /// line, or a failure where `CI=true`.
    pub(crate) fn find() -> Option<Self> {
        if output(Command::new("openssl").arg("version")).is_none() {
            missing("openssl", "apt-get install openssl");
            return None;
        }
        let folder = "import cryptography_vectors as v; print(v.__path__[0], end='')";
        let found = output(Command::new("python3").args(["-c", folder])).map(|path| {
            PathBuf::from(String::from_utf8(path).expect("a path in UTF-8")).join("x509/PKITS_data")
        });
        let found = found.filter(|folder| folder.is_dir());
        if found.is_none() {
            missing("NIST's PKITS", "pip install cryptography-vectors");
        }
        found.map(Self)
    }

    pub(crate) fn certificate(&self, name: &str) -> CertificateDer<'static> {
        let path = self.certificate_path(name);
        let der = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        CertificateDer::from(der)
    }

    /// The anchor of all cases, in PEM.
    pub(crate) fn anchor(&self) -> Vec<u8> {
        let path = self.certificate_path("TrustAnchorRootCertificate");
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-inform", "der", "-in"]).arg(path);
        output(&mut openssl).expect("a certificate")
    }

    /// A revocation list, in DER.
    pub(crate) fn list_path(&self, name: &str) -> PathBuf {
        self.0.join("crls").join(format!("{name}.crl"))
    }

    /// The key of a certificate, which lies beside it in PKCS#12.
    pub(crate) fn key(&self, name: &str) -> PrivateKeyDer<'static> {
        let path = self.0.join("pkcs12").join(format!("{name}.p12"));
        let mut openssl = Command::new("openssl");
        openssl
            .args(["pkcs12", "-passin", "pass:password", "-nodes", "-nocerts", "-in"])
            .arg(&path);
        let pem = output(&mut openssl).unwrap_or_else(|| panic!("{} holds no key", path.display()));
        PrivateKeyDer::from_pem_slice(&pem).expect("a key in PEM")
    }

    fn certificate_path(&self, name: &str) -> PathBuf {
        self.0.join("certs").join(format!("{name}.crt"))
    }
}

/// What a program prints, if it succeeds.
fn output(command: &mut Command) -> Option<Vec<u8>> {
    let finished = command.output().ok()?;
    finished.status.success().then_some(finished.stdout)
}
