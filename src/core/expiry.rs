//! How near the end of a certificate, a revocation list or a staple is, and when that is worth a word.
//!
//! Numbers in, an answer out. `tls` asks when it loads files, `app::expiry` asks every hour.

/// How urgent a renewal is. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    Calm,
    /// Whoever renews it should have done so.
    Soon,
    /// Somebody has to do it by hand.
    Urgent,
    Expired,
}

impl Urgency {
    /// Of a certificate, all in Unix seconds: less than 30 days left, less than 7, or it is over. One
    /// that lives for two days or less is renewed by a machine, and is only ever called expired.
    pub fn of_certificate(not_before: u64, not_after: u64, now: u64) -> Self {
        let Some(left) = not_after.checked_sub(now) else { return Self::Expired };
        let life = not_after.saturating_sub(not_before);
        if life <= SHORT_LIFE || left >= SOON {
            Self::Calm
        } else if left >= URGENT {
            Self::Soon
        } else {
            Self::Urgent
        }
    }

    /// Of a list or a staple, which is issued anew long before it ends: in the last tenth of its time
    /// whoever fetches it has failed more than once.
    pub fn of_list(this_update: u64, next_update: u64, now: u64) -> Self {
        let Some(left) = next_update.checked_sub(now) else { return Self::Expired };
        let life = next_update.saturating_sub(this_update);
        if left < life / 10 { Self::Urgent } else { Self::Calm }
    }
}

/// Whole days from `now` until `end`; negative once it is over, -1 within the first day.
pub fn days_left(end: u64, now: u64) -> i64 {
    let days = |seconds: u64| i64::try_from(seconds / DAY).unwrap_or(i64::MAX);
    match end.checked_sub(now) {
        Some(left) => days(left),
        None => -1 - days(now - end - 1),
    }
}

const DAY: u64 = 86_400;
const SOON: u64 = 30 * DAY;
const URGENT: u64 = 7 * DAY;
const SHORT_LIFE: u64 = 2 * DAY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_at_thirty_days_at_seven_and_when_it_is_over() {
        let end = 400 * DAY;
        for (now, urgency) in [
            (0, Urgency::Calm),
            (end - 30 * DAY, Urgency::Calm),
            (end - 30 * DAY + 1, Urgency::Soon),
            (end - 7 * DAY, Urgency::Soon),
            (end - 7 * DAY + 1, Urgency::Urgent),
            (end, Urgency::Urgent),
            (end + 1, Urgency::Expired),
            (u64::MAX, Urgency::Expired),
        ] {
            assert_eq!(Urgency::of_certificate(0, end, now), urgency, "{now}");
        }
    }

    #[test]
    fn a_certificate_of_hours_is_only_ever_called_expired() {
        for (life, now, urgency) in [
            (3_600, 3_599, Urgency::Calm),
            (3_600, 3_601, Urgency::Expired),
            (2 * DAY, DAY, Urgency::Calm),
            (2 * DAY + 1, DAY, Urgency::Urgent),
        ] {
            assert_eq!(Urgency::of_certificate(0, life, now), urgency, "{life} {now}");
        }
    }

    #[test]
    fn a_list_is_urgent_in_the_last_tenth_of_its_time() {
        for (now, urgency) in [
            (1_000, Urgency::Calm),
            (1_900, Urgency::Calm),
            (1_901, Urgency::Urgent),
            (2_000, Urgency::Urgent),
            (2_001, Urgency::Expired),
        ] {
            assert_eq!(Urgency::of_list(1_000, 2_000, now), urgency, "{now}");
        }
        assert_eq!(Urgency::of_list(9, 3, 1), Urgency::Calm, "no life, and not over");
    }

    #[test]
    fn days_are_whole_and_below_zero_once_it_is_over() {
        for (end, now, days) in [
            (DAY, 0, 1),
            (DAY - 1, 0, 0),
            (5, 5, 0),
            (5, 6, -1),
            (0, DAY, -1),
            (0, DAY + 1, -2),
            (u64::MAX, 0, 213_503_982_334_601),
            (0, u64::MAX, -213_503_982_334_602),
        ] {
            assert_eq!(days_left(end, now), days, "{end} {now}");
        }
    }
}
