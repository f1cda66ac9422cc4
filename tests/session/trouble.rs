//! What goes wrong, and how a session tells it and goes on.

use super::{Bench, dense, pruned, request, spec};
use crate::common::tiny_model::{TinySpec, write_gguf};
use secateur::protocol::{Command, Event, Load, Overflow, Request, Stop};

#[test]
fn an_answer_needs_a_model() {
    let mut bench = Bench::empty();
    let found = bench.answer(request(1, &["Hello"], dense()));
    assert!(found.error.unwrap().contains("no model is loaded"));
}

#[test]
fn a_model_that_cannot_be_loaded_is_named_and_the_next_one_loads() {
    let mut bench = Bench::empty();
    std::fs::write(bench.path(), b"GGUF but not really").unwrap();
    bench.handle.send(Command::Load(bench.load(512)));
    let failed = bench.until(|event| matches!(event, Event::LoadFailed { .. }));
    let Event::LoadFailed { model, error: Some(error) } = failed else { panic!("{failed:?}") };
    assert!(model.ends_with("tiny.gguf") && error.contains("tiny.gguf"), "{error}");

    write_gguf(&bench.path(), &spec());
    bench.handle.send(Command::Load(Load { device: Some("no such device".into()), ..bench.load(512) }));
    let failed = bench.until(|event| matches!(event, Event::LoadFailed { .. }));
    assert!(format!("{failed:?}").contains("no such device"), "{failed:?}");

    bench.handle.send(Command::Load(bench.load(512)));
    bench.until(|event| matches!(event, Event::Loaded(_)));
    assert_eq!(bench.answer(request(1, &["Hello"], dense())).error, None);
}

#[test]
fn a_load_can_be_cancelled() {
    let mut bench = Bench::empty();
    write_gguf(&bench.path(), &TinySpec { layers: 150, ..spec() });
    bench.handle.send(Command::Load(bench.load(512)));
    bench.until(|event| matches!(event, Event::Loading { .. }));
    bench.handle.stop();
    let ended = bench.until(|event| matches!(event, Event::LoadFailed { .. } | Event::Loaded(_)));
    assert!(matches!(ended, Event::LoadFailed { error: None, .. }), "{ended:?}");
    // A stop is for what was sent before it.
    bench.handle.send(Command::Load(bench.load(512)));
    bench.until(|event| matches!(event, Event::Loaded(_)));
}

#[test]
fn a_conversation_that_is_too_long_is_told_before_anything_runs() {
    let mut bench = Bench::with(&spec(), 64);
    let long = "word ".repeat(30);
    let found = bench.answer(request(1, &[&long], dense()));
    let error = found.error.unwrap();
    assert!(error.contains("the context holds 64") && found.prompt.is_none(), "{error}");
    assert_eq!(bench.answer(request(2, &["Hi"], dense())).error, None, "the session goes on");
}

#[test]
fn an_answer_that_fills_the_context_stops_there() {
    let mut bench = Bench::with(&spec(), 64);
    let found = bench.answer(Request { max_tokens: 500, ..request(1, &["Hello there"], dense()) });
    assert_eq!((found.stop, found.figures.context_used), (Some(Stop::Context), 64));
    assert!(found.cuts.is_empty());
}

#[test]
fn an_answer_outgrows_the_context_where_old_messages_may_go() {
    for prune in [dense(), pruned(0.4)] {
        for overflow in [Overflow::DropOldest, Overflow::KeepEnds] {
            let mut bench = Bench::with(&spec(), 320);
            // Some 40 tokens a turn.
            let turns = ["One question", "One answer"].into_iter().cycle().take(12);
            let texts: Vec<&str> = turns.chain(["Hello there"]).collect();
            let asked = Request { overflow, max_tokens: 80, ..request(1, &texts, prune.clone()) };
            let found = bench.answer(asked);
            assert_eq!(found.error, None);
            let started = found.prompt.unwrap().left_out;
            let left_out = [&started].into_iter().chain(&found.cuts).find(|left_out| !left_out.is_empty());
            let left_out = left_out.expect("something is left out");
            assert_eq!(left_out[0], if overflow == Overflow::KeepEnds { 2 } else { 0 });
            assert_eq!(found.stop, Some(Stop::Length), "{overflow:?}");
            assert_eq!(found.figures.answer_tokens, 80);
        }
    }
}

#[test]
fn a_lost_device_fails_the_answer_alone() {
    let mut bench = Bench::new();
    let whole = bench.answer(request(1, &["Hello there"], dense()));
    bench.handle.send(Command::Answer(Box::new(request(2, &["Hello there"], dense()))));
    let mut lost = false;
    let part = bench.hear(2, |handle, event, answered| {
        if answered.pieces == 5 {
            handle.lose_device();
        }
        lost |= matches!(event, Event::DeviceLost { .. });
    });
    assert!(lost && part.error.is_some(), "{part:?}");
    assert!(!part.text.is_empty(), "what was said before stays");
    bench.until(|event| matches!(event, Event::Loaded(_)));
    assert_eq!(bench.answer(request(3, &["Hello there"], dense())).text, whole.text);
}
