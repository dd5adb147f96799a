//! What RFC 5280 asks of a path and webpki does not: key usage of CAs, demanded policies, which lists
//! speak for whom. `tests/pkits` asks the same, and more, with the certificates of NIST.

use std::sync::Arc;

use portcullis::config::plan::{ClientAuth, Uncertain};
use portcullis::core::refusal::{Reason, Refusal};
use portcullis_kit::{Authority, ClientSpec};
use rcgen::{
    BasicConstraints, CertifiedIssuer, CrlDistributionPoint, CustomExtension, DistinguishedName,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};

use crate::chains::{ALL, Ca, Shown, below, ca_params, list, list_from, params, root};
use crate::support::{NAME, World, client, client_config, handshake};

#[test]
fn a_ca_whose_key_usage_lacks_key_cert_sign_vouches_for_nobody() {
    for (usages, may) in [
        (&[KeyUsagePurpose::KeyCertSign][..], true),
        (&[], true),
        (&[KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature], false),
    ] {
        let root = root();
        let middle = below(&root, ca_params("Middle", usages));
        let leaf = below(&middle, params("alice"));
        let shown = Shown {
            root: &root,
            path: &[&leaf, &middle],
            lists: Vec::new(),
            unknown: Uncertain::Refuse,
        };
        match shown.refusal() {
            None => assert!(may, "{usages:?}"),
            Some((reason, detail)) => {
                assert!(!may, "{usages:?}: {detail}");
                assert_eq!(reason, Reason::CertificateInvalid, "{detail}");
                assert!(detail.contains("CN=Middle") && detail.contains("keyCertSign"), "{detail}");
            }
        }
    }
}

#[test]
fn a_leaf_whose_key_usage_lacks_digital_signature_proves_nobody() {
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyEncipherment};
    for (usages, uses) in [
        (&[][..], None),
        (&[DigitalSignature], None),
        (&[KeyEncipherment, DigitalSignature], None),
        (&[KeyEncipherment], Some("keyEncipherment")),
        (&[KeyAgreement, CrlSign], Some("keyAgreement, cRLSign")),
    ] {
        for purposes in [&[][..], &[ExtendedKeyUsagePurpose::ClientAuth]] {
            let root = root();
            let mut leaf = params("alice");
            leaf.key_usages = usages.to_vec();
            leaf.extended_key_usages = purposes.to_vec();
            let leaf = below(&root, leaf);
            let shown = Shown {
                root: &root,
                path: &[&leaf],
                lists: Vec::new(),
                unknown: Uncertain::Refuse,
            };
            match (shown.refusal(), uses) {
                (None, None) => {}
                (Some((Reason::CertificatePurpose, detail)), Some(uses)) => {
                    assert!(detail.contains(&format!("used for {uses}, and not")), "{detail}");
                }
                (met, _) => panic!("{usages:?}: {met:?}"),
            }
        }
    }
}

#[test]
fn a_wrong_signature_is_told_of_the_certificate_that_has_it() {
    let root = root();
    let middle = below(&root, ca_params("Middle", &ALL));
    let renewed = below(&root, ca_params("Middle", &ALL));
    let leaf = below(&middle, params("alice"));
    // Of the same names and by the keys of others.
    let other_root = crate::chains::root();
    let other_middle = below(&other_root, ca_params("Middle", &ALL));
    let other_leaf = below(&other_middle, params("alice"));
    for (path, reason, whose, words) in [
        (&[&leaf, &middle][..], None, "", ""),
        (
            &[&other_leaf, &middle],
            Some(Reason::CertificateSignature),
            "CN=alice",
            "not by the key of CN=Middle",
        ),
        (
            &[&leaf, &other_middle],
            Some(Reason::UnknownIssuer),
            "CN=alice",
            "an anchor is called CN=Root too",
        ),
        (
            &[&other_leaf, &middle, &renewed],
            Some(Reason::CertificateInvalid),
            "CN=alice",
            "several certificates of CN=Middle",
        ),
    ] {
        let lists = Vec::new();
        let met = Shown { root: &root, path, lists, unknown: Uncertain::Refuse }.refusal();
        match (met, reason) {
            (None, None) => {}
            (Some((met, detail)), Some(reason)) => {
                assert_eq!(met, reason, "{detail}");
                assert!(detail.contains(whose) && detail.contains(words), "{detail}");
            }
            (met, reason) => panic!("{met:?}, {reason:?}"),
        }
    }
}

#[test]
fn an_intermediate_that_breaks_a_rule_is_the_one_that_is_named() {
    let extension = || {
        // An unknown one, not critical.
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![5, 0])
    };
    // Key usage, once more: digitalSignature.
    let again = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80]);
    for (custom, is_ca, words) in [
        (vec![extension()], IsCa::Ca(BasicConstraints::Unconstrained), None),
        (
            vec![again],
            IsCa::Ca(BasicConstraints::Unconstrained),
            Some("extension keyUsage (2.5.29.15) twice"),
        ),
        (vec![extension()], IsCa::NoCa, Some("it is not a CA's (basicConstraints)")),
    ] {
        let root = root();
        let mut middle = ca_params("Middle", &ALL);
        (middle.custom_extensions, middle.is_ca) = (custom, is_ca);
        let middle = below(&root, middle);
        let leaf = below(&middle, params("alice"));
        let shown = Shown {
            root: &root,
            path: &[&leaf, &middle],
            lists: Vec::new(),
            unknown: Uncertain::Refuse,
        };
        match (shown.refusal(), words) {
            (None, None) => {}
            (Some((Reason::CertificateInvalid, detail)), Some(words)) => {
                assert!(detail.starts_with("certificate CN=Middle"), "{detail}");
                assert!(detail.contains(words), "{detail}");
            }
            (met, words) => panic!("{words:?}: {met:?}"),
        }
    }
}

#[test]
fn an_anchor_that_is_no_cas_stands_for_itself_alone() {
    let self_signed = |params| CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap());
    let anchor = |is_ca, usages: &[KeyUsagePurpose]| {
        let mut params = ca_params("Pinned", usages);
        params.is_ca = is_ca;
        self_signed(params).unwrap()
    };
    let met = |root: &Ca, path: &[&Ca]| {
        let lists = Vec::new();
        Shown { root, path, lists, unknown: Uncertain::Refuse }.refusal()
    };
    let warns = |root: &Ca| {
        let lists = Vec::new();
        let said = Shown { root, path: &[root], lists, unknown: Uncertain::Refuse }.said();
        said.iter().any(|one| one.contains("lacks keyCertSign: it vouches for nobody"))
    };
    let signs = [KeyUsagePurpose::KeyCertSign];
    let proves = [KeyUsagePurpose::DigitalSignature];
    for (is_ca, usages, may) in [
        (IsCa::Ca(BasicConstraints::Unconstrained), &signs[..], true),
        (IsCa::Ca(BasicConstraints::Unconstrained), &[], true),
        (IsCa::Ca(BasicConstraints::Unconstrained), &proves, false),
        // Older CAs say nothing in basicConstraints.
        (IsCa::NoCa, &signs, true),
        (IsCa::NoCa, &proves, false),
        (IsCa::NoCa, &[], false),
        (IsCa::ExplicitNoCa, &signs, false),
        (IsCa::ExplicitNoCa, &[], false),
    ] {
        let what = format!("{is_ca:?} {usages:?}");
        let root = anchor(is_ca, usages);
        let mallory = below(&root, params("mallory"));
        match met(&root, &[&mallory]) {
            None => assert!(may, "{what}"),
            Some((reason, detail)) => {
                assert!(!may, "{what}: {detail}");
                assert_eq!(reason, Reason::UnknownIssuer, "{detail}");
                assert!(detail.contains("is no CA's certificate"), "{detail}");
                // webpki takes no CA's certificate for a client's: this one is good for nothing.
                match is_ca {
                    IsCa::Ca(_) => assert!(warns(&root), "{what}"),
                    _ => {
                        let refused = met(&root, &[&root]).map(|(reason, _)| reason);
                        let proves = usages.is_empty() || *usages == proves;
                        let expected = (!proves).then_some(Reason::CertificatePurpose);
                        assert_eq!(refused, expected, "{what}: itself");
                    }
                }
            }
        }
    }
    // Another certificate by the same key, with other names.
    let pinned = anchor(IsCa::NoCa, &[]);
    let key = KeyPair::try_from(pinned.key().serialize_der()).unwrap();
    let mut other = params("Pinned");
    other.serial_number = None;
    let other = CertifiedIssuer::self_signed(other, key).unwrap();
    assert_eq!(met(&pinned, &[&other]).unwrap().0, Reason::UnknownIssuer);
    // A client's certificate in the file of CAs makes no CA of the client.
    let alice = below(&root(), params("alice"));
    let mallory = below(&alice, params("mallory"));
    assert_eq!(met(&alice, &[&mallory]).unwrap().0, Reason::UnknownIssuer);
    assert_eq!(met(&alice, &[&mallory, &alice]).unwrap().0, Reason::UnknownIssuer);
}

#[test]
fn an_anchor_is_asked_how_many_cas_may_stand_below_it() {
    for (allowed, below_it, self_issued, expected) in [
        (None, 3, 0, None),
        (Some(0), 0, 0, None),
        (Some(0), 1, 0, Some("which is 0")),
        (Some(1), 1, 0, None),
        (Some(1), 2, 0, Some("which is 1")),
        // A CA that changes its key (RFC 5280 §6.1.4 (l)).
        (Some(0), 0, 1, None),
        (Some(0), 1, 1, Some("which is 0")),
    ] {
        let mut of_root = ca_params("Root", &ALL);
        of_root.is_ca = IsCa::Ca(match allowed {
            None => BasicConstraints::Unconstrained,
            Some(length) => BasicConstraints::Constrained(length),
        });
        let root = CertifiedIssuer::self_signed(of_root, KeyPair::generate().unwrap()).unwrap();
        let mut path: Vec<Ca> = Vec::new();
        let names = vec!["Root".to_owned(); self_issued];
        for name in names.into_iter().chain((0..below_it).map(|at| format!("CA {at}"))) {
            let above = path.last().unwrap_or(&root);
            path.push(below(above, ca_params(&name, &ALL)));
        }
        path.push(below(path.last().unwrap_or(&root), params("alice")));
        let path: Vec<&Ca> = path.iter().rev().collect();
        let shown =
            Shown { root: &root, path: &path, lists: Vec::new(), unknown: Uncertain::Refuse };
        let refusal = shown.refusal();
        match (&refusal, expected) {
            (None, None) => {}
            (Some((Reason::CertificateInvalid, detail)), Some(expected)) => {
                assert!(detail.contains(expected) && detail.contains("CN=alice"), "{detail}");
            }
            _ => panic!("{allowed:?} {below_it} {self_issued}: {refusal:?}"),
        }
    }
}

#[test]
fn an_anchor_that_demands_what_is_not_understood_vouches_with_a_warning() {
    for is_critical in [false, true] {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![5, 0]);
        extension.set_criticality(is_critical);
        let mut of_root = ca_params("Root", &ALL);
        of_root.custom_extensions = vec![extension];
        let root = CertifiedIssuer::self_signed(of_root, KeyPair::generate().unwrap()).unwrap();
        let leaf = below(&root, params("alice"));
        let path = &[&leaf][..];
        let shown = || Shown { root: &root, path, lists: Vec::new(), unknown: Uncertain::Refuse };
        let said = shown().said();
        assert_eq!(said.len(), usize::from(is_critical), "{said:?}");
        let what = "vouches, although it has the critical extension 1.3.6.1.4.1.1, which";
        assert!(said.iter().all(|one| one.contains(what)), "{said:?}");
        assert_eq!(shown().refusal(), None);
    }
}

#[test]
fn an_anchor_that_can_vouch_for_nobody_is_warned_of() {
    for (kind, names, words) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, vec![], None),
        (&rcgen::PKCS_ED25519, vec![GeneralSubtree::DnsName("a.test".to_owned())], None),
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            vec![GeneralSubtree::DirectoryName(DistinguishedName::new())],
            Some("name constraints about directory names"),
        ),
    ] {
        let mut of_root = ca_params("Root", &ALL);
        let is_constrained = !names.is_empty();
        let constraints =
            NameConstraints { permitted_subtrees: names, excluded_subtrees: Vec::new() };
        of_root.name_constraints = is_constrained.then_some(constraints);
        let root = CertifiedIssuer::self_signed(of_root, KeyPair::generate_for(kind).unwrap());
        let root = root.unwrap();
        let leaf = below(&root, params("alice"));
        let lists = Vec::new();
        let said = Shown { root: &root, path: &[&leaf], lists, unknown: Uncertain::Refuse }.said();
        assert_eq!(said.len(), words.iter().len(), "{said:?}");
        assert!(words.is_none_or(|words| said[0].contains(words)), "{said:?}");
    }
}

#[test]
fn the_list_of_an_anchor_that_may_not_sign_lists_is_a_mistake() {
    for (usages, may) in [(&ALL[..], true), (&[], true), (&[KeyUsagePurpose::KeyCertSign], false)] {
        let of_root = ca_params("Root", usages);
        let root = CertifiedIssuer::self_signed(of_root, KeyPair::generate().unwrap()).unwrap();
        // rcgen signs no list that it takes for wrong.
        let key = KeyPair::try_from(root.key().serialize_der()).unwrap();
        let signer = CertifiedIssuer::self_signed(ca_params("Root", &ALL), key).unwrap();
        let lists = vec![list(&signer, None, &[8])];
        let leaf = below(&root, params("alice"));
        let shown = Shown { root: &root, path: &[&leaf], lists, unknown: Uncertain::Refuse };
        let said = shown.said();
        assert_eq!(said.is_empty(), may, "{usages:?}: {said:?}");
        assert!(said.iter().all(|one| one.contains("lacks cRLSign")), "{said:?}");
    }
}

#[test]
fn a_policy_that_a_ca_demands_must_hold_for_the_leaf() {
    // SEQUENCE of requireExplicitPolicy [0] 0: RFC 5280 §4.2.1.11.
    let demand = CustomExtension::from_oid_content(&[2, 5, 29, 36], vec![0x30, 3, 0x80, 1, 0]);
    // One policy, 2.999.
    let policies = || {
        CustomExtension::from_oid_content(&[2, 5, 29, 32], vec![0x30, 6, 0x30, 4, 6, 2, 0x88, 0x37])
    };
    for (of_leaf, is_let_in) in [(vec![], false), (vec![policies()], true)] {
        let root = root();
        let mut middle = ca_params("Middle", &ALL);
        middle.custom_extensions = vec![demand.clone(), policies()];
        let middle = below(&root, middle);
        let mut leaf = params("alice");
        leaf.custom_extensions = of_leaf;
        let leaf = below(&middle, leaf);
        let shown = Shown {
            root: &root,
            path: &[&leaf, &middle],
            lists: Vec::new(),
            unknown: Uncertain::Refuse,
        };
        let refusal = shown.refusal();
        assert_eq!(refusal.is_none(), is_let_in, "{refusal:?}");
        if let Some((reason, detail)) = refusal {
            assert_eq!(reason, Reason::CertificateInvalid);
            assert!(detail.contains("CN=alice") && detail.contains("policy"), "{detail}");
        }
    }
}

#[test]
fn a_list_of_one_distribution_point_vouches_for_its_own_certificates_only() {
    const HERE: &str = "http://crl.test/1";
    const THERE: &str = "http://crl.test/2";
    for (of_leaf, revoked, unknown, expected) in [
        (Some(HERE), &[8][..], Uncertain::Refuse, None),
        (Some(HERE), &[7], Uncertain::Refuse, Some(Reason::CertificateRevoked)),
        (Some(THERE), &[8], Uncertain::Refuse, Some(Reason::RevocationUnknown)),
        (None, &[8], Uncertain::Refuse, Some(Reason::RevocationUnknown)),
        (None, &[8], Uncertain::Accept, None),
        // Who is in a list is revoked, whatever it does not speak for.
        (None, &[7], Uncertain::Accept, Some(Reason::CertificateRevoked)),
        (Some(THERE), &[7], Uncertain::Accept, Some(Reason::CertificateRevoked)),
    ] {
        let root = root();
        let mut leaf = params("alice");
        leaf.crl_distribution_points = of_leaf
            .map(|uri: &str| CrlDistributionPoint { uris: vec![uri.to_owned()] })
            .into_iter()
            .collect();
        let leaf = below(&root, leaf);
        let shown = Shown {
            root: &root,
            path: &[&leaf],
            lists: vec![list(&root, Some(HERE), revoked)],
            unknown,
        };
        let refusal = shown.refusal();
        let reason = refusal.as_ref().map(|(reason, _)| *reason);
        assert_eq!(reason, expected, "{of_leaf:?} {revoked:?} {unknown:?}: {refusal:?}");
    }
}

#[test]
fn a_newer_list_of_an_anchor_takes_the_place_of_an_older_one_once_it_has_begun() {
    for (year, expected) in [(2021, None), (3000, Some(Reason::CertificateRevoked))] {
        let root = root();
        let leaf = below(&root, params("alice"));
        let lists = vec![list(&root, None, &[7]), list_from(year, &root, None, &[])];
        let shown = Shown { root: &root, path: &[&leaf], lists, unknown: Uncertain::Refuse };
        let refusal = shown.refusal();
        assert_eq!(refusal.as_ref().map(|(reason, _)| *reason), expected, "{year}: {refusal:?}");
    }
}

#[test]
fn a_list_that_has_not_begun_is_not_current_and_still_revokes() {
    for (revoked, expected) in
        [(&[][..], Reason::RevocationStale), (&[7], Reason::CertificateRevoked)]
    {
        let root = root();
        let leaf = below(&root, params("alice"));
        let lists = vec![list_from(3000, &root, None, revoked)];
        let shown = Shown { root: &root, path: &[&leaf], lists, unknown: Uncertain::Accept };
        let (reason, detail) = shown.refusal().unwrap();
        assert_eq!(reason, expected, "{detail}");
        let is_told = detail.contains("CN=Root begins only in");
        assert_eq!(is_told, reason == Reason::RevocationStale, "{detail}");
    }
}

/// A CA that has changed its key signs its lists with the new one (RFC 5280 §6.1, self-issued).
#[test]
fn a_list_signed_by_a_cas_newer_key_speaks_for_what_its_older_key_issued() {
    for (by_newer, revoked, expected) in [
        (true, &[][..], None),
        (true, &[7], Some(Reason::CertificateRevoked)),
        // A CA of the same name and root that is not in the path.
        (false, &[], Some(Reason::RevocationUnknown)),
        (false, &[7], Some(Reason::RevocationUnknown)),
    ] {
        let root = root();
        let newer = below(&root, ca_params("Middle", &ALL));
        let older = below(&newer, ca_params("Middle", &ALL));
        let leaf = below(&older, params("alice"));
        let stranger = below(&root, ca_params("Middle", &ALL));
        let lists = vec![list(if by_newer { &newer } else { &stranger }, None, revoked)];
        let shown = Shown {
            root: &root,
            path: &[&leaf, &older, &newer],
            lists,
            unknown: Uncertain::Refuse,
        };
        let refusal = shown.refusal();
        let reason = refusal.as_ref().map(|(reason, _)| *reason);
        assert_eq!(reason, expected, "{by_newer} {revoked:?}: {refusal:?}");
    }
}

/// How a client fares that sends these CAs behind its leaf, which the first of them issued.
fn refusal_of_bomb(bombs: &[Authority]) -> Refusal {
    let (clients, servers) = (Authority::new("Clients"), Authority::new("Servers"));
    let alice = bombs[0].client(&ClientSpec::new("alice"));
    let mut chain = vec![alice.leaf().clone()];
    chain.extend(bombs.iter().map(|bomb| bomb.certificate().clone()));
    let mut world = World::new();
    let trust = world.trust(&clients);
    let id = world.chain("a", &servers.server(&[NAME]), ClientAuth::Require(trust));
    let mut bomb = alice;
    bomb.chain_der = chain;
    let config = client_config(servers.roots(), &rustls::version::TLS13, Some(&bomb));
    let mut peer = client(&Arc::new(config), NAME);
    handshake(&world.terms(id), &mut peer, NAME).map(|_| ()).unwrap_err().0
}

// threat 13
#[test]
fn many_cas_of_one_name_are_refused_before_a_path_is_searched() {
    let bombs: Vec<_> = (0..9).map(|_| Authority::new("Bomb").intermediate("Bomb")).collect();
    let refusal = refusal_of_bomb(&bombs);
    assert_eq!(refusal.reason, Reason::CertificateInvalid, "{refusal}");
    assert!(refusal.detail.contains("more than 3 CA certificates of one name"), "{refusal}");
    // The control: fewer are looked through.
    assert_eq!(refusal_of_bomb(&bombs[..3]).reason, Reason::UnknownIssuer);
    let paths = refusal_of_bomb(&circles(3));
    assert_eq!(paths.reason, Reason::CertificateInvalid, "{paths}");
    assert!(paths.detail.contains("more than 8 paths"), "{paths}");
}

/// CAs of three names, so many of each, and each issued by one of the next name.
fn circles(each: usize) -> Vec<Authority> {
    let circle = |(name, above): (&str, &str)| {
        (0..each).map(|_| Authority::new(above).intermediate(name)).collect::<Vec<_>>()
    };
    [("A", "B"), ("B", "C"), ("C", "A")].into_iter().flat_map(circle).collect()
}

// threat 13
#[test]
fn names_that_lead_in_circles_end_the_search() {
    let refusal = refusal_of_bomb(&circles(2));
    assert_eq!(refusal.reason, Reason::UnknownIssuer, "{refusal}");
    // Longer ones are left before they close.
    let names = ["A", "B", "C", "D", "E", "F", "G", "H", "A"];
    let long: Vec<_> =
        names.windows(2).map(|pair| Authority::new(pair[1]).intermediate(pair[0])).collect();
    let refusal = refusal_of_bomb(&long);
    assert_eq!(refusal.reason, Reason::ChainTooDeep, "{refusal}");
    assert!(refusal.detail.contains("no anchor is reached"), "{refusal}");
}

/// CAs that have each signed the two others, and an anchor that is one of them (CVE-2024-0567).
#[test]
fn cas_that_sign_each_other_are_searched_for_the_anchor() {
    const NAMES: [&str; 3] = ["A", "B", "C"];
    let ca = |name: &str| {
        let key = KeyPair::generate().unwrap();
        CertifiedIssuer::self_signed(ca_params(name, &ALL), key).unwrap()
    };
    let roots = NAMES.map(ca);
    let same = |of: usize, by: usize| {
        let key = KeyPair::try_from(roots[of].key().serialize_der()).unwrap();
        CertifiedIssuer::signed_by(ca_params(NAMES[of], &ALL), key, &roots[by]).unwrap()
    };
    let mut crossed = Vec::new();
    for (of, by) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        crossed.push(same(of, by));
    }
    let middle = below(&roots[0], ca_params("Middle", &ALL));
    let leaf = below(&middle, params("alice"));
    let path: Vec<&Ca> = [&leaf, &middle].into_iter().chain(&crossed).collect();
    for root in &roots {
        let shown = Shown { root, path: &path, lists: Vec::new(), unknown: Uncertain::Refuse };
        assert_eq!(shown.refusal(), None);
    }
}
