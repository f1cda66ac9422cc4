//! The tree of messages.
//!
//! Invariants: a node's parent has a smaller id and is in the tree; what is shown is the path from a root to the leaf, and
//! nothing follows the leaf. So every message is shown or can be reached by switching branches.

use super::ChatSettings;
use crate::error::{Error, Result};
use crate::protocol::{Comparison, Figures, Stop};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// A message's number, unique in its conversation, ascending in time.
pub type NodeId = u64;

/// The store's search numbers the texts of all conversations through, with 24 bits for each one's messages; 0 is its title.
const LARGEST_ID: NodeId = (1 << 24) - 1;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that a chat template knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
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

impl Node {
    /// A message of which only the words are known, made now.
    pub(super) fn bare(id: NodeId, parent: Option<NodeId>, role: Role, text: String) -> Node {
        Node {
            id,
            parent,
            role,
            text,
            created: super::now(),
            figures: None,
            stop: None,
            error: None,
            left_out: Vec::new(),
            comparison: None,
            prompt: Vec::new(),
        }
    }
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
    /// What follows each message, oldest first; `None` leads to the roots. A face asks for branches in every frame.
    children: HashMap<Option<NodeId>, Vec<NodeId>>,
    leaf: Option<NodeId>,
}

impl Conversation {
    /// One from its parts, as the store keeps them. The path goes on behind `leaf` down to the newest message, so that
    /// what was written last is shown even where the leaf was not kept in time.
    ///
    /// # Errors
    /// [`crate::Error::Text`] when a number is used twice, is 0 or is above 16777215, a parent or the leaf is missing, or a parent is
    /// not older than its child.
    pub fn new(
        id: i64,
        title: String,
        settings: ChatSettings,
        nodes: Vec<Node>,
        leaf: Option<NodeId>,
    ) -> Result<Conversation> {
        let mut conversation =
            Conversation { id, title, settings, nodes: BTreeMap::new(), children: HashMap::new(), leaf: None };
        for node in nodes {
            if !(1..=LARGEST_ID).contains(&node.id) {
                return Err(Error::Text(format!("a message has the number {}, not one of 1..={LARGEST_ID}", node.id)));
            }
            if let Some(twice) = conversation.nodes.insert(node.id, node) {
                return Err(Error::Text(format!("there are two messages of the number {}", twice.id)));
            }
        }
        for node in conversation.nodes.values() {
            if let Some(parent) = node.parent {
                let (id, known) = (node.id, conversation.nodes.contains_key(&parent));
                if !known || parent >= id {
                    let what = if known { "is not older" } else { "is missing" };
                    return Err(Error::Text(format!("message {id} follows message {parent}, which {what}")));
                }
            }
            conversation.children.entry(node.parent).or_default().push(node.id);
        }
        if let Some(leaf) = leaf.filter(|leaf| !conversation.nodes.contains_key(leaf)) {
            return Err(Error::Text(format!("the last message shown, {leaf}, is missing")));
        }
        conversation.leaf = conversation.newest_below(leaf);
        Ok(conversation)
    }

    /// Appends a message behind `parent` and shows it; returns its number. A parent that is not in the tree counts as
    /// the leaf.
    pub fn add(&mut self, parent: Option<NodeId>, role: Role, text: String) -> NodeId {
        let parent = if parent.is_none_or(|parent| self.nodes.contains_key(&parent)) { parent } else { self.leaf };
        let id = self.nodes.last_key_value().map_or(1, |(newest, _)| newest + 1);
        self.nodes.insert(id, Node::bare(id, parent, role, text));
        self.children.entry(parent).or_default().push(id);
        self.leaf = Some(id);
        id
    }

    /// A message.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A message, to be changed; its `id` and its `parent` must stay.
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
        let start = end.and_then(|end| self.nodes.get(&end));
        let parent = |node: &&Node| node.parent.and_then(|parent| self.nodes.get(&parent));
        let mut path: Vec<&Node> = std::iter::successors(start, parent).collect();
        path.reverse();
        path
    }

    /// Where a message stands among its siblings; a count of 0 for one that is not in the tree.
    pub fn branch(&self, id: NodeId) -> Branch {
        let siblings = self.siblings(id);
        Branch { index: siblings.binary_search(&id).unwrap_or(0), count: siblings.len() }
    }

    /// Shows the sibling of `id` that is `step` places further (clamped), down to its newest descendant.
    pub fn switch_branch(&mut self, id: NodeId, step: isize) {
        let siblings = self.siblings(id);
        let last = siblings.len().saturating_sub(1);
        let place = self.branch(id).index.saturating_add_signed(step).min(last);
        if let Some(&sibling) = siblings.get(place) {
            self.show(sibling);
        }
    }

    /// Shows the path that leads through `id`, down to its newest descendant.
    pub fn show(&mut self, id: NodeId) {
        if self.nodes.contains_key(&id) {
            self.leaf = self.newest_below(Some(id));
        }
    }

    fn siblings(&self, id: NodeId) -> &[NodeId] {
        let parent = self.nodes.get(&id).map(|node| node.parent);
        parent.and_then(|parent| self.children.get(&parent)).map_or(&[], Vec::as_slice)
    }

    /// The end of the path that takes the newest message at every step behind `start`.
    fn newest_below(&self, start: Option<NodeId>) -> Option<NodeId> {
        let newest = |id: &Option<NodeId>| self.children.get(id)?.last().map(|&child| Some(child));
        std::iter::successors(Some(start), newest).last().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn empty() -> Conversation {
        Conversation::new(1, "title".into(), ChatSettings::default(), Vec::new(), None).unwrap()
    }

    fn node(id: NodeId, parent: Option<NodeId>) -> Node {
        Node::bare(id, parent, Role::User, format!("message {id}"))
    }

    fn of(nodes: Vec<Node>, leaf: Option<NodeId>) -> Result<Conversation> {
        Conversation::new(1, String::new(), ChatSettings::default(), nodes, leaf)
    }

    fn shown(conversation: &Conversation) -> Vec<NodeId> {
        conversation.path().iter().map(|node| node.id).collect()
    }

    #[test]
    fn an_edit_makes_a_branch() {
        let mut conversation = empty();
        let question = conversation.add(None, Role::User, "first".into());
        let answer = conversation.add(Some(question), Role::Assistant, "yes".into());
        let edited = conversation.add(None, Role::User, "second".into());
        assert_eq!(shown(&conversation), [edited]);
        assert_eq!(conversation.branch(edited), Branch { index: 1, count: 2 });
        assert_eq!(conversation.branch(question), Branch { index: 0, count: 2 });
        assert_eq!(conversation.branch(answer), Branch { index: 0, count: 1 });

        conversation.switch_branch(edited, -1);
        assert_eq!(shown(&conversation), [question, answer]);
        conversation.switch_branch(question, -1);
        assert_eq!(shown(&conversation), [question, answer], "there is nothing before the first");
        conversation.switch_branch(question, isize::MAX);
        assert_eq!(shown(&conversation), [edited]);
    }

    #[test]
    fn what_is_shown_ends_at_the_newest_descendant() {
        let mut conversation = empty();
        let question = conversation.add(None, Role::User, String::new());
        let old = conversation.add(Some(question), Role::Assistant, String::new());
        conversation.add(Some(old), Role::User, String::new());
        let new = conversation.add(Some(question), Role::Assistant, String::new());
        let last = conversation.add(Some(new), Role::User, String::new());
        conversation.show(old);
        assert_eq!(shown(&conversation), [question, old, 3]);
        conversation.show(question);
        assert_eq!(shown(&conversation), [question, new, last]);
        let up_to: Vec<NodeId> = conversation.path_to(Some(old)).iter().map(|node| node.id).collect();
        assert_eq!(up_to, [question, old]);
        assert!(conversation.path_to(None).is_empty());
    }

    #[test]
    fn messages_behind_a_leaf_that_was_kept_too_early_are_shown() {
        let nodes = || vec![node(1, None), node(2, Some(1)), node(3, Some(2))];
        assert_eq!(shown(&of(nodes(), Some(1)).unwrap()), [1, 2, 3]);
        assert_eq!(shown(&of(nodes(), None).unwrap()), [1, 2, 3]);
    }

    #[test]
    fn a_number_that_is_not_in_the_tree_changes_nothing() {
        let mut conversation = of(vec![node(1, None)], None).unwrap();
        let before = conversation.clone();
        conversation.show(9);
        conversation.switch_branch(9, 1);
        assert_eq!(conversation, before);
        assert_eq!(conversation.branch(9), Branch { index: 0, count: 0 });
        assert!(conversation.path_to(Some(9)).is_empty());
        let child = conversation.add(Some(9), Role::User, String::new());
        assert_eq!(shown(&conversation), [1, child]);
    }

    #[test]
    fn broken_trees_are_refused_in_words() {
        let refusal = |nodes, leaf| of(nodes, leaf).unwrap_err().to_string();
        assert_eq!(refusal(vec![node(2, Some(1))], None), "message 2 follows message 1, which is missing");
        let circle = vec![node(1, Some(2)), node(2, Some(1))];
        assert_eq!(refusal(circle, None), "message 1 follows message 2, which is not older");
        assert_eq!(refusal(vec![node(1, Some(1))], None), "message 1 follows message 1, which is not older");
        assert_eq!(refusal(vec![node(1, None), node(1, None)], None), "there are two messages of the number 1");
        assert_eq!(refusal(vec![node(1, None)], Some(2)), "the last message shown, 2, is missing");
        for id in [0, LARGEST_ID + 1, u64::MAX] {
            let expected = format!("a message has the number {id}, not one of 1..=16777215");
            assert_eq!(refusal(vec![node(id, None)], None), expected);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(Option<usize>),
        Switch(usize, isize),
        Show(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => proptest::option::weighted(0.9, 0..40usize).prop_map(Step::Add),
            1 => (0..40usize, -3..4isize).prop_map(|(at, by)| Step::Switch(at, by)),
            1 => (0..40usize).prop_map(Step::Show),
        ];
        proptest::collection::vec(step, 0..60)
    }

    fn holds(conversation: &Conversation) -> Result<(), TestCaseError> {
        let path = conversation.path();
        prop_assert_eq!(path.first().and_then(|node| node.parent), None);
        prop_assert!(path.windows(2).all(|pair| pair[1].parent == Some(pair[0].id) && pair[0].id < pair[1].id));
        prop_assert_eq!(path.last().map(|node| node.id), conversation.leaf());
        prop_assert!(conversation.nodes().all(|node| node.parent != conversation.leaf() || node.parent.is_none()));
        prop_assert_eq!(conversation.leaf().is_none(), conversation.nodes().next().is_none());
        Ok(())
    }

    proptest! {
        #[test]
        fn any_use_keeps_the_invariants_and_every_message_can_be_reached(steps in steps()) {
            let mut conversation = empty();
            let mut ids: Vec<NodeId> = Vec::new();
            for step in steps {
                let at = |place: usize| ids.get(place % ids.len().max(1)).copied();
                match step {
                    Step::Add(parent) => {
                        let id = conversation.add(parent.and_then(at), Role::User, String::new());
                        prop_assert!(ids.iter().all(|&older| older < id));
                        ids.push(id);
                    }
                    Step::Switch(place, by) => at(place).into_iter().for_each(|id| conversation.switch_branch(id, by)),
                    Step::Show(place) => at(place).into_iter().for_each(|id| conversation.show(id)),
                }
                holds(&conversation)?;
            }
            for &id in &ids {
                // As a person would: from the root on, switch at each fork towards the message.
                let towards: Vec<NodeId> = conversation.path_to(Some(id)).iter().map(|node| node.id).collect();
                for (depth, &step) in towards.iter().enumerate() {
                    let here = shown(&conversation)[depth];
                    let places = conversation.branch(step).index as isize - conversation.branch(here).index as isize;
                    conversation.switch_branch(here, places);
                }
                prop_assert!(shown(&conversation).contains(&id));
                holds(&conversation)?;
            }
            let nodes: Vec<Node> = conversation.nodes().cloned().collect();
            let (title, settings) = (conversation.title.clone(), conversation.settings.clone());
            let again = Conversation::new(1, title, settings, nodes, conversation.leaf());
            prop_assert_eq!(again.unwrap(), conversation);
        }
    }
}
