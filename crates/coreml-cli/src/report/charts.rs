//! Draws distributions and time series as SVG.

use serde_json::Value as Json;

use super::html::{MIB, MS, PLAIN, origin};
use crate::html::escape;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;

/// An event in time.
pub(super) struct Moment<'a> {
    pub(super) at: f64,
    pub(super) what: &'a str,
}

/// A span of time.
pub(super) struct Stage<'a> {
    pub(super) name: &'a str,
    pub(super) from: f64,
    pub(super) to: f64,
}

/// The space of a chart, and what its edges stand for.
struct Plot {
    x: [f64; 2],
    y: [f64; 2],
    top: f64,
    height: f64,
}

impl Plot {
    fn x(&self, value: f64) -> f64 {
        let share = (value - self.x[0]) / (self.x[1] - self.x[0]).max(f64::MIN_POSITIVE);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.y[0]) / (self.y[1] - self.y[0]).max(f64::MIN_POSITIVE);
        self.top + self.height * (1.0 - share.clamp(0.0, 1.0))
    }

    fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Lines and labels at round numbers.
    fn axes(&self, x_name: &str, y_name: &str, svg: &mut String) {
        for value in ticks(self.y, 5) {
            let y = self.y(value);
            svg.push_str(&format!(
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                short(value)
            ));
        }
        for value in ticks(self.x, 9) {
            let x = self.x(value);
            let y = self.bottom() + 16.0;
            svg.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", short(value)));
        }
        svg.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{x_name}</text><text x=\"4\" y=\"12\">{y_name}</text>",
            WIDTH - RIGHT,
            self.bottom() + 32.0
        ));
    }
}

/// Round numbers between two bounds, about so many.
fn ticks([low, high]: [f64; 2], about: usize) -> Vec<f64> {
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) {
        return vec![low];
    }
    let raw = span / about as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|of| of * power).find(|&step| step >= raw).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|&value| value <= high + step * 1e-9).collect()
}

/// A number on an axis, without needless zeros.
fn short(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" || text.is_empty() { "0".into() } else { text.into() }
}

fn open(height: f64, label: &str) -> String {
    format!("<div class=\"chart\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escape(label))
}

fn close(mut svg: String) -> String {
    svg.push_str("</svg></div>\n");
    svg
}

/// Counts in bins of equal width from `low` to `high`; values outside are in the outermost bins.
pub(super) fn bins(samples: &[f64], low: f64, high: f64, count: usize) -> Vec<usize> {
    let mut bins = vec![0; count];
    for sample in samples {
        let share = (sample - low) / (high - low).max(f64::MIN_POSITIVE);
        bins[((share * count as f64) as usize).min(count - 1)] += 1;
    }
    bins
}

/// How often each latency occurred, with the percentiles at `marks` (name, path in the record). The few values far beyond
/// the 99.5th percentile are in the last bar.
pub(super) fn histogram(samples: &[f64], before: Option<&[f64]>, embedded: &Json, marks: &[(&str, String)]) -> String {
    const BINS: usize = 72;
    let mut sorted: Vec<f64> = samples.iter().chain(before.unwrap_or_default()).copied().collect();
    sorted.sort_by(f64::total_cmp);
    let (Some(&low), Some(&most)) = (sorted.first(), sorted.last()) else { return String::new() };
    let usual = sorted[(sorted.len() - 1) * 995 / 1000];
    let high = most.min(usual + 0.15 * (usual - low)).max(low * 1.001);
    let cut = samples.iter().filter(|&&sample| sample > high).count();
    let counts = bins(samples, low, high, BINS);
    let share = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
    let theirs = before.map(|before| (bins(before, low, high, BINS), before.len()));
    let tallest = counts.iter().map(|&count| share(count, samples.len()));
    let their_tallest = theirs.iter().flat_map(|(bins, of)| bins.iter().map(|&count| share(count, *of)));
    let top = tallest.chain(their_tallest).fold(0.0, f64::max);
    let plot = Plot { x: [low, high], y: [0.0, top * 1.05], top: 44.0, height: 200.0 };
    let mut svg = open(284.0, "Histogram of latency");
    plot.axes("ms", "% of predictions", &mut svg);
    let width = (WIDTH - LEFT - RIGHT) / BINS as f64;
    for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let y = plot.y(share(count, samples.len()));
        svg.push_str(&format!(
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            LEFT + i as f64 * width + 0.5,
            width - 1.0,
            plot.bottom() - y
        ));
    }
    if let Some((bins, of)) = &theirs {
        let mut path = format!("M{LEFT:.1} {:.1}", plot.bottom());
        for (i, &count) in bins.iter().enumerate() {
            let (x, y) = (LEFT + i as f64 * width, plot.y(share(count, *of)));
            path.push_str(&format!("L{x:.1} {y:.1}L{:.1} {y:.1}", x + width));
        }
        svg.push_str(&format!(
            "<path class=\"before\" d=\"{path}\"/><text class=\"before\" x=\"{LEFT}\" y=\"28\">baseline</text>"
        ));
    }
    let mut taken = f64::NEG_INFINITY;
    let mut row = 0;
    for (name, path) in marks {
        let Some(value) = embedded.pointer(path).and_then(Json::as_f64) else { continue };
        let x = plot.x(value);
        // Labels that would touch stand a line lower.
        row = if x - taken < 84.0 { (row + 1) % 3 } else { 0 };
        taken = x;
        let (y, anchor) = (12.0 + 13.0 * f64::from(row), if x > WIDTH - 100.0 { "end" } else { "start" });
        let from = origin(path, value, MS);
        svg.push_str(&format!(
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"strong\" \
             x=\"{:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{name} <tspan {from}>{}</tspan></text>",
            y + 3.0,
            plot.bottom(),
            if anchor == "end" { x - 4.0 } else { x + 4.0 },
            MS.text(value)
        ));
    }
    if cut > 0 {
        let words = format!("the last bar holds {cut} more, up to {} ms", MS.text(most));
        svg.push_str(&format!("<text x=\"{LEFT}\" y=\"{:.1}\">{words}</text>", plot.bottom() + 32.0));
    }
    close(svg)
}

/// Latency over the run: from the fastest to the slowest prediction of each moment, and their mean.
pub(super) fn course(
    times: &[f64],
    samples: &[f64],
    stages: &[Stage<'_>],
    moments: &[Moment<'_>],
    x_name: &str,
) -> String {
    const COLUMNS: usize = 300;
    let end_of_stages = stages.iter().map(|stage| stage.to).fold(0.0, f64::max);
    let end = times.iter().copied().fold(end_of_stages, f64::max);
    let most = samples.iter().copied().fold(0.0, f64::max);
    let plot = Plot { x: [0.0, end.max(f64::MIN_POSITIVE)], y: [0.0, most * 1.05], top: 30.0, height: 190.0 };
    let mut svg = open(264.0, "Latency in the course of the run");
    bands(&plot, stages, &mut svg);
    plot.axes(x_name, "ms", &mut svg);
    let mut columns: Vec<Vec<f64>> = vec![Vec::new(); COLUMNS];
    for (&time, &sample) in times.iter().zip(samples) {
        columns[((time / plot.x[1] * COLUMNS as f64) as usize).min(COLUMNS - 1)].push(sample);
    }
    let (mut spread, mut middle) = (String::new(), String::new());
    for (i, column) in columns.iter().enumerate().filter(|(_, column)| !column.is_empty()) {
        let x = plot.x((i as f64 + 0.5) / COLUMNS as f64 * plot.x[1]);
        let (low, high) = column.iter().fold((f64::INFINITY, 0.0f64), |(a, b), &v| (a.min(v), b.max(v)));
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        let (top, bottom) = (plot.y(high), plot.y(low));
        spread.push_str(&format!("M{x:.1} {top:.1}V{:.1}", bottom.max(top + 1.0)));
        middle.push_str(&format!("{}{x:.1} {:.1}", if middle.is_empty() { "M" } else { "L" }, plot.y(mean)));
    }
    svg.push_str(&format!("<path class=\"dim\" stroke-width=\"2.5\" d=\"{spread}\"/>"));
    svg.push_str(&format!("<path class=\"trace\" stroke-width=\"1.6\" d=\"{middle}\"/>"));
    for (i, moment) in moments.iter().enumerate() {
        let x = plot.x(moment.at);
        svg.push_str(&format!(
            "<line class=\"moment\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"26\" y2=\"{:.1}\"><title>{}</title></line>\
             <text class=\"moment\" x=\"{x:.1}\" y=\"22\" text-anchor=\"middle\">{}</text>",
            plot.bottom(),
            escape(moment.what),
            i + 1
        ));
    }
    close(svg)
}

/// Every other stage on a darker ground, named where there is room.
fn bands(plot: &Plot, stages: &[Stage<'_>], svg: &mut String) {
    for (i, stage) in stages.iter().enumerate() {
        let (from, to) = (plot.x(stage.from), plot.x(stage.to));
        if i % 2 == 0 {
            svg.push_str(&format!(
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                plot.top,
                to - from,
                plot.height
            ));
        }
        if to - from > 7.0 * stage.name.chars().count() as f64 {
            let (x, y) = ((from + to) / 2.0, plot.top + 14.0);
            svg.push_str(&format!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                escape(stage.name)
            ));
        }
    }
}

/// Resident memory over the run.
pub(super) fn memory(points: &[(f64, f64)], stages: &[Stage<'_>]) -> String {
    let end = points.iter().map(|point| point.0).chain(stages.iter().map(|stage| stage.to)).fold(0.0, f64::max);
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max) / 1_048_576.0;
    let plot = Plot { x: [0.0, end.max(f64::MIN_POSITIVE)], y: [0.0, most * 1.1], top: 22.0, height: 150.0 };
    let mut svg = open(216.0, "Resident memory in the course of the run");
    bands(&plot, stages, &mut svg);
    plot.axes("s", "MiB", &mut svg);
    let mut path = String::new();
    for &(time, bytes) in points {
        let start = if path.is_empty() { "M" } else { "L" };
        path.push_str(&format!("{start}{:.1} {:.1}", plot.x(time), plot.y(bytes / 1_048_576.0)));
    }
    svg.push_str(&format!("<path class=\"trace\" stroke-width=\"1.8\" d=\"{path}\"/>"));
    debug_assert_eq!(MIB.text(1_048_576.0), "1.0", "the axis is in the unit that the figures are in");
    close(svg)
}

/// The share of each part, in words.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", PLAIN.text(100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks([0.0, 10.0], 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks([3.1, 3.9], 4), [3.2, 3.4000000000000004, 3.6, 3.8000000000000003]);
        assert_eq!(short(3.4000000000000004), "3.4");
        assert_eq!(ticks([1.0, 1.0], 5), [1.0]);
    }

    #[test]
    fn every_sample_is_in_a_bin() {
        let samples = [1.0, 1.5, 2.0, 9.0];
        assert_eq!(bins(&samples, 1.0, 2.0, 2), [1, 3]);
    }
}
