//! OpenLDAP's tools (GnuTLS on a Debian) by ldaps, through `config/ldap.toml` to a real slapd that
//! speaks plain LDAP.

use std::fs;

use tempfile::TempDir;

use crate::program::{Running, command, find, must, run, serve};
use crate::sample::{Sample, Served};

const PACKAGES: &str = "slapd ldap-utils";

struct Directory {
    _slapd: Running,
    _folder: TempDir,
}

#[test]
fn entries_are_added_and_found() {
    let Some((_directory, served)) = start() else { return };
    let certificates = "export LDAPTLS_CACERT";
    let said = must(served.said(&[certificates, "ldapsearch "], "-LLL -s base"));
    assert_eq!(
        said.trim(),
        "dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example"
    );
    let port = served.port();
    let mut add = Running::start(served.said(
        &[certificates, "ldapsearch "],
        // Another tool behind the first, in the same environment.
        &format!(
            "-LLL -s base 1.1; ldapadd -x -D cn=admin,dc=example,dc=com -w secret \
             -H ldaps://127.0.0.1:{port}"
        ),
    ));
    for number in 0..ENTRIES {
        let name = format!("person-{number}");
        add.say(&format!(
            "dn: cn={name},dc=example,dc=com\nobjectClass: person\ncn: {name}\nsn: {name}\n\
             description: {}\n\n",
            "d".repeat(1_000)
        ));
    }
    let added = add.finish();
    assert!(added.status.success(), "{}", added.text);
    let found = run(served.said(&[certificates, "ldapsearch "], "-LLL '(sn=person-*)' sn"));
    assert_eq!(found.text.matches("sn: person-").count(), ENTRIES, "{}", found.text);
    let line = served.logged(|line| line["bytes_received"].as_u64() > Some(400_000));
    assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
    assert_eq!(line["closing"], "clean", "{line}");
}

#[test]
fn start_tls_and_clients_without_certificate_are_refused() {
    let Some((_directory, served)) = start() else { return };
    let port = served.port();
    let search = |uri: &str, more: &str| {
        let mut command = served.command("ldapsearch", &format!("-x {more} -b dc=example,dc=com"));
        command.arg("-H").arg(format!("{uri}:{port}")).env("LDAPTLS_CACERT", "pki/ca.crt");
        run(command)
    };
    let plain = search("ldap://127.0.0.1", "-ZZ");
    assert!(plain.text.contains("Can't contact LDAP server"), "{}", plain.text);
    let line = served.refused("not_tls");
    assert!(line["detail"].as_str().unwrap().contains("plain LDAP"), "{line}");
    let nobody = search("ldaps://127.0.0.1", "");
    assert!(nobody.text.contains("Can't contact LDAP server"), "{}", nobody.text);
    let line = served.refused("no_certificate");
    assert!(line["sni"].is_null(), "an address is no name: {line}");
    // By a name it sends that name, whatever it looks for in the certificate then.
    search("ldaps://localhost", "");
    served.logged(|line| line["sni"] == "localhost");
}

/// A directory with one entry, behind the sample.
fn start() -> Option<(Directory, Served)> {
    find("ldapsearch", PACKAGES)?;
    let slapd = find("slapd", PACKAGES)?;
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("slapd.conf"), folder.path().join("data"));
    fs::create_dir(&data).unwrap();
    let text = format!(
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
         database mdb\nsuffix \"dc=example,dc=com\"\nrootdn \"cn=admin,dc=example,dc=com\"\n\
         rootpw secret\ndirectory {}\n",
        data.display()
    );
    fs::write(&file, text).unwrap();
    // "slapd starting" comes before listen(2): a client of that moment is refused, and who took the
    // port meanwhile is not found out. This comes once its threads wait for what it listens on.
    let (slapd, address) = serve("active_threads=", |port| {
        let words = format!("-h ldap://127.0.0.1:{port} -d conns -f {}", file.display());
        command(&slapd, &words)
    });
    let mut root = command("ldapadd", &format!("-x -H ldap://{address} -w secret"));
    root.args(["-D", "cn=admin,dc=example,dc=com"]);
    let mut root = Running::start(root);
    root.say("dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n");
    let root = root.finish();
    assert!(root.status.success(), "{}", root.text);
    let served = Sample::prepare("ldap.toml").with("127.0.0.1:389", address).start();
    Some((Directory { _slapd: slapd, _folder: folder }, served))
}

/// Fewer than the 500 that slapd returns at once.
const ENTRIES: usize = 400;
