//! Owns the schedule of an open loop: at which offset from the start each connection is due. Pure:
//! no clock, and randomness comes from the seed it is given. Read `worker.rs` for who obeys it.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::quantity;

/// How many arrivals a second, over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// The same for the whole run.
    Constant(f64),
    /// From `from` by `step` every `every` up to `to`, where it stays.
    Steps {
        /// The first rate.
        from: f64,
        /// The last rate.
        to: f64,
        /// How much is added each time.
        step: f64,
        /// How long each rate lasts.
        every: Duration,
    },
}

impl Rate {
    /// The rate at `offset` since the start.
    #[must_use]
    pub fn at(&self, offset: Duration) -> f64 {
        match *self {
            Self::Constant(rate) => rate,
            Self::Steps { from, to, step, every } => {
                (from + step * f64::from(turns(offset, every))).min(to)
            }
        }
    }

    /// The rate at `at` since the start of a run whose rate climbs linearly during `ramp`.
    #[must_use]
    pub fn offered(&self, at: Duration, ramp: Duration) -> f64 {
        if at < ramp {
            self.at(Duration::ZERO) * at.as_secs_f64() / ramp.as_secs_f64()
        } else {
            self.at(at - ramp)
        }
    }

    /// When the rate at `offset` gives way to another one.
    fn changes(&self, offset: Duration) -> Option<Duration> {
        match *self {
            Self::Constant(_) => None,
            Self::Steps { to, .. } if self.at(offset) >= to => None,
            Self::Steps { every, .. } => {
                Some(every.saturating_mul(turns(offset, every).saturating_add(1)))
            }
        }
    }

    /// The highest rate that the profile reaches.
    #[must_use]
    pub fn peak(&self) -> f64 {
        match *self {
            Self::Constant(rate) => rate,
            Self::Steps { to, .. } => to,
        }
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    /// `2000`, `2000/s` or `500..5000:+500/10s`.
    fn from_str(text: &str) -> Result<Self> {
        let rate = if let Some((range, climb)) = text.split_once(':') {
            let (from, to) =
                range.split_once("..").context("a climbing rate is FROM..TO:+STEP/TIME")?;
            let (step, every) = climb
                .strip_prefix('+')
                .and_then(|rest| rest.split_once('/'))
                .context("a climbing rate is FROM..TO:+STEP/TIME")?;
            Self::Steps {
                from: per_second(from)?,
                to: per_second(to)?,
                step: per_second(step)?,
                every: quantity::duration(every)?,
            }
        } else {
            Self::Constant(per_second(text)?)
        };
        match rate {
            Self::Steps { from, to, every, .. } if to < from || every.is_zero() => {
                bail!("{text:?} does not climb")
            }
            Self::Constant(_) | Self::Steps { .. } => Ok(rate),
        }
    }
}

/// How often `every` has gone by at `offset`. In whole nanoseconds: a rate that changes must have
/// changed when it is asked for at that very moment.
fn turns(offset: Duration, every: Duration) -> u32 {
    u32::try_from(offset.as_nanos() / every.as_nanos().max(1)).unwrap_or(u32::MAX)
}

fn per_second(text: &str) -> Result<f64> {
    let (number, unit) = quantity::split(text)?;
    let rate = match unit {
        "" | "/s" => number,
        "/m" | "/min" => number / 60.0,
        _ => bail!("{text:?} is not a rate: write 2000/s"),
    };
    if rate > 0.0 && rate <= 1e7 {
        Ok(rate)
    } else {
        bail!("{text:?}: a rate is above 0/s and at most 1e7/s")
    }
}

/// How arrivals are spread around the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Evenly.
    Uniform,
    /// Independent clients: exponential gaps.
    Poisson,
    /// So many at the same instant, evenly spread bursts.
    Burst(u32),
}

impl FromStr for Spread {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "uniform" | "constant" => Ok(Self::Uniform),
            "poisson" => Ok(Self::Poisson),
            _ => {
                let count =
                    text.strip_prefix("burst:").context("use poisson, uniform or burst:N")?;
                let count: u32 = count.parse().context("burst:N needs a number")?;
                if count == 0 {
                    bail!("a burst has at least one arrival")
                }
                Ok(Self::Burst(count))
            }
        }
    }
}

/// The endless sequence of due times for one load thread.
#[derive(Debug)]
pub struct Arrivals {
    rate: Rate,
    spread: Spread,
    /// The part of the rate that this thread carries.
    portion: f64,
    ramp: Duration,
    random: fastrand::Rng,
    at: Duration,
    left_in_burst: u32,
}

impl Arrivals {
    /// The schedule of thread `index` of `threads`. During `ramp` the rate climbs linearly.
    #[must_use]
    pub fn new(
        rate: Rate,
        spread: Spread,
        ramp: Duration,
        index: u32,
        threads: u32,
        seed: u64,
    ) -> Self {
        let portion = 1.0 / f64::from(threads.max(1));
        let mut arrivals = Self {
            rate,
            spread,
            portion,
            ramp,
            random: fastrand::Rng::with_seed(seed ^ 0x5eed_a441_7a15),
            at: Duration::ZERO,
            left_in_burst: 0,
        };
        // Threads with an even spread start out of phase, or they would arrive in bursts of `threads`;
        // those with bursts, or each would be as many times as large.
        let together = match spread {
            Spread::Uniform | Spread::Poisson => 1,
            Spread::Burst(count) => count,
        };
        arrivals.at = arrivals.after(f64::from(index) * portion * f64::from(together));
        arrivals
    }

    /// When so many arrivals of this thread have come since `self.at`. The rate is summed up over
    /// time: taking the one at the last arrival for the whole gap would leave a slow rate asleep
    /// at the foot of its ramp.
    fn after(&self, mut arrivals: f64) -> Duration {
        let mut at = self.at;
        if at < self.ramp {
            // The rate grows with the time since the start, its sum with the square of it.
            let (now, ramp) = (at.as_secs_f64(), self.ramp.as_secs_f64());
            let slope = self.rate.at(Duration::ZERO) * self.portion / ramp;
            let left = slope * (ramp * ramp - now * now) / 2.0;
            if arrivals <= left {
                return Duration::from_secs_f64((now * now + 2.0 * arrivals / slope).sqrt());
            }
            arrivals -= left;
            at = self.ramp;
        }
        loop {
            let rate = self.rate.at(at - self.ramp) * self.portion;
            let change = self.rate.changes(at - self.ramp).map(|offset| self.ramp + offset);
            match change.map(|change| (change, rate * (change - at).as_secs_f64())) {
                Some((change, until_then)) if until_then < arrivals => {
                    arrivals -= until_then;
                    at = change;
                }
                Some(_) | None => return at + Duration::from_secs_f64(arrivals / rate),
            }
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = self.at;
        // One arrival after the other; by chance, as far apart as independent ones are.
        let arrivals = match self.spread {
            Spread::Uniform => 1.0,
            Spread::Poisson => -(1.0 - self.random.f64()).ln(),
            Spread::Burst(count) => {
                if self.left_in_burst == 0 {
                    self.left_in_burst = count;
                }
                self.left_in_burst -= 1;
                if self.left_in_burst == 0 { f64::from(count) } else { 0.0 }
            }
        };
        self.at = self.after(arrivals);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_in(arrivals: Arrivals, span: Duration) -> usize {
        arrivals.take_while(|at| *at < span).count()
    }

    #[test]
    fn threads_together_carry_the_rate() {
        for spread in [Spread::Uniform, Spread::Poisson, Spread::Burst(10)] {
            let total: usize = (0..3)
                .map(|index| {
                    let arrivals = Arrivals::new(
                        Rate::Constant(900.0),
                        spread,
                        Duration::ZERO,
                        index,
                        3,
                        u64::from(index) + 7,
                    );
                    count_in(arrivals, Duration::from_secs(100))
                })
                .sum();
            let off = (total as f64 - 90_000.0).abs();
            assert!(off < 1_500.0, "{spread:?}: {total}");
        }
    }

    #[test]
    fn bursts_of_several_threads_do_not_fall_on_one_another() {
        let rate = Rate::Constant(100.0);
        let mut due: Vec<Duration> = (0..2)
            .flat_map(|index| {
                Arrivals::new(rate, Spread::Burst(20), Duration::ZERO, index, 2, 1).take(40)
            })
            .collect();
        due.sort();
        let starts: Vec<f64> = due.chunks(20).map(|burst| burst[0].as_secs_f64()).collect();
        assert!(due.chunks(20).all(|burst| burst[0] == burst[19]), "{due:?}");
        let gaps = starts.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.into_iter().all(|gap| (gap - 0.2).abs() < 1e-6), "{starts:?}");
    }

    #[test]
    fn poisson_gaps_have_the_spread_of_an_exponential() {
        let arrivals =
            Arrivals::new(Rate::Constant(1000.0), Spread::Poisson, Duration::ZERO, 0, 1, 42);
        let times: Vec<f64> = arrivals.take(100_000).map(|at| at.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // For an exponential the standard deviation equals the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{} against {mean}", variance.sqrt());
    }

    #[test]
    fn a_climbing_rate_climbs() {
        let rate: Rate = "500..2000:+500/10s".parse().unwrap();
        assert_eq!(rate.at(Duration::from_secs(0)), 500.0);
        assert_eq!(rate.at(Duration::from_secs(10)), 1000.0);
        assert_eq!(rate.at(Duration::from_secs(99)), 2000.0);
        assert_eq!("2000/s".parse::<Rate>().unwrap(), Rate::Constant(2000.0));
        assert!("0/s".parse::<Rate>().is_err());
        assert!("5000..500:+1/1s".parse::<Rate>().is_err());
    }

    #[test]
    fn a_ramp_brings_half_of_the_arrivals_and_a_slow_rate_wakes_up_after_it() {
        let ramp = Duration::from_secs(3);
        for rate in [2.0, 50.0, 2_000.0] {
            for spread in [Spread::Uniform, Spread::Poisson] {
                let run = || Arrivals::new(Rate::Constant(rate), spread, ramp, 0, 1, 5);
                let climbing = count_in(run(), ramp) as f64;
                let after = count_in(run(), ramp + Duration::from_secs(100)) as f64 - climbing;
                // Four standard deviations of a Poisson count, and the first arrival.
                let near = |count: f64, mean: f64| (count - mean).abs() < 4.0 * mean.sqrt() + 1.0;
                assert!(near(climbing, 1.5 * rate), "{rate} {spread:?}: {climbing} in the ramp");
                assert!(near(after, 100.0 * rate), "{rate} {spread:?}: {after} after it");
            }
        }
    }

    #[test]
    fn a_climb_by_steps_brings_what_its_rates_add_up_to() {
        // 1/s for 0.3 s, 2/s for 0.3 s, and so on to 5/s: gaps are longer than the first steps.
        let rate: Rate = "1..5:+1/300ms".parse().unwrap();
        let arrivals = Arrivals::new(rate, Spread::Uniform, Duration::ZERO, 0, 1, 1);
        assert_eq!(count_in(arrivals, Duration::from_millis(1_190)), 3, "0.3 * (1 + 2 + 3 + 4)");
        let arrivals = Arrivals::new(rate, Spread::Uniform, Duration::ZERO, 0, 1, 1);
        assert_eq!(count_in(arrivals, Duration::from_millis(11_150)), 53, "and 5/s for 10 s");
        assert_eq!(rate.at(Duration::from_millis(900)), 4.0, "at that very moment");
        assert_eq!(rate.offered(Duration::from_secs(1), Duration::from_secs(2)), 0.5);
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let one = Arrivals::new(Rate::Constant(50.0), Spread::Poisson, Duration::ZERO, 0, 1, 9);
        let two = Arrivals::new(Rate::Constant(50.0), Spread::Poisson, Duration::ZERO, 0, 1, 9);
        assert!(one.take(1000).eq(two.take(1000)));
    }
}
