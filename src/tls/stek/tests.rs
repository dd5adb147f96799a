//! Keys of every source: which seals, which open, and what a reload leaves of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::*;
use crate::config::plan::FileRef;
use crate::core::ticket_roots::TicketRoots;

const HOUR: u64 = 3600;
const ROTATE: Duration = Duration::from_secs(HOUR);
const LIFETIME: Duration = Duration::from_secs(3 * HOUR);
const NOW: u64 = 500_000 * HOUR + 600;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> FileRef {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let at = Location {
            file: Arc::new(PathBuf::from("test.toml")),
            line: 7,
            column: 3,
            key: Arc::from(name),
        };
        FileRef { path, at }
    }

    fn root(&self, name: &str, secret: &[u8; 32]) -> TicketSource {
        TicketSource::Root(self.write(name, TicketRoots::new(secret).render().as_bytes()))
    }

    fn keys(&self, files: &[(&str, &[u8])]) -> TicketSource {
        TicketSource::Keys(files.iter().map(|(name, bytes)| self.write(name, bytes)).collect())
    }
}

fn fresh<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

fn load(source: &TicketSource, now: u64) -> StekKeys {
    StekKeys::load(source, ROTATE, LIFETIME, now).unwrap()
}

fn reload(keys: &StekKeys, source: &TicketSource) -> Result<Reloaded, Vec<Problem>> {
    keys.reload(source, ROTATE, LIFETIME, NOW)
}

fn problems(source: &TicketSource) -> Vec<Problem> {
    StekKeys::load(source, ROTATE, LIFETIME, NOW).unwrap_err()
}

fn sealing(keys: &StekKeys) -> [u8; KEY_ID_BYTES] {
    keys.keys().current().unwrap().id
}

fn opens(keys: &StekKeys, id: [u8; KEY_ID_BYTES]) -> bool {
    keys.keys().find(&id).is_some()
}

fn roles(keys: &StekKeys) -> Vec<&'static str> {
    keys.status().iter().map(|one| one.role.name()).collect()
}

fn random() -> StekKeys {
    StekKeys::random(ROTATE, LIFETIME, 10 * HOUR).unwrap()
}

#[test]
fn a_key_lives_as_long_as_its_tickets() {
    let keys = random();
    let first = sealing(&keys);
    for hour in 11..=13 {
        let next = (hour + 1) * HOUR;
        assert_eq!(keys.rotate(hour * HOUR), Rotation { turned: true, next });
        assert_eq!(keys.rotate(hour * HOUR + 9), Rotation { turned: false, next });
        assert!(opens(&keys, first), "hour {hour}");
        assert_ne!(sealing(&keys), first);
    }
    keys.rotate(14 * HOUR);
    assert!(!opens(&keys, first));
}

// threat 38
#[test]
fn a_clock_that_goes_back_by_less_than_tickets_live_changes_nothing() {
    let keys = random();
    keys.rotate(12 * HOUR);
    let current = sealing(&keys);
    assert!(!keys.rotate(10 * HOUR).turned);
    assert_eq!(sealing(&keys), current);
}

// threat 38
#[test]
fn random_keys_are_drawn_anew_after_a_clock_that_was_off_by_more_than_tickets_live() {
    for (wrong, right) in [(NOW + 9000 * HOUR, NOW), (0, NOW)] {
        let keys = random();
        keys.rotate(wrong);
        let before: Vec<_> = keys.status().into_iter().map(|key| key.id).collect();
        assert!(keys.rotate(right).turned, "{wrong}");
        assert!(keys.status().iter().all(|key| !before.contains(&key.id)), "{wrong}");
        // And go on from there.
        assert!(!keys.rotate(right).turned, "{wrong}");
        assert!(keys.rotate(right + HOUR).turned, "{wrong}");
        assert!(keys.key_count() > 2, "{wrong}");
    }
}

/// A machine that starts with a clock far ahead and is then put right would else be alone.
// threat 38
#[test]
fn keys_of_a_root_follow_a_clock_that_is_put_right() {
    let folder = Folder::new();
    let source = folder.root("root", &fresh());
    let (right, wrong) = (load(&source, NOW), load(&source, NOW + 9000 * HOUR));
    assert_ne!(sealing(&wrong), sealing(&right));
    assert!(wrong.rotate(NOW).turned);
    assert_eq!(sealing(&wrong), sealing(&right));
    assert_eq!(wrong.status(), right.status());
}

// threat 46
#[test]
fn debug_shows_no_key() {
    assert!(format!("{:?}", random()).starts_with("StekKeys { keys: "));
}

#[test]
fn nodes_with_the_same_root_hold_the_same_keys_and_with_others_none() {
    let folder = Folder::new();
    let secret = fresh();
    let [one, two] = [folder.root("one", &secret), folder.root("two", &secret)];
    let old = load(&one, NOW - 40 * HOUR);
    old.rotate(NOW);
    let (young, other) = (load(&two, NOW), load(&folder.root("other", &fresh()), NOW));
    assert_eq!(old.status(), young.status());
    assert_eq!(old.fingerprint(), young.fingerprint());
    assert_eq!(roles(&young), ["seals", "opens", "opens", "opens", "next"]);
    let epoch = young.status()[0].epoch.unwrap();
    assert_eq!((epoch.seals_from, epoch.seals_until), (NOW - 600, NOW - 600 + HOUR));
    assert_eq!(epoch.opens_until, NOW - 600 + 4 * HOUR);
    assert!(!opens(&other, sealing(&young)) && !opens(&young, sealing(&other)));
    assert_ne!(other.fingerprint(), young.fingerprint());
    assert_eq!(random().fingerprint(), None);
}

/// The order of `keys` is that of the reference: next, current, previous.
#[test]
fn the_second_newest_of_several_keys_seals_and_all_open() {
    let folder = Folder::new();
    let [next, current, previous]: [[u8; 80]; 3] = [fresh(), fresh(), fresh()];
    let three = load(&folder.keys(&[("n", &next), ("c", &current), ("p", &previous)]), NOW);
    let alone = |bytes: &[u8]| sealing(&load(&folder.keys(&[("alone", bytes)]), NOW));
    assert_eq!(sealing(&three), alone(&current));
    assert!(opens(&three, alone(&next)) && opens(&three, alone(&previous)));
    assert_eq!(roles(&three), ["seals", "opens", "next"]);
    let two = load(&folder.keys(&[("n", &next), ("c", &current)]), NOW);
    assert_eq!(sealing(&two), alone(&current));
    assert_eq!(roles(&two), ["seals", "next"]);
    assert_eq!(roles(&load(&folder.keys(&[("c", &current)]), NOW)), ["seals"]);
    assert_eq!(three.rotate(NOW + 900 * HOUR), Rotation { turned: false, next: u64::MAX });

    // HAProxy appends: its newest key is the last line.
    let lines = [previous, current, next].map(|key| STANDARD.encode(key)).join("\n");
    let list = load(&folder.keys(&[("list", lines.as_bytes())]), NOW);
    assert_eq!(list.fingerprint(), three.fingerprint());
    assert_eq!(sealing(&list), sealing(&three));
    let file = folder.path("list").into();
    assert_eq!(list.status()[0].origin, StekOrigin::File { file, line: 2 });
    let turned = load(&folder.keys(&[("n", &current), ("c", &next), ("p", &previous)]), NOW);
    assert_ne!(turned.fingerprint(), three.fingerprint(), "another key seals");
}

/// A rotation by files: no node ever seals with a key that another cannot open.
#[test]
fn files_that_move_on_by_one_never_seal_with_a_key_that_is_new_to_others() {
    let folder = Folder::new();
    let keys: Vec<[u8; 48]> = (0..6).map(|_| fresh()).collect();
    let at = |turn: usize| {
        let [next, current, previous] = [keys[turn + 2], keys[turn + 1], keys[turn]];
        load(&folder.keys(&[("n", &next), ("c", &current), ("p", &previous)]), NOW)
    };
    for turn in 0..3 {
        let (behind, ahead) = (at(turn), at(turn + 1));
        assert!(opens(&behind, sealing(&ahead)) && opens(&ahead, sealing(&behind)));
    }
}

// threat 21
#[test]
fn every_unsound_file_is_told_at_its_place_with_help() {
    let folder = Folder::new();
    let good: [u8; 80] = fresh();
    let bad: [(&str, Vec<u8>, &str); 6] = [
        ("empty", vec![], "is empty"),
        ("short", vec![1; 20], "is 20 bytes long"),
        ("zero", vec![0; 48], "all its bytes are zero"),
        ("text", b"0123456789abcdef0123456789ABCDEF+-*/%$0123456789".to_vec(), "it is text"),
        ("pem", b"-----BEGIN CERTIFICATE-----\n".to_vec(), "holds PEM"),
        ("root", TicketRoots::new(&fresh()).render().as_bytes().to_vec(), "holds roots"),
    ];
    let files: Vec<(&str, &[u8])> =
        bad.iter().map(|(name, bytes, _)| (*name, &bytes[..])).chain([("ok", &good[..])]).collect();
    let found = problems(&folder.keys(&files));
    assert_eq!(found.len(), bad.len(), "{found:#?}");
    for (problem, (name, _, words)) in found.iter().zip(&bad) {
        assert_eq!((&*problem.at.key, problem.at.line), (*name, 7));
        let path = folder.path(name).display().to_string();
        assert!(problem.message.starts_with(&path), "{problem}");
        assert!(problem.message.contains(words) && !problem.help.is_empty(), "{problem}");
    }
    for (name, bytes) in [("key", &good[..]), ("nothing", b""), ("pem", b"-----BEGIN RSA")] {
        let [problem] = &problems(&TicketSource::Root(folder.write(name, bytes)))[..] else {
            panic!("one problem")
        };
        assert!(problem.message.contains(name) && problem.help.contains("stek init"), "{problem}");
    }
}

// threat 21
#[test]
fn a_key_that_is_there_twice_is_refused() {
    let folder = Folder::new();
    let (key, other): ([u8; 80], [u8; 80]) = (fresh(), fresh());
    let found = problems(&folder.keys(&[("a", &key), ("b", &other), ("c", &key)]));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(&*found[0].at.key, "c");
    assert!(found[0].message.contains("holds the same key as"), "{}", found[0]);
    let lines = [key, other, key].map(|key| STANDARD.encode(key)).join("\n");
    let found = problems(&folder.keys(&[("list", lines.as_bytes())]));
    assert!(found[0].message.contains("list:1 holds the same key as"), "{}", found[0]);
    assert!(found[0].message.ends_with("list:3"), "{}", found[0]);
    let list = STANDARD.encode(key);
    let found = problems(&folder.keys(&[("a", &other), ("list", list.as_bytes())]));
    assert!(found[0].message.ends_with("is a list of keys, and not alone"), "{}", found[0]);
}

// threat 21
#[test]
fn a_file_that_the_group_can_write_is_refused_whatever_the_source() {
    let folder = Folder::new();
    let key: [u8; 48] = fresh();
    for source in [folder.root("file", &fresh()), folder.keys(&[("file", &key)])] {
        let path = folder.path("file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        let found = problems(&source);
        assert!(found[0].message.contains("has mode 0660"), "{}", found[0]);
        assert!(found[0].help.contains("chmod 0600"), "{}", found[0]);
    }
}

#[test]
fn a_reload_swaps_to_what_the_files_say_and_keeps_the_keys_when_they_say_nothing() {
    let folder = Folder::new();
    let source = folder.root("root", &fresh());
    let keys = load(&source, NOW);
    let first = sealing(&keys);
    assert_eq!(reload(&keys, &source), Ok(Reloaded::Same));
    assert_eq!(keys.reload(&source, ROTATE, LIFETIME, NOW + HOUR), Ok(Reloaded::Same));
    assert_eq!(reload(&keys, &source), Ok(Reloaded::Same));

    let held = keys.status();
    fs::write(folder.path("root"), "half a fi").unwrap();
    assert_eq!(reload(&keys, &source).unwrap_err().len(), 1);
    fs::remove_file(folder.path("root")).unwrap();
    reload(&keys, &source).unwrap_err();
    assert_eq!(keys.status(), held, "the old keys are kept");

    // Another root in the same file: a revocation.
    let source = folder.root("root", &fresh());
    assert_eq!(reload(&keys, &source), Ok(Reloaded::Changed));
    assert!(!opens(&keys, first));
}

#[test]
fn a_change_of_the_source_swaps_all_keys() {
    let folder = Folder::new();
    let (one, two): ([u8; 48], [u8; 48]) = (fresh(), fresh());
    let sources = [
        TicketSource::Auto,
        folder.root("root", &fresh()),
        folder.keys(&[("one", &one), ("two", &two)]),
        TicketSource::Auto,
        folder.keys(&[("two", &two), ("one", &one)]),
        folder.root("root", &fresh()),
    ];
    let keys = load(&sources[0], NOW);
    for source in &sources[1..] {
        let before = sealing(&keys);
        assert_eq!(reload(&keys, source), Ok(Reloaded::Changed));
        assert!(!opens(&keys, before), "{source:?}");
    }
}

#[test]
fn random_keys_outlive_a_reload_and_a_change_of_times() {
    let keys = load(&TicketSource::Auto, NOW);
    let first = sealing(&keys);
    keys.rotate(NOW + HOUR);
    let second = sealing(&keys);
    let now = NOW + HOUR;
    let same = keys.reload(&TicketSource::Auto, ROTATE, LIFETIME, now);
    assert_eq!((same, sealing(&keys)), (Ok(Reloaded::Same), second));
    for rotate in [600, 7 * HOUR, 60, HOUR] {
        let times = (Duration::from_secs(rotate), LIFETIME);
        let changed = keys.reload(&TicketSource::Auto, times.0, times.1, now);
        assert_eq!((changed, sealing(&keys)), (Ok(Reloaded::Changed), second), "{rotate}");
        assert!(opens(&keys, first), "{rotate}");
        let next = (now / rotate + 1) * rotate;
        assert_eq!(keys.rotate(now), Rotation { turned: false, next });
    }
    // Once their tickets are dead they go, as ever.
    keys.rotate(now + 3 * HOUR);
    assert!(opens(&keys, second));
    keys.rotate(now + 5 * HOUR);
    assert!(!opens(&keys, first) && !opens(&keys, second));
}

#[test]
fn times_that_make_no_schedule_have_a_place() {
    let folder = Folder::new();
    for source in [TicketSource::Auto, folder.root("root", &fresh())] {
        let found = StekKeys::load(&source, Duration::ZERO, LIFETIME, NOW).unwrap_err();
        assert!(!found[0].at.key.is_empty() && !found[0].help.is_empty(), "{}", found[0]);
    }
}
