//! Which flows get a mark, which one, and when it is taken away again.

use proptest::prelude::*;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A flow, and the time as it sees it.
struct Flow {
    coalescing: Coalescing,
    now: Instant,
    mark: u32,
}

impl Flow {
    fn new() -> Self {
        let now = now();
        Self { coalescing: Coalescing::new(now), now, mark: NO_MARK }
    }

    /// `bytes` come each `every`, for so long.
    fn streams(&mut self, bytes: u64, every: Duration, time: Duration) -> u32 {
        let end = self.now + time;
        while self.now < end {
            self.now += every;
            self.receive(bytes);
        }
        self.mark
    }

    fn receive(&mut self, bytes: u64) {
        if let Some(mark) = self.coalescing.received(bytes, self.now) {
            assert_ne!(mark, self.mark, "said again");
            self.mark = mark;
        }
    }

    /// Nothing comes; the timer does.
    fn runs_dry(&mut self) {
        self.now = self.coalescing.deadline().expect("a mark");
        self.coalescing.overdue(self.now);
        self.mark = NO_MARK;
    }

    /// The last of a message was fetched late, is answered, and the next message begins.
    fn is_asked_for_the_next_message(&mut self) {
        self.runs_dry();
        self.receive(1_000);
        self.now += MILLISECOND;
        self.coalescing.answer();
        self.receive(60_000);
        assert_eq!(self.mark, NO_MARK);
    }

    /// How long a fast flow has to go on until it gets a mark.
    fn time_until_marked(&mut self) -> Duration {
        let from = self.now;
        while self.mark == NO_MARK {
            self.now += MILLISECOND / 10;
            self.receive(100_000);
        }
        self.now - from
    }
}

#[test]
fn a_flow_that_streams_gathers_what_comes_within_about_two_milliseconds() {
    for (megabytes_a_second, expected) in [
        (10, NO_MARK),
        (60, NO_MARK),
        (70, 128 << 10),
        (100, 256 << 10),
        (300, 512 << 10),
        (400, 1 << 20),
        (5_000, 1 << 20),
    ] {
        let mut flow = Flow::new();
        let bytes = megabytes_a_second * 100;
        let mark = flow.streams(bytes, MILLISECOND / 10, STEADY * 2);
        assert_eq!(mark, expected, "{megabytes_a_second} MB/s");
    }
}

#[test]
fn a_flow_that_has_just_begun_or_pauses_gathers_nothing() {
    let mut flow = Flow::new();
    assert_eq!(flow.streams(100_000, MILLISECOND / 10, STEADY - MILLISECOND), NO_MARK);
    let mut flow = Flow::new();
    for _ in 0..100 {
        assert_eq!(flow.streams(100_000, MILLISECOND / 10, STEADY / 2), NO_MARK);
        flow.now += PAUSE;
    }
    assert_eq!(flow.coalescing.deadline(), None);
}

#[test]
fn a_mark_follows_the_rate_and_goes_with_it() {
    let mut flow = Flow::new();
    assert_eq!(flow.streams(100_000, MILLISECOND / 10, STEADY * 2), 1 << 20);
    assert_eq!(flow.streams(30_000, MILLISECOND / 10, STEADY * 3), 512 << 10);
    assert_eq!(flow.streams(1_000, MILLISECOND / 10, STEADY * 3), NO_MARK);
}

#[test]
fn bytes_below_the_mark_wait_four_milliseconds_at_most() {
    let mut flow = Flow::new();
    flow.streams(100_000, MILLISECOND / 10, STEADY * 2);
    assert_eq!(flow.coalescing.deadline(), Some(flow.now + HOLD));
    flow.runs_dry();
    assert_eq!(flow.coalescing.deadline(), None);
}

#[test]
fn a_flow_whose_bytes_had_to_be_fetched_is_trusted_less_each_time_and_more_after_a_calm() {
    let mut flow = Flow::new();
    let at_first = flow.time_until_marked();
    let mut before = at_first;
    for _ in 0..DISTRUST_MAX {
        flow.is_asked_for_the_next_message();
        let now = flow.time_until_marked();
        assert!(now > before + STEADY / 2, "{now:?} after {before:?}");
        before = now;
    }
    flow.is_asked_for_the_next_message();
    let bounded = flow.time_until_marked();
    assert!(bounded <= before + MILLISECOND, "{bounded:?} after {before:?}");
    let calm = STEADY * (CALM_PERIODS + 1) * (DISTRUST_MAX + 1);
    flow.streams(100_000, MILLISECOND / 10, calm);
    flow.runs_dry();
    flow.receive(1_000);
    flow.now += PAUSE;
    flow.receive(1_000);
    assert!(flow.time_until_marked() <= at_first + MILLISECOND);
}

/// Senders that share a core get their turns.
#[test]
fn a_sender_that_stalls_has_its_mark_back_once_it_goes_on() {
    let mut flow = Flow::new();
    let mark = flow.streams(100_000, MILLISECOND / 10, STEADY * 2);
    flow.runs_dry();
    // What had waited, and what comes next.
    flow.receive(1_000);
    assert_eq!(flow.mark, NO_MARK);
    flow.now += PAUSE - MILLISECOND;
    flow.receive(60_000);
    assert_eq!(flow.mark, mark);
}

#[test]
fn a_sender_that_pauses_is_measured_anew_and_trusted_as_before() {
    let mut flow = Flow::new();
    let at_first = flow.time_until_marked();
    flow.runs_dry();
    flow.receive(1_000);
    flow.now += PAUSE;
    flow.receive(1_000);
    assert_eq!(flow.mark, NO_MARK, "nothing of a new message is kept back");
    assert!(flow.time_until_marked() <= at_first + MILLISECOND);
}

#[test]
fn a_flow_that_nobody_reads_has_not_paused() {
    let mut flow = Flow::new();
    flow.streams(100_000, MILLISECOND / 10, STEADY * 2);
    flow.coalescing.hold_up();
    assert_eq!(flow.coalescing.deadline(), None);
    flow.now += HOLD * 10;
    flow.coalescing.want(flow.now);
    assert_eq!(flow.coalescing.deadline(), Some(flow.now + HOLD));
    let mut flow = Flow::new();
    for _ in 0..2 {
        flow.streams(100_000, MILLISECOND / 10, STEADY * 3 / 4);
        flow.coalescing.hold_up();
        flow.now += PAUSE * 2;
    }
    assert_ne!(flow.mark, NO_MARK);
}

#[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
fn now() -> Instant {
    Instant::now()
}

proptest! {
    #[test]
    fn whatever_comes_marks_are_in_their_bounds_and_bytes_never_wait_longer(
        steps in prop::collection::vec((0u64..2_000_000, 0u64..4_000), 1..400)
    ) {
        let mut flow = Flow::new();
        for (bytes, microseconds) in steps {
            flow.now += Duration::from_micros(microseconds);
            if flow.coalescing.deadline().is_some_and(|at| at <= flow.now) {
                flow.coalescing.overdue(flow.now);
                flow.mark = NO_MARK;
            }
            flow.receive(bytes);
            let mark = u64::from(flow.mark);
            prop_assert!(flow.mark == NO_MARK || (MARK_MIN..=MARK_MAX).contains(&mark));
            let expected = (flow.mark != NO_MARK).then(|| flow.now + HOLD);
            prop_assert_eq!(flow.coalescing.deadline(), expected);
        }
    }
}
