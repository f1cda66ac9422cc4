//! Where questions are written, and beneath it what the model has room for.

use super::state::{Intent, Model, State, Task};
use super::theme::{self, COLUMN, SPACE};
use super::view::{Focus, View};
use super::{Act, words};
use eframe::egui::{
    Frame, Id, Key, KeyboardShortcut, Margin, Modifiers, Rect, ScrollArea, Sense, Stroke, TextEdit, TextStyle, Ui, Vec2,
};

/// Lines that the field grows to.
const LINES: f32 = 8.0;
/// The share of the context from which on the gauge warns.
const NEARLY_FULL: f32 = 0.85;

/// Draws the field and the line beneath it.
pub fn composer(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    theme::column(ui, COLUMN, |ui| {
        ui.add_space(SPACE / 2.0);
        field(ui, state, view, acts);
        ui.horizontal(|ui| status(ui, state));
        ui.add_space(SPACE / 2.0);
    });
}

fn field(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    let focused = ui.memory(|memory| memory.has_focus(id()));
    let colors = theme::colors(ui);
    let edge = if focused { Stroke::new(1.5, colors.accent) } else { ui.visuals().widgets.inactive.bg_stroke };
    let fill = ui.visuals().text_edit_bg_color();
    let frame = Frame::new().fill(fill).stroke(edge).corner_radius(10.0).inner_margin(Margin::same(8));
    let draft = view.drafts.entry(state.current).or_default();
    let send = focused && plain_enter(ui);
    frame.show(ui, |ui| {
        ui.horizontal(|ui| {
            let line = ui.text_style_height(&TextStyle::Body);
            let width = ui.available_width() - 76.0;
            let hint = match &state.model {
                Model::Ready(_) => "Ask anything",
                Model::Loading { .. } => "Ask anything: it is answered once the model is loaded",
                Model::None | Model::Failed { .. } => "Open a model to begin",
            };
            let edit = |ui: &mut Ui| {
                let edit = TextEdit::multiline(draft).id(id()).hint_text(hint).desired_rows(1).desired_width(width);
                let shift_enter = KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter);
                let edit = edit.frame(Frame::NONE.inner_margin(Margin::symmetric(6, 5))).return_key(shift_enter);
                ui.add(edit).accessible_name("Message")
            };
            let area = ScrollArea::vertical()
                .id_salt("draft")
                .max_height(line * LINES + 10.0)
                .min_scrolled_height(line + 10.0)
                .max_width(width);
            let response = area.show(ui, edit).inner;
            if view.focus == Some(Focus::Composer) {
                response.request_focus();
                view.focus = None;
            }
            theme::from_the_right(ui, |ui| {
                let clicked = if state.is_busy() {
                    if ui.button("Stop").on_hover_text("Esc").clicked() {
                        acts.push(Act::State(Intent::Stop));
                    }
                    false
                } else {
                    let ready = state.can_ask() && !draft.trim().is_empty();
                    theme::primary(ui, ready, "Send").on_hover_text("Enter").clicked()
                };
                if (clicked || send) && state.can_ask() && !draft.trim().is_empty() {
                    acts.push(Act::State(Intent::Ask(draft.trim().to_string())));
                    draft.clear();
                    view.focus = Some(Focus::Composer);
                }
            });
        });
    });
}

/// Takes Enter without Shift out of the input: the field makes lines of Shift+Enter alone.
pub fn plain_enter(ui: &Ui) -> bool {
    ui.input_mut(|input| !input.modifiers.shift && input.consume_key(Modifiers::NONE, Key::Enter))
}

fn id() -> Id {
    Id::unique("composer")
}

fn status(ui: &mut Ui, state: &State) {
    ui.spacing_mut().item_spacing.x = SPACE * 1.5;
    if let Some(info) = state.ready() {
        gauge(ui, state, info.context);
        let memory = state.figures().map_or(0, |figures| figures.memory).max(info.memory);
        theme::aside(ui, words::bytes(memory)).on_hover_text("Memory in use on the device");
    }
    let live = state.running.iter().find(|running| Some(running.conversation) == state.current);
    if let Some(running) = live {
        let figures = state.conversation().and_then(|open| open.node(running.node)?.figures.as_ref());
        let rate = figures.map_or(0.0, |figures| figures.decode_rate());
        let text = match rate {
            _ if running.task == Task::Compare => "comparing".to_string(),
            _ if !running.started => "waiting".to_string(),
            0.0 => "reading the prompt".to_string(),
            rate => format!("{rate:.1} tokens/s"),
        };
        theme::aside(ui, text);
    }
}

/// How much of the context is used.
fn gauge(ui: &mut Ui, state: &State, context: usize) {
    let figures = state.figures();
    let used = figures.map_or(0, |figures| figures.context_used);
    let share = used as f32 / context.max(1) as f32;
    let colors = theme::colors(ui);
    let color = match share {
        0.985.. => colors.error,
        NEARLY_FULL.. => colors.warn,
        _ => colors.accent,
    };
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = SPACE;
        let (rect, _) = ui.allocate_exact_size(Vec2::new(64.0, 6.0), Sense::hover());
        ui.painter().rect_filled(rect, 3.0, ui.visuals().widgets.inactive.bg_fill);
        let filled = Rect::from_min_size(rect.min, Vec2::new(rect.width() * share.min(1.0), rect.height()));
        ui.painter().rect_filled(filled, 3.0, color);
        let label = theme::aside(ui, format!("{used} / {context} tokens"));
        if let Some(figures) = figures {
            label.on_hover_text(format!(
                "Context: {} tokens of the prompt, {} of the answer",
                figures.prompt_tokens, figures.answer_tokens
            ));
        }
    });
}
