//! Owns the question whether a window may be believed: how much of the machine others used while it
//! lasted. Others are all but the gateway, the upstreams, the load and this program.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::monotonic;

/// What had been used by everybody and by us when a window began.
#[derive(Debug)]
pub(crate) struct Watch {
    pids: Vec<u32>,
    all: u64,
    ours: u64,
    began: Instant,
}

impl Watch {
    /// `pids` are ours, beside this process and the children that it has waited for by the end.
    pub(crate) fn begin(pids: Vec<u32>) -> Result<Self> {
        let (all, ours) = (all_ticks()?, our_ticks(&pids)?);
        Ok(Self { pids, all, ours, began: monotonic() })
    }

    /// The share of all cores that others used since.
    pub(crate) fn others(&self) -> Result<f64> {
        let span = monotonic().duration_since(self.began).max(Duration::from_millis(1));
        let all = all_ticks()?.saturating_sub(self.all);
        let ours = our_ticks(&self.pids)?.saturating_sub(self.ours);
        let cores = std::thread::available_parallelism().map_or(1, usize::from).max(CORES_LEAST);
        let ticks = span.as_secs_f64() * TICKS_PER_SECOND;
        Ok(float(all.saturating_sub(ours)) / (ticks * float(cores as u64)))
    }
}

/// What a window gives, and the share of the machine that others used meanwhile. A window says both; one that
/// others disturbed is repeated, up to `tries` times in all, and the least disturbed one counts.
pub(crate) fn least_disturbed<T>(
    place: &str,
    tries: u32,
    mut window: impl FnMut() -> Result<(T, f64)>,
) -> Result<(T, f64)> {
    let mut best = window()?;
    for _ in 1..tries {
        if best.1 < OTHERS_MAX {
            break;
        }
        crate::note(format_args!(
            "{place}: others used {:.0} % of the machine; again",
            best.1 * 100.0
        ));
        let next = window()?;
        if next.1 < best.1 {
            best = next;
        }
    }
    Ok(best)
}

/// Everything but idling and waiting for disks; what the hypervisor took is in it.
fn all_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    busy(&text).context("/proc/stat is not what it used to be")
}

fn busy(text: &str) -> Option<u64> {
    let mut fields = text.lines().next()?.split_whitespace().skip(1).map(str::parse::<u64>);
    let mut next = || fields.next()?.ok();
    let (user, nice, system, _idle, _wait) = (next()?, next()?, next()?, next()?, next()?);
    let (hardware, soft, stolen) = (next()?, next()?, next()?);
    Some(user + nice + system + hardware + soft + stolen)
}

fn our_ticks(pids: &[u32]) -> Result<u64> {
    let own = fs::read_to_string("/proc/self/stat")?;
    let mut ticks = used(&own, 4).context("/proc/self/stat is not what it used to be")?;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        ticks += used(&stat, 2).context("a process is gone")?;
    }
    Ok(ticks)
}

/// utime and stime; of 4 fields also those of children that were waited for (proc(5), 14 to 17).
fn used(stat: &str, fields: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().skip(11).take(fields).map(|field| field.parse::<u64>().ok()).sum()
}

#[expect(clippy::cast_precision_loss, reason = "ticks of a window, a few hundred")]
fn float(number: u64) -> f64 {
    number as f64
}

/// So often a window is measured, disturbed or not.
pub(crate) const TRIES_MAX: u32 = 3;
/// Of all cores: with more, figures move by more than programs differ.
pub(crate) const OTHERS_MAX: f64 = 0.05;

/// USER_HZ is 100 on every Linux that runs this.
const TICKS_PER_SECOND: f64 = 100.0;
/// This thread may be held to one core; the load and the gateway have at least two.
const CORES_LEAST: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "cpu  10 1 5 1000 7 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy(text), Some(10 + 1 + 5 + 2 + 3 + 4));
        let stat = "7 (a) (b) S 1 7 7 0 -1 0 0 0 0 0 150 50 30 20 20 0 3 0 4242 0 0";
        assert_eq!((used(stat, 2), used(stat, 4)), (Some(200), Some(250)));
        assert_eq!(busy("cpu 1 2"), None);
    }

    #[test]
    fn a_disturbed_window_is_repeated_and_the_least_disturbed_counts() {
        let after = |shares: &[f64]| {
            let mut windows = shares.iter().enumerate().map(|(number, &share)| (number, share));
            let best = least_disturbed("here", 3, || windows.next().context("one too many"));
            (best.unwrap(), windows.len())
        };
        assert_eq!(after(&[0.01, 0.0]), ((0, 0.01), 1));
        assert_eq!(after(&[0.3, 0.02, 0.0]), ((1, 0.02), 1));
        assert_eq!(after(&[0.3, 0.2, 0.4, 0.0]), ((1, 0.2), 1));
    }

    #[test]
    fn a_share_is_a_share() {
        let others = Watch::begin(Vec::new()).unwrap().others().unwrap();
        assert!(others >= 0.0, "{others}");
    }
}
