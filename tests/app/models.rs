//! Models: opening, downloading, failing, losing the device.

use super::desk::{Opening, finished, heat, model, started, token};
use eframe::egui::{self, Key, Modifiers, Role};
use egui_kittest::kittest::Queryable;
use secateur::chat::{Store, export_json};
use secateur::protocol::{Command, Device, Event, MasksFile, Stop};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn a_model_of_the_catalogue_is_downloaded_with_a_way_out() {
    let mut desk = Opening::new().open();
    desk.click("Download SmolLM2 135M Instruct, Q4_1");
    let asked = desk.words.asked.borrow().last().cloned();
    assert!(
        matches!(&asked, Some(Command::Pull { name, load }) if name == "smollm2-135m" && load.context == 4096),
        "{asked:?}"
    );
    let loading = |share| Event::Loading { model: "smollm2-135m".into(), stage: "downloading".into(), share };
    desk.tell([loading(Some(0.42))]);
    assert!(desk.has("downloading 42 %"));
    let before = desk.words.stops.get();
    desk.window.get_all_by_label("Cancel").next().expect("a button").click();
    desk.window.run();
    assert_eq!(desk.words.stops.get(), before + 1);
    desk.tell([Event::LoadFailed { model: "smollm2-135m".into(), error: None }]);
    assert!(desk.has("Open a model to begin") && !desk.has("could not be loaded"));
}

#[test]
fn a_model_that_is_here_is_opened_at_the_start() {
    let mut desk = Opening { pulled: true, ..Opening::new() }.open();
    let asked = desk.words.asked.borrow().clone();
    assert!(matches!(asked.as_slice(), [Command::Load(load)] if load.model == "smollm2-135m"), "{asked:?}");
    // A question may come before the model does.
    assert_eq!(desk.ask("Hello").messages[0].content, "Hello");
    desk.tell([Event::Loaded(Box::new(model()))]);
    desk.answer("Hi");
    assert!(desk.has("Hi"));
}

#[test]
fn nothing_is_downloaded_before_the_user_says_so() {
    let store = Store::in_memory().expect("a store");
    store.set_setting("window", r#"{"model": "smollm2-135m"}"#).expect("a setting");
    let desk = Opening { store: Ok(store), ..Opening::new() }.open();
    assert!(desk.words.asked.borrow().is_empty() && desk.has("Open a model to begin"));
}

#[test]
fn a_model_that_cannot_be_loaded_says_why_in_place() {
    let mut desk = Opening::new().open();
    desk.type_into("Path of a model", "/models/broken.gguf");
    desk.key(Modifiers::NONE, Key::Enter);
    let asked = desk.words.asked.borrow().last().cloned();
    assert!(matches!(&asked, Some(Command::Load(load)) if load.model == "/models/broken.gguf"), "{asked:?}");
    let error = Some("/models/broken.gguf: it ends in the middle of a tensor".to_string());
    desk.tell([Event::LoadFailed { model: "/models/broken.gguf".into(), error }]);
    assert!(desk.has("broken.gguf could not be loaded") && desk.has("ends in the middle of a tensor"));
    desk.click("Try again");
    assert_eq!(desk.words.asked.borrow().len(), 2);
}

#[test]
fn a_lost_device_leaves_the_conversation_whole() {
    let mut desk = Opening::new().open_ready();
    let id = desk.ask("Hello").id;
    desk.tell([started(id), token(id, "Half an")]);
    desk.tell([
        Event::Failed { id, error: "the GPU was lost in the middle of the answer: ask again".into() },
        Event::DeviceLost { error: "VK_ERROR_DEVICE_LOST".into() },
    ]);
    assert!(desk.has("the model is loading again") && desk.has("Half an") && desk.has("Retry"));
    desk.tell([Event::Loaded(Box::new(model()))]);
    assert!(!desk.has("the model is loading again"));
    desk.click("Retry");
    desk.answer("Whole");
    assert!(desk.has("Whole"));
}

#[test]
fn a_model_is_deleted_on_the_second_click() {
    let mut desk = Opening { pulled: true, ..Opening::new() }.open_ready();
    desk.click("Model: smollm2-135m");
    let asked = desk.words.asked.borrow().len();
    desk.click("Delete SmolLM2 135M Instruct, Q4_1");
    assert_eq!(desk.words.asked.borrow().len(), asked, "nothing goes on the first");
    desk.click("Delete the file of SmolLM2 135M Instruct, Q4_1");
    let last = desk.words.asked.borrow().last().cloned();
    assert!(matches!(&last, Some(Command::Delete(name)) if name == "smollm2-135m"), "{last:?}");
    desk.tell([Event::Deleted { name: "smollm2-135m".into(), error: Some("the disk is gone".into()) }]);
    assert!(desk.has("the disk is gone"));
    desk.tell([Event::Deleted { name: "smollm2-135m".into(), error: None }]);
    assert!(desk.has("smollm2-135m was deleted."));
    assert!(desk.window.query_by_label("Download SmolLM2 135M Instruct, Q4_1").is_some());
    assert!(desk.window.query_by_label("Delete SmolLM2 135M Instruct, Q4_1").is_none());
}

#[test]
fn another_device_holds_from_the_next_load_on() {
    let mut desk = Opening { pulled: true, ..Opening::new() }.open_ready();
    desk.ctrl(Key::Comma);
    assert!(matches!(desk.words.asked.borrow().last(), Some(Command::Devices)));
    let device = |index, name: &str| Device { index, name: name.into(), kind: "Vulkan, DiscreteGpu".into() };
    desk.tell([Event::Devices(vec![device(0, "Big GPU"), device(1, "Small GPU")])]);
    desk.window.get_by_role_and_label(Role::ComboBox, "Device").click();
    desk.window.run();
    desk.click("Small GPU (Vulkan, DiscreteGpu)");
    desk.click("Load the model again");
    let asked = desk.words.asked.borrow().last().cloned();
    assert!(matches!(&asked, Some(Command::Load(load)) if load.device.as_deref() == Some("Small GPU")), "{asked:?}");
}

#[test]
fn pruning_set_while_an_answer_grows_reaches_the_engine_and_waits_for_a_probe() {
    let pending = "Takes effect with the next prompt or re-probe";
    let mut desk = Opening::new().open_ready();
    let id = desk.ask("Hello").id;
    desk.tell([started(id), token(id, "Hi")]);
    assert!(!desk.has(pending));
    desk.window.get_by_role_and_label(Role::Slider, "Pruning ratio").set_value_accesskit(0.4);
    desk.window.run();
    let asked = desk.words.asked.borrow().last().cloned();
    assert!(matches!(&asked, Some(Command::Prune { prune, .. }) if prune.ratio == 0.4), "{asked:?}");
    assert!(desk.has(pending));
    // The probe of these tests is one at 0.4.
    desk.tell([heat(id, 0)]);
    assert!(!desk.has(pending));
    desk.tell([finished(id, Stop::End)]);
    assert_eq!(desk.ask("Again").prune.ratio, 0.4);
}

#[test]
fn masks_of_an_evaluation_stand_in_for_the_conversation_until_they_are_closed() {
    let mut desk = Opening::new().open_ready();
    let id = desk.ask("Hello").id;
    desk.tell([started(id), heat(id, 0), token(id, "Hi"), finished(id, Stop::End)]);
    let batches = (0..5).map(|batch| match heat(batch, 0) {
        Event::Heat(heat) => heat,
        other => panic!("{other:?}"),
    });
    let title = "pp at 0.4, 10 x 256 tokens".to_string();
    let file = MasksFile { path: PathBuf::from("/results/masks.bin"), title, batches: batches.collect() };
    desk.tell([Event::Masks(Box::new(file))]);
    assert!(desk.has("masks.bin") && desk.has("pp at 0.4, 10 x 256 tokens") && !desk.has("What to prune"));
    assert!(desk.window.query_by_label("Heatmap of kept units").is_some());
    desk.click("Back to the conversation");
    assert!(!desk.has("masks.bin") && desk.has("What to prune"));
    desk.tell([Event::MasksFailed { error: "/results/masks.bin is no masks file".into() }]);
    assert!(desk.has("is no masks file"));
    desk.click("Dismiss");
    assert!(!desk.has("is no masks file"));
}

/// A path that is let go above the window.
#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("the window reads no dropped file itself".into())
    }
}

#[test]
fn a_dropped_model_is_loaded_and_a_dropped_conversation_is_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = Opening::new().open_ready();
    desk.window.input_mut().dropped_files.push(Arc::new(Dropped("/models/other.gguf".into())));
    desk.window.run();
    let asked = desk.words.asked.borrow().last().cloned();
    assert!(matches!(&asked, Some(Command::Load(load)) if load.model == "/models/other.gguf"), "{asked:?}");

    desk.exchange("Hello", "Hi there");
    let exported = export_json(desk.window.state().state().conversation().expect("a conversation"));
    let file = folder.path().join("hello.json");
    std::fs::write(&file, exported).expect("a file");
    desk.window.input_mut().dropped_files.push(Arc::new(Dropped(file)));
    desk.window.run();
    let begun = Instant::now();
    while desk.window.state().state().headers.len() < 2 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
        desk.window.run();
    }
    assert_eq!(desk.window.state().state().headers.len(), 2);
    assert!(desk.has("Hi there"));
}
