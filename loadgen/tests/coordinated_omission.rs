//! Latency counts from the intended start: shown on a virtual clock, against a server that stalls
//! for a second. A generator that waits for its own replies sees almost nothing of it; an open
//! loop sees what users would.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test: by panicking")]

use std::time::{Duration, Instant};

use portcullis_load::arrivals::{Arrivals, Rate, Spread};
use portcullis_load::clock;
use portcullis_load::session::Stamps;
use portcullis_load::tally::{Kind, Measure, Origin, Tally};
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
