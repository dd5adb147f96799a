//! What `pki` refuses, and what it prints. Whether others can use its certificates: `tests/pki.rs`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    pki: PkiCommand,
}

fn run_at(now: SystemTime, directory: &Path, words: &str) -> Result<String, PkiError> {
    let dir = ["--dir", directory.to_str().unwrap()];
    let words = ["pki"].into_iter().chain(words.split_whitespace()).chain(dir);
    let mut out = Vec::new();
    run(&Cli::try_parse_from(words).unwrap().pki, now, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// 2026-01-01, so that nothing here depends on the day.
fn new_year() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn run_in(directory: &Path, words: &str) -> Result<String, PkiError> {
    run_at(new_year(), directory, words)
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_made_is_printed_with_the_next_step() {
    let directory = tempfile::tempdir().unwrap();
    let made = run_in(directory.path(), "init --name Test").unwrap();
    assert!(made.contains("CA \"Test\", ECDSA P-256, until 2035-12-30"), "{made}");
    assert!(made.contains("portcullis pki server localhost"), "{made}");
    let made = run_in(directory.path(), "server *.Example.com --ip ::1").unwrap();
    assert!(made.contains("server \"*.example.com\" (*.example.com, ::1)"), "{made}");
    assert!(made.contains("-servername any.example.com"), "{made}");
    assert!(made.contains("until 2027-02-02"), "{made}");
    let made = run_in(directory.path(), "client alice --uri spiffe://example.org/alice").unwrap();
    assert!(made.contains("client \"alice\" (spiffe://example.org/alice)"), "{made}");
    assert!(made.contains("-cert_chain"), "{made}");
    assert_eq!(
        names_in(directory.path()),
        [
            "alice.crt",
            "alice.key",
            "ca.crt",
            "ca.key",
            "wildcard.example.com.crt",
            "wildcard.example.com.key"
        ]
    );
}

#[test]
fn the_toml_that_is_printed_is_toml() {
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("a \"quoted\" \\ directory");
    for words in ["init", "server localhost", "client alice", "crl"] {
        let printed = run_in(&odd, words).unwrap();
        let indented = printed.lines().filter_map(|line| line.strip_prefix("    "));
        let is_command =
            |line: &str| ["openssl", "portcullis"].iter().any(|one| line.starts_with(one));
        let toml: Vec<_> = indented.filter(|line| !is_command(line)).collect();
        assert!(toml.len() >= 2, "{printed}");
        let toml = toml.join("\n");
        toml.parse::<toml::Table>().unwrap_or_else(|error| panic!("{error}: {toml}"));
    }
}

#[test]
fn without_a_ca_there_is_no_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let error = run_in(&directory.path().join("none"), "client alice").unwrap_err().to_string();
    assert!(error.contains("portcullis pki init --dir"), "{error}");
    assert!(names_in(directory.path()).is_empty());
}

#[test]
fn half_a_ca_is_not_completed() {
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), "init").unwrap();
    fs::remove_file(directory.path().join("ca.crt")).unwrap();
    let key = fs::read(directory.path().join("ca.key")).unwrap();
    let error = run_in(directory.path(), "init").unwrap_err().to_string();
    assert!(error.contains("ca.key exists already"), "{error}");
    assert_eq!(names_in(directory.path()), ["ca.key"]);
    assert_eq!(fs::read(directory.path().join("ca.key")).unwrap(), key);
}

#[test]
fn a_ca_that_does_not_fit_together_signs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    run_in(&one, "init").unwrap();
    run_in(&two, "init").unwrap();
    fs::copy(one.join("ca.key"), two.join("ca.key")).unwrap();
    assert!(matches!(run_in(&two, "client a").unwrap_err(), PkiError::Mismatch { .. }));
    run_in(&one, "client leaf").unwrap();
    for extension in ["crt", "key"] {
        let file = |stem: &str, directory: &Path| directory.join(format!("{stem}.{extension}"));
        fs::copy(file("leaf", &one), file("ca", &two)).unwrap();
    }
    let error = run_in(&two, "client a").unwrap_err();
    assert!(matches!(error, PkiError::NotAnAuthority { .. }), "{error}");
    fs::write(two.join("ca.key"), "not a key").unwrap();
    assert!(matches!(run_in(&two, "client a").unwrap_err(), PkiError::NotAKey { .. }));
    assert_eq!(names_in(&two), ["ca.crt", "ca.key"]);
}

#[test]
fn no_certificate_outlives_its_ca() {
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), "init --days 10").unwrap();
    let made = run_in(directory.path(), "client short").unwrap();
    assert!(made.contains("until 2026-01-11"), "{made}");
    let later = new_year() + Duration::from_secs(11 * 86_400);
    let error = run_at(later, directory.path(), "client late").unwrap_err().to_string();
    assert!(error.contains("expired on 2026-01-11"), "{error}");
}

#[test]
fn names_that_would_leave_the_directory_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    run_in(&inner, "init").unwrap();
    let error = run_in(&inner, "client ../alice").unwrap_err();
    assert!(matches!(error, PkiError::NoFileName { .. }), "{error}");
    run_in(&inner, "client a --out-name b/../../c").unwrap();
    assert_eq!(names_in(directory.path()), ["inner"]);
    let error = run_in(&inner, "client ca").unwrap_err().to_string();
    assert!(error.contains("ca.crt exists already"), "{error}");
}

#[test]
fn arguments_that_make_no_certificate_are_explained() {
    for (words, hint) in [
        ("pki server", "NAME"),
        ("pki server bücher.example", "xn--"),
        ("pki client a --uri no-scheme", "spiffe://"),
        ("pki client a --email nobody", "alice@example.com"),
        ("pki init --days 0", "1..=36500"),
        ("pki init --key dsa", "ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"),
        ("pki client a --spiffe https://example.org", "spiffe://example.org/"),
        ("pki client a --spiffe spiffe://example.org", "has a path"),
        ("pki client a --spiffe spiffe://example.org/a --uri urn:b", "cannot be used with"),
        ("pki client a --spiffe spiffe://a/b --spiffe spiffe://a/c", "cannot be used multiple"),
        ("pki client a --expired --not-yet-valid", "cannot be used with"),
        ("pki client a --days 3 --valid-for 3d", "cannot be used with"),
        ("pki client a --valid-for 3", "a number and a unit"),
        ("pki client a --purpose mail", "client, server, both, none"),
        ("pki intermediate a --permit-dns *.example.com", "leave `*.` out"),
        ("pki crl --expired --next-update 3d", "cannot be used with"),
        ("pki show", "FILE"),
    ] {
        let error = Cli::try_parse_from(words.split(' ')).unwrap_err().to_string();
        assert!(error.contains(hint), "{words}: {error}");
    }
}
