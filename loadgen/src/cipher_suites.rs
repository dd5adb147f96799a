//! Owns the choice of cipher suites by their IANA names. Servers differ in whose order they follow:
//! offering a single one is how several are compared with the same cryptography. Read
//! `tls_client.rs` next.

use anyhow::{Context, Result};
use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;

/// The suites that are named, in the order given, and all of a TLS version of which none is named.
///
/// # Errors
/// A name that is none of theirs.
pub fn chosen(names: &[String], provider: &CryptoProvider) -> Result<Vec<SupportedCipherSuite>> {
    let known = |suite: &SupportedCipherSuite| {
        // IANA says TLS_AES_128_GCM_SHA256 where rustls says TLS13_AES_128_GCM_SHA256.
        format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
    };
    let find = |name: &String| {
        let mut suites = provider.cipher_suites.iter();
        suites.find(|suite| known(suite) == *name).copied().with_context(|| {
            let all: Vec<String> = provider.cipher_suites.iter().map(known).collect();
            format!("unknown cipher suite {name:?}: use {}", all.join(", "))
        })
    };
    let mut suites = names.iter().map(find).collect::<Result<Vec<_>>>()?;
    for of_tls13 in [true, false] {
        let is_of_version = |suite: &SupportedCipherSuite| suite.tls13().is_some() == of_tls13;
        if !suites.iter().any(is_of_version) {
            suites.extend(provider.cipher_suites.iter().filter(|suite| is_of_version(suite)));
        }
    }
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_found_by_their_names_in_the_order_given() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let names = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"];
        let suites = chosen(&names.map(str::to_owned), &provider).unwrap();
        assert_eq!(suites.len(), 2);
        assert!(suites[0].tls13().is_none() && suites[1].tls13().is_some());
        let suites = chosen(&[names[1].to_owned()], &provider).unwrap();
        assert_eq!(suites.iter().filter(|suite| suite.tls13().is_some()).count(), 1);
        assert!(suites.len() > 1, "TLS 1.2 is left as it was");
        assert_eq!(chosen(&[], &provider).unwrap().len(), provider.cipher_suites.len());
        let error = chosen(&["AES128".to_owned()], &provider).unwrap_err().to_string();
        assert!(error.contains("TLS_AES_128_GCM_SHA256"), "{error}");
    }
}
