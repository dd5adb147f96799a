//! PEM files as rustls wants them, and what can be wrong with them in words that help.
//!
//! Certificates, keys and bundles; never decides whether a chain is trusted. `material` calls it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::panic::catch_unwind;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::chain_order;
use super::crl::RevocationList;
use super::identity::{identify, span};
use super::leaf::{Leaf, LeafPurpose, serial};
use super::served::Served;
use super::staple::{Staple, Status};
use crate::config::error::{Location, Problem};
use crate::config::plan::{CertificateFiles, FileRef};
use crate::core::expiry::Urgency;
use crate::core::identity::Identity;

/// What came up while files were read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Findings {
    pub(super) fn problem(
        &mut self,
        at: &Location,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let problem = Problem { at: at.clone(), message: message.into(), help: help.into() };
        // Terms that several chains share are read for each of them.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Warnings of one kind, of which there may be one for each of thousands of chains: the first few, and how
    /// many more there are.
    pub(super) fn few(&mut self, warnings: Vec<Problem>) {
        let untold = warnings.get(TOLD_MAX..).unwrap_or_default();
        let more = untold.first().map(|first| Problem {
            at: first.at.clone(),
            message: format!("{} more warnings of this kind, this place first", untold.len()),
            help: "mend those above, then look again".to_owned(),
        });
        self.warnings.extend(warnings.into_iter().take(TOLD_MAX).chain(more));
    }

    pub(super) fn warning(&mut self, at: &Location, message: String, help: &str) {
        let warning = Problem { at: at.clone(), message, help: help.to_owned() };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// A certificate chain with its key, and with its staple if it has one; `None` after a problem.
pub(super) fn certified_key(
    files: &CertificateFiles,
    purpose: LeafPurpose,
    now: u64,
    findings: &mut Findings,
) -> Option<Arc<Served>> {
    let chain = certificates(&files.chain, findings);
    let key = private_key(&files.key, findings);
    let staple = match (&files.ocsp, &chain) {
        (None, _) | (_, None) => None,
        (Some(file), Some(chain)) => Some(staple(file, chain.first()?, now, findings)?),
    };
    let (chain, key) = (chain?, key?);
    let mut sound = true;
    for (index, certificate) in chain.iter().enumerate() {
        sound &= check(&files.chain, index, certificate, now, findings).is_some();
    }
    if !sound {
        return None;
    }
    // By reference, so that what is read of the file can be wiped.
    let signing = match any_supported_type(&key) {
        Ok(signing) => signing,
        Err(error) => {
            let path = files.key.path.display();
            findings.problem(
                &files.key.at,
                format!("the private key in {path} cannot be used: {error}"),
                "use an ECDSA P-256 or P-384, Ed25519 or RSA key of 2048 bits or more",
            );
            return None;
        }
    };
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            warn_of_chain(&files.chain, &certified.cert, purpose, findings);
            Some(Arc::new(Served::new(certified, staple)))
        }
        Err(_) => {
            let (key, path) = (files.key.path.display(), files.chain.path.display());
            let (message, help) = match chain_order::owner_of(&certified.cert, &certified.key) {
                None => (
                    format!(
                        "the private key in {key} does not belong to the certificate in {path}"
                    ),
                    "the first certificate of the chain must be the one that was issued for this key; \
                     renew both files together",
                ),
                Some(number) => (
                    format!(
                        "{path} is in the wrong order: the private key in {key} belongs to \
                         certificate {number}"
                    ),
                    ORDER_HELP,
                ),
            };
            findings.problem(&files.key.at, message, help);
            None
        }
    }
}

/// An OCSP response for the first certificate of a chain; `None` after a problem. One that is over
/// loads with a warning, and is not shown.
fn staple(
    file: &FileRef,
    leaf: &CertificateDer<'_>,
    now: u64,
    findings: &mut Findings,
) -> Option<Staple> {
    let path = file.path.display();
    let der = read(file, OCSP_BYTES_MAX, findings)?;
    let help = "it must be a response in DER for this certificate: \
                openssl ocsp -respin FILE -noverify -resp_text shows it";
    let found = match serial(leaf) {
        _ if der.is_empty() => Err("it is empty".to_owned()),
        _ if matches!(Content::of(&der), Content::Other) => Err("it is not DER".to_owned()),
        None => Err("the certificate cannot be parsed".to_owned()),
        Some(serial) => Staple::parse(&der, &serial),
    };
    let staple = match found {
        Ok(staple) => staple,
        Err(why) => {
            let message = format!("the OCSP response {path} cannot be used: {why}");
            findings.problem(&file.at, message, help);
            return None;
        }
    };
    let warn = |findings: &mut Findings, what: &str, help: &str| {
        findings.warning(&file.at, format!("the OCSP response {path} {what}"), help);
    };
    match staple.status {
        Status::Good => {}
        Status::Revoked => {
            let help = "clients that look will refuse it: issue a new one if that was a mistake";
            warn(findings, "says that the certificate is revoked", help);
        }
        Status::Unknown => {
            let help = "ask the responder of the CA that issued it";
            warn(findings, "comes from a responder that does not know the certificate", help);
        }
    }
    let fetch = "fetch the current one, or check this machine's clock";
    match staple.next_update {
        None => warn(
            findings,
            "does not say until when it is good (nextUpdate), and is shown until it is replaced",
            "let the responder say so: many clients take no other",
        ),
        Some(next) if next < now => {
            let what = format!("is out of date since {} and is not shown", span(now - next));
            warn(findings, &what, fetch);
        }
        Some(_) if staple.this_update > now => {
            let what = format!("begins only in {}", span(staple.this_update - now));
            warn(findings, &what, "check this machine's clock");
        }
        Some(next) => {
            if Urgency::of_list(staple.this_update, next, now) > Urgency::Calm {
                let what = format!("is good for {} only", span(next - now));
                warn(findings, &what, "look at what should have fetched the next one");
            }
        }
    }
    Some(staple)
}

/// A certificate of a CA, where it stands in its file, and what it says.
pub(super) struct AnchorFound<'a> {
    pub file: &'a FileRef,
    /// From 1.
    pub number: usize,
    pub der: CertificateDer<'static>,
    pub identity: Identity,
}

/// The certificates of CAs, each with its file and its number there; `None` after a problem.
pub(super) fn anchors<'a>(
    files: &'a [FileRef],
    now: u64,
    findings: &mut Findings,
) -> Option<Vec<AnchorFound<'a>>> {
    let mut sound = true;
    let mut all = Vec::new();
    for file in files {
        let Some(found) = certificates(file, findings) else {
            sound = false;
            continue;
        };
        for (index, der) in found.into_iter().enumerate() {
            match check(file, index, &der, now, findings) {
                None => sound = false,
                Some(identity) => {
                    all.push(AnchorFound { file, number: index + 1, der, identity });
                }
            }
        }
    }
    sound.then_some(all)
}

/// Revocation lists, PEM or DER; `None` after a problem. One that is out of date loads with a
/// warning, for `revocation.stale` says what it is worth.
pub(super) fn revocation_lists<'a>(
    files: &'a [FileRef],
    now: u64,
    findings: &mut Findings,
) -> Option<Vec<(&'a FileRef, RevocationList)>> {
    let mut sound = true;
    let mut all = Vec::new();
    for file in files {
        let Some(found) = lists_of(file, findings) else {
            sound = false;
            continue;
        };
        for der in found {
            // RUSTSEC-2026-0104: a malformed list has made a reader panic before.
            let parsed = catch_unwind(|| RevocationList::parse(&der));
            let parsed = parsed.unwrap_or_else(|_| Err("its reader broke on it".to_owned()));
            match parsed {
                Ok(list) => {
                    check_list(file, &list, now, findings);
                    all.push((file, list));
                }
                Err(why) => {
                    let path = file.path.display();
                    let message = format!("the revocation list {path} cannot be used: {why}");
                    findings.problem(
                        &file.at,
                        message,
                        "openssl crl -noout -text -in FILE shows it",
                    );
                    sound = false;
                }
            }
        }
    }
    sound.then_some(all)
}

fn lists_of(
    file: &FileRef,
    findings: &mut Findings,
) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let path = file.path.display();
    let text = read(file, CRL_BYTES_MAX, findings)?;
    // A list is longer than 127 bytes, so that its length takes the long form (X.690 §8.1.3.5), which no
    // text looks like.
    if matches!(&text[..], [DER_SEQUENCE, 0x81..=0xff, ..]) {
        return Some(vec![CertificateRevocationListDer::from(text.to_vec())]);
    }
    let help = "it must be a CRL, in PEM with -----BEGIN X509 CRL----- lines, or in DER";
    match CertificateRevocationListDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !is_whole(file, &text, ("X509 CRL", found.len()), findings) => None,
        Ok(found) if found.is_empty() => {
            findings.problem(&file.at, format!("{path} holds no revocation list"), help);
            None
        }
        Ok(found) => Some(found),
        Err(error) => {
            let message = format!("{path} is not sound PEM: {}", unsound(&error));
            findings.problem(&file.at, message, help);
            None
        }
    }
}

fn check_list(file: &FileRef, list: &RevocationList, now: u64, findings: &mut Findings) {
    let (path, issuer) = (file.path.display(), &list.issuer_text);
    if list.next_update < now {
        let ago = span(now - list.next_update);
        findings.warning(
            &file.at,
            format!("the revocation list {path} of {issuer} is out of date since {ago}"),
            "fetch the current one, or check this machine's clock",
        );
    } else if list.this_update > now {
        let ahead = span(list.this_update - now);
        findings.warning(
            &file.at,
            format!("the revocation list {path} of {issuer} begins only in {ahead}"),
            "check this machine's clock",
        );
    } else if Urgency::of_list(list.this_update, list.next_update, now) > Urgency::Calm {
        let left = span(list.next_update - now);
        findings.warning(
            &file.at,
            format!("the revocation list {path} of {issuer} is good for {left} only"),
            "look at what should have fetched the next one",
        );
    }
}

/// All certificates of a file, at least one.
fn certificates(file: &FileRef, findings: &mut Findings) -> Option<Vec<CertificateDer<'static>>> {
    let path = file.path.display();
    let text = read(file, FILE_BYTES_MAX, findings)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !is_whole(file, &text, ("CERTIFICATE", found.len()), findings) => None,
        Ok(found) if found.is_empty() => {
            let (what, help) = match Content::of(&text) {
                Content::Nothing => (", it is empty", CERTIFICATE_HELP),
                Content::Key | Content::EncryptedKey => (" but a private key", CERTIFICATE_HELP),
                Content::Request => {
                    (" but a certificate request", "write the file that the CA answered with")
                }
                Content::Der => (" in PEM, it looks like DER or PKCS#12", CERTIFICATE_DER_HELP),
                Content::Bundle => {
                    (" but a bundle of PKCS#7", "openssl pkcs7 -print_certs -in FILE -out NEW")
                }
                Content::Wide => (" that can be read, it is UTF-16", WIDE_HELP),
                Content::Certificate | Content::ForSsh | Content::Other => ("", CERTIFICATE_HELP),
            };
            findings.problem(&file.at, format!("{path} holds no certificate{what}"), help);
            None
        }
        Ok(found) => Some(found),
        Err(error) => {
            findings.problem(
                &file.at,
                format!("{path} is not sound PEM: {}", unsound(&error)),
                "each certificate stands between whole BEGIN and END lines, in base64",
            );
            None
        }
    }
}

fn private_key(
    file: &FileRef,
    findings: &mut Findings,
) -> Option<Zeroizing<PrivateKeyDer<'static>>> {
    let text = read(file, FILE_BYTES_MAX, findings)?;
    let path = file.path.display();
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Some(Zeroizing::new(key)),
        // One with a passphrase is no item or no base64, by its kind.
        Err(_) if matches!(Content::of(&text), Content::EncryptedKey) => {
            let message = format!("{path} holds no private key that can be used: it is encrypted");
            let help = "nobody is there to type a passphrase: openssl pkey -in FILE -out NEW \
                        writes it without, for a file of mode 0600";
            findings.problem(&file.at, message, help);
            None
        }
        Err(PemError::NoItemsFound) => {
            let (what, help) = match Content::of(&text) {
                Content::Nothing => (", it is empty", KEY_HELP),
                Content::Certificate => (" but a certificate", KEY_HELP),
                Content::Request => (" but a certificate request", KEY_HELP),
                Content::Der => (" in PEM, it looks like DER or PKCS#12", KEY_DER_HELP),
                Content::Key => (
                    " that can be read",
                    "its BEGIN line stands alone on a line, without spaces before it",
                ),
                Content::ForSsh => (" but one of OpenSSH's, for SSH", KEY_HELP),
                Content::Wide => (" that can be read, it is UTF-16", WIDE_HELP),
                Content::EncryptedKey | Content::Bundle | Content::Other => ("", KEY_HELP),
            };
            findings.problem(&file.at, format!("{path} holds no private key{what}"), help);
            None
        }
        Err(error) => {
            let message = format!("{path} is not sound PEM: {}", unsound(&error));
            findings.problem(&file.at, message, KEY_HELP);
            None
        }
    }
}

/// What a file looks to be that is not what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Nothing,
    Certificate,
    Request,
    Key,
    EncryptedKey,
    Der,
    /// PKCS#7, as Windows' CAs hand chains out.
    Bundle,
    ForSsh,
    /// As PowerShell writes text.
    Wide,
    Other,
}

impl Content {
    fn of(bytes: &[u8]) -> Self {
        // What a file is shows at its beginning, and there are lists of 100 MiB.
        let bytes = &bytes[..bytes.len().min(LOOKED_AT_MAX)];
        let has = |label: &str| bytes.windows(label.len()).any(|window| window == label.as_bytes());
        if bytes.trim_ascii().is_empty() {
            Self::Nothing
        } else if has("BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED") {
            Self::EncryptedKey
        } else if has("BEGIN OPENSSH PRIVATE KEY-----") {
            Self::ForSsh
        } else if has("PRIVATE KEY-----") {
            Self::Key
        } else if has("BEGIN CERTIFICATE-----") {
            Self::Certificate
        } else if has("CERTIFICATE REQUEST-----") {
            Self::Request
        } else if has("BEGIN PKCS7-----") {
            Self::Bundle
        } else if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
            Self::Wide
        } else if bytes.first() == Some(&DER_SEQUENCE) {
            Self::Der
        } else {
            Self::Other
        }
    }
}

/// The error's own words show bytes of the file, which may be a key's.
fn unsound(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "an END line is missing, the file may be cut short",
        PemError::IllegalSectionStart { .. } => "a BEGIN line is damaged",
        PemError::Base64Decode(_) => "what stands between BEGIN and END is not base64",
        _ => "it cannot be read as PEM",
    }
}

/// Key files are read here too, so the bytes are wiped.
fn read(file: &FileRef, bytes_max: u64, findings: &mut Findings) -> Option<Zeroizing<Vec<u8>>> {
    let path = file.path.display();
    let mut bytes = Zeroizing::new(Vec::new());
    // Opening a pipe would wait for whoever writes into it, and no reload would ever end.
    if std::fs::metadata(&file.path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        findings.problem(
            &file.at,
            format!("{path} is not a regular file"),
            "write the path of one",
        );
        return None;
    }
    let read = File::open(&file.path).and_then(|opened| {
        // All of it at once: a buffer that grew would leave secrets behind where it was.
        let length = opened.metadata()?.len().min(bytes_max);
        bytes.reserve_exact(usize::try_from(length).unwrap_or(0) + SPARE);
        opened.take(bytes_max + 1).read_to_end(&mut bytes)
    });
    match read {
        Ok(length) if length as u64 > bytes_max => {
            let message = format!("{path} is longer than {bytes_max} bytes");
            findings.problem(&file.at, message, "is this the right file?");
            None
        }
        Ok(_) => {
            // Editors of Windows put one there, and the BEGIN line behind it would be none.
            if bytes.starts_with(BYTE_ORDER_MARK) {
                bytes.drain(..BYTE_ORDER_MARK.len());
            }
            Some(bytes)
        }
        Err(error) => {
            let help = match error.kind() {
                io::ErrorKind::NotFound => {
                    "relative paths start at the directory of the configuration file, and `~` is not expanded; to \
                     try things with, `portcullis pki` makes certificates, as a sample's first lines say"
                }
                io::ErrorKind::PermissionDenied => {
                    "the user that portcullis runs as must be able to read it"
                }
                io::ErrorKind::IsADirectory => "write the path of a file in it",
                _ => "",
            };
            findings.problem(&file.at, format!("cannot read {path}: {error}"), help);
            None
        }
    }
}

/// What a reading to the end needs beyond the end, or the buffer would grow (`Read::read_to_end`).
const SPARE: usize = 64;

/// Whether all that `text` begins was read: a reader of PEM passes over what it does not know, and one
/// certificate or list less is found out by the wrong people.
fn is_whole(
    file: &FileRef,
    text: &[u8],
    (label, read): (&str, usize),
    findings: &mut Findings,
) -> bool {
    let begun = begun(text, label.as_bytes());
    if begun <= read {
        return true;
    }
    let path = file.path.display();
    let message = match begun {
        1 => format!("{path} begins with {label} once, and that cannot be read"),
        _ => format!("{path} begins {begun} times with {label}, and {read} of them can be read"),
    };
    findings.problem(
        &file.at,
        message,
        format!(
            "each -----BEGIN {label}----- and each END stands alone on its line, without spaces before \
             it; what is not to be read begins with #"
        ),
    );
    false
}

/// How many sections begin in `text` with this label, or with one that ends so.
fn begun(text: &[u8], label: &[u8]) -> usize {
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    // No line of base64 has a dash.
    let telling = lines.filter(|line| line.contains(&b'-') && !line.trim_ascii().starts_with(b"#"));
    let sections = telling.map(|line| {
        let starts = (0..line.len()).filter(|at| line[*at..].starts_with(BEGIN));
        let labels = starts.filter_map(|at| {
            let label = &line[at + BEGIN.len()..];
            let end = label.windows(DASHES.len()).position(|window| window == DASHES)?;
            Some(&label[..end])
        });
        // TRUSTED CERTIFICATE of OpenSSL, but no NEW CERTIFICATE REQUEST.
        labels.filter(|found| found.ends_with(label)).count()
    });
    sections.sum()
}

/// A private key that everyone on the machine can read loads with a warning.
pub(super) fn check_mode(file: &FileRef, findings: &mut Findings) {
    let Ok(metadata) = std::fs::metadata(&file.path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        let path = file.path.display();
        let message = format!("the private key {path} has mode {mode:04o}: everyone may read it");
        findings.warning(&file.at, message, "chmod 0600");
    }
}

/// What peers may refuse a chain for.
fn warn_of_chain(
    file: &FileRef,
    chain: &[CertificateDer<'_>],
    purpose: LeafPurpose,
    findings: &mut Findings,
) {
    let path = file.path.display();
    if let Some((number, issued)) = chain_order::displaced(chain) {
        let message = format!(
            "{path} is in the wrong order: certificate {number} has issued certificate {issued} and does \
             not come right behind it"
        );
        findings.warning(&file.at, message, ORDER_HELP);
    }
    let Some(leaf) = chain.first().and_then(|leaf| Leaf::parse(leaf)) else { return };
    if leaf.uses_without_signing().is_some() {
        let message = format!(
            "the key usage of the certificate in {path} lacks digitalSignature: there are peers that refuse it"
        );
        findings.warning(&file.at, message, "have it issued with digitalSignature");
    }
    if leaf.is_not_for(purpose) {
        let (lacks, help) = match purpose {
            LeafPurpose::Server => (
                "serverAuth: clients refuse it",
                "name the gateway's own, if it is a client's; or have it issued with serverAuth",
            ),
            LeafPurpose::Client => (
                "clientAuth: upstreams refuse it",
                "have it issued with clientAuth: public CAs do so no more, a CA of your own may",
            ),
        };
        let message = format!("the extended key usage of the certificate in {path} lacks {lacks}");
        findings.warning(&file.at, message, help);
    }
    if purpose == LeafPurpose::Server && !leaf.has_names() {
        let message = format!(
            "the certificate in {path} has no subject alternative name: clients that check names refuse it"
        );
        let help =
            "have it issued with the names that clients ask for: a common name does not count";
        findings.warning(&file.at, message, help);
    }
}

/// Parses one certificate; one that is out of its time, or soon will be, loads with a warning.
fn check(
    file: &FileRef,
    index: usize,
    certificate: &CertificateDer<'_>,
    now: u64,
    findings: &mut Findings,
) -> Option<Identity> {
    let path = file.path.display();
    let Some(identity) = identify(certificate) else {
        findings.problem(
            &file.at,
            format!("certificate {} of {path} cannot be parsed", index + 1),
            "replace it: openssl x509 -noout -text -in FILE shows what is there",
        );
        return None;
    };
    let Identity { subject, not_before, not_after, .. } = &identity;
    if *not_after < now {
        let ago = span(now - not_after);
        let message = format!("the certificate of {subject} in {path} expired {ago} ago");
        findings.warning(&file.at, message, "renew it, or check this machine's clock");
    } else if *not_before > now {
        let ahead = span(not_before - now);
        let message = format!("the certificate of {subject} in {path} is valid only in {ahead}");
        findings.warning(&file.at, message, "check this machine's clock");
    } else if Urgency::of_certificate(*not_before, *not_after, now) > Urgency::Calm {
        let left = span(not_after - now);
        let message = format!("the certificate of {subject} in {path} expires in {left}");
        findings.warning(&file.at, message, "renew it, and look at what should have done so");
    }
    Some(identity)
}

/// Of warnings of one kind: a log is not to be filled by one thing that is not there yet.
const TOLD_MAX: usize = 8;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";

/// RFC 8446 §4.4.2; RFC 5246 §7.4.2, by which many go who speak 1.3, too.
const ORDER_HELP: &str = "put first the certificate that was issued for the key, then the one that issued it, and so \
                          on; the root may be left out";

const CERTIFICATE_HELP: &str = "it must be PEM, with -----BEGIN CERTIFICATE----- lines";
const KEY_HELP: &str = "it must be PEM: PRIVATE KEY (PKCS#8), EC PRIVATE KEY (SEC1) or RSA PRIVATE \
                        KEY (PKCS#1), not encrypted";

const WIDE_HELP: &str = "iconv -f UTF-16 -t UTF-8 FILE -o NEW";

const CERTIFICATE_DER_HELP: &str = "of DER: openssl x509 -inform der -in FILE -out NEW; of PKCS#12 (.p12, .pfx): \
                                    openssl pkcs12 -in FILE -nokeys -out NEW";
const KEY_DER_HELP: &str = "of DER: openssl pkey -inform der -in FILE -out NEW; of PKCS#12 (.p12, .pfx): openssl \
                            pkcs12 -in FILE -nocerts -nodes -out NEW, for a file of mode 0600";

const LOOKED_AT_MAX: usize = 64 * 1024;

/// X.690 §8.9: every certificate and key in DER is a SEQUENCE.
const DER_SEQUENCE: u8 = 0x30;

/// A bundle of every public CA is a quarter of a mebibyte.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A response with its responder's certificates is 2 to 4 KiB; TLS could carry 16 MiB.
const OCSP_BYTES_MAX: u64 = 64 * 1024;

/// Threat 14: two and a half million entries take 100 MiB.
const CRL_BYTES_MAX: u64 = 256 * 1024 * 1024;
