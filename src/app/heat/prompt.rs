//! The prompt as the model read it, underlined where it was probed.

use crate::protocol::{Heat, UnitHeat};
use eframe::egui::{self, Color32, FontId, Stroke, TextFormat, TextStyle, Ui, text::LayoutJob};
use std::ops::Range;
use std::sync::Arc;

/// What the panel remembers between frames.
#[derive(Default)]
pub struct PromptView {
    /// The layer whose probe is shown; `None` = all of them.
    pub layer: Option<usize>,
    /// The last text, and what it was made for.
    laid: Option<(Key, LayoutJob)>,
}

/// What a text depends on. The choice is held, so that its address means no other one.
struct Key {
    heat: Arc<Heat>,
    pieces: (*const String, usize),
    layer: Option<usize>,
    dark: bool,
    font: FontId,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        Arc::ptr_eq(&self.heat, &other.heat)
            && (self.pieces, self.layer, self.dark) == (other.pieces, other.layer, other.dark)
            && self.font == other.font
    }
}

/// Draws the tokens of a prompt over the whole width. `pieces` are those of the prompt that `heat` was chosen for.
pub fn prompt(ui: &mut Ui, view: &mut PromptView, pieces: &[String], heat: &Arc<Heat>) {
    view.layer = view.layer.filter(|&layer| layer < heat.layers.len());
    let pick = |layer: Option<usize>| layer.map_or("all pruned layers".into(), |layer| format!("layer {layer}"));
    ui.horizontal_wrapped(|ui| {
        let label = ui.label("Probed by");
        let combo = egui::ComboBox::from_id_salt("probed layer").selected_text(pick(view.layer)).show_ui(ui, |ui| {
            ui.selectable_value(&mut view.layer, None, pick(None));
            for layer in 0..heat.layers.len() {
                ui.selectable_value(&mut view.layer, Some(layer), pick(Some(layer)));
            }
        });
        combo.response.labelled_by(label.id);
    });
    let blocks = blocks(heat, view.layer);
    if blocks.is_empty() {
        ui.weak("Nothing was probed here: every unit is computed.");
    } else if blocks.iter().all(|block| block.probed.is_empty()) {
        ui.weak("Every token was probed.");
    } else {
        ui.weak("Underlined tokens were probed; the thicker, the more blocks chose them.");
    }
    ui.label(laid(ui, view, pieces, heat));
}

/// The text and its underlines, made anew only where something changed. How its lines break is egui's to remember.
fn laid(ui: &Ui, view: &mut PromptView, pieces: &[String], heat: &Arc<Heat>) -> LayoutJob {
    let key = Key {
        heat: heat.clone(),
        pieces: (pieces.as_ptr(), pieces.len()),
        layer: view.layer,
        dark: ui.visuals().dark_mode,
        font: TextStyle::Monospace.resolve(ui.style()),
    };
    if let Some((_, job)) = view.laid.as_ref().filter(|(of, _)| *of == key) {
        return job.clone();
    }
    let blocks = blocks(heat, view.layer);
    let all = blocks.iter().all(|block| block.probed.is_empty());
    let weights = weights(&blocks, pieces.len());
    let accent = match key.dark {
        true => Color32::from_rgb(0x7d, 0xb8, 0xf5),
        false => Color32::from_rgb(0x1f, 0x5f, 0xb8),
    };
    let mut job = LayoutJob::default();
    for (piece, &weight) in pieces.iter().zip(&weights) {
        let mut format = TextFormat::simple(key.font.clone(), ui.visuals().text_color());
        if weight > 0.0 && !all {
            format.underline = Stroke::new(1.0 + 2.0 * weight, accent.gamma_multiply(0.35 + 0.65 * weight));
        } else if !all {
            format.color = ui.visuals().weak_text_color();
        }
        job.append(piece, 0.0, format);
    }
    view.laid = Some((key, job.clone()));
    job
}

/// The pruned blocks of one layer, or of all.
fn blocks(heat: &Heat, layer: Option<usize>) -> Vec<&UnitHeat> {
    let chosen = heat.layers.iter().enumerate().filter(|(at, _)| layer.is_none_or(|layer| layer == *at));
    chosen.flat_map(|(_, layer)| layer.heads.iter().chain(&layer.channels)).collect()
}

/// By token, the share of the blocks that probed it.
fn weights(blocks: &[&UnitHeat], tokens: usize) -> Vec<f32> {
    let mut counts = vec![0usize; tokens];
    for block in blocks {
        if block.probed.is_empty() {
            counts.iter_mut().for_each(|count| *count += 1);
        }
        for &position in &block.probed {
            // Positions behind the prompt are of the answer.
            if let Some(count) = counts.get_mut(position as usize) {
                *count += 1;
            }
        }
    }
    counts.into_iter().map(|count| count as f32 / blocks.len().max(1) as f32).collect()
}

/// Where `message` was probed: ranges of its bytes, ascending and apart, each with the share of pruned blocks that probed
/// it, in (0, 1]. The message is looked for in the prompt from its end, without the white space around it; where it is not
/// found, or nothing was pruned, there are none. Where every token was probed, that is one range of 1.
pub fn spans_in_message(message: &str, pieces: &[String], heat: &Heat) -> Vec<(Range<usize>, f32)> {
    let wanted = message.trim();
    let rendered = pieces.concat();
    let Some(found) = rendered.rfind(wanted).filter(|_| !wanted.is_empty()) else { return Vec::new() };
    // Templates trim what they are given.
    let offset = message.len() - message.trim_start().len();
    let mut spans: Vec<(Range<usize>, f32)> = Vec::new();
    let (mut end, mut waiting) = (0, 0.0f32);
    for (piece, weight) in pieces.iter().zip(weights(&blocks(heat, None), pieces.len())) {
        let start = end;
        end += piece.len();
        // A token of the first bytes of a character has no text: the token that completes it stands for both.
        waiting = waiting.max(weight);
        if piece.is_empty() {
            continue;
        }
        let weight = std::mem::take(&mut waiting);
        let (from, to) = (start.max(found), end.min(found + wanted.len()));
        if weight > 0.0 && from < to {
            let span = from - found + offset..to - found + offset;
            match spans.last_mut() {
                Some((last, same)) if last.end == span.start && *same == weight => last.end = span.end,
                _ => spans.push((span, weight)),
            }
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Method;
    use crate::protocol::{Cause, LayerHeat};

    fn heat(probed: &[&[u32]]) -> Heat {
        let block = |probed: &&[u32]| UnitHeat { probed: probed.to_vec(), ..UnitHeat::default() };
        let layers = probed.iter().map(|probed| LayerHeat { heads: None, channels: Some(block(probed)) }).collect();
        let (cause, method) = (Cause::Prompt, Method::Pp);
        Heat { id: 1, index: 0, cause, at: 5, method, ratio: 0.4, heads: 2, channels: 4, layers }
    }

    fn spans(message: &str, pieces: &[&str], probed: &[&[u32]]) -> Vec<(String, f32)> {
        let pieces: Vec<String> = pieces.iter().map(|piece| piece.to_string()).collect();
        let spans = spans_in_message(message, &pieces, &heat(probed));
        spans.into_iter().map(|(range, weight)| (message[range].to_owned(), weight)).collect()
    }

    #[test]
    fn the_last_occurrence_is_meant() {
        let pieces = ["<u>", "red", " hat", "<u>", "red", " hat", "<a>"];
        assert_eq!(spans("red hat", &pieces, &[&[1, 4]]), [("red".into(), 1.0)]);
        assert_eq!(spans("red hat", &pieces, &[&[1, 2]]), []);
        assert_eq!(spans("blue", &pieces, &[&[1]]), []);
        assert_eq!(spans("", &pieces, &[&[1]]), []);
    }

    #[test]
    fn a_span_weighs_what_share_of_the_blocks_probed_it() {
        let pieces = ["<u>", "a", " b", " c"];
        assert_eq!(spans("a b c", &pieces, &[&[1, 2], &[2, 9]]), [("a".into(), 0.5), (" b".into(), 1.0)]);
        assert_eq!(spans("a b c", &pieces, &[&[]]), [("a b c".into(), 1.0)], "an empty list is every token");
        assert_eq!(spans("a b c", &pieces, &[]), [], "nothing was pruned");
    }

    #[test]
    fn tokens_that_reach_over_the_message_are_cut() {
        assert_eq!(spans(" ab\n", &["x a", "b y"], &[&[0, 1]]), [("ab".into(), 1.0)]);
    }

    #[test]
    fn characters_in_several_tokens_stay_whole() {
        let pieces = ["é", "", "", "🦀", "ü"];
        assert_eq!(spans("é🦀ü", &pieces, &[&[1]]), [("🦀".into(), 1.0)]);
        assert_eq!(spans("é🦀ü", &pieces, &[&[4]]), [("ü".into(), 1.0)]);
    }

    #[test]
    fn one_layer_can_be_looked_at_alone() {
        let heat = heat(&[&[0], &[1]]);
        assert_eq!(weights(&blocks(&heat, Some(1)), 3), [0.0, 1.0, 0.0]);
        assert_eq!(weights(&blocks(&heat, None), 3), [0.5, 0.5, 0.0]);
    }
}
