//! What is shown where there is no conversation yet: models to open, or questions to begin with.

use super::Act;
use super::models;
use super::state::{Intent, Model, State};
use super::theme::{self, COLUMN, SPACE};
use super::view::View;
use eframe::egui::{Button, Margin, RichText, ScrollArea, Ui, Vec2};

/// Questions that small models answer well.
const EXAMPLES: [&str; 3] = [
    "Explain in three sentences why the sky is blue.",
    "Write a short poem about pruning roses in spring.",
    "Give me five ideas for a rainy afternoon with children.",
];

/// Draws it.
pub fn welcome(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    let area = ScrollArea::vertical().id_salt("welcome").auto_shrink(false);
    area.content_margin(Margin::symmetric(12, 0)).show(ui, |ui| {
        theme::column(ui, COLUMN * 0.8, |ui| {
            ui.add_space((ui.available_height() * 0.12).max(SPACE * 2.0));
            match &state.model {
                Model::Ready(info) => {
                    ui.label(RichText::new("What would you like to know?").heading());
                    let name = super::sidebar::short(&info.name);
                    ui.weak(format!("{name} answers on {}, and computes only what each question needs.", info.device));
                    ui.add_space(SPACE);
                    examples(ui, acts);
                }
                Model::Loading { name, .. } => {
                    ui.label(RichText::new("One moment").heading());
                    ui.weak(format!("{} is on its way. You can ask already.", super::sidebar::short(name)));
                    ui.add_space(SPACE);
                    examples(ui, acts);
                }
                Model::None | Model::Failed { .. } => {
                    ui.label(RichText::new("Open a model to begin").heading());
                    ui.weak("Secateur runs language models on this machine, and prunes them for every question.");
                    ui.add_space(SPACE);
                    models::models(ui, state, view, acts);
                }
            }
        });
    });
}

fn examples(ui: &mut Ui, acts: &mut Vec<Act>) {
    for example in EXAMPLES {
        let button = Button::new(example).wrap().right_text("").min_size(Vec2::new(ui.available_width(), 40.0));
        if ui.add(button).clicked() {
            acts.push(Act::State(Intent::Ask(example.to_string())));
        }
    }
}
