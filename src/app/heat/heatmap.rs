//! The heatmap: a row a layer, heads on the left, channels on the right.
//!
//! Owns what the user steers: zoom, pan and the keyboard's cursor. How it is drawn is in `picture`.

use super::picture::{Pictures, Places};
use super::window::Window;
use super::words::{self, Cell, Unit};
use crate::protocol::Heat;
use eframe::egui::{self, CursorIcon, Key, Rect, Response, Sense, StrokeKind, TextStyle, Ui, accesskit, vec2};
use std::sync::Arc;

/// The widest a channel gets, in points.
const WIDEST: f64 = 24.0;

/// What a heatmap remembers between frames.
#[derive(Default)]
pub struct HeatmapView {
    window: Window,
    cursor: Option<Cell>,
    pictures: Pictures,
}

impl HeatmapView {
    /// The cell of the keyboard's cursor.
    pub fn cursor(&self) -> Option<Cell> {
        self.cursor
    }

    /// Shows all channels.
    pub fn reset(&mut self) {
        self.window = Window::default();
    }
}

/// What the user did with a heatmap.
pub struct HeatmapResponse {
    /// Of the whole map; clicked where a cell was clicked.
    pub response: Response,
    /// The cell under the pointer, or else under the keyboard's cursor.
    pub pointed: Option<Cell>,
}

/// The heatmap of `heat`; with `against`, of what differs between the two. Takes the whole width.
pub fn heatmap(ui: &mut Ui, view: &mut HeatmapView, heat: &Arc<Heat>, against: Option<&Arc<Heat>>) -> HeatmapResponse {
    headline(ui, view, heat);
    let text = ui.text_style_height(&TextStyle::Small);
    let ppp = ui.pixels_per_point();
    let rows = heat.layers.len().max(1);
    let row = ((300.0 / rows as f32).clamp(4.0, 14.0) * ppp).round() / ppp;
    let header = text + 6.0;
    let size = vec2(ui.available_width(), header + row * rows as f32);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click_and_drag());
    let places = Places::new(rect.with_min_y(rect.top() + header), heat.heads, row, text, ppp);
    let least = (f64::from(places.channel.width()) / WIDEST).max(2.0);
    view.window.fit(heat.channels, least);
    // A cursor of another model's may lie outside of this one.
    view.cursor = view.cursor.filter(|cell| cell.lies_in(heat));
    steer(ui, view, heat, &response, &places, least);

    let hovered =
        response.hover_pos().filter(|_| !response.dragged()).and_then(|at| places.cell(at, view.window, heat));
    let pointed = hovered.or(view.cursor.filter(|_| response.has_focus()));
    view.pictures.adopt(ui, heat, against);
    if ui.is_rect_visible(rect) {
        view.pictures.draw(ui, rect, &places, view.window, pointed.map(|cell| cell.layer));
    }
    if let Some(cell) = pointed {
        let frame = places.frame(cell, view.window);
        let painter = ui.painter_at(rect.expand(2.0));
        painter.rect_stroke(frame, 1.0, (2.0, ui.visuals().strong_text_color()), StrokeKind::Outside);
        let lines = lines(cell, &places, view.window, heat, against.map(|heat| &**heat));
        tooltip(ui, &response, cell, frame, hovered.is_some(), &lines);
    }
    if response.has_focus() {
        ui.painter().rect_stroke(rect.expand(1.0), 2.0, ui.visuals().selection.stroke, StrokeKind::Outside);
    }
    response.widget_info(|| egui::WidgetInfo::labeled(accesskit::Role::Image, true, "Heatmap of kept units"));
    ui.ctx().accesskit_node_builder(response.id, |node| {
        let summary = words::summary(heat);
        node.set_value(match view.cursor {
            Some(cell) => {
                format!("{}: {}", cell.name(), words::describe(cell, heat, against.map(|heat| &**heat)).join(", "))
            }
            None => summary.clone(),
        });
        node.set_description(summary);
    });
    HeatmapResponse { response, pointed }
}

/// Which channels are shown, and the way back to all of them.
fn headline(ui: &mut Ui, view: &mut HeatmapView, heat: &Heat) {
    ui.horizontal_wrapped(|ui| {
        ui.set_min_height(ui.spacing().interact_size.y);
        let total = heat.channels;
        if view.window.zoomed(total) && view.window.span.is_finite() {
            let shown = view.window.shown(total);
            ui.label(format!("showing channels {}–{} of {total}", shown.start(), shown.end()));
            if ui.button("Reset zoom").clicked() {
                view.reset();
            }
        } else {
            let modifier = if cfg!(target_os = "macos") { "⌘" } else { "Ctrl" };
            ui.weak(format!("all {total} channels: {modifier}+scroll zooms")).on_hover_text(
                "Pinch, or scroll after a click, zooms too; drag to pan, double-click to reset.\n\
                 With the keyboard: arrows move a cursor (Shift: 16 cells), + and - zoom, 0 or Home resets.",
            );
        }
    });
}

/// Zoom, pan and cursor by wheel, pinch, drag and keys.
fn steer(ui: &Ui, view: &mut HeatmapView, heat: &Heat, response: &Response, places: &Places, least: f64) {
    let (total, width) = (heat.channels, f64::from(places.channel.width().max(1.0)));
    let pan = |window: &mut Window, points: f32| {
        window.start -= f64::from(points) * window.span / width;
        window.fit(total, least);
    };
    if let Some(at) = response.hover_pos() {
        // What is taken here, an outer scroll area does not get: a wheel that only passes over the map moves the page.
        let focused = response.has_focus();
        let (scroll, pinch) = ui.input_mut(|input| {
            let scroll = focused.then(|| std::mem::take(&mut input.smooth_scroll_delta));
            (scroll.unwrap_or_default(), input.zoom_delta())
        });
        let factor = f64::from(pinch * (scroll.y / 160.0).exp());
        if factor != 1.0 {
            let anchor = f64::from((at.x - places.channel.left()) / places.channel.width()).clamp(0.0, 1.0);
            view.window.zoom(anchor, factor, total, least);
        }
        if scroll.x != 0.0 {
            pan(&mut view.window, scroll.x);
        }
    }
    if response.dragged() {
        pan(&mut view.window, response.drag_delta().x);
    }
    if response.double_clicked() {
        view.reset();
        view.window.fit(total, least);
    }
    if view.window.zoomed(total) && (response.hovered() || response.dragged()) {
        ui.ctx().set_cursor_icon(if response.dragged() { CursorIcon::Grabbing } else { CursorIcon::Grab });
    }
    if response.clicked() {
        response.request_focus();
        view.cursor = response.interact_pointer_pos().and_then(|at| places.cell(at, view.window, heat)).or(view.cursor);
    }
    if response.has_focus() {
        keys(ui, view, heat, response, least);
    }
}

fn keys(ui: &Ui, view: &mut HeatmapView, heat: &Heat, response: &Response, least: f64) {
    let filter = egui::EventFilter { horizontal_arrows: true, vertical_arrows: true, ..egui::EventFilter::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
    let (presses, far) = ui.input(|input| {
        let presses = |key: Key| input.num_presses(key) as i64;
        let zoom = presses(Key::Plus) + presses(Key::Equals) - presses(Key::Minus);
        let reset = presses(Key::Num0) + presses(Key::Home);
        let right = presses(Key::ArrowRight) - presses(Key::ArrowLeft);
        ((right, presses(Key::ArrowDown) - presses(Key::ArrowUp), zoom, reset), input.modifiers.shift)
    });
    let (right, down, zoom, reset) = presses;
    let (heads, total, layers) = (heat.heads as i64, heat.channels as i64, heat.layers.len() as i64);
    if (right, down) != (0, 0) && layers > 0 && heads + total > 0 {
        // Units in one line, heads first; the first key press only shows the cursor.
        let start = Cell { layer: 0, unit: Unit::Channel(view.window.start.ceil() as usize) };
        let step = if far { 16 } else { 1 } * i64::from(view.cursor.is_some());
        let from = view.cursor.unwrap_or(start);
        let unit = match from.unit {
            Unit::Head(head) => head as i64,
            Unit::Channel(channel) => heads + channel as i64,
        };
        let unit = (unit + right * step).clamp(0, heads + total - 1);
        let layer = (from.layer as i64 + down * step).clamp(0, layers - 1) as usize;
        let unit = if unit < heads { Unit::Head(unit as usize) } else { Unit::Channel((unit - heads) as usize) };
        if let Unit::Channel(channel) = unit {
            view.window.reveal(channel);
        }
        view.cursor = Some(Cell { layer, unit });
    }
    if zoom != 0 {
        let anchor = match view.cursor.map(|cell| cell.unit) {
            Some(Unit::Channel(channel)) => view.window.place(channel as f64 + 0.5).clamp(0.0, 1.0),
            _ => 0.5,
        };
        view.window.zoom(anchor, 1.5f64.powi(zoom as i32), heat.channels, least);
    }
    if reset > 0 {
        view.reset();
        view.window.fit(heat.channels, least);
    }
}

/// What a cell says; where it shares its pixel with others, that too.
fn lines(cell: Cell, places: &Places, window: Window, heat: &Heat, against: Option<&Heat>) -> Vec<String> {
    let mut lines = words::describe(cell, heat, against);
    if let (Unit::Channel(channel), Some(Some(block))) = (cell.unit, heat.layers.get(cell.layer).map(|l| &l.channels)) {
        let (from, to) = window.beside(channel, places.pixels(), heat.channels);
        if to - from > 1 {
            let kept = (from..to).filter(|&unit| block.keeps(unit as u32)).count();
            lines.push(format!("Zoom in: {} channels share this pixel, {kept} are kept", to - from));
        }
    }
    lines
}

/// Beside the pointer, or beside the cell of the keyboard's cursor.
fn tooltip(ui: &Ui, response: &Response, cell: Cell, frame: Rect, at_pointer: bool, lines: &[String]) {
    let mut tooltip = egui::Tooltip::for_widget(response).gap(12.0);
    tooltip.popup = if at_pointer { tooltip.popup.at_pointer() } else { tooltip.popup.anchor(frame) };
    tooltip.popup = tooltip.popup.open(ui.is_enabled());
    tooltip.show(|ui| {
        ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Extend);
        ui.strong(cell.name());
        for line in lines {
            ui.label(line);
        }
    });
}
