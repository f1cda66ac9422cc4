//! Tokens that are cut out of the text before the model's own splitting: special tokens and user-defined ones.
//!
//! [`Matcher`] finds them, leftmost first and the longest where several begin at one place. Its cuts never overlap and
//! are in order.

use super::Special;
use std::ops::Range;

/// A token that is matched as a whole, as `tokenizer.json` describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
    /// Marks structure (begin, end, roles) instead of standing for text.
    pub special: bool,
    /// Only matched where no word character touches it.
    pub single_word: bool,
    /// Swallows the white space before it.
    pub lstrip: bool,
    /// Swallows the white space behind it.
    pub rstrip: bool,
}

impl AddedToken {
    pub fn new(id: u32, content: impl Into<String>, special: bool) -> AddedToken {
        AddedToken { id, content: content.into(), special, single_word: false, lstrip: false, rstrip: false }
    }
}

/// A stretch of text that is one token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cut {
    pub range: Range<usize>,
    pub id: u32,
}

/// Finds added tokens in text.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    /// Ascending by content, so that all tokens with a common prefix are neighbours.
    tokens: Vec<AddedToken>,
    /// Whether some token begins with this byte.
    first: [bool; 256],
}

impl Matcher {
    /// Tokens of empty content are left out: they would match everywhere.
    pub fn new(mut tokens: Vec<AddedToken>) -> Matcher {
        tokens.retain(|token| !token.content.is_empty());
        tokens.sort_by(|a, b| a.content.cmp(&b.content));
        let mut first = [false; 256];
        for token in &tokens {
            first[usize::from(token.content.as_bytes()[0])] = true;
        }
        Matcher { tokens, first }
    }

    pub fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// The added tokens in `text`; special ones only under [`Special::Parse`].
    pub fn find(&self, text: &str, special: Special) -> Vec<Cut> {
        self.find_where(text, |token| special == Special::Parse || !token.special)
    }

    /// The special tokens in `text`, the user-defined ones left alone.
    pub fn find_special(&self, text: &str) -> Vec<Cut> {
        self.find_where(text, |token| token.special)
    }

    /// Where names of special tokens stand in `text`, whether or not they would be taken there.
    pub fn special_names(&self, text: &str) -> Vec<Range<usize>> {
        let bytes = text.as_bytes();
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let token =
                if self.first[usize::from(bytes[at])] { self.longest(&bytes[at..], &|t| t.special) } else { None };
            match token {
                Some(token) => {
                    names.push(at..at + token.content.len());
                    at += token.content.len();
                }
                None => at += 1,
            }
        }
        names
    }

    fn find_where(&self, text: &str, wanted: impl Fn(&AddedToken) -> bool) -> Vec<Cut> {
        let mut cuts: Vec<Cut> = Vec::new();
        if self.tokens.is_empty() {
            return cuts;
        }
        let bytes = text.as_bytes();
        let (mut at, mut done) = (0, 0);
        while at < bytes.len() {
            let found = if self.first[usize::from(bytes[at])] { self.longest(&bytes[at..], &wanted) } else { None };
            let Some(token) = found else {
                at += 1;
                continue;
            };
            // A token's content is UTF-8, so a match cannot begin or end inside a character.
            let (mut start, mut end) = (at, at + token.content.len());
            at = end;
            if token.single_word && (ends_in_word(&text[..start]) || begins_with_word(&text[end..])) {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
                at = end;
            }
            cuts.push(Cut { range: start..end, id: token.id });
            done = end;
        }
        cuts
    }

    /// The longest wanted token that `bytes` begins with.
    fn longest(&self, bytes: &[u8], wanted: &impl Fn(&AddedToken) -> bool) -> Option<&AddedToken> {
        let mut candidates = self.tokens.as_slice();
        let mut best = None;
        for (depth, byte) in bytes.iter().enumerate() {
            // All candidates agree with `bytes` before `depth`; one that ends there sorts before those that go on.
            let byte_at = |token: &AddedToken| token.content.as_bytes().get(depth).copied();
            let low = candidates.partition_point(|token| byte_at(token) < Some(*byte));
            let high = candidates.partition_point(|token| byte_at(token) <= Some(*byte));
            candidates = &candidates[low..high];
            let Some(token) = candidates.first() else { break };
            if token.content.len() == depth + 1 && wanted(token) {
                best = Some(token);
            }
        }
        best
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn ends_in_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(is_word)
}

fn begins_with_word(text: &str) -> bool {
    text.chars().next().is_some_and(is_word)
}
