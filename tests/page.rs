//! What the window shows of a conversation, as data: the browser's test holds its page against this very run.

mod common;

use common::tiny_model::{TinySpec, write_gguf};
use eframe::egui::accesskit::Role;
use eframe::egui::{Event, Key};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use secateur::app::{App, Link, Setup, report, system_clock};
use secateur::chat::Store;
use secateur::session::Handle;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for the engine.
const PATIENCE: Duration = Duration::from_secs(240);
/// Like the address that the browser's test opens.
const LINK: &[(&str, &str)] =
    &[("temperature", "0"), ("repetition_penalty", "1"), ("ratio", "0.4"), ("method", "pp"), ("max_tokens", "40")];
/// What is asked, in the field.
const QUESTION: &str = "Once upon a time there was a little robot";

/// Runs one question, and leaves what is shown (`page-reference.json`) and the model (`page-model.gguf`) in the folder of cargo's
/// output: a trained toy where it is there, else random weights.
#[test]
fn a_linked_conversation_is_reported_as_it_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chats.sqlite");
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_secateur"));
    let output = binary.ancestors().nth(2).expect("the folder of cargo's output");
    let model = output.join("page-model.gguf");
    let trained = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/models/stories260K.gguf");
    if std::fs::read(trained).and_then(|bytes| std::fs::write(&model, bytes)).is_err() {
        write_gguf(&model, &TinySpec { layers: 5, channels: 192, seed: 5, ..TinySpec::default() });
    }
    let link = Link::new(LINK.iter().map(|(name, value)| (name.to_string(), value.to_string()))).expect("a link");
    let setup = Setup {
        store: Store::open(&path),
        path,
        model: Some(model.display().to_string()),
        device: None,
        context: None,
        catalogue: Vec::new(),
        link,
        clock: system_clock,
    };
    let engine = Box::new(Handle::start(|| ()).expect("a thread"));
    let builder = Harness::builder().with_size([1280.0, 800.0]).with_max_steps(60).allow_missing_glyphs();
    let mut window = builder.build_eframe(|creation| App::new(&creation.egui_ctx, setup, engine));
    let until = |window: &mut Harness<'static, App>, what: &str, seen: &dyn Fn(&App) -> bool| {
        let started = Instant::now();
        while !seen(window.state()) {
            assert!(started.elapsed() < PATIENCE, "{what} did not come");
            std::thread::sleep(Duration::from_millis(5));
            window.step();
        }
    };
    until(&mut window, "the model", &|app| app.state().ready().is_some());
    window.get_by_role_and_label(Role::MultilineTextInput, "Message").focus();
    window.step();
    window.event(Event::Text(QUESTION.into()));
    window.step();
    window.key_press(Key::Enter);
    window.step();
    assert!(window.state().state().is_busy(), "nothing was sent");
    until(&mut window, "the answer", &|app| !app.state().is_busy());

    let shown = report(window.state().state());
    assert_eq!(shown["model"]["status"], "ready");
    assert_eq!(shown["ratio"], 0.4);
    let messages = shown["messages"].as_array().expect("messages");
    assert_eq!(messages[0]["text"], QUESTION);
    assert_eq!(messages[1]["figures"]["answer_tokens"], 40);
    let layers = shown["heats"][0]["layers"].as_array().expect("layers");
    let kept = |layer: &serde_json::Value| layer["channels"].as_array().map(Vec::len);
    assert!(kept(&layers[0]).is_none(), "the first layers are dense");
    assert!(kept(layers.last().expect("a layer")).is_some_and(|kept| kept > 0), "the last ones are pruned");

    std::fs::write(output.join("page-reference.json"), shown.to_string())
        .expect("the reference for the browser's test");
}
