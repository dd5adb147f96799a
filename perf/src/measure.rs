//! One round: the load generator's commands against one gateway, and the figures in their results.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::stage::{Programs, Stage};

/// How much of each work is done in a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) seconds: u32,
    pub(crate) mebibytes: u32,
    pub(crate) connections: u32,
}

/// What is measured, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    IdlePlain,
    IdleMtls,
    Full,
    Resumed,
    BytesPlain,
    BytesMtls,
}

impl Work {
    pub(crate) const ALL: [Work; 6] = [
        Work::IdlePlain,
        Work::IdleMtls,
        Work::Full,
        Work::Resumed,
        Work::BytesPlain,
        Work::BytesMtls,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Work::IdlePlain => "idle connection, mTLS to plain",
            Work::IdleMtls => "idle connection, mTLS to mTLS",
            Work::Full => "full mTLS handshake, a byte and back, close",
            Work::Resumed => "the same, resumed",
            Work::BytesPlain => "echoed byte, mTLS to plain",
            Work::BytesMtls => "echoed byte, mTLS to mTLS",
        }
    }

    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Work::IdlePlain | Work::IdleMtls => "KiB of memory",
            Work::Full | Work::Resumed => "CPU-us",
            Work::BytesPlain | Work::BytesMtls => "CPU-ns",
        }
    }
}

/// All works of one round, in the order of `Work::ALL`, each with a gateway of its own: memory that an
/// earlier work has freed would serve the next one, and be missing from its figure.
pub(crate) fn round(programs: &Programs, effort: Effort) -> Result<Vec<f64>> {
    let measured = |work: Work| {
        let result = Stage::set_up(programs).and_then(|stage| load(programs, &stage, work, effort));
        result.with_context(|| format!("measuring: {}", work.name()))
    };
    Work::ALL.into_iter().map(measured).collect()
}

fn load(programs: &Programs, stage: &Stage, work: Work, effort: Effort) -> Result<f64> {
    let name = match work {
        Work::IdlePlain | Work::Full | Work::Resumed | Work::BytesPlain => "plain.test",
        Work::IdleMtls | Work::BytesMtls => "mtls.test",
    };
    let out = stage.file("result.json");
    let mut command = Command::new(&programs.load);
    match work {
        Work::IdlePlain | Work::IdleMtls => {
            command.args(["hold", "--idle", "2s", "--conns", &effort.connections.to_string()]);
        }
        Work::Full | Work::Resumed => {
            let resume = if work == Work::Full { "0" } else { "1" };
            let seconds = format!("{}s", effort.seconds);
            command.args(["handshakes", "--conns", "16", "--warmup", "1s", "--quiet"]);
            command.args(["--duration", &seconds, "--resume", resume]);
        }
        Work::BytesPlain | Work::BytesMtls => {
            let bytes = format!("{}m", effort.mebibytes);
            command.args(["stream", "--direction", "duplex", "--bytes", &bytes]);
        }
    }
    command.args(["--target", &stage.address, "--sni", name]);
    command.arg("--client-cert").arg(stage.file("pki/alice.crt"));
    command.arg("--ca").arg(stage.file("pki/ca.crt"));
    command.args(["--server-pid", &stage.pid().to_string()]).arg("--out").arg(&out);
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{said}{errors}", output.status);
    let result: Value = serde_json::from_slice(&fs::read(&out)?)?;
    figure(&result, work).with_context(|| format!("no figure in {result}"))
}

/// The figure of a result, after a look at whether the work was what it should be.
fn figure(result: &Value, work: Work) -> Option<f64> {
    match work {
        Work::IdlePlain | Work::IdleMtls => {
            Some(result.get("server_bytes_per_connection")?.as_f64()? / 1024.0)
        }
        Work::Full | Work::Resumed => {
            let got = result.pointer("/resumed/got")?.as_f64()?;
            let as_asked = if work == Work::Full { got == 0.0 } else { got > 0.98 };
            let figure = result.pointer("/server/cpu_us_per_hs")?.as_f64()?;
            as_asked.then_some(figure)
        }
        Work::BytesPlain | Work::BytesMtls => result.get("server_cpu_ns_per_byte")?.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_that_did_not_resume_gives_no_resumed_figure() {
        let run = |got: f64| json!({"resumed": {"got": got}, "server": {"cpu_us_per_hs": 120.5}});
        assert_eq!(figure(&run(1.0), Work::Resumed), Some(120.5));
        assert_eq!(figure(&run(0.5), Work::Resumed), None);
        assert_eq!(figure(&run(0.0), Work::Full), Some(120.5));
        assert_eq!(figure(&run(0.1), Work::Full), None);
    }

    #[test]
    fn memory_is_in_kibibytes_and_missing_figures_are_missing() {
        let held = json!({"server_bytes_per_connection": 4096.0});
        assert_eq!(figure(&held, Work::IdleMtls), Some(4.0));
        assert_eq!(figure(&json!({}), Work::BytesPlain), None);
    }
}
