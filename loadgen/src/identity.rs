//! Owns client certificates: reads them from files or from the manifest that `pki` writes, and
//! presents one to rustls. Never checks whether a server should accept them. Read `manifest.rs`
//! and `tls_client.rs` next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A client certificate ready to be presented.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What it is called in results: the file's stem.
    pub name: String,
    /// `ecdsa`, `rsa` or `ed25519`.
    pub key_type: String,
    /// What the resolver hands to rustls.
    pub resolver: Arc<Presented>,
}

impl Identity {
    /// Reads a chain and its key, both PEM.
    ///
    /// # Errors
    /// A file that cannot be read, holds no certificate, or a key that rustls does not know.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect)
            .with_context(|| format!("cannot read certificates from {}", chain.display()))?;
        if certificates.is_empty() {
            bail!("{} holds no certificate", chain.display());
        }
        let key = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("cannot read a key from {}", key.display()))?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .with_context(|| format!("{}: unknown key type", chain.display()))?;
        let key_type = match key.algorithm() {
            rustls::SignatureAlgorithm::RSA => "rsa",
            rustls::SignatureAlgorithm::ED25519 => "ed25519",
            _ => "ecdsa",
        };
        Ok(Self {
            name: chain
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default(),
            key_type: key_type.to_owned(),
            resolver: Arc::new(Presented {
                pair: Some(Arc::new(CertifiedKey::new(certificates, key))),
            }),
        })
    }

    /// A client without a certificate.
    #[must_use]
    pub fn none() -> Self {
        Self {
            name: "none".to_owned(),
            key_type: "none".to_owned(),
            resolver: Arc::new(Presented { pair: None }),
        }
    }

    /// `DIR` (every `NAME.crt` or `NAME.pem` with a `NAME.key` beside it), `FILE` (with its key
    /// beside it or in the same file), or `CHAIN,KEY`.
    ///
    /// # Errors
    /// As [`Identity::from_files`]; also a directory without a pair.
    pub fn load(spec: &str) -> Result<Vec<Self>> {
        if let Some((chain, key)) = spec.split_once(',') {
            return Ok(vec![Self::from_files(Path::new(chain), Path::new(key))?]);
        }
        let path = Path::new(spec);
        if !path.is_dir() {
            let key = key_beside(path).unwrap_or_else(|| path.to_owned());
            return Ok(vec![Self::from_files(path, &key)?]);
        }
        let mut chains: Vec<PathBuf> = std::fs::read_dir(path)
            .with_context(|| format!("cannot list {spec}"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|end| end == "crt" || end == "pem"))
            .collect();
        chains.sort();
        let pairs: Vec<Self> = chains
            .iter()
            .filter_map(|chain| Some((chain, key_beside(chain)?)))
            .map(|(chain, key)| Self::from_files(chain, &key))
            .collect::<Result<_>>()?;
        if pairs.is_empty() {
            bail!("{spec} holds no certificate with a key beside it");
        }
        Ok(pairs)
    }
}

/// Presents one certificate, whatever the server hints at: a load client knows who it is.
#[derive(Debug)]
pub struct Presented {
    pair: Option<Arc<CertifiedKey>>,
}

impl Presented {
    /// Always this one.
    #[must_use]
    pub fn new(pair: CertifiedKey) -> Self {
        Self { pair: Some(Arc::new(pair)) }
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.pair.clone()
    }

    fn has_certs(&self) -> bool {
        self.pair.is_some()
    }
}

fn key_beside(chain: &Path) -> Option<PathBuf> {
    let key = chain.with_extension("key");
    key.is_file().then_some(key)
}
