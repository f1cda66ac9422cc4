//! What the user wants.

use super::{Intent, Model, Order, Preferences, Running, State, Task};
use crate::app::notice::Notice;
use crate::chat::{ChatSettings, Conversation, NodeId, Preset, Role, Store};
use crate::protocol::{Command, Load};

/// Longest title that is made from a question, in characters.
const TITLE: usize = 48;

impl State {
    /// Does what the user wants, as far as it is in this state's power, and returns the rest; `now` is in milliseconds
    /// since 1970.
    pub fn apply(&mut self, intent: Intent, store: &Store, now: i64) -> Vec<Order> {
        match intent {
            Intent::New => self.begin(now),
            Intent::Open(id, node) => self.show(store, id, node),
            Intent::Step(step) => self.step(store, step),
            Intent::Ask(text) => return self.ask(store, self.leaf(), text),
            Intent::Edit(node, text) => {
                let parent = self.conversation().and_then(|open| open.node(node)).map(|node| node.parent);
                return parent.map_or_else(Vec::new, |parent| self.ask(store, parent, text));
            }
            Intent::Regenerate(node) => return self.regenerate(store, node),
            Intent::Continue(node) => return self.go_on(store, node),
            Intent::Compare(node) => {
                return match self.current {
                    Some(id) if !self.is_busy() => self.request(id, node, Task::Compare),
                    _ => Vec::new(),
                };
            }
            Intent::Branch(node, step) => {
                self.edit_current(store, |open| open.switch_branch(node, step));
                self.read_heats(store);
            }
            Intent::Stop => return vec![Order::Stop],
            Intent::Rename(id, title) => self.rename(store, id, &title),
            Intent::Delete(id) => self.delete(store, id, now),
            Intent::Restore(id) => {
                self.kept(store.set_deleted(id, false));
                self.list(store);
                self.show(store, id, None);
            }
            Intent::Adopt(conversation) => self.adopt(store, *conversation),
            Intent::Settings(settings) => return self.set_settings(store, *settings),
            Intent::KeepForNew => {
                self.preferences.fresh = self.settings().clone();
                self.save_preferences(store);
                self.tell(Notice::info("New conversations start with these settings."));
            }
            Intent::SavePreset(name) => {
                let preset = Preset { name: name.trim().to_string(), settings: self.settings().clone() };
                if !preset.name.is_empty() {
                    self.kept(store.save_preset(&preset));
                    self.presets = self.kept(store.presets()).unwrap_or_default();
                }
            }
            Intent::UsePreset(name) => {
                let preset = self.presets.iter().find(|preset| preset.name == name).cloned();
                return preset.map_or_else(Vec::new, |preset| self.set_settings(store, preset.settings));
            }
            Intent::DeletePreset(name) => {
                self.kept(store.delete_preset(&name));
                self.presets.retain(|preset| preset.name != name);
            }
            Intent::Search(query) => {
                let searched = (!query.trim().is_empty()).then(|| store.search(&query));
                self.found = searched.map(|found| self.kept(found).unwrap_or_default());
            }
            Intent::Load(model) => return self.load(model),
            Intent::DeleteModel(name) => return vec![Order::Send(Command::Delete(name))],
            Intent::Prefer(preferences) => self.prefer(store, *preferences),
            Intent::Devices => return vec![Order::Send(Command::Devices)],
            Intent::ReadMasks(path) => return vec![Order::Send(Command::ReadMasks(path))],
            Intent::CloseMasks => {
                self.masks = None;
                self.heats_revision += 1;
            }
        }
        Vec::new()
    }

    fn leaf(&self) -> Option<NodeId> {
        self.conversation().and_then(Conversation::leaf)
    }

    /// Changes the conversation that is shown, and keeps its title, settings and leaf.
    fn edit_current(&mut self, store: &Store, edit: impl FnOnce(&mut Conversation)) {
        let Some(open) = self.current.and_then(|id| self.open.get_mut(&id)) else { return };
        edit(open);
        let saved = store.save(open);
        self.kept(saved);
    }

    fn show(&mut self, store: &Store, id: i64, node: Option<NodeId>) {
        self.masks = None;
        self.open(store, id);
        if let Some(node) = node {
            self.edit_current(store, |open| open.show(node));
            self.read_heats(store);
        }
        if self.preferences.conversation != self.current {
            self.preferences.conversation = self.current;
            self.save_preferences(store);
        }
    }

    fn step(&mut self, store: &Store, step: isize) {
        let at = self.headers.iter().position(|header| Some(header.id) == self.current);
        let next = match at {
            Some(at) => at.checked_add_signed(step),
            None => Some(0),
        };
        if let Some(id) = next.and_then(|next| self.headers.get(next)).map(|header| header.id) {
            self.show(store, id, None);
        }
    }

    fn ask(&mut self, store: &Store, parent: Option<NodeId>, text: String) -> Vec<Order> {
        if text.trim().is_empty() || !self.can_ask() {
            return Vec::new();
        }
        if self.current.is_none() {
            let Some(made) = self.kept(store.create(&title(&text), &self.fresh)) else { return Vec::new() };
            self.current = Some(made.id);
            self.preferences.conversation = Some(made.id);
            self.open.insert(made.id, made);
            self.save_preferences(store);
        }
        let Some(id) = self.current else { return Vec::new() };
        let Some(open) = self.open.get_mut(&id) else { return Vec::new() };
        let question = open.add(parent, Role::User, text);
        self.answer(store, id, question, Some(question))
    }

    fn regenerate(&mut self, store: &Store, node: NodeId) -> Vec<Order> {
        let Some(id) = self.current.filter(|_| self.can_ask()) else { return Vec::new() };
        let question = self.open.get(&id).and_then(|open| open.node(node)).and_then(|node| node.parent);
        question.map_or_else(Vec::new, |question| self.answer(store, id, question, None))
    }

    /// Adds an empty answer behind `question`, keeps both (`new` = the question is not in the store yet), and asks the
    /// engine to fill it.
    fn answer(&mut self, store: &Store, id: i64, question: NodeId, new: Option<NodeId>) -> Vec<Order> {
        let Some(open) = self.open.get_mut(&id) else { return Vec::new() };
        let answer = open.add(Some(question), Role::Assistant, String::new());
        let mut nodes = new.into_iter().chain([answer]).filter_map(|node| open.node(node));
        let saved = nodes.try_for_each(|node| store.save_node(id, node));
        let saved = saved.and_then(|()| store.save(open));
        self.kept(saved);
        self.list(store);
        self.keep_heats_of_path();
        self.request(id, answer, Task::Answer)
    }

    fn go_on(&mut self, store: &Store, node: NodeId) -> Vec<Order> {
        let Some(id) = self.current.filter(|_| self.can_ask()) else { return Vec::new() };
        let Some(answer) = self.open.get_mut(&id).and_then(|open| open.node_mut(node)) else { return Vec::new() };
        (answer.stop, answer.error) = (None, None);
        let saved = store.save_node(id, answer);
        self.kept(saved);
        self.request(id, node, Task::Answer)
    }

    fn rename(&mut self, store: &Store, id: i64, title: &str) {
        let title = title.trim();
        if title.is_empty() {
            return;
        }
        let saved = match self.open.get_mut(&id) {
            Some(open) => {
                open.title = title.to_string();
                store.save(open)
            }
            None => store.load(id).and_then(|mut conversation| {
                conversation.title = title.to_string();
                store.save(&conversation)
            }),
        };
        self.kept(saved);
        self.list(store);
    }

    fn delete(&mut self, store: &Store, id: i64, now: i64) {
        if self.kept(store.set_deleted(id, true)).is_none() {
            return;
        }
        let title = self.headers.iter().find(|header| header.id == id).map_or("", |header| &header.title);
        let notice = Notice::info(format!("“{title}” was deleted.")).with_undo(Intent::Restore(id));
        let at = self.headers.iter().position(|header| header.id == id);
        self.list(store);
        if let Some(found) = &mut self.found {
            found.retain(|found| found.id != id);
        }
        if self.current == Some(id) {
            // The neighbour takes its place, as in every list.
            let neighbour = at.and_then(|at| self.headers.get(at).or(self.headers.last())).map(|header| header.id);
            match neighbour {
                Some(neighbour) => self.show(store, neighbour, None),
                None => self.begin(now),
            }
        }
        self.tell(notice);
    }

    fn adopt(&mut self, store: &Store, from: Conversation) {
        if let Some(adopted) = self.kept(store.insert(from)) {
            self.list(store);
            self.show(store, adopted.id, None);
        }
    }

    fn set_settings(&mut self, store: &Store, settings: ChatSettings) -> Vec<Order> {
        // One conversation has one request at a time.
        let answers = |running: &&Running| Some(running.conversation) == self.current && running.task == Task::Answer;
        let id = self.running.iter().find(answers).map(|running| running.request);
        let id = id.filter(|_| self.settings().prune != settings.prune);
        let prune = settings.prune.clone();
        match self.current {
            Some(_) => self.edit_current(store, |open| open.settings = settings),
            None => self.fresh = settings,
        }
        id.map(|id| Order::Send(Command::Prune { id, prune })).into_iter().collect()
    }

    fn load(&mut self, model: String) -> Vec<Order> {
        let Preferences { device, context, .. } = self.preferences.clone();
        let load = Load { model: model.clone(), device, context };
        let pull = self.catalogue.iter().any(|item| item.name == model && !item.pulled);
        let stage = if pull { "downloading" } else { "loading" };
        self.model = Model::Loading { name: model.clone(), stage: stage.into(), share: None };
        self.asked = Some(load.clone());
        let command = if pull { Command::Pull { name: model, load } } else { Command::Load(load) };
        // An answer under way belongs to the model that goes.
        vec![Order::Stop, Order::Send(command)]
    }

    fn prefer(&mut self, store: &Store, preferences: Preferences) {
        if self.preferences != preferences {
            self.preferences = preferences;
            self.save_preferences(store);
        }
    }
}

/// A title from a question: its first line, cut between words.
fn title(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.chars().count() <= TITLE {
        return line.to_string();
    }
    let cut: String = line.chars().take(TITLE).collect();
    let whole_words = cut.rfind(' ').filter(|&end| end > TITLE / 2).map_or(cut.as_str(), |end| &cut[..end]);
    format!("{}…", whole_words.trim_end())
}

#[cfg(test)]
mod tests {
    use super::title;

    #[test]
    fn a_title_is_the_first_line_cut_between_words() {
        assert_eq!(title("\n  Why is the sky blue?\nAnd the sea?"), "Why is the sky blue?");
        let long = "Explain in detail how photosynthesis works in plants and algae";
        assert_eq!(title(long), "Explain in detail how photosynthesis works in…");
        assert_eq!(title(&"字".repeat(60)), format!("{}…", "字".repeat(48)));
    }
}
