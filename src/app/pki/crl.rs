//! `pki crl`: the revocation list of a CA, made anew from the record of what was revoked.
//!
//! The list is the one file that is replaced, and only where it is this CA's. The record is written
//! first: when writing the list fails, the next run makes it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::PkiError;
use super::certificate::{self, hex, issuer_key_identifier, shown};
use super::files;
use super::issue::Issuing;
use super::names::file_stem;
use super::pair::{Pair, Place, toml_lines, toml_path};
use super::revoked::{Record, Revocation, Serial};
use super::validity::{DAY, Window, duration, moment, seconds};

#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Crl {
    #[command(flatten)]
    place: Place,
    /// The list of this intermediate, rather than of the CA
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Revoke one more, by the name of its files, its .crt, or its serial number in hexadecimal;
    /// what was revoked before stays so; may be given several times
    #[arg(long, value_name = "NAME|FILE|SERIAL")]
    revoke: Vec<String>,
    /// How long the list may be relied on: `12h`, `30d`
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    next_update: Duration,
    /// To test refusals: make one that should have been renewed a day ago
    #[arg(long, conflicts_with = "next_update")]
    expired: bool,
    /// Write DER, rather than PEM
    #[arg(long)]
    der: bool,
    /// Name of the list, without .crl
    #[arg(long, value_name = "NAME")]
    out_name: Option<String>,
}

impl Crl {
    pub(super) fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        let authority = self.place.authority(self.issuer.as_deref())?;
        let issuing = Issuing::load(&authority, now)?;
        // Two at once would each forget what the other revoked.
        let _lock = lock(&self.place.dir)?;
        let record_path = authority.beside("revoked.toml");
        let list = self.list(&authority)?;
        let record = Record::load(&record_path)?;
        for path in [&list, &authority.beside("crl")] {
            let is_there = is_list_of(path, &issuing)?;
            if is_there && record.is_none() {
                return Err(PkiError::LostRecord { list: path.clone(), record: record_path });
            }
        }
        let mut record = record.unwrap_or_default();
        let now = seconds(now)?;
        let revoked = self.revoke(&mut record, &authority, &issuing, now)?;
        record.number = record.number.saturating_add(1);
        let window = self.window(now);
        let made = issuing.revocation_list(record.number.into(), &record.revoked, window)?;
        let text = if self.der { made.der().to_vec() } else { made.pem()?.into_bytes() };
        files::replace(&record_path, record.to_text()?.as_bytes(), 0o644)?;
        files::replace(&list, &text, 0o644)?;
        let update = if self.expired { "should have been renewed by" } else { "renew it by" };
        Ok(format!(
            "made {}   revocation list {} of \"{}\", {} revoked, {update} {}\n{revoked}\n{}",
            list.display(),
            record.number,
            shown(&issuing.name),
            record.revoked.len(),
            moment(window.until),
            self.next(&authority, &issuing, &list),
        ))
    }

    fn list(&self, authority: &Pair) -> Result<PathBuf, PkiError> {
        let Some(name) = &self.out_name else { return Ok(authority.beside("crl")) };
        let stem = file_stem(name).ok_or_else(|| PkiError::NoFileName { name: name.clone() })?;
        Ok(self.place.dir.join(format!("{stem}.crl")))
    }

    fn window(&self, now: u64) -> Window {
        if self.expired {
            Window::expired(now, DAY)
        } else {
            Window::lasting(now, self.next_update.as_secs())
        }
    }

    /// Adds to the record, and says what in lines for people.
    fn revoke(
        &self,
        record: &mut Record,
        authority: &Pair,
        issuing: &Issuing,
        now: u64,
    ) -> Result<String, PkiError> {
        let mut lines = String::new();
        for text in &self.revoke {
            let (serial, name) = self.find(text, authority, issuing)?;
            let digits = hex(serial.as_bytes());
            let is_new = record.add(Revocation { serial, at: now, name: name.clone() });
            let word = if is_new { "revoked" } else { "was revoked already:" };
            lines += &format!("{word} {}, serial {digits}\n", shown(&name));
        }
        Ok(lines)
    }

    fn find(
        &self,
        text: &str,
        authority: &Pair,
        issuing: &Issuing,
    ) -> Result<(Serial, String), PkiError> {
        let stem = file_stem(text.strip_suffix(".crt").unwrap_or(text));
        let named = stem.map(|stem| self.place.dir.join(format!("{stem}.crt")));
        let files = named.into_iter().chain([PathBuf::from(text)]);
        if let Some(path) = files.into_iter().find(|path| path.is_file()) {
            return issued_by(&path, authority, issuing);
        }
        // `ada` and `bea` are numbers too; whoever mistypes a name does not mean those.
        let is_plain = text.starts_with("0x") || text.starts_with("0X") || text.contains(':');
        let serial = Serial::parse(text).filter(|_| is_plain || text.len() >= SERIAL_DIGITS_MIN);
        let serial = serial.ok_or_else(|| PkiError::NotRevocable {
            text: shown(text),
            directory: self.place.dir.clone(),
        })?;
        Ok((serial, "a certificate that is not here".to_owned()))
    }

    /// What to do with the list.
    fn next(&self, authority: &Pair, issuing: &Issuing, list: &Path) -> String {
        let root = self.place.root();
        let (dir, crl, ca) = (self.place.dir.display(), list.display(), root.certificate.display());
        let renew = |issuer: Option<&str>| {
            let issuer = issuer.map_or(String::new(), |name| format!(" --issuer {name}"));
            format!("    portcullis pki crl{issuer} --dir {dir}\n")
        };
        let mut lists = vec![toml_path(list)];
        let mut check = format!("openssl verify -crl_check -CRLfile {crl} -CAfile {ca}");
        let mut note = String::new();
        if !authority.is_root() {
            check += &format!(" -untrusted {}", authority.certificate.display());
            note += "The CAs above have lists of their own, for the CAs that they revoked:\n\n";
            for stem in issuing.line.iter().skip(1).filter_map(|name| file_stem(name)) {
                lists.push(toml_path(&self.place.dir.join(format!("{stem}.crl"))));
                note += &renew(Some(&stem));
            }
            lists.push(toml_path(&root.beside("crl")));
            note += &renew(None);
            note.push('\n');
        }
        let toml = toml_lines(&[
            "[trust.development]",
            &root.anchors(),
            &format!("crls = [{}]", lists.join(", ")),
            r#"revocation = { check = "chain" }"#,
        ]);
        format!(
            "{note}In the configuration:\n\n\
             {toml}\n\
             To renew it, and to ask OpenSSL about a certificate (of lists in PEM):\n\n\
             {}    {check} {dir}/NAME.crt\n",
            renew(self.issuer.as_deref()),
        )
    }
}

/// The serial number of the first certificate in a file, if this CA issued it.
fn issued_by(
    path: &Path,
    authority: &Pair,
    issuing: &Issuing,
) -> Result<(Serial, String), PkiError> {
    let ders = certificate::read(path)?;
    let Some(der) = ders.first() else {
        return Err(PkiError::NoCertificate { path: path.to_owned() });
    };
    let leaf = certificate::parse(path, der)?;
    let is_key = match (issuer_key_identifier(&leaf), &issuing.key_identifier) {
        (Some(theirs), Some(ours)) => theirs == *ours,
        _ => true,
    };
    if leaf.issuer().as_raw() != issuing.subject || !is_key {
        return Err(PkiError::NotIssued {
            path: path.to_owned(),
            issuer: shown(&leaf.issuer().to_string()),
            ca: authority.certificate.clone(),
        });
    }
    let serial = Serial::new(leaf.raw_serial());
    let serial = serial.ok_or_else(|| PkiError::BadCertificate { path: path.to_owned() })?;
    Ok((serial, leaf.subject().to_string()))
}

/// Whether there is a list of this CA; an error if there is anything else.
fn is_list_of(path: &Path, issuing: &Issuing) -> Result<bool, PkiError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(PkiError::Read { path: path.to_owned(), source }),
        Ok(_) => {}
    }
    let bytes =
        fs::read(path).map_err(|source| PkiError::Read { path: path.to_owned(), source })?;
    let der = CertificateRevocationListDer::from_pem_slice(&bytes);
    let der = der.as_ref().map_or(&bytes[..], AsRef::as_ref);
    match CertificateRevocationList::from_der(der) {
        Ok((_, list)) if list.issuer().as_raw() == issuing.subject => Ok(true),
        Ok(_) | Err(_) => Err(PkiError::ForeignList { path: path.to_owned() }),
    }
}

fn lock(directory: &Path) -> Result<File, PkiError> {
    let locked = File::open(directory).and_then(|opened| opened.lock().map(|()| opened));
    locked.map_err(|source| PkiError::Read { path: directory.to_owned(), source })
}

const SERIAL_DIGITS_MIN: usize = 16;

const EXAMPLES: &str = "\
Examples:
  portcullis pki crl                                 a list that revokes nobody, or renews the last
  portcullis pki crl --revoke alice --revoke pki/bob.crt
  portcullis pki crl --issuer partners --revoke 6b:0c:49:f0:11:7e:52:d3
  portcullis pki crl --expired --out-name stale      a list that is too old to be relied on";
