//! The log of the process: what `tracing` says, one line each, on standard error.
//!
//! Never makes the caller wait: a line that standard error does not take at once is dropped and
//! counted. Connections are not logged here but in `access_log`.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

use super::access_log::is_unsafe;
use crate::config::plan::{Log, LogFormat, LogLevel};
use crate::core::timestamp::Timestamp;
use crate::sys::clock;

/// Changes how much the log says while it is written.
#[derive(Debug, Clone)]
pub struct LogVolume(reload::Handle<LevelFilter, Registry>);

impl LogVolume {
    pub fn set(&self, wanted: LogLevel) {
        // Without a log there is nothing to change.
        drop(self.0.reload(level(wanted)));
    }
}

/// Sends everything that `tracing` says from now on to standard error, as `log` wants it. Never in
/// colours.
///
/// # Errors
/// There is a log already.
pub fn init(log: &Log) -> Result<LogVolume, TryInitError> {
    let (filter, handle) = reload::Layer::new(level(log.level));
    let lines = tracing_subscriber::fmt::layer().with_timer(WallClock).with_writer(|| Stderr);
    let by_level = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => by_level.with(lines).try_init()?,
        LogFormat::Json => by_level.with(lines.json().flatten_event(true)).try_init()?,
    }
    Ok(LogVolume(handle))
}

/// Lines that standard error did not take.
pub(super) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Standard error, or nothing where it would have to be waited for. `tracing` writes each line whole.
struct Stderr;

struct WallClock;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let length = line.len();
        let line = &*one_line(line);
        // Locked from the question to the answer: no other thread fills the pipe in between.
        let mut stderr = io::stderr().lock();
        if !write_if_ready(&mut stderr, line) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FormatTime for WallClock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", Timestamp::new(clock::wall()))
    }
}

/// The line with everything escaped that a terminal or a reader could take for something else: in text
/// as in JSON strings, `\u001b`. What peers sent gets into errors of libraries, too. // threat 48
fn one_line(line: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(line)) else {
        return Cow::Borrowed(line);
    };
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for char in text.chars() {
        if is_unsafe(char) {
            // All of them are of the basic plane, so that one escape of JSON is enough.
            escaped.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            escaped.push(char);
        }
    }
    escaped.push('\n');
    Cow::Owned(escaped.into_bytes())
}

/// Writes a line if the sink has room for it now; says whether it did. // threat 43
fn write_if_ready(sink: &mut (impl Write + AsFd), line: &[u8]) -> bool {
    let is_ready = {
        let mut asked = [PollFd::new(&*sink, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&now)) == Ok(1) && asked[0].revents().contains(PollFlags::OUT)
    };
    if !is_ready {
        return false;
    }
    match line.get(..LINE_BYTES_MAX) {
        Some(start) => sink.write_all(start).and_then(|()| sink.write_all(b"\n")).is_ok(),
        None => sink.write_all(line).is_ok(),
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// PIPE_BUF less the line feed: a pipe that polls as writable takes so much without blocking
/// (pipe(7)); what is longer is cut.
const LINE_BYTES_MAX: usize = 4_095;

static DROPPED: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use portcullis_kit::{PATIENCE, within};

    use super::*;

    #[test]
    fn lines_a_full_pipe_does_not_take_are_dropped_and_the_rest_stays_whole() {
        // threat 43
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut writer = File::from(writer);
        let taken = within(PATIENCE, "writing to a pipe that nobody reads", move || {
            (0..10_000).filter(|_| write_if_ready(&mut writer, &[b'x'; 99])).count()
        });
        assert!(taken > 0 && taken < 10_000, "{taken}");
        let mut text = Vec::new();
        File::from(reader).read_to_end(&mut text).expect("what was written");
        assert_eq!(text.len(), taken * 99);
    }

    #[test]
    fn a_line_longer_than_a_pipe_takes_at_once_is_cut() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        assert!(write_if_ready(&mut File::from(writer), &[b'x'; 10_000]));
        let mut text = Vec::new();
        File::from(reader).read_to_end(&mut text).expect("what was written");
        assert_eq!(text.len(), LINE_BYTES_MAX + 1);
        assert_eq!(text.last(), Some(&b'\n'));
    }

    #[test] // threat 48
    fn what_peers_sent_stays_in_its_line_in_both_forms() {
        let hostile = "a\u{1b}[2J\nb\r\u{9b}31m\u{202e}\u{2028}\u{7f}\u{feff}é\"";
        let text = one_line(format!("warn: {hostile}\n").as_bytes()).into_owned();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "warn: a\\u001b[2J\\u000ab\\u000d\\u009b31m\\u202e\\u2028\\u007f\\ufeffé\"\n"
        );
        // As `tracing` writes JSON: serde_json escapes some of them before.
        let json = serde_json::to_string(hostile).unwrap() + "\n";
        let json = String::from_utf8(one_line(json.as_bytes()).into_owned()).unwrap();
        assert_eq!(json.matches('\n').count(), 1);
        assert!(!json.trim_end().contains(is_unsafe), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile, "nothing is lost");
        assert!(matches!(one_line(b"plain\n"), Cow::Borrowed(b"plain\n")));
        // Whoever writes all of a line is done, though more of it went out.
        assert_eq!(Stderr.write(b"\x1b\n").unwrap(), 2);
    }

    #[test]
    fn levels_are_those_of_the_configuration() {
        assert_eq!(level(LogLevel::Error), LevelFilter::ERROR);
        assert_eq!(level(LogLevel::Trace), LevelFilter::TRACE);
    }
}
