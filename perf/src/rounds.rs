//! Owns what a comparison has measured: a round's figures, kept as a line of JSON, so that rounds of
//! several runs can be put together, and where and with what they were measured.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::gateway::Program;
use crate::process::Programs;

/// Where, when and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Circumstances {
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) versions: BTreeMap<String, String>,
}

/// Every program's figures of one round, by the keys of programs and rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) circumstances: Circumstances,
    pub(crate) figures: BTreeMap<String, BTreeMap<String, f64>>,
    pub(crate) floor: BTreeMap<String, f64>,
    /// Windows that others disturbed in every try.
    pub(crate) disturbed: u32,
    /// Why programs, or `PROGRAM ROW`, have none.
    pub(crate) skipped: BTreeMap<String, String>,
}

impl Circumstances {
    pub(crate) fn look(programs: &Programs, compared: &[Program]) -> Self {
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            output.status.success().then(|| text.trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let commit = said("git", &["describe", "--always", "--dirty", "--exclude", "*"]);
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let version = |program: &Program| {
            let version = program.version(programs).unwrap_or_else(|_missing| unknown());
            (program.name().to_owned(), version)
        };
        Self {
            commit: commit.unwrap_or_else(unknown),
            date: said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).unwrap_or_else(unknown),
            kernel: said("uname", &["-sr"]).unwrap_or_else(unknown),
            cpu: model.map_or_else(unknown, |(_, model)| model.to_owned()),
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            versions: compared.iter().map(version).collect(),
        }
    }
}

/// The rounds in a file; none if there is no file.
pub(crate) fn read(path: &Path) -> Result<Vec<Round>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    };
    let parse = |line| serde_json::from_str(line).context("a line that is no round");
    text.lines().map(parse).collect::<Result<_>>().with_context(|| format!("{}", path.display()))
}

/// Adds a line to a file.
pub(crate) fn append(path: &Path, line: &impl Serialize) -> Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(writeln!(file, "{}", serde_json::to_string(line)?)?)
}
