//! The store of conversations as a face uses it: on a disk, across openings.

use secateur::chat::{ChatSettings, Conversation, Role, Store};

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

#[test]
fn what_was_kept_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/chats.db");
    let store = Store::open(&path).unwrap();
    let conversation = kept(&store, "A title", &["question", "answer"]);
    store.set_setting("theme", "dark").unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.load(conversation.id).unwrap(), conversation);
    assert_eq!(store.headers().unwrap()[0].title, "A title");
    assert_eq!(store.setting("theme").unwrap().as_deref(), Some("dark"));
    assert_eq!(store.search("answ").unwrap()[0].snippet, "answer");
}
