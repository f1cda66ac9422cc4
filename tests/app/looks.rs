//! How the window looks.

use super::desk::{Desk, Opening, finished, heat, token};
use eframe::egui::{Key, Modifiers, Vec2};
use egui_kittest::SnapshotResults;
use secateur::protocol::{Event, Prompt, Stop};

const ANSWER: &str = "The sky is blue because of **Rayleigh scattering**:\n\n\
1. Sunlight holds all colours.\n2. Air scatters short waves more than long ones.\n\n\
The strength goes with the fourth power:\n\n```python\ndef scattering(wavelength):\n    return wavelength ** -4\n```\n\n\
| Colour | nm |\n|---|---|\n| blue | 450 |\n| red | 700 |\n\nSo we see `blue` light from everywhere.";

fn with_conversations(theme: &'static str, size: Vec2) -> Desk {
    let mut desk = Opening { theme, size, ..Opening::new() }.open_ready();
    desk.exchange("How do I prune roses?", "In late winter, above a bud that faces out.");
    desk.ctrl(Key::N);
    desk.exchange("Why is the sky blue?", ANSWER);
    desk.ask("And why is it red in the evening?\nExplain it briefly.");
    let id = desk.last_request().id;
    let pieces = [
        "<|im_start|>",
        "user
",
        "And",
        " why",
        " is",
        " it",
        " red",
        " in the evening?
Explain it briefly.",
    ];
    let prompt = Prompt { pieces: pieces.map(String::from).to_vec(), ..Prompt::default() };
    let said = "In the evening the light comes a longer way through the air";
    let answer = [Event::Started { id, prompt }, heat(id, 0), token(id, said), heat(id, 1), finished(id, Stop::Length)];
    desk.tell(answer);
    desk.ctrl(Key::End);
    desk
}

#[test]
fn the_window_looks_as_it_should_in_both_themes() {
    let mut results = SnapshotResults::new();
    for (theme, name) in [("dark", "app_dark"), ("light", "app_light")] {
        let mut desk = with_conversations(theme, Vec2::new(1280.0, 800.0));
        desk.window.snapshot(name);
        results.extend_harness(&mut desk.window);
    }
}

#[test]
fn a_window_without_a_model_offers_some() {
    let mut desk = Opening::new().open();
    desk.window.snapshot("app_empty");
}

#[test]
fn the_settings_of_a_chat_fit_into_a_small_window() {
    let mut desk = Opening { theme: "light", size: Vec2::new(900.0, 640.0), ..Opening::new() }.open_ready();
    desk.key(Modifiers::COMMAND, Key::P);
    desk.window.snapshot("app_settings");
}
