//! Kept units by layer: for each arm a strip of its query heads and one of its MLP channels.

use super::canvas::{Anchor, Canvas, TEXT, shortened, text_width};
use super::scale::percent;
use super::series;
use crate::eval::table::schema::Row;

const WIDTH: f64 = 760.0;
const TOP: f64 = 92.0;
/// Height of one arm's two strips with the room to the next, in pixels.
const STEP: f64 = 46.0;
const STRIP: f64 = 15.0;
/// Widest name of a series, in pixels.
const WIDEST: f64 = 160.0;
/// Colours in the legend.
const SHADES: usize = 5;

/// Draws the arms of one data set; what they keep does not depend on it.
pub fn plot(group: &[&Row]) -> String {
    let Some(dense) = group.iter().find(|row| row.is_dense()) else { return String::new() };
    let (_, all) = series(group);
    let mut arms: Vec<&Row> = group.iter().copied().filter(|row| !row.is_dense()).collect();
    let place = |row: &Row| all.iter().position(|series| series.name == row.series);
    arms.sort_by(|a, b| a.ratio.total_cmp(&b.ratio).then(place(a).cmp(&place(b))));
    // A long name is cut before its ratio.
    let named = |row: &&Row| format!("{} {}", shortened(&row.series, TEXT, WIDEST), row.ratio);
    let names: Vec<String> = arms.iter().map(named).collect();
    let left = 92.0 + names.iter().map(|name| text_width(name, TEXT)).fold(40.0, f64::max);
    let right = WIDTH - 72.0;
    let layers = dense.kept_heads.len();
    let cell = (right - left) / layers.max(1) as f64;
    let bottom = TOP + STEP * arms.len() as f64;
    let first = |units: &[usize]| units.first().copied().unwrap_or(0);
    let (heads, channels) = (first(&dense.kept_heads), first(&dense.kept_mlp));
    let below = format!("{}; a layer has {heads} heads and {channels} channels", dense.protocol.model.model);

    let mut canvas = Canvas::new((WIDTH, bottom + 46.0), "Kept units by layer", &below);
    legend(&mut canvas, right);
    for (index, (row, name)) in arms.iter().zip(&names).enumerate() {
        let top = TOP + STEP * index as f64;
        canvas.text((16.0, top + STRIP + 5.0), Anchor::Start, "ink", name);
        for (half, (what, kept, of)) in
            [("heads", &row.kept_heads, &dense.kept_heads), ("channels", &row.kept_mlp, &dense.kept_mlp)]
                .iter()
                .enumerate()
        {
            let at = top + half as f64 * (STRIP + 2.0);
            canvas.text((left - 8.0, at + 12.0), Anchor::End, "soft", what);
            strip(&mut canvas, (left, at), cell, (&row.name, what), (kept, of));
            canvas.rect((left, at), (right - left, STRIP), "frame");
            let sum = |units: &[usize]| units.iter().sum::<usize>() as f64;
            canvas.text((right + 8.0, at + 12.0), Anchor::Start, "soft", &percent(sum(kept) / sum(of).max(1.0)));
        }
    }
    layer_axis(&mut canvas, (left, right, bottom), cell, layers);
    canvas.finish()
}

fn strip(
    canvas: &mut Canvas,
    (left, top): (f64, f64),
    cell: f64,
    (arm, what): (&str, &str),
    (kept, of): (&[usize], &[usize]),
) {
    for (layer, (&kept, &of)) in kept.iter().zip(of).enumerate() {
        let share = kept as f64 / of.max(1) as f64;
        let tip = format!("{arm}, layer {layer}: {kept} of {of} {what}");
        canvas.cell((left + layer as f64 * cell, top), (cell, STRIP), share, &tip);
    }
}

/// Shades from none to all at the upper right.
fn legend(canvas: &mut Canvas, right: f64) {
    let (top, width) = (62.0, 26.0);
    let left = right - width * SHADES as f64;
    for shade in 0..SHADES {
        let share = shade as f64 / (SHADES - 1) as f64;
        canvas.cell((left + shade as f64 * width, top), (width, 10.0), share, &percent(share));
    }
    canvas.rect((left, top), (right - left, 10.0), "frame");
    canvas.text((left - 8.0, top + 9.0), Anchor::End, "soft", "kept: none");
    canvas.text((right + 8.0, top + 9.0), Anchor::Start, "soft", "all");
}

fn layer_axis(canvas: &mut Canvas, (left, right, bottom): (f64, f64, f64), cell: f64, layers: usize) {
    let widest = text_width("000", TEXT);
    let every = [1, 2, 5, 10, 20, 50].into_iter().find(|&every| cell * every as f64 >= widest + 4.0).unwrap_or(100);
    for layer in (0..layers).step_by(every) {
        canvas.text((left + (layer as f64 + 0.5) * cell, bottom + 4.0), Anchor::Middle, "soft", &layer.to_string());
    }
    canvas.text(((left + right) / 2.0, bottom + 26.0), Anchor::Middle, "ink", "layer");
}
