//! Short messages at the upper edge, where they cover neither the last answer nor the next question, some with a way back. They go by themselves.

use super::Act;
use super::state::Intent;
use super::theme;
use eframe::egui::{self, Align2, Area, Color32, Frame, Id, Margin, Order, RichText, Stroke, Ui, Vec2};
use std::time::Duration;

/// How long a notice stays, in seconds; an error stays until it is dismissed.
const SECONDS: f64 = 8.0;

/// Something that the user has to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// One sentence.
    pub text: String,
    /// Whether something failed.
    pub error: bool,
    /// What takes it back.
    pub undo: Option<Box<Intent>>,
    /// When it goes, in seconds of the window's clock; `None` = it was not shown yet.
    until: Option<f64>,
}

impl Notice {
    /// Something that was done.
    pub fn info(text: impl Into<String>) -> Notice {
        Notice { text: text.into(), error: false, undo: None, until: None }
    }

    /// Something that failed.
    pub fn error(text: impl Into<String>) -> Notice {
        Notice { error: true, ..Notice::info(text) }
    }

    /// With a button that takes it back.
    pub fn with_undo(self, intent: Intent) -> Notice {
        Notice { undo: Some(Box::new(intent)), ..self }
    }
}

/// Shows the notices, and drops those that had their time.
pub fn notices(ui: &Ui, notices: &mut Vec<Notice>, acts: &mut Vec<Act>) {
    let now = ui.input(|input| input.time);
    for notice in notices.iter_mut() {
        notice.until.get_or_insert(if notice.error { f64::INFINITY } else { now + SECONDS });
    }
    notices.retain(|notice| notice.until.is_some_and(|until| until > now));
    let Some(soonest) = notices.iter().filter_map(|notice| notice.until).reduce(f64::min) else { return };
    if soonest.is_finite() {
        ui.ctx().request_repaint_after(Duration::from_secs_f64(soonest - now));
    }
    let mut gone = None;
    let area = Area::new(Id::unique("notices")).order(Order::Foreground);
    area.anchor(Align2::CENTER_TOP, Vec2::new(0.0, 48.0)).show(ui.ctx(), |ui| {
        ui.set_max_width(420.0);
        for (place, notice) in notices.iter().enumerate().rev().take(3) {
            let colors = theme::colors(ui);
            let edge = if notice.error { colors.error } else { Color32::TRANSPARENT };
            let frame = Frame::new().fill(colors.notice).stroke(Stroke::new(1.0, edge));
            frame.corner_radius(8.0).inner_margin(Margin::symmetric(12, 8)).show(ui, |ui| {
                ui.horizontal_wrapped(|ui| {
                    ui.add(egui::Label::new(RichText::new(&notice.text).color(colors.notice_text)).wrap());
                    if let Some(undo) = &notice.undo
                        && ui.button("Undo").clicked()
                    {
                        acts.push(Act::State((**undo).clone()));
                        gone = Some(place);
                    }
                    if ui.button("Dismiss").clicked() {
                        gone = Some(place);
                    }
                });
            });
        }
    });
    if let Some(place) = gone {
        notices.remove(place);
    }
}
