//! `pki init` and `pki intermediate`: those who sign.

use std::time::SystemTime;

use clap::Args;

use super::PkiError;
use super::issue::{self, AuthoritySpec, Issuing};
use super::key::KeyKind;
use super::names::domain;
use super::pair::{Place, toml_lines};

#[derive(Debug, Clone, Args)]
pub(super) struct Init {
    #[command(flatten)]
    place: Place,
    /// The CA's common name, which people see where its certificates are shown
    #[arg(long, default_value = "Portcullis development CA")]
    name: String,
    /// Kind of the private key
    #[arg(long, value_enum, default_value_t = KeyKind::EcdsaP256)]
    key: KeyKind,
    /// Days until the CA expires; what it signed is worth nothing after that
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// How many intermediates may stand between the CA and a leaf
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    path_length: u8,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = INTERMEDIATE_EXAMPLES)]
pub(super) struct Intermediate {
    /// The intermediate's common name; it also names the files, and is what --issuer takes
    #[arg(value_name = "NAME")]
    name: String,
    /// Put it below this intermediate, rather than directly below the CA
    #[arg(long, value_name = "NAME")]
    under: Option<String>,
    /// It may issue DNS names at and below this domain only (other kinds of names stay free); may be
    /// given several times
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    permit_dns: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Name of the files, without .crt and .key
    #[arg(long, value_name = "NAME")]
    out_name: Option<String>,
    /// Kind of the private key
    #[arg(long, value_enum, default_value_t = KeyKind::EcdsaP256)]
    key: KeyKind,
    /// Days until the intermediate expires, but never later than the CA above it
    #[arg(long, default_value_t = 1825, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// How many intermediates may stand below this one; one fewer than below its CA if not given
    #[arg(long, value_name = "COUNT")]
    path_length: Option<u8>,
}

impl Init {
    pub(super) fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        let pair = self.place.root();
        pair.refuse_existing("--dir")?;
        let spec = AuthoritySpec {
            name: &self.name,
            key: self.key.or_rsa(KeyKind::Rsa3072),
            days: self.days,
            path_length: Some(self.path_length),
            permitted_dns: &[],
        };
        let issued = issue::root(&spec, now)?;
        pair.write(&issued, "--dir")?;
        let dir = self.place.dir.display();
        Ok(format!(
            "{made}\n\
             Give {ca} to those who are to trust it, and the key to nobody. In the configuration:\n\n\
             {trust}\n\
             Next, a server and a client:\n\n    \
             portcullis pki server localhost 127.0.0.1 --dir {dir}\n    \
             portcullis pki client alice --dir {dir}\n",
            made = pair.made(&issued),
            ca = pair.certificate.display(),
            trust = toml_lines(&["[trust.development]", &pair.anchors()]),
        ))
    }
}

impl Intermediate {
    pub(super) fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        let pair = self.place.fresh(self.out_name.as_deref(), &self.name)?;
        let issuing = Issuing::load(&self.place.authority(self.under.as_deref())?, now)?;
        let spec = AuthoritySpec {
            name: &self.name,
            key: self.key.or_rsa(KeyKind::Rsa3072),
            days: self.days,
            path_length: self.path_length,
            permitted_dns: &self.permit_dns,
        };
        let issued = issuing.intermediate(&spec, now)?;
        pair.write(&issued, "--out-name")?;
        let (dir, stem) = (self.place.dir.display(), &pair.stem);
        Ok(format!(
            "{made}\n\
             Whoever trusts {root} trusts what it signs, if its certificate is sent along: the .crt \
             of a\nleaf holds both. To sign with it:\n\n    \
             portcullis pki server localhost --issuer {stem} --dir {dir}\n    \
             portcullis pki client alice --issuer {stem} --dir {dir}\n",
            made = pair.made(&issued),
            root = self.place.root().certificate.display(),
        ))
    }
}

const INTERMEDIATE_EXAMPLES: &str = "\
Examples:
  portcullis pki intermediate partners
  portcullis pki intermediate acme --under partners --permit-dns acme.example
  portcullis pki client alice --issuer partners";
