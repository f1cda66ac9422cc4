//! Plots as SVG, written here: what plotting crates write fixes its colours, and these follow the reader's light or dark
//! theme (`prefers-color-scheme`).
//!
//! Invariants: no text leaves the picture, by an estimate of its width that errs on the wide side; a series has the same
//! colour and marker in every plot of a table.

mod canvas;
mod quality;
mod runtime;
mod scale;
mod strips;

use super::schema::{QualityName, Row};
use std::collections::HashSet;

/// All plots of a table: file names and contents.
pub fn plots(rows: &[Row]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut taken = HashSet::new();
    for group in groups(rows) {
        let Some(first) = group.first() else { continue };
        let mut stem = format!("{}.{}", file_name(&first.data.data), first.quality.quality.name());
        while !taken.insert(stem.clone()) {
            stem.push('_');
        }
        files.push((format!("{stem}.ratio.svg"), quality::plot(&group)));
        files.push((format!("{stem}.runtime.svg"), runtime::plot(&group)));
    }
    if let Some(group) = groups(rows).first() {
        files.push(("kept.svg".into(), strips::plot(group)));
    }
    files
}

/// Rows of one quality of one data set each, in order.
fn groups(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        let same = |group: &&mut Vec<&Row>| {
            group
                .first()
                .is_some_and(|first| (&first.data.data, first.quality.quality) == (&row.data.data, row.quality.quality))
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// A name that any system takes as a file's.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    name.chars().take(60).map(plain).collect()
}

/// Arms that differ by their ratio alone.
struct Series<'a> {
    /// Its place among all, which its colour and marker follow from.
    index: usize,
    name: &'a str,
    /// By ratio, the values that a plot can show.
    rows: Vec<&'a Row>,
}

/// The dense row and all other series, in order.
fn series<'a>(group: &[&'a Row]) -> (Option<&'a Row>, Vec<Series<'a>>) {
    let shown = |row: &Row| row.quality.value.is_finite();
    let dense = group.iter().copied().find(|row| row.is_dense() && shown(row));
    let mut all: Vec<Series<'a>> = Vec::new();
    for row in group.iter().copied().filter(|row| !row.is_dense()) {
        if all.iter().all(|series| series.name != row.series) {
            all.push(Series { index: all.len() + 1, name: &row.series, rows: Vec::new() });
        }
        if let Some(series) = all.iter_mut().find(|series| series.name == row.series && shown(row)) {
            series.rows.push(row);
        }
    }
    for series in &mut all {
        series.rows.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    }
    (dense, all)
}

/// The axis of a quality: its label, and a number on it.
fn quality_label(quality: QualityName) -> &'static str {
    match quality {
        QualityName::Perplexity => "perplexity (lower is better)",
        QualityName::Acc => "accuracy (acc, higher is better)",
        QualityName::AccNorm => "accuracy by length (acc_norm, higher is better)",
    }
}

/// What a title calls a quality.
fn quality_title(quality: QualityName) -> &'static str {
    match quality {
        QualityName::Perplexity => "Perplexity",
        QualityName::Acc => "Accuracy (acc)",
        QualityName::AccNorm => "Accuracy (acc_norm)",
    }
}

/// A line about what was run, for below a title.
fn source(row: &Row) -> String {
    let rows = match row.data.data_tokens {
        Some(tokens) => format!("{tokens} tokens"),
        None => format!("{} questions", row.data.data_rows),
    };
    format!("{}, {rows}, {}", row.protocol.model.model, row.protocol.device.adapter)
}
