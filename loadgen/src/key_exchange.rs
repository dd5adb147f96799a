//! Owns the choice of key-exchange groups, and for `--cheap-client` groups that reuse their key
//! shares so that the client spends less CPU than the server. Reused shares are for load only:
//! there is nothing secret in the traffic. Read `tls_client.rs` next.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use aws_lc_rs::agreement::{self, PrivateKey, PublicKey, UnparsedPublicKey};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// The groups named in `text`, in order of preference: the first one's share is sent.
///
/// # Errors
/// A name that is not a known group.
pub fn groups(text: &str, cheap: bool) -> Result<Vec<&'static dyn SupportedKxGroup>> {
    text.split(',').map(|name| group(name.trim(), cheap)).collect()
}

fn group(name: &str, cheap: bool) -> Result<&'static dyn SupportedKxGroup> {
    let group = match (name.to_ascii_lowercase().as_str(), cheap) {
        ("x25519", false) => kx_group::X25519,
        ("x25519", true) => &REUSED_X25519,
        ("secp256r1" | "p-256" | "p256", false) => kx_group::SECP256R1,
        ("secp256r1" | "p-256" | "p256", true) => &REUSED_P256,
        ("secp384r1" | "p-384" | "p384", _) => kx_group::SECP384R1,
        ("x25519mlkem768", _) => kx_group::X25519MLKEM768,
        ("secp256r1mlkem768", _) => kx_group::SECP256R1MLKEM768,
        _ => {
            return None.with_context(|| {
                format!(
                    "unknown group {name:?}: use x25519, secp256r1, secp384r1, x25519mlkem768 or \
                     secp256r1mlkem768"
                )
            });
        }
    };
    Ok(group)
}

static REUSED_X25519: Reused =
    Reused { name: NamedGroup::X25519, algorithm: &agreement::X25519, key: OnceLock::new() };
static REUSED_P256: Reused =
    Reused { name: NamedGroup::secp256r1, algorithm: &agreement::ECDH_P256, key: OnceLock::new() };

/// A group whose key pair is made once for the process.
#[derive(Debug)]
struct Reused {
    name: NamedGroup,
    algorithm: &'static agreement::Algorithm,
    key: OnceLock<Option<(Arc<PrivateKey>, PublicKey)>>,
}

impl SupportedKxGroup for Reused {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let pair = self.key.get_or_init(|| {
            let private = PrivateKey::generate(self.algorithm).ok()?;
            let public = private.compute_public_key().ok()?;
            Some((Arc::new(private), public))
        });
        let (private, public) = pair.as_ref().ok_or(GetRandomFailed)?;
        let pair = ReusedExchange {
            name: self.name,
            algorithm: self.algorithm,
            private: Arc::clone(private),
            public: public.as_ref().to_vec(),
        };
        Ok(Box::new(pair))
    }

    fn name(&self) -> NamedGroup {
        self.name
    }
}

struct ReusedExchange {
    name: NamedGroup,
    algorithm: &'static agreement::Algorithm,
    private: Arc<PrivateKey>,
    public: Vec<u8>,
}

impl ActiveKeyExchange for ReusedExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = UnparsedPublicKey::new(self.algorithm, peer);
        let bad_share = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);
        agreement::agree(&self.private, peer, bad_share, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        self.name
    }
}
