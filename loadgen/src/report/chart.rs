//! Owns charts: axes, lines and cells as SVG text that needs no script and takes its colours from
//! the page's style sheet, so that one picture serves light and dark. Knows nothing of runs. Read
//! `pictures.rs` for what is drawn.

use std::fmt::Write;

/// How an axis maps values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Evenly.
    Linear,
    /// By ratio; values below the start count as the start.
    Log,
}

/// An axis: its range, its marks, and its title.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) marks: Vec<(f64, String)>,
    pub(super) title: String,
}

impl Axis {
    /// From 0 to a round number above `top`.
    pub(super) fn linear(top: f64, title: &str, show: impl Fn(f64) -> String) -> Self {
        let top = if top > 0.0 { top } else { 1.0 };
        let step = round_step(top / 4.0);
        let count = (top / step).ceil().max(1.0);
        let marks = (0..)
            .map(|index| f64::from(index) * step)
            .take_while(|value| *value <= count * step * 1.000_1)
            .map(|value| (value, show(value)))
            .collect();
        Self { scale: Scale::Linear, from: 0.0, to: count * step, marks, title: title.to_owned() }
    }

    /// Over the decades that hold `from` to `to`, marked at 1, 2 and 5 where there is room.
    pub(super) fn log(from: f64, to: f64, title: &str, show: impl Fn(f64) -> String) -> Self {
        let (from, to) = (from.max(1e-9), to.max(from * 1.01).max(1e-8));
        let (low, high) = (from.log10().floor(), to.log10().ceil());
        let factors: &[f64] = if high - low > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut marks = Vec::new();
        let mut decade = low;
        while decade <= high {
            for factor in factors {
                let value = 10_f64.powf(decade) * factor;
                marks.push((value, show(value)));
            }
            decade += 1.0;
        }
        // Not the whole last decade if the values end at its beginning.
        let start = marks.iter().map(|mark| mark.0).filter(|at| *at <= from).fold(0.0, f64::max);
        let end = marks.iter().map(|mark| mark.0).find(|at| *at >= to).unwrap_or(to);
        marks.retain(|(at, _)| *at >= start * 0.999 && *at <= end * 1.001);
        Self { scale: Scale::Log, from: start, to: end, marks, title: title.to_owned() }
    }

    /// Where a value lies, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
        };
        share.clamp(0.0, 1.0)
    }
}

/// A chart under construction.
#[derive(Debug)]
pub(super) struct Chart {
    title: String,
    x: Axis,
    y: Axis,
    body: String,
    legend: Vec<(String, String)>,
}

impl Chart {
    pub(super) fn new(title: &str, x: Axis, y: Axis) -> Self {
        Self { title: title.to_owned(), x, y, body: String::new(), legend: Vec::new() }
    }

    /// A line through points, in colour `class` of the style sheet, with a word in the legend.
    pub(super) fn line(&mut self, class: &str, legend: &str, points: &[(f64, f64)]) {
        let path: Vec<String> =
            points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.px(*x), self.py(*y))).collect();
        let _ = write!(self.body, "<polyline class=\"l {class}\" points=\"{}\"/>", path.join(" "));
        self.legend.push((class.to_owned(), legend.to_owned()));
    }

    /// Dots with a hint to each.
    pub(super) fn dots(&mut self, class: &str, points: &[(f64, f64, String)]) {
        for (x, y, hint) in points {
            let _ = write!(
                self.body,
                "<circle class=\"d {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}</title></circle>",
                self.px(*x),
                self.py(*y),
                escape(hint)
            );
        }
    }

    /// A horizontal line with a word at its right end.
    pub(super) fn level(&mut self, y: f64, word: &str) {
        let at = self.py(y);
        let _ = write!(
            self.body,
            "<line class=\"level\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"mark\" x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            at - 4.0,
            escape(word)
        );
    }

    /// A vertical line with a word at its top.
    pub(super) fn upright(&mut self, x: f64, word: &str) {
        let at = self.px(x);
        let _ = write!(
            self.body,
            "<line class=\"level\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\
             <text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            at - 4.0,
            TOP + 10.0,
            escape(word)
        );
    }

    /// Thin vertical lines in order of `x`, each with a word along it, cut if long, and the whole
    /// as a hint. A word that would run into the one before is left to the hint.
    pub(super) fn events<'a>(&mut self, events: impl Iterator<Item = (f64, &'a str)>) {
        let mut free_from = f64::NEG_INFINITY;
        for (x, text) in events {
            let at = self.px(x);
            // The second line is not seen but gives a pointer something to hit.
            let _ = write!(
                self.body,
                "<g class=\"event\"><title>{}</title>\
                 <line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\
                 <line class=\"grip\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>",
                escape(text)
            );
            if at >= free_from {
                free_from = at + WORD_HEIGHT;
                let _ = write!(
                    self.body,
                    "<text class=\"mark\" transform=\"translate({:.1} {:.1}) rotate(-90)\" text-anchor=\"end\">{}</text>",
                    if at > LEFT + WORD_HEIGHT { at - 3.0 } else { at + 12.0 },
                    TOP + 2.0,
                    escape(&shorten(text))
                );
            }
            self.body.push_str("</g>");
        }
    }

    /// A filled cell between two points; `strength` from 0 to 1.
    pub(super) fn cell(&mut self, from: (f64, f64), to: (f64, f64), strength: f64, hint: &str) {
        let (left, right) = (self.px(from.0), self.px(to.0));
        let (bottom, top) = (self.py(from.1), self.py(to.1));
        let _ = write!(
            self.body,
            "<rect class=\"heat\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill-opacity=\"{:.3}\"><title>{}</title></rect>",
            (right - left).max(0.5),
            (bottom - top).max(0.5),
            strength.clamp(0.0, 1.0),
            escape(hint)
        );
    }

    /// The finished picture.
    pub(super) fn svg(&self) -> String {
        let mut out = format!(
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title),
            escape(&self.title)
        );
        self.write_axes(&mut out);
        out.push_str(&self.body);
        out.push_str("</svg>");
        if !self.legend.is_empty() {
            out.push_str("<p class=\"legend\">");
            for (class, word) in &self.legend {
                let _ = write!(
                    out,
                    "<span><svg viewBox=\"0 0 20 8\" aria-hidden=\"true\"><line class=\"l {class}\" x1=\"0\" x2=\"20\" y1=\"4\" y2=\"4\"/></svg>{}</span>",
                    escape(word)
                );
            }
            out.push_str("</p>");
        }
        out.push_str("</figure>");
        out
    }

    fn write_axes(&self, out: &mut String) {
        for (value, word) in &self.y.marks {
            let at = self.py(*value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 3.5,
                escape(word)
            );
        }
        let mut free_from = f64::NEG_INFINITY;
        for (value, word) in &self.x.marks {
            let at = self.px(*value);
            // As wide as on a telephone, where the style sheet enlarges words.
            let half = word.chars().count() as f64 * 4.8;
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>"
            );
            // A word that would run into its neighbour is left out.
            if at - half < free_from {
                continue;
            }
            free_from = at + half + 6.0;
            let _ = write!(
                out,
                "<text class=\"axis\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 18.0,
                escape(word)
            );
        }
        let _ = write!(
            out,
            "<text class=\"title\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"title upward\" transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + RIGHT) / 2.0,
            HEIGHT - 7.0,
            escape(&self.x.title),
            (TOP + BOTTOM) / 2.0,
            escape(&self.y.title)
        );
    }

    fn px(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (RIGHT - LEFT)
    }

    fn py(&self, value: f64) -> f64 {
        BOTTOM - self.y.place(value) * (BOTTOM - TOP)
    }
}

/// Text that cannot end an element or an attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// As much as fits along the y axis on a telephone, where the style sheet enlarges words.
fn shorten(text: &str) -> String {
    if text.chars().count() <= WORD_MAX {
        return text.to_owned();
    }
    text.chars().take(WORD_MAX - 1).chain(['…']).collect()
}

fn round_step(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= value);
    factor.unwrap_or(10.0) * power
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 612.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 248.0;
const WORD_HEIGHT: f64 = 16.0;
const WORD_MAX: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_place_their_ends_at_the_ends() {
        let axis = Axis::linear(970.0, "", |value| value.to_string());
        assert_eq!((axis.place(0.0), axis.place(axis.to)), (0.0, 1.0));
        assert!(axis.to >= 970.0 && axis.marks.len() >= 3);
        let axis = Axis::log(120.0, 80_000.0, "", |value| value.to_string());
        assert!(axis.from <= 120.0 && axis.to >= 80_000.0);
        assert_eq!((axis.place(axis.from), axis.place(axis.to)), (0.0, 1.0));
        assert_eq!(axis.place(0.0), 0.0);
    }

    #[test]
    fn names_from_outside_cannot_leave_their_element() {
        let axis = || Axis::linear(1.0, "", |value| value.to_string());
        let mut chart = Chart::new("<script>", axis(), axis());
        chart.line("c0", "a\"b<c>", &[(0.0, 0.0)]);
        let svg = chart.svg();
        assert!(!svg.contains("<script>") && !svg.contains("b<c>"), "{svg}");
    }
}
