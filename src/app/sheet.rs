//! What a conversation runs with: system prompt, sampling, length, overflow, presets.

use super::Act;
use super::state::{Intent, State};
use super::theme::{self, SPACE};
use super::view::View;
use crate::chat::ChatSettings;
use crate::protocol::Overflow;
use eframe::egui::{self, DragValue, Grid, Slider, TextEdit, Ui};
use web_time::{SystemTime, UNIX_EPOCH};

/// Draws the settings; a change goes out at once.
pub fn sheet(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    let mut settings = state.settings().clone();
    presets(ui, state, view, acts);
    ui.separator();
    ui.label("System prompt");
    let system = TextEdit::multiline(&mut settings.system).desired_rows(3).desired_width(f32::INFINITY);
    let system = ui.add(system.hint_text("What the model is told before everything else"));
    system.accessible_name("System prompt");
    ui.add_space(SPACE);
    sampling(ui, &mut settings);
    ui.add_space(SPACE);
    overflow(ui, &mut settings);
    ui.separator();
    ui.horizontal(|ui| {
        if ui.button("Use for new chats").clicked() {
            acts.push(Act::State(Intent::KeepForNew));
        }
        if ui.button("Back to defaults").clicked() {
            settings = ChatSettings::default();
        }
    });
    if settings != *state.settings() {
        acts.push(Act::State(Intent::Settings(Box::new(settings))));
    }
}

fn presets(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    ui.horizontal_wrapped(|ui| {
        ui.label("Presets");
        for preset in &state.presets {
            let active = preset.settings == *state.settings();
            let button = ui.selectable_label(active, &preset.name);
            let button = button.on_hover_text("Click to use; click with the right button to delete");
            if button.clicked() {
                acts.push(Act::State(Intent::UsePreset(preset.name.clone())));
            }
            button.context_menu(|ui| {
                if ui.button(format!("Delete preset “{}”", preset.name)).clicked() {
                    acts.push(Act::State(Intent::DeletePreset(preset.name.clone())));
                }
            });
        }
        if state.presets.is_empty() {
            theme::aside(ui, "none yet");
        }
    });
    ui.horizontal(|ui| {
        let name = TextEdit::singleline(&mut view.preset).hint_text("Name").desired_width(180.0);
        ui.add(name).accessible_name("Name of the preset");
        let named = !view.preset.trim().is_empty();
        if ui.add_enabled(named, egui::Button::new("Save as preset")).clicked() {
            acts.push(Act::State(Intent::SavePreset(std::mem::take(&mut view.preset))));
        }
        let known = state.presets.iter().any(|preset| preset.name == view.preset.trim());
        if known && ui.button("Delete preset").clicked() {
            acts.push(Act::State(Intent::DeletePreset(std::mem::take(&mut view.preset).trim().to_string())));
        }
    });
}

fn sampling(ui: &mut Ui, settings: &mut ChatSettings) {
    let ChatSettings { sampling, max_tokens, .. } = settings;
    Grid::new("sampling").num_columns(2).spacing([16.0, 8.0]).show(ui, |ui| {
        let row = |ui: &mut Ui, name: &str, help: &str, slider: Slider<'_>| {
            let label = ui.label(name).on_hover_text(help);
            ui.add(slider).labelled_by(label.id).on_hover_text(help);
            ui.end_row();
        };
        let temperature = Slider::new(&mut sampling.temperature, 0.0..=2.0).fixed_decimals(2);
        row(ui, "Temperature", "0 always takes the likeliest token; more is more varied", temperature);
        let top_k = Slider::new(&mut sampling.top_k, 0..=200);
        row(ui, "Top-k", "Only the so many likeliest tokens; 0 = all", top_k);
        let top_p = Slider::new(&mut sampling.top_p, 0.01..=1.0).fixed_decimals(2);
        row(ui, "Top-p", "Only the likeliest tokens that make up this share; 1 = all", top_p);
        let min_p = Slider::new(&mut sampling.min_p, 0.0..=0.99).fixed_decimals(2);
        row(ui, "Min-p", "Only tokens this likely, measured by the likeliest; 0 = all", min_p);
        let penalty = Slider::new(&mut sampling.repetition_penalty, 1.0..=2.0).fixed_decimals(2);
        row(ui, "Repetition penalty", "Makes recent tokens less likely; 1 = off", penalty);
        let longest = Slider::new(max_tokens, 1..=8192).logarithmic(true);
        row(ui, "Longest answer", "In tokens", longest);
        let label = ui.label("Seed");
        ui.horizontal(|ui| {
            let help = "The same seed gives the same answer; each regenerated answer takes the next one";
            let seed = ui.add(DragValue::new(&mut sampling.seed).speed(1.0));
            seed.labelled_by(label.id).on_hover_text(help);
            if ui.button("Random").accessible_name("Random seed").clicked() {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                sampling.seed = now.map_or(0, |since| u64::from(since.subsec_nanos()));
            }
        });
        ui.end_row();
    });
}

fn overflow(ui: &mut Ui, settings: &mut ChatSettings) {
    ui.label("When the conversation outgrows the context");
    for (overflow, name) in [
        (Overflow::Stop, "Stop: nothing is left out, and nothing more is written"),
        (Overflow::DropOldest, "Leave out the oldest messages"),
        (Overflow::KeepEnds, "Keep the first question and the newest messages, leave out the middle"),
    ] {
        ui.radio_value(&mut settings.overflow, overflow, name);
    }
    theme::aside(ui, "What is left out stays on the screen, with a mark where the model stops reading.");
}
