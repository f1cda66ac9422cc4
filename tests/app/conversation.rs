//! Talking: questions, answers, branches, stops.

use super::desk::{Desk, Opening, figures, finished, started, token};
use eframe::egui::{self, Key, Modifiers};
use egui_kittest::kittest::Queryable;
use secateur::chat::Role;
use secateur::protocol::{Command, Comparison, Event, Overflow, Prompt, Stop};

#[test]
fn a_question_goes_to_the_engine_and_its_answer_is_shown_while_it_grows() {
    let mut desk = Opening::new().open_ready();
    let request = desk.ask("Why is the sky blue?");
    assert_eq!(request.messages.len(), 1);
    assert_eq!(
        (request.messages[0].role.as_str(), request.messages[0].content.as_str()),
        ("user", "Why is the sky blue?")
    );
    assert!(request.begun.is_empty() && desk.has("Waiting for the model"));
    let id = request.id;
    desk.tell([started(id), token(id, "Because of")]);
    assert!(desk.has("Because of") && desk.has("27.8 tokens/s"));
    desk.tell([token(id, " scattering."), finished(id, Stop::End)]);
    assert!(desk.has("Because of scattering.") && desk.has("812 / 4096 tokens") && desk.has("FLOPs removed"));
    assert!(!desk.window.state().state().is_busy());
}

#[test]
fn shift_enter_makes_a_line_and_enter_sends() {
    let mut desk = Opening::new().open_ready();
    desk.type_into("Message", "one");
    desk.key(Modifiers::SHIFT, Key::Enter);
    assert_eq!(desk.requests(), 0);
    desk.type_into("Message", "two");
    desk.key(Modifiers::NONE, Key::Enter);
    assert_eq!(desk.last_request().messages[0].content, "one\ntwo");
    assert_eq!(desk.window.get_by_label("Message").value().as_deref(), Some(""));
}

#[test]
fn an_edit_makes_a_branch_and_nothing_is_lost() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("First question", "First answer");
    desk.click("Edit");
    desk.type_into("Edited message", " again");
    desk.click("Send edited");
    assert_eq!(desk.last_request().messages[0].content, "First question again");
    desk.answer("Second answer");
    assert!(desk.has("2/2") && desk.has("Second answer") && !desk.has("First answer"));
    desk.click("Previous version");
    assert!(desk.has("1/2") && desk.has("First answer") && !desk.has("Second answer"));
    desk.click("Next version");
    assert!(desk.has("Second answer"));
}

#[test]
fn another_answer_is_drawn_from_another_seed() {
    let mut desk = Opening::new().open_ready();
    let first = desk.ask("Tell me a story");
    desk.answer("Once");
    desk.ctrl(Key::R);
    let second = desk.last_request();
    assert_eq!(second.messages, first.messages);
    assert_eq!(second.sampling.seed, first.sampling.seed + 1);
    desk.answer("Twice");
    assert!(desk.has("Twice") && desk.has("2/2"));
}

#[test]
fn an_answer_that_was_cut_off_says_so_and_is_continued_in_place() {
    let mut desk = Opening::new().open_ready();
    let id = desk.ask("Count").id;
    desk.tell([started(id), token(id, "one, two"), finished(id, Stop::Length)]);
    assert!(desk.has("cut off at 112 tokens"));
    desk.click("Continue");
    let request = desk.last_request();
    assert_eq!((request.begun.as_str(), request.messages.len()), ("one, two", 1));
    desk.answer(", three");
    assert!(desk.has("one, two, three") && !desk.has("cut off"));
}

#[test]
fn escape_stops_an_answer_and_what_it_said_stays() {
    let mut desk = Opening::new().open_ready();
    let id = desk.ask("Count").id;
    desk.tell([started(id), token(id, "one, two")]);
    let before = desk.words.stops.get();
    desk.key(Modifiers::NONE, Key::Escape);
    assert_eq!(desk.words.stops.get(), before + 1);
    desk.tell([finished(id, Stop::Stopped)]);
    assert!(desk.has("one, two") && desk.has("stopped"));
}

#[test]
fn a_failed_answer_tells_why_and_can_be_tried_again() {
    let mut desk = Opening::new().open_ready();
    let id = desk.ask("Hello").id;
    desk.tell([started(id), Event::Failed { id, error: "the device has no memory left".into() }]);
    assert!(desk.has("the device has no memory left"));
    desk.click("Retry");
    assert_ne!(desk.last_request().id, id);
    assert_eq!(desk.last_request().messages.len(), 1);
}

#[test]
fn what_the_model_does_not_read_is_marked_where_it_ends() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("One", "Answer one");
    desk.exchange("Two", "Answer two");
    desk.click("Chat settings");
    desk.click("Leave out the oldest messages");
    desk.key(Modifiers::NONE, Key::Escape);
    let request = desk.ask("Three");
    assert_eq!(request.overflow, Overflow::DropOldest);
    let prompt = Prompt { left_out: vec![0, 1], ..Prompt::default() };
    desk.tell([Event::Started { id: request.id, prompt }]);
    assert!(desk.has("2 earlier messages are not read by the model") && desk.has("leave out the oldest"));
    let mark = desk.window.get_by_label_contains("2 earlier messages").rect().center().y;
    let (read, not_read) =
        (desk.window.get_by_label("Two").rect().min.y, desk.window.get_by_label("Answer one").rect().max.y);
    assert!(not_read < mark && mark < read, "{not_read} < {mark} < {read}");
    desk.tell([Event::Cut { id: request.id, left_out: vec![0, 1, 2, 3] }]);
    assert!(desk.has("4 earlier messages"));
}

#[test]
fn drafts_stay_with_their_conversation() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("One", "Answer one");
    desk.type_into("Message", "half a thought");
    desk.ctrl(Key::N);
    assert_eq!(desk.window.get_by_label("Message").value().as_deref(), Some(""));
    desk.click("One");
    assert_eq!(desk.window.get_by_label("Message").value().as_deref(), Some("half a thought"));
}

#[test]
fn an_answer_grows_in_a_conversation_that_is_not_shown() {
    let mut desk = Opening::new().open_ready();
    let id = desk.ask("Slow question").id;
    desk.tell([started(id), token(id, "part")]);
    desk.ctrl(Key::N);
    assert!(!desk.has("part"));
    desk.tell([token(id, " and the rest"), finished(id, Stop::End)]);
    desk.click("Slow question");
    assert!(desk.has("part and the rest"));
}

#[test]
fn a_comparison_stands_beside_the_answer() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("Hello", "Pruned words");
    desk.window.get_all_by_label("Compare with dense").last().expect("a button").click();
    desk.window.run();
    let asked = desk.words.asked.borrow().last().cloned();
    assert!(matches!(asked, Some(Command::Compare(_))), "{asked:?}");
    let id = desk.last_request().id;
    let comparison = Comparison { text: "Dense words".into(), tokens: 2, dense_rate: 20.0, ..Comparison::default() };
    desk.tell([started(id), Event::Compared { id, comparison: comparison.clone() }]);
    let (left, right) =
        (desk.window.get_by_label("Pruned words").rect(), desk.window.get_by_label("Dense words").rect());
    assert!(left.max.x < right.min.x && (left.min.y - right.min.y).abs() < 1.0, "{left} {right}");
    assert!(desk.window.state().state().is_busy());
    desk.tell([Event::Compared { id, comparison: Comparison { complete: true, ..comparison } }]);
    assert!(!desk.window.state().state().is_busy());
    desk.click("Hide comparison");
    assert!(!desk.has("Dense words") && desk.has("Pruned words"));
}

#[test]
fn figures_are_of_the_answer_that_they_stand_below() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("Hello", "Words");
    let state = desk.window.state().state();
    let answer = state.last_answer().expect("an answer");
    assert_eq!((answer.role, answer.figures.as_ref()), (Role::Assistant, Some(&figures())));
}

#[test]
fn who_reads_further_up_stays_there_while_an_answer_grows() {
    let mut desk = Opening::new().open_ready();
    desk.exchange("Long", &"A line of the answer.\n\n".repeat(80));
    let id = desk.ask("More").id;
    desk.tell([started(id), token(id, "It begins")]);
    assert!(desk.has("It begins") && !desk.has("Jump to latest"));
    let middle = desk.window.get_by_label("It begins").rect().center();
    desk.window.hover_at(middle);
    let (unit, delta) = (egui::MouseWheelUnit::Point, egui::vec2(0.0, 900.0));
    let (phase, source, modifiers) = (egui::TouchPhase::Move, egui::MouseWheelSource::Unknown, Modifiers::NONE);
    desk.window.event(egui::Event::MouseWheel { unit, delta, phase, source, modifiers });
    desk.window.run();
    assert!(desk.has("Jump to latest"));
    let place = |desk: &Desk| desk.window.get_by_label_contains("It begins").rect().min.y;
    let before = place(&desk);
    desk.tell([token(id, &" and goes on.\n\n".repeat(40))]);
    assert_eq!(place(&desk), before, "the view has moved with the answer");
    desk.click("Jump to latest");
    desk.tell([finished(id, Stop::End)]);
    assert!(desk.has("and goes on.") && !desk.has("Jump to latest"));
}
