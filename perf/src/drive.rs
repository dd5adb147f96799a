//! Owns a gateway under a row's load for as long as a tool looks at it: how profiles are made.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use crate::compare::chosen_rows;
use crate::gateway::Program;
use crate::measure::{Effort, Site};
use crate::process::{Programs, on_cores};
use crate::stage::Stage;

/// Put one gateway under the load of one row, and run a command beside it
///
/// `portcullis-perf drive resumed -- perf record -e cpu-clock -g -p {pid}`
#[derive(Debug, Args)]
pub(crate) struct Drive {
    /// A row of `compare`
    row: String,
    /// The gateway
    #[arg(long, default_value = "portcullis")]
    program: String,
    /// How much is done.
    #[command(flatten)]
    effort: crate::compare::EffortFlags,
    /// What runs meanwhile; `{pid}` becomes the gateway's process id. It gets SIGINT at the end
    #[arg(last = true)]
    tool: Vec<String>,
}

impl Drive {
    /// The row's figure, with whatever the tool made of it.
    pub(crate) fn execute(&self, programs: &Programs) -> Result<String> {
        let names = std::slice::from_ref(&self.row);
        let row = *chosen_rows(names)?.first().context("no row")?;
        let program = Program::named(&self.program).context("no such program")?;
        on_cores(&[OTHER_CORE])?;
        let stage = Stage::set_up(programs)?;
        stage.gather(&[row])?;
        let effort = Effort::from(self.effort);
        let site =
            Site { programs, stage: &stage, effort, own_core: OWN_CORE, other_core: OTHER_CORE };
        let gateway = site.start(program)?;
        let pid = gateway.pid.to_string();
        let mut words = self.tool.iter().map(|word| word.replace("{pid}", &pid));
        let mut tool = match words.next() {
            Some(first) => {
                let mut tool = Command::new(first);
                Some(tool.args(words).stdin(Stdio::null()).spawn().context("the tool")?)
            }
            None => None,
        };
        let figure = site.once(&gateway, row);
        if let Some(tool) = &mut tool {
            kill_process(Pid::from_child(tool), Signal::INT)?;
            let status = tool.wait()?;
            ensure!(status.success() || status.code().is_none(), "the tool: {status}");
        }
        // A tool that slows the gateway down may leave too little work for a figure; what it made stays.
        Ok(match figure {
            Ok(figure) => format!("{figure:.3} {}\n", row.unit()),
            Err(error) => format!("{error:#}\n"),
        })
    }
}

const OWN_CORE: usize = 0;
const OTHER_CORE: usize = 1;
