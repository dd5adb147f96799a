//! Owns weighted choice: which server name or client certificate a connection gets. Pure; the
//! caller brings the random numbers. Read `clients.rs` next.

use anyhow::{Context, Result, bail};

/// Items with the odds of each.
#[derive(Debug, Clone)]
pub struct Weighted<T> {
    items: Vec<T>,
    /// Running sums of the weights, so that a choice is a binary search: 100,000 names are normal.
    sums: Vec<f64>,
}

impl<T> Weighted<T> {
    /// # Errors
    /// Refuses an empty list and weights that are not above zero.
    pub fn new(pairs: Vec<(T, f64)>) -> Result<Self> {
        if pairs.is_empty() {
            bail!("nothing to choose from");
        }
        let mut items = Vec::with_capacity(pairs.len());
        let mut sums = Vec::with_capacity(pairs.len());
        let mut sum = 0.0;
        for (item, weight) in pairs {
            if !(weight > 0.0 && weight.is_finite()) {
                bail!("a weight is a number above zero");
            }
            sum += weight;
            items.push(item);
            sums.push(sum);
        }
        Ok(Self { items, sums })
    }

    /// The item at `point` of the total, a number in 0..1.
    #[must_use]
    pub fn pick(&self, point: f64) -> &T {
        let total = self.sums.last().copied().unwrap_or_default();
        let index = self.sums.partition_point(|sum| *sum <= point * total);
        &self.items[index.min(self.items.len() - 1)]
    }

    /// All items, in the order given.
    #[must_use]
    pub fn items(&self) -> &[T] {
        &self.items
    }
}

/// Reads `a=70,b=20,c`: names with weights, 1 where none is given.
///
/// # Errors
/// A weight that is not a number.
pub fn parse(text: &str) -> Result<Vec<(String, f64)>> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once('=') {
            None => Ok((part.to_owned(), 1.0)),
            Some((name, weight)) => {
                let weight =
                    weight.trim().parse().with_context(|| format!("{part:?}: not a weight"))?;
                Ok((name.trim().to_owned(), weight))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_follow_the_weights() {
        let names = Weighted::new(parse("a=70,b=20,c=10").unwrap()).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let mut count = std::collections::HashMap::new();
        for _ in 0..100_000 {
            *count.entry(names.pick(random.f64()).clone()).or_insert(0_u32) += 1;
        }
        for (name, share) in [("a", 0.7), ("b", 0.2), ("c", 0.1)] {
            assert!((f64::from(count[name]) / 1e5 - share).abs() < 0.01, "{name}: {count:?}");
        }
    }

    #[test]
    fn the_edges_of_the_range_are_valid_points() {
        let names = Weighted::new(vec![('a', 1.0), ('b', 1.0)]).unwrap();
        assert_eq!(*names.pick(0.0), 'a');
        assert_eq!(*names.pick(1.0), 'b');
    }

    #[test]
    fn empty_lists_and_bad_weights_are_refused() {
        assert!(Weighted::<u8>::new(vec![]).is_err());
        assert!(Weighted::new(vec![('a', 0.0)]).is_err());
        assert!(parse("a=x").is_err());
    }
}
