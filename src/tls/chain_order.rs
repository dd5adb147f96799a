//! What is odd about a chain file of ours: its order, and an intermediate that is not in it.
//!
//! Goes by names, as whoever verifies the chain does first; decides nothing. `pem` asks about one file,
//! `material` about what all of them together tell.

use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::config::error::Location;
use crate::core::identity::Identity;

/// The certificate of `chain` that `key` belongs to, from 1.
pub(super) fn owner_of(
    chain: &[CertificateDer<'static>],
    key: &Arc<dyn SigningKey>,
) -> Option<usize> {
    let is_owner = |one: &CertificateDer<'static>| {
        CertifiedKey::new(vec![one.clone()], Arc::clone(key)).keys_match().is_ok()
    };
    chain.iter().position(is_owner).map(|at| at + 1)
}

/// The first certificate that does not stand right behind the one that it has issued, and that one; from 1.
pub(super) fn displaced(chain: &[CertificateDer<'_>]) -> Option<(usize, usize)> {
    let names: Vec<_> = chain
        .iter()
        .map(|der| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            Some((parsed.subject().as_raw().to_vec(), parsed.issuer().as_raw().to_vec()))
        })
        .collect::<Option<_>>()?;
    let mut at = 0;
    // Each step goes on by one, so this ends.
    while let Some((subject, issuer)) = names.get(at)
        && subject != issuer
    {
        let is_issuer = |(subject, _): &(Vec<u8>, Vec<u8>)| subject == issuer;
        if !names.get(at + 1).is_some_and(is_issuer) {
            let elsewhere = names.iter().position(is_issuer)?;
            return Some((elsewhere + 1, at + 1));
        }
        at += 1;
    }
    None
}

/// A chain that peers are shown, and where the configuration names it.
#[derive(Debug)]
pub(super) struct ShownChain {
    pub at: Location,
    /// Leaf first.
    pub certificates: Vec<Identity>,
}

impl ShownChain {
    /// The last certificate as far as names lead from the leaf.
    fn top(&self) -> Option<&Identity> {
        let mut top = self.certificates.first()?;
        for _ in &self.certificates {
            let above = self.certificates.iter().find(|one| one.subject == top.issuer);
            match above {
                Some(above) if !is_root(top) => top = above,
                Some(_) | None => break,
            }
        }
        Some(top)
    }
}

/// The chains that end below an intermediate, each with the last certificate that it has. Only where it is
/// certain: the configuration knows the intermediate, because another chain of it has it or because it stands
/// beside its root among the anchors, and no root of the same name.
pub(super) fn incomplete<'a>(
    chains: &'a [ShownChain],
    anchors: &'a [&Identity],
) -> Vec<(&'a ShownChain, &'a Identity)> {
    let shown = || chains.iter().flat_map(|chain| chain.certificates.iter().skip(1));
    let is_known_root = |name: &str| {
        shown().chain(anchors.iter().copied()).any(|one| is_root(one) && one.subject == name)
    };
    let is_intermediate = |one: &Identity, name: &str| one.subject == name && !is_root(one);
    let lacks = |top: &Identity| {
        let name = top.issuer.as_str();
        let is_sent = || shown().any(|one| is_intermediate(one, name));
        let is_believed = || {
            let mut believed = anchors.iter().filter(|one| is_intermediate(one, name));
            believed
                .any(|one| anchors.iter().any(|root| is_root(root) && root.subject == one.issuer))
        };
        !is_root(top) && !is_known_root(name) && (is_sent() || is_believed())
    };
    let ends = chains.iter().filter_map(|chain| Some((chain, chain.top()?)));
    ends.filter(|(_, top)| lacks(top)).collect()
}

fn is_root(one: &Identity) -> bool {
    one.subject == one.issuer
}
