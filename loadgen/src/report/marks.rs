//! Owns what a proxy's log says about a run: which lines tell of a reload, a drain, a rotation or
//! a restart, and at which second of the run they lie. Draws nothing. Read `pictures.rs` for where
//! marks are drawn, `chart.rs` for how.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use time::{Date, Month, Time, UtcDateTime};

use super::NamedRun;
use crate::result::RunResult;

/// Something that the proxy did while a run went on.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Seconds since the start of the run.
    pub second: f64,
    /// What the log says, without its time.
    pub text: String,
}

/// Adds the events of a log to the runs during which they happened.
///
/// # Errors
/// A file that cannot be read, or is larger than 64 MiB.
pub(super) fn add(path: &Path, runs: &mut [NamedRun]) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let windows: Vec<Option<Window>> = runs.iter().map(|run| Window::of(&run.result)).collect();
    let mut found: Vec<Vec<Mark>> = vec![Vec::new(); runs.len()];
    // One byte more than allowed tells a log that fits from one that does not.
    let mut input = BufReader::new(file.take(LOG_MAX + 1));
    let (mut line, mut total) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        let count = input
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            break;
        }
        total = total.saturating_add(count as u64);
        if total > LOG_MAX {
            bail!("{} is larger than 64 MiB: cut out the time of the run", path.display());
        }
        let Some(event) = event(&String::from_utf8_lossy(&line)) else { continue };
        for (window, marks) in windows.iter().zip(&mut found) {
            let second = window.and_then(|window| window.second(event.unix_ms));
            if let Some(second) = second.filter(|_| marks.len() < MARKS_MAX) {
                marks.push(Mark { second, text: event.text.clone() });
            }
        }
    }
    for (run, marks) in runs.iter_mut().zip(found) {
        run.marks.extend(marks);
        run.marks.sort_by(|a, b| a.second.total_cmp(&b.second));
        run.marks.truncate(MARKS_MAX);
    }
    Ok(())
}

/// A line of a log that is worth a mark.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    unix_ms: i64,
    text: String,
}

/// The part of the wall clock's time that a run's pictures show.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    begin_ms: i64,
    seconds: u32,
}

impl Window {
    /// None if the result does not say when it began, or has no seconds.
    fn of(result: &RunResult) -> Option<Self> {
        let begin_ms = match (result.begun_unix_ms, result.env.started_unix) {
            (0, 0) => return None,
            // Older results tell the second in which they looked at the host, just before.
            (0, seconds) => seconds.checked_mul(1000)?,
            (begun, _) => begun,
        };
        let seconds = result.whole_seconds().map(|tick| tick.second.saturating_add(1)).max()?;
        Some(Self { begin_ms: i64::try_from(begin_ms).ok()?, seconds })
    }

    /// Seconds since the beginning; none outside.
    fn second(self, unix_ms: i64) -> Option<f64> {
        let since = u64::try_from(unix_ms.checked_sub(self.begin_ms)?).ok()?;
        (since <= u64::from(self.seconds) * 1000).then(|| crate::quantity::float(since) / 1000.0)
    }
}

/// The event that a line tells of, if any.
fn event(line: &str) -> Option<Event> {
    let line = line.trim();
    let event = if line.starts_with('{') { json_line(line)? } else { text_line(line)? };
    let lower = event.text.to_lowercase();
    WORDS.iter().any(|word| lower.contains(word)).then_some(event)
}

fn json_line(line: &str) -> Option<Event> {
    let value: Value = serde_json::from_str(line).ok()?;
    // A session in the access log, not an event.
    if value.get("outcome").is_some() {
        return None;
    }
    let word = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let time = word(value.get("timestamp")).or_else(|| word(value.get("time")))?;
    let text = word(value.get("message")).or_else(|| word(value.pointer("/fields/message")))?;
    Some(Event { unix_ms: unix_ms(&time)?, text: clean(&text) })
}

fn text_line(line: &str) -> Option<Event> {
    let (time, rest) = line.split_once(char::is_whitespace)?;
    Some(Event { unix_ms: unix_ms(time)?, text: clean(message(rest)) })
}

/// What follows the level and the module that speaks.
fn message(rest: &str) -> &str {
    let rest = rest.trim_start();
    let rest = LEVELS.iter().find_map(|level| rest.strip_prefix(level)).unwrap_or(rest);
    match rest.trim_start().split_once(": ") {
        Some((target, message)) if target.contains("::") && !target.contains(' ') => message,
        _ => rest,
    }
}

/// One line, without characters that no page may hold.
fn clean(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(TEXT_MAX).map(plain).collect()
}

/// Milliseconds since the Unix epoch of `2026-11-22T06:17:11.260Z` (RFC 3339, section 5.6, in UTC).
fn unix_ms(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (date, clock) = text.split_once('T')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    // Digits beyond milliseconds fall away.
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = fraction.bytes().chain(*b"00").take(3);
    let millis = thousandths.fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let byte = |value: u16| u8::try_from(value).ok();
    // A leap second counts as the one before it.
    let second = byte(second.min(59))?;
    let time = Time::from_hms_milli(byte(hour)?, byte(minute)?, second, millis).ok()?;
    let whole = UtcDateTime::new(date, time).unix_timestamp();
    whole.checked_mul(1000)?.checked_add(i64::from(millis))
}

/// Three numbers of digits only.
fn numbers(text: &str, between: char) -> Option<[u16; 3]> {
    let number = |part: &str| {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let parts: Vec<u16> = text.splitn(4, between).map(number).collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// What an event's text must hold one of.
const WORDS: [&str; 7] = ["reload", "drain", "rotat", "upgrade", "restart", "serving", "ended:"];
const LEVELS: [&str; 5] = ["ERROR ", "WARN ", "INFO ", "DEBUG ", "TRACE "];
/// More lines in one picture hide what they explain.
const MARKS_MAX: usize = 40;
const TEXT_MAX: usize = 400;
const LOG_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::result::TickResult;

    /// 2026-11-22T06:17:11.260Z, by `date -u +%s`.
    const DRAINED: i64 = 1_795_328_231_260;

    #[test]
    fn text_lines_give_time_and_message() {
        let line = "2026-11-22T06:17:11.260Z  INFO portcullis::app::run: draining: 3 sessions";
        let expected = Event { unix_ms: DRAINED, text: "draining: 3 sessions".to_owned() };
        assert_eq!(event(line), Some(expected.clone()));
        assert_eq!(event("2026-11-22T06:17:11.260999Z draining: 3 sessions\r\n"), Some(expected));
        let upper = event("2026-11-22T06:17:11Z WARN x::y: RELOADED").unwrap();
        assert_eq!((upper.unix_ms, upper.text.as_str()), (DRAINED - 260, "RELOADED"));
        // Neither a word of interest nor one in the name of the module alone.
        assert_eq!(event("2026-11-22T06:17:11.260Z INFO x::y: listening"), None);
        assert_eq!(event("2026-11-22T06:17:11.260Z INFO x::reload: nothing new"), None);
    }

    #[test]
    fn json_lines_give_time_and_message() {
        let time = "2026-11-22T06:17:11.26Z";
        let expected = Some(Event { unix_ms: DRAINED, text: "keys rotated".to_owned() });
        let nested = format!(r#"{{"timestamp":"{time}","fields":{{"message":"keys rotated"}}}}"#);
        assert_eq!(event(&nested), expected);
        assert_eq!(event(&format!(r#"{{"time":"{time}","message":"keys rotated"}}"#)), expected);
        let access = format!(r#"{{"time":"{time}","outcome":"drained","message":"keys rotated"}}"#);
        assert_eq!(event(&access), None);
    }

    #[test]
    fn junk_is_passed_over() {
        let junk = [
            "",
            "restart",
            "{",
            "{}",
            "[\"restart\"]",
            r#"{"time":17,"message":"restart"}"#,
            r#"{"time":"yesterday","message":"restart"}"#,
            "2026-13-22T06:17:11Z restart",
            "2026-11-31T06:17:11Z restart",
            "2026-11-22T24:17:11Z restart",
            "2026-11-22T06:17Z restart",
            "2026-11-22T06:17:11.Z restart",
            "2026-11-22T06:17:11:11Z restart",
            "+026-11-22T06:17:11Z restart",
            "--T::Z restart",
            "99999999-11-22T06:17:11Z restart",
            "2026-11-22T06:17:11+02:00 restart",
            "\u{fffd}\u{0} restart",
        ];
        for line in junk {
            assert_eq!(event(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_window_holds_its_ends_and_nothing_beyond() {
        let window = Window::of(&run(4).result).unwrap();
        assert_eq!(window, Window { begin_ms: DRAINED - 1500, seconds: 4 });
        assert_eq!(window.second(DRAINED), Some(1.5));
        assert_eq!(window.second(window.begin_ms), Some(0.0));
        assert_eq!(window.second(window.begin_ms + 4000), Some(4.0));
        assert_eq!(window.second(window.begin_ms - 1), None);
        assert_eq!(window.second(window.begin_ms + 4001), None);
        assert_eq!(window.second(i64::MIN), None);
    }

    #[test]
    fn results_without_time_or_seconds_have_no_window() {
        let mut result = run(2).result;
        result.begun_unix_ms = 0;
        assert_eq!(Window::of(&result), None);
        result.env.started_unix = 17;
        assert_eq!(Window::of(&result), Some(Window { begin_ms: 17_000, seconds: 2 }));
        result.ticks.clear();
        assert_eq!(Window::of(&result), None);
        let old: RunResult = serde_json::from_str(r#"{"schema":"load/1"}"#).unwrap();
        assert_eq!(Window::of(&old), None);
    }

    #[test]
    fn a_page_shows_marks_and_no_markup_of_the_log() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\xff\xfe\x00 restart\n\n").unwrap();
        let line = "2026-11-22T06:17:11.260Z  INFO a::b: draining <script>alert(\"1\")</script>\n";
        for _ in 0..50 {
            file.write_all(line.as_bytes()).unwrap();
        }
        file.write_all(b"2026-11-22T07:17:11.260Z  INFO a::b: reloaded an hour later").unwrap();
        let mut runs = [run(4)];
        add(file.path(), &mut runs).unwrap();
        assert_eq!(runs[0].marks.len(), MARKS_MAX);
        let page = super::super::html(&runs, None, None);
        assert!(page.contains("draining &lt;script&gt;"), "{page}");
        assert!(page.contains("alert(&quot;1&quot;)&lt;/script&gt;</title>"));
        assert!(!page.contains("<script") && !page.contains("an hour later"));
        assert_eq!(page.matches("<g class=\"event\">").count(), 2 * MARKS_MAX);
        for element in ["g", "svg", "title", "text", "figure"] {
            let opened = page.matches(&format!("<{element}>")).count()
                + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[test]
    fn a_log_without_events_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut runs = [run(4)];
        let before = super::super::html(&runs, None, None);
        add(file.path(), &mut runs).unwrap();
        assert_eq!(super::super::html(&runs, None, None), before);
    }

    /// A run that began 1.5 s before the proxy drained.
    fn run(seconds: u32) -> NamedRun {
        let tick = |second| TickResult {
            second,
            phase: "measured".to_owned(),
            full: 10,
            heat: vec![0, 3, 7],
            ..TickResult::default()
        };
        let result = RunResult {
            begun_unix_ms: u64::try_from(DRAINED - 1500).unwrap(),
            ticks: (0..seconds).map(tick).collect(),
            ..RunResult::default()
        };
        NamedRun { name: "run".to_owned(), result, marks: Vec::new() }
    }
}
