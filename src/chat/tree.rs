//! The tree of messages.
//!
//! Invariant: a node's parent has a smaller id and is in the tree; what is shown is the path from the root to the leaf.

use super::ChatSettings;
use crate::protocol::{Comparison, Figures, Stop};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A message's number, unique in its conversation, ascending in time.
pub type NodeId = u64;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// What it follows; `None` = it opens the conversation.
    pub parent: Option<NodeId>,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
    /// Milliseconds since 1970.
    pub created: i64,
    /// What the answer took.
    pub figures: Option<Figures>,
    /// Why the answer ended; `None` for a question, and for an answer that was cut short by a crash or an error.
    pub stop: Option<Stop>,
    /// What went wrong with this answer.
    pub error: Option<String>,
    /// Messages on its path that the model did not see, for lack of context.
    pub left_out: Vec<NodeId>,
    /// A dense run beside it.
    pub comparison: Option<Comparison>,
    /// Texts of the prompt's tokens, as the model read them.
    pub prompt: Vec<String>,
}

/// Where a message stands among those that follow the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// Its place, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// A conversation with all its branches.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Its number in the store.
    pub id: i64,
    /// What the list shows.
    pub title: String,
    /// What it runs with.
    pub settings: ChatSettings,
    nodes: BTreeMap<NodeId, Node>,
    leaf: Option<NodeId>,
}

impl Conversation {
    /// One from its parts, as the store keeps them.
    ///
    /// # Errors
    /// [`crate::Error::Text`] when a parent or the leaf is missing, or a parent is not older than its child.
    pub fn new(
        id: i64,
        title: String,
        settings: ChatSettings,
        nodes: Vec<Node>,
        leaf: Option<NodeId>,
    ) -> crate::Result<Conversation> {
        let _ = (id, title, settings, nodes, leaf);
        todo!()
    }

    /// Appends a message behind `parent` and shows it; returns its number.
    pub fn add(&mut self, parent: Option<NodeId>, role: Role, text: String) -> NodeId {
        let _ = (parent, role, text);
        todo!()
    }

    /// A message.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A message, to be changed.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    /// Every message, oldest first.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The last message shown.
    pub fn leaf(&self) -> Option<NodeId> {
        self.leaf
    }

    /// The messages shown, in order.
    pub fn path(&self) -> Vec<&Node> {
        self.path_to(self.leaf)
    }

    /// The messages up to `end`, in order.
    pub fn path_to(&self, end: Option<NodeId>) -> Vec<&Node> {
        let _ = end;
        todo!()
    }

    /// Where a message stands among its siblings.
    pub fn branch(&self, id: NodeId) -> Branch {
        let _ = id;
        todo!()
    }

    /// Shows the sibling of `id` that is `step` places further (clamped), down to its newest descendant.
    pub fn switch_branch(&mut self, id: NodeId, step: isize) {
        let _ = (id, step);
        todo!()
    }

    /// Shows the path that leads through `id`, down to its newest descendant.
    pub fn show(&mut self, id: NodeId) {
        let _ = id;
        todo!()
    }
}
