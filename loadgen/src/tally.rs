//! Owns what a load thread counts and measures, and how the counts of threads add up. It never
//! decides what an attempt is worth; `session.rs` and `worker.rs` do. Read `result.rs` for the
//! form in which it leaves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::HandshakeKind;

use crate::outcome::Failure;
use crate::quantity;
use crate::session::Stamps;

/// The span that a histogram measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// To TCP established.
    Connect,
    /// To the ServerHello.
    ServerHello,
    /// To the end of the client's side of the handshake.
    Handshake,
    /// To the proof of acceptance.
    Confirmed,
    /// To the first byte of application data.
    FirstByte,
}

impl Measure {
    /// All of them, in the order they happen.
    pub const ALL: [Self; 5] =
        [Self::Connect, Self::ServerHello, Self::Handshake, Self::Confirmed, Self::FirstByte];

    /// Its name in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ServerHello => "server_hello",
            Self::Handshake => "handshake",
            Self::Confirmed => "confirmed",
            Self::FirstByte => "first_byte",
        }
    }

    fn end(self, stamps: &Stamps) -> Option<Instant> {
        match self {
            Self::Connect => stamps.connected,
            Self::ServerHello => stamps.server_hello,
            Self::Handshake => stamps.handshake,
            Self::Confirmed => stamps.confirmed,
            Self::FirstByte => stamps.first_byte,
        }
    }
}

/// Full or resumed; a full handshake after a HelloRetryRequest is a full one and counted besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With certificates.
    Full,
    /// From a ticket.
    Resumed,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Full, Self::Resumed];

    /// Its name in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

/// Where a span is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// When the schedule wanted the attempt to start: what users feel.
    Intended,
    /// When it started: the service time.
    Actual,
}

impl Origin {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Intended, Self::Actual];
}

/// An empty histogram for 1 µs to 60 s at three digits.
#[expect(clippy::expect_used, reason = "the bounds are constants that hdrhistogram accepts")]
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("1 is not 0, and the top is above twice 1")
}

/// The histograms of one run, thread or server name, by measure, kind and origin, in microseconds.
/// One is made when its first sample comes: each takes 140 KiB.
#[derive(Debug, Clone)]
pub struct Latencies {
    all: [Option<Box<Histogram<u64>>>; 20],
}

impl Latencies {
    /// Empty ones.
    #[must_use]
    pub fn new() -> Self {
        Self { all: [const { None }; 20] }
    }

    /// One of them, if it has a sample.
    #[must_use]
    pub fn of(&self, measure: Measure, kind: Kind, origin: Origin) -> Option<&Histogram<u64>> {
        self.all[Self::index(measure, kind, origin)].as_deref()
    }

    fn record(&mut self, kind: Kind, stamps: &Stamps, origin: Origin) {
        let start = match origin {
            Origin::Intended => stamps.intended,
            Origin::Actual => stamps.started,
        };
        for measure in Measure::ALL {
            let Some(end) = measure.end(stamps) else { continue };
            let span = quantity::micros(end.saturating_duration_since(start));
            let slot = &mut self.all[Self::index(measure, kind, origin)];
            slot.get_or_insert_with(|| Box::new(histogram())).saturating_record(span.max(1));
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.all.iter_mut().zip(&other.all) {
            add_histogram(mine, theirs.as_deref());
        }
    }

    fn index(measure: Measure, kind: Kind, origin: Origin) -> usize {
        (measure as usize * 2 + kind as usize) * 2 + origin as usize
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of attempts on one server name.
#[derive(Debug, Clone, Default)]
pub struct NameTally {
    /// Confirmed with a full handshake.
    pub full: u64,
    /// Confirmed with a resumed one.
    pub resumed: u64,
    /// Failed as they should not.
    pub failed: u64,
    /// Refused as expected.
    pub refused: u64,
    /// Let in although they should be refused.
    pub wrongly_accepted: u64,
    /// Time to confirmation from the intended start, full and resumed together; for the first
    /// few hundred names.
    pub confirmed: Option<Box<Histogram<u64>>>,
    /// Everything from the intended start; for the first few dozen names.
    pub latencies: Latencies,
}

/// The counts and measurements over the measured window.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Attempts whose intended start lay in the window.
    pub attempted: u64,
    /// Those that were proven accepted.
    pub confirmed: u64,
    /// Of these, full handshakes.
    pub full: u64,
    /// Of these, resumed ones.
    pub resumed: u64,
    /// Of the full ones, after a HelloRetryRequest.
    pub retried: u64,
    /// Confirmed attempts that wanted to resume.
    pub wanted_resume: u64,
    /// Clients that had to be refused and were.
    pub refused: BTreeMap<Failure, u64>,
    /// Clients that had to be refused and were not.
    pub wrongly_accepted: u64,
    /// Failures by class.
    pub failures: BTreeMap<Failure, u64>,
    /// What the first failure of a class was about, for people.
    pub reasons: BTreeMap<Failure, String>,
    /// Attempts without an end when the run was over.
    pub in_flight: u64,
    /// Failures after confirmation: during `--after`.
    pub late: BTreeMap<Failure, u64>,
    /// The server closed without close_notify after everything was done.
    pub unclean_closes: u64,
    /// Confirmations that fell into the window, whenever they started: the achieved rate.
    pub confirmed_in_window: u64,
    /// Latencies.
    pub latencies: Latencies,
    /// From intended to actual start, microseconds.
    pub lag: Option<Box<Histogram<u64>>>,
    /// By server name, in the order of the plan.
    pub names: Vec<NameTally>,
    /// CPU time of the load threads in the window.
    pub cpu: Duration,
    /// Time in the window in which load threads were ready to run and had no CPU.
    pub waited: Duration,
    /// What was negotiated: `TLSv1_3 TLS13_AES_128_GCM_SHA256 X25519`.
    pub negotiated: BTreeMap<String, u64>,
}

impl Tally {
    /// Nothing counted yet, for so many server names.
    #[must_use]
    pub fn new(names: usize) -> Self {
        Self { names: vec![NameTally::default(); names], ..Self::default() }
    }

    /// Records a start: how late it was.
    pub fn started(&mut self, stamps: &Stamps) {
        let lag = quantity::micros(stamps.started.saturating_duration_since(stamps.intended));
        self.lag.get_or_insert_with(|| Box::new(histogram())).saturating_record(lag.max(1));
    }

    /// Records a confirmed attempt.
    pub fn confirmed(&mut self, name: usize, kind: HandshakeKind, wanted: bool, stamps: &Stamps) {
        let simple = simple_kind(kind);
        self.confirmed += 1;
        self.wanted_resume += u64::from(wanted);
        self.retried += u64::from(kind == HandshakeKind::FullWithHelloRetryRequest);
        match simple {
            Kind::Full => self.full += 1,
            Kind::Resumed => self.resumed += 1,
        }
        for origin in Origin::ALL {
            self.latencies.record(simple, stamps, origin);
        }
        // Beyond so many names a histogram each would take gigabytes; counts go on.
        let detailed = name < NAMES_DETAILED_MAX;
        let Some(tally) = self.names.get_mut(name) else { return };
        match simple {
            Kind::Full => tally.full += 1,
            Kind::Resumed => tally.resumed += 1,
        }
        if name < NAMES_COMPLETE_MAX {
            tally.latencies.record(simple, stamps, Origin::Intended);
        }
        if let (true, Some(end)) = (detailed, stamps.confirmed) {
            let span = quantity::micros(end.saturating_duration_since(stamps.intended));
            let histogram = tally.confirmed.get_or_insert_with(|| Box::new(histogram()));
            histogram.saturating_record(span.max(1));
        }
    }

    /// Records a failure of an attempt that should have succeeded.
    pub fn failed(&mut self, name: usize, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
        if let Some(tally) = self.names.get_mut(name) {
            tally.failed += 1;
        }
    }

    /// Keeps what a failure was about, if it is the first of its class.
    pub fn explain(&mut self, failure: Failure, why: impl FnOnce() -> String) {
        self.reasons.entry(failure).or_insert_with(why);
    }

    /// Records a refusal that was expected.
    pub fn refused(&mut self, name: usize, failure: Failure) {
        *self.refused.entry(failure).or_default() += 1;
        if let Some(tally) = self.names.get_mut(name) {
            tally.refused += 1;
        }
    }

    /// Records a client that had to be refused and was let in.
    pub fn let_in(&mut self, name: usize) {
        self.wrongly_accepted += 1;
        if let Some(tally) = self.names.get_mut(name) {
            tally.wrongly_accepted += 1;
        }
    }

    /// All failures together.
    #[must_use]
    pub fn failures_total(&self) -> u64 {
        self.failures.values().sum()
    }

    /// All expected refusals together.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// How many attempts are not accounted for; anything but 0 is a bug in the generator.
    #[must_use]
    pub fn imbalance(&self) -> i64 {
        let ended = self.confirmed
            + self.wrongly_accepted
            + self.failures_total()
            + self.refused_total()
            + self.in_flight;
        self.attempted.cast_signed() - ended.cast_signed()
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.confirmed += other.confirmed;
        self.full += other.full;
        self.resumed += other.resumed;
        self.retried += other.retried;
        self.wanted_resume += other.wanted_resume;
        self.wrongly_accepted += other.wrongly_accepted;
        self.in_flight += other.in_flight;
        self.unclean_closes += other.unclean_closes;
        self.confirmed_in_window += other.confirmed_in_window;
        self.cpu += other.cpu;
        self.waited += other.waited;
        for (mine, theirs) in [
            (&mut self.refused, &other.refused),
            (&mut self.failures, &other.failures),
            (&mut self.late, &other.late),
        ] {
            for (failure, count) in theirs {
                *mine.entry(*failure).or_default() += count;
            }
        }
        for (failure, why) in &other.reasons {
            self.explain(*failure, || why.clone());
        }
        for (what, count) in &other.negotiated {
            *self.negotiated.entry(what.clone()).or_default() += count;
        }
        self.latencies.add(&other.latencies);
        add_histogram(&mut self.lag, other.lag.as_deref());
        self.names.resize_with(self.names.len().max(other.names.len()), NameTally::default);
        for (mine, theirs) in self.names.iter_mut().zip(&other.names) {
            mine.full += theirs.full;
            mine.resumed += theirs.resumed;
            mine.failed += theirs.failed;
            mine.refused += theirs.refused;
            mine.wrongly_accepted += theirs.wrongly_accepted;
            mine.latencies.add(&theirs.latencies);
            add_histogram(&mut mine.confirmed, theirs.confirmed.as_deref());
        }
    }
}

/// Full or resumed.
#[must_use]
pub fn simple_kind(kind: HandshakeKind) -> Kind {
    match kind {
        HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => Kind::Full,
        HandshakeKind::Resumed => Kind::Resumed,
    }
}

fn add_histogram(mine: &mut Option<Box<Histogram<u64>>>, theirs: Option<&Histogram<u64>>) {
    if let Some(theirs) = theirs {
        // Cannot fail: all have the same bounds.
        let _ = mine.get_or_insert_with(|| Box::new(histogram())).add(theirs);
    }
}

/// Server names with all ten histograms of their own; 1.4 MiB each.
const NAMES_COMPLETE_MAX: usize = 32;
/// Server names with a histogram of their own; 140 KiB each.
const NAMES_DETAILED_MAX: usize = 256;
