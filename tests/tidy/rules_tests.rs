//! Each rule on a small bad input, and on the good one beside it.

use super::*;

fn found(path: &str, text: &str, rule: &str) -> Vec<usize> {
    let offences = check(&Source::new(path, text));
    offences.iter().filter(|one| one.rule == rule).map(|one| one.line).collect()
}

#[test]
fn a_layer_may_not_name_one_above_or_beside_it() {
    for (path, text) in [
        ("src/core/a.rs", "use crate::config::plan::Plan;"),
        ("src/core.rs", "use crate::sys;"),
        ("src/config/mod.rs", "use crate::tls::Material;"),
        ("src/tls/a.rs", "use crate::sys::clock;"),
        ("src/sys/a.rs", "fn f() { crate::tls::g() }"),
        ("src/worker/a.rs", "use crate::{core::x, admin::{y, z}};"),
        ("src/telemetry/a.rs", "use crate::{\n    admin,\n    core,\n};"),
        ("src/admin/a.rs", "use crate::telemetry::x;"),
        ("src/tls/a.rs", "use super::super::worker;"),
        ("src/tls/a/b.rs", "use super::super::super::worker;"),
        ("src/elsewhere/a.rs", "fn f() {}"),
    ] {
        assert_eq!(found(path, text, "layers"), [1], "{path}: {text}");
    }
}

#[test]
fn a_layer_may_name_itself_and_those_below() {
    for (path, text) in [
        ("src/core/a.rs", "use crate::core::b; use core::fmt;"),
        ("src/worker/a.rs", "use crate::{core::admin::x, sys, tls::{self, y}};"),
        ("src/app/a.rs", "use crate::admin; pub(crate) use crate::telemetry;"),
        ("src/tls/a.rs", "// crate::worker\nconst A: &str = \"crate::worker\";"),
        ("src/tls/a/b.rs", "use super::super::worker;"),
        ("src/main.rs", "use portcullis::app;"),
        ("src/lib.rs", "pub mod core; pub use crate::app::run;"),
        ("tests/a.rs", "use crate::worker;"),
    ] {
        assert_eq!(found(path, text, "layers"), [], "{path}: {text}");
    }
}

#[test]
fn the_core_is_pure_and_only_tls_knows_rustls() {
    assert_eq!(found("src/core/a.rs", "\nuse std::sync::Mutex;", "purity"), [2]);
    assert_eq!(found("src/core/a.rs", "let now = Instant::now();", "purity"), [1]);
    assert_eq!(found("src/core/a.rs", "let later = now + Duration::from_secs(1);", "purity"), []);
    assert_eq!(found("src/core/a.rs", "// as rustls does, with a Mutex", "purity"), []);
    let tested = "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }";
    assert_eq!(found("src/core/a.rs", tested, "purity"), []);
    assert_eq!(found("src/core/a/tests.rs", "use rustls::Error;", "purity"), []);
    assert_eq!(found("src/worker/a.rs", "use rustls::Error;", "purity"), [1]);
    assert_eq!(found("src/app/a.rs", "use rustls_pki_types::CertificateDer;", "purity"), []);
    assert_eq!(found("src/tls/a.rs", "use rustls::Error; use std::sync::Mutex;", "purity"), []);
}

#[test]
fn a_file_opens_with_what_it_owns() {
    assert_eq!(found("src/core/a.rs", "use std::fmt;\n//! Late.\n", "opening"), [1]);
    assert_eq!(found("fuzz/fuzz_targets/a.rs", "", "opening"), [1]);
    assert_eq!(found("src/core/a.rs", "//! Owns it.\n", "opening"), []);
}

#[test]
fn files_and_functions_have_a_length() {
    assert_eq!(found("src/core/a.rs", &"\n".repeat(701), "file-length"), [1]);
    assert_eq!(found("src/core/a.rs", &"\n".repeat(700), "file-length"), []);
    let function = |lines: usize| {
        let body = "    g(\"}\");\n".repeat(lines - 2);
        format!("trait T {{\n    fn none(x: [u8; 2]);\n}}\nfn long() {{\n{body}}}\nfn f() {{}}\n")
    };
    assert_eq!(found("src/core/a.rs", &function(71), "function-length"), [4]);
    assert_eq!(found("src/core/a.rs", &function(70), "function-length"), []);
    let pointer = format!("struct S {{\n    f: fn(u8),\n{}}}\n", "    x: u8,\n".repeat(80));
    assert_eq!(found("src/core/a.rs", &pointer, "function-length"), []);
}

#[test]
fn unfinished_work_is_named() {
    for (word, _) in BANNED {
        assert_eq!(found("bench/a.rs", &format!("\n// a {word} b"), "banned-words"), [2], "{word}");
    }
    assert_eq!(found("src/core/a.rs", &format!("// {UNDONE}: x"), "banned-words"), [1]);
    assert_eq!(found("src/core/a.rs", &format!("// {UNDONE}(#12): x"), "banned-words"), []);
    let harmless = "// the template is XX".to_owned() + "XXXX, for nowhere";
    assert_eq!(found("src/core/a.rs", &harmless, "banned-words"), []);
}

#[test]
fn lints_are_expected_and_tests_run() {
    for text in ["#[allow(dead_code)]", "#![allow(x)]", "#[ignore]\nfn f() {}", "#[ignore = \"\"]"]
    {
        assert_eq!(found("src/core/a.rs", text, "attributes"), [1], "{text}");
    }
    let fine = "#[expect(x, reason = \"allow\")]\nlet allow = [ignore];";
    assert_eq!(found("src/core/a.rs", fine, "attributes"), []);
}

#[test]
fn unsafe_code_has_one_home() {
    assert_eq!(found("src/tls/a.rs", "\nunsafe { f() }", "unsafe"), [2]);
    assert_eq!(found("bench/src/lib.rs", "unsafe impl X for Y {}", "unsafe"), [1]);
    assert_eq!(found("src/core/allocator.rs", "unsafe { f() }", "unsafe"), [1]);
    for path in ["src/sys/splice.rs", "tests/allocations.rs", "bench/src/counting_allocator.rs"] {
        assert_eq!(found(path, "unsafe { f() }", "unsafe"), [], "{path}");
    }
    assert_eq!(found("src/tls/a.rs", "#![forbid(unsafe_code)] // unsafe", "unsafe"), []);
}

#[test]
fn an_offence_names_file_line_and_rule() {
    let offences = check(&Source::new("src/core/a.rs", "//! A.\nuse crate::app;\n"));
    assert_eq!(
        offences[0].to_string(),
        "src/core/a.rs:2: layers: `core` names `app`; below it is only nothing"
    );
}
