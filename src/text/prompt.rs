//! A conversation, and what a template makes of it.
//!
//! A message may hold the name of a special token: by accident, or to forge a turn. Such names are replaced by single
//! private-use characters before the template runs ([`Mask`]) and put back after the template's own special tokens have
//! been found ([`ChatPrompt::unmask`]). So a prompt without such names is encoded exactly as transformers does, and one
//! with them as if those names were ordinary text.

use super::Tokenizer;
use super::added::Cut;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: "system", "user", "assistant".
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}

/// A rendered conversation that knows which names of special tokens in it are only text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatPrompt {
    masked: String,
    mask: Mask,
}

impl ChatPrompt {
    pub(super) fn new(masked: String, mask: Mask) -> ChatPrompt {
        ChatPrompt { masked, mask }
    }

    /// The prompt as it reads.
    pub fn text(&self) -> String {
        self.mask.remove(&self.masked)
    }

    /// Whether a message holds the name of a special token.
    pub(super) fn is_masked(&self) -> bool {
        !self.mask.0.is_empty()
    }

    pub(super) fn masked(&self) -> &str {
        &self.masked
    }

    /// The prompt as it reads, and where the `cuts` of the masked text are in it.
    pub(super) fn unmask(&self, cuts: Vec<Cut>) -> (String, Vec<Cut>) {
        let mut text = String::with_capacity(self.masked.len());
        let mut at = 0;
        let mut moved = Vec::with_capacity(cuts.len());
        for cut in cuts {
            text.push_str(&self.mask.remove(&self.masked[at..cut.range.start]));
            let start = text.len();
            text.push_str(&self.masked[cut.range.clone()]);
            moved.push(Cut { range: start..text.len(), id: cut.id });
            at = cut.range.end;
        }
        text.push_str(&self.mask.remove(&self.masked[at..]));
        (text, moved)
    }
}

/// Names of special tokens and the characters that stand for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mask(Vec<(char, String)>);

impl Mask {
    /// The messages with every name of a special token replaced by a character that occurs neither in them nor in
    /// `template`.
    ///
    /// # Errors
    /// [`Error::Text`] if they hold more such names than there are characters for private use.
    pub fn apply(tokenizer: &Tokenizer, messages: &[Message], template: &str) -> Result<(Mask, Vec<Message>)> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for text in messages.iter().flat_map(|message| [&message.role, &message.content]) {
            names.extend(tokenizer.special_names(text).into_iter().map(|range| &text[range]));
        }
        let texts = || messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]).chain([template]);
        // The supplementary private-use planes: no font, no template and hardly any text uses them.
        let mut free = ('\u{F0000}'..='\u{10FFFD}').filter(|c| !texts().any(|text| text.contains(*c)));
        let mut mask = Mask::default();
        for name in names {
            let mark = free
                .next()
                .ok_or_else(|| Error::Text("the conversation uses every private-use character there is".into()))?;
            mask.0.push((mark, name.to_string()));
        }
        let hide = |text: &str| mask.hide(text, tokenizer.special_names(text));
        let hidden = messages.iter().map(|m| Message { role: hide(&m.role), content: hide(&m.content) }).collect();
        Ok((mask, hidden))
    }

    fn hide(&self, text: &str, names: Vec<Range<usize>>) -> String {
        let mut hidden = String::with_capacity(text.len());
        let mut at = 0;
        for range in names {
            hidden.push_str(&text[at..range.start]);
            at = range.end;
            // Every name in the messages has its mark.
            hidden.extend(self.0.iter().find(|(_, name)| *name == text[range.clone()]).map(|(mark, _)| *mark));
        }
        hidden.push_str(&text[at..]);
        hidden
    }

    fn remove(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_string();
        }
        let mut plain = String::with_capacity(text.len());
        for c in text.chars() {
            match self.0.iter().find(|(mark, _)| *mark == c) {
                Some((_, name)) => plain.push_str(name),
                None => plain.push(c),
            }
        }
        plain
    }
}
