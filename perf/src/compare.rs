//! Owns the comparison: gateways side by side, row by row, round by round, each window of one gateway
//! followed by the same window of the next. `measure.rs` is one window, `verdict.rs` the sums.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::disturbance::OTHERS_MAX;
use crate::floor::Floor;
use crate::gateway::{Gateway, Program, is_post_quantum};
use crate::measure::{Effort, Site};
use crate::process::{Programs, on_cores};
use crate::rounds::{self, Circumstances, Round};
use crate::row::{ROWS, Row};
use crate::stage::Stage;
use crate::verdict::Line;
use crate::{history, note, picture, table};

/// Portcullis beside Envoy, nginx and HAProxy: CPU per unit of work, and memory, of one worker
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Rounds; a ratio is the median of the rounds' ratios
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Only these rows; one that there is not names all
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Only these programs: portcullis, envoy, envoy-sni, nginx, haproxy, io_uring
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave the floor out
    #[arg(long)]
    no_floor: bool,
    /// How much is done in a window.
    #[command(flatten)]
    effort: EffortFlags,
    /// Cores: the gateway's, and that of load and upstreams
    #[arg(long, default_value = "0,1", value_delimiter = ',', num_args = 1)]
    cores: Vec<usize>,
    /// Keep rounds here, one a line, and count those that are there already
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Write table, picture and a line of history here
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// The size of a window.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct EffortFlags {
    /// Seconds of handshakes
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Mebibytes that stream
    #[arg(long, default_value_t = 2048)]
    pub(crate) mebibytes: u32,
    /// Round trips of 64 bytes
    #[arg(long, default_value_t = 100_000)]
    pub(crate) round_trips: u32,
    /// Idle connections whose memory is measured
    #[arg(long, default_value_t = 2000)]
    pub(crate) connections: u32,
}

impl From<EffortFlags> for Effort {
    fn from(flags: EffortFlags) -> Self {
        let EffortFlags { seconds, mebibytes, round_trips, connections } = flags;
        Self { seconds, mebibytes, round_trips, connections }
    }
}

impl Compare {
    /// The table, as text.
    pub(crate) fn execute(&self, programs: &Programs) -> Result<String> {
        let rows = chosen_rows(&self.rows)?;
        let (own, others) = self.cores()?;
        on_cores(&[others])?;
        let stage = Stage::set_up(programs)?;
        stage.gather(&rows)?;
        let mut skipped = BTreeMap::new();
        let mut compared = Vec::new();
        for program in self.programs()? {
            match program.unavailable(programs, &stage) {
                None => compared.push(program),
                Some(why) => {
                    skipped.insert(program.name().to_owned(), why);
                }
            }
        }
        let effort = self.effort.into();
        let site = Site { programs, stage: &stage, effort, own_core: own, other_core: others };
        let start = |program: &Program| site.start(*program);
        let gateways = compared.iter().map(start).collect::<Result<Vec<_>>>()?;
        for gateway in &gateways {
            site.refuses_strangers(gateway)?;
        }
        let floor = if self.no_floor {
            None
        } else {
            Some(Floor {
                read_write: start(&Program::ReadWrite)?,
                splice: start(&Program::Splice)?,
            })
        };
        let circumstances = Circumstances::look(programs, &compared);
        let mut rounds = match &self.keep {
            Some(file) => rounds::read(file)?,
            None => Vec::new(),
        };
        for number in 1..=self.rounds {
            note(format_args!("round {number} of {}", self.rounds));
            let mut round = Round {
                circumstances: circumstances.clone(),
                figures: BTreeMap::new(),
                floor: BTreeMap::new(),
                disturbed: 0,
                skipped: skipped.clone(),
            };
            for row in &rows {
                measure_row(&site, row, &gateways, &mut round)?;
            }
            if let Some(floor) = &floor {
                round.floor = floor.measure(&site, &rows)?;
            }
            if let Some(file) = &self.keep {
                rounds::append(file, &round)?;
            }
            rounds.push(round);
        }
        if let Some(directory) = &self.out {
            write(directory, &rounds)?;
        }
        table::text(&rounds)
    }

    fn programs(&self) -> Result<Vec<Program>> {
        if self.only.is_empty() {
            return Ok(Program::ALL.into());
        }
        let find =
            |name: &String| Program::named(name).with_context(|| format!("no program {name}"));
        self.only.iter().map(find).collect()
    }

    fn cores(&self) -> Result<(usize, usize)> {
        match self.cores[..] {
            [own, others] if own != others => Ok((own, others)),
            _ => bail!("--cores takes two different cores, as in 0,1"),
        }
    }
}

/// The rows that are named, or all.
pub(crate) fn chosen_rows(names: &[String]) -> Result<Vec<&'static Row>> {
    if names.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    let known = || ROWS.iter().map(|row| row.key).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        Row::named(name)
            .with_context(|| format!("there is no row {name}; those there are: {}", known()))
    };
    names.iter().map(find).collect()
}

/// Table, picture and a line of history.
pub(crate) fn write(directory: &Path, rounds: &[Round]) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("comparison.txt"), table::text(rounds)?)?;
    fs::write(directory.join("comparison.md"), table::markdown(rounds)?)?;
    fs::write(directory.join("comparison.svg"), picture::draw(&Line::all(rounds)))?;
    rounds::append(&directory.join("history.jsonl"), &history::line(rounds)?)
}

fn measure_row(site: &Site<'_>, row: &Row, gateways: &[Gateway], round: &mut Round) -> Result<()> {
    for gateway in gateways.iter().filter(|gateway| gateway.program.takes_part(row)) {
        let name = gateway.program.name();
        if row.is_post_quantum() && !is_post_quantum(gateway.program, site.programs) {
            let why = "its OpenSSL is older than 3.5, which brought ML-KEM".to_owned();
            round.skipped.insert(format!("{name} {}", row.key), why);
            continue;
        }
        match site.window(gateway, row) {
            Ok((figure, others)) => {
                if others > OTHERS_MAX && !row.is_memory() {
                    round.disturbed += 1;
                }
                note(format_args!("{:<16} {name:<11} {figure:>9.3} {}", row.key, row.unit()));
                round
                    .figures
                    .entry(name.to_owned())
                    .or_default()
                    .insert(row.key.to_owned(), figure);
            }
            Err(error) => {
                note(format_args!("{error:#}"));
                let why = error.root_cause().to_string();
                let words: Vec<_> = why.split_whitespace().collect();
                let why = words.join(" ").chars().take(REASON_MAX).collect();
                round.skipped.insert(format!("{name} {}", row.key), why);
            }
        }
    }
    Ok(())
}

/// Characters of a reason in a table; all of it was told when it happened.
const REASON_MAX: usize = 240;
