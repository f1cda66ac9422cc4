//! Everything that is kept, in one SQLite file.

use super::{ChatSettings, Conversation, Node, NodeId, Preset};
use crate::error::Result;
use crate::protocol::Heat;
use std::path::Path;
use std::sync::Arc;

/// A conversation in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its number.
    pub id: i64,
    /// Its title.
    pub title: String,
    /// When it last changed, milliseconds since 1970.
    pub updated: i64,
}

/// A conversation that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub id: i64,
    /// The message that matches; `None` = its title does.
    pub node: Option<NodeId>,
    /// The words around the match, on one line.
    pub snippet: String,
    /// Byte ranges of `snippet` that match.
    pub marks: Vec<std::ops::Range<usize>>,
}

/// The file of conversations.
pub struct Store {}

impl Store {
    /// Opens or makes the file; its folder is made too. One program at a time: a second one is refused.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] or [`crate::Error::Io`], each with what to do: the file belongs to a newer version, is no database, cannot be
    /// written, or is in use by another Secateur.
    pub fn open(path: &Path) -> Result<Store> {
        let _ = path;
        todo!()
    }

    /// A store that forgets everything when dropped: where there is no folder to write to.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] if SQLite fails.
    pub fn in_memory() -> Result<Store> {
        todo!()
    }

    /// All conversations, the last changed first.
    pub fn headers(&self) -> Result<Vec<Header>> {
        todo!()
    }

    /// Makes an empty conversation.
    pub fn create(&self, title: &str, settings: &ChatSettings) -> Result<Conversation> {
        let _ = (title, settings);
        todo!()
    }

    /// A whole conversation.
    pub fn load(&self, id: i64) -> Result<Conversation> {
        let _ = id;
        todo!()
    }

    /// Keeps title, settings and leaf.
    pub fn save(&self, conversation: &Conversation) -> Result<()> {
        let _ = conversation;
        todo!()
    }

    /// Keeps a message, new or changed.
    pub fn save_node(&self, conversation: i64, node: &Node) -> Result<()> {
        let _ = (conversation, node);
        todo!()
    }

    /// Moves a conversation out of the list, or back.
    pub fn set_deleted(&self, conversation: i64, deleted: bool) -> Result<()> {
        let _ = (conversation, deleted);
        todo!()
    }

    /// Keeps a probe of an answer; its place is `heat.index`.
    pub fn save_heat(&self, conversation: i64, node: NodeId, heat: &Heat) -> Result<()> {
        let _ = (conversation, node, heat);
        todo!()
    }

    /// The probes of an answer, in order.
    pub fn heats(&self, conversation: i64, node: NodeId) -> Result<Vec<Arc<Heat>>> {
        let _ = (conversation, node);
        todo!()
    }

    /// Conversations whose title or messages hold every word of `query` (the last word may be unfinished), best first.
    pub fn search(&self, query: &str) -> Result<Vec<Found>> {
        let _ = query;
        todo!()
    }

    /// All presets, by name.
    pub fn presets(&self) -> Result<Vec<Preset>> {
        todo!()
    }

    /// Keeps a preset, in place of one of the same name.
    pub fn save_preset(&self, preset: &Preset) -> Result<()> {
        let _ = preset;
        todo!()
    }

    /// Removes a preset.
    pub fn delete_preset(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!()
    }

    /// A setting of the program (theme, zoom, last model), as text.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        let _ = name;
        todo!()
    }

    /// Keeps a setting of the program.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        let _ = (name, value);
        todo!()
    }
}
