//! What an answer cost against a dense run of the same tokens, and what pruning did to its quality.

use crate::protocol::{Comparison, Cost, Figures};
use eframe::egui::{self, Color32, Rect, RichText, Sense, Ui, pos2, vec2};

/// What the panel shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct CostInput<'a> {
    /// Of the answer, so far; `None` = there is no answer yet.
    pub figures: Option<&'a Figures>,
    /// A dense run of the same prompt, so far.
    pub comparison: Option<&'a Comparison>,
    /// Whether the dense run is waiting or running now.
    pub comparing: bool,
    /// Why there can be no dense run now, in words; `None` = it can be asked for.
    pub unavailable: Option<&'a str>,
}

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostIntent {
    /// A dense run of the same prompt: `Command::Compare`.
    Compare,
    /// An end of the dense run.
    Stop,
}

/// Draws costs and comparison over the whole width.
pub fn cost(ui: &mut Ui, input: &CostInput) -> Option<CostIntent> {
    let Some(figures) = input.figures else {
        ui.weak("Costs appear with the first answer.");
        return None;
    };
    phase(ui, "Answer", figures.decoded, &figures.decode);
    ui.add_space(ui.spacing().item_spacing.y);
    phase(ui, "Prompt", figures.prefilled, &figures.prefill);
    key(ui);
    ui.separator();
    compare(ui, input)
}

/// FLOPs and bytes of one phase, each a bar against dense.
fn phase(ui: &mut Ui, name: &str, tokens: usize, cost: &Cost) {
    ui.horizontal_wrapped(|ui| {
        ui.strong(name);
        ui.weak(if tokens == 1 { "1 token run".into() } else { format!("{tokens} tokens run") });
    });
    if cost.flops_dense <= 0.0 {
        ui.weak("Nothing was run.");
        return;
    }
    let removed = 100.0 * cost.removed();
    let total = cost.flops + cost.flops_probe;
    let flops = format!("{} of {} FLOPs", quantity(total), quantity(cost.flops_dense));
    let saved = match removed {
        removed if removed < -0.05 => format!("{:.1} % more: the probe costs more than it saves", -removed),
        removed => format!("{:.1} % saved", removed.max(0.0)),
    };
    bar(ui, &flops, &saved, cost.flops / cost.flops_dense, cost.flops_probe / cost.flops_dense, removed < -0.05);
    if cost.bytes_dense > 0.0 {
        let share = cost.bytes / cost.bytes_dense;
        let bytes = format!("{}B of {}B of weights read", quantity(cost.bytes), quantity(cost.bytes_dense));
        let saved = match 100.0 * (1.0 - share) {
            saved if saved < -0.05 => format!("{:.1} % more", -saved),
            saved => format!("{:.1} % saved", saved.max(0.0)),
        };
        bar(ui, &bytes, &saved, share, 0.0, share > 1.0005);
    }
}

/// Words, and a bar beneath: what was computed, then probes, on a ground that is the dense run.
fn bar(ui: &mut Ui, text: &str, saved: &str, own: f64, probe: f64, warn: bool) {
    ui.horizontal_wrapped(|ui| {
        ui.label(text);
        let color = if warn { ui.visuals().warn_fg_color } else { ui.visuals().strong_text_color() };
        ui.label(RichText::new(saved).color(color));
    });
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 9.0), Sense::hover());
    let visuals = ui.visuals();
    let [own_color, probe_color] = colors(visuals.dark_mode);
    // Where a probe costs more than is saved, dense ends inside the bar, at a mark.
    let whole = (own + probe).max(1.0);
    let x = |share: f64| rect.left() + rect.width() * (share / whole) as f32;
    let part = |from: f64, to: f64| Rect::from_min_max(pos2(x(from), rect.top()), pos2(x(to), rect.bottom()));
    ui.painter().rect_filled(rect, 2.0, visuals.extreme_bg_color);
    ui.painter().rect_stroke(rect, 2.0, visuals.widgets.noninteractive.bg_stroke, egui::StrokeKind::Inside);
    ui.painter().rect_filled(part(0.0, own), 2.0, own_color);
    ui.painter().rect_filled(part(own, own + probe), 2.0, probe_color);
    if whole > 1.0 {
        ui.painter().vline(x(1.0), rect.expand(2.0).y_range(), (2.0, visuals.strong_text_color()));
    }
}

/// The colours of what was computed and of probes, apart in lightness too.
fn colors(dark: bool) -> [Color32; 2] {
    match dark {
        true => [Color32::from_rgb(0x4f, 0x8f, 0xe0), Color32::from_rgb(0xf2, 0xc0, 0x6b)],
        false => [Color32::from_rgb(0x1f, 0x5f, 0xb8), Color32::from_rgb(0xe8, 0x9a, 0x3c)],
    }
}

fn key(ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
        for (color, text) in colors(ui.visuals().dark_mode).into_iter().zip(["computed", "probes"]) {
            let (rect, _) = ui.allocate_exact_size(vec2(10.0, 10.0), Sense::hover());
            ui.painter().rect_filled(rect, 2.0, color);
            ui.label(RichText::new(text).small());
        }
        ui.label(RichText::new("end of the bar, or its mark: dense").small());
    });
}

fn compare(ui: &mut Ui, input: &CostInput) -> Option<CostIntent> {
    let mut intent = None;
    ui.horizontal_wrapped(|ui| {
        if input.comparing {
            // No spinner: where one processor draws and computes, it would take part in what is measured.
            ui.label(match input.comparison {
                None => "Waiting for the dense run…".to_owned(),
                Some(growing) if growing.pruned_rate.is_none() => {
                    format!("Answering densely: {} tokens", growing.tokens)
                }
                Some(_) => "Measuring the pruned model on the same tokens…".to_owned(),
            });
            if ui.button("Stop").clicked() {
                intent = Some(CostIntent::Stop);
            }
        } else {
            let button = egui::Button::new("Compare with dense");
            let button = ui.add_enabled(input.unavailable.is_none(), button);
            let button = button.on_disabled_hover_text(input.unavailable.unwrap_or_default());
            if button.on_hover_text("Answers the same prompt without pruning, and measures both").clicked() {
                intent = Some(CostIntent::Compare);
            }
        }
    });
    if let Some(comparison) = input.comparison {
        measured(ui, comparison, input.comparing);
    } else if !input.comparing {
        ui.weak("Answers the same prompt without pruning, and measures speed and quality of both on the same tokens.");
    }
    intent
}

/// Speed and quality, as far as they are known.
fn measured(ui: &mut Ui, comparison: &Comparison, comparing: bool) {
    let waiting = if comparing { "…" } else { "not measured" };
    let known = |value: Option<f64>, digits: usize, unit: &str| {
        value.map_or(waiting.to_owned(), |value| format!("{value:.digits$}{unit}"))
    };
    egui::Grid::new("comparison with dense").num_columns(3).striped(true).show(ui, |ui| {
        ui.label("");
        ui.strong("dense");
        ui.strong("pruned");
        ui.end_row();
        ui.label("Speed");
        ui.label(known(Some(comparison.dense_rate).filter(|&rate| rate > 0.0), 1, " tok/s"));
        ui.label(known(comparison.pruned_rate, 1, " tok/s"));
        ui.end_row();
        ui.label("Perplexity");
        ui.label(known(Some(comparison.dense_perplexity).filter(|&value| value > 0.0), 2, ""));
        ui.label(known(comparison.pruned_perplexity, 2, ""));
        ui.end_row();
    });
    if let Some(ratio) =
        comparison.pruned_rate.filter(|_| comparison.dense_rate > 0.0).map(|rate| rate / comparison.dense_rate)
    {
        let text = format!("Pruned runs at {ratio:.2} times the speed of dense, on the same tokens.");
        let slower = ratio < 0.995;
        let color = if slower { ui.visuals().warn_fg_color } else { ui.visuals().text_color() };
        ui.label(RichText::new(text).color(color));
    }
    if comparison.pruned_perplexity.is_some() {
        ui.weak("Perplexity: how surprised each model is by the dense answer. Lower is better; 1 is no surprise.");
    }
}

/// A number with three digits and a prefix of thousands.
fn quantity(value: f64) -> String {
    let scales = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (scale, prefix) = scales.into_iter().find(|(scale, _)| value >= *scale).unwrap_or((1.0, ""));
    let scaled = value / scale;
    let digits = if scaled >= 99.95 {
        0
    } else if scaled >= 9.995 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$} {prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits() {
        let words = [0.0, 12.0, 1234.0, 56_789_000.0, 999.99e9, 2.5e16].map(quantity);
        assert_eq!(words, ["0.00 ", "12.0 ", "1.23 k", "56.8 M", "1000 G", "25.0 P"]);
    }
}
