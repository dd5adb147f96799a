//! Why `pki` made nothing: every case names the file and says what to do where that is not plain.

use std::io;
use std::path::PathBuf;

/// Why `pki` made nothing. Every message says what to do where that is not plain.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error(
        "{} exists already and is never overwritten: move it away, or choose another {option}",
        path.display()
    )]
    Exists { path: PathBuf, option: &'static str },
    #[error("no CA in {0}: make one with `portcullis pki init --dir {0}`", directory.display())]
    NoAuthority { directory: PathBuf },
    #[error(
        "no CA `{name}` in {0}: make it with `portcullis pki intermediate {name} --dir {0}`",
        directory.display()
    )]
    NoIntermediate { name: String, directory: PathBuf },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no CA certificate: {reason}", path.display())]
    NotAnAuthority { path: PathBuf, reason: &'static str },
    #[error("{} is no private key that this program reads", path.display())]
    NotAKey { path: PathBuf, source: rcgen::Error },
    #[error("{} is not the private key of {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error(
        "the CA in {} expired on {date}: make a new one in another --dir, or of another name",
        path.display()
    )]
    Expired { path: PathBuf, date: String },
    #[error(
        "the CA in {} ends on {date}, before the certificate would begin: use a CA that lasts \
         longer",
        path.display()
    )]
    EndsBefore { path: PathBuf, date: String },
    #[error(
        "below {} may stand {allowed} CAs in a row: choose one further up with --under, or make one \
         with a larger --path-length",
        path.display()
    )]
    TooDeep { path: PathBuf, allowed: u32 },
    #[error("`{name}` is the name of the CA that is to sign it: choose another")]
    SameName { name: String },
    #[error("`{name}` gives no file name: choose one with --out-name")]
    NoFileName { name: String },
    #[error("`{name}` is no name of a CA's files")]
    NoIssuerName { name: String },
    #[error(
        "{} holds no certificate in PEM or DER: is it a key, or a revocation list (which `openssl crl \
         -noout -text -in FILE` shows)?",
        path.display()
    )]
    NoCertificate { path: PathBuf },
    #[error("a certificate in {} cannot be parsed", path.display())]
    BadCertificate { path: PathBuf },
    #[error(
        "{} was issued by {issuer} and not by {}: name its CA with --issuer",
        path.display(),
        ca.display()
    )]
    NotIssued { path: PathBuf, issuer: String, ca: PathBuf },
    #[error(
        "`{text}` is neither the name of a certificate in {}, nor a file, nor a serial number in \
         hexadecimal (one of fewer than 16 digits begins with 0x)",
        directory.display()
    )]
    NotRevocable { text: String, directory: PathBuf },
    #[error(
        "{} is no revocation list of this CA and is never overwritten: move it away, or choose \
         another --out-name",
        path.display()
    )]
    ForeignList { path: PathBuf },
    #[error(
        "{} is there but not {}, which says what was revoked: bring that back, or move the list away \
         to begin with an empty one",
        list.display(),
        record.display()
    )]
    LostRecord { list: PathBuf, record: PathBuf },
    #[error("{} is not what `pki crl` writes: bring back the last good one", path.display())]
    BadRecord { path: PathBuf, source: toml::de::Error },
    #[error("cannot write down what was revoked")]
    Record(#[from] toml::ser::Error),
    #[error("the clock stands before 1970")]
    Clock,
    #[error("cannot make a key or a serial number: the system gives no randomness")]
    NoRandomness,
    #[error("cannot issue the certificate")]
    Issue(#[from] rcgen::Error),
    #[error("cannot print the result")]
    Print(#[source] io::Error),
}
