//! The right side: what pruning does to this conversation.

use super::Act;
use super::state::State;
use super::theme;
use super::view::View;
use crate::chat::Node;
use eframe::egui::Ui;
use std::ops::Range;

/// What the panel remembers between frames.
#[derive(Default)]
pub struct Inspector {}

impl Inspector {
    /// Bytes of a question that were probed, each with a weight from 0 to 1.
    pub fn probed(&self, _state: &State, _node: &Node) -> Vec<(Range<usize>, f32)> {
        Vec::new()
    }
}

/// Draws the panel.
pub fn show(ui: &mut Ui, _state: &State, _view: &mut View, _acts: &mut Vec<Act>) {
    theme::aside(ui, "Pruning");
}
