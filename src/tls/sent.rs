//! The certificates of a chain that was refused, in the order of the path as far as names lead, for the
//! words about it.
//!
//! Nothing here is believed: a name leads to whoever has it. `diagnosis` and `breach` ask.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use super::identity::identify;
use super::path::{CHAIN_CERTIFICATES_MAX, Chain};
use super::signature::Signature;
use crate::core::identity::Identity;

/// What a peer sent.
pub(super) struct Sent<'a> {
    pub leaf: Option<Identity>,
    leaf_der: &'a [u8],
    /// What issued the leaf, what issued that, and so on; behind these, what issued none of them.
    others: Vec<(Identity, &'a [u8])>,
    /// How many of `others` are on that way.
    above: usize,
}

impl<'a> Sent<'a> {
    pub(super) fn of(chain: Chain<'a>) -> Self {
        let few = chain.intermediates.iter().take(CHAIN_CERTIFICATES_MAX);
        let read = |der: &'a CertificateDer<'a>| Some((identify(der)?, &**der));
        let mut left: Vec<_> = few.filter_map(read).collect();
        let leaf = identify(chain.leaf);
        let mut others: Vec<(Identity, &[u8])> = Vec::with_capacity(left.len());
        while let Some(last) = others.last().map(|(one, _)| one).or(leaf.as_ref())
            && let Some(next) = left
                .iter()
                .position(|(one, _)| one.subject == last.issuer && one.subject != one.issuer)
        {
            others.push(left.remove(next));
        }
        let above = others.len();
        others.extend(left);
        Self { leaf, leaf_der: chain.leaf, others, above }
    }

    /// Whether the leaf came alone.
    pub(super) fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    pub(super) fn at(&self, depth: u8) -> Option<&Identity> {
        match usize::from(depth).checked_sub(1) {
            None => self.leaf.as_ref(),
            Some(above) => self.others.get(above).map(|(one, _)| one),
        }
    }

    /// The depth of the first certificate that `is_it`.
    pub(super) fn depth_of(&self, is_it: impl Fn(&Identity) -> bool) -> u8 {
        let all = self.leaf.iter().chain(self.others.iter().map(|(one, _)| one));
        let found = all.enumerate().find(|(_, one)| is_it(one));
        found.and_then(|(depth, _)| u8::try_from(depth).ok()).unwrap_or(0)
    }

    /// The depth of the first certificate of which `tell` has something to say, and that.
    pub(super) fn first<T>(
        &self,
        tell: impl Fn(&X509Certificate<'_>) -> Option<T>,
    ) -> Option<(u8, T)> {
        self.parsed().enumerate().find_map(|(depth, certificate)| {
            let told = tell(&certificate?)?;
            u8::try_from(depth).ok().map(|depth| (depth, told))
        })
    }

    /// The issuer that the chain ends at.
    pub(super) fn top_issuer(&self) -> Option<&str> {
        let above = self.others[..self.above].last().map(|(one, _)| one);
        above.or(self.leaf.as_ref()).map(|one| one.issuer.as_str())
    }

    /// Whether the uppermost certificate on the way is signed by the key of `spki`, in DER.
    pub(super) fn is_top_signed_by(&self, spki: &[u8]) -> bool {
        let top = self.path().last().flatten();
        top.is_some_and(|top| is_signed_by(&top, spki))
    }

    /// The uppermost certificate on the way that is not signed by the key of the one above it, and whose
    /// that is.
    pub(super) fn broken_link(&self) -> Option<(u8, &str)> {
        let path: Vec<_> = self.path().collect();
        path.windows(2).enumerate().rev().find_map(|(depth, link)| {
            let [Some(below), Some(above)] = link else { return None };
            let depth = u8::try_from(depth).ok()?;
            let issuer = self.at(depth)?.issuer.as_str();
            (!is_signed_by(below, above.public_key().raw)).then_some((depth, issuer))
        })
    }

    /// A name that several of the certificates beside the leaf have.
    pub(super) fn name_of_several(&self) -> Option<&str> {
        let names = || self.others.iter().map(|(one, _)| one.subject.as_str());
        let mut numbered = names().enumerate();
        numbered.find_map(|(at, name)| names().skip(at + 1).any(|one| one == name).then_some(name))
    }

    /// The first certificate of which what was sent for its issuer's has another key than the one that
    /// it names (RFC 5280 §4.2.1.1), and the issuer. `anchors` may be its issuer, too.
    pub(super) fn misissued(&self, anchors: &[String]) -> Option<(u8, &str)> {
        let parsed: Vec<_> = self.parsed().collect();
        parsed.iter().take(1 + self.above).enumerate().find_map(|(depth, certificate)| {
            let depth = u8::try_from(depth).ok()?;
            let issuer = self.at(depth)?.issuer.as_str();
            let wanted = authority_key(certificate.as_ref()?)?;
            let mut keys = parsed[1..]
                .iter()
                .zip(&self.others)
                .filter(|(_, (one, _))| one.subject == issuer)
                .map(|(one, _)| one.as_ref().and_then(subject_key))
                .peekable();
            let is_sent = keys.peek().is_some() && !anchors.iter().any(|anchor| anchor == issuer);
            let is_other = |key: Option<&[u8]>| key.is_some_and(|key| key != wanted);
            (is_sent && keys.all(is_other)).then_some((depth, issuer))
        })
    }

    /// Leaf first, as far as names lead.
    pub(super) fn path(&self) -> impl Iterator<Item = Option<X509Certificate<'a>>> {
        self.parsed().take(1 + self.above)
    }

    /// Leaf first; `None` of what x509-parser cannot read.
    fn parsed(&self) -> impl Iterator<Item = Option<X509Certificate<'a>>> {
        let all = std::iter::once(self.leaf_der).chain(self.others.iter().map(|(_, der)| *der));
        all.map(|der| X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed))
    }
}

fn is_signed_by(certificate: &X509Certificate<'_>, spki: &[u8]) -> bool {
    let signed = certificate.tbs_certificate.as_ref();
    let signature = &certificate.signature_value.data;
    Signature::of(&certificate.signature_algorithm, signed, signature)
        .is_some_and(|signature| signature.is_of(spki) == Some(true))
}

fn authority_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0),
        _ => None,
    })
}

fn subject_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}
