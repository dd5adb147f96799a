//! What callgrind counted, read from its files: of each part what is ours, and what is cryptography.
//!
//! aws-lc has code of its own for many processors, and none of it is ours. Whatever happens between a
//! call of one of its functions and its return is therefore counted apart. Rust's functions are told by
//! their names, and what they call in C by the call: the format is in valgrind's manual, "Callgrind
//! Format Specification".

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Instructions of one part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Ours, that of the crates we use, and of the C library and the allocator where Rust calls them.
    pub(crate) ours: u64,
    /// Within aws-lc.
    pub(crate) cryptography: u64,
    /// How often Rust calls aws-lc.
    pub(crate) calls: u64,
}

impl Count {
    pub(crate) fn a_turn(self, turns: u64) -> Self {
        let Self { ours, cryptography, calls } = self;
        // A call that is made now and then is one too many.
        let calls = calls.div_ceil(turns);
        Self { ours: ours / turns, cryptography: cryptography / turns, calls }
    }
}

/// Counts within the function that `within` names, and writes a part each time that it returns.
pub(crate) fn arguments(out: &Path, within: &str) -> Vec<OsString> {
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(out);
    let mut arguments = vec![file];
    let others = [
        "--tool=callgrind",
        "--quiet",
        "--collect-atstart=no",
        "--compress-strings=no",
        "--compress-pos=no",
    ];
    arguments.extend(others.map(OsString::from));
    arguments.push(format!("--toggle-collect={within}").into());
    arguments.push(format!("--dump-after={within}").into());
    arguments
}

/// The parts below `directory`, in the order in which they were counted.
pub(crate) fn read(directory: &Path) -> Result<Vec<Count>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(directory).context("what valgrind wrote")? {
        let path = entry.context("what valgrind wrote")?.path();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        parts.extend(part(&text));
    }
    parts.sort_by_key(|(number, _)| *number);
    Ok(parts.into_iter().map(|(_, count)| count).collect())
}

/// Its number and what it counted; `None` for the one that valgrind writes at the end.
fn part(text: &str) -> Option<(u32, Count)> {
    let number = text.lines().find_map(|line| line.strip_prefix("part: "))?.trim().parse().ok()?;
    text.lines().find(|line| line.starts_with("desc: Trigger: --dump-after"))?;
    let mut count = Count::default();
    let (mut is_rust, mut callee, mut calls) = (false, "", None);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            is_rust = name.contains("::");
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = name;
        } else if let Some(call) = line.strip_prefix("calls=") {
            calls = call.split(' ').next().and_then(|calls| calls.parse::<u64>().ok());
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
            match (is_rust, calls.take()) {
                (true, Some(_)) if callee.contains("::") => {}
                (true, Some(calls)) if callee.starts_with(CRYPTOGRAPHY) => {
                    count.cryptography += cost;
                    count.calls += calls;
                }
                (true, _) => count.ours += cost,
                // Is in the cost of the call that Rust made.
                (false, _) => {}
            }
        }
    }
    Some((number, count))
}

/// What each function that aws-lc shows is called by, before its version.
const CRYPTOGRAPHY: &str = "aws_lc_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rust_calls_in_c_is_ours_but_for_cryptography() {
        let text = "part: 7\ndesc: Trigger: --dump-after=*::measured\nevents: Ir\n\
                    fn=bench::measured\n10 5\ncfn=core::seal\ncalls=3 20\n11 9000\n\
                    fn=core::seal\n20 100\ncfn=aws_lc_0_42_0_seal\ncalls=3 0\n21 8000\n\
                    22 7\ncfn=memcpy\ncalls=3 0\n22 60\n\
                    fn=aws_lc_0_42_0_seal\n0 7970\ncfn=memcpy\ncalls=3 0\n0 30\n\
                    fn=memcpy\n0 90\ntotals: 8172\n";
        let count = Count { ours: 172, cryptography: 8000, calls: 3 };
        assert_eq!(part(text), Some((7, count)));
        assert_eq!(count.a_turn(2), Count { ours: 86, cryptography: 4000, calls: 2 });
    }

    #[test]
    fn the_part_at_the_end_of_the_program_is_no_cases() {
        assert_eq!(part("part: 8\ndesc: Trigger: Program termination\nfn=a::b\n1 5\n"), None);
    }
}
