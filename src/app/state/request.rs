//! From a conversation to what the engine is asked, and back from places in it to messages.

use super::{Order, Running, State, Task};
use crate::chat::{Conversation, NodeId, Role};
use crate::protocol::{Command, Overflow, Request};
use crate::text::Message;

/// Messages in a row that the model does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The last of them.
    pub last: NodeId,
    /// How many.
    pub count: usize,
}

/// Where the conversation is cut for the last answer on the path.
pub fn cuts(conversation: &Conversation) -> Vec<Cut> {
    let path = conversation.path();
    let Some(answer) = path.iter().rev().find(|node| node.role == Role::Assistant) else { return Vec::new() };
    let mut cuts: Vec<Cut> = Vec::new();
    let mut open = false;
    for node in &path {
        let left_out = answer.left_out.contains(&node.id);
        match cuts.last_mut().filter(|_| open && left_out) {
            Some(cut) => *cut = Cut { last: node.id, count: cut.count + 1 },
            None if left_out => cuts.push(Cut { last: node.id, count: 1 }),
            None => {}
        }
        open = left_out;
    }
    cuts
}

/// What is left out, in words.
pub(in crate::app) fn policy(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Stop => "stop when full",
        Overflow::DropOldest => "leave out the oldest",
        Overflow::KeepEnds => "keep the first and the newest",
    }
}

impl State {
    /// Asks the engine to fill `node`, or to run it densely; what `node` says already is the beginning.
    pub(super) fn request(&mut self, conversation: i64, node: NodeId, task: Task) -> Vec<Order> {
        let heats = self.heats.iter().filter(|heat| heat.id == node).count();
        let Some(open) = self.open.get(&conversation) else { return Vec::new() };
        let Some(answer) = open.node(node) else { return Vec::new() };
        let (mut messages, mut places) = (Vec::new(), Vec::new());
        if !open.settings.system.trim().is_empty() {
            messages.push(Message::new("system", open.settings.system.trim()));
            places.push(None);
        }
        for message in open.path_to(answer.parent) {
            // An answer that failed before its first word says nothing to the model.
            if message.role == Role::User || !message.text.is_empty() {
                messages.push(Message::new(message.role.name(), &message.text));
                places.push(Some(message.id));
            }
        }
        let mut sampling = open.settings.sampling.clone();
        // Another answer to the same question is drawn from the next seed: the same one would say the same again.
        sampling.seed = sampling.seed.wrapping_add(open.branch(node).index as u64);
        let id = self.next_request;
        let request = Request {
            id,
            messages,
            begun: if task == Task::Answer { answer.text.clone() } else { String::new() },
            prune: open.settings.prune.clone(),
            sampling,
            max_tokens: open.settings.max_tokens,
            overflow: open.settings.overflow,
        };
        self.next_request += 1;
        let prune = request.prune.clone();
        let (started, saved) = (false, 0);
        self.running.push(Running { request: id, conversation, node, task, started, prune, places, heats, saved });
        let request = Box::new(request);
        vec![Order::Send(match task {
            Task::Answer => Command::Answer(request),
            Task::Compare => Command::Compare(request),
        })]
    }
}
