//! Configurations of several files.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::super::error::Problem;
use super::super::load;
use super::super::plan::Plan;

const MAIN: &str = r#"
include = ["conf.d/*.toml"]
[listener.edge]
address = "127.0.0.1:0"
[cluster.echo]
endpoints = ["127.0.0.1:7000"]
"#;

#[test]
fn tenants_may_have_a_file_each() {
    let plan = loaded(&[
        ("main.toml", MAIN),
        (
            "conf.d/b.toml",
            r#"
            [listener.edge.chain.b]
            match = { server_names = ["b.example"] }
            tls = "b"
            cluster = "b"
            [tls.downstream.b]
            certificates = [{ chain = "b.crt", key = "b.key" }]
            client_auth = "none"
            [cluster.b]
            endpoints = ["127.0.0.1:7001"]
            "#,
        ),
        ("conf.d/a.toml", "[listener.edge.chain.a]\ncluster = \"echo\"\n"),
        ("conf.d/.hidden.toml", "not TOML"),
        ("conf.d/a.toml.orig", "not TOML"),
    ])
    .expect("loads");
    let chains: Vec<&str> = plan.listeners[0].chains.iter().map(|chain| &*chain.name).collect();
    assert_eq!(chains, ["a", "b"]);
    let chain = &plan.downstream_tls[0].certificates[0].chain;
    assert!(chain.path.ends_with("conf.d/b.crt"), "relative to the file that names it");
    assert!(chain.at.file.ends_with("conf.d/b.toml"));
}

#[test]
fn tables_are_not_redefined() {
    let problems = loaded(&[
        ("main.toml", MAIN),
        (
            "conf.d/a.toml",
            "[cluster.echo]\nendpoints = [\"127.0.0.1:1\"]\n[log]\nlevel = \"info\"\n",
        ),
        ("conf.d/b.toml", "[log]\nlevel = \"warn\"\n[listener.edge]\naddress = \"127.0.0.1:1\"\n"),
        ("conf.d/c.toml", "[listener.edge.chain.default]\ncluster = \"echo\"\n"),
        ("conf.d/d.toml", "[listener.edge.chain.default]\ncluster = \"echo\"\n"),
    ])
    .expect_err("four tables are written twice");
    let shown = shown(&problems);
    assert_eq!(
        shown,
        [
            "a.toml:1:10: already written at main.toml:5:10",
            "b.toml:1:2: already written at a.toml:3:2",
            "b.toml:3:11: already written at main.toml:3:11",
            "d.toml:1:22: already written at c.toml:1:22",
        ]
    );
}

#[test]
fn included_files_do_not_include() {
    let problems = loaded(&[
        ("main.toml", MAIN),
        ("conf.d/a.toml", "include = [\"b.toml\"]\n[listener.edge.chain.a]\ncluster = \"echo\"\n"),
    ])
    .expect_err("nested include");
    assert_eq!(shown(&problems), ["a.toml:1:11: an included file may not include others"]);
}

#[test]
fn mistakes_of_all_files_are_shown_at_once() {
    let problems = loaded(&[
        ("main.toml", MAIN),
        ("conf.d/a.toml", "[cluster.x\n"),
        ("conf.d/b.toml", "[clutser.x]\n"),
    ])
    .expect_err("both are wrong");
    let files: Vec<&str> =
        problems.iter().filter_map(|problem| problem.at.file.file_name()?.to_str()).collect();
    assert_eq!(files, ["a.toml", "b.toml"], "{problems:#?}");
}

#[test]
fn a_file_named_without_a_star_must_be_there() {
    let problems = loaded(&[("main.toml", "include = [\"none.toml\", \"*/x.toml\", \"a/\"]\n")])
        .expect_err("is not there");
    let shown = shown(&problems);
    assert!(shown[0].starts_with("main.toml:1:12: "), "{shown:?}");
    assert!(shown[0].contains("none.toml cannot be read: "), "{shown:?}");
    assert_eq!(shown[1], "main.toml:1:25: `*` may only stand in the last part of a path");
    assert_eq!(shown[2], "main.toml:1:37: \"a/\" does not name files");
}

#[test]
fn a_pattern_does_not_include_the_main_file() {
    let main = MAIN.replace("conf.d/*.toml", "*.toml");
    let plan = loaded(&[
        ("main.toml", main.as_str()),
        ("other.toml", "[listener.edge.chain.a]\ncluster = \"echo\"\n"),
    ]);
    assert_eq!(plan.expect("loads").listeners.len(), 1);
}

fn loaded(files: &[(&str, &str)]) -> Result<Plan, Vec<Problem>> {
    let directory = tempfile::tempdir().expect("can be made");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("can be made");
        fs::write(path, text).expect("can be written");
    }
    let result = load(&directory.path().join("main.toml"));
    result.map_err(|problems| without(&directory, problems))
}

/// Leaves the directory out of what is said.
fn without(directory: &TempDir, problems: Vec<Problem>) -> Vec<Problem> {
    let prefixes = [directory.path().join("conf.d"), directory.path().to_owned()];
    let strip = |text: String| {
        let prefix =
            |text: String, prefix: &Path| text.replace(&format!("{}/", prefix.display()), "");
        prefixes.iter().fold(text, |text, directory| prefix(text, directory))
    };
    let strip_one = |problem: Problem| Problem { message: strip(problem.message), ..problem };
    problems.into_iter().map(strip_one).collect()
}

fn shown(problems: &[Problem]) -> Vec<String> {
    let one = |problem: &Problem| {
        let file = problem.at.file.file_name().unwrap_or_default().to_string_lossy();
        format!("{file}:{}:{}: {}", problem.at.line, problem.at.column, problem.message)
    };
    problems.iter().map(one).collect()
}
