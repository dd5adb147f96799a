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

#[test]
fn keys_and_lifetimes_are_what_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), "init").unwrap();
    for (words, part) in [
        ("client a --key ecdsa", "ECDSA P-256, until 2027-02-02"),
        ("client b --key rsa", "RSA 2048"),
        ("client c --key ed25519 --days 1", "Ed25519, until 2026-01-02 00:00:00 UTC"),
        ("client d --valid-for 90s", "until 2026-01-01 00:01:30 UTC"),
        ("client e --expired --days 3", "expired on 2025-12-31"),
        ("client f --not-yet-valid --valid-for 2d", "from 2026-01-02 until 2026-01-04"),
        ("client g --purpose server", "marked for use as server"),
        ("server h --purpose none", "marked for use as anything"),
        ("server i --purpose server", "until 2027-02-02\n"),
        ("intermediate j --key rsa", "RSA 3072, until 2030-12-31"),
    ] {
        let made = run_in(directory.path(), words).unwrap();
        assert!(made.contains(part), "{words}: {made}");
    }
}

#[test]
fn a_ca_that_ends_first_issues_nothing_for_later() {
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), "init --days 1").unwrap();
    let error = run_in(directory.path(), "client a --not-yet-valid").unwrap_err().to_string();
    assert!(error.contains("ends on 2026-01-02"), "{error}");
    assert_eq!(names_in(directory.path()), ["ca.crt", "ca.key"]);
}

#[test]
fn only_cas_issue_and_only_as_deep_as_they_may() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |words: &str, hint: &str| {
        let before = names_in(directory.path());
        let error = run_in(directory.path(), words).unwrap_err().to_string();
        assert!(error.contains(hint), "{words}: {error}");
        assert_eq!(names_in(directory.path()), before, "{words}");
    };
    run_in(directory.path(), "init --name Root --path-length 1").unwrap();
    refused("client a --issuer middle", "portcullis pki intermediate middle --dir");
    refused("client a --issuer ../ca", "no name of a CA's files");
    refused("intermediate Root", "choose another");
    refused("intermediate ca", "ca.crt exists already");
    refused("intermediate middle --path-length 1", "1 CAs in a row");
    run_in(directory.path(), "intermediate middle").unwrap();
    refused("intermediate low --under middle", "--path-length");
    run_in(directory.path(), "client alice --issuer middle").unwrap();
    refused("client bob --issuer alice", "alice.crt is no CA certificate");
    refused("client middle", "middle.crt exists already");
}

#[test]
fn names_that_a_ca_may_not_issue_are_pointed_out() {
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), "init").unwrap();
    run_in(directory.path(), "intermediate a --permit-dns Example.com --permit-dns b.org").unwrap();
    run_in(directory.path(), "intermediate below --under a").unwrap();
    for (name, is_fine) in [
        ("example.com", true),
        ("x.example.com", true),
        ("b.org", true),
        ("notexample.com", false),
        ("c.org", false),
        ("org", false),
    ] {
        let made = run_in(directory.path(), &format!("server {name} --issuer below")).unwrap();
        assert_eq!(!made.contains("to be refused"), is_fine, "{made}");
    }
}

#[test]
fn the_record_of_what_was_revoked_only_grows() {
    let directory = tempfile::tempdir().unwrap();
    let record = || fs::read_to_string(directory.path().join("ca.revoked.toml")).unwrap();
    for words in ["init", "client alice", "client bob"] {
        run_in(directory.path(), words).unwrap();
    }
    let bob = directory.path().join("bob.crt");
    let made = run_in(directory.path(), "crl --revoke alice --next-update 12h").unwrap();
    assert!(made.contains("list 1 of"), "{made}");
    assert!(made.contains("1 revoked, renew it by 2026-01-01 12:00:00 UTC"), "{made}");
    let bob = format!("crl --revoke {} --revoke alice.crt", bob.display());
    let made = run_in(directory.path(), &bob).unwrap();
    assert!(made.contains("list 2 of") && made.contains("2 revoked"), "{made}");
    assert!(made.contains("revoked CN=bob") && made.contains("was revoked already: CN=alice"));
    let made = run_in(directory.path(), "crl --revoke 0x1f --expired --der").unwrap();
    assert!(made.contains("3 revoked, should have been renewed by 2025-12-31"), "{made}");
    let before = record();
    // One that cannot be revoked, and none of them is.
    run_in(directory.path(), "crl --revoke 0x2f --revoke nobody").unwrap_err();
    assert_eq!(record(), before);
    let made = run_in(directory.path(), "crl --out-name other").unwrap();
    assert!(made.contains("list 4 of") && made.contains("3 revoked"), "{made}");
    let present = names_in(directory.path());
    assert_eq!(present.iter().filter(|name| name.ends_with(".crl")).count(), 2, "{present:?}");
    assert_eq!(present.len(), 9, "{present:?}");
}

#[test]
fn what_this_ca_did_not_issue_it_does_not_revoke() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    for words in ["init", "intermediate middle", "client alice --issuer middle", "client bob"] {
        run_in(&one, words).unwrap();
        run_in(&two, words).unwrap();
    }
    // Of the same name, with another key.
    let stranger = format!("crl --revoke {}", two.join("bob.crt").display());
    for (words, hint) in [
        ("crl --revoke alice", "issued by CN=middle"),
        ("crl --issuer middle --revoke bob", "issued by CN=Portcullis development CA"),
        (&*stranger, "name its CA with --issuer"),
        // A number too, but hardly meant as one.
        ("crl --revoke ada", "begins with 0x"),
        ("crl --revoke ca.key", "neither"),
        ("crl --revoke 0x0", "neither"),
        ("crl --issuer nobody", "pki intermediate nobody"),
        ("crl --issuer bob", "is no CA certificate"),
    ] {
        let error = run_in(&one, words).unwrap_err().to_string();
        assert!(error.contains(hint), "{words}: {error}");
    }
    assert!(!names_in(&one).iter().any(|name| name.ends_with("crl") || name.ends_with("toml")));
    let made = run_in(&one, "crl --issuer middle --revoke alice").unwrap();
    assert!(made.contains("revoked CN=alice"), "{made}");
    run_in(&one, "crl --revoke middle").unwrap();
}

#[test]
fn a_list_is_replaced_only_where_it_is_this_cas_and_its_record_is_there() {
    let directory = tempfile::tempdir().unwrap();
    for words in ["init", "client alice", "intermediate middle", "crl --revoke alice"] {
        run_in(directory.path(), words).unwrap();
    }
    let file = |name: &str| directory.path().join(name);
    let refused = |words: &str, hint: &str| {
        let error = run_in(directory.path(), words).unwrap_err().to_string();
        assert!(error.contains(hint), "{words}: {error}");
    };
    refused("crl --issuer middle --out-name ca", "ca.crl is no revocation list of this CA");
    refused("crl --out-name ..", "no file name");
    fs::write(file("notes.crl"), "notes").unwrap();
    refused("crl --out-name notes", "never overwritten");
    assert_eq!(fs::read(file("notes.crl")).unwrap(), b"notes");
    let record = fs::read(file("ca.revoked.toml")).unwrap();
    fs::write(file("ca.revoked.toml"), "number = \"many\"").unwrap();
    refused("crl", "ca.revoked.toml is not what `pki crl` writes");
    fs::remove_file(file("ca.revoked.toml")).unwrap();
    // A new record would let alice in again.
    refused("crl", "bring that back");
    refused("crl --out-name other", "bring that back");
    fs::write(file("ca.revoked.toml"), record).unwrap();
    assert!(run_in(directory.path(), "crl").unwrap().contains("list 2 of"));
}

#[test]
fn those_who_revoke_at_once_forget_nothing_of_each_other() {
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), "init").unwrap();
    std::thread::scope(|scope| {
        for serial in 1..=8 {
            let directory = directory.path();
            scope.spawn(move || run_in(directory, &format!("crl --revoke 0x{serial}")).unwrap());
        }
    });
    let made = run_in(directory.path(), "crl").unwrap();
    assert!(made.contains("list 9 of") && made.contains("8 revoked"), "{made}");
}

#[test]
fn shown_is_what_the_configuration_takes() {
    let directory = tempfile::tempdir().unwrap();
    let show = |file: &str| {
        let file = directory.path().join(file).into_os_string();
        let words = ["pki".into(), "show".into(), file];
        let mut out = Vec::new();
        let shown = run(&Cli::try_parse_from(words).unwrap().pki, new_year(), &mut out);
        shown.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
    };
    for words in [
        "init",
        "intermediate middle",
        "client alice --spiffe spiffe://example.org/a --ip ::1 --issuer middle --key ed25519",
        "client late --expired --purpose both --key rsa",
        "client early --not-yet-valid --purpose none --key ecdsa-p384",
        "crl",
    ] {
        run_in(directory.path(), words).unwrap();
    }
    for (file, parts) in [
        (
            "alice.crt",
            &[
                "certificate 1 of 2",
                "subject      CN=alice",
                "issuer       CN=middle",
                "names        uri = \"spiffe://example.org/a\"\n               ip = \"::1\"",
                "key          ed25519",
                "for          client",
                "2025-12-31 23:00:00 UTC to 2027-02-02 00:00:00 UTC, 397 days left",
                "certificate 2 of 2",
                "CA, of leaves and of CAs, 1 in a row",
            ][..],
        ),
        ("late.crt", &["rsa-2048", "server, client", "(none)", "expired 1 day ago"]),
        ("early.crt", &["ecdsa-p384", "anything", "valid in 1 day"]),
        ("ca.crt", &["ecdsa-p256", "2 in a row"]),
    ] {
        let shown = show(file).unwrap();
        for part in parts {
            assert!(shown.contains(part), "{file}: {part}: {shown}");
        }
    }
    fs::write(directory.path().join("bad.crt"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    for (file, hint) in [
        ("ca.key", "no certificate"),
        ("ca.crl", "openssl crl"),
        ("bad.crt", "cannot be parsed"),
        ("none.crt", "cannot read"),
    ] {
        let error = show(file).unwrap_err();
        assert!(error.contains(hint), "{file}: {error}");
    }
}
