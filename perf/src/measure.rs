//! Owns one window: a command of `portcullis-load` against a gateway, the figure in its result, and
//! whether it was the work that was asked for. `row.rs` says what there is to measure.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::disturbance::{TRIES_MAX, Watch, least_disturbed};
use crate::gateway::{Gateway, Program};
use crate::process::{Programs, on_cores, run};
use crate::row::{Clients, Load, Resume, Row};
use crate::stage::{SUITES, Stage, server_name};
use crate::way::{Leg, Mode, Way};

/// How much of each work is done in a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) seconds: f64,
    pub(crate) mebibytes: u32,
    pub(crate) round_trips: u32,
    pub(crate) connections: u32,
}

/// What all windows have in common.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) stage: &'a Stage,
    pub(crate) effort: Effort,
    /// The gateway's.
    pub(crate) own_core: usize,
    /// That of the load, the upstreams and this thread.
    pub(crate) other_core: usize,
}

impl Site<'_> {
    /// A gateway on its core.
    pub(crate) fn start(&self, program: Program) -> Result<Gateway> {
        self.at_the_gateway(|| program.start(self.programs, self.stage))
    }

    /// Does something where gateways run.
    pub(crate) fn at_the_gateway<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        on_cores(&[self.own_core])?;
        let done = work();
        on_cores(&[self.other_core])?;
        done
    }

    /// The row's figure, and the share of the machine that others used meanwhile. A window that they
    /// disturbed is repeated, up to `TRIES_MAX` times in all; the least disturbed one counts. Where a row
    /// wants a new gateway, each try has one, of the same program.
    pub(crate) fn window(&self, gateway: &Gateway, row: &Row) -> Result<(f64, f64)> {
        let place = || format!("{} with {}", row.key, gateway.program.name());
        // Memory does not depend on who else runs.
        let tries = if row.is_memory() { 1 } else { TRIES_MAX };
        least_disturbed(&place(), tries, || {
            let new =
                if row.wants_a_new_gateway() { Some(self.start(gateway.program)?) } else { None };
            let gateway = new.as_ref().unwrap_or(gateway);
            let mut pids = self.stage.pids();
            pids.push(gateway.pid);
            let watch = Watch::begin(pids)?;
            let figure = self.once(gateway, row).with_context(place)?;
            Ok((figure, watch.others()?))
        })
    }

    /// The row's figure, whoever else runs.
    pub(crate) fn once(&self, gateway: &Gateway, row: &Row) -> Result<f64> {
        let out = self.stage.file("result.json");
        let mut command = self.command(gateway, row)?;
        command.arg("--out").arg(&out);
        let before = self.stage.handshakes(row.way)?;
        run(&mut command)?;
        let after = self.stage.handshakes(row.way)?;
        let result: Value = serde_json::from_slice(&fs::read(&out)?)?;
        if row.way.leg == Leg::Mtls && matches!(row.load, Load::Handshakes { .. }) {
            let (all, resumed) = (after.0 - before.0, after.1 - before.1);
            let said = format!("the upstream resumed {resumed} of {all} handshakes");
            ensure!(resumed * 100 >= all * RESUMED_LEAST, "{said}");
            crate::note(format_args!("{} with {}: {said}", row.key, gateway.program.name()));
        }
        figure(&result, row).with_context(|| format!("no figure in {}", brief(&result)))
    }

    /// The load, by clients with certificates.
    fn command(&self, gateway: &Gateway, row: &Row) -> Result<Command> {
        let mut command = Command::new(&self.programs.load);
        let address = gateway.address(row.way)?.to_string();
        match row.load {
            Load::Handshakes { tls, group, resume, clients } => {
                let resume = if resume == Resume::Always { "1" } else { "0" };
                let seconds = format!("{}s", self.effort.seconds);
                command.args(["handshakes", "--quiet", "--cheap-client", "--conns", "16"]);
                command.args(["--warmup", "500ms", "--duration", &seconds]);
                command.args(["--tls", tls, "--groups", group, "--resume", resume]);
                command.arg("--client-cert");
                match clients {
                    Clients::Few => command.arg(self.stage.file("clients")),
                    Clients::Crowd => command.arg(self.stage.crowd()).arg("--certs-in-turn"),
                };
            }
            Load::Stream(direction) => {
                let bytes = format!("{}m", self.effort.mebibytes);
                command.args(["stream", "--direction", direction, "--bytes", &bytes]);
                command.arg("--unclean-end-ok");
                command.arg("--client-cert").arg(self.stage.file("clients/alice.crt"));
            }
            Load::PingPong => {
                let bytes = (u64::from(self.effort.round_trips) * PING_BYTES / STREAMS).to_string();
                command.args(["stream", "--direction", "ping-pong", "--bytes", &bytes]);
                command.arg("--unclean-end-ok");
                command.args(["--write", &PING_BYTES.to_string()]);
                command.args(["--streams", &STREAMS.to_string()]);
                command.args(["--sessions", &STREAMS.to_string()]);
                command.arg("--client-cert").arg(self.stage.file("clients/alice.crt"));
            }
            Load::Idle(clients) => {
                command.args(["hold", "--idle", "3s", "--base", "1000", "--concurrency", "4"]);
                command.args(["--conns", &self.effort.connections.to_string()]);
                command.arg("--client-cert").arg(match clients {
                    Clients::Few => self.stage.file("clients/alice.crt"),
                    Clients::Crowd => self.stage.crowd(),
                });
            }
        }
        command.args([
            "--target",
            &address,
            "--sni",
            server_name(row.way),
            "--cipher-suites",
            SUITES,
        ]);
        command.args(["--server-pid", &gateway.pid.to_string()]);
        Ok(command)
    }

    /// Fails unless a client without a certificate is refused: by the gateway where it terminates TLS,
    /// by the upstream where bytes pass through. Ways of one leg have the same terms.
    pub(crate) fn refuses_strangers(&self, gateway: &Gateway) -> Result<()> {
        for way in Way::all().filter(|way| way.mode == Mode::Echo) {
            let mut last = Value::Null;
            // On a busy machine nobody may have got as far as a refusal.
            let mut is_refused = false;
            for _ in 0..TRIES_MAX {
                last = self.stranger(gateway, way)?;
                let count = |key: &str| last.pointer(key).and_then(Value::as_u64);
                ensure!(
                    count("/counts/wrongly_accepted") == Some(0),
                    "{} lets a client without a certificate in at {}: {}",
                    gateway.program.name(),
                    way.name(),
                    brief(&last)
                );
                is_refused = count("/counts/refused").is_some_and(|refused| refused > 0);
                if is_refused {
                    break;
                }
            }
            ensure!(
                is_refused,
                "{} refused nobody at {}: {}",
                gateway.program.name(),
                way.name(),
                brief(&last)
            );
        }
        Ok(())
    }

    /// What becomes of clients without a certificate; how the command ends says nothing about them.
    fn stranger(&self, gateway: &Gateway, way: Way) -> Result<Value> {
        let out = self.stage.file("result.json");
        let mut command = Command::new(&self.programs.load);
        command.args(["handshakes", "--quiet", "--conns", "2", "--warmup", "0s"]);
        command.args(["--duration", "500ms", "--cipher-suites", SUITES]);
        command.args(["--target", &gateway.address(way)?.to_string()]);
        command.args(["--sni", &format!("!{}", server_name(way))]).arg("--out").arg(&out);
        command.output().with_context(|| format!("{command:?}"))?;
        Ok(serde_json::from_slice(&fs::read(&out)?)?)
    }
}

/// The figure of a result, after a look at whether the work was what it should be.
fn figure(result: &Value, row: &Row) -> Option<f64> {
    let number = |pointer: &str| result.pointer(pointer).and_then(Value::as_f64);
    match row.load {
        Load::Handshakes { resume, .. } => {
            let got = number("/resumed/got")?;
            let as_asked = if resume == Resume::Never { got == 0.0 } else { got > 0.98 };
            let few_errors = number("/counts/errors")? <= number("/counts/attempted")? / 1000.0;
            let some = number("/counts/confirmed")? >= 100.0;
            let figure = number("/server/cpu_us_per_hs")?;
            (as_asked && few_errors && some).then_some(figure)
        }
        Load::Stream(_) => number("/server_cpu_ns_per_byte"),
        // Each byte of a round trip was counted once on its way up and once on its way down.
        Load::PingPong => {
            let bytes = f64::from(u32::try_from(2 * PING_BYTES).ok()?);
            Some(number("/server_cpu_ns_per_byte")? * bytes / 1000.0)
        }
        Load::Idle(_) => Some(number("/server_bytes_per_connection")? / 1024.0),
    }
}

/// A result without its long parts.
fn brief(result: &Value) -> String {
    let mut brief = result.clone();
    if let Some(map) = brief.as_object_mut() {
        map.retain(|key, _| {
            !["hist", "ticks", "latency_us", "env", "names"].contains(&key.as_str())
        });
    }
    brief.to_string()
}

const PING_BYTES: u64 = 64;
const STREAMS: u64 = 16;
/// Per cent of the upstream's handshakes. Who keeps fewer tickets than there are dials at once makes
/// some full ones; their cost is in its figure.
const RESUMED_LEAST: u64 = 80;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(key: &str) -> &'static Row {
        Row::named(key).unwrap()
    }

    #[test]
    fn a_run_that_did_other_work_gives_no_figure() {
        let run = |got: f64, errors: u32, confirmed: u32| {
            json!({
                "resumed": {"got": got},
                "counts": {"errors": errors, "attempted": 1000, "confirmed": confirmed},
                "server": {"cpu_us_per_hs": 120.5},
            })
        };
        assert_eq!(figure(&run(1.0, 0, 1000), row("resumed")), Some(120.5));
        assert_eq!(figure(&run(0.5, 0, 1000), row("resumed")), None);
        assert_eq!(figure(&run(0.0, 1, 1000), row("full")), Some(120.5));
        assert_eq!(figure(&run(0.1, 0, 1000), row("full")), None);
        assert_eq!(figure(&run(0.0, 2, 1000), row("full")), None);
        assert_eq!(figure(&run(0.0, 0, 10), row("full")), None);
    }

    #[test]
    fn figures_come_in_the_units_of_their_rows() {
        let stream = json!({"server_cpu_ns_per_byte": 100.0});
        assert_eq!(figure(&stream, row("up-plain")), Some(100.0));
        assert_eq!(figure(&stream, row("ping-plain")), Some(12.8));
        let held = json!({"server_bytes_per_connection": 8704.0});
        assert_eq!(figure(&held, row("idle-mtls")), Some(8.5));
        assert_eq!(figure(&json!({}), row("idle-mtls")), None);
    }
}
