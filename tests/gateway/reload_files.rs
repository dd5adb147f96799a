//! Files that change on disk: certificates are renewed and configurations edited without a signal,
//! however the files are written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_kit::{
    Gateway, Identity, PATIENCE, PlainEcho, TlsStream, close_write, eventually, read_to_end,
    round_trip,
};
use tempfile::TempDir;

use crate::support::{BINARY, Config, NAME, Pki};

/// A gateway whose certificate and key are files of the test.
struct Fixture {
    pki: Pki,
    _echoes: PlainEcho,
    gateway: Gateway,
    files: TempDir,
}

impl Fixture {
    /// `place` puts the first certificate and key as `tls.crt` and `tls.key` into the directory.
    fn new(place: impl FnOnce(&Path, &Identity), keys: &str) -> Self {
        let (pki, echoes, files) = (Pki::new(), PlainEcho::start(), TempDir::new().unwrap());
        place(files.path(), &pki.server);
        let text = config(&pki, &echoes, files.path(), keys);
        let directory = TempDir::with_prefix("portcullis-gateway-").unwrap();
        let gateway = Gateway::start_as(Command::new(BINARY), directory, &text);
        Self { pki, _echoes: echoes, gateway, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn renewed(&self) -> Identity {
        self.pki.ca.server(&[NAME])
    }

    /// Waits until new clients are shown this certificate; each of them is served.
    fn wait_served(&self, identity: &Identity) {
        eventually(PATIENCE, "the new certificate", || {
            let mut stream = self.pki.connect(&self.gateway);
            let is_new = leaf_is(&stream, identity);
            assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
            close_write(&mut stream).unwrap();
            assert_eq!(read_to_end(&mut stream).unwrap(), b"");
            is_new.then_some(())
        });
    }

    fn reloads(&self, result: &str) -> u64 {
        self.gateway.metrics().sum("portcullis_reloads_total", &[("result", result)])
    }
}

fn config(pki: &Pki, echoes: &PlainEcho, files: &Path, keys: &str) -> String {
    let pair = |name: &str| files.join(name).display().to_string();
    Config::new(2)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .table(&format!(
            "[tls.downstream.edge]\ncertificates = [{{ chain = \"{}\", key = \"{}\" }}]\ntrust = \"clients\"",
            pair("tls.crt"),
            pair("tls.key")
        ))
        .trust("clients", &pki.ca)
        .cluster("app", &[echoes.address()], "")
        .table(keys)
        .to_string()
}

fn leaf_is(stream: &TlsStream, identity: &Identity) -> bool {
    stream.conn.peer_certificates().unwrap()[0] == *identity.leaf()
}

fn plainly(directory: &Path, identity: &Identity) {
    fs::write(directory.join("tls.crt"), &identity.chain_pem).unwrap();
    fs::write(directory.join("tls.key"), &identity.key_pem).unwrap();
}

/// As a Kubernetes volume: `tls.crt` is a link into `..data`, which is a link to a directory.
fn as_a_volume(directory: &Path, identity: &Identity) {
    volume_version(directory, "..2024_01", identity);
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), directory.join(name)).unwrap();
    }
}

fn volume_version(directory: &Path, version: &str, identity: &Identity) {
    fs::create_dir(directory.join(version)).unwrap();
    plainly(&directory.join(version), identity);
    symlink(version, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

#[test]
fn a_pair_that_is_renamed_into_place_is_served_without_a_signal() {
    let fixture = Fixture::new(plainly, "");
    for _ in 0..2 {
        let renewed = fixture.renewed();
        let new = TempDir::new_in(fixture.files.path()).unwrap();
        plainly(new.path(), &renewed);
        for name in ["tls.key", "tls.crt"] {
            fs::rename(new.path().join(name), fixture.path(name)).unwrap();
        }
        fixture.wait_served(&renewed);
    }
    assert_eq!(fixture.reloads("failed"), 0);
}

#[test]
fn the_swap_of_a_mounted_volume_is_served_without_a_signal() {
    let fixture = Fixture::new(as_a_volume, "");
    for version in ["..2024_02", "..2024_03"] {
        let renewed = fixture.renewed();
        volume_version(fixture.files.path(), version, &renewed);
        fixture.wait_served(&renewed);
    }
    fs::remove_dir_all(fixture.path("..2024_01")).unwrap();
    assert_eq!(fixture.reloads("failed"), 0);
}

#[test]
fn a_key_that_comes_long_before_its_certificate_is_no_failure() {
    let fixture = Fixture::new(plainly, "");
    let renewed = fixture.renewed();
    fs::write(fixture.path("tls.key"), &renewed.key_pem).unwrap();
    // It was loaded and did not fit: the gap is as long as that takes.
    fixture.gateway.wait_log(&["not loaded yet", "does not belong"]);
    fixture.wait_served(&fixture.pki.server);
    fs::write(fixture.path("tls.crt"), &renewed.chain_pem).unwrap();
    fixture.wait_served(&renewed);
    assert_eq!((fixture.reloads("ok"), fixture.reloads("failed")), (1, 0));
}

#[test]
fn a_file_that_is_half_written_never_replaces_what_runs() {
    let fixture = Fixture::new(plainly, "");
    let renewed = fixture.renewed();
    let (head, tail) = renewed.chain_pem.split_at(renewed.chain_pem.len() / 2);
    fs::write(fixture.path("tls.key"), &renewed.key_pem).unwrap();
    fs::write(fixture.path("tls.crt"), head).unwrap();
    // Tried three times more, then told; then it waits for the next change.
    fixture.gateway.wait_log(&["ERROR", "the configuration was not reloaded"]);
    assert_eq!((fixture.reloads("ok"), fixture.reloads("failed")), (0, 1));
    assert_eq!(fixture.gateway.other_output().matches("not loaded yet").count(), 3);
    fixture.wait_served(&fixture.pki.server);
    fs::write(fixture.path("tls.crt"), format!("{head}{tail}")).unwrap();
    fixture.wait_served(&renewed);
    let metrics = fixture.gateway.metrics();
    assert_eq!(metrics.sum("portcullis_reload_last_success", &[]), 1);
}

#[test]
fn a_mistake_that_was_mended_and_is_made_again_is_told_again() {
    let fixture = Fixture::new(plainly, "");
    let good = fs::read_to_string(fixture.gateway.config_path()).unwrap();
    let wait_success = |is_success: u64| {
        eventually(PATIENCE, "what came of the files", || {
            let metrics = fixture.gateway.metrics();
            (metrics.sum("portcullis_reload_last_success", &[]) == is_success).then_some(())
        });
    };
    for round in 1..=2 {
        fixture.gateway.rewrite(&format!("{good}\n[nonsense]\n"));
        wait_success(0);
        assert_eq!(fixture.reloads("failed"), round);
        fixture.gateway.rewrite(&good);
        wait_success(1);
    }
    eventually(PATIENCE, "the log", || {
        let mended = fixture.gateway.other_output().matches("nothing is left to mend").count();
        (mended == 2).then_some(())
    });
    assert_eq!((fixture.reloads("ok"), fixture.gateway.generation()), (0, 1));
}

#[test]
fn a_directory_that_is_removed_and_made_again_is_noticed() {
    let nested = |directory: &Path, identity: &Identity| {
        fs::create_dir(directory.join("live")).unwrap();
        plainly(&directory.join("live"), identity);
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("live/{name}"), directory.join(name)).unwrap();
        }
    };
    let fixture = Fixture::new(nested, "");
    fs::remove_dir_all(fixture.path("live")).unwrap();
    fixture.gateway.wait_log(&["not loaded yet", "cannot read"]);
    fixture.wait_served(&fixture.pki.server);
    let renewed = fixture.renewed();
    fs::create_dir(fixture.path("live")).unwrap();
    plainly(&fixture.path("live"), &renewed);
    fixture.wait_served(&renewed);
}

#[test]
fn a_configuration_that_is_edited_and_a_file_that_is_included_go_live() {
    let fixture = Fixture::new(plainly, "");
    let text = fs::read_to_string(fixture.gateway.config_path()).unwrap();
    let directory = fixture.gateway.config_path().parent().unwrap().to_owned();
    fs::create_dir(directory.join("conf.d")).unwrap();
    fixture.gateway.rewrite(&format!("include = [\"conf.d/*.toml\"]\n{text}"));
    fixture.gateway.wait_generation(2);
    let side = "[listener.side]\naddress = \"127.0.0.1:0\"\nchain.default = { cluster = \"app\" }";
    fs::write(directory.join("conf.d/side.toml"), side).unwrap();
    fixture.gateway.opened("side");
    assert_eq!(fixture.gateway.wait_generation(3), 3);
}

#[test]
fn files_that_are_touched_or_written_as_they_were_change_nothing() {
    let fixture = Fixture::new(plainly, "[log]\nlevel = \"debug\"");
    // Once at the start: what changed before it was watched is not missed.
    fixture.gateway.wait_log(&["say what they said"]);
    plainly(fixture.files.path(), &fixture.pki.server);
    eventually(PATIENCE, "the files to be looked at again", || {
        let looked = fixture.gateway.other_output().matches("say what they said").count();
        (looked == 2).then_some(())
    });
    assert_eq!(fixture.gateway.generation(), 1);
    assert_eq!((fixture.reloads("ok"), fixture.reloads("failed")), (0, 0));
}

#[test]
fn without_watching_only_a_signal_reloads() {
    let (pki, echoes, files) = (Pki::new(), PlainEcho::start(), TempDir::new().unwrap());
    plainly(files.path(), &pki.server);
    let watched = config(&pki, &echoes, files.path(), "[log]\nlevel = \"debug\"");
    let text = watched.replace("runtime = {", "runtime = { watch = false,");
    let directory = TempDir::with_prefix("portcullis-gateway-").unwrap();
    let gateway = Gateway::start_as(Command::new(BINARY), directory, &text);
    let renewed = pki.ca.server(&[NAME]);
    plainly(files.path(), &renewed);
    // Nothing comes of it: by the time that a session is through, and another after a signal.
    assert!(leaf_is(&pki.connect(&gateway), &pki.server));
    assert_eq!(gateway.reload(&text), 2);
    assert!(leaf_is(&pki.connect(&gateway), &renewed));
    assert!(!gateway.other_output().contains("say what they said"));
    // From here on it is watched.
    gateway.reload(&watched);
    plainly(files.path(), &pki.server);
    eventually(PATIENCE, "the old certificate", || {
        leaf_is(&pki.connect(&gateway), &pki.server).then_some(())
    });
}
