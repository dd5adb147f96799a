//! Owns the line that a comparison adds to the history: where and with what it was measured, every
//! median and every ratio, so that a later one can be held against it.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::gateway::Program;
use crate::rounds::Round;
use crate::verdict::{Against, Line};

pub(crate) fn line(rounds: &[Round]) -> Result<Value> {
    let last = &rounds.last().context("no round was measured")?.circumstances;
    let mut rows = Map::new();
    for line in Line::all(rounds) {
        let mut medians = Map::new();
        let mut ratios = Map::new();
        let mut ties = Vec::new();
        let columns = Program::ALL.iter().zip(&line.medians).zip(&line.against);
        for ((program, median), against) in columns {
            if let Some(median) = median {
                medians.insert(program.name().to_owned(), rounded(*median));
            }
            if let Some(against) = against.filter(|_| *program != Program::Portcullis) {
                ratios.insert(program.name().to_owned(), rounded(against.ratio()));
                if matches!(against, Against::Tie(_)) {
                    ties.push(program.name());
                }
            }
        }
        let row = json!({
            "unit": line.row.unit(),
            "medians": medians,
            "floor": line.floor.map(rounded),
            "portcullis_to": ratios,
            "ties": ties,
            "met": line.met,
        });
        rows.insert(line.row.key.to_owned(), row);
    }
    Ok(json!({"circumstances": last, "rounds": rounds.len(), "rows": rows}))
}

/// More digits would pretend.
fn rounded(figure: f64) -> Value {
    json!((figure * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::tests::round;

    #[test]
    fn a_line_holds_medians_ratios_and_circumstances() {
        let line = line(&[round(&[("full", 60.0, 100.0)])]).unwrap();
        assert_eq!(line["circumstances"]["commit"], "c0ffee");
        assert_eq!(line["rows"]["full"]["medians"]["envoy"], 100.0);
        assert_eq!(line["rows"]["full"]["portcullis_to"]["envoy"], 0.6);
        assert_eq!(line["rows"]["full"]["met"], true);
    }
}
