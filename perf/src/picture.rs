//! Owns the picture of a comparison: for each row a bar as long as the ratio to Envoy, a mark where it
//! should end, and small marks for the other programs. One SVG, readable on light and dark ground.

use std::fmt::Write;

use crate::gateway::Program;
use crate::row::Bar;
use crate::verdict::Line;

pub(crate) fn draw(lines: &[Line]) -> String {
    let lines: Vec<&Line> = lines.iter().filter(|line| line.of_envoy().is_some()).collect();
    let height = TOP + STEP * count(lines.len()) + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" role=\"img\">\n{STYLE}\n\
         <title>What portcullis uses, as a share of what Envoy uses for the same work</title>\n"
    );
    let heading = "portcullis (bar), nginx ○ and HAProxy ◇ as a share of Envoy; | is where the bar should end";
    label(&mut text, LEFT - 20.0, 18.0, "end", "less is better");
    label(&mut text, LEFT, 18.0, "start", heading);
    for tenth in [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5] {
        let (x, bottom) = (at(tenth), TOP + STEP * count(lines.len()));
        let class = if tenth == 1.0 { "envoy" } else { "grid" };
        line(&mut text, class, (x, TOP - 8.0), (x, bottom));
        let name = if tenth == 1.0 { "Envoy".to_owned() } else { format!("{tenth}") };
        label(&mut text, x, bottom + 16.0, "middle", &name);
    }
    for (number, row) in lines.iter().enumerate() {
        draw_row(&mut text, row, TOP + STEP * count(number));
    }
    text + "</svg>\n"
}

fn draw_row(text: &mut String, row: &Line, top: f64) {
    let Some(ratio) = row.of_envoy().map(super::verdict::Against::ratio) else { return };
    let middle = top + STEP / 2.0;
    label(text, LEFT - 20.0, middle + 4.0, "end", row.row.title);
    let class = if row.met == Some(false) { "missed" } else { "met" };
    let (x, width) = (LEFT, at(ratio) - LEFT);
    let _ = writeln!(
        text,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\" rx=\"2\"/>",
        middle - 7.0
    );
    let envoy = row.medians.get(1).copied().flatten();
    let bar = match row.row.bar {
        Bar::OfEnvoy(bar) => Some(bar),
        Bar::Absolute(bar) => envoy.map(|envoy| bar / envoy),
    };
    if let Some(bar) = bar {
        line(text, "bar", (at(bar), middle - 10.0), (at(bar), middle + 10.0));
    }
    let own = row.own().unwrap_or_default();
    for (program, other) in Program::ALL.iter().zip(&row.against) {
        // What the other is to Envoy follows from what portcullis is to both.
        let Some(other) = other.filter(|other| other.ratio() > 0.0 && own > 0.0) else { continue };
        let x = at(ratio / other.ratio());
        let _ = match program {
            Program::Nginx => {
                writeln!(text, "<circle class=\"other\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"4\"/>")
            }
            Program::Haproxy => writeln!(
                text,
                "<path class=\"other\" d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\"/>",
                middle - 5.0
            ),
            Program::Portcullis
            | Program::IoUring
            | Program::Envoy
            | Program::EnvoySni
            | Program::ReadWrite
            | Program::Splice => Ok(()),
        };
    }
    label(text, WIDTH - 8.0, middle + 4.0, "end", &format!("{ratio:.2}"));
}

/// Where a ratio lies; what is far off lies at the edge.
fn at(ratio: f64) -> f64 {
    LEFT + ratio.min(RATIO_MAX) * UNIT
}

fn line(text: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        text,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ =
        writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows")]
fn count(number: usize) -> f64 {
    number as f64
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 390.0;
const TOP: f64 = 40.0;
const STEP: f64 = 26.0;
const UNIT: f64 = 330.0;
const RATIO_MAX: f64 = 1.55;
const STYLE: &str = "<style>
text { fill: #24292f }
.grid { stroke: #8888; stroke-width: 0.5 }
.envoy { stroke: #888; stroke-width: 1.5 }
.met { fill: #2f8f5b }
.missed { fill: #c9782b }
.bar { stroke: #24292f; stroke-width: 2.5 }
.other { fill: none; stroke: #6a7bd1; stroke-width: 1.8 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { stroke: #e6edf3 }
}
</style>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::tests::round;

    #[test]
    fn every_row_has_its_bar() {
        let rounds = [round(&[("full", 60.0, 100.0), ("resumed", 90.0, 100.0)])];
        let svg = draw(&Line::all(&rounds));
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("class=\"met\"") && svg.contains("class=\"missed\""));
        assert!(svg.contains("prefers-color-scheme: dark") && svg.ends_with("</svg>\n"));
    }
}
