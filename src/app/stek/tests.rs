//! What `portcullis stek` writes, shows and refuses.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use clap::Parser;
use tempfile::TempDir;

use super::*;

const NOW: u64 = 1_800_000_000;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    stek: StekCommand,
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// `stek` with these words, `{}` being this folder.
    fn run(&self, words: &str, now: u64) -> Result<String, StekCommandError> {
        let words = words.replace("{}", self.0.path().to_str().unwrap());
        let cli =
            Cli::try_parse_from(["stek"].into_iter().chain(words.split_whitespace())).unwrap();
        let mut out = Vec::new();
        run(&cli.stek, now, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// A configuration with these lines for the tickets.
    fn configure(&self, tickets: &str) {
        let text = format!(
            "[session_tickets]\n{tickets}\n[listener.edge]\naddress = \"127.0.0.1:0\"\n\
             [listener.edge.chain.default]\ncluster = \"app\"\n[cluster.app]\n\
             endpoints = [\"127.0.0.1:1\"]\n"
        );
        fs::write(self.path("gateway.toml"), text).unwrap();
    }

    fn key(&self, name: &str) {
        fs::write(self.path(name), random_root().unwrap().as_slice()).unwrap();
        let mut key = fs::read(self.path(name)).unwrap();
        key.extend_from_slice(&random_root().unwrap()[..16]);
        fs::write(self.path(name), key).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn ids(&self, now: u64) -> Vec<String> {
        let shown = self.run("status -c {}/gateway.toml --json", now).unwrap();
        let page: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let keys = page["keys"].as_array().unwrap();
        keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Whether `text` holds a whole secret of a root file.
fn shows_a_secret(text: &str, file: &str) -> bool {
    let roots = file.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    roots.filter_map(|line| line.split(' ').nth(1)).any(|secret| text.contains(&secret[..12]))
}

#[test]
fn init_makes_a_file_that_a_node_takes_and_never_writes_over_one() {
    let folder = Folder::new();
    let said = folder.run("init {}/stek.root", NOW).unwrap();
    assert!(said.contains("source = { root = "), "{said}");
    assert_eq!(folder.mode("stek.root"), 0o600);
    let made = folder.read("stek.root");
    assert!(made.starts_with("# portcullis stek root 1\n"), "{made}");
    assert!(!shows_a_secret(&said, &made));
    let error = folder.run("init {}/stek.root", NOW).unwrap_err();
    assert!(error.to_string().contains("never overwritten"), "{error}");
    assert_eq!(folder.read("stek.root"), made);
    symlink("nowhere", folder.path("link")).unwrap();
    assert!(matches!(folder.run("init {}/link", NOW), Err(StekCommandError::Exists { .. })));
    assert!(matches!(folder.run("init {}/no/root", NOW), Err(StekCommandError::Write { .. })));
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 2, "nothing else is left");
    folder.run("init {}/other.root", NOW).unwrap();
    assert_ne!(folder.read("other.root"), made);
}

#[test]
fn status_shows_ids_roles_and_times_and_no_secret() {
    let folder = Folder::new();
    folder.run("init {}/stek.root", NOW).unwrap();
    folder.configure("source = { root = \"stek.root\" }\nlifetime = \"2h\"");
    let shown = folder.run("status -c {}/gateway.toml", NOW).unwrap();
    assert!(shown.contains("stek.root\ndigest    "), "{shown}");
    let roles: Vec<_> = shown.lines().skip_while(|line| !line.starts_with("KEY")).skip(1).collect();
    assert_eq!(roles.len(), 4, "{shown}");
    assert!(roles[0].contains("  seals  2027-01-15T08:00:00Z  2027-01-15T09:00:00Z  "), "{shown}");
    assert!(roles[0].ends_with("2027-01-15T11:00:00Z"), "{shown}");
    assert!(roles[3].contains("  next   2027-01-15T09:00:00Z"), "{shown}");
    assert!(!shows_a_secret(&shown, &folder.read("stek.root")));

    let json = folder.run("status -c {}/gateway.toml --json", NOW).unwrap();
    let page: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(page["source"], "root");
    assert!(shown.contains(page["digest"].as_str().unwrap()));
    assert_eq!(page["keys"][0]["role"], "seals");
    assert_eq!(page["keys"][0]["epoch"], 500_000);
    assert!(shown.contains(page["keys"][0]["id"].as_str().unwrap()));
    assert!(!shows_a_secret(&json, &folder.read("stek.root")));
}

#[test]
fn status_of_key_files_shows_which_one_seals() {
    let folder = Folder::new();
    for name in ["next.key", "current.key", "previous.key"] {
        folder.key(name);
    }
    folder.configure("source = { keys = [\"next.key\", \"current.key\", \"previous.key\"] }");
    let shown = folder.run("status -c {}/gateway.toml", NOW).unwrap();
    let rows: Vec<Vec<&str>> = shown
        .lines()
        .skip_while(|line| !line.starts_with("KEY"))
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    let roles: Vec<_> = rows.iter().map(|row| (row[1], row[2].rsplit('/').next())).collect();
    let wanted = [("seals", "current.key"), ("opens", "previous.key"), ("next", "next.key")];
    assert_eq!(roles, wanted.map(|(role, file)| (role, Some(file))), "{shown}");
    folder.configure("");
    let auto = folder.run("status -c {}/gateway.toml", NOW).unwrap();
    assert!(auto.contains("source    auto") && auto.contains("no other node"), "{auto}");
    assert!(folder.ids(NOW).is_empty());
}

#[test]
fn status_of_a_source_that_is_unsound_is_a_problem_with_its_place() {
    let folder = Folder::new();
    folder.run("init {}/stek.root", NOW).unwrap();
    fs::set_permissions(folder.path("stek.root"), fs::Permissions::from_mode(0o644)).unwrap();
    folder.configure("source = { root = \"stek.root\" }");
    let error = folder.run("status -c {}/gateway.toml", NOW).unwrap_err();
    let StekCommandError::Configuration(found) = error else { panic!("{error}") };
    assert_eq!((found[0].at.line, &*found[0].at.key), (2, "session_tickets.source.root"));
    assert!(found[0].message.contains("has mode 0644"), "{}", found[0]);
}

#[test]
fn a_rotation_comes_into_force_in_time_and_keeps_the_old_tickets() {
    let folder = Folder::new();
    folder.run("init {}/stek.root", NOW).unwrap();
    folder.configure("source = { root = \"stek.root\" }");
    let (before, later) = (folder.ids(NOW), folder.ids(NOW + 3 * 3600));
    let said = folder.run("rotate {}/stek.root", NOW).unwrap();
    assert!(said.contains("2027-01-15T09:00:00Z"), "{said}");
    assert_eq!(folder.mode("stek.root"), 0o600);
    assert!(!shows_a_secret(&said, &folder.read("stek.root")));
    // What seals now is unchanged, what comes is of the new root.
    assert_eq!(folder.ids(NOW)[0], before[0]);
    assert_ne!(folder.ids(NOW + 3 * 3600)[0], later[0]);
    assert!(folder.ids(NOW + 3 * 3600).contains(&before[0]));
    let error = folder.run("rotate {}/stek.root --in 10m", NOW).unwrap_err();
    assert!(error.to_string().contains("2027-01-15T09:00:00Z"), "{error}");
    folder.run("rotate {}/stek.root --in 2h", NOW).unwrap();
}

/// The service that reads it may have no other right to it.
#[test]
fn a_rotation_keeps_that_the_group_reads_a_file_of_roots() {
    let folder = Folder::new();
    folder.run("init {}/stek.root", NOW).unwrap();
    let path = folder.path("stek.root");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let rotated = folder.run("rotate {}/stek.root", NOW);
    if fs::metadata(&path).unwrap().uid() == 0 {
        rotated.unwrap();
        assert_eq!(folder.mode("stek.root"), 0o640);
    } else {
        // Of everybody else it is a mistake.
        let error = rotated.unwrap_err();
        assert!(error.to_string().contains("has mode 0640"), "{error}");
    }
}

#[test]
fn a_revocation_leaves_nothing_of_the_old_roots() {
    let folder = Folder::new();
    folder.run("init {}/stek.root", NOW).unwrap();
    folder.run("rotate {}/stek.root", NOW).unwrap();
    folder.configure("source = { root = \"stek.root\" }");
    let (before, old) = (folder.ids(NOW), folder.read("stek.root"));
    // The mode that let the thief in is put right too.
    fs::set_permissions(folder.path("stek.root"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = folder.run("rotate {}/stek.root", NOW).unwrap_err();
    assert!(error.to_string().contains("has mode 0644"), "{error}");
    folder.run("rotate --revoke {}/stek.root", NOW).unwrap();
    assert_eq!(folder.mode("stek.root"), 0o600);
    assert!(!shows_a_secret(&folder.read("stek.root"), &old));
    let after = folder.ids(NOW);
    assert!(after.iter().all(|id| !before.contains(id)), "{before:?} {after:?}");
}

#[test]
fn a_rotation_of_what_is_no_root_file_changes_nothing() {
    let folder = Folder::new();
    for (name, text) in
        [("edge.key", "-----BEGIN PRIVATE KEY-----\nMIG\n"), ("nginx.key", "raw"), ("empty", "")]
    {
        fs::write(folder.path(name), text).unwrap();
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        for option in ["", " --revoke"] {
            let error = folder.run(&format!("rotate {{}}/{name}{option}"), NOW).unwrap_err();
            assert!(matches!(error, StekCommandError::NotRoots { .. }), "{error}");
        }
        assert_eq!(folder.read(name), text);
    }
    // One of ours that is damaged can be revoked, and not be added to.
    let damaged = "# portcullis stek root 1\n0 half";
    fs::write(folder.path("damaged"), damaged).unwrap();
    fs::set_permissions(folder.path("damaged"), fs::Permissions::from_mode(0o600)).unwrap();
    let error = folder.run("rotate {}/damaged", NOW).unwrap_err();
    assert!(error.to_string().contains("--revoke"), "{error}");
    folder.run("rotate --revoke {}/damaged", NOW).unwrap();
    let missing = folder.run("rotate {}/none", NOW).unwrap_err();
    assert!(missing.to_string().contains("cannot be read"), "{missing}");
}

#[test]
fn a_link_to_a_root_file_stays_a_link() {
    let folder = Folder::new();
    folder.run("init {}/real.root", NOW).unwrap();
    symlink("real.root", folder.path("link.root")).unwrap();
    let before = folder.read("real.root");
    folder.run("rotate {}/link.root", NOW).unwrap();
    assert!(fs::symlink_metadata(folder.path("link.root")).unwrap().is_symlink());
    assert_ne!(folder.read("real.root"), before);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 2);
}
