//! What a search finds.

use super::kept;
use proptest::prelude::*;
use secateur::chat::{Found, Role, Store};

/// The marked parts of a snippet.
fn marked(found: &Found) -> Vec<&str> {
    found.marks.iter().map(|mark| &found.snippet[mark.clone()]).collect()
}

#[test]
fn case_accents_and_unfinished_words_do_not_matter() {
    let store = Store::in_memory().unwrap();
    let conversation =
        kept(&store, "On pruning", &["Où est\nle   CAFÉ?", "Au coin.", "Thüringen, naïve, cafe\u{301}s"]);
    for (query, mark) in [("cafe ", "CAFÉ"), ("ou est le caf", "CAFÉ"), ("thurin", "Thüringen"), ("coin ", "coin")] {
        let found = store.search(query).unwrap();
        assert_eq!(found.len(), 1, "{query}");
        assert_eq!(found[0].id, conversation.id);
        assert!(marked(&found[0]).contains(&mark), "{query}: {:?}", found[0]);
    }
    assert_eq!(store.search("ou est").unwrap()[0].snippet, "Où est le CAFÉ?");
    assert_eq!(store.search("cafés").unwrap()[0].node, Some(3));
    assert_eq!(store.search("caf ").unwrap(), [], "a space ends the word");
    assert_eq!(store.search("afe").unwrap(), [], "a word is found from its beginning");
}

#[test]
fn any_part_of_a_sentence_without_spaces_is_found() {
    let store = Store::in_memory().unwrap();
    kept(
        &store,
        "测试",
        &[
            "我喜欢学习中文。",
            "日本語を勉強しています",
            "ภาษาไทยง่าย",
            "한국어를 배웁니다",
            "\u{20bb7}野家",
            "हिन्दी भाषा",
        ],
    );
    for (query, node, mark) in [
        ("中文", 1, "中文"),
        ("学", 1, "学"),
        ("勉強し", 2, "勉強し"),
        ("ไทย", 3, "ไทย"),
        ("한국", 4, "한국어를"),
        ("\u{20bb7}野", 5, "\u{20bb7}野"),
        ("हिन्दी", 6, "हिन्दी"),
    ] {
        let found = store.search(query).unwrap();
        assert_eq!(found.len(), 1, "{query}");
        assert_eq!((found[0].node, marked(&found[0])), (Some(node), vec![mark]), "{query}");
    }
    assert_eq!(store.search("文中").unwrap(), []);
    assert_eq!(store.search("测").unwrap()[0].node, None);
}

#[test]
fn every_word_must_be_there_but_not_in_one_message() {
    let store = Store::in_memory().unwrap();
    let both = kept(&store, "Gardening", &["How to prune an apple tree?", "With a secateur, in winter."]);
    kept(&store, "Cooking", &["How to bake an apple pie?", "With butter."]);
    let only = |query: &str| store.search(query).unwrap().iter().map(|found| found.id).collect::<Vec<_>>();
    assert_eq!(only("apple").len(), 2);
    assert_eq!(only("apple winter"), [both.id]);
    assert_eq!(only("gardening secateur"), [both.id]);
    assert_eq!(only("apple gardening butter"), [0; 0]);
    let found = store.search("prune tree secateur").unwrap();
    assert_eq!((found[0].node, marked(&found[0])), (Some(1), vec!["prune", "tree"]), "the best message is shown");
}

#[test]
fn changed_and_deleted_words_are_not_found() {
    let store = Store::in_memory().unwrap();
    let mut conversation = kept(&store, "before", &["early words"]);
    conversation.title = "afterwards".into();
    conversation.node_mut(1).unwrap().text = "late words".into();
    store.save(&conversation).unwrap();
    store.save_node(conversation.id, conversation.node(1).unwrap()).unwrap();
    assert_eq!(store.search("before").unwrap(), []);
    assert_eq!(store.search("early").unwrap(), []);
    assert_eq!(store.search("afterw").unwrap()[0].node, None);
    assert_eq!(store.search("words late").unwrap()[0].node, Some(1));

    store.set_deleted(conversation.id, true).unwrap();
    assert_eq!(store.search("late").unwrap(), []);
    store.set_deleted(conversation.id, false).unwrap();
    assert_eq!(store.search("late").unwrap().len(), 1);
}

#[test]
fn the_snippet_is_cut_around_the_match() {
    let store = Store::in_memory().unwrap();
    let text = format!("{}needle{}", "hay ".repeat(500), " straw".repeat(500));
    kept(&store, "t", &[&text]);
    let found = &store.search("needle").unwrap()[0];
    assert!(found.snippet.len() < 200, "{}", found.snippet);
    assert!(found.snippet.starts_with('…') && found.snippet.ends_with('…'));
    assert_eq!(marked(found), ["needle"]);
}

#[test]
fn nothing_to_look_for_finds_nothing() {
    let store = Store::in_memory().unwrap();
    kept(&store, "title", &["\"quoted\" text"]);
    for query in ["", "  ", "\"", "*", "?!", "\0"] {
        assert_eq!(store.search(query).unwrap(), [], "{query:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_query_is_an_error_and_marks_lie_on_characters(
        text in "\\PC{0,40}|[a-zé中 \"*:^()-]{0,40}",
        query in "\\PC{0,12}|[a-zé中 \"*:^(){}+-]{0,12}|(AND|OR|NOT|NEAR|text:|a)[ (\"]{0,2}(AND|OR|NOT|NEAR|b)?",
    ) {
        let store = Store::in_memory().unwrap();
        kept(&store, "a b AND OR NEAR", &[&text]);
        for found in store.search(&query).unwrap() {
            prop_assert!(!found.marks.is_empty());
            prop_assert!(found.marks.iter().all(|mark| found.snippet.get(mark.clone()).is_some_and(|part| !part.is_empty())));
            prop_assert!(!found.snippet.contains(char::is_control));
        }
    }

    #[test]
    fn a_word_of_a_message_finds_it(words in proptest::collection::vec("[a-zà-öø-ÿ0-9]{1,8}|[中文字日本]{1,4}", 1..8), at in any::<prop::sample::Index>()) {
        let store = Store::in_memory().unwrap();
        let conversation = kept(&store, "", &[&words.join(" ")]);
        let found = store.search(&words[at.index(words.len())]).unwrap();
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!((found[0].id, found[0].node), (conversation.id, Some(1)));
        prop_assert_eq!(conversation.node(1).unwrap().role, Role::User);
    }
}
