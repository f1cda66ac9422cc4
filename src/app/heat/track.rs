//! The timeline's face: a track of ticks to scrub on, two curves beneath, and buttons.
//!
//! Ticks and curves are drawn by pixel, not by step: thousands of steps cost what a few hundred do.

use super::timeline::{Pin, Point, Timeline};
use super::words;
use crate::protocol::Cause;
use eframe::egui::{
    self, Align2, Color32, Key, Painter, Rect, Response, Sense, Shape, Stroke, StrokeKind, TextStyle, Ui, accesskit,
    pos2, vec2,
};

/// Heights of the track and of the curves, in points.
const TRACK: f32 = 18.0;
const CURVES: f32 = 56.0;

/// Draws the timeline over the whole width; `true` where what it shows has changed by the user's hand.
pub fn timeline(ui: &mut Ui, timeline: &mut Timeline) -> bool {
    let before = (timeline.at(), timeline.compared());
    if timeline.is_empty() {
        ui.weak("No probe yet: units are chosen when a pruned model answers.");
        return false;
    }
    buttons(ui, timeline);
    track(ui, timeline);
    key(ui);
    story(ui, timeline);
    before != (timeline.at(), timeline.compared())
}

fn buttons(ui: &mut Ui, timeline: &mut Timeline) {
    ui.horizontal_wrapped(|ui| {
        // A button that does not fit goes to the next line whole.
        ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Extend);
        let last = timeline.len() - 1;
        for (name, by, possible) in [("Previous probe", -1, timeline.at() > 0), ("Next probe", 1, timeline.at() < last)]
        {
            if arrow(ui, name, by as f32, possible).clicked() {
                timeline.step(by);
            }
        }
        let live = ui.selectable_label(timeline.live(), "Live").on_hover_text("Follow the newest probe");
        if live.clicked() {
            timeline.set_live(!timeline.live());
        }
        ui.separator();
        for (pin, name) in [(Pin::A, "Pin A"), (Pin::B, "Pin B")] {
            let place = timeline.pinned(pin).map_or("not pinned".into(), |place| format!("at probe {}", place + 1));
            let hint = format!("Remember the probe that is shown, to compare it (now {place})");
            if ui.selectable_label(timeline.pinned(pin).is_some(), name).on_hover_text(hint).clicked() {
                timeline.pin(pin);
            }
        }
        if timeline.pinned(Pin::A).or(timeline.pinned(Pin::B)).is_some() {
            let compare = ui.selectable_label(timeline.comparing(), "Compare").accessible_name("Compare pins");
            let hint =
                "Show what two probes choose differently; one pin alone is compared with the probe that is shown";
            if compare.on_hover_text(hint).clicked() {
                timeline.set_comparing(!timeline.comparing());
            }
            if ui.button("Clear").accessible_name("Clear pins").clicked() {
                timeline.clear_pins();
            }
        }
    });
}

/// A button with a triangle that points right, or left where `to` is negative. It is painted: fonts may lack the glyph.
fn arrow(ui: &mut Ui, name: &str, to: f32, possible: bool) -> Response {
    let size = vec2(ui.spacing().interact_size.y * 1.3, ui.spacing().interact_size.y);
    let response = ui.add_enabled(possible, egui::Button::new("").min_size(size)).on_hover_text(name);
    let color = match possible {
        true => ui.style().interact(&response).text_color(),
        false => ui.visuals().weak_text_color().gamma_multiply(ui.visuals().disabled_alpha),
    };
    let corners = [vec2(0.35 * to, 0.0), vec2(-0.25 * to, -0.35), vec2(-0.25 * to, 0.35)];
    let corners = corners.map(|corner| response.rect.center() + corner * 0.6 * size.y);
    ui.painter().add(Shape::convex_polygon(corners.to_vec(), color, Stroke::NONE));
    response.accessible_name(name)
}

/// The widget that is scrubbed: by pointer, by keys, by assistive technology.
fn track(ui: &mut Ui, timeline: &mut Timeline) {
    let text = ui.text_style_height(&TextStyle::Small);
    let size = vec2(ui.available_width(), TRACK + 6.0 + CURVES + text / 2.0 + 2.0);
    let (rect, mut response) = ui.allocate_exact_size(size, Sense::click_and_drag());
    // Room for "100 %".
    let left = rect.left() + 3.0 * text;
    let body = Rect::from_min_max(pos2(left, rect.top()), pos2(rect.right() - 4.0, rect.bottom()));
    let scale = Scale { body, steps: timeline.len() };

    let was = timeline.at();
    if let Some(at) = response.interact_pointer_pos().filter(|_| response.dragged() || response.clicked()) {
        response.request_focus();
        timeline.seek(scale.step(at.x));
    }
    steer(ui, timeline, &response);
    if timeline.at() != was {
        response.mark_changed();
    }

    if ui.is_rect_visible(rect) {
        let track = body.with_max_y(body.top() + TRACK);
        let curves = Rect::from_x_y_ranges(body.x_range(), track.bottom() + 6.0..=track.bottom() + 6.0 + CURVES);
        ticks(ui, timeline, &scale, track);
        plot(ui, timeline, &scale, curves);
        marks(ui, timeline, &scale, body.with_max_y(curves.bottom()), track);
        if response.has_focus() {
            ui.painter().rect_stroke(rect.expand(1.0), 2.0, ui.visuals().selection.stroke, StrokeKind::Outside);
        }
    }
    if let Some(at) = response.hover_pos().filter(|at| body.x_range().contains(at.x)) {
        hover(ui, timeline, &response, &scale, at.x);
    }
    let (place, last) = (timeline.at(), timeline.len() - 1);
    response.widget_info(|| egui::WidgetInfo::slider(true, (place + 1) as f64, "Probe timeline"));
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_min_numeric_value(1.0);
        node.set_max_numeric_value((last + 1) as f64);
        node.set_numeric_value_step(1.0);
        node.add_action(accesskit::Action::SetValue);
        if place < last {
            node.add_action(accesskit::Action::Increment);
        }
        if place > 0 {
            node.add_action(accesskit::Action::Decrement);
        }
    });
}

fn steer(ui: &Ui, timeline: &mut Timeline, response: &Response) {
    use accesskit::{Action, ActionData};
    let id = response.id;
    if response.has_focus() {
        let filter = egui::EventFilter { horizontal_arrows: true, ..egui::EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));
        let presses = |key: Key| ui.input(|input| input.num_presses(key)) as isize;
        timeline_step(timeline, presses(Key::ArrowRight) - presses(Key::ArrowLeft));
        timeline_step(timeline, 10 * (presses(Key::PageDown) - presses(Key::PageUp)));
        if presses(Key::Home) > 0 {
            timeline.seek(0);
        }
        if presses(Key::End) > 0 {
            timeline.seek(usize::MAX);
        }
    }
    let (up, down, place) = ui.input(|input| {
        let wished = input.accesskit_action_requests(id, Action::SetValue).filter_map(|request| match request.data {
            Some(ActionData::NumericValue(value)) => Some(value),
            _ => None,
        });
        let count = |action| input.num_accesskit_action_requests(id, action) as isize;
        (count(Action::Increment), count(Action::Decrement), wished.last())
    });
    timeline_step(timeline, up - down);
    if let Some(place) = place {
        timeline.seek((place.round() as usize).saturating_sub(1));
    }
}

/// A step of none is no wish: it must not end live.
fn timeline_step(timeline: &mut Timeline, by: isize) {
    if by != 0 {
        timeline.step(by);
    }
}

/// Steps against points: every step has the same width, its middle is its place.
struct Scale {
    body: Rect,
    steps: usize,
}

impl Scale {
    fn width(&self) -> f32 {
        self.body.width() / self.steps as f32
    }

    fn x(&self, step: usize) -> f32 {
        self.body.left() + self.width() * (step as f32 + 0.5)
    }

    fn step(&self, x: f32) -> usize {
        let place = ((x - self.body.left()) / self.body.width()).clamp(0.0, 1.0);
        ((place * self.steps as f32) as usize).min(self.steps - 1)
    }

    /// Stretches of steps that are drawn as one: a step each where there is room, else a point's worth.
    fn bins(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (steps, bins) = (self.steps, self.steps.min(self.body.width().max(1.0) as usize));
        (0..bins).map(move |bin| bin * steps / bins..(bin + 1) * steps / bins)
    }
}

/// A band an answer, a high tick for a prompt, a low one for a re-probe.
fn ticks(ui: &Ui, timeline: &Timeline, scale: &Scale, track: Rect) {
    let (heats, visuals) = (timeline.heats(), ui.visuals());
    let painter = ui.painter_at(track.expand(1.0));
    painter.rect_filled(track, 3.0, visuals.extreme_bg_color);
    let mut start = 0;
    for (number, answer) in heats.chunk_by(|a, b| a.id == b.id).enumerate() {
        let end = start + answer.len();
        let x = |edge: usize| scale.body.left() + scale.width() * edge as f32;
        if number % 2 == 1 {
            let band = Rect::from_x_y_ranges(x(start)..=x(end), track.y_range());
            painter.rect_filled(band, 0.0, visuals.widgets.noninteractive.bg_stroke.color.gamma_multiply(0.6));
        }
        start = end;
    }
    let width = (scale.width() * 0.5).clamp(1.0, 3.0);
    for steps in scale.bins() {
        let prompt = heats[steps.clone()].iter().any(|heat| heat.cause == Cause::Prompt);
        let middle = scale.x((steps.start + steps.end - 1) / 2);
        let (height, color) = match prompt {
            true => (TRACK - 4.0, visuals.strong_text_color()),
            false => (TRACK * 0.4, visuals.weak_text_color()),
        };
        let bottom = track.bottom() - 2.0;
        let tick = Rect::from_x_y_ranges(middle - width / 2.0..=middle + width / 2.0, bottom - height..=bottom);
        painter.rect_filled(tick, 0.0, color);
    }
}

/// The colours of the two curves: kept channels, overlap.
fn colors(dark: bool) -> [Color32; 2] {
    match dark {
        true => [Color32::from_rgb(0x7d, 0xb8, 0xf5), Color32::from_rgb(0xe5, 0xa5, 0x4a)],
        false => [Color32::from_rgb(0x1f, 0x5f, 0xb8), Color32::from_rgb(0xb3, 0x5a, 0x00)],
    }
}

fn plot(ui: &Ui, timeline: &Timeline, scale: &Scale, rect: Rect) {
    let (painter, visuals) = (ui.painter(), ui.visuals());
    let font = TextStyle::Small.resolve(ui.style());
    let y = |share: f32| rect.bottom() - rect.height() * share;
    for (share, text) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
        let at = pos2(rect.left() - 4.0, y(share));
        painter.text(at, Align2::RIGHT_CENTER, text, font.clone(), visuals.weak_text_color());
        painter.hline(rect.x_range(), y(share), visuals.widgets.noninteractive.bg_stroke);
    }
    let [kept, overlap] = colors(visuals.dark_mode);
    curve(painter, timeline, scale, |point| Some(point.kept), &y, kept, false);
    curve(painter, timeline, scale, |point| point.overlap, &y, overlap, true);
}

/// One curve, of means by pixel; it breaks where there is no value. The second is dashed, to be told apart without colour.
fn curve(
    painter: &Painter,
    timeline: &Timeline,
    scale: &Scale,
    value: fn(&Point) -> Option<f32>,
    y: &impl Fn(f32) -> f32,
    color: Color32,
    dashed: bool,
) {
    let mut piece = Vec::new();
    let draw = |piece: &mut Vec<egui::Pos2>| {
        match piece.as_slice() {
            [] => {}
            [single] => {
                painter.circle_filled(*single, 2.0, color);
            }
            points if dashed => painter.extend(Shape::dashed_line(points, Stroke::new(1.5, color), 4.0, 2.5)),
            points => {
                painter.line(points.to_vec(), Stroke::new(1.5, color));
            }
        }
        piece.clear();
    };
    for steps in scale.bins() {
        let values: Vec<f32> = timeline.points()[steps.clone()].iter().filter_map(value).collect();
        if values.is_empty() {
            draw(&mut piece);
        } else {
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            piece.push(pos2(scale.x((steps.start + steps.end - 1) / 2), y(mean)));
        }
    }
    draw(&mut piece);
}

/// Where one is, and where the pins are.
fn marks(ui: &Ui, timeline: &Timeline, scale: &Scale, whole: Rect, track: Rect) {
    let (painter, accent) = (ui.painter(), ui.visuals().selection.stroke.color);
    let x = scale.x(timeline.at());
    painter.vline(x, whole.y_range(), (1.5, accent));
    painter.circle(pos2(x, track.center().y), 5.0, accent, (1.5, ui.visuals().panel_fill));
    for (pin, name) in [(Pin::A, "A"), (Pin::B, "B")] {
        let Some(place) = timeline.pinned(pin) else { continue };
        let font = TextStyle::Small.resolve(ui.style());
        let flag = Rect::from_center_size(pos2(scale.x(place), track.top() + 6.0), vec2(13.0, 13.0));
        painter.vline(scale.x(place), whole.y_range(), (1.0, ui.visuals().strong_text_color()));
        painter.rect_filled(flag, 3.0, ui.visuals().strong_text_color());
        painter.text(flag.center(), Align2::CENTER_CENTER, name, font, ui.visuals().panel_fill);
    }
}

fn hover(ui: &Ui, timeline: &Timeline, response: &Response, scale: &Scale, x: f32) {
    let step = scale.step(x);
    let (heat, point) = (&timeline.heats()[step], timeline.points()[step]);
    let mut tooltip = egui::Tooltip::for_widget(response).gap(12.0);
    tooltip.popup = tooltip.popup.at_pointer().open(ui.is_enabled());
    tooltip.show(|ui| {
        ui.strong(format!("Answer {}, probe {}", timeline.answer(step), heat.index + 1));
        ui.label(words::origin(heat));
        ui.label(format!("Channels kept: {:.1} %", 100.0 * point.kept));
        ui.label(match point.overlap {
            Some(overlap) => format!("Kept by the probe before too: {:.1} %", 100.0 * overlap),
            None => "No probe before to compare with".into(),
        });
    });
}

/// What the curves are.
fn key(ui: &mut Ui) {
    let colors = colors(ui.visuals().dark_mode);
    ui.horizontal_wrapped(|ui| {
        ui.label(egui::RichText::new("— channels kept").small().color(colors[0]));
        ui.label(egui::RichText::new("- - kept by the probe before too").small().color(colors[1]));
    });
}

/// In words: which probe is shown, and what it keeps; or which two are compared.
fn story(ui: &mut Ui, timeline: &Timeline) {
    let name = |place: usize| format!("answer {}, probe {}", timeline.answer(place), timeline.heats()[place].index + 1);
    match (timeline.compared(), timeline.shown()) {
        (Some((then, now)), Some((_, Some(_)))) => {
            ui.strong(format!("Now: {}. Then: {}.", name(now), name(then)));
        }
        (Some(_), Some((_, None))) => {
            ui.strong("The pins are of different models: there is nothing to compare.");
        }
        _ => {
            if let Some(heat) = timeline.current() {
                let at = timeline.at();
                let answer = timeline.answer(at);
                ui.strong(format!(
                    "Answer {answer}, probe {} ({} of {} in all)",
                    heat.index + 1,
                    at + 1,
                    timeline.len()
                ));
                ui.label(format!("{}: {}.", words::origin(heat), words::kept(heat)));
            }
        }
    }
}
