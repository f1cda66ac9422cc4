//! What the engine tells.

use super::{Model, Running, State, Task};
use crate::app::notice::Notice;
use crate::chat::{Node, NodeId, Store};
use crate::protocol::{Event, Heat};
use crate::session::CatalogueItem;
use std::sync::Arc;

/// How often a growing answer is written to the store, in milliseconds.
const SAVE_EVERY: i64 = 250;

impl State {
    /// Takes in an event; `now` is in milliseconds since 1970.
    pub fn hear(&mut self, event: Event, store: &Store, now: i64) {
        match event {
            Event::Devices(devices) => self.devices = Some(devices),
            Event::Loading { model, stage, share } => self.model = Model::Loading { name: model, stage, share },
            Event::Loaded(info) => {
                self.model = Model::Ready(info);
                self.lost = None;
                self.keep_model(store);
            }
            Event::LoadFailed { model, error } => {
                self.lost = None;
                self.model = match error {
                    Some(error) => Model::Failed { name: model, error },
                    None => Model::None,
                };
            }
            Event::DeviceLost { error } => self.lost = Some(error),
            Event::Masks(file) => {
                self.masks = Some(*file);
                self.heats_revision += 1;
            }
            Event::Deleted { name, error: None } => {
                // What came from the catalogue can be downloaded again; a file of the user's own is gone.
                self.catalogue.retain(|item| item.name != name || item.parameters > 0);
                for item in self.catalogue.iter_mut().filter(|item| item.name == name) {
                    item.pulled = false;
                }
                self.tell(Notice::info(format!("{name} was deleted.")));
            }
            Event::Deleted { error: Some(error), .. } => self.tell(Notice::error(error)),
            Event::MasksFailed { error } => self.tell(Notice::error(error)),
            Event::Heat(heat) => self.hear_heat(&heat, store),
            Event::Started { id, prompt } => {
                let left_out = prompt.left_out;
                self.change(id, store, |running, node| {
                    running.started = true;
                    if running.task == Task::Answer {
                        node.prompt = prompt.pieces;
                        node.left_out = running.messages_at(&left_out);
                    }
                });
            }
            Event::Cut { id, left_out } => {
                self.change(id, store, |running, node| {
                    if running.task == Task::Answer {
                        node.left_out = running.messages_at(&left_out);
                    }
                });
            }
            Event::Token { id, text, figures } => self.hear_token(id, &text, figures, store, now),
            Event::Finished { id, stop, figures } => {
                self.change(id, store, |_, node| {
                    node.stop = Some(stop);
                    node.figures = Some(figures);
                });
                self.end(id, store);
            }
            Event::Failed { id, error } => {
                let running = self.running.iter().find(|running| running.request == id);
                match running.map(|running| running.task) {
                    Some(Task::Answer) => self.change(id, store, |_, node| node.error = Some(error)),
                    Some(Task::Compare) => {
                        self.change(id, store, |_, node| node.comparison = None);
                        self.tell(Notice::error(format!("The comparison failed: {error}")));
                    }
                    None => {}
                }
                self.end(id, store);
            }
            Event::Compared { id, comparison } => {
                let complete = comparison.complete;
                if let Some((_, node)) = self.at(id) {
                    node.comparison = Some(comparison);
                }
                if complete {
                    self.change(id, store, |_, _| {});
                    self.end(id, store);
                }
            }
        }
    }

    /// The request, and the answer that it is about.
    fn at(&mut self, request: u64) -> Option<(&mut Running, &mut Node)> {
        let running = self.running.iter_mut().find(|running| running.request == request)?;
        let node = self.open.get_mut(&running.conversation)?.node_mut(running.node)?;
        Some((running, node))
    }

    /// Changes the answer of a request, and keeps it.
    fn change(&mut self, request: u64, store: &Store, change: impl FnOnce(&mut Running, &mut Node)) {
        let Some((running, node)) = self.at(request) else { return };
        change(running, node);
        let saved = store.save_node(running.conversation, node);
        self.kept(saved);
    }

    fn hear_token(&mut self, id: u64, text: &str, figures: crate::protocol::Figures, store: &Store, now: i64) {
        let Some((running, node)) = self.at(id) else { return };
        // A comparison's answer comes with its own events.
        if running.task == Task::Compare {
            return;
        }
        node.text.push_str(text);
        node.figures = Some(figures);
        if now - running.saved >= SAVE_EVERY {
            running.saved = now;
            let saved = store.save_node(running.conversation, node);
            self.kept(saved);
        }
    }

    fn hear_heat(&mut self, heat: &Heat, store: &Store) {
        let Some(running) = self.running.iter_mut().find(|running| running.request == heat.id) else { return };
        if running.task == Task::Compare {
            return;
        }
        let (conversation, node) = (running.conversation, running.node);
        // A choice by the new settings says that they are in force.
        let settings = self.open.get(&conversation).map(|open| &open.settings.prune);
        if let Some(prune) = settings.filter(|prune| (prune.method, prune.ratio) == (heat.method, heat.ratio)) {
            running.prune = prune.clone();
        }
        // An answer that is continued goes on counting its probes, and all of them are known by its node.
        let heat = Heat { id: node, index: running.heats + heat.index, ..heat.clone() };
        let saved = store.save_heat(conversation, node, &heat);
        self.kept(saved);
        if self.current == Some(conversation) {
            self.heats.push(Arc::new(heat));
        }
    }

    fn end(&mut self, request: u64, store: &Store) {
        self.running.retain(|running| running.request != request);
        self.forget_idle();
        self.list(store);
    }

    /// Remembers the model that was just loaded, for the next start.
    fn keep_model(&mut self, store: &Store) {
        let Some(asked) = self.asked.clone() else { return };
        for item in &mut self.catalogue {
            item.pulled |= item.name == asked.model;
        }
        // A page keeps the files that it was given.
        if cfg!(target_arch = "wasm32") && self.catalogue.iter().all(|item| item.name != asked.model) {
            let bytes = self.ready().map_or(0, |info| info.memory);
            self.catalogue.push(CatalogueItem::of_file(asked.model.clone(), bytes));
        }
        if self.preferences.model.as_ref() != Some(&asked.model) {
            self.preferences.model = Some(asked.model);
            self.save_preferences(store);
        }
    }
}

impl Running {
    fn messages_at(&self, places: &[usize]) -> Vec<NodeId> {
        places.iter().filter_map(|&place| self.places.get(place).copied().flatten()).collect()
    }
}
