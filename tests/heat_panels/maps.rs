//! The heatmap and the probed prompt.

use super::made;
use eframe::egui::{self, Key, Theme, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use secateur::app::heat::{Cell, HeatmapView, PromptView, Unit, heatmap, legend, prompt};
use secateur::protocol::Heat;
use std::sync::Arc;

struct Shown {
    view: HeatmapView,
    heat: Arc<Heat>,
    against: Option<Arc<Heat>>,
    pointed: Option<Cell>,
}

fn map(theme: Theme, size: [f32; 2], against: Option<Arc<Heat>>) -> Harness<'static, Shown> {
    let shown = Shown { view: HeatmapView::default(), heat: made::heat(1, 2), against, pointed: None };
    made::harness(size, theme, shown, |ui, shown| {
        shown.pointed = heatmap(ui, &mut shown.view, &shown.heat, shown.against.as_ref()).pointed;
        legend(ui, shown.against.is_some());
    })
}

const NAME: &str = "Heatmap of kept units";

fn scroll(harness: &mut Harness<'static, Shown>, lines: f32) {
    harness.event(egui::Event::MouseWheel {
        unit: egui::MouseWheelUnit::Line,
        delta: vec2(0.0, lines),
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Wheel,
        modifiers: egui::Modifiers::NONE,
    });
    harness.run_steps(8);
}

#[test]
fn the_map_looks_as_it_should_in_the_dark() {
    let mut harness = map(Theme::Dark, [560.0, 400.0], None);
    harness.run();
    harness.snapshot("heat_map_dark");
}

#[test]
fn the_map_looks_as_it_should_in_the_light() {
    let mut harness = map(Theme::Light, [560.0, 400.0], None);
    harness.run();
    harness.snapshot("heat_map_light");
}

#[test]
fn the_map_of_two_pins_looks_as_it_should() {
    let mut harness = map(Theme::Dark, [560.0, 400.0], Some(made::heat(1, 0)));
    harness.run();
    harness.snapshot("heat_map_compared");
}

#[test]
fn a_zoomed_map_shows_single_channels() {
    let mut harness = map(Theme::Dark, [420.0, 400.0], None);
    harness.run();
    harness.get_by_label(NAME).focus();
    harness.run();
    for _ in 0..20 {
        harness.key_press(Key::Plus);
        harness.run();
    }
    for _ in 0..13 {
        harness.key_press(Key::ArrowDown);
        harness.run();
    }
    harness.snapshot("heat_map_zoomed");
}

#[test]
fn a_screen_reader_hears_what_was_kept() {
    let mut harness = map(Theme::Dark, [420.0, 400.0], None);
    harness.run();
    let summary = "probe 3, 896 of 1536 channels and 6 of 9 heads kept in 27 of 30 layers";
    assert_eq!(harness.get_by_label(NAME).value().as_deref(), Some(summary));
}

#[test]
fn the_pointer_reads_a_cell_out() {
    let mut harness = map(Theme::Dark, [560.0, 400.0], None);
    harness.run();
    harness.get_by_label(NAME).hover();
    harness.run();
    let cell = harness.state().pointed.expect("the middle of the map is a cell");
    assert!(matches!(cell.unit, Unit::Channel(_)), "{cell:?}");
    harness.get_by_label(&cell.name());
    harness.get_by_label_contains("rank");
    harness.get_by_label_contains("% history");
    harness.get_by_label_contains("channels share this pixel");
}

#[test]
fn the_keys_walk_over_heads_and_channels() {
    let mut harness = map(Theme::Dark, [560.0, 400.0], None);
    harness.run();
    harness.get_by_label(NAME).focus();
    harness.run();
    // The first press shows the cursor, the next ones move it.
    for key in [Key::ArrowRight, Key::ArrowRight, Key::ArrowDown, Key::ArrowDown, Key::ArrowDown] {
        harness.key_press(key);
        harness.run();
    }
    assert_eq!(harness.state().view.cursor(), Some(Cell { layer: 3, unit: Unit::Channel(1) }));
    let value = harness.get_by_label(NAME).value().unwrap_or_default();
    assert!(value.starts_with("Layer 3, channel 1: "), "{value}");
    for _ in 0..2 {
        harness.key_press(Key::ArrowLeft);
        harness.run();
    }
    assert_eq!(harness.state().view.cursor(), Some(Cell { layer: 3, unit: Unit::Head(8) }));
    harness.key_press_modifiers(egui::Modifiers::SHIFT, Key::ArrowRight);
    harness.run();
    assert_eq!(harness.state().view.cursor(), Some(Cell { layer: 3, unit: Unit::Channel(15) }));
}

#[test]
fn the_wheel_zooms_around_the_pointer_and_a_button_resets() {
    let mut harness = map(Theme::Dark, [560.0, 400.0], None);
    harness.run();
    harness.get_by_label_contains("all 1536 channels");
    harness.get_by_label(NAME).hover();
    harness.run();
    scroll(&mut harness, 3.0);
    harness.get_by_label_contains("all 1536 channels");
    harness.get_by_label(NAME).click();
    harness.run();
    let before = harness.state().pointed;
    scroll(&mut harness, 3.0);
    harness.get_by_label_contains("showing channels");
    let place = |cell: Option<Cell>| match cell.map(|cell| cell.unit) {
        Some(Unit::Channel(channel)) => channel as i64,
        other => panic!("{other:?} is no channel"),
    };
    let (before, after) = (place(before), place(harness.state().pointed));
    assert!((before - after).abs() <= 3, "the channel under the pointer moved from {before} to {after}");
    harness.get_by_label("Reset zoom").click();
    harness.run();
    harness.get_by_label_contains("all 1536 channels");
}

#[test]
fn a_drag_pans() {
    let mut harness = map(Theme::Dark, [560.0, 400.0], None);
    harness.run();
    harness.get_by_label(NAME).focus();
    harness.run();
    for key in [Key::Plus, Key::Plus, Key::Plus] {
        harness.key_press(key);
        harness.run();
    }
    let shown = |harness: &Harness<Shown>| harness.get_by_label_contains("showing channels").value();
    let before = shown(&harness);
    let middle = harness.get_by_label(NAME).rect().center();
    harness.hover_at(middle);
    harness.drag_at(middle);
    harness.run();
    harness.hover_at(middle - vec2(80.0, 0.0));
    harness.run();
    harness.drop_at(middle - vec2(80.0, 0.0));
    harness.run();
    assert_ne!(shown(&harness), before);
    assert!(harness.state().view.cursor().is_none(), "a drag is no click");
}

#[test]
fn the_wheel_moves_the_page_until_the_map_is_clicked() {
    let view = (HeatmapView::default(), 0.0f32);
    let mut harness = made::harness([420.0, 260.0], Theme::Dark, view, |ui, (view, offset)| {
        let area = egui::ScrollArea::vertical().show(ui, |ui| {
            heatmap(ui, view, &made::heat(1, 0), None);
            ui.add_space(600.0);
        });
        *offset = area.state.clamped_offset().y;
    });
    harness.run_steps(4);
    let wheel = |lines: f32| egui::Event::MouseWheel {
        unit: egui::MouseWheelUnit::Line,
        delta: vec2(0.0, lines),
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Wheel,
        modifiers: egui::Modifiers::NONE,
    };
    harness.hover_at(egui::pos2(250.0, 150.0));
    harness.run_steps(2);
    harness.event(wheel(-1.0));
    harness.run_steps(8);
    let moved = harness.state().1;
    assert!(moved > 0.0, "the page moves");
    harness.get_by_label_contains("all 1536 channels");
    harness.get_by_label(NAME).click();
    harness.run_steps(2);
    harness.event(wheel(3.0));
    harness.run_steps(8);
    assert_eq!(harness.state().1, moved, "the page stays while the map zooms");
    harness.get_by_label_contains("showing channels");
}

#[test]
fn a_new_probe_fades_in_and_then_all_is_still() {
    let mut harness = map(Theme::Dark, [420.0, 400.0], None);
    harness.ctx.all_styles_mut(|style| style.animation_time = 0.1);
    harness.run();
    harness.state_mut().heat = made::heat(1, 3);
    harness.step();
    let wants = |harness: &Harness<Shown>| harness.output().viewport_output[&egui::ViewportId::ROOT].repaint_delay;
    assert!(wants(&harness).is_zero(), "it fades");
    harness.run();
    assert!(!wants(&harness).is_zero(), "it is still");
}

#[test]
fn reduced_motion_does_not_fade() {
    let mut harness = map(Theme::Dark, [420.0, 400.0], None);
    harness.ctx.all_styles_mut(|style| style.animation_time = 0.0);
    harness.run();
    harness.state_mut().heat = made::heat(1, 3);
    harness.step();
    assert!(!harness.output().viewport_output[&egui::ViewportId::ROOT].repaint_delay.is_zero());
}

#[test]
fn nothing_is_clipped_in_a_panel_of_any_width_at_any_zoom() {
    for (width, ppp) in [(320.0, 0.8), (320.0, 1.0), (320.0, 2.0), (900.0, 1.5)] {
        let mut harness = map(Theme::Light, [width, 460.0], Some(made::heat(1, 0)));
        harness.ctx.set_zoom_factor(ppp);
        harness.set_size(vec2(width, 460.0) / ppp).run();
        let edge = harness.ctx.content_rect().right();
        let mut seen = 0;
        for node in harness.root().children_recursive() {
            let Some(bounds) = node.accesskit_node().bounding_box() else { continue };
            let right = bounds.x1 as f32 / harness.ctx.pixels_per_point();
            assert!(right <= edge, "{:?} reaches {right} of {edge} at {ppp}", node.accesskit_node().value());
            seen += 1;
        }
        assert!(seen > 6, "the map, its headline and its legend");
    }
}

#[test]
fn a_prompt_says_how_it_was_probed() {
    let pieces: Vec<String> = ["<s>", "Why", " is", " the", " sky", " blue", "?", "\n"].map(String::from).into();
    let state = (PromptView::default(), made::heat(1, 0), pieces);
    let mut harness = made::harness([320.0, 130.0], Theme::Dark, state, |ui, (view, heat, pieces)| {
        prompt(ui, view, pieces, heat);
    });
    harness.run();
    harness.get_by_label_contains("Underlined tokens were probed");
    harness.get_by_label_contains("Why is the sky blue?");
    harness.snapshot("heat_prompt");
    let mut every = (*made::heat(1, 0)).clone();
    for layer in &mut every.layers {
        layer.heads.iter_mut().chain(&mut layer.channels).for_each(|block| block.probed.clear());
    }
    harness.state_mut().1 = Arc::new(every);
    harness.run();
    harness.get_by_label("Every token was probed.");
    harness.state_mut().0.layer = Some(0);
    harness.run();
    harness.get_by_label_contains("Nothing was probed here");
}
