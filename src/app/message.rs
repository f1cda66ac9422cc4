//! One message: what was said, what it took, and what can be done with it.

use super::composer::plain_enter;
use super::messages::branches;
use super::state::{Intent, State, Task};
use super::theme::{self, COLUMN, SPACE};
use super::view::{Focus, View};
use super::{Act, PAGE, words};
use crate::chat::{Node, Role};
use crate::protocol::Stop;
use eframe::egui::text::{LayoutJob, TextFormat};
use eframe::egui::{self, Frame, Key, Margin, Stroke, TextEdit, TextStyle, Ui};
use std::ops::Range;

/// Draws a message.
pub fn message(ui: &mut Ui, state: &State, view: &mut View, node: &Node, acts: &mut Vec<Act>) {
    match node.role {
        Role::User => theme::column(ui, COLUMN, |ui| question(ui, state, view, node, acts)),
        Role::Assistant => answer(ui, state, view, node, acts),
    }
}

fn question(ui: &mut Ui, state: &State, view: &mut View, node: &Node, acts: &mut Vec<Act>) {
    if let Some((_, text)) = view.editing.as_mut().filter(|(id, _)| *id == node.id) {
        let focus = (view.focus == Some(Focus::Field)).then(|| view.focus = None).is_some();
        if let Some(ended) = edit(ui, state, text, focus) {
            if ended {
                acts.push(Act::State(Intent::Edit(node.id, text.trim().to_string())));
            }
            view.editing = None;
        }
        return;
    }
    let spans = view.inspector.probed(state, node);
    bubble(ui, &node.text, &spans);
    theme::from_the_right(ui, |ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        if theme::quiet(ui, "Copy").clicked() {
            ui.copy_text(node.text.clone());
        }
        if !state.is_busy() && theme::quiet(ui, "Edit").on_hover_text("Makes a branch; nothing is lost").clicked() {
            view.editing = Some((node.id, node.text.clone()));
            view.focus = Some(Focus::Field);
        }
        branches(ui, state, node.id, acts);
    });
}

/// The field for another question in place of one: `Some(true)` = ask it, `Some(false)` = leave it.
fn edit(ui: &mut Ui, state: &State, text: &mut String, focus: bool) -> Option<bool> {
    let id = ui.scope_id().with("edited");
    let send = ui.memory(|memory| memory.has_focus(id)) && plain_enter(ui);
    let shift_enter = egui::KeyboardShortcut::new(egui::Modifiers::SHIFT, Key::Enter);
    let field = TextEdit::multiline(text).id(id).desired_rows(2).desired_width(f32::INFINITY).return_key(shift_enter);
    let field = ui.add(field.margin(Margin::same(8))).accessible_name("Edited message");
    if focus {
        field.request_focus();
    }
    let mut ended = None;
    theme::from_the_right(ui, |ui| {
        let can = state.can_ask() && !text.trim().is_empty();
        if theme::primary(ui, can, "Send edited").clicked() || (send && can) {
            ended = Some(true);
        }
        if ui.button("Cancel").clicked() || ui.input(|input| input.key_pressed(Key::Escape)) {
            ended = Some(false);
        }
    });
    ended
}

/// What a user said, at the right; `spans` of its bytes are underlined, each with a weight from 0 to 1.
fn bubble(ui: &mut Ui, text: &str, spans: &[(Range<usize>, f32)]) {
    let widest = (ui.available_width() * 0.85 - 24.0).max(80.0);
    let (font, color) = (TextStyle::Body.resolve(ui.style()), ui.visuals().text_color());
    let plain = TextFormat { font_id: font, color, ..TextFormat::default() };
    let mut job = LayoutJob::default();
    let mut at = 0;
    for (range, weight) in spans {
        if let (Some(before), Some(inside)) = (text.get(at..range.start), text.get(range.clone())) {
            let accent = theme::colors(ui).accent.gamma_multiply(0.35 + 0.65 * weight);
            job.append(before, 0.0, plain.clone());
            job.append(inside, 0.0, TextFormat { underline: Stroke::new(1.0 + weight, accent), ..plain.clone() });
            at = range.end;
        }
    }
    job.append(text.get(at..).unwrap_or_default(), 0.0, plain);
    job.wrap.max_width = widest;
    let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.add_space(ui.available_width() - galley.size().x.ceil() - 24.0);
        let frame = Frame::new().fill(theme::colors(ui).bubble).corner_radius(10.0);
        frame.inner_margin(Margin::symmetric(12, 8)).show(ui, |ui| ui.add(egui::Label::new(galley)));
    });
}

fn answer(ui: &mut Ui, state: &State, view: &mut View, node: &Node, acts: &mut Vec<Act>) {
    let compared = node.comparison.as_ref().filter(|_| !view.alone.contains(&node.id));
    match compared {
        None => theme::column(ui, COLUMN, |ui| {
            said(ui, state, view, node);
            foot(ui, state, view, node, acts);
        }),
        Some(comparison) => theme::column(ui, COLUMN * 1.8, |ui| {
            ui.columns(2, |columns| {
                let [left, right] = columns else { return };
                // The settings may have changed since: its probes know the ratio that it ran with.
                let heat = state.heats.iter().find(|heat| heat.id == node.id);
                left.strong(heat.map_or("This answer".into(), |heat| format!("Pruned at {}", heat.ratio)));
                said(left, state, view, node);
                right.strong("Dense");
                if comparison.text.is_empty() && !comparison.complete {
                    theme::aside(right, "The dense model reads the prompt…");
                }
                view.markdown.show(right, key(node, 1), &comparison.text);
                if comparison.tokens > 0 {
                    for line in words::comparison(comparison) {
                        theme::aside(right, line);
                    }
                }
            });
            foot(ui, state, view, node, acts);
        }),
    }
}

/// One number for each text that hangs on a message.
fn key(node: &Node, text: u64) -> u64 {
    node.id * 2 + text
}

fn said(ui: &mut Ui, state: &State, view: &mut View, node: &Node) {
    let running = state.running_at(node.id).filter(|running| running.task == Task::Answer);
    if node.text.is_empty() {
        match running {
            Some(running) if !running.started => theme::aside(ui, "Waiting for the model…"),
            Some(_) => theme::aside(ui, "Reading the prompt…"),
            None if node.error.is_none() => theme::aside(ui, "The model said nothing."),
            None => return,
        };
        return;
    }
    view.markdown.show(ui, key(node, 0), &node.text);
}

/// Notes, figures and actions beneath an answer.
fn foot(ui: &mut Ui, state: &State, view: &mut View, node: &Node, acts: &mut Vec<Act>) {
    let running = state.running_at(node.id);
    if let Some(error) = &node.error {
        theme::alert(ui, true, |ui| {
            ui.horizontal_wrapped(|ui| {
                ui.colored_label(theme::colors(ui).error, error);
                if ui.add_enabled(state.can_ask(), egui::Button::new("Retry")).clicked() {
                    acts.push(Act::State(Intent::Regenerate(node.id)));
                }
            });
        });
    }
    if running.is_some_and(|running| running.task == Task::Answer) {
        return;
    }
    let note = if state.is_interrupted(node) {
        Some("interrupted: the program ended before the answer did".into())
    } else {
        note(node)
    };
    if let Some(note) = &note {
        ui.label(egui::RichText::new(note).small().color(theme::colors(ui).warn));
    }
    if let Some(figures) = node.figures.as_ref().map(words::figures).filter(|line| !line.is_empty()) {
        ui.add(egui::Label::new(egui::RichText::new(figures).small().weak()).wrap());
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        branches(ui, state, node.id, acts);
        if !node.text.is_empty() && theme::quiet(ui, "Copy").clicked() {
            ui.copy_text(node.text.clone());
        }
        if state.can_ask() {
            // A failed answer has its own button for that.
            if node.error.is_none()
                && theme::quiet(ui, "Regenerate")
                    .on_hover_text(if PAGE {
                        "Another answer beside this one"
                    } else {
                        "Another answer beside this one (Ctrl+R)"
                    })
                    .clicked()
            {
                acts.push(Act::State(Intent::Regenerate(node.id)));
            }
            let last = state.last_answer().is_some_and(|last| last.id == node.id);
            if last && note.is_some() && !node.text.is_empty() && theme::quiet(ui, "Continue").clicked() {
                acts.push(Act::State(Intent::Continue(node.id)));
            }
        }
        compare(ui, state, view, node, acts);
        if state.heats.iter().any(|heat| heat.id == node.id) && theme::quiet(ui, "Show pruning").clicked() {
            view.inspector.seek(node.id);
            if !state.preferences.inspector {
                acts.push(Act::ToggleInspector);
            }
        }
    });
    ui.add_space(SPACE / 2.0);
}

fn compare(ui: &mut Ui, state: &State, view: &mut View, node: &Node, acts: &mut Vec<Act>) {
    if node.text.is_empty() {
        return;
    }
    if node.comparison.is_none() {
        if state.running_at(node.id).is_some() {
            theme::aside(ui, "Waiting for the dense model…");
        } else if state.can_ask() && theme::quiet(ui, "Compare with dense").clicked() {
            acts.push(Act::State(Intent::Compare(node.id)));
        }
    } else if view.alone.contains(&node.id) {
        if theme::quiet(ui, "Show comparison").clicked() {
            view.alone.remove(&node.id);
        }
    } else if theme::quiet(ui, "Hide comparison").clicked() {
        view.alone.insert(node.id);
    }
}

/// Why an answer is not whole.
fn note(node: &Node) -> Option<String> {
    match node.stop? {
        Stop::End | Stop::Phrase => None,
        Stop::Length => {
            let tokens = node.figures.as_ref().map_or(0, |figures| figures.answer_tokens);
            Some(format!("cut off at {tokens} tokens, as the settings of this chat say"))
        }
        Stop::Context => {
            Some("the context is full: begin a new chat, or let the settings leave out old messages".into())
        }
        Stop::Stopped => Some("stopped".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Figures;

    fn node(stop: Option<Stop>) -> Node {
        let figures = Some(Figures { answer_tokens: 1024, ..Figures::default() });
        let (text, prompt) = (String::new(), Vec::new());
        let (created, error, left_out, comparison) = (0, None, Vec::new(), None);
        Node {
            id: 1,
            parent: None,
            role: Role::Assistant,
            text,
            created,
            figures,
            stop,
            error,
            left_out,
            comparison,
            prompt,
        }
    }

    #[test]
    fn an_answer_that_is_not_whole_says_why() {
        assert_eq!(
            note(&node(Some(Stop::Length))).as_deref(),
            Some("cut off at 1024 tokens, as the settings of this chat say")
        );
        assert!(note(&node(Some(Stop::Context))).is_some_and(|note| note.starts_with("the context is full")));
        assert_eq!([note(&node(Some(Stop::End))), note(&node(None))], [None, None]);
    }
}
