//! Latency counts from the intended start: shown on a virtual clock, against a server that stalls
//! for a second. A generator that waits for its own replies sees almost nothing of it; an open
//! loop sees what users would. And on the real clock: what a generator has not even started.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test: by panicking")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use portcullis_load::arrivals::{Arrivals, Rate, Spread};
use portcullis_load::clients::{Expect, Name, Order, Population, Sharing, server_name};
use portcullis_load::identity::Identity;
use portcullis_load::outcome::Failure;
use portcullis_load::plan::{Close, Loop, Phases, RunPlan};
use portcullis_load::run::{Phase, Watch};
use portcullis_load::session::{After, Confirm, Script, Stamps};
use portcullis_load::source::Source;
use portcullis_load::tally::{Kind, Measure, Origin, Tally};
use portcullis_load::tick::Tick;
use portcullis_load::tls_client::{TlsTerms, Version};
use portcullis_load::weights::Weighted;
use portcullis_load::worker::{Prepared, Worker};
use portcullis_load::{clock, run};
use rustls::HandshakeKind;

const SERVICE: Duration = Duration::from_millis(1);
const STALL: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(5));

/// When work that begins at `begin` is done: nothing moves while the server stalls.
fn done(begin: Duration) -> Duration {
    let begin = if begin >= STALL.0 && begin < STALL.1 { STALL.1 } else { begin };
    begin + SERVICE
}

fn record(tally: &mut Tally, base: Instant, intended: Duration, started: Duration, end: Duration) {
    let mut stamps = Stamps::new(base + intended, base + started);
    stamps.confirmed = Some(base + end);
    tally.started(&stamps);
    tally.confirmed(0, HandshakeKind::Full, false, &stamps);
}

fn quantile(tally: &Tally, origin: Origin, quantile: f64) -> Duration {
    let histogram = tally.latencies.of(Measure::Confirmed, Kind::Full, origin).unwrap();
    Duration::from_micros(histogram.value_at_quantile(quantile))
}

/// Nobody looks.
struct Unwatched;

impl Watch for Unwatched {
    fn tick(&mut self, _tick: &Tick, _phase: Phase) -> bool {
        true
    }
}

#[test]
fn an_open_loop_sees_a_stall_that_a_closed_loop_hides() {
    let base = clock::now();
    let end = Duration::from_secs(10);
    let mut open = Tally::new(1);
    let spread = Arrivals::new(Rate::Constant(100.0), Spread::Uniform, Duration::ZERO, 0, 1, 1);
    for due in spread.take_while(|due| *due < end) {
        record(&mut open, base, due, due, done(due));
    }
    let mut closed = Tally::new(1);
    let mut at = Duration::ZERO;
    while at < end {
        let finished = done(at);
        record(&mut closed, base, at, at, finished);
        // As often as the open loop would, but never before the last reply.
        at = finished.max(at + Duration::from_millis(10));
    }
    // A tenth of all arrivals fell into the stall and waited up to a second.
    let seen = quantile(&open, Origin::Intended, 0.95);
    assert!(seen > Duration::from_millis(450) && seen < Duration::from_millis(560), "{seen:?}");
    assert!(quantile(&closed, Origin::Intended, 0.95) < Duration::from_millis(2));
}

#[test]
fn a_generator_that_starts_late_charges_the_delay_to_the_latency() {
    let base = clock::now();
    let mut tally = Tally::new(1);
    // The generator itself is stuck for a second: everything due then starts at its end.
    let spread = Arrivals::new(Rate::Constant(100.0), Spread::Uniform, Duration::ZERO, 0, 1, 1);
    for due in spread.take_while(|due| *due < Duration::from_secs(10)) {
        let started = if due >= STALL.0 && due < STALL.1 { STALL.1 } else { due };
        record(&mut tally, base, due, started, started + SERVICE);
    }
    assert!(quantile(&tally, Origin::Intended, 0.95) > Duration::from_millis(450));
    assert!(quantile(&tally, Origin::Actual, 0.999) < Duration::from_millis(2));
    let lag = tally.lag.unwrap();
    assert!(lag.value_at_quantile(0.99) > 800_000, "the lag itself is reported: {}", lag.max());
}

/// 100 arrivals in a second at a server that accepts and says nothing.
fn plan(target: std::net::SocketAddr, lag_max: Duration) -> RunPlan {
    let name = Name {
        text: "a.test".to_owned(),
        server: server_name("a.test").unwrap(),
        expect: Expect::Accept,
        identities: Weighted::new(vec![(0, 1.0)]).unwrap(),
        flawed: BTreeMap::new(),
    };
    RunPlan {
        target,
        pace: Loop::Open {
            rate: Rate::Constant(100.0),
            spread: Spread::Uniform,
            in_flight_max: 1000,
        },
        phases: Phases {
            ramp: Duration::ZERO,
            warmup: Duration::ZERO,
            measured: Duration::from_secs(1),
        },
        population: Arc::new(Population {
            choice: Weighted::new(vec![(0, 1.0)]).unwrap(),
            names: vec![name],
            identities: vec![Identity::none()],
            order: Order::Random,
            versions: Weighted::new(vec![(Version::Tls13, 1.0)]).unwrap(),
            resume: 0.0,
            sharing: Sharing::Pool,
            flaws: Vec::new(),
        }),
        terms: TlsTerms {
            groups: "x25519".to_owned(),
            cipher_suites: Vec::new(),
            alpn: Vec::new(),
            roots: None,
            cheap: false,
        },
        script: Script { confirm: Confirm::Echo, after: After::None },
        close: Close::Orderly,
        timeout: Duration::from_millis(100),
        source: Source::Off,
        threads: 1,
        pin: None,
        seed: 1,
        lag_max,
    }
}

/// A load thread that stood still until two seconds after the start of a run of one.
fn frozen_to_the_end(lag_max: Duration) -> Tally {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = Arc::new(plan(server.local_addr().unwrap(), lag_max));
    let start = clock::now() - Duration::from_secs(2);
    let (ticks, _seconds) = std::sync::mpsc::channel();
    let prepared = Prepared::new(&plan).unwrap();
    let worker = Worker::new(plan, 0, prepared, start, ticks).unwrap();
    worker.run(start, &AtomicBool::new(false)).unwrap()
}

#[test]
fn arrivals_that_a_frozen_generator_never_started_are_counted() {
    let tally = frozen_to_the_end(Duration::from_millis(10));
    assert_eq!(tally.attempted, 100, "all that were due");
    assert_eq!(tally.failures.get(&Failure::Dropped), Some(&100), "{:?}", tally.failures);
    assert_eq!(tally.imbalance(), 0);
    let lag = tally.lag.unwrap();
    assert!(lag.value_at_quantile(0.5) > 1_000_000, "their delay is reported: {}", lag.max());
}

#[test]
fn a_run_whose_threads_cannot_be_prepared_ends() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = plan(server.local_addr().unwrap(), Duration::ZERO);
    plan.threads = 3;
    plan.terms.groups = "no-such-group".to_owned();
    let error = run::run(&Arc::new(plan), None, &mut Unwatched).unwrap_err();
    assert!(error.to_string().contains("no-such-group"), "{error}");
}

#[test]
fn arrivals_at_the_very_end_start_late_where_that_is_allowed() {
    let tally = frozen_to_the_end(Duration::from_mins(1));
    assert_eq!(tally.attempted, 100, "all that were due");
    assert_eq!(tally.failures.get(&Failure::Timeout), Some(&100), "{:?}", tally.failures);
    assert_eq!(tally.imbalance(), 0);
}
