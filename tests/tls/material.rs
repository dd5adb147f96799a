//! Files that cannot be used: every problem at once, each at the place that names the file.

use std::path::Path;

use portcullis::config::error::Problem;
use portcullis::config::plan::{CertificateFiles, ClientAuth, RevocationCheck};
use portcullis::tls::material::Material;
use portcullis_kit::{Authority, ClientSpec, Identity, KeyKind, Purpose, Validity};

use crate::support::*;

fn problems(world: &World) -> Vec<Problem> {
    Material::load(&world.plan, &world.stek, 1, unix_now, None).unwrap_err()
}

fn load(world: &World) -> Material {
    Material::load(&world.plan, &world.stek, 1, unix_now, None).unwrap()
}

#[test]
fn each_unusable_file_is_told_at_its_place_with_help() {
    let authority = Authority::new("CA");
    let (good, other) = (authority.server(&[NAME]), authority.server(&[NAME]));
    let text = |name: &str, text: &str| authority.write(name, "pem", text);
    let garbage =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", "AAAA".repeat(10));
    let secret = |kind: &str, inside: &str| {
        format!("-----BEGIN {kind}-----\n{inside}\n-----END {kind}-----\n")
    };
    let sec1 = secret("EC PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMHcC");
    let pkcs8 = secret("ENCRYPTED PRIVATE KEY", "MIHsMFcG");
    let request = secret("CERTIFICATE REQUEST", "MIHsMFcG");
    let glued = good.chain_pem.trim_end().to_owned() + &secret("PRIVATE KEY", "MIGHAgEA");
    let cut_key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA";
    let (bundle, ssh) = (secret("PKCS7", "MIIB"), secret("OPENSSH PRIVATE KEY", "b3Bl"));
    let wide = authority.directory().join("wide.pem");
    std::fs::write(&wide, [0xff, 0xfe, b'-', 0, b'-', 0]).unwrap();
    let cases: [(&Path, &Path, &str); 21] = [
        (Path::new("/nonexistent/a.crt"), &good.key_path, "cannot read /nonexistent/a.crt"),
        (&good.chain_path, Path::new("/nonexistent/a.key"), "cannot read /nonexistent/a.key"),
        (&text("empty", ""), &good.key_path, "holds no certificate, it is empty"),
        (&text("blank", "\n"), &good.key_path, "holds no certificate, it is empty"),
        (&good.key_path, &good.key_path, "holds no certificate but a private key"),
        (&text("request", &request), &good.key_path, "but a certificate request"),
        (&text("der", "0\u{1}"), &good.key_path, "it looks like DER"),
        (&good.chain_path, &good.chain_path, "holds no private key but a certificate"),
        (&good.chain_path, &text("sec1", &sec1), "it is encrypted"),
        (&good.chain_path, &text("pkcs8", &pkcs8), "it is encrypted"),
        (&good.chain_path, &text("cut-key", cut_key), "an END line is missing"),
        (&text("bundle", &bundle), &good.key_path, "but a bundle of PKCS#7"),
        (&good.chain_path, &text("ssh", &ssh), "but one of OpenSSH's"),
        (&wide, &good.key_path, "it is UTF-16"),
        (&good.chain_path, &wide, "it is UTF-16"),
        (&good.chain_path, &text("indented", &format!(" {sec1}")), "it is encrypted"),
        (&good.chain_path, &text("glued", &glued), "holds no private key that can be read"),
        (&good.chain_path, authority.ca_path().parent().unwrap(), "Is a directory"),
        (&good.chain_path, &other.key_path, "does not belong to the certificate"),
        (&text("cut", &good.chain_pem[..200]), &good.key_path, "is not sound PEM"),
        (&text("junk", &(good.chain_pem.clone() + &garbage)), &good.key_path, "certificate 2 of"),
    ];
    for (chain, key, message) in cases {
        let mut world = World::new();
        world.chain("a", &good, ClientAuth::None);
        let files = &mut world.plan.downstream_tls[0].certificates[0];
        (files.chain, files.key) = (file(chain), file(key));
        let problems = problems(&world);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.contains(message), "{}", problems[0]);
        assert!(!problems[0].help.is_empty(), "{}", problems[0]);
        let place = problems[0].at.key.to_string();
        assert!([chain, key].iter().any(|path| place == path.display().to_string()), "{place}");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_told_and_never_waited_for() {
    let authority = Authority::new("CA");
    let pipe = authority.directory().join("pipe.crt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut world = World::new();
    let trust = world.trust(&authority);
    world.chain("a", &authority.server(&[NAME]), ClientAuth::Require(trust));
    world.plan.trusts[0].anchors = vec![file(&pipe)];
    let problems = problems(&world);
    assert!(problems[0].message.ends_with("is not a regular file"), "{problems:?}");
}

#[test]
fn trust_without_certificates_is_a_problem_and_never_no_authentication() {
    let authority = Authority::new("CA");
    let mut world = World::new();
    let trust = world.trust(&authority);
    world.chain("a", &authority.server(&[NAME]), ClientAuth::Require(trust));
    world.plan.trusts[0].anchors = vec![file(&authority.write("empty", "pem", "# nothing\n"))];
    let problems = problems(&world);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("holds no certificate"));
}

#[test]
fn an_anchor_that_can_vouch_for_nobody_is_warned_of() {
    let authority = Authority::new("CA");
    let good = authority.server(&[NAME]);
    let mut world = World::new();
    let trust = world.trust(&authority);
    world.chain("a", &good, ClientAuth::Require(trust));
    assert!(load(&world).warnings().is_empty());
    world.plan.trusts[0].anchors = vec![file(&good.chain_path)];
    let material = load(&world);
    let [warning] = material.warnings() else { panic!("{:?}", material.warnings()) };
    assert!(warning.message.contains("is not a CA's"), "{warning}");
}

#[test]
fn a_name_that_leads_to_a_chain_and_to_no_certificate_is_warned_of() {
    let authority = Authority::new("CA");
    let mut world = World::new();
    world.chain("a", &authority.server(&["a.test", "*.b.test"]), ClientAuth::None);
    let mut warned = |names: &[&str]| {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        world.plan.listeners[0].chains[0].matches.server_names = names;
        let material = load(&world);
        let warnings = material.warnings().iter().map(|warning| warning.message.clone());
        warnings.collect::<Vec<_>>()
    };
    assert!(warned(&["a.test", "x.b.test", "*.elsewhere.test"]).is_empty());
    let said = warned(&["a.test", "x.y.b.test", "b.test"]);
    let [said] = &said[..] else { panic!("{said:?}") };
    assert!(said.contains("is for x.y.b.test, and for 1 more of its server_names"), "{said}");
}

/// A chain file with these certificates in this order, and the key of the first identity.
fn in_order(authority: &Authority, identity: &Identity, order: &[usize]) -> CertificateFiles {
    let all = std::fs::read_to_string(&identity.chain_path).unwrap();
    let end = "-----END CERTIFICATE-----";
    let found: Vec<_> = all.split_inclusive(end).filter(|one| one.contains(end)).collect();
    let text: Vec<_> = order.iter().map(|number| found[*number]).collect();
    let name = format!("{order:?}");
    CertificateFiles {
        chain: file(&authority.write(&name, "crt", &text.join("\n"))),
        ..files(identity)
    }
}

#[test]
fn a_chain_file_in_the_wrong_order_is_called_so() {
    let authority = Authority::new("CA").intermediate("One").intermediate("Two");
    let identity = authority.server(&[NAME]);
    let mut world = World::new();
    world.chain("a", &identity, ClientAuth::None);
    for (order, expected) in [
        (&[0, 1, 2][..], Ok(None)),
        (&[0, 1], Ok(None)),
        (&[0], Ok(None)),
        (&[0, 2], Ok(None)),
        (
            &[0, 2, 1],
            Ok(Some("certificate 3 has issued certificate 1 and does not come right behind")),
        ),
        (&[1, 0, 2], Err("belongs to certificate 2")),
        (&[2, 1, 0], Err("belongs to certificate 3")),
        (&[1, 2], Err("does not belong to the certificate in")),
    ] {
        world.plan.downstream_tls[0].certificates = vec![in_order(&authority, &identity, order)];
        let loaded = Material::load(&world.plan, &world.stek, 1, unix_now, None);
        let told = match (&loaded, expected) {
            (Ok(material), Ok(expected)) => {
                assert_eq!(material.warnings().len(), expected.iter().len(), "{order:?}");
                material.warnings().first().zip(expected)
            }
            (Err(problems), Err(expected)) => Some((&problems[0], expected)),
            (loaded, _) => panic!("{order:?}: {loaded:?}"),
        };
        let Some((told, expected)) = told else { continue };
        assert!(told.message.contains(expected), "{order:?}: {told}");
        let is_order = !expected.contains("does not belong");
        assert_eq!(told.message.contains("is in the wrong order"), is_order, "{told}");
        assert_eq!(told.help.contains("then the one that issued it"), is_order, "{told}");
    }
}

#[test]
fn a_pair_whose_key_usage_lacks_digital_signature_is_warned_of() {
    use rcgen::KeyUsagePurpose::{DigitalSignature, KeyEncipherment};
    let authority = Authority::new("CA");
    for (usages, is_told) in
        [(&[][..], false), (&[DigitalSignature], false), (&[KeyEncipherment], true)]
    {
        let mut leaf = crate::chains::params(NAME);
        leaf.key_usages = usages.to_vec();
        let leaf = crate::chains::below(&crate::chains::root(), leaf);
        let mut world = World::new();
        world.chain("a", &authority.server(&[NAME]), ClientAuth::None);
        let pair = &mut world.plan.downstream_tls[0].certificates[0];
        pair.chain = file(&authority.write("usages", "crt", &leaf.pem()));
        pair.key = file(&authority.write("usages", "key", &leaf.key().serialize_pem()));
        let material = Material::load(&world.plan, &world.stek, 1, unix_now, None).unwrap();
        let told = material.warnings().iter().any(|one| one.message.contains("digitalSignature"));
        assert_eq!(told, is_told, "{usages:?}: {:?}", material.warnings());
    }
}

#[test]
fn a_pair_that_peers_refuse_for_its_purpose_or_without_a_name_is_warned_of() {
    let authority = Authority::new("CA");
    let issued = |purpose, names: &[&str]| {
        let dns = names.iter().map(|name| (*name).to_owned()).collect();
        authority.client(&ClientSpec { purpose, dns, ..ClientSpec::new("own") })
    };
    let warned = |own: &Identity, is_for_upstreams: bool| {
        let mut world = World::new();
        let trust = world.trust(&authority);
        if is_for_upstreams {
            world.upstream(trust, Some(own));
        } else {
            world.chain("a", own, ClientAuth::None);
        }
        let material = world.load();
        material.warnings().iter().map(|one| one.message.clone()).collect::<Vec<_>>()
    };
    for (purpose, is_for_upstreams, lacks) in [
        (Purpose::Client, false, Some("lacks serverAuth: clients refuse it")),
        (Purpose::Server, false, None),
        (Purpose::Unstated, false, None),
        (Purpose::Server, true, Some("lacks clientAuth: upstreams refuse it")),
        (Purpose::Client, true, None),
        (Purpose::Unstated, true, None),
    ] {
        let said = warned(&issued(purpose, &[NAME]), is_for_upstreams);
        assert_eq!(said.len(), usize::from(lacks.is_some()), "{purpose:?}: {said:?}");
        assert!(said.iter().zip(lacks).all(|(said, lacks)| said.ends_with(lacks)), "{said:?}");
    }
    let nameless = warned(&issued(Purpose::Server, &[]), false);
    let [said] = &nameless[..] else { panic!("{nameless:?}") };
    assert!(said.contains("no subject alternative name"), "{said}");
    assert!(warned(&issued(Purpose::Client, &[]), true).is_empty(), "upstreams ask for none");
}

#[test]
fn a_chain_without_an_intermediate_that_the_configuration_knows_is_warned_of_and_no_other() {
    let root = Authority::new("Root");
    let middle = root.intermediate("Middle");
    let (whole, short) = (middle.server(&["a.test"]), middle.server(&["b.test"]).leaf_only());
    let both = root.write("both", "pem", &format!("{}{}", root.ca_pem(), middle.ca_pem()));
    let warned = |chains: &[&Identity], anchors: &[&Path]| {
        let mut world = World::new();
        let trust = world.trust(&root);
        world.plan.trusts[0].anchors = anchors.iter().map(|path| file(path)).collect();
        for (number, identity) in chains.iter().enumerate() {
            world.chain(&number.to_string(), identity, ClientAuth::Require(trust));
        }
        let material = load(&world);
        let warnings =
            material.warnings().iter().map(|one| (one.at.key.to_string(), one.to_string()));
        warnings.collect::<Vec<_>>()
    };
    let place = short.chain_path.display().to_string();
    // Another chain has it, or it is believed beside its root.
    for (chains, anchors) in
        [(&[&whole, &short][..], &[root.ca_path()][..]), (&[&short], &[&*both])]
    {
        let told = warned(chains, anchors);
        let [(at, said)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*at, place);
        assert!(
            said.contains("ends with CN=b.test, and CN=Middle, which has issued that"),
            "{said}"
        );
        assert!(said.contains("append the certificate of the issuer"), "{said}");
    }
    // Nobody can tell: clients may believe the intermediate itself, or it is a root that is not here.
    assert!(warned(&[&short], &[root.ca_path()]).is_empty());
    assert!(warned(&[&short], &[middle.ca_path()]).is_empty());
    assert!(warned(&[&whole], &[&both]).is_empty());
    assert!(warned(&[&root.server(&["c.test"])], &[&both]).is_empty());
    // A root of the same name may be the one that has issued it.
    let renewed = Authority::new("Middle");
    assert!(warned(&[&short], &[&both, renewed.ca_path()]).is_empty());
}

#[test]
fn of_many_chains_whose_names_are_in_no_certificate_few_are_told_and_the_rest_counted() {
    let authority = Authority::new("CA");
    let identity = authority.server(&["a.test"]);
    let mut world = World::new();
    for number in 0..40 {
        world.chain(&format!("c{number}"), &identity, ClientAuth::None);
    }
    for (number, chain) in world.plan.listeners[0].chains.iter_mut().enumerate() {
        chain.matches.server_names = vec![format!("n{number}.test").parse().unwrap()];
    }
    let material = load(&world);
    let [first, .., last] = material.warnings() else { panic!("{:?}", material.warnings()) };
    assert_eq!(material.warnings().len(), 9);
    assert!(first.message.contains("is for n0.test"), "{first}");
    assert!(last.message.contains("32 more warnings of this kind"), "{last}");
}

#[test]
fn all_problems_come_at_once_and_each_once() {
    let authority = Authority::new("CA");
    let good = authority.server(&[NAME]);
    let mut world = World::new();
    let trust = world.trust(&authority);
    world.chain("a", &good, ClientAuth::Require(trust));
    world.chain("b", &good, ClientAuth::None);
    world.upstream(trust, Some(&good));
    let missing = file(Path::new("/nonexistent"));
    world.plan.downstream_tls[0].certificates[0].chain = missing.clone();
    world.plan.downstream_tls[1].crypto.versions =
        vec![portcullis::config::plan::TlsVersion::Tls12];
    world.plan.downstream_tls[1].crypto.cipher_suites =
        vec![portcullis::config::plan::CipherSuite::Tls13Aes128GcmSha256];
    world.plan.upstream_tls[0].certificate.as_mut().unwrap().key = file(Path::new("/gone"));
    world.plan.trusts[0].anchors.push(file(Path::new("/lost")));
    let found = problems(&world);
    assert_eq!(found.len(), 4, "{found:#?}");
    for (index, problem) in found.iter().enumerate() {
        assert!(!found[..index].contains(problem));
    }
}

#[test]
fn certificates_that_are_out_of_their_time_load_with_a_warning() {
    let authority = Authority::new("CA");
    for (validity, message) in
        [(Validity::Expired, "expired 1 day ago"), (Validity::NotYet, "is valid only in")]
    {
        let mut world = World::new();
        let server = authority.server_with(&[NAME], KeyKind::EcdsaP256, validity);
        world.chain("a", &server, ClientAuth::None);
        let material = world.load();
        assert_eq!(material.warnings().len(), 1);
        assert!(material.warnings()[0].message.contains(message), "{:?}", material.warnings());
    }
}

#[test]
fn key_that_everyone_may_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new("CA");
    let server = authority.server(&[NAME]);
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&server.key_path, mode).unwrap();
    let mut world = World::new();
    world.chain("a", &server, ClientAuth::None);
    let material = world.load();
    assert_eq!(material.warnings().len(), 1, "{:?}", material.warnings());
    assert!(material.warnings()[0].message.contains("mode 0644"));
}

#[test]
fn file_without_an_end_is_a_problem() {
    let authority = Authority::new("CA");
    let mut world = World::new();
    world.chain("a", &authority.server(&[NAME]), ClientAuth::None);
    let long = authority.write("long", "crt", "");
    std::fs::File::options().write(true).open(&long).unwrap().set_len(1 << 40).unwrap();
    for (path, what) in [(&*long, "is longer than"), (Path::new("/dev/zero"), "not a regular file")]
    {
        world.plan.downstream_tls[0].certificates[0].chain = file(path);
        let problems = problems(&world);
        assert!(problems[0].message.contains(what), "{problems:?}");
    }
}

#[test]
fn keys_of_every_kind_load() {
    let authority = Authority::new("CA");
    for kind in [KeyKind::EcdsaP256, KeyKind::Rsa2048, KeyKind::Ed25519] {
        let mut world = World::new();
        let server = authority.server_with(&[NAME], kind, Validity::Current);
        world.chain("a", &server, ClientAuth::None);
        world.load();
    }
    // The kit's clients are as good as its servers here.
    let mut world = World::new();
    world.chain("a", &authority.client(&ClientSpec::new("x")), ClientAuth::None);
    world.load();
}

#[test]
fn a_revocation_list_that_cannot_be_used_is_told_at_its_place() {
    let clients = Authority::new("Clients");
    let namesake = Authority::new("Clients");
    let other = Authority::new("Other");
    let good = clients.revocation_list(&[]);
    let half = &good[..good.len() / 2];
    let cases = [
        ("empty", String::new(), "holds no revocation list"),
        ("certificate", clients.ca_pem(), "holds no revocation list"),
        ("half", half.to_owned(), "is not sound PEM"),
        ("namesake", namesake.revocation_list(&[]), "is not signed by the anchor CN=Clients"),
        ("good", good.clone(), ""),
        // It may be that of an intermediate, which only clients send.
        ("other", other.revocation_list(&[]), ""),
    ];
    for (name, text, message) in cases {
        let mut world = World::new();
        let trust = world.trust(&clients);
        let path = clients.write(name, "crl", &text);
        world.plan.trusts[usize::from(trust.0)].crls = vec![file(&path)];
        world.plan.trusts[usize::from(trust.0)].revocation.check = RevocationCheck::Chain;
        if message.is_empty() {
            load(&world);
            continue;
        }
        let problems = problems(&world);
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert!(problems[0].message.contains(message), "{}", problems[0]);
        assert!(!problems[0].help.is_empty(), "{}", problems[0]);
        assert_eq!(&*problems[0].at.key, path.display().to_string());
    }
}

/// Files with two sections, of which a reader of PEM passes over one in silence.
fn half_read(first: &str, second: &str, label: &str) -> Vec<(&'static str, String)> {
    let named = |text: &str, name: &str| text.replace(label, &format!("{name} {label}"));
    let indented = |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<String>();
    vec![
        ("indented", indented(first) + second),
        ("of OpenSSL's own kind", named(first, "TRUSTED") + second),
        ("on the line of an END", first.trim_end().to_owned() + second),
    ]
}

#[test]
fn a_certificate_or_list_that_is_begun_and_not_read_is_never_passed_over() {
    let authority = Authority::new("CA");
    let other = Authority::new("Other");
    let (certificate, list) = (other.ca_pem(), other.revocation_list(&[]));
    let mut world = World::new();
    let trust = world.trust(&authority);
    world.chain("a", &authority.server(&[NAME]), ClientAuth::Require(trust));
    world.plan.trusts[0].revocation.check = RevocationCheck::Chain;
    for (what, text) in half_read(&certificate, &authority.ca_pem(), "CERTIFICATE") {
        world.plan.trusts[0].anchors = vec![file(&authority.write("half", "crt", &text))];
        let problems = problems(&world);
        assert_eq!(problems.len(), 1, "{what}: {problems:?}");
        let message = "begins 2 times with CERTIFICATE, and 1 of them can be read";
        assert!(problems[0].message.contains(message), "{what}: {}", problems[0]);
    }
    world.plan.trusts[0].anchors = vec![file(authority.ca_path())];
    for (what, text) in half_read(&list, &authority.revocation_list(&[]), "X509 CRL") {
        world.plan.trusts[0].crls = vec![file(&authority.write("half", "crl", &text))];
        let problems = problems(&world);
        assert_eq!(problems.len(), 1, "{what}: {problems:?}");
        assert!(problems[0].message.contains("begins 2 times"), "{what}: {}", problems[0]);
    }
}

#[test]
fn what_editors_and_openssl_put_around_pem_is_no_part_of_it() {
    let authority = Authority::new("CA");
    let other = Authority::new("Other");
    let both = authority.ca_pem() + &other.ca_pem();
    let server = authority.server(&[NAME]);
    let commented: String = other.ca_pem().lines().map(|line| format!("# {line}\n")).collect();
    for (what, text, anchors) in [
        ("a byte order mark", format!("\u{feff}{both}"), 2),
        ("ends of lines as on Windows", both.replace('\n', "\r\n"), 2),
        ("text", format!("Certificate:\n    Data:\n{both}\nthe end"), 2),
        ("comments", commented + &both, 2),
        (
            "a request",
            format!(
                "{both}-----BEGIN CERTIFICATE REQUEST-----\nMIHs\n-----END CERTIFICATE REQUEST-----\n"
            ),
            2,
        ),
    ] {
        let mut world = World::new();
        let trust = world.trust(&authority);
        world.chain("a", &server, ClientAuth::Require(trust));
        world.plan.trusts[0].anchors = vec![file(&authority.write("around", "crt", &text))];
        assert_eq!(load(&world).trusts()[0].anchors().len(), anchors, "{what}");
    }
    let mut world = World::new();
    world.chain("a", &server, ClientAuth::None);
    let marked = |name: &str, path: &Path| {
        let text = format!("\u{feff}{}", std::fs::read_to_string(path).unwrap());
        file(&authority.write(name, "pem", &text))
    };
    let files = &mut world.plan.downstream_tls[0].certificates[0];
    files.chain = marked("chain", &server.chain_path);
    files.key = marked("key", &server.key_path);
    world.load();
}

#[test]
fn a_revocation_list_loads_from_der_and_an_older_one_beside_it_is_not_used() {
    let clients = Authority::new("Clients");
    let list = clients.revocation_list(&[]);
    let mut world = World::new();
    let trust = world.trust(&clients);
    let pem = clients.write("list", "crl", &list);
    let der = clients.directory().join("list.der");
    let status = std::process::Command::new("openssl")
        .args(["crl", "-outform", "der", "-in"])
        .arg(&pem)
        .arg("-out")
        .arg(&der)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "openssl converts the list");
    let old = clients.revocation_list_of(&[], Validity::Expired);
    let old = clients.write("old", "crl", &old);
    let trust = &mut world.plan.trusts[usize::from(trust.0)];
    trust.crls = vec![file(&old), file(&der)];
    trust.revocation.check = RevocationCheck::Chain;
    let material = load(&world);
    let warnings = material.warnings().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(warnings.iter().any(|one| one.contains("is no newer than another")), "{warnings:?}");
}
