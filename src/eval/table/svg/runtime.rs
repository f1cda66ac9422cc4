//! Quality against measured runtime: what was paid for the time that was saved. Down and to the left is better for
//! perplexity, up and to the left for accuracy.

use super::canvas::{Anchor, Canvas, TEXT, fill, shortened, stroke, text_width};
use super::quality::{tip, value_axis};
use super::scale::{Scale, number, percent};
use super::{Series, quality_title, series, source};
use crate::eval::table::schema::{QualityName, Row};

const SIZE: (f64, f64) = (760.0, 440.0);
const LEFT: f64 = 76.0;
const TOP: f64 = 68.0;
const BOTTOM: f64 = 384.0;
/// Widest name in the legend, in pixels.
const WIDEST: f64 = 230.0;

/// Draws one quality of one data set.
pub fn plot(group: &[&Row]) -> String {
    let Some(first) = group.first() else { return String::new() };
    let quality = first.quality.quality;
    let (dense, all) = series(group);
    let names: Vec<String> = all.iter().map(|series| shortened(series.name, TEXT, WIDEST)).collect();
    let room = names.iter().map(|name| text_width(name, TEXT)).fold(text_width("dense", TEXT), f64::max);
    let right = SIZE.0 - room - 56.0;

    let title = format!("{} of {} by measured runtime", quality_title(quality), first.data.data);
    let mut canvas = Canvas::new(SIZE, &title, &source(first));
    let shown = || dense.into_iter().chain(all.iter().flat_map(|series| series.rows.iter().copied()));
    let values: Vec<f64> = shown().map(|row| row.quality.value).collect();
    let times: Vec<f64> =
        shown().flat_map(|row| [row.runtime_low, row.runtime, row.runtime_high]).chain([1.0]).collect();
    let y = Scale::over(&values, quality == QualityName::Perplexity, (BOTTOM, TOP));
    let x = Scale::over(&times, false, (LEFT, right));

    value_axis(&mut canvas, &y, quality, right);
    runtime_axis(&mut canvas, &x, right);
    let mut taken = Taken::new(right);
    for row in shown() {
        let at = y.at(row.quality.value);
        taken.add(
            (x.at(row.runtime_low).min(x.at(row.runtime) - 6.0), at - 6.0),
            (x.at(row.runtime_high).max(x.at(row.runtime) + 6.0), at + 6.0),
        );
    }
    for series in &all {
        points(&mut canvas, (&x, &y), dense, series);
    }
    if let Some(dense) = dense {
        canvas.marker((x.at(dense.runtime), y.at(dense.quality.value)), 0, &tip(dense));
    }
    for series in &all {
        for row in &series.rows {
            let point = (x.at(row.runtime), y.at(row.quality.value));
            taken.label(&mut canvas, point, &fill(series.index), &number(row.ratio));
        }
    }
    legend(&mut canvas, right + 26.0, dense.is_some(), &all, &names);
    canvas.finish()
}

fn runtime_axis(canvas: &mut Canvas, x: &Scale, right: f64) {
    canvas.line((LEFT, BOTTOM), (right, BOTTOM), "axis", 1.0);
    for tick in x.ticks() {
        let at = x.at(tick);
        canvas.line((at, TOP), (at, BOTTOM), "grid", 1.0);
        canvas.line((at, BOTTOM), (at, BOTTOM + 5.0), "axis", 1.0);
        canvas.text((at, BOTTOM + 20.0), Anchor::Middle, "soft", &percent(tick));
    }
    canvas.line((x.at(1.0), TOP), (x.at(1.0), BOTTOM), "axis dash", 1.0);
    let label = "runtime, share of dense (median, whiskers to the quartiles)";
    canvas.text(((LEFT + right) / 2.0, BOTTOM + 42.0), Anchor::Middle, "ink", label);
}

/// A series in the order of its ratios, from the dense point on.
fn points(canvas: &mut Canvas, (x, y): (&Scale, &Scale), dense: Option<&Row>, series: &Series<'_>) {
    let at = |row: &Row| (x.at(row.runtime), y.at(row.quality.value));
    let colour = stroke(series.index);
    let all = dense.into_iter().chain(series.rows.iter().copied());
    canvas.path(&all.map(at).collect::<Vec<_>>(), &format!("{colour} thin"), 1.5);
    for row in &series.rows {
        let (_, level) = at(row);
        canvas.line((x.at(row.runtime_low), level), (x.at(row.runtime_high), level), &colour, 1.5);
        canvas.marker(at(row), series.index, &tip(row));
    }
}

fn legend(canvas: &mut Canvas, left: f64, has_dense: bool, all: &[Series<'_>], names: &[String]) {
    let entries = has_dense.then_some((0, "dense")).into_iter();
    let entries = entries.chain(all.iter().zip(names).map(|(series, name)| (series.index, name.as_str())));
    let count = all.len() + usize::from(has_dense);
    let step = 20f64.min((BOTTOM - TOP - 24.0) / count.max(1) as f64);
    for (place, (series, name)) in entries.enumerate() {
        let at = TOP + 12.0 + place as f64 * step;
        canvas.marker((left, at), series, name);
        canvas.text((left + 12.0, at + 4.0), Anchor::Start, "ink", name);
    }
    let at = TOP + 18.0 + count as f64 * step;
    canvas.text((left - 6.0, at), Anchor::Start, "soft", "at points:");
    canvas.text((left - 6.0, at + 15.0), Anchor::Start, "soft", "the ratio");
}

/// Where labels would hide something.
struct Taken {
    boxes: Vec<[(f64, f64); 2]>,
    right: f64,
}

impl Taken {
    fn new(right: f64) -> Taken {
        Taken { boxes: Vec::new(), right }
    }

    fn add(&mut self, low: (f64, f64), high: (f64, f64)) {
        self.boxes.push([low, high]);
    }

    fn is_free(&self, [low, high]: [(f64, f64); 2]) -> bool {
        let inside = low.0 > LEFT && high.0 < self.right && low.1 > TOP && high.1 < BOTTOM;
        let meets = |other: &[(f64, f64); 2]| {
            low.0 < other[1].0 && other[0].0 < high.0 && low.1 < other[1].1 && other[0].1 < high.1
        };
        inside && !self.boxes.iter().any(meets)
    }

    /// Writes a label beside a point, where there is room.
    fn label(&mut self, canvas: &mut Canvas, (x, y): (f64, f64), class: &str, text: &str) {
        let width = text_width(text, TEXT);
        let places =
            [(x - width / 2.0, y - 10.0), (x - width / 2.0, y + 19.0), (x + 9.0, y - 7.0), (x - 9.0 - width, y - 7.0)];
        let around = |(left, base): (f64, f64)| [(left, base - 10.0), (left + width, base + 2.0)];
        if let Some(place) = places.into_iter().find(|place| self.is_free(around(*place))) {
            let [low, high] = around(place);
            self.add(low, high);
            canvas.text((place.0 + width / 2.0, place.1), Anchor::Middle, class, text);
        }
    }
}
