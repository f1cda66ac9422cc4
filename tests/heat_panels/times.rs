//! The timeline.

use super::made;
use eframe::egui::{Key, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use secateur::app::heat::{Pin, Timeline, timeline};

fn conversation() -> Timeline {
    let heats = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)];
    Timeline::of(heats.map(|(id, index)| made::heat(id, index)).into(), true)
}

fn shown(theme: Theme, width: f32, state: Timeline) -> Harness<'static, Timeline> {
    made::harness([width, 240.0], theme, state, |ui, state| {
        timeline(ui, state);
    })
}

const NAME: &str = "Probe timeline";

#[test]
fn a_timeline_looks_as_it_should() {
    let mut state = conversation();
    state.seek(2);
    state.pin(Pin::A);
    state.seek(6);
    let mut harness = shown(Theme::Dark, 420.0, state);
    harness.run();
    harness.snapshot("heat_timeline");
}

#[test]
fn buttons_step_and_live_goes_back_to_the_newest() {
    let mut harness = shown(Theme::Dark, 420.0, conversation());
    harness.run();
    for _ in 0..2 {
        harness.get_by_label("Previous probe").click();
        harness.run();
    }
    assert_eq!((harness.state().at(), harness.state().live()), (9, false));
    harness.get_by_label("Next probe").click();
    harness.run();
    assert_eq!(harness.state().at(), 10);
    harness.get_by_label("Live").click();
    harness.run();
    assert_eq!((harness.state().at(), harness.state().live()), (11, true));
    assert!(harness.get_by_label("Next probe").accesskit_node().is_disabled());
}

#[test]
fn the_track_is_scrubbed_by_drag_and_keys() {
    let mut harness = shown(Theme::Dark, 420.0, conversation());
    harness.run();
    let track = harness.get_by_label(NAME).rect();
    harness.drag_at(track.right_center());
    harness.run();
    harness.hover_at(track.left_center());
    harness.run();
    harness.drop_at(track.left_center());
    harness.run();
    assert_eq!(harness.state().at(), 0);
    for (key, place) in [(Key::ArrowRight, 1), (Key::PageDown, 11), (Key::ArrowLeft, 10), (Key::Home, 0)] {
        harness.key_press(key);
        harness.run();
        assert_eq!(harness.state().at(), place, "{key:?}");
    }
}

#[test]
fn assistive_technology_steps_too() {
    let mut harness = shown(Theme::Dark, 420.0, conversation());
    harness.run();
    harness.get_by_label(NAME).set_value_accesskit(3.0);
    harness.run();
    harness.get_by_label(NAME).increment_accesskit();
    harness.run();
    assert_eq!(harness.state().at(), 3);
    assert_eq!(harness.get_by_label(NAME).accesskit_node().numeric_value(), Some(4.0));
}

#[test]
fn pins_are_set_compared_and_cleared() {
    let mut harness = shown(Theme::Light, 420.0, conversation());
    harness.run();
    harness.get_by_label("Pin B").click();
    harness.run();
    harness.get_by_label("Previous probe").click();
    harness.run();
    harness.get_by_label("Pin A").click();
    harness.run();
    harness.get_by_label("Compare pins").click();
    harness.run();
    assert_eq!(harness.state().compared(), Some((10, 11)));
    harness.get_by_label("Now: answer 3, probe 5. Then: answer 3, probe 4.");
    harness.get_by_label("Clear pins").click();
    harness.run();
    assert_eq!((harness.state().compared(), harness.state().pinned(Pin::A)), (None, None));
    assert!(harness.query_by_label("Compare pins").is_none(), "there is nothing to compare");
}

#[test]
fn a_point_of_the_curves_tells_its_values() {
    let mut harness = shown(Theme::Dark, 420.0, conversation());
    harness.run();
    harness.get_by_label(NAME).hover();
    harness.run();
    harness.get_by_label_contains("Channels kept: 62.5 %");
    harness.get_by_label_contains("Kept by the probe before too: ");
}

#[test]
fn thousands_of_steps_are_drawn_and_can_be_reached() {
    let heats = [made::heat(1, 0), made::heat(1, 1)];
    let many = (0..5000).map(|step| heats[step % 2].clone()).collect();
    let mut harness = shown(Theme::Dark, 320.0, Timeline::of(many, false));
    harness.run();
    harness.get_by_label(NAME).set_value_accesskit(4321.0);
    harness.run();
    assert_eq!(harness.state().at(), 4320);
}

#[test]
fn an_empty_timeline_says_what_will_fill_it() {
    let mut harness = shown(Theme::Dark, 320.0, Timeline::new());
    harness.run();
    harness.get_by_label_contains("No probe yet");
}
