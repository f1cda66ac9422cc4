//! The middle: the conversation, from its title to the last answer.
//!
//! A message that is out of sight is not drawn again: the place that it took is kept free.

use super::message::message;
use super::state::{Intent, State, cuts};
use super::theme::{self, COLUMN, SPACE};
use super::view::{View, Window};
use super::{Act, PAGE, welcome};
use crate::chat::NodeId;
use eframe::egui::{
    self, Align, Align2, Area, Id, Margin, Order, Rect, RichText, ScrollArea, Ui, Vec2, style::ScrollAnimation,
};

/// Points from the end up to which the end is in sight.
const NEAR: f32 = 48.0;

/// Draws the row above the conversation.
pub fn title(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    ui.horizontal(|ui| {
        if theme::toggle(ui, state.preferences.list, "List")
            .on_hover_text(if PAGE { "Conversations" } else { "Ctrl+L" })
            .clicked()
        {
            acts.push(Act::ToggleList);
        }
        theme::from_the_right(ui, |ui| {
            if theme::toggle(ui, state.preferences.inspector, "Pruning").on_hover_text("Ctrl+B").clicked() {
                acts.push(Act::ToggleInspector);
            }
            let help = "System prompt, sampling, length (Ctrl+P)";
            let open = view.window == Some(Window::Settings);
            if theme::toggle(ui, open, "Chat settings").on_hover_text(help).clicked() {
                view.toggle(Window::Settings);
            }
            let title = state.conversation().map_or("New chat", |open| &open.title);
            ui.with_layout(egui::Layout::left_to_right(Align::Center), |ui| {
                ui.add(egui::Label::new(RichText::new(title).strong()).truncate());
            });
        });
    });
}

/// Draws the messages.
pub fn messages(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    let Some(open) = state.conversation().filter(|open| open.leaf().is_some()) else {
        welcome::welcome(ui, state, view, acts);
        return;
    };
    let cuts = cuts(open);
    let area = ScrollArea::vertical().id_salt(("messages", open.id)).auto_shrink(false).stick_to_bottom(true);
    let area = area.content_margin(Margin::symmetric(12, 0));
    let shown = area.show(ui, |ui| {
        ui.add_space(SPACE * 2.0);
        for node in open.path() {
            place(ui, state, view, node.id, |ui, view| message(ui, state, view, node, acts));
            if let Some(cut) = cuts.iter().find(|cut| cut.last == node.id) {
                theme::column(ui, COLUMN, |ui| mark(ui, cut.count, state));
            }
            ui.add_space(SPACE);
        }
        ui.add_space(SPACE);
        if std::mem::take(&mut view.jump) {
            ui.scroll_to_cursor_animation(Some(Align::BOTTOM), ScrollAnimation::none());
        }
    });
    let below = shown.content_size.y - shown.inner_rect.height() - shown.state.clamped_offset().y;
    if below > NEAR {
        jump(ui, shown.inner_rect, view);
    }
}

/// Draws a message, or keeps its place free where it is out of sight.
fn place(ui: &mut Ui, state: &State, view: &mut View, node: NodeId, draw: impl FnOnce(&mut Ui, &mut View)) {
    let width = ui.available_width();
    let drawn = view.drawn.get(&node).copied().unwrap_or_default();
    let there = Rect::from_min_size(ui.cursor().min, drawn);
    let settled = state.running_at(node).is_none() && view.reveal != Some(node);
    if drawn.x == width && !ui.is_rect_visible(there) && settled {
        ui.allocate_space(drawn);
        return;
    }
    let rect = ui.push_id(node, |ui| draw(ui, view)).response.rect;
    view.drawn.insert(node, Vec2::new(width, rect.height()));
    if view.reveal == Some(node) {
        view.reveal = None;
        ui.scroll_to_rect(rect, Some(Align::Center));
    }
}

/// Across the whole width: what lies above is not read.
fn mark(ui: &mut Ui, count: usize, state: &State) {
    let messages =
        if count == 1 { "1 earlier message is".to_string() } else { format!("{count} earlier messages are") };
    let policy = super::state::policy(state.settings().overflow);
    theme::alert(ui, false, |ui| {
        ui.set_width(ui.available_width());
        ui.vertical_centered(|ui| {
            let text = format!("{messages} not read by the model: the context is too small ({policy})");
            ui.add(egui::Label::new(RichText::new(text).small().color(theme::colors(ui).warn)).wrap());
        });
    });
}

fn jump(ui: &Ui, inside: Rect, view: &mut View) {
    let area = Area::new(Id::unique("jump")).order(Order::Middle).pivot(Align2::CENTER_BOTTOM);
    area.fixed_pos(inside.center_bottom() - Vec2::new(0.0, SPACE)).show(ui.ctx(), |ui| {
        if ui.button("Jump to latest").on_hover_text("Ctrl+End").clicked() {
            view.jump = true;
        }
    });
}

/// The switch between a message and those beside it.
pub fn branches(ui: &mut Ui, state: &State, node: NodeId, acts: &mut Vec<Act>) {
    let Some(branch) = state.conversation().map(|open| open.branch(node)).filter(|branch| branch.count > 1) else {
        return;
    };
    let mut step = |ui: &mut Ui, enabled: bool, text: &str, name: &str, step: isize| {
        let button = ui.add_enabled(enabled, egui::Button::new(RichText::new(text).small()).frame_when_inactive(false));
        if button.accessible_name(name).clicked() {
            acts.push(Act::State(Intent::Branch(node, step)));
        }
    };
    let idle = !state.is_busy();
    // One unit, whichever way the row runs.
    ui.allocate_ui_with_layout(Vec2::new(90.0, 22.0), egui::Layout::left_to_right(Align::Center), |ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        step(ui, idle && branch.index > 0, "‹", "Previous version", -1);
        theme::aside(ui, format!("{}/{}", branch.index + 1, branch.count));
        step(ui, idle && branch.index + 1 < branch.count, "›", "Next version", 1);
    });
}
