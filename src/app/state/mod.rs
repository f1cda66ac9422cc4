//! Everything the window shows, as plain data, and what may happen to it.
//!
//! Owns the open conversations, the answers under way, the model's status and the preferences. Two functions change it:
//! [`State::apply`] does what the user wants, [`State::hear`] takes in what the engine tells. Both write to the store at
//! once and return nothing but orders for the engine, so all of it can be tested without a window or a device.
//!
//! Invariants: the current conversation, and every one with an answer under way, is in `open`; a question and its empty
//! answer are in the store before the engine is asked.

mod apply;
mod hear;
mod request;

pub(in crate::app) use request::policy;
pub use request::{Cut, cuts};

use super::notice::Notice;
use crate::chat::{ChatSettings, Conversation, Found, Header, Node, NodeId, Preset, Role, Store};
use crate::config::PruneConfig;
use crate::protocol::{Command, Device, Figures, Heat, Load, MasksFile, ModelInfo};
use crate::session::CatalogueItem;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Slots of the context where nothing else was chosen, in tokens.
pub const CONTEXT: usize = 4096;
/// Units of probes that are read back from the store, the newest answer first: a tenth of a second, some hundred megabytes.
const HEAT_UNITS: usize = 20_000_000;
/// Under which name the preferences lie in the store.
const PREFERENCES: &str = "window";

/// Which colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// What the desktop says.
    #[default]
    System,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// What the window remembers from one start to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// Which colours.
    pub theme: Theme,
    /// Enlargement of everything, 1 = as the system says.
    pub zoom: f32,
    /// Part of a device's name, or its number; `None` = the fastest kind.
    pub device: Option<String>,
    /// Slots of the context, in tokens.
    pub context: usize,
    /// The model that was loaded last.
    pub model: Option<String>,
    /// The conversation that was shown last.
    pub conversation: Option<i64>,
    /// Whether the list of conversations is shown.
    pub list: bool,
    /// Whether the inspector is shown.
    pub inspector: bool,
    /// Width and height of the window, in points.
    pub window: Option<[f32; 2]>,
    /// What new conversations run with.
    pub fresh: ChatSettings,
}

impl Default for Preferences {
    fn default() -> Preferences {
        Preferences {
            theme: Theme::System,
            zoom: 1.0,
            device: None,
            context: CONTEXT,
            model: None,
            conversation: None,
            list: true,
            inspector: true,
            window: None,
            fresh: ChatSettings::default(),
        }
    }
}

impl Preferences {
    /// What the store has; the defaults where it has nothing that can be read.
    pub fn read(store: &Store) -> Preferences {
        let text = store.setting(PREFERENCES).ok().flatten();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}

/// How the model stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Model {
    /// There is none.
    #[default]
    None,
    /// It is on its way.
    Loading {
        /// As it was named.
        name: String,
        /// What is done now.
        stage: String,
        /// The share done, 0 to 1; `None` = not known.
        share: Option<f32>,
    },
    /// It answers.
    Ready(Box<ModelInfo>),
    /// It could not be loaded.
    Failed {
        /// As it was named.
        name: String,
        /// What happened and what to do.
        error: String,
    },
}

/// What a request to the engine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// To fill an answer.
    Answer,
    /// To put a dense run beside an answer.
    Compare,
}

/// A request that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Its number at the engine.
    pub request: u64,
    /// Whose conversation.
    pub conversation: i64,
    /// Which answer.
    pub node: NodeId,
    /// What for.
    pub task: Task,
    /// Whether the engine has begun; before, it waits behind another request or a load.
    pub started: bool,
    /// The pruning that is in force, as far as the engine has shown it.
    prune: PruneConfig,
    /// The message behind each place of the request; `None` = the system message.
    places: Vec<Option<NodeId>>,
    /// Probes that the answer had before this request.
    heats: usize,
    /// When the text was last written to the store, milliseconds since 1970.
    saved: i64,
}

/// What the engine has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// This, after what it does now.
    Send(Command),
    /// Stop everything that it was sent so far.
    Stop,
}

/// What the user wants of the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Intent {
    /// An empty conversation.
    New,
    /// Another conversation, and in it the path through a message.
    Open(i64, Option<NodeId>),
    /// The conversation so many places further down the list.
    Step(isize),
    /// A question.
    Ask(String),
    /// Another question in place of one.
    Edit(NodeId, String),
    /// Another answer beside one.
    Regenerate(NodeId),
    /// More of an answer.
    Continue(NodeId),
    /// A dense run beside an answer.
    Compare(NodeId),
    /// The neighbouring branch at a message.
    Branch(NodeId, isize),
    /// No more of what runs.
    Stop,
    /// Another title.
    Rename(i64, String),
    /// Out of the list.
    Delete(i64),
    /// Back into the list.
    Restore(i64),
    /// A conversation from a file.
    Adopt(Box<Conversation>),
    /// What the current conversation runs with.
    Settings(Box<ChatSettings>),
    /// The current settings for all new conversations.
    KeepForNew,
    /// The current settings under a name.
    SavePreset(String),
    /// The settings of this name for the current conversation.
    UsePreset(String),
    /// No such preset.
    DeletePreset(String),
    /// Conversations that hold these words; none = the whole list.
    Search(String),
    /// A model: a file, a folder, or a name of the catalogue, which is downloaded where it is not here yet.
    Load(String),
    /// No file of this model of the catalogue any more.
    DeleteModel(String),
    /// Other preferences.
    Prefer(Box<Preferences>),
    /// The list of devices.
    Devices,
    /// The masks of an evaluation.
    ReadMasks(PathBuf),
    /// Back from a masks file to the conversation.
    CloseMasks,
}

/// All that the window shows.
#[derive(Debug, Default)]
pub struct State {
    /// What is remembered.
    pub preferences: Preferences,
    /// The list of conversations, the last changed first.
    pub headers: Vec<Header>,
    /// What was found, where something is searched for.
    pub found: Option<Vec<Found>>,
    /// The conversation that is shown; `None` = a new one that holds nothing yet.
    pub current: Option<i64>,
    /// Named settings.
    pub presets: Vec<Preset>,
    /// How the model stands.
    pub model: Model,
    /// The devices, once asked for.
    pub devices: Option<Vec<Device>>,
    /// Models that can be downloaded.
    pub catalogue: Vec<CatalogueItem>,
    /// Requests that have not ended, in order.
    pub running: Vec<Running>,
    /// Probes of the path that is shown, oldest first; their `id` is the answer's node.
    pub heats: Vec<Arc<Heat>>,
    /// Changes whenever `heats` is another list, not only a longer one.
    pub heats_revision: u64,
    /// An evaluation's masks in place of `heats`.
    pub masks: Option<MasksFile>,
    /// What the driver said when the device was lost; `None` once a model is loaded again.
    pub lost: Option<String>,
    /// What the user has to be told.
    pub notices: Vec<Notice>,
    /// Settings of the new conversation.
    pub(in crate::app) fresh: ChatSettings,
    open: BTreeMap<i64, Conversation>,
    /// What the engine was last asked to load.
    asked: Option<Load>,
    next_request: u64,
}

impl State {
    /// What a start finds: preferences, list, and the conversation that was shown last. `now` is in milliseconds since
    /// 1970.
    pub fn new(store: &Store, catalogue: Vec<CatalogueItem>, now: i64) -> State {
        let preferences = Preferences::read(store);
        let mut state = State { catalogue, next_request: now.unsigned_abs(), ..State::default() };
        let last = preferences.conversation;
        state.preferences = preferences;
        state.list(store);
        state.presets = state.kept(store.presets()).unwrap_or_default();
        state.begin(now);
        if let Some(id) = last.filter(|id| state.headers.iter().any(|header| header.id == *id)) {
            state.open(store, id);
        }
        state
    }

    /// The conversation that is shown, once it holds something.
    pub fn conversation(&self) -> Option<&Conversation> {
        self.open.get(&self.current?)
    }

    /// What the conversation that is shown runs with.
    pub fn settings(&self) -> &ChatSettings {
        self.conversation().map_or(&self.fresh, |conversation| &conversation.settings)
    }

    /// The request that fills or compares this answer of the conversation that is shown.
    pub fn running_at(&self, node: NodeId) -> Option<&Running> {
        self.running.iter().find(|running| Some(running.conversation) == self.current && running.node == node)
    }

    /// Whether a request of the conversation that is shown has not ended.
    pub fn is_busy(&self) -> bool {
        self.running.iter().any(|running| Some(running.conversation) == self.current)
    }

    /// Whether an answer of the conversation that is shown still runs with other pruning than its settings say.
    pub fn is_pruning_pending(&self) -> bool {
        let of_current =
            |running: &&Running| Some(running.conversation) == self.current && running.task == Task::Answer;
        self.running.iter().filter(of_current).any(|running| running.prune != self.settings().prune)
    }

    /// Whether questions can be asked: while a model loads they wait for it.
    pub fn can_ask(&self) -> bool {
        matches!(self.model, Model::Ready(_) | Model::Loading { .. }) && !self.is_busy()
    }

    /// The model, where one is ready.
    pub fn ready(&self) -> Option<&ModelInfo> {
        match &self.model {
            Model::Ready(info) => Some(info),
            _ => None,
        }
    }

    /// What the engine was last asked to load.
    pub fn asked(&self) -> Option<&Load> {
        self.asked.as_ref()
    }

    /// The last answer that is shown.
    pub fn last_answer(&self) -> Option<&Node> {
        self.conversation()?.path().into_iter().rev().find(|node| node.role == Role::Assistant)
    }

    /// The last question that is shown.
    pub fn last_question(&self) -> Option<&Node> {
        self.conversation()?.path().into_iter().rev().find(|node| node.role == Role::User)
    }

    /// What the last answer that was measured took.
    pub fn figures(&self) -> Option<&Figures> {
        let path = self.conversation()?.path();
        path.into_iter().rev().find_map(|node| node.figures.as_ref())
    }

    /// An answer that ended without the engine saying so: the program was killed.
    pub fn is_interrupted(&self, node: &Node) -> bool {
        node.role == Role::Assistant
            && node.stop.is_none()
            && node.error.is_none()
            && self.running_at(node.id).is_none()
    }

    /// Tells the user something, once.
    pub fn tell(&mut self, notice: Notice) {
        if self.notices.last().is_none_or(|last| last.text != notice.text) {
            self.notices.push(notice);
        }
    }

    /// Writes down what was not kept yet: the texts of answers under way, and the preferences.
    pub fn keep_all(&mut self, store: &Store) {
        for running in &self.running {
            let node = self.open.get(&running.conversation).and_then(|open| open.node(running.node));
            if let Some(Err(error)) = node.map(|node| store.save_node(running.conversation, node)) {
                tracing::warn!(%error, "an answer that had not ended is not saved");
            }
        }
        self.save_preferences(store);
    }

    /// The value, or a notice of the error.
    fn kept<T>(&mut self, result: crate::Result<T>) -> Option<T> {
        result.map_err(|error| self.tell(Notice::error(error.to_string()))).ok()
    }

    fn list(&mut self, store: &Store) {
        if let Some(headers) = self.kept(store.headers()) {
            self.headers = headers;
        }
    }

    /// Makes a new conversation the current one.
    fn begin(&mut self, now: i64) {
        self.current = None;
        self.masks = None;
        self.fresh = self.preferences.fresh.clone();
        // Another seed for every conversation; it is shown, so that an answer can be repeated.
        self.fresh.sampling.seed = now.unsigned_abs() & 0xffff_ffff;
        self.set_heats(Vec::new());
        self.forget_idle();
    }

    fn open(&mut self, store: &Store, id: i64) {
        if !self.open.contains_key(&id) {
            let Some(conversation) = self.kept(store.load(id)) else { return };
            self.open.insert(id, conversation);
        }
        self.current = Some(id);
        self.forget_idle();
        self.read_heats(store);
    }

    fn forget_idle(&mut self) {
        let (current, running) = (self.current, &self.running);
        self.open.retain(|id, _| Some(*id) == current || running.iter().any(|running| running.conversation == *id));
    }

    fn set_heats(&mut self, heats: Vec<Arc<Heat>>) {
        self.heats = heats;
        self.heats_revision += 1;
    }

    /// Drops the probes of answers that are not on the path any more.
    fn keep_heats_of_path(&mut self) {
        let Some(conversation) = self.conversation() else { return };
        let path: BTreeSet<NodeId> = conversation.path().iter().map(|node| node.id).collect();
        if self.heats.iter().any(|heat| !path.contains(&heat.id)) {
            let heats = self.heats.iter().filter(|heat| path.contains(&heat.id)).cloned().collect();
            self.set_heats(heats);
        }
    }

    /// Reads the probes of the path that is shown.
    fn read_heats(&mut self, store: &Store) {
        let Some(conversation) = self.conversation() else { return };
        let (id, mut answers) = (conversation.id, Vec::new());
        answers.extend(conversation.path().iter().filter(|node| node.role == Role::Assistant).map(|node| node.id));
        let (mut newest_first, mut units) = (Vec::new(), 0);
        for node in answers.into_iter().rev() {
            if units >= HEAT_UNITS {
                break;
            }
            let heats = self.kept(store.heats(id, node)).unwrap_or_default();
            units += heats.iter().map(|heat| heat.layers.len() * (heat.heads + heat.channels)).sum::<usize>();
            newest_first.extend(heats.into_iter().rev());
        }
        newest_first.reverse();
        self.set_heats(newest_first);
    }

    fn save_preferences(&mut self, store: &Store) {
        // Plain numbers, words and lists: it cannot fail.
        let text = serde_json::to_string(&self.preferences).unwrap_or_default();
        self.kept(store.set_setting(PREFERENCES, &text));
    }
}
