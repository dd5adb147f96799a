//! Certificates as files hold them: PEM or DER, one or a chain. Decides nothing about trust.

use std::fs;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use super::PkiError;

/// All certificates of a file, at least one.
pub(in crate::app) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let bytes =
        fs::read(path).map_err(|source| PkiError::Read { path: path.to_owned(), source })?;
    if X509Certificate::from_der(&bytes).is_ok() {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(PkiError::NoCertificate { path: path.to_owned() }),
        Err(_damaged) => Err(PkiError::BadCertificate { path: path.to_owned() }),
    }
}

/// A certificate of the file at `path`.
pub(super) fn parse<'a>(
    path: &Path,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, PkiError> {
    let parsed = X509Certificate::from_der(der);
    let (_, parsed) =
        parsed.map_err(|_not_x509| PkiError::BadCertificate { path: path.to_owned() })?;
    Ok(parsed)
}

/// The identifier of its key (RFC 5280 §4.2.1.2).
pub(super) fn key_identifier(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    })
}

/// The identifier of the key that signed it (RFC 5280 §4.2.1.1).
pub(super) fn issuer_key_identifier(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => {
            identifier.key_identifier.as_ref().map(|identifier| identifier.0.to_vec())
        }
        _ => None,
    })
}

/// A text without what a terminal would take for a command.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
