//! Owns `docs`, which is hidden: manual pages and completions, made from the command line for packages.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use crate::exit::Exit;

/// Write the manual pages or the completions of this program
#[derive(Debug, Args)]
pub struct Docs {
    /// What to write
    #[arg(value_enum)]
    what: What,
    /// An existing directory
    directory: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// One page a command
    Man,
    /// For bash, zsh and fish
    Completions,
}

impl Docs {
    /// Writes the files that `program`'s definition makes.
    ///
    /// # Errors
    /// The directory is missing or takes none.
    pub fn execute(&self, mut program: Command) -> Result<Exit> {
        let failed = || format!("cannot write into {}", self.directory.display());
        match self.what {
            What::Man => {
                clap_mangen::generate_to(program, &self.directory).with_context(failed)?;
            }
            What::Completions => {
                let name = program.get_name().to_owned();
                for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                    clap_complete::generate_to(shell, &mut program, &name, &self.directory)
                        .with_context(failed)?;
                }
            }
        }
        Ok(Exit::Met)
    }
}
