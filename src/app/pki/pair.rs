//! Where things lie: the directory of a CA, the two files of a certificate, and how to name them in a
//! configuration.

use std::path::{Path, PathBuf};

use clap::Args;

use super::PkiError;
use super::files::{self, NewFile};
use super::issue::Issued;
use super::names::file_stem;

/// The directory that a command works in.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// The directory of the CA and of all that it signed
    #[arg(long, value_name = "DIRECTORY", default_value = "pki")]
    pub(super) dir: PathBuf,
}

impl Place {
    /// The files of the CA itself.
    pub(super) fn root(&self) -> Pair {
        Pair::new(&self.dir, ROOT)
    }

    /// The files of an intermediate, or of the CA itself.
    pub(super) fn authority(&self, name: Option<&str>) -> Result<Pair, PkiError> {
        let Some(name) = name else { return Ok(self.root()) };
        let stem = file_stem(name).ok_or_else(|| PkiError::NoIssuerName { name: name.into() })?;
        Ok(Pair::new(&self.dir, &stem))
    }

    /// The files of a certificate to be made, which are not there yet.
    pub(super) fn fresh(&self, out_name: Option<&str>, name: &str) -> Result<Pair, PkiError> {
        let stem = file_stem(out_name.unwrap_or(name));
        let stem = stem.ok_or_else(|| PkiError::NoFileName { name: name.to_owned() })?;
        let pair = Pair::new(&self.dir, &stem);
        pair.refuse_existing("--out-name")?;
        Ok(pair)
    }
}

/// The two files of a certificate.
#[derive(Debug)]
pub(super) struct Pair {
    directory: PathBuf,
    pub(super) stem: String,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    fn new(directory: &Path, stem: &str) -> Self {
        let (certificate, key) = (beside(directory, stem, "crt"), beside(directory, stem, "key"));
        Self { directory: directory.to_owned(), stem: stem.to_owned(), certificate, key }
    }

    /// A file of the same name with another ending.
    pub(super) fn beside(&self, ending: &str) -> PathBuf {
        beside(&self.directory, &self.stem, ending)
    }

    pub(super) fn is_root(&self) -> bool {
        self.stem == ROOT
    }

    /// What to say when the files of this CA are not there.
    pub(super) fn missing(&self) -> PkiError {
        let directory = self.directory.clone();
        if self.is_root() {
            PkiError::NoAuthority { directory }
        } else {
            PkiError::NoIntermediate { name: self.stem.clone(), directory }
        }
    }

    pub(super) fn refuse_existing(&self, option: &'static str) -> Result<(), PkiError> {
        files::refuse_existing([&self.certificate, &self.key], option)
    }

    pub(super) fn write(&self, issued: &Issued, option: &'static str) -> Result<(), PkiError> {
        let files = [
            NewFile { path: &self.key, text: &issued.key, mode: 0o600 },
            NewFile { path: &self.certificate, text: &issued.chain, mode: 0o644 },
        ];
        files::write_all(&files, option)
    }

    pub(super) fn made(&self, issued: &Issued) -> String {
        format!(
            "made {certificate}   {summary}\nmade {key}   its private key, readable by you alone\n",
            certificate = self.certificate.display(),
            key = self.key.display(),
            summary = issued.summary,
        )
    }

    pub(super) fn inline_table(&self) -> String {
        format!("{{ chain = {}, key = {} }}", toml_path(&self.certificate), toml_path(&self.key))
    }

    pub(super) fn anchors(&self) -> String {
        format!("anchors = [{}]", toml_path(&self.certificate))
    }
}

/// Not `with_extension`: the stem of `www.example.com` is all of it.
fn beside(directory: &Path, stem: &str, ending: &str) -> PathBuf {
    directory.join(format!("{stem}.{ending}"))
}

pub(super) fn toml_path(path: &Path) -> String {
    toml::Value::from(path.to_string_lossy().into_owned()).to_string()
}

pub(super) fn toml_lines(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect()
}

const ROOT: &str = "ca";
