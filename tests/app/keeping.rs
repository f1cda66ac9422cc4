//! What is kept, found again, deleted and brought back.

use super::desk::{Opening, finished, heat, started, token};
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable;
use secateur::Error;
use secateur::chat::Store;
use secateur::protocol::Stop;

#[test]
fn an_answer_that_was_killed_is_shown_as_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chats.sqlite");
    let mut desk = Opening::over(&file).open_ready();
    let id = desk.ask("A long question").id;
    desk.tell([started(id), token(id, "The beginning")]);
    // Nothing is told to the window: this is what a kill leaves.
    drop(desk);
    let mut desk = Opening::over(&file).open_ready();
    assert!(desk.has("A long question") && desk.has("The beginning") && desk.has("interrupted"));
    desk.click("Continue");
    assert_eq!(desk.last_request().begun, "The beginning");
}

#[test]
fn the_next_start_shows_what_the_last_one_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chats.sqlite");
    let mut desk = Opening::over(&file).open_ready();
    desk.exchange("One", "Answer one");
    desk.ctrl(Key::N);
    desk.exchange("Two", "Answer two");
    desk.click("One");
    desk.ctrl(Key::B);
    desk.ctrl(Key::Comma);
    desk.click("Light");
    drop(desk);
    let desk = Opening::over(&file).open_ready();
    assert!(desk.has("Answer one") && !desk.has("Answer two"));
    let preferences = &desk.window.state().state().preferences;
    assert!(!preferences.inspector && preferences.theme == secateur::app::state::Theme::Light);
}

#[test]
fn a_zoom_by_the_keyboard_is_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chats.sqlite");
    let mut desk = Opening::over(&file).open_ready();
    desk.ctrl(Key::Plus);
    let zoom = desk.window.state().state().preferences.zoom;
    assert!(zoom > 1.0, "{zoom}");
    drop(desk);
    let mut desk = Opening::over(&file).open_ready();
    assert_eq!(desk.window.ctx.zoom_factor(), zoom);
    desk.ctrl(Key::Num0);
    assert_eq!(desk.window.state().state().preferences.zoom, 1.0);
}

#[test]
fn a_search_finds_words_and_leads_to_their_message() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("How do I prune roses?", "In late winter, above a bud.");
    desk.ctrl(Key::N);
    desk.exchange("Why is the sky blue?", "Rayleigh scattering.");
    desk.ctrl(Key::K);
    desk.type_into("Search conversations", "winter");
    let row = desk.window.get_by_label_contains("late winter");
    row.click();
    desk.window.run();
    assert!(desk.has("In late winter, above a bud."));
    desk.window.get_by_label("Search conversations").focus();
    desk.window.run();
    desk.key(Modifiers::NONE, Key::Escape);
    assert!(desk.window.query_by_label("Why is the sky blue?").is_some());
}

#[test]
fn a_deleted_conversation_comes_back_by_undo() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("Keep me", "Kept");
    desk.click("More for “Keep me”");
    desk.click("Delete");
    assert!(desk.has("“Keep me” was deleted.") && !desk.has("Kept"));
    desk.click("Undo");
    assert!(desk.has("Kept") && desk.has("Keep me"));
}

#[test]
fn a_conversation_has_the_title_that_the_user_gives_it() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("Hello", "Hi");
    desk.click("More for “Hello”");
    desk.click("Rename");
    desk.ctrl(Key::A);
    desk.type_into("New title", "Greetings");
    desk.key(Modifiers::NONE, Key::Enter);
    assert!(desk.has("Greetings") && desk.window.state().state().headers[0].title == "Greetings");
}

#[test]
fn the_keyboard_leads_through_the_list() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("One", "Answer one");
    desk.ctrl(Key::N);
    desk.exchange("Two", "Answer two");
    desk.ctrl(Key::PageDown);
    assert!(desk.has("Answer one"));
    desk.ctrl(Key::PageUp);
    assert!(desk.has("Answer two"));
}

#[test]
fn presets_are_saved_used_and_deleted() {
    let mut desk = Opening::new().open_ready();
    desk.ctrl(Key::P);
    desk.type_into("System prompt", "Be brief.");
    desk.type_into("Name of the preset", "Brief");
    desk.click("Save as preset");
    desk.click("Back to defaults");
    assert_eq!(desk.window.state().state().settings().system, "");
    desk.click("Brief");
    assert_eq!(desk.window.state().state().settings().system, "Be brief.");
    desk.key(Modifiers::NONE, Key::Escape);
    let request = desk.ask("Hello");
    assert_eq!((request.messages[0].role.as_str(), request.messages.len()), ("system", 2));
}

#[test]
fn where_the_file_cannot_be_opened_the_user_chooses() {
    let store = Err(Error::Setting("chats.sqlite is in use by another Secateur: close it".into()));
    let mut desk = Opening { store, ..Opening::new() }.open();
    assert!(desk.has("in use by another Secateur") && desk.has("Quit"));
    desk.click("Go on without saving");
    assert!(desk.has("Nothing is saved"));
    desk.tell([secateur::protocol::Event::Loaded(Box::new(super::desk::model()))]);
    desk.exchange("Hello", "Hi there");
    assert!(desk.has("Hi there"));
}

#[test]
fn what_is_free_again_is_opened_by_another_try() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chats.sqlite");
    let first = Store::open(&path).expect("a store");
    let mut desk = Opening::over(&path).open();
    assert!(desk.has("could not be opened") && desk.has("another Secateur"));
    desk.click("Try again");
    assert!(desk.has("could not be opened"));
    drop(first);
    desk.click("Try again");
    assert!(!desk.has("could not be opened") && !desk.has("Nothing is saved"));
}

#[test]
fn settings_of_a_new_chat_hold_for_its_first_answer() {
    let store = Store::in_memory();
    let mut desk = Opening { store, ..Opening::new() }.open_ready();
    desk.ctrl(Key::P);
    desk.click("Leave out the oldest messages");
    desk.key(Modifiers::NONE, Key::Escape);
    let request = desk.ask("Hello");
    assert_eq!(request.overflow, secateur::protocol::Overflow::DropOldest);
}

#[test]
fn probes_are_kept_with_their_answer_and_go_on_counting_when_it_is_continued() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chats.sqlite");
    let mut desk = Opening::over(&file).open_ready();
    let id = desk.ask("Hello").id;
    desk.tell([started(id), heat(id, 0), token(id, "Hi"), heat(id, 1), finished(id, Stop::Length)]);
    desk.click("Continue");
    let id = desk.last_request().id;
    desk.tell([started(id), heat(id, 0), token(id, " there"), finished(id, Stop::End)]);
    let places = |desk: &super::desk::Desk| {
        let state = desk.window.state().state();
        let answer = state.last_answer().expect("an answer").id;
        assert!(state.heats.iter().all(|heat| heat.id == answer));
        state.heats.iter().map(|heat| heat.index).collect::<Vec<_>>()
    };
    assert_eq!(places(&desk), [0, 1, 2]);
    drop(desk);
    let desk = Opening::over(&file).open_ready();
    assert_eq!(places(&desk), [0, 1, 2]);
    assert!(desk.window.query_by_label("Heatmap of kept units").is_some());
}
