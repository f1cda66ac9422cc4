//! Quality against the pruning ratio: a line for each method, all from the dense model, which is every method at ratio 0.

use super::canvas::{Anchor, Canvas, TEXT, fill, shortened, stroke, text_width};
use super::scale::{Scale, apart, number, percent};
use super::{Series, quality_label, quality_title, series, source};
use crate::eval::table::schema::{QualityName, Row};

const SIZE: (f64, f64) = (760.0, 440.0);
const LEFT: f64 = 76.0;
const TOP: f64 = 68.0;
const BOTTOM: f64 = 384.0;
/// Distance of a direct label from the last point, in pixels.
const AWAY: f64 = 22.0;
/// Widest direct label, in pixels.
const WIDEST: f64 = 230.0;

/// Draws one quality of one data set.
pub fn plot(group: &[&Row]) -> String {
    let Some(first) = group.first() else { return String::new() };
    let quality = first.quality.quality;
    let (dense, all) = series(group);
    let labels: Vec<String> = all.iter().map(|series| shortened(series.name, TEXT, WIDEST)).collect();
    let room = labels.iter().map(|label| text_width(label, TEXT)).fold(40.0, f64::max);
    let right = SIZE.0 - room - AWAY - 12.0;

    let title = format!("{} of {} by pruning ratio", quality_title(quality), first.data.data);
    let mut canvas = Canvas::new(SIZE, &title, &source(first));
    let shown = || dense.into_iter().chain(all.iter().flat_map(|series| series.rows.iter().copied()));
    let values: Vec<f64> = shown().map(|row| row.quality.value).collect();
    let y = Scale::over(&values, quality == QualityName::Perplexity, (BOTTOM, TOP));
    let most = shown().map(|row| row.ratio).fold(0.1, f64::max);
    let x = Scale::between(0.0, most, (LEFT + 14.0, right));

    value_axis(&mut canvas, &y, quality, right);
    ratio_axis(&mut canvas, &x, shown().map(|row| row.ratio), right);
    if let Some(dense) = dense {
        let level = y.at(dense.quality.value);
        canvas.line((LEFT, level), (right, level), "axis dash", 1.0);
    }
    for series in &all {
        line(&mut canvas, (&x, &y), dense, series);
    }
    if let Some(dense) = dense {
        let point = (x.at(0.0), y.at(dense.quality.value));
        canvas.marker(point, 0, &tip(dense));
        let above = if quality.lower_is_better() { 18.0 } else { -10.0 };
        canvas.text((point.0 + 6.0, point.1 + above), Anchor::Start, "soft", &format!("dense {}", shown_as(dense)));
    }
    name_lines(&mut canvas, (&x, &y), &all, &labels);
    canvas.finish()
}

/// A value as people read it.
pub fn shown_as(row: &Row) -> String {
    match row.quality.quality {
        QualityName::Perplexity if row.quality.value < 100.0 => format!("{:.2}", row.quality.value),
        QualityName::Perplexity => format!("{:.1}", row.quality.value),
        QualityName::Acc | QualityName::AccNorm => percent(row.quality.value),
    }
}

/// What a pointer that rests on a point reads.
pub fn tip(row: &Row) -> String {
    format!("{}: {} {}, runtime {}", row.name, row.quality.quality.name(), shown_as(row), percent(row.runtime))
}

/// The axis of the quality at the left, with its grid.
pub fn value_axis(canvas: &mut Canvas, y: &Scale, quality: QualityName, right: f64) {
    for tick in y.ticks() {
        let at = y.at(tick);
        canvas.line((LEFT, at), (right, at), "grid", 1.0);
        let label = if quality == QualityName::Perplexity { number(tick) } else { percent(tick) };
        canvas.text((LEFT - 8.0, at + 4.0), Anchor::End, "soft", &label);
    }
    let log = if y.is_log() { ", log scale" } else { "" };
    let label = format!("{}{log}", quality_label(quality));
    canvas.upwards((20.0, (TOP + BOTTOM) / 2.0), "ink", &label);
}

/// The axis of ratios: those that were run, where there is room for all.
fn ratio_axis(canvas: &mut Canvas, x: &Scale, ratios: impl Iterator<Item = f64>, right: f64) {
    canvas.line((LEFT, BOTTOM), (right, BOTTOM), "axis", 1.0);
    let mut ticks: Vec<f64> = ratios.chain([0.0]).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    if ticks.windows(2).any(|pair| x.at(pair[1]) - x.at(pair[0]) < 36.0) {
        ticks = x.ticks();
    }
    for tick in ticks {
        let at = x.at(tick);
        canvas.line((at, BOTTOM), (at, BOTTOM + 5.0), "axis", 1.0);
        canvas.text((at, BOTTOM + 20.0), Anchor::Middle, "soft", &number(tick));
    }
    canvas.text(((LEFT + right) / 2.0, BOTTOM + 42.0), Anchor::Middle, "ink", "mean pruning ratio");
}

fn line(canvas: &mut Canvas, (x, y): (&Scale, &Scale), dense: Option<&Row>, series: &Series<'_>) {
    let at = |row: &Row| (x.at(row.ratio), y.at(row.quality.value));
    let points: Vec<(f64, f64)> = series.rows.iter().map(|row| at(row)).collect();
    let colour = stroke(series.index);
    if let (Some(dense), Some(first)) = (dense, points.first()) {
        canvas.path(&[at(dense), *first], &format!("{colour} thin"), 2.0);
    }
    canvas.path(&points, &colour, 2.0);
    for (row, point) in series.rows.iter().zip(&points) {
        canvas.marker(*point, series.index, &tip(row));
    }
}

/// Names beside the ends of the lines, moved apart where lines end close together.
fn name_lines(canvas: &mut Canvas, (x, y): (&Scale, &Scale), all: &[Series<'_>], labels: &[String]) {
    let ended: Vec<(&Series<'_>, &String, &Row)> =
        all.iter().zip(labels).filter_map(|(series, label)| Some((series, label, *series.rows.last()?))).collect();
    let wished: Vec<f64> = ended.iter().map(|(_, _, last)| y.at(last.quality.value)).collect();
    let ends = ended.iter().map(|(_, _, last)| x.at(last.ratio)).fold(0.0, f64::max);
    for ((series, label, last), at) in ended.iter().zip(apart(&wished, 16.0, (TOP + 4.0, BOTTOM - 4.0))) {
        let from = (x.at(last.ratio) + 8.0, y.at(last.quality.value));
        canvas.line(from, (ends + AWAY - 4.0, at), &format!("{} thin", stroke(series.index)), 1.0);
        canvas.text((ends + AWAY, at + 4.0), Anchor::Start, &fill(series.index), label);
    }
}
