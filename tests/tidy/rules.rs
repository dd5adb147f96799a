//! The rules for one file: layers, shape, banned words. `modules` holds those for the tree.

use super::Offence;
use super::source::{Source, words_in};

pub(crate) fn check(source: &Source) -> Vec<Offence> {
    let rules = [
        layers,
        purity,
        opening,
        file_length,
        function_length,
        banned_words,
        attributes,
        unsafe_code,
    ];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

/// A module of `src/` may name those below it only.
fn layers(source: &Source) -> Vec<Offence> {
    let Some(module) = module_of(&source.path) else { return Vec::new() };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        let names: Vec<_> = LAYERS.iter().map(|(name, _)| *name).collect();
        let message = format!("`{module}` is no layer; the layers are {}", names.join(", "));
        return vec![offence(source, 0, "layers", message)];
    };
    let refused = |(at, name): (usize, String)| {
        let is_layer = LAYERS.iter().any(|(layer, _)| *layer == name);
        let is_allowed = name == module || allowed.contains(&name.as_str());
        let below = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
        let message = format!("`{module}` names `{name}`; below it is only {below}");
        (is_layer && !is_allowed).then(|| offence(source, at, "layers", message))
    };
    let paths = paths_after(source, "crate").chain(paths_after_supers(source));
    paths.filter_map(refused).collect()
}

/// The core has no socket, clock, randomness, lock, log or rustls, and only `tls` knows rustls. Their
/// tests may: an `Instant` comes from nowhere else, and rustls is what parsers are compared with.
fn purity(source: &Source) -> Vec<Offence> {
    let module = module_of(&source.path);
    if source.path.contains("/tests/") || source.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let is_tests = |at: &usize| source.code[at + "mod".len()..].trim_start().starts_with("tests");
    let tests = source.words("mod").find(is_tests).unwrap_or(source.code.len());
    let mut offences = Vec::new();
    let mut refuse = |words: &[&str], why: &str| {
        for word in words {
            for at in source.words(word).take_while(|at| *at < tests) {
                offences.push(offence(source, at, "purity", format!("`{word}`: {why}")));
            }
        }
    };
    if module == Some("core") {
        refuse(&IMPURE, "the core takes facts as arguments and gives wishes as values");
    } else if module.is_some_and(|module| module != "tls") {
        refuse(&["rustls::"], "only `tls` knows rustls");
    }
    offences
}

/// Every file says what it owns, what it never does, which file to read next.
fn opening(source: &Source) -> Vec<Offence> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![offence(source, 0, "opening", "the first line is not `//! …`, what this file owns")]
}

fn file_length(source: &Source) -> Vec<Offence> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    let message = format!("{lines} lines, more than {FILE_LINES_MAX}: one file, one noun");
    vec![offence(source, 0, "file-length", message)]
}

fn function_length(source: &Source) -> Vec<Offence> {
    let too_long = |at: usize| {
        let lines = source.code[at..=at + body_end(&source.code[at..])?].lines().count();
        let name = source.code[at + 2..].trim_start();
        let name = &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_')?];
        let message = format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}");
        (lines > FUNCTION_LINES_MAX).then(|| offence(source, at, "function-length", message))
    };
    source.words("fn").filter_map(too_long).collect()
}

/// Unfinished work. These count in comments and strings too.
fn banned_words(source: &Source) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (word, instead) in BANNED {
        for at in words_in(&source.text, word) {
            let message = format!("`{word}`: {instead}");
            offences.push(offence(source, at, "banned-words", message));
        }
    }
    for at in words_in(&source.text, UNDONE) {
        if !source.text[at + UNDONE.len()..].starts_with("(#") {
            let message = format!("`{UNDONE}` without the number of an issue, as `{UNDONE}(#12)`");
            offences.push(offence(source, at, "banned-words", message));
        }
    }
    offences
}

fn attributes(source: &Source) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (attribute, instead) in [
        ("allow", "use `#[expect(…, reason = \"…\")]`, which says when it is needed no more"),
        ("ignore", "a test that does not run proves nothing"),
    ] {
        for at in source.words(attribute) {
            let before = source.code[..at].trim_end();
            if before.ends_with("#[") || before.ends_with("#![") {
                let message = format!("`#[{attribute}`: {instead}");
                offences.push(offence(source, at, "attributes", message));
            }
        }
    }
    offences
}

/// `unsafe` lives in `src/sys`; a test may have an allocator that counts.
fn unsafe_code(source: &Source) -> Vec<Offence> {
    let file = source.path.rsplit('/').next().unwrap_or_default();
    let is_test_allocator = !source.path.starts_with("src/") && file.contains("alloc");
    if source.path.starts_with("src/sys/") || is_test_allocator {
        return Vec::new();
    }
    let message = "`unsafe` belongs in src/sys, one operation a block, with its SAFETY line";
    source.words("unsafe").map(|at| offence(source, at, "unsafe", message)).collect()
}

/// The module of `src/` in which a file lies; `lib.rs` and `main.rs` lie in none.
fn module_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    let module = below.split('/').next().unwrap_or(below);
    let module = module.strip_suffix(".rs").unwrap_or(module);
    (!["lib", "main", "bin"].contains(&module)).then_some(module)
}

/// Every `NAME` of a path `head::NAME` or a list `head::{NAME, …}`, with where it stands.
fn paths_after<'a>(
    source: &'a Source,
    head: &'a str,
) -> impl Iterator<Item = (usize, String)> + 'a {
    source.words(head).flat_map(|at| {
        let rest = source.code[at + head.len()..].strip_prefix("::");
        rest.map(first_names).unwrap_or_default().into_iter().map(move |name| (at, name))
    })
}

/// Paths that climb to the crate's root by `super::super::`. A nested `mod` can make this climb one
/// step less; then the name that follows is no layer's.
fn paths_after_supers(source: &Source) -> impl Iterator<Item = (usize, String)> + '_ {
    let depth = source.path.trim_end_matches("/mod.rs").matches('/').count();
    let climb = "super::".repeat(depth);
    let starts: Vec<_> = source.code.match_indices(&climb).map(|(at, _)| at).collect();
    starts.into_iter().flat_map(move |at| {
        let rest = source.code[at + climb.len()..].trim_start_matches("super::");
        first_names(rest).into_iter().map(move |name| (at, name))
    })
}

/// `a` of `a::b`, or `a` and `b` of `{a::c, b}`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let Some(list) = path.trim_start().strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut from) = (0usize, Vec::new(), 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                names.push(name(&list[from..at]));
                break;
            }
            ',' if depth == 0 => {
                names.push(name(&list[from..at]));
                from = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// Where the body of the function that `code` starts with ends; `None` without a body.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut others) = (0usize, 0usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.checked_sub(1)?,
            ';' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && others == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn offence(source: &Source, at: usize, rule: &'static str, message: impl Into<String>) -> Offence {
    Offence { file: source.path.clone(), line: source.line_of(at), rule, message: message.into() }
}

/// Each module of `src/`, and those it may name.
const LAYERS: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("config", &["core"]),
    ("tls", &["config", "core"]),
    ("sys", &["config", "core"]),
    ("worker", &["tls", "sys", "config", "core"]),
    ("admin", &["worker", "tls", "sys", "config", "core"]),
    ("telemetry", &["worker", "tls", "sys", "config", "core"]),
    ("app", &["admin", "telemetry", "worker", "tls", "sys", "config", "core"]),
];
const IMPURE: [&str; 16] = [
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "SystemTime",
    "Instant::now",
    "rand::",
    "Mutex",
    "RwLock",
    "std::fs",
    "std::env",
    "std::thread",
    "tokio",
    "rustls",
    "tracing",
    "socket2",
];
const FILE_LINES_MAX: usize = 700;
const FUNCTION_LINES_MAX: usize = 70;
// In two pieces each, so that this file does not break its own rule.
const UNDONE: &str = concat!("TO", "DO");
const BANNED: [(&str, &str); 6] = [
    (concat!("FIX", "ME"), "fix it, or open an issue"),
    (concat!("X", "XX"), "say what is wrong, or open an issue"),
    (concat!("HA", "CK"), "say why it has to be so"),
    (concat!("to", "do!"), "no stub is merged"),
    (concat!("unimpl", "emented!"), "no stub is merged"),
    (concat!("for", " now"), "finish it, or say what the limit is"),
];

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
