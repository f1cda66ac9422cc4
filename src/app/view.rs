//! What belongs to the window alone: drafts, what is being edited, which window is open. Nothing of it is kept.

use super::inspector::Inspector;
use super::markdown::Markdown;
use super::state::State;
use crate::chat::NodeId;
use eframe::egui;
use std::collections::{BTreeMap, BTreeSet};

/// Where the keyboard goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// The field for the next question.
    Composer,
    /// The field for searching.
    Search,
    /// The field that was just opened: a title, an edited question.
    Field,
}

/// A window above the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Models to open or download.
    Models,
    /// Preferences.
    Preferences,
    /// What the conversation runs with.
    Settings,
    /// The keys.
    Shortcuts,
}

/// What belongs to the window alone.
#[derive(Default)]
pub struct View {
    /// Questions that were begun, by conversation; `None` = the new one.
    pub drafts: BTreeMap<Option<i64>, String>,
    /// Words that are searched for.
    pub query: String,
    /// Where the keyboard goes next.
    pub focus: Option<Focus>,
    /// The question that is being edited, and its text so far.
    pub editing: Option<(NodeId, String)>,
    /// The conversation that is being renamed, and its title so far.
    pub renaming: Option<(i64, String)>,
    /// The window that is open.
    pub window: Option<Window>,
    /// The name of a preset, as far as it is typed.
    pub preset: String,
    /// The model whose files are to be deleted, once that is said again.
    pub deleting: Option<String>,
    /// The path of a model, as far as it is typed.
    pub path: String,
    /// Whether the end of the conversation is to be shown.
    pub jump: bool,
    /// The message that is to be scrolled to.
    pub reveal: Option<NodeId>,
    /// Texts of answers as they are drawn.
    pub markdown: Markdown,
    /// Width and height that each message had when it was last drawn, in points.
    pub drawn: BTreeMap<NodeId, egui::Vec2>,
    /// Answers whose dense run is not shown beside them.
    pub alone: BTreeSet<NodeId>,
    /// The panel at the right.
    pub inspector: Inspector,
    /// On a phone: whether list and inspector were shown before they made room for the conversation.
    pub wide: Option<(bool, bool)>,
    /// Whether the list of devices was asked for.
    pub asked_devices: bool,
    /// The conversation that the texts belong to.
    shown: Option<i64>,
}

impl View {
    /// One whose keyboard is at the next question.
    pub fn new() -> View {
        View { focus: Some(Focus::Composer), ..View::default() }
    }

    /// Takes in new probes, and forgets what belonged to another conversation.
    pub fn follow(&mut self, state: &State) {
        self.inspector.follow(state);
        if self.shown != state.current {
            self.shown = state.current;
            self.editing = None;
            self.alone.clear();
            self.drawn.clear();
            self.markdown.clear();
        }
    }

    /// Opens a window, or closes it where it is open.
    pub fn toggle(&mut self, window: Window) {
        self.window = (self.window != Some(window)).then_some(window);
    }
}
