//! How certificates may be signed: what rustls' provider takes, and RSASSA-PSS in its other encoding.
//!
//! RFC 4055 §2.1 has whoever reads the parameters of RSASSA-PSS take a hash with NULL and without.
//! webpki knows the first; OpenSSL 1.1.1 wrote the second.

use std::sync::LazyLock;

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use webpki::aws_lc_rs::{
    RSA_PSS_2048_8192_SHA256_LEGACY_KEY, RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
};

/// For certificates all of them; TLS itself signs by those of the provider alone.
pub(super) fn all() -> WebPkiSupportedAlgorithms {
    WebPkiSupportedAlgorithms { all: &ALL, ..of_provider() }
}

fn of_provider() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
    let others = WITHOUT_NULL.iter().map(|one| one as &dyn SignatureVerificationAlgorithm);
    of_provider().all.iter().copied().chain(others).collect()
});

/// An algorithm that is identified otherwise than by webpki.
#[derive(Debug)]
struct Otherwise {
    same: &'static dyn SignatureVerificationAlgorithm,
    identifier: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Otherwise {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.same.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.same.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.identifier
    }
}

static WITHOUT_NULL: LazyLock<[Otherwise; 3]> = LazyLock::new(|| {
    let known = [
        RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    ];
    let mut identifiers = IDENTIFIERS.iter();
    known.map(|same| {
        let identifier = identifiers.next().map_or(&[][..], |bytes| bytes);
        Otherwise { same, identifier: AlgorithmIdentifier::from_slice(identifier) }
    })
});

/// With SHA-256, SHA-384 and SHA-512, which end in these numbers, and salts of their lengths.
static IDENTIFIERS: [[u8; 61]; 3] = [pss(1, 32), pss(2, 48), pss(3, 64)];

/// The content of an AlgorithmIdentifier: RSASSA-PSS, the hash, MGF1 with the same hash, the salt.
const fn pss(hash: u8, salt: u8) -> [u8; 61] {
    let mut bytes = *b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x30\
        \xa0\x0d\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02?\
        \xa1\x1a\x30\x18\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\
        \x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02?\
        \xa2\x03\x02\x01?";
    bytes[27] = hash;
    bytes[55] = hash;
    bytes[60] = salt;
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, UnixTime};
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

    use super::*;

    /// A root, and leaves that it signed with RSASSA-PSS over SHA-256, SHA-384 and SHA-512.
    const CERTIFICATES: &[u8] = include_bytes!("../../tests/data/rsassa-pss-without-null.pem");

    #[test]
    fn rsassa_pss_is_taken_without_null_and_only_if_it_is_right() {
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(CERTIFICATES).collect::<Result<_, _>>().unwrap();
        let [root, leaves @ ..] = &certificates[..] else { panic!("no root") };
        let anchors = [anchor_from_trusted_cert(root).unwrap()];
        let day = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let verify = |algorithms: WebPkiSupportedAlgorithms, leaf: &CertificateDer<'_>| {
            let leaf = EndEntityCert::try_from(leaf).unwrap();
            let usage = KeyUsage::client_auth();
            let verified =
                leaf.verify_for_usage(algorithms.all, &anchors, &[], day, usage, None, None);
            verified.map(|_| ())
        };
        assert_eq!(leaves.len(), 3);
        for leaf in leaves {
            assert_eq!(verify(all(), leaf), Ok(()));
            // The control: webpki alone. When it takes them, this file can go.
            let alone = verify(of_provider(), leaf).unwrap_err();
            assert!(alone.to_string().contains("UnsupportedSignatureAlgorithm"), "{alone}");
            let mut altered = leaf.to_vec();
            *altered.last_mut().unwrap() ^= 1;
            let error = verify(all(), &altered.into()).unwrap_err();
            assert_eq!(error, webpki::Error::InvalidSignatureForPublicKey);
        }
    }
}
