//! A certificate of the gateway as clients get it: its chain and key, the names that it is for, and its
//! staple while that is good.
//!
//! `pem` reads it, `resolver` chooses between several, `certificate_dir` keeps many.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::identity::validity;
use super::leaf::Leaf;
use super::shown::{Shown, scheme_name};
use super::staple::Staple;

/// Ready to be shown.
#[derive(Debug)]
pub(super) struct Served {
    bare: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
    shown: Shown,
    /// DNS names in lower case, wildcards as `*.example.com`.
    names: Box<[Box<str>]>,
    /// Of the certificate in the chain that ends first, in Unix seconds.
    pub not_before: u64,
    pub not_after: u64,
}

#[derive(Debug)]
struct Stapled {
    key: Arc<CertifiedKey>,
    this_update: u64,
    /// Unix seconds.
    until: u64,
}

impl Served {
    pub(super) fn new(bare: CertifiedKey, staple: Option<Staple>) -> Self {
        let leaf = bare.cert.first().and_then(|der| Leaf::parse(der));
        let names = leaf.map(|leaf| {
            let facts = leaf.facts();
            facts.names.dns.iter().map(|name| name.to_ascii_lowercase().into()).collect()
        });
        let validities = bare.cert.iter().filter_map(|der| validity(der));
        let (not_before, not_after) = validities.min_by_key(|(_, end)| *end).unwrap_or_default();
        let stapled = staple.map(|staple| {
            let mut key = CertifiedKey::new(bare.cert.clone(), Arc::clone(&bare.key));
            key.ocsp = Some(staple.der);
            let until = staple.next_update.unwrap_or(u64::MAX);
            Stapled { key: Arc::new(key), this_update: staple.this_update, until }
        });
        let names = names.unwrap_or_default();
        let shown = Shown::of(&bare);
        Self { bare: Arc::new(bare), stapled, shown, names, not_before, not_after }
    }

    /// What is shown at `now`. A staple that is over would be taken for a failure to staple, or for an
    /// attack; without one clients ask the CA themselves.
    pub(super) fn key(&self, now: u64) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some(stapled) if now <= stapled.until => &stapled.key,
            Some(_) | None => &self.bare,
        }
    }

    /// From when and until when its staple is good, in Unix seconds, where it says so.
    pub(super) fn staple(&self) -> Option<(u64, u64)> {
        let times = self.stapled.as_ref().map(|stapled| (stapled.this_update, stapled.until));
        times.filter(|(_, until)| *until != u64::MAX)
    }

    /// Without a staple.
    pub(super) fn bare(&self) -> &Arc<CertifiedKey> {
        &self.bare
    }

    /// How it was made, and with what it signs in a handshake.
    pub(super) fn shown(&self, scheme: Option<SignatureScheme>) -> Shown {
        Shown { scheme: scheme.and_then(scheme_name), ..self.shown }
    }

    pub(super) fn algorithm(&self) -> SignatureAlgorithm {
        self.bare.key.algorithm()
    }

    /// Whether one of its names is `name`, which must be normalised (RFC 9525 §6.3).
    pub(super) fn is_for(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => **own == *name,
        })
    }

    /// Its names, for people.
    pub(super) fn names(&self) -> String {
        match &*self.names {
            [] => "no DNS name".to_owned(),
            names if names.len() > NAMED_MAX => {
                format!("{} and {} more", names[..NAMED_MAX].join(", "), names.len() - NAMED_MAX)
            }
            names => names.join(", "),
        }
    }
}

const NAMED_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::staple::Status;
    use portcullis_kit::Authority;
    use rustls::crypto::aws_lc_rs::default_provider;

    fn served(names: &[&str], staple: Option<Staple>) -> Served {
        let identity = Authority::new("CA").server(names);
        let key = default_provider().key_provider.load_private_key(identity.key_der.clone_key());
        Served::new(CertifiedKey::new(identity.chain_der.clone(), key.unwrap()), staple)
    }

    #[test]
    fn a_certificate_is_for_its_names_and_a_wildcard_for_one_label() {
        let served = served(&["a.example.com", "*.Example.org"], None);
        for (name, is_for) in [
            ("a.example.com", true),
            ("b.example.com", false),
            ("x.a.example.com", false),
            ("x.example.org", true),
            ("example.org", false),
            ("x.y.example.org", false),
            ("", false),
        ] {
            assert_eq!(served.is_for(name), is_for, "{name}");
        }
        assert_eq!(served.names(), "a.example.com, *.example.org");
    }

    #[test]
    fn names_are_told_as_far_as_they_are_few() {
        assert_eq!(served(&[], None).names(), "no DNS name");
        let many = ["a.test", "b.test", "c.test", "d.test", "e.test"];
        assert_eq!(served(&many, None).names(), "a.test, b.test, c.test, d.test and 1 more");
    }

    #[test]
    fn a_staple_is_shown_until_it_is_over() {
        let staple =
            Staple { der: vec![1], status: Status::Good, this_update: 5, next_update: Some(10) };
        let served = served(&["a.test"], Some(staple));
        assert_eq!(served.key(10).ocsp.as_deref(), Some(&[1][..]));
        assert_eq!(served.key(11).ocsp, None);
        assert_eq!(served.staple(), Some((5, 10)));
    }
}
