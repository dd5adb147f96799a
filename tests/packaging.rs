//! What `config/` has beside samples, for packages, containers and clusters, fits the gateway: its
//! configurations load, and its limits in time and memory agree with each other. A release is compiled
//! by the profile in `perf/guided`, and nothing else is.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test fails like the test: by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis::config::plan::{AdminAddress, Plan};
use portcullis::config::{self, Style};

#[test]
fn the_configuration_of_the_package_loads_and_is_for_this_machine_alone() {
    let plan = load(&root().join("config/debian/portcullis.toml"));
    for listener in &plan.listeners {
        assert!(listener.address.ip().is_loopback(), "{}", listener.name);
    }
    let admin = plan.admin.expect("is there").address;
    assert_eq!(admin, AdminAddress::Unix("/run/portcullis/admin.sock".into()));
}

/// Mutual TLS, which the file has in comments, is what it is for.
#[test]
fn the_commented_part_of_the_package_s_configuration_loads() {
    let text = read("config/debian/portcullis.toml");
    let (before, after) = text.split_once("# [listener.edge.chain.default]").expect("is there");
    let (kept, rest) = before.split_once("[listener.edge.chain.example]").expect("is there");
    let cluster = rest.split_once("[cluster.service]").expect("is there").1;
    let cluster = cluster.split_once("\n\n").expect("is followed").0;
    let mutual = after.lines().map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>();
    let plan = load_text(&format!(
        "{kept}[listener.edge.chain.default]{}\n[cluster.service]{cluster}\n",
        mutual.join("\n").replace("\n#\n", "\n\n")
    ));
    assert_eq!((plan.downstream_tls.len(), plan.trusts.len()), (1, 1));
}

#[test]
fn a_release_alone_is_compiled_by_the_profile() {
    assert!(read(".cargo/config.toml").contains("rustc-wrapper = \"perf/guided/rustc\"\n"));
    let wrapper = root().join("perf/guided/rustc");
    let told = |arguments: &[&str]| {
        let output = Command::new(&wrapper).arg("echo").args(arguments).output().expect("runs");
        String::from_utf8(output.stdout).expect("is text")
    };
    let profile = root().join("perf/guided/portcullis.profdata");
    assert!(profile.is_file(), "{}", profile.display());
    let release = told(&["--crate-name", "portcullis", "-C", "opt-level=3", "src/lib.rs"]);
    assert!(release.contains(&format!(" -Cprofile-use={} ", profile.display())), "{release}");
    for other in [
        &["-vV"][..],
        &["--crate-name", "portcullis", "-C", "opt-level=1"],
        &["-C", "opt-level=3", "--cfg", "fuzzing"],
        &["-C", "opt-level=3", "-Cprofile-generate=counts"],
    ] {
        assert_eq!(told(other).trim_end(), other.join(" "));
    }
    // Cargo has variables with a hyphen, which many a shell does not hand on.
    let variables = Command::new(&wrapper).arg("env").env("A-B", "c").output().expect("runs");
    assert!(String::from_utf8_lossy(&variables.stdout).contains("A-B=c\n"));
}

/// Names in the profile hold a digest of the crate's features, and of those of all that it is built of.
#[test]
fn crates_have_the_same_features_whichever_packages_are_built_together() {
    let (alone, all) = (features(&["-p", "portcullis"]), features(&["--workspace"]));
    assert!(alone.contains_key("rustls") && all.len() > alone.len());
    for (name, features) in &alone {
        assert_eq!(all.get(name), Some(features), "{name}: name it in [workspace.dependencies]");
    }
}

#[test]
fn the_configuration_in_the_config_map_loads_and_fits_the_pod() {
    let plan = load_text(&config_map());
    let ports: Vec<_> = plan.listeners.iter().map(|listener| listener.address.port()).collect();
    let admin = match plan.admin.as_ref().expect("is there").address {
        AdminAddress::Tcp(address) => Some(address.port()),
        AdminAddress::Unix(_) => None,
    };
    let admin = admin.expect("the kubelet asks by TCP");
    for file in ["deployment.yaml", "daemonset.yaml"] {
        let pod = read(&format!("config/kubernetes/{file}"));
        for port in ports.iter().chain([&admin]) {
            assert!(pod.contains(&format!("containerPort: {port}\n")), "{file}: {port}");
        }
        let patience = number(&pod, "terminationGracePeriodSeconds: ");
        assert!(plan.runtime.drain.deadline < Duration::from_secs(patience), "{file}");
        let memory = number(&pod, "limits:\n              memory: ") << 20;
        assert!(plan.limits.memory.expect("is set").get() < memory, "{file}");
        // Whatever the configuration names is mounted.
        for folder in ["config", "edge", "clients", "stek"] {
            let mount = format!("mountPath: /etc/portcullis/{folder}\n");
            assert!(pod.contains(&mount), "{file}: {folder}");
        }
    }
}

#[test]
fn the_unit_waits_longer_than_a_drain_takes() {
    let unit = read("config/systemd/portcullis.service");
    let plan = load(&root().join("config/debian/portcullis.toml"));
    let patience = number(&unit, "TimeoutStopSec=");
    assert!(plan.runtime.drain.deadline < Duration::from_secs(patience));
}

/// `@privileged`, which the unit takes away, has the call in it that a process gives up rights with, and
/// `@system-service` has none of those that it shuts itself in with.
#[test]
fn the_unit_lets_its_process_give_up_rights() {
    let unit = read("config/systemd/portcullis.service");
    let mut filters = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let last = filters.rfind(|calls| calls.contains("@privileged") || calls.contains("capset"));
    let last = last.expect("is there");
    for needed in ["capset", "landlock_restrict_self", "seccomp"] {
        assert!(!last.starts_with('~') && last.split(' ').any(|call| call == needed), "{last}");
    }
}

/// From its sandbox a process can start what replaces its program only where no other one stands beside it.
#[test]
fn the_unit_starts_a_program_that_has_a_folder_of_its_own() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("is TOML");
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("is a list");
    let text = |value: &toml::Value| value.as_str().expect("is text").to_owned();
    let files: Vec<_> = assets.iter().filter_map(toml::Value::as_array).collect();
    let program = files.iter().find(|file| text(&file[0]) == "target/release/portcullis");
    let folder = text(&program.expect("is installed")[1]);
    assert_eq!(files.iter().filter(|file| text(&file[1]).starts_with(&folder)).count(), 1);

    let links = assets.iter().filter_map(toml::Value::as_table);
    let links: Vec<_> = links.filter(|link| !text(&link["dest"]).contains("/share/doc/")).collect();
    let [link] = links[..] else { panic!("one link to a program: {links:?}") };
    let (name, target) = (format!("/{}", text(&link["dest"])), text(&link["link_name"]));
    let real = target.strip_prefix("..").expect("leads beside /usr/bin");
    assert_eq!(
        (name.as_str(), format!("usr{real}")),
        ("/usr/bin/portcullis", format!("{folder}portcullis"))
    );
    let unit = read("config/systemd/portcullis.service");
    assert!(unit.contains(&format!("\nExecStart={name} run ")));
    let container = read("config/container/Containerfile");
    assert!(container.contains(&format!("ln -s {target} /image{name} ")));
    assert!(container.contains(&format!("\nENTRYPOINT [\"{name}\"]\n")));
}

/// `config/debian/test` asks the same of the real package, minutes later.
#[test]
fn every_link_of_an_installed_page_leads_to_what_is_installed() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("is TOML");
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("is a list");
    let (installed, folders) = installed_pages(assets);
    let mut links = 0;
    for (page, source) in installed.iter().filter(|(page, _)| page.ends_with(".md")) {
        for link in read(source).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if link.contains("://") || file.is_empty() {
                continue;
            }
            links += 1;
            let target = follow(page, file, &folders);
            let is_there = installed.keys().any(|name| {
                name.strip_prefix(&target)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            assert!(
                is_there,
                "{page}: {link} leads nowhere: is it among the assets of Cargo.toml?"
            );
        }
    }
    assert!(links > 100, "{links} links");
}

/// What lies in the package's folder of documents, by name, with the file of the repository that it is
/// (empty for a link); and the links to folders.
fn installed_pages(assets: &[toml::Value]) -> (BTreeMap<String, String>, Vec<(String, String)>) {
    const FOLDER: &str = "usr/share/doc/portcullis/";
    let (mut installed, mut folders) = (BTreeMap::new(), Vec::new());
    for asset in assets {
        if let toml::Value::Table(link) = asset {
            let field = |name: &str| link[name].as_str().expect("is text");
            if let Some(name) = field("dest").strip_prefix(FOLDER) {
                installed.insert(name.to_owned(), String::new());
                folders.push((name.to_owned(), field("link_name").to_owned()));
            }
            continue;
        }
        let field = |at: usize| asset[at].as_str().expect("is text");
        let Some(name) = field(1).strip_prefix(FOLDER) else { continue };
        for source in matching(field(0)) {
            let file = source.rsplit('/').next().expect("has a name");
            let folder = name.is_empty() || name.ends_with('/');
            let name = if folder { format!("{name}{file}") } else { name.to_owned() };
            installed.insert(name, source);
        }
    }
    (installed, folders)
}

/// The files of the repository that a pattern with one star in its last part stands for.
fn matching(pattern: &str) -> Vec<String> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![pattern.to_owned()] };
    let (folder, start) = before.rsplit_once('/').expect("is in a folder");
    // `*.*`: any file.
    let end = after.trim_start_matches(".*");
    let entries = fs::read_dir(root().join(folder)).expect("can be listed");
    let names = entries.map(|entry| entry.expect("can be read").file_name());
    let names = names.map(|name| name.into_string().expect("is text"));
    let wanted = names.filter(|name| name.starts_with(start) && name.ends_with(end));
    wanted.map(|name| format!("{folder}/{name}")).collect()
}

/// Where a link on a page leads, through the links to folders.
fn follow(page: &str, link: &str, folders: &[(String, String)]) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        if let Some((_, folder)) = folders.iter().find(|(name, _)| *name == parts.join("/")) {
            parts.pop();
            parts.push(folder);
        }
        match part {
            "." => {}
            ".." => _ = parts.pop().expect("stays inside the package's folder"),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn the_page_about_systemd_agrees_with_the_unit() {
    let unit = read("config/systemd/portcullis.service");
    let page = read("docs/systemd.md");
    let quoted = page.split("```\n").nth(1).expect("is there");
    for line in quoted.lines() {
        assert!(unit.lines().any(|of_unit| of_unit == line), "{line}");
    }
    assert!(
        quoted.contains("\nExecStop="),
        "without it a stop cuts the sessions of an upgraded process"
    );
}

#[test]
fn scripts_of_the_package_are_shell() {
    for script in ["postinst", "prerm", "postrm"] {
        let path = root().join("config/debian").join(script);
        let checked = Command::new("sh").arg("-n").arg(&path).output().expect("sh is there");
        assert!(checked.status.success(), "{script}: {checked:?}");
    }
}

#[test]
fn the_package_s_copyright_is_that_of_the_workspace() {
    let copyright = read("config/debian/copyright");
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0 OR MIT\"\n"));
    // Debian calls the MIT licence of this text Expat.
    assert!(copyright.contains("\nLicense: Apache-2.0 or Expat\n"));
    let licence = read("LICENSE-MIT");
    let mut lines = licence.lines().skip_while(|line| !line.starts_with("Copyright "));
    let holder = lines.next().expect("is there").replace("Copyright (c)", "Copyright:");
    assert!(copyright.contains(&format!("\n{holder}\n")), "{holder}");
    for line in lines.filter(|line| !line.is_empty()) {
        assert!(copyright.contains(&format!("\n {line}\n")), "{line}");
    }
}

#[test]
fn the_container_is_built_by_a_compiler_that_is_new_enough() {
    let wanted = read("Cargo.toml");
    let wanted = wanted.split("rust-version = \"").nth(1).expect("is there");
    let wanted = wanted.split('"').next().expect("ends");
    let file = read("config/container/Containerfile");
    assert!(
        file.contains(&format!("FROM docker.io/library/rust:{wanted}-")),
        "not of Rust {wanted}"
    );
}

/// The text below `portcullis.toml: |`, without its indentation.
fn config_map() -> String {
    let text = read("config/kubernetes/portcullis.yaml");
    let block = text.split_once("\n  portcullis.toml: |\n").expect("is there").1;
    let block = block.split("\n---\n").next().expect("ends");
    block
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

fn number(text: &str, before: &str) -> u64 {
    let after = text.split(before).nth(1).unwrap_or_default();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|error| panic!("a number after {before:?}: {error}"))
}

fn load_text(text: &str) -> Plan {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("portcullis.toml");
    fs::write(&file, text).expect("can be written");
    load(&file)
}

/// Of each crate that these packages are built of, by its name.
fn features(packages: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--no-dedupe"])
        .args(["--format", "{p}@{f}"])
        .args(packages)
        .current_dir(root())
        .output()
        .expect("cargo is there");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let mut crates = BTreeMap::<_, BTreeSet<_>>::new();
    let tree = String::from_utf8(tree.stdout).expect("is text");
    // An empty line parts the trees of two packages.
    for (name, features) in tree.lines().filter_map(|line| line.split_once('@')) {
        let name = name.split(' ').next().expect("has a name").to_owned();
        crates.entry(name).or_default().insert(features.trim_end_matches(" (*)").to_owned());
    }
    crates
}

fn load(path: &Path) -> Plan {
    config::load(path).unwrap_or_else(|problems| {
        panic!("{}:\n{}", path.display(), config::render(&problems, Style::Plain))
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}
