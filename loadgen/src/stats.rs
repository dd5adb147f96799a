//! Owns the statistics that compare two sets of samples: a bootstrap interval for the difference
//! of means, and the Mann-Whitney test. Pure; randomness comes from a seed. Read `compare.rs` for
//! what is made of them.

/// A 95 % interval for `mean(b) - mean(a)`, by resampling both sides `rounds` times.
///
/// With fewer than two samples on a side it is the whole line.
#[must_use]
pub fn bootstrap_difference(a: &[f64], b: &[f64], rounds: usize, seed: u64) -> (f64, f64) {
    if a.len() < 2 || b.len() < 2 || rounds == 0 {
        return (f64::NEG_INFINITY, f64::INFINITY);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut differences: Vec<f64> = (0..rounds)
        .map(|_| resampled_mean(b, &mut random) - resampled_mean(a, &mut random))
        .collect();
    differences.sort_by(f64::total_cmp);
    (at_share(&differences, 0.025), at_share(&differences, 0.975))
}

/// The two-sided p-value of the Mann-Whitney U test, by the normal approximation with corrections
/// for ties and continuity; good from about eight samples a side.
///
/// 1 where a side is empty or all samples are equal: nothing is shown.
#[must_use]
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let mut all: Vec<(f64, bool)> =
        a.iter().map(|x| (*x, true)).chain(b.iter().map(|x| (*x, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (count_a, count_b) = (a.len() as f64, b.len() as f64);
    let total = count_a + count_b;
    let (mut rank_sum, mut ties) = (0.0, 0.0);
    let mut start = 0;
    while start < all.len() {
        let end = start + all[start..].iter().take_while(|x| x.0 == all[start].0).count();
        let size = (end - start) as f64;
        // Equal samples share the mean of their ranks, which count from 1.
        let rank = (start + 1 + end) as f64 / 2.0;
        rank_sum += rank * all[start..end].iter().filter(|x| x.1).count() as f64;
        ties += size.powi(3) - size;
        start = end;
    }
    let u = rank_sum - count_a * (count_a + 1.0) / 2.0;
    let mean = count_a * count_b / 2.0;
    let variance =
        count_a * count_b / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)).max(1.0));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - mean).abs() - 0.5).max(0.0) / variance.sqrt();
    (2.0 * (1.0 - normal_cdf(z))).clamp(0.0, 1.0)
}

/// The mean; 0 of nothing.
#[must_use]
pub fn mean(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<f64>() / samples.len() as f64 }
}

fn resampled_mean(samples: &[f64], random: &mut fastrand::Rng) -> f64 {
    let sum: f64 = (0..samples.len()).map(|_| samples[random.usize(..samples.len())]).sum();
    sum / samples.len() as f64
}

fn at_share(sorted: &[f64], share: f64) -> f64 {
    let last = (sorted.len() - 1) as f64;
    let index = usize::try_from(crate::quantity::whole(share * last)).unwrap_or_default();
    sorted[index.min(sorted.len() - 1)]
}

/// Abramowitz and Stegun 26.2.17; wrong by less than 7.5e-8.
fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if z >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, count: usize, centre: f64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        // Twelve uniforms less six: nearly normal with variance 1.
        (0..count).map(|_| centre - 6.0 + (0..12).map(|_| random.f64()).sum::<f64>()).collect()
    }

    #[test]
    fn the_normal_distribution_is_the_one_in_the_tables() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.841_344_7), (1.96, 0.975_002_1), (-1.96, 0.024_997_9)] {
            assert!((normal_cdf(z) - p).abs() < 1e-6, "{z}");
        }
    }

    #[test]
    fn mann_whitney_agrees_with_a_worked_example() {
        // U = 1 of 25, no ties: z = (11.5 - 0.5) / sqrt(22.9167).
        let a = [1.0, 2.0, 3.0, 4.0, 6.0];
        let b = [5.0, 7.0, 8.0, 9.0, 10.0];
        assert!((mann_whitney(&a, &b) - 0.0216).abs() < 0.0005, "{}", mann_whitney(&a, &b));
        assert_eq!(mann_whitney(&[1.0; 9], &[1.0; 9]), 1.0);
        assert_eq!(mann_whitney(&[], &[1.0]), 1.0);
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        let alarms = (0..1000)
            .filter(|seed| {
                mann_whitney(&noise(*seed, 20, 0.0), &noise(seed + 5000, 20, 0.0)) < 0.05
            })
            .count();
        assert!((25..=75).contains(&alarms), "{alarms} of 1000 at p < 0.05");
    }

    #[test]
    fn the_interval_covers_the_true_difference_about_as_often_as_promised() {
        let covered = (0..300)
            .filter(|seed| {
                let (low, high) = bootstrap_difference(
                    &noise(*seed, 25, 10.0),
                    &noise(seed + 999, 25, 11.0),
                    400,
                    *seed,
                );
                (low..=high).contains(&1.0)
            })
            .count();
        assert!((265..=297).contains(&covered), "{covered} of 300");
        assert_eq!(bootstrap_difference(&[1.0], &[2.0], 9, 1), (f64::NEG_INFINITY, f64::INFINITY));
    }
}
