//! A window at work without a display and without a device.

#[path = "../common/smollm2.rs"]
mod smollm2;

use eframe::egui::{self, Role, Vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use secateur::app::{App, Engine, Link, Setup};
use secateur::chat::Store;
use secateur::config::Method;
use secateur::protocol::{
    Cause, Command, Cost, Event, Figures, Heat, LayerHeat, ModelInfo, Prompt, Request, Stop, UnitHeat,
};
use secateur::session::CatalogueItem;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// An engine that only remembers what it was asked, and says what a test puts in.
#[derive(Clone, Default)]
pub struct Words {
    pub asked: Rc<RefCell<Vec<Command>>>,
    pub stops: Rc<Cell<usize>>,
    events: Rc<RefCell<Vec<Event>>>,
}

impl Engine for Words {
    fn send(&self, command: Command) {
        self.asked.borrow_mut().push(command);
    }

    fn stop(&self) {
        self.stops.set(self.stops.get() + 1);
    }

    fn drain(&self) -> Vec<Event> {
        self.events.take()
    }
}

/// A window, its engine, and its folder.
pub struct Desk {
    pub window: Harness<'static, App>,
    pub words: Words,
}

/// A day in 2026, in milliseconds since 1970.
const NOON: i64 = 1_780_315_200_000;

/// How a window is opened.
pub struct Opening {
    pub store: secateur::Result<Store>,
    pub path: PathBuf,
    pub theme: &'static str,
    pub size: Vec2,
    pub pulled: bool,
}

impl Opening {
    /// A dark window of 1280 by 800 without a file, with a model in the catalogue that is not here.
    pub fn new() -> Opening {
        Opening {
            store: Store::in_memory(),
            path: PathBuf::from("/home/user/secateur/chats.sqlite"),
            theme: "dark",
            size: Vec2::new(1280.0, 800.0),
            pulled: false,
        }
    }

    /// One over a file.
    pub fn over(path: &Path) -> Opening {
        Opening { store: Store::open(path), path: path.to_path_buf(), ..Opening::new() }
    }

    pub fn open(self) -> Desk {
        if let Ok(store) = &self.store {
            let remembered = store.setting("window").expect("a setting");
            let theme = format!("{{\"theme\": \"{}\"}}", self.theme);
            store.set_setting("window", &remembered.unwrap_or(theme)).expect("a setting");
        }
        let words = Words::default();
        let engine = Box::new(words.clone());
        let item = CatalogueItem {
            name: "smollm2-135m".into(),
            title: "SmolLM2 135M Instruct, Q4_1".into(),
            bytes: 98_362_432,
            parameters: 134_515_008,
            licence: "Apache-2.0".into(),
            pulled: self.pulled,
            default: true,
        };
        let catalogue = vec![item];
        let (model, device, context) = (None, None, None);
        let setup = Setup {
            store: self.store,
            path: self.path,
            model,
            device,
            context,
            catalogue,
            link: Link::default(),
            clock: || NOON,
        };
        let builder = Harness::builder().with_size(self.size).with_max_steps(20);
        let window = builder.wgpu().build_eframe(|creation| App::new(&creation.egui_ctx, setup, engine));
        Desk { window, words }
    }

    /// One whose model is ready.
    pub fn open_ready(self) -> Desk {
        let mut desk = self.open();
        desk.tell([Event::Loaded(Box::new(model()))]);
        desk
    }
}

impl Desk {
    /// The engine says this.
    pub fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        self.words.events.borrow_mut().extend(events);
        self.window.run();
    }

    pub fn click(&mut self, name: &str) {
        self.window.get_by_label(name).click();
        self.window.run();
    }

    /// Types into the field of this name, behind what it holds.
    pub fn type_into(&mut self, name: &str, text: &str) {
        let role = |role| self.window.query_by_role_and_label(role, name);
        let field = role(Role::MultilineTextInput).or_else(|| role(Role::TextInput)).expect("a field");
        field.focus();
        self.window.run();
        self.window.event(egui::Event::Text(text.into()));
        self.window.run();
    }

    pub fn has(&self, text: &str) -> bool {
        self.window.query_all_by_label_contains(text).next().is_some()
    }

    pub fn key(&mut self, modifiers: egui::Modifiers, key: egui::Key) {
        self.window.key_press_modifiers(modifiers, key);
        self.window.run();
    }

    pub fn ctrl(&mut self, key: egui::Key) {
        self.key(egui::Modifiers::COMMAND, key);
    }

    /// Types a question and sends it; the request that the engine gets.
    pub fn ask(&mut self, text: &str) -> Request {
        self.type_into("Message", text);
        self.key(egui::Modifiers::NONE, egui::Key::Enter);
        self.last_request()
    }

    /// The request that the engine got last.
    pub fn last_request(&self) -> Request {
        let asked = self.words.asked.borrow();
        let request = asked.iter().rev().find_map(|command| match command {
            Command::Answer(request) | Command::Compare(request) => Some((**request).clone()),
            _ => None,
        });
        request.expect("a request")
    }

    pub fn requests(&self) -> usize {
        let is_request = |command: &&Command| matches!(command, Command::Answer(_) | Command::Compare(_));
        self.words.asked.borrow().iter().filter(is_request).count()
    }

    /// The engine answers the last request.
    pub fn answer(&mut self, text: &str) {
        let id = self.last_request().id;
        self.tell([started(id), token(id, text), finished(id, Stop::End)]);
    }

    /// A question, and the answer to it.
    pub fn exchange(&mut self, question: &str, answer: &str) {
        self.ask(question);
        self.answer(answer);
    }
}

pub fn started(id: u64) -> Event {
    Event::Started { id, prompt: Prompt::default() }
}

pub fn token(id: u64, text: &str) -> Event {
    Event::Token { id, text: text.into(), figures: figures() }
}

pub fn finished(id: u64, stop: Stop) -> Event {
    Event::Finished { id, stop, figures: figures() }
}

/// A probe of the request `id`: behind three dense layers, a smooth choice of channels that `index` shifts.
pub fn heat(id: u64, index: usize) -> Event {
    let layers = (0..30).map(|layer| {
        let score = |unit: usize| ((unit * 37 + layer * 101 + index * 13) % 997) as f32 / 997.0 + 0.01;
        let units = |total: usize, kept: usize| {
            let scores: Vec<f32> = (0..total).map(score).collect();
            let mut order: Vec<u32> = (0..total as u32).collect();
            order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
            let mut kept = order[..kept].to_vec();
            kept.sort_unstable();
            Some(UnitHeat { kept, from_history: vec![0.3; total], scores, probed: vec![0, 2, 3, 5] })
        };
        match layer {
            0..3 => LayerHeat::default(),
            _ => LayerHeat { heads: units(9, 6), channels: units(1536, 896) },
        }
    });
    let (cause, method) = (if index == 0 { Cause::Prompt } else { Cause::Renewal }, Method::Pp);
    let (heads, channels, at, ratio) = (9, 1536, 36 + 16 * index, 0.4);
    Event::Heat(Arc::new(Heat { id, index, cause, at, method, ratio, heads, channels, layers: layers.collect() }))
}

/// What an answer took.
pub fn figures() -> Figures {
    let prefill = Cost { flops: 100.0, flops_dense: 100.0, flops_probe: 0.0, bytes: 50.0, bytes_dense: 50.0 };
    let decode = Cost { flops: 80.0, flops_dense: 100.0, flops_probe: 2.0, bytes: 45.0, bytes_dense: 50.0 };
    Figures {
        prompt_tokens: 700,
        prefilled: 36,
        prefill_seconds: 0.4,
        first_token_seconds: 0.42,
        answer_tokens: 112,
        decoded: 111,
        decode_seconds: 4.0,
        context_used: 812,
        memory: 151_000_000,
        prefill,
        decode,
    }
}

/// SmolLM2 135M, as the engine describes it.
pub fn model() -> ModelInfo {
    ModelInfo {
        name: "smollm2-135m".into(),
        path: PathBuf::from("/home/user/models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        format: "GGUF, Q4_1".into(),
        config: smollm2::config(),
        context: 4096,
        device: "llvmpipe (LLVM 15.0.6, 256 bits)".into(),
        seconds: 0.6,
        memory: 148_000_000,
        calibration: None,
    }
}
