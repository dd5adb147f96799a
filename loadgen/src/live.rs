//! Owns the live picture of a run in the terminal. It is drawn inline, below what the terminal
//! already shows, and cleared at the end, so that the summary stays in the scrollback. Read
//! `progress.rs` for the plain form, `run.rs` for where the ticks come from.

use std::fmt;
use std::io::{self, IsTerminal, Stdout};
use std::time::Duration;

use hdrhistogram::Histogram;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use crate::interrupt::Interrupt;
use crate::plan::{Loop, RunPlan};
use crate::process::ProcessSample;
use crate::quantity::{self, float, ratio, show_bytes, show_micros};
use crate::run::{Phase, Watch};
use crate::tally::{Kind, histogram};
use crate::tick::Tick;

/// Draws a run.
pub struct Live {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    interrupt: Interrupt,
    server: Option<(u32, ProcessSample)>,
    picture: Picture,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("picture", &self.picture).finish_non_exhaustive()
    }
}

/// What is drawn.
#[derive(Debug)]
struct Picture {
    target: String,
    offered: Option<crate::arrivals::Rate>,
    seconds: u64,
    seed: u64,
    asked: f64,
    second: u32,
    phase: Phase,
    last: Option<Tick>,
    history: Vec<u64>,
    counts: Counts,
    confirmed: [Histogram<u64>; 2],
    server: Option<String>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    attempted: u64,
    full: u64,
    resumed: u64,
    failures: u64,
}

impl Live {
    /// A picture for a run, if there is a terminal to draw on.
    #[must_use]
    pub fn new(plan: &RunPlan, server_pid: Option<u32>, interrupt: Interrupt) -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
        enable_raw_mode().ok()?;
        let terminal = Terminal::with_options(CrosstermBackend::new(io::stdout()), options);
        let Ok(terminal) = terminal else {
            let _ = disable_raw_mode();
            return None;
        };
        let server = server_pid.and_then(|pid| Some((pid, ProcessSample::take(pid).ok()?)));
        Some(Self { terminal, interrupt, server, picture: Picture::new(plan) })
    }

    fn sample_server(&mut self) {
        let Some((pid, before)) = self.server else { return };
        let Ok(now) = ProcessSample::take(pid) else {
            self.picture.server = Some(format!("process {pid} is gone"));
            return;
        };
        let done = self.picture.last.as_ref().map_or(0, |tick| tick.full + tick.resumed);
        let cpu = now.cpu.saturating_sub(before.cpu).as_secs_f64();
        let each = if done == 0 { 0.0 } else { cpu * 1e6 / float(done) };
        self.picture.server = Some(format!(
            "cpu {:.0} %  {each:.0} us/handshake  rss {}  descriptors {}",
            cpu * 100.0,
            show_bytes(float(now.rss)),
            now.descriptors
        ));
        self.server = Some((pid, now));
    }
}

impl Watch for Live {
    fn tick(&mut self, tick: &Tick, phase: Phase) -> bool {
        self.picture.take(tick, phase);
        self.sample_server();
        let picture = &self.picture;
        // A terminal that went away does not end the run.
        let _ = self.terminal.draw(|frame| picture.draw(frame));
        true
    }

    fn idle(&mut self) -> bool {
        while event::poll(Duration::ZERO).unwrap_or(false) {
            let Ok(Event::Key(key)) = event::read() else { continue };
            let control_c =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return false;
            }
        }
        !self.interrupt.is_wanted()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.terminal.clear();
        let _ = disable_raw_mode();
    }
}

impl Picture {
    fn new(plan: &RunPlan) -> Self {
        Self {
            target: plan.target.to_string(),
            offered: match plan.pace {
                Loop::Open { rate, .. } => Some(rate),
                Loop::Closed { .. } => None,
            },
            seconds: plan.phases.until_end().as_secs(),
            seed: plan.seed,
            asked: plan.population.resume,
            second: 0,
            phase: Phase::Before,
            last: None,
            history: Vec::new(),
            counts: Counts::default(),
            confirmed: [histogram(), histogram()],
            server: None,
        }
    }

    fn take(&mut self, tick: &Tick, phase: Phase) {
        self.second = tick.second + 1;
        self.phase = phase;
        self.history.push(tick.full + tick.resumed);
        if phase == Phase::Measured {
            self.counts.attempted += tick.attempted;
            self.counts.full += tick.full;
            self.counts.resumed += tick.resumed;
            self.counts.failures += tick.failures_total();
            for (all, one) in self.confirmed.iter_mut().zip(&tick.confirmed) {
                // Cannot fail: the range is the same.
                let _ = all.add(one);
            }
        }
        self.last = Some(tick.clone());
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let rows = [1, 1, 2, 1, 1, 1, 1, 1, 1];
        let areas = Layout::vertical(rows.map(Constraint::Length)).split(frame.area());
        frame.render_widget(Paragraph::new(self.header()), areas[0]);
        frame.render_widget(Paragraph::new(self.rate(areas[1])), areas[1]);
        let width = usize::from(areas[2].width);
        let shown = &self.history[self.history.len().saturating_sub(width)..];
        let spark = Sparkline::default().data(shown).style(Style::new().fg(Color::Cyan));
        frame.render_widget(spark, areas[2]);
        frame.render_widget(Paragraph::new(self.errors()), areas[3]);
        let head = "confirmed        p50       p90       p99     p99.9       max";
        let head = Line::styled(head, Style::new().add_modifier(Modifier::DIM));
        frame.render_widget(Paragraph::new(head), areas[4]);
        for (row, kind) in Kind::ALL.into_iter().enumerate() {
            frame.render_widget(Paragraph::new(self.latency(kind)), areas[5 + row]);
        }
        if let Some(server) = &self.server {
            frame.render_widget(Paragraph::new(format!("server     {server}")), areas[7]);
        }
        let hint = Line::styled("q ends the run", Style::new().add_modifier(Modifier::DIM));
        frame.render_widget(Paragraph::new(hint), areas[8]);
    }

    fn header(&self) -> Line<'_> {
        let phase = match self.phase {
            Phase::Before => "warm-up",
            Phase::Measured => "measured",
            Phase::After => "draining",
        };
        let pace = match self.offered {
            Some(rate) => format!("open loop {:.0}/s", rate.peak()),
            None => "closed loop".to_owned(),
        };
        let lag = self.last.as_ref().map_or(0, |tick| tick.lag_max);
        let behind =
            if self.offered.is_some() && lag > LAG_SHOWN_US { Color::Yellow } else { Color::Green };
        Line::from(vec![
            Span::styled(self.target.as_str(), Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(format!(
                "  {pace}  {:02}:{:02}/{:02}:{:02} {phase}  seed {}  ",
                self.second / 60,
                self.second % 60,
                self.seconds / 60,
                self.seconds % 60,
                self.seed
            )),
            Span::styled(format!("lag {}", show_micros(float(lag))), Style::new().fg(behind)),
        ])
    }

    fn rate(&self, area: Rect) -> Line<'_> {
        let Some(tick) = &self.last else { return Line::raw("") };
        let done = tick.full + tick.resumed;
        let at = Duration::from_secs(u64::from(tick.second));
        let best = self.history.iter().copied().max().unwrap_or(1).max(1);
        let full_scale = self.offered.map_or(float(best), |rate| rate.at(at));
        let room = f64::from(area.width.saturating_sub(62).min(24));
        let filled = quantity::whole((float(done) / full_scale.max(1.0)).min(1.0) * room);
        let bar = "#".repeat(usize::try_from(filled).unwrap_or_default());
        let resumed = ratio(self.counts.resumed, self.counts.full + self.counts.resumed);
        Line::from(vec![
            Span::raw(format!("rate {done:>7}/s  ")),
            Span::styled(bar, Style::new().fg(Color::Cyan)),
            Span::raw(format!(
                "  full {}/s  resumed {}/s ({:.0} % asked, {:.1} % got)",
                tick.full,
                tick.resumed,
                self.asked * 100.0,
                resumed * 100.0
            )),
        ])
    }

    fn errors(&self) -> Line<'_> {
        let share = ratio(self.counts.failures, self.counts.attempted) * 100.0;
        let colour = if self.counts.failures == 0 { Color::Green } else { Color::Red };
        let mut spans = vec![Span::styled(format!("errors {share:.2} %"), Style::new().fg(colour))];
        if let Some(tick) = &self.last {
            for (failure, count) in &tick.failures {
                spans.push(Span::raw(format!("   {failure} {count}")));
            }
            spans.push(Span::raw(format!("   in flight {}", tick.in_flight)));
        }
        Line::from(spans)
    }

    fn latency(&self, kind: Kind) -> Line<'_> {
        let all = &self.confirmed[kind as usize];
        if all.is_empty() {
            return Line::raw(format!("  {}", kind.name()));
        }
        let at = |quantile| show_micros(float(all.value_at_quantile(quantile)));
        Line::raw(format!(
            "  {:<8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            kind.name(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            show_micros(float(all.max()))
        ))
    }
}

/// Rows of the picture.
const HEIGHT: u16 = 10;
/// A start delay that is worth a colour.
const LAG_SHOWN_US: u64 = 5_000;

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn the_picture_fits_a_narrow_terminal_and_shows_what_counts() {
        let flags = <TestCli as clap::Parser>::parse_from([
            "x",
            "--target",
            "127.0.0.1:1",
            "--rate",
            "100/s",
        ]);
        let mut picture = Picture::new(&flags.load.plan().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        let start = crate::clock::now();
        let mut ticker = crate::tick::Ticker::new(0, start, sender);
        ticker.tick.full = 77;
        ticker.tick.failed(crate::outcome::Failure::Reset);
        ticker.finish(5);
        picture.take(&receiver.recv().unwrap(), Phase::Measured);
        for width in [40, 80, 200] {
            let mut terminal = Terminal::new(TestBackend::new(width, HEIGHT)).unwrap();
            terminal.draw(|frame| picture.draw(frame)).unwrap();
            let screen = terminal.backend().to_string();
            assert!(screen.contains("77/s"), "{screen}");
            assert!(screen.contains("reset 1"), "{screen}");
        }
    }

    #[derive(Debug, clap::Parser)]
    struct TestCli {
        #[command(flatten)]
        load: crate::flags::LoadFlags,
    }
}
