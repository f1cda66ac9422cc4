//! The store of conversations as a face uses it: on a disk, across openings, beside other programs.

#[path = "chat/files.rs"]
mod files;
#[path = "chat/kill.rs"]
mod kill;
#[path = "chat/search.rs"]
mod search;

use proptest::prelude::*;
use secateur::chat::{ChatSettings, Conversation, NodeId, Preset, Role, Store, export_json, import};
use secateur::config::Method;
use secateur::protocol::{Cause, Comparison, Cost, Figures, Heat, LayerHeat, Stop, UnitHeat};
use std::sync::Arc;

/// A conversation of these messages, user first, kept.
fn kept(store: &Store, title: &str, texts: &[&str]) -> Conversation {
    let mut conversation = store.create(title, &ChatSettings::default()).unwrap();
    for (place, text) in texts.iter().enumerate() {
        let role = if place % 2 == 0 { Role::User } else { Role::Assistant };
        let id = conversation.add(conversation.leaf(), role, (*text).to_owned());
        store.save_node(conversation.id, conversation.node(id).unwrap()).unwrap();
    }
    store.save(&conversation).unwrap();
    conversation
}

/// A probe of one pruned layer, with values that are kept exactly.
fn heat(index: usize) -> Heat {
    let channels = UnitHeat {
        kept: vec![1, 3, 63],
        scores: (0..64).map(|unit| unit as f32 / 4.0).collect(),
        from_history: (0..64).map(|unit| f32::from(unit % 2 == 0)).collect(),
        probed: vec![0, 5, 700],
    };
    let layers = vec![LayerHeat::default(), LayerHeat { heads: None, channels: Some(channels) }];
    let (cause, method) = (Cause::Renewal, Method::Pp);
    Heat { id: 9, index, cause, at: 700 + index, method, ratio: 0.4, heads: 9, channels: 64, layers }
}

fn ids(store: &Store) -> Vec<i64> {
    store.headers().unwrap().iter().map(|header| header.id).collect()
}

#[test]
fn what_was_kept_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/chats.db");
    let store = Store::open(&path).unwrap();
    let mut conversation = kept(&store, "A title", &["question \0 \r\n", "answer"]);
    let id = conversation.leaf().unwrap();
    let answer = conversation.node_mut(id).unwrap();
    answer.figures = Some(Figures {
        prompt_tokens: 12,
        decode_seconds: 0.1,
        memory: u64::MAX,
        decode: Cost { flops: 1e12, ..Cost::default() },
        ..Figures::default()
    });
    answer.stop = Some(Stop::Length);
    answer.error = Some("the device was lost".into());
    answer.left_out = vec![1];
    answer.comparison = Some(Comparison { text: "dense".into(), pruned_rate: Some(7.5), ..Comparison::default() });
    answer.prompt = vec!["<s>".into(), " quest".into(), "\u{fffd}".into()];
    conversation.title = "Renamed".into();
    conversation.settings.prune.ratio = 0.3;
    conversation.settings.sampling.seed = u64::MAX;
    store.save_node(conversation.id, conversation.node(id).unwrap()).unwrap();
    store.save(&conversation).unwrap();
    let heats: Vec<Arc<Heat>> = [0, 1, 2].map(|index| Arc::new(heat(index))).into();
    for place in [2, 0, 1, 1] {
        store.save_heat(conversation.id, id, &heats[place]).unwrap();
    }
    store.set_setting("theme", "light").unwrap();
    store.set_setting("theme", "dark").unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.load(conversation.id).unwrap(), conversation);
    assert_eq!(store.heats(conversation.id, id).unwrap(), heats);
    assert_eq!(store.heats(conversation.id, 1).unwrap(), []);
    assert_eq!(store.headers().unwrap()[0].title, "Renamed");
    assert_eq!(store.setting("theme").unwrap().as_deref(), Some("dark"));
    assert_eq!(store.setting("zoom").unwrap(), None);
}

#[test]
fn a_new_message_moves_its_conversation_to_the_top_and_a_new_name_does_not() {
    let store = Store::in_memory().unwrap();
    let [mut old, new] = ["old", "new"].map(|title| kept(&store, title, &["text"]));
    assert_eq!(ids(&store), [new.id, old.id]);
    std::thread::sleep(std::time::Duration::from_millis(2));
    old.title = "renamed".into();
    store.save(&old).unwrap();
    assert_eq!(ids(&store), [new.id, old.id]);
    store.save_node(old.id, old.node(1).unwrap()).unwrap();
    assert_eq!(ids(&store), [old.id, new.id]);
}

#[test]
fn a_deleted_conversation_comes_back_whole() {
    let store = Store::in_memory().unwrap();
    let [first, second] = ["first", "second"].map(|title| kept(&store, title, &["a question", "an answer"]));
    store.set_deleted(first.id, true).unwrap();
    assert_eq!(ids(&store), [second.id]);
    assert_eq!(store.load(first.id).unwrap(), first);
    store.set_deleted(first.id, false).unwrap();
    assert_eq!(ids(&store), [second.id, first.id]);
    assert_eq!(store.load(first.id).unwrap(), first);
}

#[test]
fn what_is_not_there_is_told_by_its_number() {
    let store = Store::in_memory().unwrap();
    let conversation = kept(&store, "title", &["text"]);
    let lost = Conversation::new(77, "lost".into(), ChatSettings::default(), Vec::new(), None).unwrap();
    let node = conversation.node(1).unwrap();
    for error in [
        store.load(77).unwrap_err(),
        store.save(&lost).unwrap_err(),
        store.save_node(77, node).unwrap_err(),
        store.set_deleted(77, true).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("the conversation 77 is not in "), "{error}");
    }
    let error = store.save_heat(conversation.id, 9, &heat(0)).unwrap_err().to_string();
    assert!(error.starts_with(&format!("message 9 of the conversation {} is not in ", conversation.id)), "{error}");
    assert!(store.search("lost").unwrap().is_empty());
}

#[test]
fn presets_are_unique_by_name_and_sorted() {
    let store = Store::in_memory().unwrap();
    let preset = |name: &str, max_tokens| Preset {
        name: name.into(),
        settings: ChatSettings { max_tokens, ..ChatSettings::default() },
    };
    for (name, max_tokens) in [("brief", 1), ("Quick", 2), ("anew", 3), ("brief", 4)] {
        store.save_preset(&preset(name, max_tokens)).unwrap();
    }
    assert_eq!(store.presets().unwrap(), [preset("anew", 3), preset("brief", 4), preset("Quick", 2)]);
    store.delete_preset("brief").unwrap();
    store.delete_preset("never was").unwrap();
    assert_eq!(store.presets().unwrap(), [preset("anew", 3), preset("Quick", 2)]);
}

#[test]
fn an_imported_conversation_is_kept_whole_and_can_be_found() {
    let store = Store::in_memory().unwrap();
    let mut original = kept(&store, "Trees", &["question", "first answer"]);
    original.add(Some(1), Role::Assistant, "second answer".into());
    original.switch_branch(3, -1);
    let copy = store.insert(import("x.json", &export_json(&original)).unwrap()).unwrap();
    assert_ne!(copy.id, original.id);
    assert_eq!(store.load(copy.id).unwrap(), copy);
    original.id = copy.id;
    assert_eq!(copy, original);
    assert_eq!(store.search("second").unwrap()[0].id, copy.id);
}

/// What a face does to a conversation.
#[derive(Debug, Clone)]
enum Step {
    Add(u64, String),
    Change(u64, String),
    Show(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_file_and_the_window_hold_the_same(steps in proptest::collection::vec(prop_oneof![
        (any::<u64>(), any::<String>()).prop_map(|(at, text)| Step::Add(at, text)),
        (any::<u64>(), any::<String>()).prop_map(|(at, text)| Step::Change(at, text)),
        any::<u64>().prop_map(Step::Show),
    ], 0..30)) {
        let store = Store::in_memory().unwrap();
        let mut conversation = store.create("title", &ChatSettings::default()).unwrap();
        for step in steps {
            let count = conversation.nodes().count() as u64;
            let some = |at: u64| -> Option<NodeId> { (at % (count + 1)).checked_sub(1).map(|place| place + 1) };
            let changed = match step {
                Step::Add(at, text) => Some(conversation.add(some(at), Role::User, text)),
                Step::Change(at, text) => some(at).inspect(|&id| conversation.node_mut(id).unwrap().text = text),
                Step::Show(at) => {
                    some(at).into_iter().for_each(|id| conversation.show(id));
                    None
                }
            };
            if let Some(node) = changed.and_then(|id| conversation.node(id)) {
                store.save_node(conversation.id, node).unwrap();
            }
            store.save(&conversation).unwrap();
        }
        prop_assert_eq!(store.load(conversation.id).unwrap(), conversation);
    }
}
