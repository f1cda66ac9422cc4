//! The left side: a new conversation, the search, the list, and the model.

use super::state::{Intent, Model, State};
use super::theme::{self, SPACE};
use super::view::{Focus, View, Window};
use super::{Act, Format, PAGE, words};
use crate::chat::{Found, Header};
use eframe::egui::containers::menu::MenuButton;
use eframe::egui::text::{LayoutJob, TextFormat};
use eframe::egui::{self, Button, Key, ProgressBar, RichText, ScrollArea, TextEdit, TextStyle, Ui, Vec2};

/// Height of a line of the list, in points.
const ROW: f32 = 30.0;

/// A line of the list.
enum Row<'a> {
    Day(&'static str),
    Conversation(&'a Header),
}

/// Times for the list: now, and how far local time is ahead, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Milliseconds since 1970.
    pub now: i64,
    /// Milliseconds that local time is ahead of UTC.
    pub offset: i64,
}

/// Draws the side.
pub fn sidebar(ui: &mut Ui, state: &State, view: &mut View, clock: Clock, acts: &mut Vec<Act>) {
    ui.add_space(SPACE);
    let new = Button::new("New chat");
    let new = if PAGE { new } else { new.right_text(RichText::new("Ctrl+N").small().weak()) };
    if ui.add(new.min_size(Vec2::new(ui.available_width(), 34.0))).clicked() {
        acts.push(Act::State(Intent::New));
        view.focus = Some(Focus::Composer);
    }
    search(ui, view, acts);
    egui::Panel::bottom("model").resizable(false).frame(egui::Frame::NONE).show(ui, |ui| {
        ui.add_space(SPACE);
        model(ui, state, view, acts);
        ui.add_space(SPACE);
    });
    ui.add_space(SPACE / 2.0);
    match &state.found {
        Some(found) => results(ui, state, view, found, acts),
        None => list(ui, state, view, clock, acts),
    }
}

fn search(ui: &mut Ui, view: &mut View, acts: &mut Vec<Act>) {
    let field = TextEdit::singleline(&mut view.query).hint_text("Search (Ctrl+K)").desired_width(f32::INFINITY);
    let field = ui.add(field.margin(egui::Margin::symmetric(10, 7)));
    let field = field.accessible_name("Search conversations");
    if view.focus == Some(Focus::Search) {
        field.request_focus();
        view.focus = None;
    }
    let left = field.has_focus() || field.lost_focus();
    if left && ui.input(|input| input.key_pressed(Key::Escape)) {
        view.query.clear();
        acts.push(Act::State(Intent::Search(String::new())));
    } else if field.changed() {
        acts.push(Act::State(Intent::Search(view.query.clone())));
    }
}

fn list(ui: &mut Ui, state: &State, view: &mut View, clock: Clock, acts: &mut Vec<Act>) {
    if state.headers.is_empty() {
        ui.add_space(SPACE);
        theme::aside(ui, "Conversations will appear here.");
        return;
    }
    let mut rows = Vec::new();
    let mut last = "";
    for header in &state.headers {
        let day = words::day(header.updated, clock.now, clock.offset);
        if day != last {
            rows.push(Row::Day(day));
            last = day;
        }
        rows.push(Row::Conversation(header));
    }
    ui.spacing_mut().item_spacing.y = 2.0;
    ScrollArea::vertical().id_salt("conversations").auto_shrink(false).show_rows(ui, ROW, rows.len(), |ui, range| {
        for row in rows.get(range).unwrap_or_default() {
            match row {
                Row::Day(day) => {
                    ui.allocate_ui(Vec2::new(ui.available_width(), ROW), |ui| {
                        ui.set_min_height(ROW);
                        ui.with_layout(egui::Layout::left_to_right(egui::Align::Max), |ui| theme::aside(ui, *day));
                    });
                }
                Row::Conversation(header) => {
                    ui.push_id(header.id, |ui| conversation(ui, state, view, header, acts));
                }
            }
        }
    });
}

fn conversation(ui: &mut Ui, state: &State, view: &mut View, header: &Header, acts: &mut Vec<Act>) {
    let current = state.current == Some(header.id);
    let size = Vec2::new(ui.available_width(), ROW);
    if let Some((_, title)) = view.renaming.as_mut().filter(|(id, _)| *id == header.id) {
        let field = ui.add(TextEdit::singleline(title).desired_width(f32::INFINITY));
        let field = field.accessible_name("New title");
        if view.focus == Some(Focus::Field) {
            field.request_focus();
            view.focus = None;
        } else if field.lost_focus() {
            let cancelled = ui.input(|input| input.key_pressed(Key::Escape));
            if let Some((id, title)) = view.renaming.take().filter(|_| !cancelled) {
                acts.push(Act::State(Intent::Rename(id, title)));
            }
        }
        return;
    }
    ui.allocate_ui_with_layout(size, egui::Layout::right_to_left(egui::Align::Center), |ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        let there = egui::Rect::from_min_size(ui.min_rect().left_top() - Vec2::new(size.x, 0.0), size);
        let hovered = ui.rect_contains_pointer(there.union(ui.max_rect()));
        if current || hovered {
            let dots = MenuButton::from_button(Button::new(RichText::new("…").weak()).frame(false));
            let (dots, _) = dots.ui(ui, |ui| menu(ui, view, header, acts));
            dots.accessible_name(format!("More for “{}”", header.title));
        }
        let answering = state.running.iter().any(|running| running.conversation == header.id);
        let title = RichText::new(&header.title);
        let title = if answering { title.italics() } else { title };
        let button = Button::selectable(current, title).truncate().right_text("");
        let row = ui.add(button.min_size(ui.available_size())).accessible_name(&header.title);
        if row.clicked() {
            view.focus = Some(Focus::Composer);
            acts.push(Act::State(Intent::Open(header.id, None)));
        }
        if row.double_clicked() {
            rename(view, header);
        }
        row.context_menu(|ui| menu(ui, view, header, acts));
    });
}

fn rename(view: &mut View, header: &Header) {
    view.renaming = Some((header.id, header.title.clone()));
    view.focus = Some(Focus::Field);
}

fn menu(ui: &mut Ui, view: &mut View, header: &Header, acts: &mut Vec<Act>) {
    if ui.button("Rename").clicked() {
        rename(view, header);
    }
    if ui.button("Export as Markdown…").clicked() {
        acts.push(Act::Export(header.id, Format::Markdown));
    }
    if ui.button("Export as JSON…").clicked() {
        acts.push(Act::Export(header.id, Format::Json));
    }
    ui.separator();
    if ui.button("Delete").clicked() {
        acts.push(Act::State(Intent::Delete(header.id)));
    }
}

fn results(ui: &mut Ui, state: &State, view: &mut View, found: &[Found], acts: &mut Vec<Act>) {
    if found.is_empty() {
        theme::aside(ui, "Nothing was found.");
    }
    ScrollArea::vertical().id_salt("found").auto_shrink(false).show(ui, |ui| {
        for (place, result) in found.iter().enumerate() {
            let title = state.headers.iter().find(|header| header.id == result.id).map_or("", |header| &header.title);
            let button = Button::selectable(false, snippet(ui, title, result)).wrap().right_text("");
            let button = ui.push_id(place, |ui| ui.add(button.min_size(Vec2::new(ui.available_width(), 0.0)))).inner;
            if button.clicked() {
                view.reveal = result.node;
                acts.push(Act::State(Intent::Open(result.id, result.node)));
            }
        }
    });
}

/// A title, and below it the words around a match, with the match in strong colours.
fn snippet(ui: &Ui, title: &str, found: &Found) -> LayoutJob {
    let mut job = LayoutJob::default();
    let visuals = ui.visuals();
    let format =
        |style: TextStyle, color| TextFormat { font_id: style.resolve(ui.style()), color, ..TextFormat::default() };
    let plain = format(TextStyle::Small, visuals.weak_text_color());
    let marked = TextFormat { background: visuals.selection.bg_fill, ..format(TextStyle::Small, visuals.text_color()) };
    if found.node.is_some() {
        job.append(title, 0.0, format(TextStyle::Button, visuals.text_color()));
        job.append("\n", 0.0, plain.clone());
    }
    let mut at = 0;
    for mark in &found.marks {
        // Ranges come from the store; one that does not fit is shown without colour.
        if let (Some(before), Some(inside)) = (found.snippet.get(at..mark.start), found.snippet.get(mark.clone())) {
            job.append(before, 0.0, plain.clone());
            job.append(inside, 0.0, marked.clone());
            at = mark.end;
        }
    }
    job.append(found.snippet.get(at..).unwrap_or_default(), 0.0, plain);
    job
}

fn model(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    let (first, second) = match &state.model {
        Model::None => ("Open a model".to_string(), String::new()),
        Model::Loading { name, stage, share } => {
            let done = share.map_or("…".into(), |share| format!(" {:.0} %", share * 100.0));
            (short(name).to_string(), format!("{stage}{done}"))
        }
        Model::Ready(info) => (short(&info.name).to_string(), info.device.clone()),
        Model::Failed { name, .. } => (short(name).to_string(), "could not be loaded".to_string()),
    };
    let mut text = RichText::new(&first).strong();
    if matches!(state.model, Model::Failed { .. }) {
        text = text.color(theme::colors(ui).error);
    }
    let button = Button::new(text).truncate().right_text("").min_size(Vec2::new(ui.available_width(), 34.0));
    let button = ui.add(button).on_hover_text("Models");
    if button.accessible_name(format!("Model: {first}")).clicked() {
        view.toggle(Window::Models);
    }
    if !second.is_empty() {
        ui.add(egui::Label::new(RichText::new(second).small().weak()).truncate());
    }
    if let Model::Loading { share, .. } = &state.model {
        loading(ui, *share, acts);
    }
    ui.horizontal(|ui| {
        if theme::quiet(ui, "Settings").clicked() {
            view.toggle(Window::Preferences);
        }
        if theme::quiet(ui, "Import").on_hover_text("A conversation from a JSON or Markdown file").clicked() {
            acts.push(Act::Import);
        }
        if theme::quiet(ui, "Keys").on_hover_text("Keyboard shortcuts (F1)").clicked() {
            view.toggle(Window::Shortcuts);
        }
    });
}

/// How far a load is, and a way out.
pub fn loading(ui: &mut Ui, share: Option<f32>, acts: &mut Vec<Act>) {
    ui.horizontal(|ui| {
        let bar = ProgressBar::new(share.unwrap_or(0.0)).desired_width(ui.available_width() - 76.0).desired_height(8.0);
        ui.add(bar).accessible_name("Loading");
        if ui.button("Cancel").clicked() {
            acts.push(Act::State(Intent::Stop));
        }
    });
}

/// The last part of a path; a name as it is.
pub fn short(name: &str) -> &str {
    name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(name)
}
