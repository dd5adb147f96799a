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
                let turns = (offset.as_secs_f64() / every.as_secs_f64()).floor();
                (from + step * turns).min(to)
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
        // Threads with an even spread start out of phase, or they would arrive in bursts of `threads`.
        let phase = f64::from(index) * portion;
        arrivals.at = Duration::from_secs_f64(phase * arrivals.mean_gap());
        arrivals
    }

    fn mean_gap(&self) -> f64 {
        let mut rate = self.rate.at(self.at.saturating_sub(self.ramp)) * self.portion;
        if self.at < self.ramp {
            // Never below 2 %: a rate of zero would never arrive anywhere.
            rate *= (self.at.as_secs_f64() / self.ramp.as_secs_f64()).max(0.02);
        }
        1.0 / rate
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = self.at;
        let gap = match self.spread {
            Spread::Uniform => self.mean_gap(),
            Spread::Poisson => -(1.0 - self.random.f64()).ln() * self.mean_gap(),
            Spread::Burst(count) => {
                if self.left_in_burst == 0 {
                    self.left_in_burst = count;
                }
                self.left_in_burst -= 1;
                if self.left_in_burst == 0 { self.mean_gap() * f64::from(count) } else { 0.0 }
            }
        };
        self.at += Duration::from_secs_f64(gap);
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
    fn the_same_seed_gives_the_same_schedule() {
        let one = Arrivals::new(Rate::Constant(50.0), Spread::Poisson, Duration::ZERO, 0, 1, 9);
        let two = Arrivals::new(Rate::Constant(50.0), Spread::Poisson, Duration::ZERO, 0, 1, 9);
        assert!(one.take(1000).eq(two.take(1000)));
    }
}
