//! What is shown where the conversations cannot be opened: what happened, and the ways on.

use super::PAGE;
use super::theme::{self, SPACE};
use eframe::egui::{self, CentralPanel, RichText, Ui};
use std::path::Path;

/// What the user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Open them once more.
    Again,
    /// Leave everything as it is.
    Quit,
    /// Chat, and forget it at the end.
    GoOn,
}

/// Draws the screen.
pub fn trouble(ui: &mut Ui, path: &Path, error: &str) -> Option<Choice> {
    let mut choice = None;
    CentralPanel::default().show(ui, |ui| {
        theme::column(ui, 560.0, |ui| {
            ui.add_space(ui.available_height() * 0.25);
            ui.label(RichText::new("Your conversations could not be opened").heading());
            ui.add_space(SPACE);
            theme::alert(ui, true, |ui| ui.add(egui::Label::new(error).wrap()));
            ui.add_space(SPACE);
            if PAGE {
                theme::aside(ui, "The browser keeps them for this page. Nothing in them was changed.");
            } else {
                theme::aside(ui, format!("They lie in {}. Nothing in it was changed.", path.display()));
            }
            ui.add_space(SPACE);
            ui.horizontal(|ui| {
                if theme::primary(ui, true, "Try again").clicked() {
                    choice = Some(Choice::Again);
                }
                // A page cannot close itself.
                if !PAGE && ui.button("Quit").clicked() {
                    choice = Some(Choice::Quit);
                }
                if ui.button("Go on without saving").clicked() {
                    choice = Some(Choice::GoOn);
                }
            });
        });
    });
    choice
}
