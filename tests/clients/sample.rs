//! A file of `config/` as its first user meets it: the commands at its top make the certificates and
//! call the service, and only addresses are replaced.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_kit::{Gateway, PATIENCE};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{command, must};

/// A sample whose certificates are made.
pub(crate) struct Sample {
    text: String,
    directory: TempDir,
}

/// A sample that runs.
pub(crate) struct Served {
    gateway: Gateway,
    text: String,
    directory: PathBuf,
}

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

impl Sample {
    pub(crate) fn prepare(file: &str) -> Self {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let text = fs::read_to_string(samples.join(file)).unwrap();
        let sample = Self { text, directory: tempfile::tempdir().unwrap() };
        let makes: Vec<String> = comments(&sample.text)
            .filter(|line| line.starts_with("portcullis pki "))
            .map(|line| line.split("   ").next().unwrap().replace(['"', '\''], ""))
            .collect();
        assert!(!makes.is_empty(), "{file} makes no certificates");
        for words in makes {
            sample.make(words.strip_prefix("portcullis ").unwrap());
        }
        sample
    }

    /// Another certificate, by the words of `portcullis pki`.
    pub(crate) fn make(&self, words: &str) {
        let mut command = command(BINARY, words);
        command.current_dir(self.directory.path());
        must(command);
    }

    /// The service that the file looks for at `written` is at `real`.
    #[must_use]
    pub(crate) fn with(mut self, written: &str, real: SocketAddr) -> Self {
        let written = format!("\"{written}\"");
        assert!(self.text.contains(&written), "no {written}");
        self.text = self.text.replace(&written, &format!("\"{real}\""));
        self
    }

    /// With more tables.
    #[must_use]
    pub(crate) fn and(mut self, tables: &str) -> Self {
        self.text.push_str(tables);
        self
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.directory.path().join("pki").join(file)
    }

    pub(crate) fn start(self) -> Served {
        let directory = self.directory.path().to_owned();
        let lines = self.text.lines().map(|line| match line.starts_with("address ") {
            true => "address = \"127.0.0.1:0\"\n".to_owned(),
            false => format!("{line}\n"),
        });
        let config: String = lines.collect();
        let gateway = Gateway::start_as(Command::new(BINARY), self.directory, &config);
        Served { gateway, text: self.text, directory }
    }
}

impl Served {
    /// Of the file's only listener.
    pub(crate) fn port(&self) -> u16 {
        self.gateway.addr(self.between("[listener.", "]")).port()
    }

    /// The commands in the file that begin with these words, in the shell, with `more` behind the last.
    pub(crate) fn said(&self, starts: &[&str], more: &str) -> Command {
        let mut script = String::new();
        for start in starts {
            let mut lines = comments(&self.text).skip_while(|line| !line.starts_with(start));
            loop {
                let line = lines.next().unwrap_or_else(|| panic!("no command {start}"));
                script += "\n";
                script += line;
                if !line.ends_with('\\') {
                    break;
                }
            }
        }
        let written = self.between("\naddress", "\"\n").rsplit(':').next().unwrap();
        let written = written.split('"').next().unwrap();
        assert!(script.contains(written), "no port {written} in {script}");
        let script = script.replace(written, &self.port().to_string());
        let mut command = command("sh", "-c");
        command.arg(format!("{script} {more}")).current_dir(&self.directory);
        command
    }

    /// A command for `program`, whose words may hold `{port}`, in the folder of `pki/`.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>, words: &str) -> Command {
        let mut command = command(program, &words.replace("{port}", &self.port().to_string()));
        command.current_dir(&self.directory);
        command
    }

    /// What is logged so far.
    pub(crate) fn access_log(&self) -> Vec<Value> {
        self.gateway.access_log()
    }

    /// The first access-log line, past or to come, that `matches`.
    pub(crate) fn logged(&self, matches: impl FnMut(&Value) -> bool) -> Value {
        self.gateway.wait_access(PATIENCE, matches)
    }

    /// The first access-log line, past or to come, of a connection refused for this reason.
    pub(crate) fn refused(&self, reason: &str) -> Value {
        self.logged(|line| line["reason"] == reason)
    }

    fn between(&self, start: &str, end: &str) -> &str {
        let (_, rest) = self.text.split_once(start).unwrap();
        rest.split_once(end).unwrap().0
    }
}

fn comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim)
}
