//! Owns the file `pki.json`: which tenants a generated PKI has, their server names and the client
//! certificates of each, good and bad. Written by `pki`, read by `--tenants-from`. Paths in it are
//! relative to it. Read `clients.rs` next.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// A generated PKI.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// `pki/1`.
    pub schema: String,
    /// One per server name.
    pub tenants: Vec<Tenant>,
}

/// A server name with those who may talk to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tenant {
    /// Its directory.
    pub name: String,
    /// The name that clients ask for.
    pub server_name: String,
    /// CA of the server's certificate.
    pub server_ca: PathBuf,
    /// The server's certificate.
    pub server: Pair,
    /// CA of the client certificates: what the server should trust.
    pub client_ca: PathBuf,
    /// Revoked client certificates.
    pub crl: PathBuf,
    /// Clients that must be let in.
    pub clients: Vec<Pair>,
    /// Clients that must be refused.
    pub bad: Vec<BadPair>,
}

/// A chain and its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pair {
    /// PEM, leaf first.
    pub chain: PathBuf,
    /// PEM, PKCS #8.
    pub key: PathBuf,
}

/// A chain that no server should accept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BadPair {
    /// `expired`, `not-yet-valid`, `revoked`, `wrong-eku`, `unknown-ca`.
    pub flaw: String,
    /// The files.
    #[serde(flatten)]
    pub pair: Pair,
}

impl Manifest {
    /// Reads `path` and makes the paths in it absolute or relative to the working directory.
    ///
    /// # Errors
    /// A file that cannot be read or is not a manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut manifest: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a pki.json", path.display()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        for tenant in &mut manifest.tenants {
            let bad = tenant.bad.iter_mut().map(|bad| &mut bad.pair);
            for pair in tenant.clients.iter_mut().chain(bad).chain([&mut tenant.server]) {
                pair.chain = base.join(&pair.chain);
                pair.key = base.join(&pair.key);
            }
            for file in [&mut tenant.server_ca, &mut tenant.client_ca, &mut tenant.crl] {
                *file = base.join(&*file);
            }
        }
        Ok(manifest)
    }
}

impl Pair {
    /// Loads it.
    ///
    /// # Errors
    /// As [`Identity::from_files`].
    pub fn identity(&self) -> Result<Identity> {
        Identity::from_files(&self.chain, &self.key)
    }
}
