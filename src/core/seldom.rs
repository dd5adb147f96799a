//! How often the log says what goes on and on: once when it begins, and then once in a while with how
//! many there were.

use std::time::{Duration, Instant};

/// What happens many times and is told seldom.
#[derive(Debug, Default)]
pub struct Seldom {
    told_at: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// One more. How many there were since the last line, if another line is due `pause` after it.
    pub fn one_more(&mut self, now: Instant, pause: Duration) -> Option<u64> {
        self.untold += 1;
        let is_new = |told_at| now.saturating_duration_since(told_at) >= pause;
        if !self.told_at.is_none_or(is_new) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_with_the_next_line() {
        #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
        let start = Instant::now();
        let pause = Duration::from_secs(60);
        let mut seldom = Seldom::default();
        let mut tell = |seconds| seldom.one_more(start + Duration::from_secs(seconds), pause);
        assert_eq!([tell(0), tell(0), tell(59)], [Some(1), None, None]);
        assert_eq!([tell(60), tell(61), tell(500)], [Some(3), None, Some(2)]);
        // A clock that another thread has read later.
        assert_eq!(tell(499), None);
    }
}
