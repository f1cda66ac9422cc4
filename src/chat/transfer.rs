//! Conversations as files for other programs and other machines.

use super::Conversation;
use crate::error::Result;

/// The shown path as Markdown: a title, then a heading for every message.
pub fn export_markdown(conversation: &Conversation) -> String {
    let _ = conversation;
    todo!()
}

/// The whole tree with its settings as JSON.
pub fn export_json(conversation: &Conversation) -> String {
    let _ = conversation;
    todo!()
}

/// A conversation from either (id 0: it is not in the store yet); `name` is the file's, for its ending and for errors.
///
/// # Errors
/// [`crate::Error::BadFile`] that says what is wrong with it.
pub fn import(name: &str, text: &str) -> Result<Conversation> {
    let _ = (name, text);
    todo!()
}
