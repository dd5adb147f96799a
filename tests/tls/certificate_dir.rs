//! Many certificates in a directory: each client gets that of its name, what is broken is refused by
//! itself, and a reload touches nothing that has not changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis::config::plan::ClientAuth;
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::core::route::ChainId;
use portcullis::tls::downstream::{DownstreamTerms, HelloFacts};
use portcullis::tls::material::Material;
use portcullis::tls::{DirectoryNote, UnixClock};
use portcullis_kit::{Authority, Identity, KeyKind, Validity};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::support::*;

/// A directory of pairs, and a chain that is served from it.
struct Directory {
    authority: Authority,
    place: TempDir,
    world: World,
    chain: ChainId,
}

impl Directory {
    fn new() -> Self {
        let (authority, place) = (Authority::new("CA"), TempDir::new().unwrap());
        let mut world = World::new();
        let chain = world.chain("many", &authority.server(&[NAME]), ClientAuth::None);
        let terms = &mut world.plan.downstream_tls[0];
        terms.certificates.clear();
        terms.certificate_dir = Some(file(place.path()));
        Self { authority, place, world, chain }
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    /// `NAME.crt` and `NAME.key`, for a certificate of the name.
    fn add(&self, name: &str) -> Identity {
        let identity = self.authority.server(&[name]);
        self.put(name, &identity, &identity);
        identity
    }

    fn put(&self, stem: &str, chain: &Identity, key: &Identity) {
        fs::write(self.path().join(format!("{stem}.crt")), &chain.chain_pem).unwrap();
        self.put_key(stem, key);
    }

    fn put_key(&self, stem: &str, key: &Identity) {
        write_key(&self.path().join(format!("{stem}.key")), &key.key_pem);
    }

    fn load(&self, previous: Option<&Material>) -> Material {
        self.load_at(unix_now, previous)
    }

    fn load_at(&self, clock: UnixClock, previous: Option<&Material>) -> Material {
        Material::load(&self.world.plan, &self.world.stek, 1, clock, previous).unwrap()
    }

    fn terms<'a>(&self, material: &'a Material) -> &'a Arc<DownstreamTerms> {
        material.downstream(0, self.chain).unwrap()
    }

    /// The leaf that a client of this name is shown.
    fn shown(&self, material: &Material, name: &str) -> Result<CertificateDer<'static>, Refusal> {
        self.shown_by(material, name, &rustls::version::TLS13)
    }

    fn shown_by(
        &self,
        material: &Material,
        name: &str,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Result<CertificateDer<'static>, Refusal> {
        let config = Arc::new(client_config(self.authority.roots(), version, None));
        let mut peer = client(&config, name);
        handshake(self.terms(material), &mut peer, name).map_err(|(refusal, error)| {
            let says = error.map(|error| error.to_string()).unwrap_or_default();
            let alert = refusal.alert.unwrap();
            assert!(says.contains("received fatal alert"), "{alert}: {says}");
            refusal
        })?;
        Ok(peer.peer_certificates().unwrap()[0].clone().into_owned())
    }
}

fn write_key(path: &Path, pem: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, pem).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn note(material: &Material) -> DirectoryNote {
    let mut notes = material.directories(unix_now());
    let note = notes.next().unwrap();
    assert!(notes.next().is_none());
    note
}

fn refused(shown: Result<CertificateDer<'static>, Refusal>) -> (Reason, Option<u8>, String) {
    let refusal = shown.unwrap_err();
    (refusal.reason, refusal.alert, refusal.detail)
}

#[test]
fn each_client_gets_the_certificate_of_its_name_however_the_files_lie() {
    let directory = Directory::new();
    let split = directory.add("split.test");
    let joined = directory.authority.server(&["joined.test"]);
    let both = format!("{}{}", joined.key_pem, joined.chain_pem);
    write_key(&directory.path().join("Joined.test.pem"), &both);
    let secret = directory.authority.server(&["secret.test"]);
    // As Kubernetes mounts a secret: the files are links to what is swapped as a whole.
    let folder = directory.path().join("secret.test");
    fs::create_dir_all(folder.join("..2026")).unwrap();
    fs::write(folder.join("..2026/tls.crt"), &secret.chain_pem).unwrap();
    write_key(&folder.join("..2026/tls.key"), &secret.key_pem);
    symlink("..2026", folder.join("..data")).unwrap();
    symlink("..data/tls.crt", folder.join("tls.crt")).unwrap();
    symlink("..data/tls.key", folder.join("tls.key")).unwrap();
    let wildcard = directory.authority.server(&["*.wild.test"]);
    directory.put("_wildcard.wild.test", &wildcard, &wildcard);
    let named = directory.add("own.wild.test");
    let material = directory.load(None);
    assert!(material.warnings().is_empty(), "{:?}", material.warnings());
    for version in VERSIONS {
        for (name, identity) in [
            ("split.test", &split),
            ("joined.test", &joined),
            ("secret.test", &secret),
            ("any.wild.test", &wildcard),
            ("own.wild.test", &named),
        ] {
            let shown = directory.shown_by(&material, name, version).unwrap();
            assert_eq!(&shown, identity.leaf(), "{name}");
        }
    }
    assert_eq!(note(&material).pairs, 5);
}

#[test]
fn a_name_without_a_pair_is_refused_with_unrecognized_name_and_gets_no_other_certificate() {
    let directory = Directory::new();
    directory.add("a.test");
    let wildcard = directory.authority.server(&["*.wild.test"]);
    directory.put("_wildcard.wild.test", &wildcard, &wildcard);
    let material = directory.load(None);
    for name in ["b.test", "x.a.test", "wild.test", "x.y.wild.test"] {
        for version in VERSIONS {
            let (reason, alert, detail) = refused(directory.shown_by(&material, name, version));
            assert_eq!((reason, alert), (Reason::NoCertificateForName, Some(112)), "{name}");
            assert!(detail.contains(name), "{detail}");
        }
    }
    assert_eq!(note(&material).loads, 0, "nothing was read for them");
}

#[test]
fn a_client_without_sni_is_refused() {
    let directory = Directory::new();
    directory.add("a.test");
    let material = directory.load(None);
    let mut config = client_config(directory.authority.roots(), &rustls::version::TLS13, None);
    config.enable_sni = false;
    let mut peer = client(&Arc::new(config), "a.test");
    let hello = HelloFacts { sni: None, ..hello(NAME) };
    let server = begin(directory.terms(&material), hello);
    let (refusal, _) = drive(server, &mut peer, usize::MAX).err().unwrap();
    assert_eq!((refusal.reason, refusal.alert), (Reason::NoCertificateForName, Some(112)));
    assert!(refusal.detail.contains("no SNI"), "{refusal}");
}

// threat 36
#[test]
fn a_broken_pair_is_refused_by_itself_and_named() {
    let directory = Directory::new();
    let good = directory.add("good.test");
    let other = directory.authority.server(&["mixed.test"]);
    directory.put("mixed.test", &other, &good);
    fs::write(directory.path().join("junk.test.pem"), "junk").unwrap();
    fs::write(directory.path().join("half.test.crt"), &good.chain_pem).unwrap();
    fs::create_dir(directory.path().join("empty.test")).unwrap();
    let fifo = directory.path().join("fifo.test.pem");
    assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    let material = directory.load(None);
    let [warning] = material.warnings() else { panic!("{:?}", material.warnings()) };
    assert!(warning.message.contains("half.test.crt is there without"), "{warning}");
    for (name, says) in [
        ("mixed.test", "does not belong to the certificate"),
        ("junk.test", "junk.test.pem holds no certificate"),
        ("half.test", "half.test.key: No such file"),
        ("empty.test", "empty.test/tls.crt: No such file"),
        ("fifo.test", "fifo.test.pem is not a regular file"),
    ] {
        for _ in 0..2 {
            let (reason, alert, detail) = refused(directory.shown(&material, name));
            assert_eq!((reason, alert), (Reason::CertificateUnavailable, Some(80)), "{name}");
            assert!(detail.contains(says), "{detail}");
        }
    }
    assert_eq!(&directory.shown(&material, "good.test").unwrap(), good.leaf());
    let note = note(&material);
    assert_eq!((note.loaded, note.unusable), (1, 5));
    assert_eq!(note.loads, 6, "a crowd of clients has it read once");
    let told = material.check_directories();
    assert_eq!(told.len(), 5, "{told:?}");
}

#[test]
fn a_broken_pair_is_looked_at_again_after_a_while() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    fn clock() -> u64 {
        NOW.load(Ordering::Relaxed)
    }
    NOW.store(unix_now(), Ordering::Relaxed);
    let directory = Directory::new();
    let (old, new) = (directory.add("a.test"), directory.authority.server(&["a.test"]));
    directory.put("a.test", &new, &old);
    let material = directory.load_at(clock, None);
    assert!(directory.shown(&material, "a.test").is_err());
    directory.put_key("a.test", &new);
    assert!(directory.shown(&material, "a.test").is_err(), "not for each client");
    NOW.fetch_add(5, Ordering::Relaxed);
    assert_eq!(&directory.shown(&material, "a.test").unwrap(), new.leaf());
}

#[test]
fn loading_reads_no_pair_and_each_is_read_once_however_many_ask() {
    let directory = Directory::new();
    let names: Vec<String> = (0..8).map(|number| format!("n{number}.test")).collect();
    for name in &names {
        directory.add(name);
    }
    let material = directory.load(None);
    assert_eq!((note(&material).pairs, note(&material).loads), (8, 0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for name in &names[..3] {
                    directory.shown(&material, name).unwrap();
                }
            });
        }
    });
    let note = note(&material);
    assert_eq!((note.loads, note.loaded), (3, 3));
    let (file, end) = note.earliest.unwrap();
    assert!(file.starts_with(directory.path()) && end > unix_now(), "{file:?}");
}

// threat 36
#[test]
fn a_reload_reads_what_has_changed_and_nothing_else() {
    let directory = Directory::new();
    let (same, old) = (directory.add("same.test"), directory.add("changed.test"));
    directory.add("gone.test");
    directory.add("late.test");
    let before = directory.load(None);
    for name in ["same.test", "changed.test", "gone.test"] {
        directory.shown(&before, name).unwrap();
    }
    let new = directory.add("changed.test");
    let added = directory.add("added.test");
    for end in ["crt", "key"] {
        fs::remove_file(directory.path().join(format!("gone.test.{end}"))).unwrap();
    }
    let after = directory.load(Some(&before));
    assert_eq!(note(&after).loads, 4, "three before, and the one that changed");
    assert_eq!(&directory.shown(&after, "changed.test").unwrap(), new.leaf());
    assert_eq!(&directory.shown(&after, "same.test").unwrap(), same.leaf());
    assert_eq!(note(&after).loads, 4, "both were in memory");
    assert_eq!(&directory.shown(&after, "added.test").unwrap(), added.leaf());
    let (reason, ..) = refused(directory.shown(&after, "gone.test"));
    assert_eq!(reason, Reason::NoCertificateForName);
    // A connection that began before goes on with what was there.
    assert_eq!(&directory.shown(&before, "changed.test").unwrap(), old.leaf());
    let loads = note(&after).loads;
    directory.shown(&before, "late.test").unwrap();
    assert_eq!(note(&after).loads, loads + 1, "a counter takes nothing back at a reload");
}

// threat 36
#[test]
fn a_pair_that_is_half_replaced_is_served_as_it_was_until_it_is_whole() {
    let directory = Directory::new();
    let (old, new) = (directory.add("a.test"), directory.authority.server(&["a.test"]));
    let first = directory.load(None);
    directory.shown(&first, "a.test").unwrap();
    directory.put("a.test", &new, &old);
    let second = directory.load(Some(&first));
    let [warning] = second.warnings() else { panic!("{:?}", second.warnings()) };
    for part in ["a.test.key", "does not belong to the certificate", "stays"] {
        assert!(warning.message.contains(part), "{warning}");
    }
    assert_eq!(&directory.shown(&second, "a.test").unwrap(), old.leaf());
    fs::remove_file(directory.path().join("a.test.key")).unwrap();
    let third = directory.load(Some(&second));
    assert_eq!(&directory.shown(&third, "a.test").unwrap(), old.leaf());
    directory.put_key("a.test", &new);
    let fourth = directory.load(Some(&third));
    assert!(fourth.warnings().is_empty(), "{:?}", fourth.warnings());
    assert_eq!(&directory.shown(&fourth, "a.test").unwrap(), new.leaf());
}

#[test]
fn sessions_resume_with_certificates_of_a_directory() {
    let directory = Directory::new();
    directory.add("a.test");
    let material = directory.load(None);
    let terms = directory.terms(&material);
    for version in VERSIONS {
        let config = Arc::new(client_config(directory.authority.roots(), version, None));
        for is_resumed in [false, true] {
            let mut peer = client(&config, "a.test");
            let done = handshake(terms, &mut peer, "a.test").map_err(|error| error.0).unwrap();
            assert_eq!(done.facts.negotiated.resumed, is_resumed);
        }
    }
}

#[test]
fn a_certificate_for_another_name_and_one_that_ends_soon_are_served() {
    let directory = Directory::new();
    let other = directory.authority.server(&["other.test"]);
    directory.put("a.test", &other, &other);
    let day = std::time::Duration::from_secs(86_400);
    let ending =
        directory.authority.server_with(&["b.test"], KeyKind::Ed25519, Validity::For(day * 5));
    directory.put("b.test", &ending, &ending);
    let material = directory.load(None);
    // The client that checks names is the one that refuses; an SNI that nothing checks is served.
    let config =
        Arc::new(client_config(directory.authority.roots(), &rustls::version::TLS13, None));
    let mut peer = client(&config, "a.test");
    let server = begin(directory.terms(&material), hello("a.test"));
    let refusal = drive(server, &mut peer, usize::MAX).err().unwrap().0;
    assert_eq!(refusal.reason, Reason::ClientAlert, "{refusal}");
    assert_eq!(&directory.shown(&material, "b.test").unwrap(), ending.leaf());
    let note = note(&material);
    assert_eq!((note.due.soon, note.due.urgent, note.due.expired), (0, 1, 0));
    let told: Vec<String> =
        material.check_directories().into_iter().map(|one| one.message).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("is not for the name of its file but for other.test"), "{told:?}");
    assert!(told[1].contains("expires in 4 days") || told[1].contains("expires in 5 days"));
}

#[test]
fn a_directory_that_cannot_be_listed_is_a_problem_and_an_empty_one_a_warning() {
    let mut directory = Directory::new();
    let material = directory.load(None);
    let [warning] = material.warnings() else { panic!("{:?}", material.warnings()) };
    assert!(warning.message.contains("holds no certificate"), "{warning}");
    for (path, says) in [("/nonexistent", "No such file"), ("/dev/null", "Not a directory")] {
        directory.world.plan.downstream_tls[0].certificate_dir = Some(file(Path::new(path)));
        let world = &directory.world;
        let found = Material::load(&world.plan, &world.stek, 1, unix_now, None).unwrap_err();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.contains(says), "{}", found[0]);
        assert!(!found[0].help.is_empty());
    }
}

#[test]
fn keys_that_everyone_may_read_are_warned_of_once_for_all() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    for name in ["a.test", "b.test", "c.test"] {
        directory.add(name);
        let key = directory.path().join(format!("{name}.key"));
        fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let material = directory.load(None);
    let [warning] = material.warnings() else { panic!("{:?}", material.warnings()) };
    assert!(warning.message.contains("mode 0644"), "{warning}");
}
