//! Owns the floor under each row: the same cryptography in memory, without sockets, plus a bare
//! forwarder of TCP, without cryptography. What keeps to this kernel's sockets and to these libraries
//! can hardly be cheaper; how far above a gateway lies is what is left to win.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::gateway::Gateway;
use crate::measure::Site;
use crate::process::run;
use crate::row::{CLASSICAL, POST_QUANTUM, Row};
use crate::way::{Leg, Way};

/// The forwarders, for as long as they are needed.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) read_write: Gateway,
    pub(crate) splice: Gateway,
}

impl Floor {
    /// The floors of those rows that have one.
    pub(crate) fn measure(&self, site: &Site<'_>, rows: &[&Row]) -> Result<BTreeMap<String, f64>> {
        let mut parts = Parts { site, floor: self, known: BTreeMap::new() };
        let mut floors = BTreeMap::new();
        for row in rows {
            let mut sum = 0.0;
            let needed = parts_of(row.key);
            for (times, part) in needed {
                sum += times * parts.of(*part)?;
            }
            if !needed.is_empty() {
                floors.insert(row.key.to_owned(), sum);
            }
        }
        Ok(floors)
    }
}

/// What a floor is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The server's side of a handshake, and the client's, in CPU-us: group, resumed.
    Server(&'static str, bool),
    Client(&'static str, bool),
    /// CPU-ns a byte, in records of 16 KiB.
    Open,
    Seal,
    /// CPU-us for a record of 64 bytes.
    OpenSmall,
    SealSmall,
    /// A row of the forwarder with read and write.
    ReadWrite(&'static str),
    Splice(&'static str),
}

fn parts_of(key: &str) -> &'static [(f64, Part)] {
    use Part::{Client, Open, OpenSmall, ReadWrite, Seal, SealSmall, Server, Splice};
    const CONNECTION: (f64, Part) = (1.0, ReadWrite("connection-pass"));
    match key {
        "full" | "full-many" => const { &[(1.0, Server(CLASSICAL, false)), CONNECTION] },
        "resumed" => const { &[(1.0, Server(CLASSICAL, true)), CONNECTION] },
        "full-pq" => const { &[(1.0, Server(POST_QUANTUM, false)), CONNECTION] },
        "resumed-pq" => const { &[(1.0, Server(POST_QUANTUM, true)), CONNECTION] },
        "upstream" => {
            const { &[(1.0, Server(CLASSICAL, true)), (1.0, Client(CLASSICAL, true)), CONNECTION] }
        }
        "up-plain" => &[(1.0, Open), (1.0, ReadWrite("up-pass"))],
        "down-plain" => &[(1.0, Seal), (1.0, ReadWrite("down-pass"))],
        "up-mtls" => &[(1.0, Open), (1.0, Seal), (1.0, ReadWrite("up-pass"))],
        "down-mtls" => &[(1.0, Open), (1.0, Seal), (1.0, ReadWrite("down-pass"))],
        "up-pass" => &[(1.0, Splice("up-pass"))],
        "down-pass" => &[(1.0, Splice("down-pass"))],
        "connection-pass" => const { &[CONNECTION] },
        "ping-plain" => &[(1.0, OpenSmall), (1.0, SealSmall), (1.0, ReadWrite("ping-mtls"))],
        "ping-mtls" => &[(2.0, OpenSmall), (2.0, SealSmall), (1.0, ReadWrite("ping-mtls"))],
        _ => &[],
    }
}

/// Each part is measured once a round.
struct Parts<'a> {
    site: &'a Site<'a>,
    floor: &'a Floor,
    known: BTreeMap<Part, f64>,
}

impl Parts<'_> {
    fn of(&mut self, part: Part) -> Result<f64> {
        if let Some(known) = self.known.get(&part) {
            return Ok(*known);
        }
        let value = match part {
            Part::Server(group, _) | Part::Client(group, _) => {
                self.handshakes(group)?;
                return self.known.get(&part).copied().context("no such cost");
            }
            Part::Open => self.record(RECORD_BYTES, Task::Open)? / bytes(RECORD_BYTES),
            Part::Seal => self.record(RECORD_BYTES, Task::Seal)? / bytes(RECORD_BYTES),
            Part::OpenSmall => self.record(64, Task::Open)? / 1000.0,
            Part::SealSmall => self.record(64, Task::Seal)? / 1000.0,
            Part::ReadWrite(key) => self.forwarded(&self.floor.read_write, key)?,
            Part::Splice(key) => self.forwarded(&self.floor.splice, key)?,
        };
        self.known.insert(part, value);
        Ok(value)
    }

    fn handshakes(&mut self, group: &'static str) -> Result<()> {
        let mut crypto = Command::new(&self.site.programs.load);
        crypto.args(["crypto", "--json", "--rounds", "1000", "--groups", group]);
        let said = self.site.at_the_gateway(|| run(&mut crypto))?;
        let costs: Value = serde_json::from_str(said.trim())?;
        for (kind, is_resumed) in [("full", false), ("resumed", true)] {
            let cost = |side: &str| {
                let cost = costs.pointer(&format!("/{kind}/{side}_us")).and_then(Value::as_f64);
                cost.context("no such cost")
            };
            self.known.insert(Part::Server(group, is_resumed), cost("server")?);
            self.known.insert(Part::Client(group, is_resumed), cost("client")?);
        }
        Ok(())
    }

    fn record(&self, length: usize, task: Task) -> Result<f64> {
        self.site.at_the_gateway(|| record(length, task))
    }

    /// The forwarder opens nothing: whatever the row, its bytes pass through.
    fn forwarded(&self, forwarder: &Gateway, key: &str) -> Result<f64> {
        let row = Row::named(key).context("no such row")?;
        let row = Row { way: Way { leg: Leg::Pass, ..row.way }, ..*row };
        Ok(self.site.window(forwarder, &row)?.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Open,
    Seal,
}

/// CPU-ns to open or seal a record of TLS 1.3 with AES-128-GCM, by the quicker of the libraries that the
/// gateway chooses from.
fn record(length: usize, what: Task) -> Result<f64> {
    Ok(record_by_aws_lc(length, what)?.min(record_by_ring(length, what)?))
}

/// The two have the same interface, and types of their own.
macro_rules! record_by {
    ($name:ident, $library:ident) => {
        fn $name(length: usize, what: Task) -> Result<f64> {
            use $library::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

            let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).ok().context("no key")?;
            let key = LessSafeKey::new(key);
            let nonce = || Nonce::assume_unique_for_key([1; 12]);
            let header = || Aad::from([23, 3, 3, 0, 0]);
            let mut sealed = vec![5; length];
            let done = key.seal_in_place_append_tag(nonce(), header(), &mut sealed);
            done.ok().context("cannot seal")?;
            cpu_of(&sealed, |scratch| {
                let done = match what {
                    Task::Open => key.open_in_place(nonce(), header(), scratch).map(drop),
                    Task::Seal => {
                        let text = &mut scratch[..length];
                        key.seal_in_place_separate_tag(nonce(), header(), text).map(drop)
                    }
                };
                done.ok().context("cannot open or seal")
            })
        }
    };
}

record_by!(record_by_aws_lc, aws_lc_rs);
record_by!(record_by_ring, ring);

/// CPU-ns of `work` on a fresh copy of `sealed`. The copy, which only opening needs, is made for both and
/// taken off.
fn cpu_of(sealed: &[u8], work: impl Fn(&mut [u8]) -> Result<()>) -> Result<f64> {
    let mut scratch = sealed.to_vec();
    let mut spent = Duration::ZERO;
    let mut records = 0;
    while spent < RECORDS_SPAN {
        let before = thread_cpu();
        for _ in 0..RECORDS_A_TURN {
            scratch.copy_from_slice(sealed);
            work(&mut scratch)?;
        }
        let middle = thread_cpu();
        for _ in 0..RECORDS_A_TURN {
            scratch.copy_from_slice(std::hint::black_box(sealed));
            std::hint::black_box(&mut scratch);
        }
        spent += (middle - before).saturating_sub(thread_cpu() - middle);
        records += RECORDS_A_TURN;
    }
    Ok(spent.as_secs_f64() * 1e9 / f64::from(records))
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[expect(clippy::cast_precision_loss, reason = "the length of a record")]
fn bytes(length: usize) -> f64 {
    length as f64
}

const RECORD_BYTES: usize = 16 * 1024;
const RECORDS_A_TURN: u32 = 500;
const RECORDS_SPAN: Duration = Duration::from_millis(150);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::ROWS;

    #[test]
    fn all_rows_but_memory_and_tls_1_2_have_a_floor() {
        let without: Vec<_> =
            ROWS.iter().filter(|row| parts_of(row.key).is_empty()).map(|row| row.key).collect();
        assert_eq!(without, ["resumed-tls12", "idle-plain", "idle-plain-many", "idle-mtls"]);
    }

    #[test]
    fn records_cost_something() {
        assert!(record(64, Task::Open).unwrap() > 0.0);
        assert!(record(64, Task::Seal).unwrap() > 0.0);
    }
}
