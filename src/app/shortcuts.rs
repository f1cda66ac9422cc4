//! The keyboard: one table, that the keys are taken from and that the window of keys lists.

use super::state::{Intent, State};
use super::theme;
use super::view::{Focus, View, Window};
use super::{Act, PAGE};
use eframe::egui::{self, Context, Grid, Key, KeyboardShortcut, Modifiers, RichText, Ui};

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    New,
    Search,
    Stop,
    Regenerate,
    EditLast,
    CopyLast,
    Next,
    Previous,
    Latest,
    List,
    Inspector,
    Settings,
    Preferences,
    OpenFile,
    Shortcuts,
    Quit,
}

const fn key(modifiers: Modifiers, key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(modifiers, key)
}

const CTRL: Modifiers = Modifiers::COMMAND;

/// Keys that act at once, in the order of the list; those with more modifiers come before those with fewer.
const KEYS: &[(Action, KeyboardShortcut, &str)] = &[
    (Action::New, key(CTRL, Key::N), "New chat"),
    (Action::Search, key(CTRL, Key::K), "Search conversations"),
    (Action::Stop, key(Modifiers::NONE, Key::Escape), "Stop the answer; close a window"),
    (Action::Regenerate, key(CTRL, Key::R), "Regenerate the last answer"),
    (Action::EditLast, key(CTRL, Key::E), "Edit the last question"),
    (Action::CopyLast, key(CTRL.plus(Modifiers::SHIFT), Key::C), "Copy the last answer"),
    (Action::Next, key(CTRL, Key::PageDown), "Next conversation"),
    (Action::Previous, key(CTRL, Key::PageUp), "Previous conversation"),
    (Action::Latest, key(CTRL, Key::End), "Jump to the latest message"),
    (Action::List, key(CTRL, Key::L), "Show or hide the list"),
    (Action::Inspector, key(CTRL, Key::B), "Show or hide pruning"),
    (Action::Settings, key(CTRL, Key::P), "Chat settings"),
    (Action::Preferences, key(CTRL, Key::Comma), "Settings of the program"),
    (Action::OpenFile, key(CTRL, Key::O), "Open a model file"),
    (Action::Shortcuts, key(Modifiers::NONE, Key::F1), "These keys"),
    (Action::Quit, key(CTRL, Key::Q), "Quit"),
];

/// The keys that there are: a browser keeps some for itself, such as the one that reloads the page.
fn keys() -> impl Iterator<Item = &'static (Action, KeyboardShortcut, &'static str)> {
    use Action::{List, New, Next, Previous, Quit, Regenerate};
    KEYS.iter().filter(|(action, ..)| !(PAGE && matches!(action, New | Next | Previous | List | Regenerate | Quit)))
}

/// Keys that the field for questions and egui act on.
const OTHERS: &[(&str, &str)] = &[
    ("Enter", "Send"),
    ("Shift+Enter", "New line"),
    ("Ctrl++, Ctrl+-", "Zoom in, zoom out"),
    ("Ctrl+0", "Zoom back to normal"),
];

/// Takes the keys that were pressed, and does or returns what they mean.
pub fn pressed(context: &Context, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    for (action, shortcut, _) in keys() {
        // A menu, a search or a field that is open has the first word on Escape.
        let taken = *action == Action::Stop && !escape_is_free(context, state, view);
        if !taken && context.input_mut(|input| input.consume_shortcut(shortcut)) {
            act(*action, state, view, acts);
        }
    }
}

fn escape_is_free(context: &Context, state: &State, view: &View) -> bool {
    let menu = egui::Popup::is_any_open(context);
    let field = view.editing.is_some() || view.renaming.is_some() || state.found.is_some();
    !menu && !field && (view.window.is_some() || state.is_busy())
}

fn act(action: Action, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    match action {
        Action::New => {
            view.focus = Some(Focus::Composer);
            acts.push(Act::State(Intent::New));
        }
        Action::Search => {
            view.focus = Some(Focus::Search);
            if !state.preferences.list {
                acts.push(Act::ToggleList);
            }
        }
        Action::Stop if view.window.is_some() => view.window = None,
        Action::Stop => {
            // The key has taken the keyboard from the composer.
            view.focus = Some(Focus::Composer);
            acts.push(Act::State(Intent::Stop));
        }
        Action::Regenerate => acts.extend(state.last_answer().map(|node| Act::State(Intent::Regenerate(node.id)))),
        Action::EditLast if state.is_busy() => {}
        Action::EditLast => {
            if let Some(node) = state.last_question() {
                view.editing = Some((node.id, node.text.clone()));
                view.focus = Some(Focus::Field);
                view.jump = true;
            }
        }
        Action::CopyLast => acts.extend(state.last_answer().map(|node| Act::Copy(node.text.clone()))),
        Action::Next => acts.push(Act::State(Intent::Step(1))),
        Action::Previous => acts.push(Act::State(Intent::Step(-1))),
        Action::Latest => view.jump = true,
        Action::List => acts.push(Act::ToggleList),
        Action::Inspector => acts.push(Act::ToggleInspector),
        Action::Settings => view.toggle(Window::Settings),
        Action::Preferences => view.toggle(Window::Preferences),
        Action::OpenFile => acts.push(Act::PickFile),
        Action::Shortcuts => view.toggle(Window::Shortcuts),
        Action::Quit => acts.push(Act::Quit),
    }
}

/// Draws the list of keys.
pub fn shortcuts(ui: &mut Ui) {
    Grid::new("keys").num_columns(2).spacing([24.0, 6.0]).show(ui, |ui| {
        let own = keys().map(|(_, shortcut, what)| (ui.ctx().format_shortcut(shortcut), *what));
        let others = OTHERS.iter().map(|(keys, what)| ((*keys).to_string(), *what));
        for (keys, what) in own.chain(others).collect::<Vec<_>>() {
            ui.label(RichText::new(keys).monospace());
            ui.label(what);
            ui.end_row();
        }
    });
    theme::aside(ui, "Double click a conversation to rename it.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things() {
        for (place, (_, shortcut, what)) in KEYS.iter().enumerate() {
            let taken = KEYS[..place].iter().find(|(_, other, _)| other == shortcut);
            assert!(taken.is_none(), "{what} and {taken:?}");
        }
    }
}
