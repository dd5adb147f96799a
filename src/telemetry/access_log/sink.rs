//! Where the access log goes: standard output, a file or a fifo.
//!
//! Blocks as long as its reader wishes (only the log's own thread waits for it), and never leaves
//! half a line before the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::config::plan::AccessLogSink;

#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// The last write failed in the middle of a line.
    is_torn: bool,
    is_failing: bool,
}

impl Sink {
    /// # Errors
    /// The file cannot be opened; `AccessLogSink::Off` is no sink.
    pub(super) fn open(sink: &AccessLogSink) -> io::Result<Self> {
        match sink {
            AccessLogSink::Off => Err(io::Error::from(io::ErrorKind::InvalidInput)),
            // Not through `io::stdout`, which looks for line ends in every batch.
            AccessLogSink::Stdout => {
                Ok(Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
            }
            AccessLogSink::File(path) => open(path).map(Self::new),
        }
    }

    pub(super) fn new(file: File) -> Self {
        Self { file, is_torn: false, is_failing: false }
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// Some or all of them are lost. The first failure of a series is logged.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        let result = self.write_counted(lines);
        match &result {
            Err(error) if !self.is_failing => {
                tracing::error!(%error, "the access log cannot be written: records are lost");
            }
            Ok(()) if self.is_failing => tracing::info!("the access log can be written again"),
            Ok(()) | Err(_) => {}
        }
        self.is_failing = result.is_err();
        result
    }

    fn write_counted(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(written) => {
                    self.is_torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let is_fifo = path.metadata().is_ok_and(|found| found.file_type().is_fifo());
    if is_fifo {
        // Opened only to write, it would wait for a reader here (fifo(7)).
        return OpenOptions::new().read(true).write(true).open(path);
    }
    // Names and addresses of people are nobody else's business.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
