//! The window over a real session on a small model: what the panels ask for happens, and what happens is shown.

mod common;

use common::tiny_model::{TinySpec, write_gguf};
use eframe::egui::accesskit::Role;
use eframe::egui::{Event, Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use secateur::app::{App, Link, Setup, system_clock};
use secateur::chat::{ChatSettings, Node, Store};
use secateur::config::{Method, PruneConfig, SamplingConfig};
use secateur::protocol::{Heat, Stop};
use secateur::session::Handle;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for the engine: the first shaders of a cold cache take a while.
const PATIENCE: Duration = Duration::from_secs(180);

struct Desk {
    window: Harness<'static, App>,
    folder: TempDir,
}

impl Desk {
    /// A window whose model is loaded, for answers of 30 tokens.
    fn open() -> Desk {
        Desk::open_for(30)
    }

    /// For answers of `max_tokens`. Chats are greedy, prune two of three layers, and re-probe every four tokens.
    fn open_for(max_tokens: usize) -> Desk {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("tiny.gguf");
        write_gguf(&model, &TinySpec { layers: 3, channels: 192, seed: 5, ..TinySpec::default() });
        let path = folder.path().join("chats.sqlite");
        let store = Store::open(&path).expect("a store");
        let prune = PruneConfig {
            method: Method::Pp,
            ratio: 0.4,
            dense_layers: 1,
            tile: 8,
            reprobe_every: 4,
            ..PruneConfig::default()
        };
        let settings =
            ChatSettings { sampling: SamplingConfig::default(), max_tokens, prune, ..ChatSettings::default() };
        let fresh = serde_json::json!({ "theme": "dark", "fresh": settings });
        store.set_setting("window", &fresh.to_string()).expect("a setting");
        let setup = Setup {
            store: Ok(store),
            path,
            model: Some(model.display().to_string()),
            device: None,
            context: Some(512),
            catalogue: Vec::new(),
            link: Link::default(),
            clock: system_clock,
        };
        let engine = Box::new(Handle::start(|| ()).expect("a thread"));
        // Random weights write what no font has.
        let builder = Harness::builder().with_size([1280.0, 1000.0]).with_max_steps(60).allow_missing_glyphs();
        let window = builder.build_eframe(|creation| App::new(&creation.egui_ctx, setup, engine));
        let mut desk = Desk { window, folder };
        desk.until("the model", |app| app.state().ready().is_some());
        desk
    }

    /// Draws frames until `seen` holds.
    fn until(&mut self, what: &str, mut seen: impl FnMut(&App) -> bool) {
        let started = Instant::now();
        while !seen(self.window.state()) {
            assert!(started.elapsed() < PATIENCE, "{what} did not come");
            std::thread::sleep(Duration::from_millis(5));
            self.window.step();
        }
        self.window.run_ok();
    }

    fn click(&mut self, name: &str) {
        self.window.get_by_label(name).click();
        self.window.step();
    }

    fn ask(&mut self, question: &str) {
        self.window.get_by_role_and_label(Role::MultilineTextInput, "Message").focus();
        self.window.step();
        self.window.event(Event::Text(question.into()));
        self.window.step();
        self.click("Send");
        assert!(self.window.state().state().is_busy(), "nothing was sent");
    }

    fn finish(&mut self) -> Node {
        self.until("the answer", |app| !app.state().is_busy());
        self.answer()
    }

    fn answer(&self) -> Node {
        self.window.state().state().last_answer().expect("an answer").clone()
    }

    fn heats(&self) -> &[Arc<Heat>] {
        &self.window.state().state().heats
    }

    fn has(&self, text: &str) -> bool {
        self.window.query_all_by_label_contains(text).next().is_some()
    }
}

#[test]
fn a_question_is_sent_answered_pruned_and_kept() {
    let mut desk = Desk::open();
    desk.ask("Hello there, what is this?");
    let answer = desk.finish();
    let figures = answer.figures.expect("figures");
    assert_eq!((answer.error, answer.stop), (None, Some(Stop::Length)));
    assert_eq!(figures.answer_tokens, 30);
    // One probe for the prompt, then one for every four tokens that ran.
    assert_eq!(desk.heats().len(), 1 + (figures.decoded - 1) / 4);
    assert!(figures.decode.removed() > 0.0 && figures.decode.flops_probe > 0.0);
    let channels = desk.heats()[0].layers[1].channels.as_ref().expect("a pruned layer").kept.len();
    let map = desk.window.get_by_label("Heatmap of kept units").value().expect("a value");
    assert!(map.contains(&format!("{channels} of 192 channels")), "{map}");
    assert!(desk.has("tokens/s") && desk.has("FLOPs removed"));

    // The file has all of it once the window is closed.
    let Desk { window, folder } = desk;
    let (heats, text) = (window.state().state().heats.clone(), answer.text);
    drop(window);
    let store = Store::open(&folder.path().join("chats.sqlite")).expect("the file");
    let id = store.headers().expect("a list")[0].id;
    let kept = store.load(id).expect("the conversation");
    let node = *kept.path().last().expect("an answer");
    assert_eq!(node.text, text);
    let found = store.heats(id, node.id).expect("probes");
    assert_eq!(found.len(), heats.len());
    for (found, heat) in found.iter().zip(&heats) {
        for (found, shown) in found.layers.iter().zip(&heat.layers) {
            let kept = |units: &Option<secateur::protocol::UnitHeat>| units.as_ref().map(|units| units.kept.clone());
            assert_eq!((kept(&found.heads), kept(&found.channels)), (kept(&shown.heads), kept(&shown.channels)));
        }
    }
}

#[test]
fn a_stop_ends_the_answer_and_leaves_what_was_said() {
    // Long enough to be caught in the middle by the fastest device.
    let mut desk = Desk::open_for(400);
    desk.ask("Hello there");
    desk.until("a few tokens", |app| app.state().figures().is_some_and(|figures| figures.answer_tokens >= 3));
    desk.click("Stop");
    let part = desk.finish();
    assert_eq!(part.stop, Some(Stop::Stopped));
    assert!(!part.text.is_empty() && part.figures.expect("figures").answer_tokens < 400);
    desk.click("Continue");
    let whole = desk.finish();
    assert_eq!(whole.id, part.id);
    assert!(whole.text.starts_with(&part.text) && whole.text.len() > part.text.len());
}

#[test]
fn the_slider_reaches_the_engine() {
    let mut desk = Desk::open();
    desk.ask("Hello there");
    desk.finish();
    let kept = |heat: &Heat| heat.layers[2].channels.as_ref().map(|units| units.kept.len());
    let before = kept(&desk.heats()[0]);
    desk.window.get_by_role_and_label(Role::Slider, "Pruning ratio").set_value_accesskit(0.6);
    desk.window.run();
    desk.ask("And now?");
    desk.finish();
    let last = desk.heats().last().expect("a probe").clone();
    // 3/2 of 0.6 of 192 channels are left out, in tiles of 8; before, 3/2 of 0.4.
    assert_eq!((before, kept(&last), last.ratio), (Some(80), Some(24), 0.6));
}

#[test]
fn conversations_are_switched_and_their_probes_with_them() {
    let mut desk = Desk::open();
    desk.ask("First question");
    let first = desk.finish();
    let probes = desk.heats().len();
    desk.window.key_press_modifiers(Modifiers::COMMAND, Key::N);
    desk.window.run();
    assert!(desk.heats().is_empty());
    desk.ask("Second question, which is another one");
    let second = desk.finish();
    assert_ne!(first.text, second.text);
    let row = desk.window.query_all_by_label_contains("First question").next().expect("a row of the list");
    row.click();
    desk.window.run();
    assert_eq!((desk.answer().text, desk.heats().len()), (first.text, probes));
}

#[test]
fn the_timeline_is_scrubbed_by_name_and_by_key() {
    let mut desk = Desk::open();
    desk.ask("Hello there");
    desk.finish();
    let count = desk.heats().len();
    assert!(desk.has(&format!("({count} of {count} in all)")), "the newest probe is shown");
    desk.click("Previous probe");
    desk.window.run();
    assert!(desk.has(&format!("({} of {count} in all)", count - 1)));
    desk.window.get_by_role_and_label(Role::Slider, "Probe timeline").focus();
    desk.window.run();
    desk.window.key_press_modifiers(Modifiers::NONE, Key::Home);
    desk.window.run();
    assert!(desk.has(&format!("(1 of {count} in all)")));
    // A new answer does not tear the reader away.
    desk.ask("And now?");
    desk.finish();
    assert!(desk.has(&format!("(1 of {} in all)", desk.heats().len())));
    desk.click("Live");
    desk.window.run();
    let all = desk.heats().len();
    assert!(desk.has(&format!("({all} of {all} in all)")));
}

#[test]
fn a_comparison_runs_and_stands_beside_the_answer() {
    let mut desk = Desk::open();
    desk.ask("Hello there");
    desk.finish();
    desk.window.query_all_by_label("Compare with dense").next().expect("a button").click_accesskit();
    let answer = |app: &App| app.state().last_answer().and_then(|node| node.comparison.clone());
    desk.until("the comparison", |app| answer(app).is_some_and(|comparison| comparison.complete));
    let compared = answer(desk.window.state()).expect("a comparison");
    assert!(compared.complete && compared.tokens > 0 && compared.pruned_perplexity.is_some(), "{compared:?}");
    assert!(desk.has("on the same tokens") && desk.has("perplexity of this answer"));
}
