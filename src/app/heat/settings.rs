//! The pruning panel: what to prune, when, by how much, and what that will cost, before anything runs.
//!
//! Invariant: the settings are valid when it returns (`PruneConfig::validate`): no control reaches a value outside.

use super::words;
use crate::config::{Method, ModelConfig, PruneBlocks, PruneConfig, PrunePhases};
use crate::session::{Planned, planned};
use eframe::egui::{self, RichText, Slider, SliderClamping, Ui};

/// The highest ratio the slider reaches: more than this, no model bears.
const HIGHEST: f64 = 0.8;
/// The longest interval between re-probes that the panel offers, in tokens.
const RAREST: usize = 4096;

/// Draws the settings over the whole width; `true` where they changed. `prompt_tokens` is the length of the prompt that the
/// estimate is for; `pending` = an answer is running with other settings.
pub fn pruning(
    ui: &mut Ui,
    settings: &mut PruneConfig,
    model: Option<&ModelConfig>,
    prompt_tokens: usize,
    pending: bool,
) -> bool {
    let before = settings.clone();
    if settings.validate().is_err() {
        // From a file that was written by hand: what no control can give, no control can mend.
        *settings = PruneConfig { method: before.method, ..PruneConfig::default() };
    }
    method(ui, settings);
    let prunes = settings.method != Method::Dense;
    ratio(ui, settings, prunes);
    if let Some(model) = model.filter(|_| prunes) {
        estimate(ui, settings, &planned(model, settings, prompt_tokens), prompt_tokens);
    } else if prunes {
        ui.weak("Load a model to see what this removes.");
    }
    if pending {
        ui.label(RichText::new("Takes effect with the next prompt or re-probe").italics());
    }
    ui.add_enabled_ui(prunes, |ui| {
        // Closed at first: what is computed should be seen without scrolling.
        ui.collapsing("When, what, and how it probes", |ui| {
            choices(ui, settings);
            advanced(ui, settings, model);
        });
    });
    *settings != before
}

fn method(ui: &mut Ui, settings: &mut PruneConfig) {
    ui.horizontal_wrapped(|ui| {
        let label = ui.label("Method");
        let shown = words::method(settings.method);
        let combo =
            egui::ComboBox::from_id_salt("pruning method").width(160.0).selected_text(shown).show_ui(ui, |ui| {
                for method in [Method::Dense, Method::FullBatch, Method::Pp] {
                    ui.selectable_value(&mut settings.method, method, words::method(method))
                        .on_hover_text(explain(method));
                }
            });
        combo.response.labelled_by(label.id).on_hover_text(explain(settings.method));
    });
}

fn explain(method: Method) -> &'static str {
    match method {
        Method::Dense => "Computes every unit; nothing is pruned.",
        Method::FullBatch => "Chooses from every token, without history: the costliest probe.",
        Method::WandaSp | Method::Flap | Method::Masks => {
            "One choice for every input, made before: not for a conversation here."
        }
        Method::Pp => "Chooses from a small probe of the text, fused with what earlier text needed.",
    }
}

fn ratio(ui: &mut Ui, settings: &mut PruneConfig, prunes: bool) {
    ui.add_enabled_ui(prunes, |ui| {
        ui.horizontal(|ui| {
            let label = ui.label("Pruning ratio");
            // The number beside it takes the rest.
            ui.spacing_mut().slider_width = (ui.available_width() - 64.0).clamp(80.0, 360.0);
            let slider = Slider::new(&mut settings.ratio, 0.0..=HIGHEST).clamping(SliderClamping::Edits).step_by(0.01);
            ui.add(slider.fixed_decimals(2)).labelled_by(label.id).on_hover_text(
                "Wished share of heads and channels to leave out, a mean over all layers. \
                 Small models bear 0.1; larger ones bear more.",
            );
        });
    });
    if !prunes {
        ui.weak("A dense model computes everything: choose a method that prunes to set a ratio.");
    }
}

/// What the settings remove and keep; a probe that costs more than it saves is said in words.
fn estimate(ui: &mut Ui, settings: &PruneConfig, plan: &Planned, prompt: usize) {
    let removed = |share: f64| match share {
        share if share < -5e-4 => format!("adds {:.1} % to the layers' FLOPs", -100.0 * share),
        share => format!("removes {:.1} % of the layers' FLOPs", 100.0 * share.max(0.0)),
    };
    let tokens = if prompt == 1 { "1 token".to_owned() } else { format!("{prompt} tokens") };
    let leads_itself = settings.leads() && settings.lead(prompt) == prompt;
    let parts = [
        (settings.phases.decode, "Answer".to_owned(), plan.answer_removed),
        (settings.phases.prefill && !leads_itself, format!("Prompt of {tokens}"), plan.prompt_removed),
    ];
    for (_, name, share) in parts.iter().filter(|(pruned, ..)| *pruned) {
        let text = format!("{name}: {}", removed(*share));
        if *share < -5e-4 {
            let warning = format!("{text}; this probe costs more than it saves");
            ui.label(RichText::new(warning).color(ui.visuals().warn_fg_color));
        } else {
            ui.label(text);
        }
    }
    if leads_itself {
        ui.label(format!("Prompt of {tokens}: all of it leads, nothing is left to prune"));
    }
    let (heads, channels) = (plan.heads, plan.channels);
    let kept = format!("{} of {} heads, {} of {} channels", heads.0, heads.1, channels.0, channels.1);
    ui.weak(format!("Keeps {kept} a layer"));
    if settings.ratio > 0.0 && heads.0 == heads.1 && channels.0 == channels.1 {
        ui.weak("This ratio is too small to remove a whole head or tile of channels.");
    }
}

/// When, and which blocks.
fn choices(ui: &mut Ui, settings: &mut PruneConfig) {
    let phases = |prefill, decode| PrunePhases { prefill, decode };
    row(ui, "Prune", |ui| {
        let value = &mut settings.phases;
        ui.selectable_value(value, phases(false, true), "the answer").on_hover_text(
            "The prompt is read by the whole model, and what it needed there is the probe, at no extra cost.",
        );
        ui.selectable_value(value, phases(true, false), "the prompt")
            .on_hover_text("The prompt's first tokens are read by the whole model and choose for the others.");
        ui.selectable_value(value, phases(true, true), "both")
            .on_hover_text("The prompt's first tokens choose, and the answer goes on with that choice.");
    });
    let blocks = |attention, mlp| PruneBlocks { attention, mlp };
    row(ui, "Leave out", |ui| {
        let value = &mut settings.blocks;
        ui.selectable_value(value, blocks(true, true), "heads and channels");
        ui.selectable_value(value, blocks(true, false), "heads only").on_hover_text("Attention: query heads");
        ui.selectable_value(value, blocks(false, true), "channels only").on_hover_text("MLP: channels");
    });
}

fn advanced(ui: &mut Ui, settings: &mut PruneConfig, model: Option<&ModelConfig>) {
    let in_prompt = settings.method == Method::Pp && settings.phases.prefill;
    let probes = in_prompt && settings.lead_tokens == 0;
    row(ui, "Re-probe every", |ui| {
        let value = egui::DragValue::new(&mut settings.reprobe_every).range(0..=RAREST).suffix(" tokens");
        named(ui.add_enabled(settings.phases.decode, value), "Re-probe interval");
        ui.weak(if settings.reprobe_every == 0 { "never: the first choice stays" } else { "0 = never" });
    });
    row(ui, "Lead", |ui| {
        let value = egui::DragValue::new(&mut settings.lead_tokens).range(0..=RAREST).suffix(" tokens");
        named(ui.add_enabled(in_prompt, value), "Tokens that lead a prompt")
            .on_disabled_hover_text("A prompt has a lead only where probe pruning prunes it");
        ui.weak(if settings.lead_tokens == 0 { "none: a probe runs ahead" } else { "or more choose; 0 = a probe" });
    });
    for (text, name, value, hint) in [
        ("Tokens probed", "Share of tokens probed", &mut settings.probe_tokens, "of the prompt"),
        (
            "Samples probed",
            "Share of samples probed",
            &mut settings.probe_samples,
            "of a batch; a chat is a batch of one, so this changes nothing here",
        ),
    ] {
        row(ui, text, |ui| {
            let value = egui::DragValue::new(value)
                .range(0.01..=1.0)
                .speed(0.005)
                .custom_formatter(|share, _| format!("{:.0} %", 100.0 * share))
                .custom_parser(|text| text.trim().trim_end_matches('%').trim().parse().ok().map(|v: f64| v / 100.0));
            named(ui.add_enabled(probes, value), name).on_disabled_hover_text(
                "A probe runs ahead only where probe pruning prunes the prompt, and the prompt has no lead",
            );
            ui.weak(hint);
        });
    }
    row(ui, "Dense layers", |ui| {
        let most = model.map_or(512, |model| model.num_hidden_layers);
        let value = egui::DragValue::new(&mut settings.dense_layers).range(0..=most);
        named(ui.add(value), "Dense first layers");
        ui.weak("the first, never pruned");
    });
    row(ui, "Tile", |ui| {
        let most = model.map_or(1024, |model| model.intermediate_size);
        let value = egui::DragValue::new(&mut settings.tile).range(1..=most.max(1));
        named(ui.add(value), "Tile of kept channels");
        ui.weak("kept channels are a multiple of this");
    });
}

/// A control's label at the left, and what belongs to it, in as many lines as it needs.
fn row(ui: &mut Ui, text: &str, add: impl FnOnce(&mut Ui)) {
    ui.horizontal_wrapped(|ui| {
        ui.label(text);
        add(ui);
    });
}

fn named(response: egui::Response, name: &str) -> egui::Response {
    response.accessible_name(name)
}
