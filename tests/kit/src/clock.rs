//! The clock of the tests: the only place here that reads the time. It never sleeps.

use std::time::{Instant, SystemTime};

/// The moment now, for deadlines.
#[expect(clippy::disallowed_methods, reason = "the tests' only reading of the monotonic clock")]
pub fn monotonic_now() -> Instant {
    Instant::now()
}

/// The wall clock now, for certificates.
#[expect(clippy::disallowed_methods, reason = "the tests' only reading of the wall clock")]
pub fn wall_now() -> SystemTime {
    SystemTime::now()
}
