//! Markdown: a title, then a heading for every message that is shown.
//!
//! What parts the messages is the comment above each heading, which readers do not see. A line of a message that looks like
//! such a comment gets a backslash in front, and one that has backslashes there already gets one more; so every text comes
//! back as it was.

use crate::chat::{ChatSettings, Conversation, Node, Role};
use std::borrow::Cow;

/// What this program writes; a newer one is refused.
const VERSION: u32 = 1;
const MARK: &str = "<!-- secateur:";

/// Whose words stand in a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    System,
    Message(Role),
}

const PARTS: [(Part, &str, &str); 3] = [
    (Part::System, "system", "System"),
    (Part::Message(Role::User), "user", "User"),
    (Part::Message(Role::Assistant), "assistant", "Assistant"),
];

/// The shown path as Markdown: a title, then a heading for every message.
pub fn export(conversation: &Conversation) -> String {
    let title = super::title(&conversation.title);
    let mut text = format!("{MARK}conversation {VERSION} -->\n# {title}\n");
    let system = Some((Part::System, &conversation.settings.system)).filter(|(_, text)| !text.is_empty());
    let messages = conversation.path().into_iter().map(|node| (Part::Message(node.role), &node.text));
    for (part, words) in system.into_iter().chain(messages) {
        let Some((_, name, heading)) = PARTS.iter().find(|(known, ..)| *known == part) else { continue };
        text += &format!("\n{MARK}{name} -->\n## {heading}\n\n");
        for line in words.split('\n') {
            if looks_marked(line) {
                text.push('\\');
            }
            text += line;
            text.push('\n');
        }
    }
    text
}

/// A conversation from Markdown, ours or another program's; an error says what is wrong.
pub(super) fn import(text: &str) -> Result<Conversation, String> {
    // Mail and version control turn line ends around; ours are never all `\r\n`, whatever the messages hold.
    let all_crlf = text.contains('\n') && text.matches('\n').count() == text.matches("\r\n").count();
    let text = if all_crlf { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) };
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(&text).split('\n').collect();
    let (title, sections) =
        if lines.iter().any(|line| line.starts_with(MARK)) { marked(&lines)? } else { headed(&lines)? };

    let mut settings = ChatSettings::default();
    let mut nodes: Vec<Node> = Vec::new();
    for (part, words) in sections {
        match part {
            Part::Message(role) => {
                let parent = nodes.last().map(|node| node.id);
                nodes.push(Node::bare(parent.unwrap_or(0) + 1, parent, role, words));
            }
            Part::System if nodes.is_empty() && settings.system.is_empty() => settings.system = words,
            Part::System => return Err("a system message stands behind other messages: put it before them".into()),
        }
    }
    Conversation::new(0, title, settings, nodes, None).map_err(|error| error.to_string())
}

type Sections = (String, Vec<(Part, String)>);

/// The sections of a file of ours, word for word.
fn marked(lines: &[&str]) -> Result<Sections, String> {
    let (mut title, mut sections) = (String::new(), Vec::new());
    let marks: Vec<usize> = (0..lines.len()).filter(|&at| lines[at].starts_with(MARK)).collect();
    for (place, &at) in marks.iter().enumerate() {
        let end = marks.get(place + 1).copied();
        let mut body = &lines[at + 1..end.unwrap_or(lines.len())];
        // The empty line before the next mark is ours.
        if let (Some(_), Some((&"", before))) = (end, body.split_last()) {
            body = before;
        }
        let name = lines[at].strip_prefix(MARK).and_then(|rest| rest.trim_end().strip_suffix(" -->")).unwrap_or("");
        if let Some(version) = name.strip_prefix("conversation ") {
            if version.parse() != Ok(VERSION) {
                return Err(format!(
                    "it is in version {version} of the format, this Secateur reads {VERSION}: update Secateur"
                ));
            }
            title = body.iter().find_map(|line| line.strip_prefix("# ")).unwrap_or("").to_owned();
            continue;
        }
        let Some((part, ..)) = PARTS.iter().find(|(_, known, _)| *known == name) else {
            return Err(format!("line {} marks `{name}`, which this Secateur does not know: update Secateur", at + 1));
        };
        if body.first().is_some_and(|line| line.starts_with("## ")) {
            body = &body[1..];
        }
        if body.first().is_some_and(|line| line.is_empty()) {
            body = &body[1..];
        }
        let plain =
            |line: &&str| if looks_marked(line) { line.strip_prefix('\\').unwrap_or(line) } else { line }.to_owned();
        sections.push((*part, body.iter().map(plain).collect::<Vec<_>>().join("\n")));
    }
    Ok((title, sections))
}

/// The sections of a file of another program: headings with the names of the speakers.
fn headed(lines: &[&str]) -> Result<Sections, String> {
    let (mut title, mut sections): (String, Vec<(Part, String)>) = (String::new(), Vec::new());
    for line in lines {
        let heading = line.strip_prefix("## ").map(str::trim);
        let part = PARTS.iter().find(|(.., known)| heading.is_some_and(|heading| heading.eq_ignore_ascii_case(known)));
        if let Some((part, ..)) = part {
            sections.push((*part, String::new()));
        } else if let Some((_, words)) = sections.last_mut() {
            *words += line;
            words.push('\n');
        } else if let (true, Some(found)) = (title.is_empty(), line.strip_prefix("# ")) {
            title = found.to_owned();
        }
    }
    if sections.is_empty() {
        return Err("it holds no conversation: messages stand under the headings `## User` and `## Assistant`".into());
    }
    for (_, words) in &mut sections {
        *words = words.trim().to_owned();
    }
    Ok((title, sections))
}

fn looks_marked(line: &str) -> bool {
    line.trim_start_matches('\\').starts_with(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(conversation: &Conversation) -> Vec<(Role, &str)> {
        conversation.path().iter().map(|node| (node.role, node.text.as_str())).collect()
    }

    #[test]
    fn the_file_reads_as_a_conversation() {
        let settings = ChatSettings { system: "Be brief.".into(), ..ChatSettings::default() };
        let mut conversation = Conversation::new(3, "On\ntrees".into(), settings, Vec::new(), None).unwrap();
        let question = conversation.add(None, Role::User, "Why?\n\n<!-- secateur:user -->".into());
        conversation.add(Some(question), Role::Assistant, "Because.".into());
        let expected = "<!-- secateur:conversation 1 -->\n# On trees\n\n\
            <!-- secateur:system -->\n## System\n\nBe brief.\n\n\
            <!-- secateur:user -->\n## User\n\nWhy?\n\n\\<!-- secateur:user -->\n\n\
            <!-- secateur:assistant -->\n## Assistant\n\nBecause.\n";
        assert_eq!(export(&conversation), expected);
        let windows = import(&expected.replace('\n', "\r\n")).unwrap();
        assert_eq!(words(&windows), words(&conversation));
    }

    #[test]
    fn headings_of_another_program_are_enough() {
        let found =
            import("# Chat\nExported.\n\n## system\nS\n## User\n\nhi\n## Notes\nx\n\n## Assistant\nyes\n").unwrap();
        assert_eq!(words(&found), [(Role::User, "hi\n## Notes\nx"), (Role::Assistant, "yes")]);
        assert_eq!((found.title.as_str(), found.settings.system.as_str()), ("Chat", "S"));
    }

    #[test]
    fn what_is_no_conversation_of_this_version_is_told() {
        for (text, expected) in [
            ("Dear diary", "holds no conversation"),
            ("", "holds no conversation"),
            (
                "<!-- secateur:conversation 2 -->\n# x",
                "version 2 of the format, this Secateur reads 1: update Secateur",
            ),
            ("<!-- secateur:conversation 1 -->\n<!-- secateur:tool -->\nx", "line 2 marks `tool`"),
            ("<!-- secateur:user", "line 1 marks ``"),
            ("## User\nhi\n## System\nbe brief", "a system message stands behind other messages"),
        ] {
            let error = import(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
