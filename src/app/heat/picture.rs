//! How a heatmap is drawn: where its parts lie, and the textures of its cells.
//!
//! Textures are made anew only when a choice, the window, the size or the theme changes. Choices are told apart by their
//! `Arc`, which is held meanwhile so that an address is not used again.

use super::grid::Grid;
use super::palette::Palette;
use super::window::Window;
use super::words::{Cell, Unit};
use crate::protocol::Heat;
use eframe::egui::{
    self, Align2, Color32, ColorImage, Painter, Pos2, Rect, TextStyle, TextureHandle, TextureOptions, TextureWrapMode,
    Ui, pos2, vec2,
};
use std::ops::Range;
use std::sync::Arc;

/// Seconds in which one choice fades into the next.
const FADE: f64 = 0.12;
/// Cells at least this wide or high, in points, are kept apart by lines.
const APART: f32 = 5.0;
/// Pixels of the tile that the hatch of dense blocks repeats.
const HATCH: usize = 8;

/// Where things are, in points.
pub(super) struct Places {
    /// The strip of heads.
    pub head: Rect,
    /// The channels.
    pub channel: Rect,
    row: f32,
    heads: usize,
    ppp: f32,
}

impl Places {
    /// Cuts `body` into labels, heads and channels; `row` and `text` are heights, `ppp` pixels a point.
    pub fn new(body: Rect, heads: usize, row: f32, text: f32, ppp: f32) -> Places {
        let snap = |x: f32| (x * ppp).round() / ppp;
        // Two digits of a label, and a gap.
        let left = snap(body.left() + 1.6 * text);
        let strip = (heads as f32 * row).clamp(3.2 * text, (0.22 * body.width()).max(3.2 * text));
        let head = Rect::from_min_max(pos2(left, snap(body.top())), pos2(snap(left + strip), body.bottom()));
        let channels_left = snap(head.right() + 0.7 * text);
        let channel = Rect::from_min_max(pos2(channels_left, head.top()), pos2(snap(body.right()), body.bottom()));
        Places { head, channel, row, heads, ppp }
    }

    /// The rows of some layers.
    fn layers(&self, of: Rect, layers: Range<usize>) -> Rect {
        let top = |layer: usize| of.top() + self.row * layer as f32;
        Rect::from_x_y_ranges(of.x_range(), top(layers.start)..=top(layers.end))
    }

    /// The cell at a point.
    pub fn cell(&self, at: egui::Pos2, window: Window, heat: &Heat) -> Option<Cell> {
        let layer = ((at.y - self.channel.top()) / self.row).floor();
        if !(layer >= 0.0 && (layer as usize) < heat.layers.len()) {
            return None;
        }
        let layer = layer as usize;
        let place = |of: Rect| f64::from((at.x - of.left()) / of.width());
        if self.channel.x_range().contains(at.x) && heat.channels > 0 {
            let channel = window.channel(place(self.channel), heat.channels);
            Some(Cell { layer, unit: Unit::Channel(channel) })
        } else if self.head.x_range().contains(at.x) && heat.heads > 0 {
            let head = ((place(self.head) * heat.heads as f64) as usize).min(heat.heads - 1);
            Some(Cell { layer, unit: Unit::Head(head) })
        } else {
            None
        }
    }

    /// The outline of a cell, never too thin to be seen.
    pub fn frame(&self, cell: Cell, window: Window) -> Rect {
        let (of, from, to) = match cell.unit {
            Unit::Head(head) => (self.head, head as f64 / self.heads(), (head + 1) as f64 / self.heads()),
            Unit::Channel(channel) => (self.channel, window.place(channel as f64), window.place((channel + 1) as f64)),
        };
        let x = |place: f64| of.left() + of.width() * place.clamp(0.0, 1.0) as f32;
        let row = self.layers(of, cell.layer..cell.layer + 1);
        let middle = (x(from) + x(to)) / 2.0;
        let half = ((x(to) - x(from)) / 2.0).max(2.0);
        Rect::from_x_y_ranges(middle - half..=middle + half, row.y_range())
    }

    fn heads(&self) -> f64 {
        self.heads.max(1) as f64
    }

    /// How many pixels the channels are wide.
    pub fn pixels(&self) -> usize {
        ((self.channel.width() * self.ppp).round() as usize).max(1)
    }
}

/// The choice that is drawn, and the one that it fades from.
#[derive(Default)]
pub(super) struct Pictures {
    now: Option<Picture>,
    /// With the time it began to fade, in seconds.
    before: Option<(Picture, f64)>,
    hatch: Option<(bool, TextureHandle)>,
}

/// One choice, ready to be drawn.
struct Picture {
    heat: Arc<Heat>,
    against: Option<Arc<Heat>>,
    heads: Grid,
    channels: Grid,
    dense_heads: Vec<Range<usize>>,
    dense_channels: Vec<Range<usize>>,
    drawn: Option<Drawn>,
}

/// Textures, and what they were made for.
struct Drawn {
    window: Window,
    pixels: usize,
    dark: bool,
    heads: TextureHandle,
    channels: TextureHandle,
}

impl Pictures {
    /// Draws this choice from now on. One choice fades into the next of the same model, unless motion is reduced.
    pub fn adopt(&mut self, ui: &Ui, heat: &Arc<Heat>, against: Option<&Arc<Heat>>) {
        let now = ui.input(|input| input.time);
        let same = |picture: &Picture| {
            Arc::ptr_eq(&picture.heat, heat) && picture.against.as_ref().map(Arc::as_ptr) == against.map(Arc::as_ptr)
        };
        if !self.now.as_ref().is_some_and(same) {
            let like = |before: &Picture| {
                let shape = |heat: &Heat| (heat.layers.len(), heat.heads, heat.channels);
                shape(&before.heat) == shape(heat) && ui.style().animation_time > 0.0
            };
            let next = Picture::new(heat.clone(), against.cloned());
            self.before = self.now.replace(next).filter(like).map(|before| (before, now));
        }
        if self.before.as_ref().is_some_and(|(_, since)| now - since >= FADE) {
            self.before = None;
        }
    }

    /// Draws everything but what is pointed at; the label of a layer that is pointed at stands out.
    pub fn draw(&mut self, ui: &Ui, rect: Rect, places: &Places, window: Window, pointed: Option<usize>) {
        let painter = ui.painter_at(rect.expand(2.0));
        let hatch = self.hatch(ui);
        let shown = self.before.as_ref().map_or(1.0, |(_, since)| {
            ui.ctx().request_repaint();
            (((ui.input(|input| input.time) - since) / FADE) as f32).clamp(0.0, 1.0)
        });
        if let Some((before, _)) = &mut self.before {
            before.draw(ui, &painter, places, window, 1.0);
        }
        let Some(now) = &mut self.now else { return };
        now.draw(ui, &painter, places, window, shown);
        now.lines(ui, &painter, places, window, &hatch);
        now.labels(ui, &painter, rect, places, window, pointed);
    }

    fn hatch(&mut self, ui: &Ui) -> TextureHandle {
        let dark = ui.visuals().dark_mode;
        if let Some((_, texture)) = self.hatch.as_ref().filter(|(of, _)| *of == dark) {
            return texture.clone();
        }
        let palette = Palette::new(dark, false);
        let pixel = |at: usize| match (at % HATCH + at / HATCH) % HATCH {
            0 => palette.hatch,
            1 | 7 => palette.dense.lerp_to_gamma(palette.hatch, 0.4),
            _ => palette.dense,
        };
        let image = ColorImage::new([HATCH; 2], (0..HATCH * HATCH).map(pixel).collect());
        let options = TextureOptions { wrap_mode: TextureWrapMode::Repeat, ..TextureOptions::NEAREST };
        let texture = ui.ctx().load_texture("heatmap hatch", image, options);
        self.hatch = Some((dark, texture.clone()));
        texture
    }
}

impl Picture {
    fn new(heat: Arc<Heat>, against: Option<Arc<Heat>>) -> Picture {
        let heads = Grid::heads(&heat, against.as_deref());
        let channels = Grid::channels(&heat, against.as_deref());
        let (dense_heads, dense_channels) = (heads.dense_runs(), channels.dense_runs());
        Picture { heat, against, heads, channels, dense_heads, dense_channels, drawn: None }
    }

    fn draw(&mut self, ui: &Ui, painter: &Painter, places: &Places, window: Window, opacity: f32) {
        // A texture needs a size.
        if self.heads.units == 0 || self.channels.units == 0 || self.heat.layers.is_empty() {
            return;
        }
        let widest = ui.input(|input| input.max_texture_side);
        let (dark, pixels) = (ui.visuals().dark_mode, places.pixels().min(widest));
        let current = |drawn: &Drawn| (drawn.window, drawn.pixels, drawn.dark) == (window, pixels, dark);
        if !self.drawn.as_ref().is_some_and(current) {
            let palette = Palette::new(dark, self.against.is_some());
            let heads: Vec<(usize, usize)> = (0..self.heads.units).map(|head| (head, head + 1)).collect();
            let load = |name: &str, image: ColorImage| ui.ctx().load_texture(name, image, TextureOptions::NEAREST);
            self.drawn = Some(Drawn {
                window,
                pixels,
                dark,
                heads: load("heatmap heads", self.heads.picture(&heads, &palette)),
                channels: load(
                    "heatmap channels",
                    self.channels.picture(&window.bins(pixels, self.channels.units), &palette),
                ),
            });
        }
        let Some(drawn) = &self.drawn else { return };
        let tint = Color32::from_white_alpha((255.0 * opacity) as u8);
        let whole = Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0));
        for (texture, of) in [(&drawn.heads, places.head), (&drawn.channels, places.channel)] {
            painter.image(texture.id(), of, whole, tint);
        }
    }

    /// Lines that keep cells and rows apart, where there is room; the hatch and the word of dense rows.
    fn lines(&self, ui: &Ui, painter: &Painter, places: &Places, window: Window, hatch: &TextureHandle) {
        let gap = (1.0 / places.ppp, ui.visuals().panel_fill);
        let head = places.head.width() / places.heads.max(1) as f32;
        if head >= APART {
            for line in 1..places.heads {
                painter.vline(places.head.left() + head * line as f32, places.head.y_range(), gap);
            }
        }
        let channel = f64::from(places.channel.width()) / window.span;
        if channel >= f64::from(APART) {
            for line in window.shown(self.channels.units).skip(1) {
                let x = places.channel.left() + places.channel.width() * window.place(line as f64) as f32;
                painter.vline(x, places.channel.y_range(), gap);
            }
        }
        for (runs, of) in [(&self.dense_heads, places.head), (&self.dense_channels, places.channel)] {
            for run in runs {
                let rect = places.layers(of, run.clone());
                let uv = Rect::from_min_size(Pos2::ZERO, rect.size() * places.ppp / HATCH as f32);
                painter.image(hatch.id(), rect, uv, Color32::WHITE);
            }
            if places.row >= APART {
                for layer in 1..self.heat.layers.len() {
                    painter.hline(of.x_range(), of.top() + places.row * layer as f32, gap);
                }
            }
        }
        let font = TextStyle::Small.resolve(ui.style());
        for run in &self.dense_channels {
            let rect = places.layers(places.channel, run.clone());
            if rect.height() >= ui.text_style_height(&TextStyle::Small) + 2.0 {
                let galley = painter.layout_no_wrap("dense".into(), font.clone(), ui.visuals().text_color());
                let text = Align2::CENTER_CENTER.anchor_size(rect.center(), galley.size());
                let ground = Palette::new(ui.visuals().dark_mode, false).dense;
                painter.rect_filled(text.expand2(vec2(5.0, 1.0)), 3.0, ground);
                painter.galley(text.min, galley, ui.visuals().text_color());
            }
        }
    }

    /// Headings, numbers of layers, and where the window lies in all channels.
    fn labels(&self, ui: &Ui, painter: &Painter, rect: Rect, places: &Places, window: Window, pointed: Option<usize>) {
        let font = TextStyle::Small.resolve(ui.style());
        let (weak, strong) = (ui.visuals().weak_text_color(), ui.visuals().strong_text_color());
        for (of, text) in [(places.head, "heads"), (places.channel, "MLP channels")] {
            painter.text(pos2(of.left(), rect.top()), Align2::LEFT_TOP, text, font.clone(), weak);
        }
        let every = if places.row >= ui.text_style_height(&TextStyle::Small) { 1 } else { 5 };
        for layer in (0..self.heat.layers.len()).filter(|layer| layer % every == 0 || Some(*layer) == pointed) {
            let near = pointed.is_some_and(|pointed| pointed != layer && pointed.abs_diff(layer) < every.min(2));
            if near {
                continue;
            }
            let y = places.layers(places.head, layer..layer + 1).center().y;
            let color = if Some(layer) == pointed { strong } else { weak };
            painter.text(pos2(places.head.left() - 4.0, y), Align2::RIGHT_CENTER, layer, font.clone(), color);
        }
        if window.zoomed(self.channels.units) {
            let rail =
                Rect::from_x_y_ranges(places.channel.x_range(), places.head.top() - 4.0..=places.head.top() - 1.0);
            let x = |channel: f64| rail.left() + rail.width() * (channel / self.channels.units.max(1) as f64) as f32;
            let thumb = Rect::from_x_y_ranges(
                x(window.start)..=x(window.start + window.span).max(x(window.start) + 3.0),
                rail.y_range(),
            );
            painter.rect_filled(rail, 1.0, ui.visuals().widgets.inactive.bg_fill);
            painter.rect_filled(thumb, 1.0, ui.visuals().selection.stroke.color);
        }
    }
}
