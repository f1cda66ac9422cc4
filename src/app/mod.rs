//! The window: state, panels, theme. Panels take state and return what the user wants; nothing here waits for a device.
//!
//! - [`state::State`] is everything that is shown, as plain data, and the two functions that change it;
//! - each panel is a function over that state and the view (what only the eye needs), and pushes [`Act`]s;
//! - [`App`] carries them out, once a frame, after everything is drawn.
//!
//! Invariants: the window is drawn only when something happened; files are read and written on other threads; a frame
//! begins with the events that came since the last one.

mod composer;
mod files;
pub mod heat;
mod icon;
mod inspector;
#[cfg(target_arch = "wasm32")]
mod keeper;
mod link;
mod markdown;
mod message;
mod messages;
mod models;
mod notice;
mod preferences;
mod report;
mod sheet;
mod shortcuts;
mod sidebar;
pub mod state;
mod theme;
mod trouble;
mod view;
mod welcome;
mod words;

pub use icon::icon;
#[cfg(target_arch = "wasm32")]
pub use keeper::{open as open_store, reload};
pub use link::Link;
pub use report::report;

use crate::chat::{Store, export_json, export_markdown};
use crate::error::{Error, Result};
use crate::protocol::{Command, Event};
use crate::session::{CatalogueItem, Handle};
use eframe::egui::{
    self, Align2, CentralPanel, Color32, Context, Frame, Id, LayerId, Margin, Order, Panel, RichText, ScrollArea, Ui,
};
use files::{Files, Outcome};
use notice::Notice;
use sidebar::Clock;
use state::{Intent, Preferences, State};
use std::path::{Path, PathBuf};
use view::{View, Window};
use web_time::{SystemTime, UNIX_EPOCH};

/// Whether the window is a page in a browser, which has neither folders nor paths, and keeps some keys for itself.
const PAGE: bool = cfg!(target_arch = "wasm32");
/// Narrower pages show one column.
const PHONE: f32 = 620.0;
/// Narrowest window that has room for three columns, in points.
const NARROW: f32 = 940.0;

/// Format of an exported conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The path that is shown, to be read.
    Markdown,
    /// The whole tree, to be imported again.
    Json,
}

/// What a panel wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A change of the state.
    State(Intent),
    /// Text in the clipboard.
    Copy(String),
    /// Ask for a model's file.
    PickFile,
    /// Ask for a model's folder.
    PickFolder,
    /// Ask for an evaluation's masks.
    PickMasks,
    /// Ask for a conversation's file.
    Import,
    /// Ask where to write a conversation.
    Export(i64, Format),
    /// Show or hide the list of conversations.
    ToggleList,
    /// Show or hide the inspector.
    ToggleInspector,
    /// The end.
    Quit,
}

/// The engine as the window sees it: orders go out, events come in, nobody waits.
pub trait Engine {
    /// Queues a command.
    fn send(&self, command: Command);
    /// Ends everything that was sent so far.
    fn stop(&self);
    /// The events since the last call, oldest first.
    fn drain(&self) -> Vec<Event>;
}

impl Engine for Handle {
    fn send(&self, command: Command) {
        Handle::send(self, command);
    }

    fn stop(&self) {
        Handle::stop(self);
    }

    fn drain(&self) -> Vec<Event> {
        Handle::drain(self)
    }
}

/// What a window begins with.
pub struct Setup {
    /// The conversations, or why they cannot be opened.
    pub store: Result<Store>,
    /// The file of the conversations.
    pub path: PathBuf,
    /// A model that was named; without one, the last one, or one of the catalogue that is here.
    pub model: Option<String>,
    /// A device that was named.
    pub device: Option<String>,
    /// A context size that was named, in tokens.
    pub context: Option<usize>,
    /// Models that can be downloaded.
    pub catalogue: Vec<CatalogueItem>,
    /// What the link that was followed asks for.
    pub link: Link,
    /// Milliseconds since 1970.
    pub clock: fn() -> i64,
}

/// The window.
pub struct App {
    state: State,
    view: View,
    engine: Box<dyn Engine>,
    files: Files,
    store: Saved,
    path: PathBuf,
    setup: Option<(Option<String>, Option<String>, Option<usize>)>,
    link: Link,
    #[cfg(target_arch = "wasm32")]
    keeper: keeper::Keeper,
    /// Milliseconds since 1970.
    clock: fn() -> i64,
    /// Milliseconds that local time is ahead of UTC.
    offset: i64,
    /// The theme that is on.
    theme: Option<state::Theme>,
}

/// Where conversations go.
enum Saved {
    /// Into the file.
    File(Store),
    /// Nowhere: the user goes on without.
    Nowhere(Store),
    /// They could not be opened; nothing goes on before the user says how.
    Trouble { error: String, catalogue: Vec<CatalogueItem> },
}

impl Saved {
    /// A store that could be opened. In a browser none is a file: it is whether the page keeps a copy that counts.
    fn of(store: Store) -> Saved {
        #[cfg(target_arch = "wasm32")]
        if !keeper::keeps() {
            return Saved::Nowhere(store);
        }
        Saved::File(store)
    }
}

impl App {
    /// A window over `engine`; asks it at once for the model that `setup` means.
    pub fn new(context: &Context, setup: Setup, engine: Box<dyn Engine>) -> App {
        theme::install(context);
        let Setup { store, path, model, device, context: slots, catalogue, link, clock } = setup;
        let mut app = App {
            state: State::default(),
            view: View::new(),
            engine,
            files: Files::new(context.clone()),
            store: Saved::Trouble { error: String::new(), catalogue: Vec::new() },
            path,
            setup: Some((model, device, slots)),
            link,
            #[cfg(target_arch = "wasm32")]
            keeper: keeper::Keeper::default(),
            clock,
            offset: words::local_offset(),
            theme: None,
        };
        match store {
            Ok(store) => {
                app.begin(context, &store, catalogue);
                app.store = Saved::of(store);
            }
            Err(error) => app.store = Saved::Trouble { error: error.to_string(), catalogue },
        }
        app
    }

    /// Tells the user of something that went wrong before there was a window.
    pub fn complain(&mut self, error: &Error) {
        self.state.tell(Notice::error(error.to_string()));
    }

    /// Everything that is shown.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes over what the store has, and asks for a model.
    fn begin(&mut self, context: &Context, store: &Store, catalogue: Vec<CatalogueItem>) {
        self.state = State::new(store, catalogue, (self.clock)());
        let preferences = &mut self.state.preferences;
        let (model, device, slots) = self.setup.take().unwrap_or_default();
        if device.is_some() {
            preferences.device = device;
        }
        preferences.context = slots.unwrap_or(preferences.context);
        context.set_zoom_factor(preferences.zoom.clamp(0.5, 3.0));
        // Nothing is downloaded before the user says so.
        let catalogue = &self.state.catalogue;
        let waits = |name: &String| catalogue.iter().any(|item| !item.pulled && item.name.eq_ignore_ascii_case(name));
        let is_here = |name: &String| catalogue.iter().any(|item| item.pulled && item.name == *name);
        let last = self.state.preferences.model.clone().filter(|name| is_here(name) || Path::new(name).exists());
        let here = catalogue.iter().filter(|item| item.pulled).min_by_key(|item| !item.default);
        let found = model.or_else(|| self.link.model.clone()).or(last).or_else(|| here.map(|item| item.name.clone()));
        if let Some(model) = found.filter(|name| !waits(name)) {
            let orders = self.state.apply(Intent::Load(model), store, (self.clock)());
            self.order(orders);
        }
        self.follow_link(store);
    }

    /// Begins the conversation that the link asks for.
    fn follow_link(&mut self, store: &Store) {
        let link = std::mem::take(&mut self.link);
        if link.begins() {
            self.state.apply(Intent::New, store, (self.clock)());
            // It was read once already, when the link was.
            if let Err(error) = link.apply(&mut self.state.fresh) {
                self.state.tell(Notice::error(error.to_string()));
            }
            self.view.drafts.extend(link.prompt.map(|prompt| (None, prompt)));
        }
    }

    fn order(&self, orders: Vec<state::Order>) {
        for order in orders {
            match order {
                state::Order::Send(command) => self.engine.send(command),
                state::Order::Stop => self.engine.stop(),
            }
        }
    }

    fn hear(&mut self) {
        let (Saved::File(store) | Saved::Nowhere(store)) = &self.store else { return };
        for event in self.engine.drain() {
            self.state.hear(event, store, (self.clock)());
        }
        for outcome in self.files.drain() {
            let intent = match outcome {
                Outcome::Model(path) => Intent::Load(path.display().to_string()),
                #[cfg(not(target_arch = "wasm32"))]
                Outcome::Masks(path) => Intent::ReadMasks(path),
                Outcome::Imported(conversation) => Intent::Adopt(conversation),
                Outcome::Exported(path) => {
                    self.state.tell(Notice::info(format!("Saved as {}.", path.display())));
                    continue;
                }
                Outcome::Failed(error) => {
                    self.state.tell(Notice::error(error.to_string()));
                    continue;
                }
            };
            let orders = self.state.apply(intent, store, (self.clock)());
            self.order(orders);
        }
    }

    fn act(&mut self, context: &Context, act: Act) {
        let (Saved::File(store) | Saved::Nowhere(store)) = &self.store else { return };
        let preferences = &self.state.preferences;
        let intent = match act {
            Act::State(intent) => {
                // Whoever asks wants to see the answer, wherever the conversation was scrolled to.
                self.view.jump |= matches!(intent, Intent::Ask(_) | Intent::Edit(..) | Intent::Regenerate(_));
                intent
            }
            Act::ToggleList => Intent::Prefer(Box::new(Preferences { list: !preferences.list, ..preferences.clone() })),
            Act::ToggleInspector => {
                Intent::Prefer(Box::new(Preferences { inspector: !preferences.inspector, ..preferences.clone() }))
            }
            Act::Copy(text) => return context.copy_text(text),
            Act::PickFile => return self.files.pick_model(),
            #[cfg(not(target_arch = "wasm32"))]
            Act::PickFolder => return self.files.pick_folder(),
            #[cfg(not(target_arch = "wasm32"))]
            Act::PickMasks => return self.files.pick_masks(),
            // Nothing offers these in a browser, which shows pages no folders.
            #[cfg(target_arch = "wasm32")]
            Act::PickFolder | Act::PickMasks => return,
            Act::Import => return self.files.import(),
            Act::Export(id, format) => match store.load(id) {
                Ok(conversation) => {
                    let text = match format {
                        Format::Markdown => export_markdown(&conversation),
                        Format::Json => export_json(&conversation),
                    };
                    return self.files.export(&conversation.title, format, text);
                }
                Err(error) => return self.state.tell(Notice::error(error.to_string())),
            },
            Act::Quit => return context.send_viewport_cmd(egui::ViewportCommand::Close),
        };
        let orders = self.state.apply(intent, store, (self.clock)());
        self.order(orders);
    }

    /// Files that were dropped: conversations are imported, everything else is taken for a model.
    #[cfg(target_arch = "wasm32")]
    fn take_dropped(&self, context: &Context, _: &mut Vec<Act>) {
        let dropped = context.input(|input| input.raw.dropped_files.clone());
        dropped.iter().filter_map(|file| file.web_file()).for_each(|file| self.files.take(file.clone()));
    }

    /// Files that were dropped: conversations are imported, everything else is taken for a model.
    #[cfg(not(target_arch = "wasm32"))]
    fn take_dropped(&self, context: &Context, acts: &mut Vec<Act>) {
        let dropped = context.input(|input| input.raw.dropped_files.clone());
        for file in dropped {
            let path = file.path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
            // A folder's name may end like that as well.
            if matches!(ending.as_str(), "json" | "md") && !path.is_dir() {
                self.files.import_from(path.to_path_buf());
            } else {
                acts.push(Act::State(Intent::Load(path.display().to_string())));
            }
        }
    }

    /// Brings zoom and theme and what is remembered of them together.
    fn follow_look(&mut self, context: &Context, acts: &mut Vec<Act>) {
        let preferences = &self.state.preferences;
        if self.theme != Some(preferences.theme) {
            theme::choose(context, preferences.theme);
            self.theme = Some(preferences.theme);
        }
        let zoom = context.zoom_factor();
        if (zoom - preferences.zoom).abs() > 1e-3 {
            acts.push(Act::State(Intent::Prefer(Box::new(Preferences { zoom, ..preferences.clone() }))));
        }
    }

    fn draw(&mut self, ui: &mut Ui, acts: &mut Vec<Act>) {
        self.banners(ui);
        let (state, view) = (&self.state, &mut self.view);
        view.follow(state);
        let side = Frame::new().fill(theme::colors(ui).side).inner_margin(Margin::symmetric(10, 0));
        if PAGE && ui.available_width() < PHONE {
            self.draw_one(ui, side, acts);
            self.window(ui, acts);
            notice::notices(ui, &mut self.state.notices, acts);
            return overlay(ui);
        }
        if let Some((list, inspector)) = view.wide.take() {
            let preferences = &state.preferences;
            acts.extend((preferences.list != list).then_some(Act::ToggleList));
            acts.extend((preferences.inspector != inspector).then_some(Act::ToggleInspector));
        }
        // Where there is no room for three columns, the one that was asked for last is the inspector.
        let narrow = state.preferences.inspector && ui.available_width() < NARROW;
        if state.preferences.list && !narrow {
            let panel = Panel::left("conversations").default_size(250.0).size_range(180.0..=400.0).frame(side);
            let clock = Clock { now: (self.clock)(), offset: self.offset };
            panel.show(ui, |ui| sidebar::sidebar(ui, state, view, clock, acts));
        }
        if state.preferences.inspector {
            let widest = (ui.available_width() - 360.0).max(300.0);
            let wished = (0.3 * ui.available_width()).clamp(400.0, 560.0);
            let panel = Panel::right("inspector").default_size(wished).size_range(300.0..=widest).frame(side);
            panel.show(ui, |ui| inspector::show(ui, state, view, acts));
        }
        let middle = Frame::new().fill(ui.visuals().panel_fill);
        let margin = Margin::symmetric(12, 0);
        CentralPanel::default().frame(middle).show(ui, |ui| {
            let row = Panel::top("title").resizable(false).show_separator_line(false);
            row.frame(Frame::new().inner_margin(Margin::symmetric(12, 8))).show(ui, |ui| {
                messages::title(ui, state, view, acts);
            });
            let row = Panel::bottom("composer").resizable(false).show_separator_line(false);
            row.frame(Frame::new().inner_margin(margin)).show(ui, |ui| composer::composer(ui, state, view, acts));
            CentralPanel::default().frame(Frame::NONE).show(ui, |ui| messages::messages(ui, state, view, acts));
        });
        self.window(ui, acts);
        notice::notices(ui, &mut self.state.notices, acts);
        overlay(ui);
    }

    /// On a phone there is room for one column: the conversation, or what was asked for in its place.
    fn draw_one(&mut self, ui: &mut Ui, side: Frame, acts: &mut Vec<Act>) {
        let (state, view) = (&self.state, &mut self.view);
        let preferences = &state.preferences;
        if view.wide.is_none() {
            view.wide = Some((preferences.list, preferences.inspector));
            acts.extend(preferences.list.then_some(Act::ToggleList));
            acts.extend(preferences.inspector.then_some(Act::ToggleInspector));
        }
        let row = Panel::top("title").resizable(false).show_separator_line(false);
        row.frame(Frame::new().inner_margin(Margin::symmetric(12, 8))).show(ui, |ui| {
            messages::title(ui, state, view, acts);
        });
        if preferences.inspector {
            CentralPanel::default().frame(side).show(ui, |ui| inspector::show(ui, state, view, acts));
        } else if preferences.list {
            let clock = Clock { now: (self.clock)(), offset: self.offset };
            CentralPanel::default().frame(side).show(ui, |ui| sidebar::sidebar(ui, state, view, clock, acts));
            // Whoever picks a conversation wants to see it.
            let picked = |act: &Act| matches!(act, Act::State(Intent::Open(..) | Intent::New));
            acts.extend(acts.iter().any(picked).then_some(Act::ToggleList));
        } else {
            let row = Panel::bottom("composer").resizable(false).show_separator_line(false);
            let row = row.frame(Frame::new().inner_margin(Margin::symmetric(12, 0)));
            row.show(ui, |ui| composer::composer(ui, state, view, acts));
            let middle = Frame::new().fill(ui.visuals().panel_fill);
            CentralPanel::default().frame(middle).show(ui, |ui| messages::messages(ui, state, view, acts));
        }
    }

    /// What holds until it is mended, across the whole width.
    fn banners(&self, ui: &mut Ui) {
        let mut banner = |name: &str, text: &str| {
            let colors = theme::colors(ui);
            let frame = Frame::new().fill(colors.warn_fill).inner_margin(Margin::symmetric(16, 6));
            Panel::top(name.to_string()).resizable(false).frame(frame).show(ui, |ui| {
                ui.add(egui::Label::new(RichText::new(text).color(colors.warn)).wrap());
            });
        };
        if matches!(self.store, Saved::Nowhere(_)) {
            let end = if PAGE { "when this page is closed" } else { "when the window closes" };
            banner("unsaved", &format!("Nothing is saved: what is said now is gone {end}."));
        }
        if let Some(error) = &self.state.lost {
            banner("lost", &format!("The GPU was lost; the model is loading again. ({error})"));
        }
    }

    fn window(&mut self, ui: &Ui, acts: &mut Vec<Act>) {
        let Some(window) = self.view.window else { return };
        let title = match window {
            Window::Models => "Models",
            Window::Preferences => "Settings",
            Window::Settings => "Chat settings",
            Window::Shortcuts => "Keyboard shortcuts",
        };
        let widest = (ui.ctx().content_rect().width() - 64.0).min(520.0);
        let highest = ui.ctx().content_rect().height() - 120.0;
        let mut open = true;
        let title = RichText::new(title).size(16.0);
        let shown = egui::Window::new(title).open(&mut open).collapsible(false).auto_sized();
        let shown = shown.anchor(Align2::CENTER_CENTER, [0.0, 0.0]);
        let (state, view) = (&self.state, &mut self.view);
        let data = matches!(self.store, Saved::File(_)).then_some(self.path.as_path());
        shown.show(ui.ctx(), |ui| {
            ScrollArea::vertical().max_height(highest).show(ui, |ui| {
                ui.set_width(widest);
                match window {
                    Window::Models => models::models(ui, state, view, acts),
                    Window::Preferences => preferences::preferences(ui, state, view, data, acts),
                    Window::Settings => sheet::sheet(ui, state, view, acts),
                    Window::Shortcuts => shortcuts::shortcuts(ui),
                }
            });
        });
        // A model that was chosen is on its way: its bar is at the left.
        let chosen = acts.iter().any(|act| matches!(act, Act::State(Intent::Load(_))));
        if !open || (chosen && window == Window::Models) {
            self.view.window = None;
        }
    }
}

/// Over everything while files are held above the window.
fn overlay(ui: &Ui) {
    if ui.input(|input| input.raw.hovered_files.is_empty()) {
        return;
    }
    let painter = ui.ctx().layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    let rect = ui.ctx().content_rect();
    painter.rect_filled(rect, 0.0, Color32::from_black_alpha(205));
    let font = egui::FontId::proportional(24.0);
    let text = "Drop a GGUF file or a model folder to open it,\na JSON or Markdown file to import a conversation";
    let galley = painter.layout(text.to_string(), font, Color32::WHITE, rect.width() - 64.0);
    painter.galley(rect.center() - galley.size() / 2.0, galley, Color32::WHITE);
}

impl eframe::App for App {
    fn logic(&mut self, _context: &Context, _frame: &mut eframe::Frame) {
        self.hear();
        #[cfg(target_arch = "wasm32")]
        if let Saved::File(store) = &mut self.store
            && let Some(error) = self.keeper.follow(store, _context)
        {
            self.state.tell(Notice::error(error));
        }
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let mut acts = Vec::new();
        if let Saved::Trouble { error, catalogue } = &self.store {
            match trouble::trouble(ui, &self.path, error) {
                Some(trouble::Choice::Quit) => ui.ctx().send_viewport_cmd(egui::ViewportCommand::Close),
                Some(choice) => {
                    let catalogue = catalogue.clone();
                    self.go_on(ui.ctx(), choice, catalogue);
                }
                None => {}
            }
            return;
        }
        let context = ui.ctx().clone();
        shortcuts::pressed(&context, &self.state, &mut self.view, &mut acts);
        self.take_dropped(&context, &mut acts);
        self.draw(ui, &mut acts);
        self.follow_look(&context, &mut acts);
        for act in acts {
            self.act(&context, act);
            context.request_repaint();
        }
        let size = context.content_rect().size() * context.zoom_factor();
        self.state.preferences.window = Some([size.x, size.y]);
    }

    #[cfg(target_arch = "wasm32")]
    fn as_any_mut(&mut self) -> Option<&mut dyn std::any::Any> {
        Some(self)
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }

    fn on_exit(&mut self) {
        if let Saved::File(store) = &self.store {
            self.state.keep_all(store);
        }
    }
}

impl App {
    /// Goes on from the screen of trouble, with the file or without.
    fn go_on(&mut self, context: &Context, choice: trouble::Choice, catalogue: Vec<CatalogueItem>) {
        let saved = match choice {
            #[cfg(not(target_arch = "wasm32"))]
            trouble::Choice::Again => Store::open(&self.path).map(Saved::File),
            #[cfg(target_arch = "wasm32")]
            trouble::Choice::Again => return keeper::reload(),
            _ => Store::in_memory().map(Saved::Nowhere),
        };
        match saved {
            Ok(saved) => {
                if let Saved::File(store) | Saved::Nowhere(store) = &saved {
                    self.begin(context, store, catalogue);
                }
                self.store = saved;
            }
            Err(error) => self.store = Saved::Trouble { error: error.to_string(), catalogue },
        }
        context.request_repaint();
    }
}

/// Milliseconds since 1970, by the system's clock.
pub fn system_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
