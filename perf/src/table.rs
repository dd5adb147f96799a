//! The figures for people, and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::measure::Work;

/// One line a work: the median of the rounds and how far they lie apart.
pub(crate) fn render(rounds: &[Vec<f64>]) -> String {
    let mut text = format!("{:<46} {:>10} {:>22}  unit\n", "for each", "median", "from .. to");
    for (at, work) in Work::ALL.into_iter().enumerate() {
        let figures = sorted(rounds, at);
        let [least, .., most] = figures[..] else {
            let only = figures.first().copied().unwrap_or(f64::NAN);
            let _ = writeln!(text, "{:<46} {only:>10.2} {:>22}  {}", work.name(), "", work.unit());
            continue;
        };
        let range = format!("{least:.2} .. {most:.2}");
        let median = median(&figures);
        let _ = writeln!(text, "{:<46} {median:>10.2} {range:>22}  {}", work.name(), work.unit());
    }
    text
}

pub(crate) fn json(rounds: &[Vec<f64>]) -> Value {
    let works = Work::ALL.into_iter().enumerate().map(|(at, work)| {
        let figures = sorted(rounds, at);
        json!({"work": work.name(), "unit": work.unit(), "median": median(&figures), "all": figures})
    });
    Value::Array(works.collect())
}

fn sorted(rounds: &[Vec<f64>], at: usize) -> Vec<f64> {
    let mut figures: Vec<f64> = rounds.iter().filter_map(|round| round.get(at).copied()).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// Of sorted figures; the lower one of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_of_the_figures() {
        let round = |figure: f64| vec![figure; Work::ALL.len()];
        let rounds = [round(3.0), round(1.0), round(2.0)];
        assert_eq!(json(&rounds)[0]["median"], 2.0);
        assert!(render(&rounds).contains("1.00 .. 3.00"));
        assert!(render(&rounds[..1]).contains("3.00"));
    }
}
