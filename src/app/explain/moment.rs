//! The time that an answer is for: now, or what `--at` says; and the clock that stands still at it.

use std::sync::atomic::{AtomicU64, Ordering};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::quantity::{self, QuantityError};
use crate::sys::clock;

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MomentError {
    #[error(
        "`{0}` is no time: write one as in \"2026-12-24T18:00:00Z\", or from now on as in \"+30d\""
    )]
    NoTime(String),
    #[error("`{0}` is too far away: at most 365d, or write a date")]
    TooFar(String),
    #[error("`{0}` is before 1970")]
    TooEarly(String),
}

/// Stops `moment` at the time that `at` says, or now; in Unix seconds.
pub(super) fn set(at: Option<&str>) -> Result<u64, MomentError> {
    let now = clock::unix_now();
    let moment = at.map_or(Ok(now), |text| parse(text, now))?;
    MOMENT.store(moment, Ordering::Relaxed);
    Ok(moment)
}

/// The clock of an answer, for `Material`: it asks for a function.
pub(super) fn moment() -> u64 {
    MOMENT.load(Ordering::Relaxed)
}

/// What to do about something at a moment that was given: this machine's clock has no part in it.
pub(super) fn given(help: &str) -> String {
    help.replace("check this machine's clock", "look at the time of --at")
}

static MOMENT: AtomicU64 = AtomicU64::new(0);

fn parse(text: &str, now: u64) -> Result<u64, MomentError> {
    let span = |rest: &str| match quantity::duration(rest) {
        Ok(span) => Ok(span.as_secs()),
        Err(QuantityError::TooLarge) => Err(MomentError::TooFar(text.to_owned())),
        Err(QuantityError::Number | QuantityError::UnitMissing | QuantityError::UnitUnknown) => {
            Err(MomentError::NoTime(text.to_owned()))
        }
    };
    let too_early = || MomentError::TooEarly(text.to_owned());
    if let Some(ahead) = text.strip_prefix('+') {
        return Ok(now.saturating_add(span(ahead)?));
    }
    if let Some(back) = text.strip_prefix('-') {
        return now.checked_sub(span(back)?).ok_or_else(too_early);
    }
    let parsed = OffsetDateTime::parse(text, &Rfc3339);
    let parsed = parsed.map_err(|_unparsed| MomentError::NoTime(text.to_owned()))?;
    u64::try_from(parsed.unix_timestamp()).map_err(|_negative| too_early())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_767_225_600;

    #[test]
    fn times_are_dates_or_count_from_now() {
        for (text, moment) in [
            ("2026-01-01T00:00:00Z", NOW),
            ("2026-01-01T01:30:00+01:30", NOW),
            ("2026-01-01T00:00:00.999Z", NOW),
            ("1970-01-01T00:00:00Z", 0),
            ("+30d", NOW + 30 * 86_400),
            ("+0s", NOW),
            ("-12h", NOW - 12 * 3_600),
        ] {
            assert_eq!(parse(text, NOW), Ok(moment), "{text}");
        }
    }

    #[test]
    fn the_clock_of_this_machine_has_no_part_in_a_moment_that_was_given() {
        let hint = crate::core::refusal::Reason::CertificateExpired.hint();
        assert!(hint.contains("this machine's clock") && !given(hint).contains("machine"));
        assert_eq!(given("renew it"), "renew it");
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_write() {
        for text in ["", "+", "-", "30d", "+30", "+ 1d", "2026-01-01", "2026-13-01T00:00:00Z"] {
            assert_eq!(parse(text, NOW), Err(MomentError::NoTime(text.to_owned())), "{text}");
        }
        assert_eq!(parse("+366d", NOW), Err(MomentError::TooFar("+366d".to_owned())));
        for text in ["1969-12-31T23:59:59Z", "-2d"] {
            assert_eq!(parse(text, 86_400), Err(MomentError::TooEarly(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_refused(text in "[+-]?[0-9:TZ.dhms-]{0,30}|(?s).{0,30}") {
            // A panic or an overflow would fail it.
            drop(parse(&text, NOW));
        }
    }
}
