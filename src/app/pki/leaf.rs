//! `pki server` and `pki client`: those who are signed, good ones and ones that are wrong on purpose.

use std::net::IpAddr;
use std::time::SystemTime;

use clap::{Args, ValueEnum};

use super::PkiError;
use super::issue::{Issued, Issuing, Subject};
use super::key::KeyKind;
use super::names::{AlternativeName, dns_name, email, server_name, spiffe, uri};
use super::pair::{Pair, Place, toml_lines};
use super::validity::{Lifetime, seconds};

#[derive(Debug, Clone, Args)]
#[command(after_help = SERVER_EXAMPLES)]
pub(super) struct Server {
    /// DNS names, wildcards or IP addresses that clients use for this server; the first one also
    /// names the files
    #[arg(value_name = "NAME", required = true, value_parser = server_name)]
    names: Vec<AlternativeName>,
    #[command(flatten)]
    alternative: AlternativeNames,
    #[command(flatten)]
    leaf: Leaf,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = CLIENT_EXAMPLES)]
pub(super) struct Client {
    /// The client's common name; it also names the files
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    alternative: AlternativeNames,
    #[command(flatten)]
    leaf: Leaf,
}

/// What the certificate says of its owner besides the common name.
#[derive(Debug, Clone, Args)]
struct AlternativeNames {
    /// A SPIFFE id, such as `spiffe://example.org/ns/orders/sa/web`; there is no other URI beside it
    #[arg(long, value_name = "ID", value_parser = spiffe, conflicts_with = "uri")]
    spiffe: Option<AlternativeName>,
    /// A URI to be known by; may be given several times
    #[arg(long, value_name = "URI", value_parser = uri)]
    uri: Vec<AlternativeName>,
    /// A DNS name to be known by, such as `*.example.com`; may be given several times
    #[arg(long, value_name = "NAME", value_parser = dns_name)]
    dns: Vec<AlternativeName>,
    /// An IP address to be known by; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// An e-mail address to be known by; may be given several times
    #[arg(long, value_name = "ADDRESS", value_parser = email)]
    email: Vec<AlternativeName>,
}

#[derive(Debug, Clone, Args)]
struct Leaf {
    #[command(flatten)]
    place: Place,
    /// Have it signed by this intermediate, rather than by the CA; the .crt then holds both
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Name of the files, without .crt and .key
    #[arg(long, value_name = "NAME")]
    out_name: Option<String>,
    /// Kind of the private key
    #[arg(long, value_enum, default_value_t = KeyKind::EcdsaP256)]
    key: KeyKind,
    #[command(flatten)]
    lifetime: Lifetime,
    /// What it may be used for (extended key usage), where that is not what the command says;
    /// `none`: it does not say, which means for anything
    #[arg(long, value_enum)]
    purpose: Option<Purpose>,
}

/// Extended key usage (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Purpose {
    Client,
    Server,
    Both,
    None,
}

impl Server {
    pub(super) fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        // The parser saw to it that there is a first name.
        let first = self.names.first().map(ToString::to_string).unwrap_or_default();
        let names = [&self.names[..], &self.alternative.all()].concat();
        let (pair, issued) = self.leaf.issue(&first, names, Purpose::Server, now)?;
        let host = first.strip_prefix("*.").map_or(first.clone(), |rest| format!("any.{rest}"));
        Ok(format!(
            "{made}\n\
             In the configuration:\n\n\
             {toml}\n\
             To see what a client sees, with the gateway on port 8443:\n\n    \
             openssl s_client -connect localhost:8443 -servername {host} -CAfile {ca} \
             -verify_return_error </dev/null\n",
            made = pair.made(&issued),
            toml = toml_lines(&[
                "[tls.downstream.NAME]",
                &format!("certificates = [{}]", pair.inline_table()),
            ]),
            ca = self.leaf.place.root().certificate.display(),
        ))
    }
}

impl Client {
    pub(super) fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        let names = self.alternative.all();
        let (pair, issued) = self.leaf.issue(&self.name, names, Purpose::Client, now)?;
        let ca = self.leaf.place.root();
        Ok(format!(
            "{made}\n\
             To connect as this client, with the gateway on port 8443 and SERVER as its name:\n\n    \
             openssl s_client -connect localhost:8443 -servername SERVER -CAfile {ca} \
             -cert {cert} -cert_chain {cert} -key {key}\n\n\
             Who lets it in, in the configuration:\n\n\
             {toml}",
            made = pair.made(&issued),
            ca = ca.certificate.display(),
            cert = pair.certificate.display(),
            key = pair.key.display(),
            toml = toml_lines(&[
                "[tls.downstream.NAME]",
                r#"client_auth = "require""#,
                r#"trust = "development""#,
                "",
                "[trust.development]",
                &ca.anchors(),
            ]),
        ))
    }
}

impl AlternativeNames {
    fn all(&self) -> Vec<AlternativeName> {
        let ips = self.ip.iter().copied().map(AlternativeName::Ip);
        let mut names: Vec<_> =
            self.spiffe.iter().chain(&self.uri).chain(&self.dns).cloned().collect();
        names.extend(ips);
        names.extend(self.email.iter().cloned());
        names
    }
}

impl Leaf {
    fn issue(
        &self,
        name: &str,
        names: Vec<AlternativeName>,
        role: Purpose,
        now: SystemTime,
    ) -> Result<(Pair, Issued), PkiError> {
        let pair = self.place.fresh(self.out_name.as_deref(), name)?;
        let issuing = Issuing::load(&self.place.authority(self.issuer.as_deref())?, now)?;
        let subject = Subject {
            common_name: name.to_owned(),
            names,
            role,
            purpose: self.purpose.unwrap_or(role),
            key: self.key.or_rsa(KeyKind::Rsa2048),
            window: self.lifetime.window(seconds(now)?),
        };
        let issued = issuing.leaf(&subject, now)?;
        pair.write(&issued, "--out-name")?;
        Ok((pair, issued))
    }
}

impl Purpose {
    pub(super) fn described(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Both => "client and server",
            Self::None => "anything",
        }
    }
}

const SERVER_EXAMPLES: &str = "\
Examples:
  portcullis pki server edge.example.com '*.edge.example.com' 127.0.0.1
  portcullis pki server db --issuer backends --key rsa-3072
  portcullis pki server old.example.com --expired";

const CLIENT_EXAMPLES: &str = "\
Examples:
  portcullis pki client alice --email alice@example.com --days 30
  portcullis pki client orders --issuer partners --spiffe spiffe://example.org/ns/shop/sa/orders
Clients that must be refused:
  portcullis pki client late --expired
  portcullis pki client early --not-yet-valid
  portcullis pki client confused --purpose server
  portcullis pki client mallory && portcullis pki crl --revoke mallory";
