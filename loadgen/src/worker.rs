//! Owns one load thread: its sockets, its epoll, its deadlines and its counts. It starts
//! connections when they are due, feeds bytes to `session.rs`, and sends a tick a second to the
//! coordinator. Nothing is shared with other threads. Read `run.rs` for who starts it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::epoll::{self, EventFlags};
use rustix::time::Timespec;

use crate::arrivals::Arrivals;
use crate::attempt::{Attempt, Life};
use crate::clients::{Clients, Expect, NO_CERTIFICATE};
use crate::clock;
use crate::deadlines::Deadlines;
use crate::outcome::Failure;
use crate::plan::{Close, Loop, RunPlan};
use crate::session::{After, Session, Stamps, Step};
use crate::slots::{Slots, Token};
use crate::source::Sources;
use crate::tally::Tally;
use crate::tick::{Tick, Ticker};
use crate::ticket_pool::TicketPool;
use crate::tls_client::{TlsClients, Version};

/// What takes a load thread time to make, before it is told when the run starts.
#[derive(Debug)]
pub struct Prepared {
    tls: TlsClients,
    tickets: Arc<TicketPool>,
}

impl Prepared {
    /// Call it on the thread that will run.
    ///
    /// # Errors
    /// Unusable TLS terms.
    pub fn new(plan: &RunPlan) -> Result<Self> {
        let tickets = Arc::new(TicketPool::default());
        let tls = TlsClients::new(&plan.terms, &plan.population.identities, &tickets)?;
        // The first random number and key share of a thread take 30 ms and more, which the first
        // connection would otherwise report as the time that the server took.
        let config = tls.config(NO_CERTIFICATE, Version::Tls13);
        let name = plan.population.names.first();
        if let (Some(config), Some(name)) = (config, name) {
            let stamps = Stamps::new(clock::now(), clock::now());
            // Whoever cannot be connected to at all is counted when it is tried.
            let _ = Session::new(config, name.server.clone(), plan.script, b'?', stamps);
        }
        Ok(Self { tls, tickets })
    }
}

/// A load thread's state.
#[derive(Debug)]
pub struct Worker {
    plan: Arc<RunPlan>,
    index: u32,
    tls: TlsClients,
    tickets: Arc<TicketPool>,
    clients: Clients,
    sources: Sources,
    epoll: rustix::fd::OwnedFd,
    slots: Slots<Attempt>,
    /// Attempts that are not confirmed yet or still do what comes after: the closed loop's number.
    active: u32,
    timeouts: Deadlines<Token>,
    holds: Deadlines<Token>,
    lingers: Deadlines<Token>,
    window: (Instant, Instant),
    tally: Tally,
    ticker: Ticker,
    scratch: Box<[u8]>,
}

impl Worker {
    /// A thread of a run that starts at `start`. `index` counts from 0.
    ///
    /// # Errors
    /// No epoll.
    pub fn new(
        plan: Arc<RunPlan>,
        index: u32,
        prepared: Prepared,
        start: Instant,
        ticks: Sender<Tick>,
    ) -> Result<Self> {
        let Prepared { tls, tickets } = prepared;
        let seed = plan.seed.wrapping_add(u64::from(index) << 32);
        let hold = match plan.script.after {
            After::Hold(span) => span,
            After::None | After::Echo(_) | After::Stream(_) => Duration::ZERO,
        };
        Ok(Self {
            tls,
            tickets,
            clients: Clients::new(Arc::clone(&plan.population), seed, index, plan.threads),
            sources: Sources::new(plan.source, plan.target, index << 20),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot create an epoll")?,
            slots: Slots::default(),
            active: 0,
            timeouts: Deadlines::new(plan.timeout),
            holds: Deadlines::new(hold),
            lingers: Deadlines::new(LINGER_MAX),
            window: (start + plan.phases.before(), start + plan.phases.until_end()),
            tally: Tally::new(plan.population.names.len()),
            ticker: Ticker::new(index, start, ticks),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            plan,
            index,
        })
    }

    /// Runs until the plan is done or `stop` is set, then waits for attempts in flight.
    ///
    /// # Errors
    /// A broken epoll.
    pub fn run(mut self, start: Instant, stop: &AtomicBool) -> Result<Tally> {
        let mut schedule = match self.plan.pace {
            Loop::Open { rate, spread, .. } => Some(
                Arrivals::new(
                    rate,
                    spread,
                    self.plan.phases.ramp,
                    self.index,
                    self.plan.threads,
                    self.plan.seed.wrapping_add(u64::from(self.index)),
                )
                .peekable(),
            ),
            Loop::Closed { .. } => None,
        };
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut cpu_before = None;
        let end = self.window.1;
        loop {
            let now = clock::now();
            if cpu_before.is_none() && now >= self.window.0 {
                cpu_before = Some((clock::thread_cpu(), clock::thread_waited()));
            }
            if now >= end || stop.load(Ordering::Relaxed) {
                break;
            }
            let next_due = match &mut schedule {
                Some(schedule) => self.launch_due(schedule, start, now),
                None => self.launch_closed(now),
            };
            self.expire(now);
            self.ticker.beat(now, self.active);
            let wake = [next_due, self.next_deadline(), Some(self.ticker.next()), Some(end)];
            self.poll(&mut events, wake.into_iter().flatten().min())?;
        }
        if let Some((cpu, waited)) = cpu_before {
            self.tally.cpu = clock::thread_cpu().saturating_sub(cpu);
            self.tally.waited = clock::thread_waited().saturating_sub(waited);
        }
        let now = clock::now();
        // Whoever ends a run early ends the window: what comes later is no part of its rate.
        self.window.1 = end.min(now);
        if let Some(schedule) = &mut schedule {
            self.settle(schedule, start, now);
        }
        self.drain(&mut events)?;
        Ok(self.tally)
    }

    /// What was due in the window and has not started yet: late, or a generator that stood still
    /// at the end would look punctual. Whatever is later than `--lag-max` is dropped and counted.
    fn settle(
        &mut self,
        schedule: &mut std::iter::Peekable<Arrivals>,
        start: Instant,
        now: Instant,
    ) {
        while let Some(offset) = schedule.next_if(|offset| start + *offset < self.window.1) {
            let due = start + offset;
            if now.saturating_duration_since(due) <= self.plan.lag_max {
                self.start(due);
            } else {
                self.lagged(&Stamps::new(due, now), self.is_measured(due));
                self.drop_arrival(due);
            }
        }
    }

    /// Starts what the schedule wants by now; returns when the next one is due.
    fn launch_due(
        &mut self,
        schedule: &mut std::iter::Peekable<Arrivals>,
        start: Instant,
        now: Instant,
    ) -> Option<Instant> {
        // Sockets must be served between starts, or a burst would delay its own replies; whoever
        // starts late because of it carries the delay in its latency.
        for _ in 0..STARTS_PER_TURN_MAX {
            let due = start + *schedule.peek()?;
            if due > now {
                return Some(due);
            }
            schedule.next();
            self.start(due);
        }
        Some(now)
    }

    /// Starts an arrival, or drops it where too many are in flight.
    fn start(&mut self, due: Instant) {
        let Loop::Open { in_flight_max, .. } = self.plan.pace else { return };
        if self.active >= self.portion(in_flight_max).max(1) {
            self.drop_arrival(due);
        } else {
            self.launch(due, clock::now());
        }
    }

    fn launch_closed(&mut self, now: Instant) -> Option<Instant> {
        let Loop::Closed { connections } = self.plan.pace else { return None };
        let room = self.portion(connections);
        let mut launched = 0;
        while self.active < room {
            if launched == STARTS_PER_TURN_MAX {
                return Some(now);
            }
            launched += 1;
            let at = clock::now();
            if at >= self.window.1 {
                // The window ended since this turn began: the run is over.
                return None;
            }
            if !self.launch(at, at) {
                // No descriptor or port: trying again at once would spin.
                return Some(now + LOCAL_FAILURE_PAUSE);
            }
        }
        None
    }

    /// This thread's part of a whole number.
    fn portion(&self, whole: u32) -> u32 {
        let threads = self.plan.threads.max(1);
        whole / threads + u32::from(self.index < whole % threads)
    }

    fn drop_arrival(&mut self, due: Instant) {
        self.ticker.tick.attempted += 1;
        self.ticker.tick.failed(Failure::Dropped);
        if self.is_measured(due) {
            self.tally.attempted += 1;
            *self.tally.failures.entry(Failure::Dropped).or_default() += 1;
        }
    }

    /// Starts an attempt; false if it failed before anything was sent.
    fn launch(&mut self, intended: Instant, now: Instant) -> bool {
        let draw = self.clients.draw();
        let stamps = Stamps::new(intended, now);
        let measured = self.is_measured(intended);
        self.ticker.tick.attempted += 1;
        self.tally.attempted += u64::from(measured);
        self.lagged(&stamps, measured);
        self.tickets.turn(draw.holder, draw.resume);
        let name = self.plan.population.names[draw.name].server.clone();
        let token = self.clients.token();
        let session = self
            .tls
            .config(draw.identity, draw.version)
            .ok_or(Failure::Local)
            .and_then(|config| Session::new(config, name, self.plan.script, token, stamps));
        let source = self.sources.next_address();
        let socket = Attempt::connect(self.plan.target, source, self.plan.close == Close::Reset);
        let (session, socket) = match (session, socket) {
            (Ok(session), Ok(socket)) => (session, socket),
            (Err(failure), _) => return self.fail_early(draw.name, measured, failure),
            (_, Err(error)) => {
                let failure = self.failure(&error);
                return self.fail_early(draw.name, measured, failure);
            }
        };
        let attempt =
            Attempt { socket, session, draw, measured, life: Life::Connecting, heard: now };
        let token = self.slots.insert(attempt);
        self.active += 1;
        self.timeouts.set(now, token);
        let Some(attempt) = self.slots.get(token) else { return true };
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, &attempt.socket, token.to_event(), interest) {
            self.tally.explain(Failure::Local, || error.to_string());
            self.fail(token, Failure::Local);
            return false;
        }
        true
    }

    /// Notes how late a start was; a closed loop has no schedule to be late by.
    fn lagged(&mut self, stamps: &Stamps, measured: bool) {
        if let Loop::Open { .. } = self.plan.pace {
            self.ticker.tick.started(stamps);
            if measured {
                self.tally.started(stamps);
            }
        }
    }

    fn fail_early(&mut self, name: usize, measured: bool, failure: Failure) -> bool {
        self.ticker.tick.failed(failure);
        if measured {
            self.tally.failed(name, failure);
        }
        false
    }

    /// The class of an I/O error, whose first one is kept in words.
    fn failure(&mut self, error: &io::Error) -> Failure {
        let failure = Failure::from_io(error);
        // A reset is a reset; unreachable hosts are counted as refusing.
        if matches!(failure, Failure::Local | Failure::Refused) {
            self.tally.explain(failure, || Failure::explain_io(error));
        }
        failure
    }

    fn is_measured(&self, intended: Instant) -> bool {
        intended >= self.window.0 && intended < self.window.1
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.timeouts.next(), self.holds.next(), self.lingers.next()].into_iter().flatten().min()
    }

    fn poll(&mut self, events: &mut Vec<epoll::Event>, wake: Option<Instant>) -> Result<()> {
        let span =
            wake.map_or(Duration::from_secs(1), |at| at.saturating_duration_since(clock::now()));
        let timeout = Timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(span.subsec_nanos()),
        };
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait failed"),
        }
        for event in events.iter() {
            let (data, flags) = (event.data, event.flags);
            self.serve(Token::from_event(data), flags);
        }
        Ok(())
    }

    fn serve(&mut self, token: Token, flags: EventFlags) {
        let now = clock::now();
        let Some(attempt) = self.slots.get(token) else { return };
        if matches!(attempt.life, Life::Connecting) {
            match attempt.is_connected(flags) {
                Ok(false) => return,
                Ok(true) => {
                    attempt.life = Life::Running;
                    attempt.session.stamps.connected = Some(now);
                }
                Err(error) => {
                    let failure = self.failure(&error);
                    return self.fail(token, failure);
                }
            }
        }
        if flags.contains(EventFlags::OUT) {
            self.flush(token);
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
        {
            // Where a FIN or RST has arrived too, no further edge will tell.
            let over = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            self.read(token, now, if over { Reach::End } else { Reach::Short });
        }
    }

    fn flush(&mut self, token: Token) {
        let Some(attempt) = self.slots.get(token) else { return };
        if attempt.session.send(&mut &attempt.socket).is_err() && !attempt.is_over() {
            // An alert that explains the reset may wait in the receive buffer: read it first.
            let now = clock::now();
            self.read(token, now, Reach::End);
            self.fail(token, Failure::Reset);
        }
    }

    fn read(&mut self, token: Token, now: Instant, reach: Reach) {
        loop {
            let Some(attempt) = self.slots.get(token) else { return };
            let count = match (&attempt.socket).read(&mut self.scratch) {
                Ok(0) => return self.end_of_stream(token, now),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let failure = self.failure(&error);
                    return self.fail(token, failure);
                }
            };
            attempt.heard = now;
            self.tickets.turn(attempt.draw.holder, attempt.draw.resume);
            let result = attempt.session.receive(&self.scratch[..count], now);
            self.after_input(token, result, now);
            if count < READ_BYTES && reach == Reach::Short {
                return;
            }
        }
    }

    fn end_of_stream(&mut self, token: Token, now: Instant) {
        let Some(attempt) = self.slots.get(token) else { return };
        if let Life::Lingering = attempt.life {
            if !attempt.session.peer_closed() && self.plan.close == Close::Orderly {
                self.tally.unclean_closes += u64::from(attempt.measured);
            }
            self.slots.remove(token);
            return;
        }
        let result = attempt.session.end_of_stream(now);
        self.after_input(token, result, now);
        if let Some(Life::Running) = self.slots.get(token).map(|attempt| attempt.life) {
            self.fail(token, Failure::UnexpectedEof);
        }
    }

    fn after_input(&mut self, token: Token, result: Result<Step, Failure>, now: Instant) {
        let Some(attempt) = self.slots.get(token) else { return };
        if let Life::Lingering = attempt.life {
            if result.is_err() {
                self.slots.remove(token);
            }
            return;
        }
        if attempt.session.stamps.confirmed.is_some() && !matches!(attempt.life, Life::Confirmed) {
            attempt.life = Life::Confirmed;
            self.count_confirmed(token, now);
        }
        match result {
            Ok(Step::Continue) => self.flush(token),
            Ok(Step::Hold(_)) => {
                self.flush(token);
                self.holds.set(now, token);
            }
            Ok(Step::Finished) => self.finish(token, now),
            Err(failure) => {
                if let Some(attempt) = self.slots.get(token) {
                    // rustls may have an alert for the server.
                    let _ = attempt.session.send(&mut &attempt.socket);
                }
                self.fail(token, failure);
            }
        }
    }

    fn count_confirmed(&mut self, token: Token, now: Instant) {
        let Some(attempt) = self.slots.get(token) else { return };
        let Some(kind) = attempt.session.kind() else { return };
        let stamps = attempt.session.stamps;
        let draw = attempt.draw;
        if draw.expect == Expect::Refuse {
            if attempt.measured {
                self.tally.let_in(draw.name);
            }
            self.ticker.tick.wrongly_accepted += 1;
            return;
        }
        if now >= self.window.0 && now < self.window.1 {
            self.tally.confirmed_in_window += 1;
        }
        if attempt.measured {
            let what = attempt.negotiated();
            *self.tally.negotiated.entry(what).or_default() += 1;
            self.tally.confirmed(draw.name, kind, draw.resume, &stamps);
        }
        self.ticker.tick.confirmed(kind, &stamps);
    }

    fn finish(&mut self, token: Token, now: Instant) {
        let Some(attempt) = self.slots.get(token) else { return };
        self.active -= 1;
        match self.plan.close {
            Close::Reset | Close::Abort => {
                self.slots.remove(token);
                return;
            }
            Close::Orderly => {
                attempt.session.close();
                let _ = attempt.session.send(&mut &attempt.socket);
            }
            Close::Fin => {}
        }
        let _ = attempt.socket.shutdown(std::net::Shutdown::Write);
        attempt.life = Life::Lingering;
        self.lingers.set(now, token);
    }

    fn fail(&mut self, token: Token, failure: Failure) {
        let Some(attempt) = self.slots.get(token) else { return };
        let (draw, measured) = (attempt.draw, attempt.measured);
        if let Some(trouble) = attempt.session.take_trouble() {
            self.tally.explain(failure, || trouble);
        }
        match attempt.life {
            Life::Lingering => {
                self.slots.remove(token);
                return;
            }
            Life::Confirmed => {
                if measured {
                    *self.tally.late.entry(failure).or_default() += 1;
                }
            }
            Life::Connecting | Life::Running if draw.expect == Expect::Refuse => {
                self.ticker.tick.refused += 1;
                if measured {
                    self.tally.refused(draw.name, failure);
                }
            }
            Life::Connecting | Life::Running => {
                self.ticker.tick.failed(failure);
                if measured {
                    self.tally.failed(draw.name, failure);
                }
            }
        }
        self.active -= 1;
        self.slots.remove(token);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(token) = self.timeouts.expire(now) {
            let Some(attempt) = self.slots.get(token) else { continue };
            match attempt.life {
                Life::Connecting | Life::Running => self.fail(token, Failure::Timeout),
                // Echoes and streams take as long as they take, but not in silence: a server that
                // stops there would keep a closed loop's connections and never be counted.
                Life::Confirmed if !attempt.session.is_holding() => {
                    if now.saturating_duration_since(attempt.heard) >= self.plan.timeout {
                        self.fail(token, Failure::Timeout);
                    } else {
                        self.timeouts.set(now, token);
                    }
                }
                Life::Confirmed | Life::Lingering => {}
            }
        }
        while let Some(token) = self.holds.expire(now) {
            if self.slots.get(token).is_some_and(|attempt| matches!(attempt.life, Life::Confirmed))
            {
                self.finish(token, now);
            }
        }
        while let Some(token) = self.lingers.expire(now) {
            self.slots.remove(token);
        }
    }

    /// After the window: no new attempts; those in flight get their time to end.
    fn drain(&mut self, events: &mut Vec<epoll::Event>) -> Result<()> {
        let until = clock::now() + self.plan.timeout.min(DRAIN_MAX);
        loop {
            let now = clock::now();
            self.expire(now);
            self.ticker.beat(now, self.active);
            if now >= until || !self.slots.any(Attempt::is_pending) {
                break;
            }
            let wake = [self.next_deadline(), Some(self.ticker.next()), Some(until)];
            self.poll(events, wake.into_iter().flatten().min())?;
        }
        self.ticker.finish(self.active);
        self.tally.in_flight = self.slots.count(|attempt| attempt.is_pending() && attempt.measured);
        Ok(())
    }
}

/// How far a receive goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// To the first short read: the socket is empty then, and another edge will come.
    Short,
    /// To the end of the stream.
    End,
}

/// One receive takes what a handshake needs and more: a chain is 1–4 KiB, a post-quantum share 1.
const READ_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 256;
const STARTS_PER_TURN_MAX: u32 = 32;
/// How long a closed connection waits for the server's FIN before its descriptor is dropped.
const LINGER_MAX: Duration = Duration::from_secs(1);
const DRAIN_MAX: Duration = Duration::from_secs(10);
const LOCAL_FAILURE_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use clap::Parser as _;

    use super::*;
    use crate::flags::LoadFlags;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadFlags,
    }

    /// A closed loop of three whose measured second began `ago`.
    fn worker(ago: Duration) -> Worker {
        let words = "load --target 127.0.0.1:9 --cheap-client --conns 3 --duration 1s --warmup 0s";
        let plan = Arc::new(Line::parse_from(words.split(' ')).load.plan().unwrap());
        let prepared = Prepared::new(&plan).unwrap();
        let (ticks, _) = mpsc::channel();
        Worker::new(plan, 0, prepared, clock::now() - ago, ticks).unwrap()
    }

    #[test]
    fn a_closed_loop_starts_nothing_after_the_window_that_ended_within_a_turn() {
        let mut late = worker(Duration::from_secs(2));
        // What the turn saw when it began.
        let before_the_end = clock::now() - Duration::from_millis(1500);
        assert_eq!(late.launch_closed(before_the_end), None);
        assert_eq!((late.ticker.tick.attempted, late.tally.attempted), (0, 0));

        let mut early = worker(Duration::ZERO);
        early.launch_closed(clock::now());
        assert!(early.tally.attempted > 0);
        assert_eq!(early.ticker.tick.attempted, early.tally.attempted);
    }
}
