//! JSON: the whole tree with its settings and figures. Probes and the tokens of prompts stay out: they are large, and an
//! engine makes them again.

use super::Node;
use crate::chat::{ChatSettings, Conversation, NodeId, Role};
use crate::protocol::{Comparison, Figures, Stop};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

const FORMAT: &str = "secateur-conversation";
/// What this program writes; a newer one is refused.
const VERSION: u32 = 1;

/// What every version begins with.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    title: String,
    settings: ChatSettings,
    leaf: Option<NodeId>,
    messages: Vec<Message>,
}

#[derive(Serialize, Deserialize)]
struct Message {
    id: NodeId,
    parent: Option<NodeId>,
    role: Role,
    text: String,
    created: i64,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    figures: Option<Figures>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    stop: Option<Stop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    comparison: Option<Comparison>,
}

/// What stands beside a text must not keep the text from being read: where it is of another shape, it is left out.
fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(value: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(serde_json::Value::deserialize(value)?).ok())
}

/// The whole tree with its settings as JSON.
pub fn export(conversation: &Conversation) -> String {
    let message = |node: &Node| Message {
        id: node.id,
        parent: node.parent,
        role: node.role,
        text: node.text.clone(),
        created: node.created,
        figures: node.figures.clone(),
        stop: node.stop,
        error: node.error.clone(),
        left_out: node.left_out.clone(),
        comparison: node.comparison.clone(),
    };
    let file = File {
        format: FORMAT.to_owned(),
        version: VERSION,
        title: conversation.title.clone(),
        settings: conversation.settings.clone(),
        leaf: conversation.leaf(),
        messages: conversation.nodes().map(message).collect(),
    };
    // Strings, numbers and lists always can be JSON: only maps with other keys cannot.
    serde_json::to_string_pretty(&file).unwrap_or_default()
}

/// A conversation from JSON; an error says what is wrong. Messages are numbered anew, from 1.
pub(super) fn import(text: &str) -> Result<Conversation, String> {
    let head: Head = serde_json::from_str(text).map_err(|error| {
        format!("it is not a conversation that Secateur exported ({error}): choose a file of its JSON export")
    })?;
    if head.format != FORMAT {
        return Err(format!("its format is `{}`, a conversation's is `{FORMAT}`", head.format));
    }
    if head.version != VERSION {
        return Err(format!(
            "it is in version {} of the format, this Secateur reads {VERSION}: update Secateur",
            head.version
        ));
    }
    let mut file: File = serde_json::from_str(text).map_err(|error| format!("it is damaged: {error}"))?;
    file.settings
        .prune
        .validate()
        .and_then(|()| file.settings.sampling.validate())
        .map_err(|error| error.to_string())?;

    // Numbers of another program may lie as high as they can, with no room above them for the next message.
    file.messages.sort_by_key(|message| message.id);
    let numbers: BTreeMap<NodeId, NodeId> = file.messages.iter().map(|message| message.id).zip(1..).collect();
    if numbers.len() < file.messages.len() {
        return Err("it is damaged: two messages have the same number".into());
    }
    let number =
        |id: NodeId| numbers.get(&id).copied().ok_or_else(|| format!("it is damaged: message {id} is missing"));
    let node = |message: Message| -> Result<Node, String> {
        let left_out = message.left_out.iter().filter_map(|id| numbers.get(id).copied()).collect();
        Ok(Node {
            id: number(message.id)?,
            parent: message.parent.map(number).transpose()?,
            role: message.role,
            text: message.text,
            created: message.created,
            figures: message.figures,
            stop: message.stop,
            error: message.error,
            left_out,
            comparison: message.comparison,
            prompt: Vec::new(),
        })
    };
    let leaf = file.leaf.map(number).transpose()?;
    let nodes = file.messages.into_iter().map(node).collect::<Result<Vec<_>, _>>()?;
    Conversation::new(0, file.title, file.settings, nodes, leaf).map_err(|error| format!("it is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported() -> String {
        let mut conversation = Conversation::new(0, "t".into(), ChatSettings::default(), Vec::new(), None).unwrap();
        let question = conversation.add(None, Role::User, "why".into());
        conversation.add(Some(question), Role::Assistant, "because".into());
        export(&conversation)
    }

    #[test]
    fn what_is_no_conversation_of_this_version_is_told() {
        let exported = exported();
        let with = |from: &str, to: &str| {
            assert!(exported.contains(from), "{from} is not in {exported}");
            import(&exported.replacen(from, to, 1)).unwrap_err()
        };
        let newer = "it is in version 2 of the format, this Secateur reads 1: update Secateur";
        assert_eq!(with("\"version\": 1", "\"version\": 2"), newer);
        assert_eq!(with(FORMAT, "x"), "its format is `x`, a conversation's is `secateur-conversation`");
        assert!(with("\"parent\": 1", "\"parent\": 7").contains("message 7 is missing"));
        assert!(with("\"parent\": 1", "\"parent\": 2").contains("not older"));
        assert!(with("\"id\": 2", "\"id\": 1").contains("same number"));
        assert!(with("\"role\": \"user\"", "\"role\": \"tool\"").contains("unknown variant `tool`"));
        assert!(with("\"ratio\": 0.1", "\"ratio\": 1.5").contains("it must lie in [0, 1)"));
        assert!(import("{\"a\": 1}").unwrap_err().contains("is not a conversation that Secateur exported"));
        assert!(import(&exported[..exported.len() - 9]).unwrap_err().contains("EOF"));
        assert!(import(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn figures_of_another_shape_do_not_keep_the_texts_away() {
        let text = exported().replacen("\"role\"", "\"figures\": {\"speed\": 3}, \"stop\": \"bored\", \"role\"", 1);
        let found = import(&text).unwrap();
        assert_eq!(
            (found.path()[0].text.as_str(), &found.path()[0].figures, found.path()[0].stop),
            ("why", &None, None)
        );
    }

    #[test]
    fn numbers_without_room_above_them_are_changed() {
        let largest = u64::MAX.to_string();
        let text = exported().replace("\"id\": 2", &format!("\"id\": {largest}"));
        let mut found = import(&text.replace("\"leaf\": 2", &format!("\"leaf\": {largest}"))).unwrap();
        assert_eq!(found.leaf(), Some(2));
        assert_eq!(found.add(Some(2), Role::User, "go on".into()), 3);
    }
}
