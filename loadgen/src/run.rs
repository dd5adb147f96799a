//! Owns the course of a run: starts the load threads, samples the server at the edges of the
//! measured window, adds up ticks and tallies. It prints nothing. Read `worker.rs` for the
//! threads, `result.rs` for what becomes of the outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::plan::RunPlan;
use crate::process::ProcessSample;
use crate::tally::Tally;
use crate::tick::Tick;
use crate::worker::{Prepared, Worker};
use crate::{clock, environment};

/// Someone who looks on: the live view, or progress lines.
pub trait Watch {
    /// A second is over, on all threads. Returning false ends the run early.
    fn tick(&mut self, tick: &Tick, phase: Phase) -> bool;
    /// Called several times a second.
    fn idle(&mut self) -> bool {
        true
    }
}

/// The part of a run that a second belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Ramp and warm-up.
    Before,
    /// The measured window.
    Measured,
    /// Waiting for what is in flight.
    After,
}

/// What a run yields.
#[derive(Debug)]
pub struct Outcome {
    /// Counts and latencies of the measured window.
    pub tally: Tally,
    /// Every second of the whole run.
    pub ticks: Vec<Tick>,
    /// When second 0 began, in milliseconds since the Unix epoch.
    pub begun_unix_ms: u64,
    /// The measured window, shorter than planned if the run was interrupted.
    pub measured: Duration,
    /// The server's use at both edges of the window.
    pub server: Option<(ProcessSample, ProcessSample)>,
    /// The time between these two samples: on a busy host they are taken a moment late.
    pub sampled: Duration,
    /// Set if the server vanished or was replaced.
    pub server_lost: bool,
    /// System time of this whole process in the window, to 10 ms.
    pub process_kernel: Duration,
    /// Ended by the user.
    pub interrupted: bool,
}

/// Runs a plan to its end.
///
/// # Errors
/// Threads that cannot start, TLS terms that cannot work, a server process that is not there.
pub fn run(plan: &Arc<RunPlan>, server_pid: Option<u32>, watch: &mut dyn Watch) -> Result<Outcome> {
    if let Some(pid) = server_pid {
        ProcessSample::take(pid)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = channel();
    let (ready, all_ready) = channel();
    let (threads, starts): (Vec<JoinHandle<Result<Tally>>>, Vec<Sender<Instant>>) = (0..plan
        .threads)
        .map(|index| {
            let (plan, stop, ticks) = (Arc::clone(plan), Arc::clone(&stop), sender.clone());
            let (ready, (start, started)) = (ready.clone(), channel());
            let thread = std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || load(&plan, index, ready, &started, ticks, &stop))
                .context("cannot start a load thread")?;
            Ok((thread, start))
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    drop((sender, ready));
    // Configurations for a thousand certificates take their time; none may start late for them.
    let prepared = all_ready.iter().count();
    let start = clock::now() + START_MARGIN;
    let begun_unix_ms = clock::unix_millis() + START_MARGIN_MS;
    if prepared == threads.len() {
        for thread in starts {
            // One that has gone says why when it is joined.
            let _ = thread.send(start);
        }
    } else {
        drop(starts);
    }
    let mut course = Course::new(plan, start, server_pid);
    course.follow(&receiver, &stop, watch);
    let mut tally = Tally::new(plan.population.names.len());
    for thread in threads {
        match thread.join() {
            Ok(result) => tally.add(&result?),
            Err(_) => bail!("a load thread panicked"),
        }
    }
    Ok(course.finish(tally, begun_unix_ms))
}

/// One load thread from its preparation to its end. Without a start there is nothing to count.
fn load(
    plan: &Arc<RunPlan>,
    index: u32,
    ready: Sender<()>,
    started: &Receiver<Instant>,
    ticks: Sender<Tick>,
    stop: &AtomicBool,
) -> Result<Tally> {
    pin(plan, index);
    let prepared = Prepared::new(plan)?;
    let _ = ready.send(());
    drop(ready);
    let Ok(start) = started.recv() else { return Ok(Tally::default()) };
    let worker = Worker::new(Arc::clone(plan), index, prepared, start, ticks)?;
    clock::sleep(start.saturating_duration_since(clock::now()));
    worker.run(start, stop)
}

/// Where the coordinator stands.
struct Course {
    start: Instant,
    window: (Instant, Instant),
    threads: u32,
    server_pid: Option<u32>,
    before: Option<(Option<ProcessSample>, Duration, Instant)>,
    after: Option<(Option<ProcessSample>, Duration, Instant)>,
    pending: BTreeMap<u32, (u32, Tick)>,
    ticks: Vec<Tick>,
    interrupted: Option<Instant>,
}

impl Course {
    fn new(plan: &RunPlan, start: Instant, server_pid: Option<u32>) -> Self {
        Self {
            start,
            window: (start + plan.phases.before(), start + plan.phases.until_end()),
            threads: plan.threads,
            server_pid,
            before: None,
            after: None,
            pending: BTreeMap::new(),
            ticks: Vec::new(),
            interrupted: None,
        }
    }

    fn follow(&mut self, ticks: &Receiver<Tick>, stop: &AtomicBool, watch: &mut dyn Watch) {
        loop {
            let now = clock::now();
            if self.before.is_none() && now >= self.window.0 {
                self.before = Some(self.sample(now));
            }
            if self.after.is_none() && now >= self.window.1 {
                self.after = Some(self.sample(now));
            }
            let milestone = [self.window.0, self.window.1]
                .into_iter()
                .find(|at| *at > now)
                .map_or(WATCH_INTERVAL, |at| at.saturating_duration_since(now).min(WATCH_INTERVAL));
            let mut go_on = watch.idle();
            match ticks.recv_timeout(milestone) {
                Ok(tick) => go_on &= self.take(tick, watch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !go_on && self.interrupted.is_none() {
                self.interrupted = Some(clock::now());
                if self.after.is_none() && self.before.is_some() {
                    self.after = Some(self.sample(clock::now()));
                }
                stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn take(&mut self, tick: Tick, watch: &mut dyn Watch) -> bool {
        let second = tick.second;
        let entry = match self.pending.entry(second) {
            std::collections::btree_map::Entry::Vacant(slot) => slot.insert((1, tick)),
            std::collections::btree_map::Entry::Occupied(slot) => {
                let entry = slot.into_mut();
                entry.0 += 1;
                entry.1.add(&tick);
                entry
            }
        };
        if entry.0 < self.threads {
            return true;
        }
        let Some((_, tick)) = self.pending.remove(&second) else { return true };
        let go_on = watch.tick(&tick, self.phase(second));
        self.ticks.push(tick);
        go_on
    }

    fn phase(&self, second: u32) -> Phase {
        let at = self.start + Duration::from_secs(u64::from(second));
        if at < self.window.0 {
            Phase::Before
        } else if at < self.window.1 {
            Phase::Measured
        } else {
            Phase::After
        }
    }

    fn sample(&self, now: Instant) -> (Option<ProcessSample>, Duration, Instant) {
        let server = self.server_pid.and_then(|pid| ProcessSample::take(pid).ok());
        let kernel =
            ProcessSample::take(std::process::id()).map_or(Duration::ZERO, |own| own.kernel);
        (server, kernel, now)
    }

    fn finish(mut self, tally: Tally, begun_unix_ms: u64) -> Outcome {
        // The last seconds of threads that ended a moment apart.
        self.ticks.extend(std::mem::take(&mut self.pending).into_values().map(|(_, tick)| tick));
        let (server, server_lost, kernel, sampled) = match (&self.before, &self.after) {
            (Some((before, kernel_before, from)), Some((after, kernel_after, to))) => {
                let server = before.zip(*after);
                let replaced =
                    server.is_some_and(|(before, after)| before.started != after.started);
                let gone = self.server_pid.is_some() && server.is_none();
                (server, replaced || gone, kernel_after.saturating_sub(*kernel_before), *to - *from)
            }
            _ => (None, false, Duration::ZERO, Duration::ZERO),
        };
        let end = self.interrupted.map_or(self.window.1, |at| at.min(self.window.1));
        Outcome {
            tally,
            ticks: self.ticks,
            begun_unix_ms,
            measured: end.saturating_duration_since(self.window.0),
            server,
            sampled,
            server_lost,
            process_kernel: kernel,
            interrupted: self.interrupted.is_some(),
        }
    }
}

/// Pins the calling thread if the plan says so. That it can be was checked with the flags.
fn pin(plan: &RunPlan, index: u32) {
    let Some(first) = plan.pin else { return };
    let _ = environment::pin_thread(first + index as usize);
}

/// From the word to the first arrival: for threads to wake up.
const START_MARGIN_MS: u64 = 50;
const START_MARGIN: Duration = Duration::from_millis(START_MARGIN_MS);
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
