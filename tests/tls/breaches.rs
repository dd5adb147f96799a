//! What a refusal says of a chain that webpki turns down: the certificate that it is about, what is
//! wrong with it and what to do. webpki itself names a rule and never the certificate.

use base64::Engine as _;
use portcullis::config::plan::{ClientAuth, Uncertain};
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::core::trust::KeyRule;
use portcullis_kit::Authority;
use rcgen::{
    CertificateParams, CertifiedIssuer, CustomExtension, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, KeyPair, NameConstraints, PKCS_RSA_SHA256, PublicKeyData, SanType,
    SignatureAlgorithm,
};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::chains::{ALL, Ca, Shown, below, ca_params, meet, params, root};
use crate::support::{NAME, World, file};

/// Of a leaf below `Middle` below `Root`, each as it is made here.
struct Made {
    root: CertificateParams,
    middle: CertificateParams,
    leaf: CertificateParams,
}

impl Made {
    fn new() -> Self {
        let ca = |name| ca_params(name, &ALL);
        Self { root: ca("Root"), middle: ca("Middle"), leaf: params("alice") }
    }

    fn refusal(self) -> Refusal {
        let key = KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(self.root, key).unwrap();
        let middle = below(&root, self.middle);
        let leaf = below(&middle, self.leaf);
        refused(&root, &[&leaf, &middle])
    }
}

fn refused(root: &Ca, path: &[&Ca]) -> Refusal {
    let lists = Vec::new();
    Shown { root, path, lists, unknown: Uncertain::Refuse }.met().unwrap_err()
}

/// The refusal is about `who`, at this depth, and says `what`.
fn assert_about(refusal: &Refusal, reason: Reason, (depth, who): (u8, &str), what: &str) {
    assert_eq!(refusal.reason, reason, "{refusal}");
    let about = format!("certificate CN={who}, ");
    assert!(refusal.detail.starts_with(&about), "{who}: {}", refusal.detail);
    assert!(refusal.detail.contains(what), "{what}: {}", refusal.detail);
    assert_eq!(refusal.evidence.as_ref().unwrap().depth, depth, "{refusal}");
}

fn hint(refusal: &Refusal) -> &str {
    refusal.evidence.as_ref().unwrap().hint.as_deref().unwrap_or_default()
}

#[test]
fn a_purpose_that_a_ca_lacks_is_told_of_the_ca() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, Other, ServerAuth};
    let precertificates = Other(vec![1, 3, 6, 1, 4, 1, 11129, 2, 4, 4]);
    let of = |middle: &[ExtendedKeyUsagePurpose], leaf: &[ExtendedKeyUsagePurpose]| {
        let mut made = Made::new();
        made.middle.extended_key_usages = middle.to_vec();
        made.leaf.extended_key_usages = leaf.to_vec();
        made.refusal()
    };
    let reason = Reason::CertificatePurpose;
    let of_middle = of(&[ServerAuth], &[ClientAuth]);
    let what = "may be used for serverAuth, not for clientAuth";
    assert_about(&of_middle, reason, (1, "Middle"), what);
    assert!(hint(&of_middle).contains("the CA's certificate"), "{}", hint(&of_middle));
    assert_about(&of(&[], &[ServerAuth]), reason, (0, "alice"), what);
    // As it is written, which webpki's own words are not.
    let what = "may be used for 1.3.6.1.4.1.11129.2.4.4, not for clientAuth";
    assert_about(&of(&[ClientAuth], &[precertificates]), reason, (0, "alice"), what);
    let any = of(&[], &[Any]);
    assert_about(&any, reason, (0, "alice"), "may be used for anyExtendedKeyUsage");
    assert!(hint(&any).contains("does not stand for it"), "{}", hint(&any));
}

#[test]
fn a_critical_extension_is_named_with_the_certificate_that_has_it() {
    let critical = |oid: &[u64], content: &[u8]| {
        let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
        extension.set_criticality(true);
        vec![extension]
    };
    let mut made = Made::new();
    made.middle.custom_extensions = critical(&[2, 5, 29, 36], &[0x30, 3, 0x80, 1, 0]);
    let refusal = made.refusal();
    let what = "the critical extension policyConstraints (2.5.29.36), which is not understood here";
    assert_about(&refusal, Reason::CertificateInvalid, (1, "Middle"), what);
    let mut made = Made::new();
    made.leaf.custom_extensions = critical(&[1, 3, 6, 1, 4, 1, 1], &[5, 0]);
    let what = "the critical extension 1.3.6.1.4.1.1, which is not understood here";
    assert_about(&made.refusal(), Reason::CertificateInvalid, (0, "alice"), what);
}

#[test]
fn name_constraints_that_are_not_compared_are_not_said_to_be_broken() {
    const OUTSIDE: &str = "outside what a CA above may issue for";
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let mail = SanType::Rfc822Name("me@example.com".try_into().unwrap());
    let mut directory = rcgen::DistinguishedName::new();
    directory.push(DnType::CommonName, "alice");
    let directory = GeneralSubtree::DirectoryName(directory);
    let of_mail = || GeneralSubtree::Rfc822Name("example.com".to_owned());
    let of_dns = || GeneralSubtree::DnsName("example.com".to_owned());
    let not_compared =
        |kind: &str| format!("name constraints about {kind}, which are not compared");
    for (constraint, names, expected) in [
        // Each is within what the CA may issue for, but for the last.
        (directory, vec![dns("a.example.com")], not_compared("directory names")),
        (of_mail(), vec![dns("a.example.com"), mail], not_compared("mail addresses")),
        (of_dns(), vec![dns("a.example.org")], OUTSIDE.to_owned()),
    ] {
        for is_of_anchor in [true, false] {
            let mut made = Made::new();
            let held = if is_of_anchor { &mut made.root } else { &mut made.middle };
            held.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![constraint.clone()],
                excluded_subtrees: Vec::new(),
            });
            made.leaf.subject_alt_names = names.clone();
            let refusal = made.refusal();
            assert_eq!(refusal.reason, Reason::CertificateInvalid, "{refusal}");
            assert!(refusal.detail.contains(&expected), "{expected}: {}", refusal.detail);
        }
    }
}

#[test]
fn a_path_of_more_cas_than_webpki_follows_is_too_deep() {
    let root = root();
    let mut path: Vec<Ca> = Vec::new();
    for at in 0..7 {
        path.push(below(path.last().unwrap_or(&root), ca_params(&format!("CA {at}"), &ALL)));
    }
    let leaf = below(&path[6], params("alice"));
    let path: Vec<&Ca> = std::iter::once(&leaf).chain(path.iter().rev()).collect();
    let refusal = refused(&root, &path);
    assert_about(&refusal, Reason::ChainTooDeep, (0, "alice"), "no anchor is reached over 6");
    assert!(!hint(&refusal).contains("raise"), "nothing is to be raised: {}", hint(&refusal));
}

#[test]
fn an_intermediate_of_the_right_name_and_another_key_is_told() {
    let root = root();
    let (old, new) = (below(&root, of_middle()), below(&root, of_middle()));
    let mut of_leaf = params("alice");
    of_leaf.use_authority_key_identifier_extension = true;
    let leaf = below(&new, of_leaf);
    let refusal = refused(&root, &[&leaf, &old]);
    let what = "CN=Middle was sent with it, but with another key";
    assert_about(&refusal, Reason::UnknownIssuer, (0, "alice"), what);
    assert!(hint(&refusal).contains("into the peer's chain file"), "{}", hint(&refusal));
    // The control: both, and it is let in.
    let both = Shown {
        root: &root,
        path: &[&leaf, &old, &new],
        lists: Vec::new(),
        unknown: Uncertain::Refuse,
    };
    assert_eq!(both.refusal(), None);
}

fn of_middle() -> CertificateParams {
    ca_params("Middle", &ALL)
}

#[test]
fn what_ends_beside_a_namesake_that_does_not_is_told_of_itself() {
    let root = root();
    let key = KeyPair::generate().unwrap();
    let mut over = of_middle();
    (over.not_before, over.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let over = CertifiedIssuer::signed_by(over, key, &root).unwrap();
    let current = below(&root, of_middle());
    let leaf = below(&over, params("alice"));
    let refusal = refused(&root, &[&leaf, &current, &over]);
    let depth = refusal.evidence.as_ref().unwrap().depth;
    assert_about(&refusal, Reason::CertificateExpired, (depth, "Middle"), "expired");
}

#[test]
fn a_cas_own_certificate_is_told_how_to_be_none() {
    let root = root();
    let refusal = refused(&root, &[&root]);
    assert_about(&refusal, Reason::CertificateInvalid, (0, "Root"), "it is a CA's certificate");
    assert!(hint(&refusal).contains("CA:FALSE"), "{}", hint(&refusal));
}

/// Such CAs are still about. To webpki all that they have signed is wrongly signed.
#[test]
fn a_ca_with_a_key_that_is_too_short_is_told_and_warned_of() {
    const CERTIFICATES: &[u8] = include_bytes!("../data/rsa-1024.pem");
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(CERTIFICATES).collect::<Result<_, _>>().unwrap();
    let [small, alice, good, small_below, bob] = &certificates[..] else {
        panic!("five are there")
    };
    let said = "rsa-1024, and signatures are verified by RSA keys of 2048 to 8192 bits only";
    for (anchor, shown, about, warnings) in
        [(small, vec![alice], (0, "alice"), 1), (good, vec![bob, small_below], (1, "Small CA"), 0)]
    {
        let servers = Authority::new("Servers");
        let server = servers.server(&[NAME]);
        let mut world = World::new();
        let trust = world.trust(&servers);
        let pem = pem_of(anchor);
        world.plan.trusts[0].anchors = vec![file(&servers.write("anchor", "pem", &pem))];
        let chain = world.chain("edge", &server, ClientAuth::Require(trust));
        let material = world.load();
        assert_eq!(material.warnings().len(), warnings, "{:?}", material.warnings());
        assert!(material.warnings().iter().all(|one| one.message.contains("rsa-1024")));
        let shown = shown.into_iter().cloned().collect();
        let refusal = meet(&world, chain, &servers, shown, &server.key_der).unwrap_err();
        assert_about(&refusal, Reason::CertificateInvalid, about, said);
        assert!(hint(&refusal).contains("have the CA renewed"), "{}", hint(&refusal));
    }
}

#[test]
fn a_key_that_no_trust_can_take_is_not_said_to_be_added() {
    // Keys are asked before signatures, so nobody has to have this one.
    let short = RsaKey::with_modulus(&[0xff; 128]);
    let leaf: CertificateDer<'static> = params("short").signed_by(&short, &root()).unwrap().into();
    let servers = Authority::new("Servers");
    let server = servers.server(&[NAME]);
    let mut world = World::new();
    let trust = world.trust(&servers);
    world.plan.trusts[0].leaf.keys = KeyRule::DEFAULT.to_vec();
    let chain = world.chain("edge", &server, ClientAuth::Require(trust));
    let refusal = meet(&world, chain, &servers, vec![leaf], &server.key_der).unwrap_err();
    assert_eq!(refusal.reason, Reason::KeyNotAllowed, "{refusal}");
    assert!(refusal.detail.contains("its key is rsa-1024"), "{refusal}");
    assert!(hint(&refusal).starts_with("no trust can take such a key"), "{}", hint(&refusal));
}

/// Half of a key that nobody has.
struct RsaKey(Vec<u8>);

impl RsaKey {
    fn with_modulus(modulus: &[u8; 128]) -> Self {
        // RFC 8017 §A.1.1: a SEQUENCE of the modulus, behind a zero so that it is positive, and 65537.
        let head = [0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0];
        Self([&head[..], modulus, &[0x02, 3, 1, 0, 1]].concat())
    }
}

impl PublicKeyData for RsaKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}
