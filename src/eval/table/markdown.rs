//! The table to read: methods by data sets in the manner of the paper, then what it cost.

use super::schema::{QualityName, Row};
use std::fmt::Write;

/// Writes the table as Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return "The table has no rows.\n".into() };
    let grid = Grid::of(rows);
    let mut text = format!("# {}: methods, ratios and data sets\n\n", cell(&first.protocol.model.model));
    let best = "The best of a ratio is bold.";
    section(&mut text, "Quality", best, &grid, true, |grid, row| (shown(row), grid.is_best(row)));
    let what = "Share of the dense runtime of the same batch: median over batches, and its quartiles.";
    section(&mut text, "Runtime", what, &grid, false, |_, row| {
        let [low, high] = [row.runtime_low, row.runtime_high].map(|share| format!("{:.1}", 100.0 * share));
        (format!("{:.1} % ({low} to {high})", 100.0 * row.runtime), false)
    });
    let what = "Share of the dense floating-point operations of the transformer layers, probes included.";
    section(&mut text, "FLOPs", what, &grid, false, |_, row| (format!("{:.1} %", 100.0 * row.flops_share()), false));
    let what = "Quality lost per share of runtime saved, both against dense: perplexity, or percentage points of \
                accuracy, for the whole of the dense runtime. Lower is better; - where no runtime was saved.";
    section(&mut text, "Performance to runtime ratio (PRR)", what, &grid, false, |_, row| ratio(row, row.prr));
    let what = "The same per share of FLOPs saved.";
    section(&mut text, "Performance to FLOPs ratio", what, &grid, false, |_, row| ratio(row, row.prr_flops));
    protocol(&mut text, rows, first);
    text
}

/// Rows by arm and by column.
struct Grid<'a> {
    rows: &'a [Row],
    /// One row of each arm, dense first, then by ratio, in the order of the spec.
    arms: Vec<&'a Row>,
    /// One row of each quality of each data set.
    columns: Vec<&'a Row>,
}

impl<'a> Grid<'a> {
    fn of(rows: &'a [Row]) -> Grid<'a> {
        let mut arms: Vec<&Row> = Vec::new();
        let mut columns: Vec<&Row> = Vec::new();
        for row in rows {
            if arms.iter().all(|arm| arm.name != row.name) {
                arms.push(row);
            }
            if columns.iter().all(|column| !same_column(column, row)) {
                columns.push(row);
            }
        }
        arms.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
        Grid { rows, arms, columns }
    }

    fn at(&self, arm: &Row, column: &Row) -> Option<&'a Row> {
        self.rows.iter().find(|row| row.name == arm.name && same_column(row, column))
    }

    /// Whether no other arm of its ratio is better.
    fn is_best(&self, row: &Row) -> bool {
        let rivals = || self.rows.iter().filter(|other| other.ratio == row.ratio && same_column(other, row));
        let worse = |other: &Row| row.quality.quality.loss(row.quality.value, other.quality.value) > 0.0;
        row.quality.value.is_finite() && rivals().count() > 1 && !rivals().any(worse)
    }

    /// Mean accuracy of an arm over all tasks, where there is more than one.
    fn mean_accuracy(&self, arm: &Row) -> Option<f64> {
        let of = |row: &&Row| row.name == arm.name && row.quality.quality == QualityName::Acc;
        let all: Vec<f64> = self.rows.iter().filter(of).map(|row| row.quality.value).collect();
        (all.len() > 1).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }
}

fn same_column(a: &Row, b: &Row) -> bool {
    (&a.data.data, a.quality.quality) == (&b.data.data, b.quality.quality)
}

/// One table: a line for each arm, a column for each quality of each data set, or for each data set alone.
fn section<'a>(
    text: &mut String,
    title: &str,
    what: &str,
    grid: &Grid<'a>,
    is_quality: bool,
    of: impl Fn(&Grid<'a>, &Row) -> (String, bool),
) {
    // A cost does not depend on how the same answers are counted.
    let costs_alone = !is_quality && !title.starts_with("Performance");
    let mut columns: Vec<&Row> = grid.columns.clone();
    if costs_alone {
        let mut seen = Vec::new();
        columns.retain(|column| {
            !seen.contains(&&column.data.data) && {
                seen.push(&column.data.data);
                true
            }
        });
    }
    let heads = columns.iter().map(|column| match costs_alone {
        true => cell(&column.data.data),
        false => format!("{}, {}", cell(&column.data.data), unit(column, is_quality)),
    });
    let means = is_quality && grid.arms.iter().any(|arm| grid.mean_accuracy(arm).is_some());
    let mut names: Vec<String> = ["ratio".to_string(), "method".to_string()].into_iter().chain(heads).collect();
    if means {
        names.push("mean acc, % ↑".into());
    }
    // Writing into a String cannot fail.
    let _ = writeln!(text, "## {title}\n\n{what}\n\n| {} |", names.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(2) + &"---:|".repeat(names.len() - 2));
    for arm in grid.arms.iter().filter(|arm| is_quality || !arm.is_dense()) {
        let mut cells = vec![arm.ratio.to_string(), cell(&arm.series)];
        cells.extend(columns.iter().map(|column| match grid.at(arm, column).map(|row| of(grid, row)) {
            None => "-".into(),
            Some((value, true)) => format!("**{value}**"),
            Some((value, false)) => value,
        }));
        if means {
            cells.push(grid.mean_accuracy(arm).map_or("-".into(), |mean| format!("{:.1}", 100.0 * mean)));
        }
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push('\n');
}

/// A column's unit, and which way is better.
fn unit(column: &Row, is_quality: bool) -> String {
    let quality = column.quality.quality;
    match (quality, is_quality) {
        (QualityName::Perplexity, true) => "perplexity ↓".into(),
        (_, true) => format!("{}, % ↑", quality.name()),
        (_, false) => format!("{} ↓", quality.name()),
    }
}

/// A quality as people read it; accuracies in percent, with their standard error.
fn shown(row: &Row) -> String {
    let value = row.quality.value;
    match (row.quality.quality, row.quality.stderr) {
        (QualityName::Perplexity, _) => format!("{value:.2}"),
        (_, Some(error)) => format!("{:.1} ± {:.1}", 100.0 * value, 100.0 * error),
        (_, None) => format!("{:.1}", 100.0 * value),
    }
}

fn ratio(row: &Row, ratio: Option<f64>) -> (String, bool) {
    let scale = if row.quality.quality == QualityName::Perplexity { 1.0 } else { 100.0 };
    (ratio.map_or("-".into(), |ratio| format!("{:.1}", scale * ratio)), false)
}

fn protocol(text: &mut String, rows: &[Row], first: &Row) {
    let p = &first.protocol;
    text.push_str("## Protocol\n\n");
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "- {what}: {value}");
    };
    line("model", format!("{} ({}), SHA-256 `{}`", cell(&p.model.model), p.model.model_format, p.model.model_sha256));
    if let (Some(lora), Some(sha256)) = (&p.model.lora.lora, &p.model.lora.lora_sha256) {
        line("adapter", format!("{}, SHA-256 `{sha256}`", cell(lora)));
    }
    let mut seen = Vec::new();
    for row in rows {
        if !seen.contains(&&row.data.data) {
            seen.push(&row.data.data);
            line("data", data(row));
        }
    }
    let mut seen = Vec::new();
    for (arm, tuned) in rows.iter().filter_map(|row| row.tuned.as_ref().map(|tuned| (&row.name, tuned))) {
        if !seen.contains(&arm) {
            seen.push(arm);
            let units = format!("units of {}, SHA-256 `{}`", cell(&tuned.masks), tuned.masks_sha256);
            let adapter = tuned.lora.as_ref().zip(tuned.lora_sha256.as_ref());
            let adapter = adapter.map_or_else(String::new, |(lora, sha256)| {
                format!("; weights with {}, SHA-256 `{sha256}`", cell(lora))
            });
            line(&cell(arm), units + &adapter);
        }
    }
    let calibration = p
        .calibration
        .as_ref()
        .map_or("none".into(), |c| format!("{} chunks of {}, SHA-256 `{}`", c.samples, cell(&c.data), c.data_sha256));
    line("calibration", calibration);
    line("device", format!("{} ({}, {})", cell(&p.device.adapter), p.device.backend, cell(&p.device.driver)));
    let warm = "every arm runs its first batch of each data set once more beforehand, which does not count";
    line("timing", format!("for each batch all arms in turn, orders by seed {}, rounds: {}; {warm}", p.seed, p.rounds));
    if rows.iter().any(|row| row.rounds_agree == Some(false)) {
        line(
            "caution",
            "the rounds did not score alike: this device does not repeat itself; qualities are of the first".into(),
        );
    }
    line("version", p.version.clone());
}

fn data(row: &Row) -> String {
    let (d, p) = (&row.data, &row.protocol);
    let what = match d.data_tokens {
        Some(tokens) => format!("{} chunks of {} ({tokens} scored tokens)", d.data_rows, p.seq_len),
        None => format!("{} questions", d.data_rows),
    };
    let batches = format!("{} batches of {} or fewer", d.data_batches, p.batch);
    format!("{}: {what} in {batches}, SHA-256 `{}`", cell(&d.data), d.data_sha256)
}

/// A name within a table, where it is no markup.
fn cell(name: &str) -> String {
    name.replace('|', "\\|").replace('<', "\\<").replace(['\n', '\r'], " ")
}
