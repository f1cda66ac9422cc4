//! Conversations as files for other programs and other machines.
//!
//! Markdown is for reading and holds what is shown; JSON is for keeping and holds the whole tree. Invariant: what either
//! export wrote, import reads back word for word, whatever the messages contain.

mod json;
mod markdown;

use super::{Conversation, Node};
use crate::error::{Error, Result};
use std::path::Path;

pub use json::export as export_json;
pub use markdown::export as export_markdown;

/// More than a conversation ever has; a file beyond it is something else.
const MOST_BYTES: usize = 64 << 20;
/// Characters of a title; the list shows some 30.
const LONGEST_TITLE: usize = 200;

/// A conversation from either (id 0: it is not in the store yet); `name` is the file's, for its ending and for errors.
///
/// JSON is a file that ends in `.json`, or that begins with a brace and does not end in `.md`. Markdown of other programs
/// is read where the messages stand under headings `## User` and `## Assistant`.
///
/// # Errors
/// [`crate::Error::BadFile`] that says what is wrong with it.
pub fn import(name: &str, text: &str) -> Result<Conversation> {
    if text.len() > MOST_BYTES {
        let (megabytes, most) = (text.len() >> 20, MOST_BYTES >> 20);
        let what = format!("it has {megabytes} MiB, a conversation has at most {most}: it is something else");
        return Err(Error::bad_file(name, what));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ending = Path::new(name).extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let is_json = match ending.as_deref() {
        Some("json") => true,
        Some("md" | "markdown") => false,
        _ => text.trim_start().starts_with('{'),
    };
    let mut conversation = if is_json { json::import(text) } else { markdown::import(text) }
        .map_err(|what| Error::bad_file(name, what))?;
    conversation.title = title(&conversation.title);
    if conversation.title.is_empty() {
        conversation.title = title(&Path::new(name).file_stem().unwrap_or_default().to_string_lossy());
    }
    Ok(conversation)
}

/// A title as the list can show it: one line, not endless.
fn title(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(LONGEST_TITLE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ChatSettings, Role};
    use crate::protocol::{Figures, Stop};
    use proptest::prelude::*;

    /// Lines that the formats themselves are made of, between lines of anything.
    fn texts() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just("## User".to_owned()),
            Just("## Assistant".to_owned()),
            Just("# Title".to_owned()),
            Just("<!-- secateur:user -->".to_owned()),
            Just("\\<!-- secateur:assistant -->".to_owned()),
            Just("\\\\<!-- secateur:conversation 9 -->".to_owned()),
            Just("```".to_owned()),
            Just("{\"format\": 1}\r".to_owned()),
            Just(String::new()),
            any::<String>(),
        ];
        proptest::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
    }

    fn conversations() -> impl Strategy<Value = Conversation> {
        let messages = proptest::collection::vec((any::<bool>(), any::<u8>(), texts()), 0..8);
        ("[a-zA-Zäß中#*`]([a-z #*`]{0,20}[a-z#])?", texts(), messages).prop_map(|(title, system, messages)| {
            let settings = ChatSettings { system, max_tokens: 77, ..ChatSettings::default() };
            let mut conversation = Conversation::new(0, title, settings, Vec::new(), None).unwrap();
            for (user, behind, text) in messages {
                let role = if user { Role::User } else { Role::Assistant };
                let parents = conversation.nodes().count() as u64;
                let parent = (parents > 0).then(|| 1 + u64::from(behind) % parents);
                let id = conversation.add(parent.filter(|_| behind != 0), role, text);
                let node = conversation.node_mut(id).unwrap();
                node.created = i64::from(behind) * 1000;
                node.stop = user.then_some(Stop::Context);
                node.error = (!user).then(|| "out of memory".to_owned());
                node.left_out = parent.into_iter().collect();
                node.figures = user.then(|| Figures { answer_tokens: 7, decode_seconds: 0.25, ..Figures::default() });
            }
            conversation
        })
    }

    proptest! {
        #[test]
        fn markdown_brings_back_every_word_that_is_shown(conversation in conversations()) {
            let found = import("x.md", &export_markdown(&conversation)).unwrap();
            let words = |of: &Conversation| of.path().iter().map(|n| (n.role, n.text.clone())).collect::<Vec<_>>();
            prop_assert_eq!(words(&found), words(&conversation));
            prop_assert_eq!(&found.settings.system, &conversation.settings.system);
            prop_assert_eq!(found.title, conversation.title);
        }

        #[test]
        fn json_brings_back_the_whole_tree(conversation in conversations()) {
            prop_assert_eq!(import("x.json", &export_json(&conversation)).unwrap(), conversation);
        }

        #[test]
        fn no_text_makes_import_panic(name in "[a-z]{0,3}(\\.json|\\.md|)", text in texts()) {
            let _ = import(&name, &text);
        }
    }

    #[test]
    fn the_content_decides_where_the_ending_says_nothing() {
        let mut conversation = Conversation::new(0, "t".into(), ChatSettings::default(), Vec::new(), None).unwrap();
        conversation.add(None, Role::User, "hello".into());
        for text in [export_json(&conversation), export_markdown(&conversation)] {
            assert_eq!(import("download.txt", &text).unwrap().path()[0].text, "hello");
            assert_eq!(import("download", &format!("\u{feff}{text}")).unwrap().path()[0].text, "hello");
        }
    }

    #[test]
    fn a_title_is_one_line_and_falls_back_to_the_name_of_the_file() {
        let import = |text: &str| import("folder/My chat.md", text).unwrap().title;
        assert_eq!(import("## User\nhi"), "My chat");
        assert_eq!(import(&format!("# {}\n## User\nhi", "x\t".repeat(500))).chars().count(), LONGEST_TITLE);
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_by_its_size() {
        let error = import("x.md", &"## User\n".repeat(9 << 20)).unwrap_err().to_string();
        assert_eq!(error, "x.md: it has 72 MiB, a conversation has at most 64: it is something else");
    }
}
