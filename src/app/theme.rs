//! The look: one accent, two themes, sizes in steps of eight.

use super::state::Theme;
use eframe::egui::{
    self, Align, Button, Color32, Context, CornerRadius, FontFamily, FontId, Layout, Margin, Response, RichText,
    Shadow, Stroke, Style, TextStyle, Ui, Vec2, Visuals,
};

/// The unit of space, in points.
pub const SPACE: f32 = 8.0;
/// Widest line of text, in points: longer ones are hard to read.
pub const COLUMN: f32 = 760.0;

/// Colours that egui's visuals have no place for.
#[derive(Debug, Clone, Copy)]
pub struct Colors {
    /// The one colour that asks for a click.
    pub accent: Color32,
    /// Text on it.
    pub on_accent: Color32,
    /// What a user said.
    pub bubble: Color32,
    /// The panels at both sides.
    pub side: Color32,
    /// Short messages.
    pub notice: Color32,
    /// Text on them.
    pub notice_text: Color32,
    /// Failures.
    pub error: Color32,
    /// What needs care.
    pub warn: Color32,
    /// Behind failures.
    pub error_fill: Color32,
    /// Behind what needs care.
    pub warn_fill: Color32,
}

const DARK: Colors = Colors {
    accent: Color32::from_rgb(44, 122, 82),
    on_accent: Color32::WHITE,
    bubble: Color32::from_rgb(44, 48, 55),
    side: Color32::from_rgb(20, 22, 25),
    notice: Color32::from_rgb(58, 63, 72),
    notice_text: Color32::from_rgb(238, 240, 243),
    error: Color32::from_rgb(255, 138, 128),
    warn: Color32::from_rgb(240, 180, 90),
    error_fill: Color32::from_rgb(58, 31, 32),
    warn_fill: Color32::from_rgb(54, 43, 25),
};

const LIGHT: Colors = Colors {
    accent: Color32::from_rgb(26, 122, 74),
    on_accent: Color32::WHITE,
    bubble: Color32::from_rgb(232, 239, 235),
    side: Color32::from_rgb(245, 246, 247),
    notice: Color32::from_rgb(45, 49, 55),
    notice_text: Color32::from_rgb(245, 246, 248),
    error: Color32::from_rgb(176, 32, 32),
    warn: Color32::from_rgb(138, 90, 0),
    error_fill: Color32::from_rgb(253, 236, 234),
    warn_fill: Color32::from_rgb(253, 244, 226),
};

/// The colours of the theme that is on.
pub fn colors(ui: &Ui) -> Colors {
    if ui.visuals().dark_mode { DARK } else { LIGHT }
}

/// Sets the styles of both themes.
pub fn install(context: &Context) {
    context.set_style_of(egui::Theme::Dark, style(Visuals::dark(), DARK, true));
    context.set_style_of(egui::Theme::Light, style(Visuals::light(), LIGHT, false));
}

/// Turns a theme on.
pub fn choose(context: &Context, theme: Theme) {
    context.set_theme(match theme {
        Theme::System => egui::ThemePreference::System,
        Theme::Light => egui::ThemePreference::Light,
        Theme::Dark => egui::ThemePreference::Dark,
    });
}

fn style(mut visuals: Visuals, colors: Colors, dark: bool) -> Style {
    let gray = Color32::from_gray;
    let pick = |in_dark: Color32, in_light: Color32| if dark { in_dark } else { in_light };
    let radius = CornerRadius::same(8);
    visuals.panel_fill = pick(Color32::from_rgb(27, 29, 33), Color32::WHITE);
    visuals.window_fill = pick(Color32::from_rgb(34, 37, 42), Color32::WHITE);
    visuals.extreme_bg_color = pick(Color32::from_rgb(18, 20, 23), Color32::from_rgb(246, 247, 248));
    visuals.text_edit_bg_color = Some(pick(Color32::from_rgb(36, 39, 45), Color32::WHITE));
    visuals.code_bg_color = pick(Color32::from_rgb(46, 50, 57), Color32::from_rgb(237, 239, 241));
    visuals.faint_bg_color = pick(Color32::from_rgb(33, 36, 41), Color32::from_rgb(248, 249, 250));
    visuals.window_stroke = Stroke::new(1.0, pick(gray(58), gray(212)));
    visuals.window_corner_radius = radius;
    visuals.menu_corner_radius = radius;
    let shadow =
        Shadow { offset: [0, 4], blur: 16, spread: 0, color: Color32::from_black_alpha(if dark { 110 } else { 40 }) };
    (visuals.window_shadow, visuals.popup_shadow) = (shadow, shadow);
    visuals.weak_text_color = Some(pick(Color32::from_rgb(158, 164, 173), Color32::from_rgb(88, 94, 102)));
    visuals.hyperlink_color = pick(Color32::from_rgb(112, 190, 150), Color32::from_rgb(20, 104, 62));
    visuals.error_fg_color = colors.error;
    visuals.warn_fg_color = colors.warn;
    visuals.selection.bg_fill = pick(Color32::from_rgb(38, 84, 61), Color32::from_rgb(196, 227, 210));
    visuals.selection.stroke = Stroke::new(1.0, pick(Color32::from_rgb(214, 240, 226), Color32::from_rgb(16, 60, 38)));
    visuals.slider_trailing_fill = true;
    // A cursor that blinks draws the window twice a second for nothing.
    visuals.text_cursor.blink = false;

    let widgets = &mut visuals.widgets;
    let text = pick(Color32::from_rgb(222, 225, 230), Color32::from_rgb(31, 35, 40));
    widgets.noninteractive.fg_stroke.color = text;
    widgets.noninteractive.bg_stroke.color = pick(gray(48), gray(224));
    widgets.inactive.fg_stroke.color = text;
    widgets.inactive.weak_bg_fill = pick(Color32::from_rgb(46, 50, 57), Color32::from_rgb(238, 240, 242));
    widgets.inactive.bg_fill = pick(Color32::from_rgb(60, 65, 73), Color32::from_rgb(214, 218, 222));
    widgets.inactive.bg_stroke = Stroke::new(1.0, pick(gray(64), gray(208)));
    widgets.hovered.weak_bg_fill = pick(Color32::from_rgb(56, 61, 69), Color32::from_rgb(228, 231, 234));
    widgets.hovered.bg_stroke = Stroke::new(1.0, pick(gray(92), gray(170)));
    widgets.active.weak_bg_fill = widgets.hovered.weak_bg_fill;
    widgets.open = widgets.hovered;
    widgets.open.weak_bg_fill = pick(Color32::from_rgb(40, 43, 49), Color32::from_rgb(241, 243, 245));
    for widget in [
        &mut widgets.noninteractive,
        &mut widgets.inactive,
        &mut widgets.hovered,
        &mut widgets.active,
        &mut widgets.open,
    ] {
        widget.corner_radius = CornerRadius::same(6);
        widget.expansion = 0.0;
    }

    let mut style = Style { visuals, ..Style::default() };
    style.text_styles = [
        (TextStyle::Small, FontId::new(12.5, FontFamily::Proportional)),
        (TextStyle::Body, FontId::new(15.0, FontFamily::Proportional)),
        (TextStyle::Button, FontId::new(14.0, FontFamily::Proportional)),
        (TextStyle::Heading, FontId::new(20.0, FontFamily::Proportional)),
        (TextStyle::Monospace, FontId::new(13.5, FontFamily::Monospace)),
    ]
    .into();
    style.spacing.item_spacing = Vec2::splat(SPACE);
    style.spacing.button_padding = Vec2::new(10.0, 5.0);
    style.spacing.interact_size.y = 26.0;
    style.spacing.window_margin = Margin::same(16);
    style.spacing.menu_margin = Margin::same(6);
    style.spacing.slider_width = 160.0;
    style.spacing.tooltip_width = 420.0;
    style.url_in_tooltip = true;
    style
}

/// A button that is what one came for.
pub fn primary(ui: &mut Ui, enabled: bool, text: &str) -> Response {
    let colors = colors(ui);
    let text = RichText::new(text).color(colors.on_accent);
    ui.add_enabled(enabled, Button::new(text).fill(colors.accent).stroke(Stroke::NONE))
}

/// A button that does not ask for attention: small words without a frame.
pub fn quiet(ui: &mut Ui, text: &str) -> Response {
    let weak = ui.visuals().weak_text_color();
    let padding = std::mem::replace(&mut ui.spacing_mut().button_padding, Vec2::new(4.0, 2.0));
    let response = ui.add(Button::new(RichText::new(text).small().color(weak)).frame_when_inactive(false));
    ui.spacing_mut().button_padding = padding;
    response
}

/// A quiet button that is on or off.
pub fn toggle(ui: &mut Ui, on: bool, text: &str) -> Response {
    let fill = if on { ui.visuals().widgets.inactive.weak_bg_fill } else { Color32::TRANSPARENT };
    ui.add(Button::selectable(false, RichText::new(text).small()).fill(fill).selected(on).stroke(Stroke::NONE))
}

/// Small words beside the matter.
pub fn aside(ui: &mut Ui, text: impl Into<String>) -> Response {
    ui.label(RichText::new(text).small().weak())
}

/// Contents in a row from the right edge.
pub fn from_the_right<R>(ui: &mut Ui, contents: impl FnOnce(&mut Ui) -> R) -> R {
    // One row high: in a layout that runs downwards, all the height that is left would be taken.
    let size = Vec2::new(ui.available_width(), ui.spacing().interact_size.y);
    ui.allocate_ui_with_layout(size, Layout::right_to_left(Align::Center), contents).inner
}

/// Contents in the middle of the width, no wider than a line of text should be.
pub fn column<R>(ui: &mut Ui, widest: f32, contents: impl FnOnce(&mut Ui) -> R) -> R {
    let width = ui.available_width().min(widest);
    let margin = ((ui.available_width() - width) / 2.0).floor();
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.add_space(margin);
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing.x = SPACE;
            ui.set_width(width);
            contents(ui)
        })
        .inner
    })
    .inner
}

/// A box in the colour of a failure or of care, with words in it.
pub fn alert<R>(ui: &mut Ui, error: bool, contents: impl FnOnce(&mut Ui) -> R) -> R {
    let colors = colors(ui);
    let (fill, edge) = if error { (colors.error_fill, colors.error) } else { (colors.warn_fill, colors.warn) };
    let frame = egui::Frame::new().fill(fill).stroke(Stroke::new(1.0, edge.gamma_multiply(0.5)));
    frame.corner_radius(8.0).inner_margin(Margin::symmetric(12, 8)).show(ui, contents).inner
}
