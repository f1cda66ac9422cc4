//! SentencePiece BPE: of all neighbours that together are a token, the pair of the highest score is joined first, the
//! leftmost of equals; what is no token in the end becomes bytes.
//!
//! This is not BPE by ranked merges: the score belongs to the joined token, not to the pair, so turning scores into
//! ranks breaks ties differently. Hence an implementation of its own, O(n log n) in the length of the text.

use super::added::Cut;
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// What stands for a space in the vocabulary.
pub(super) const SPACE: char = '\u{2581}';

/// A token that text can be joined to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub id: u32,
    /// Finite.
    pub score: f32,
    /// An intermediate step only: taken apart again at the end.
    pub unused: bool,
}

/// A SentencePiece vocabulary.
#[derive(Debug)]
pub(super) struct Spm {
    entries: HashMap<String, Entry>,
    /// Bytes of the longest entry.
    longest: usize,
    bytes: [Option<u32>; 256],
    unknown: Option<u32>,
    /// Whether a space is put before the text, and again behind each special token.
    space_prefix: bool,
}

/// A stretch of text; `len` is 0 once it was joined to the one before it.
struct Symbol {
    start: usize,
    len: usize,
    prev: usize,
    next: usize,
}

/// No neighbour on that side.
const NONE: usize = usize::MAX;

/// Two neighbours that together are a token.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when this was noted: another length means that one of them has changed since.
    len: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

impl Spm {
    pub fn new(
        entries: HashMap<String, Entry>,
        bytes: [Option<u32>; 256],
        unknown: Option<u32>,
        space_prefix: bool,
    ) -> Spm {
        let longest = entries.keys().map(String::len).max().unwrap_or(0);
        Spm { entries, longest, bytes, unknown, space_prefix }
    }

    /// The ids of `text`, in which `cuts` are tokens already.
    ///
    /// # Errors
    /// [`Error::Text`] for a character that the vocabulary can express in no way.
    pub fn encode(&self, text: &str, cuts: &[Cut]) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut at = 0;
        for cut in cuts {
            self.encode_plain(&text[at..cut.range.start], &mut ids)?;
            ids.push(cut.id);
            at = cut.range.end;
        }
        self.encode_plain(&text[at..], &mut ids)?;
        Ok(ids)
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut escaped = String::with_capacity(text.len() + text.len() / 2 + SPACE.len_utf8());
        if self.space_prefix {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        let mut joining =
            Joining { spm: self, text: &escaped, symbols: Vec::new(), pairs: BinaryHeap::new(), parts: HashMap::new() };
        joining.run();
        joining.collect(ids)
    }

    /// A character that is no token, in bytes or as the unknown token.
    fn push_unknown(&self, text: &str, after_unknown: bool, ids: &mut Vec<u32>) -> Result<()> {
        let known = ids.len();
        for byte in text.bytes() {
            match self.bytes[usize::from(byte)] {
                Some(id) => ids.push(id),
                None => {
                    ids.truncate(known);
                    let unknown = self.unknown.ok_or_else(|| {
                        Error::Text(format!(
                            "the vocabulary has no token for {text:?}, no byte tokens and no unknown token"
                        ))
                    })?;
                    // A run of unknown characters is one unknown token.
                    if !after_unknown {
                        ids.push(unknown);
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The joining of one text.
struct Joining<'a> {
    spm: &'a Spm,
    text: &'a str,
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
    /// How unused tokens came about: bytes of their left part.
    parts: HashMap<&'a str, usize>,
}

impl<'a> Joining<'a> {
    fn run(&mut self) {
        for (index, (start, c)) in self.text.char_indices().enumerate() {
            let prev = index.checked_sub(1).unwrap_or(NONE);
            self.symbols.push(Symbol { start, len: c.len_utf8(), prev, next: index + 1 });
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
        for right in 1..self.symbols.len() {
            self.note(right - 1, right);
        }
        while let Some(pair) = self.pairs.pop() {
            let (left, right) = (&self.symbols[pair.left], &self.symbols[pair.right]);
            if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
                continue;
            }
            let (prev, next) = (left.prev, right.next);
            self.symbols[pair.right].len = 0;
            self.symbols[pair.left].len = pair.len;
            self.symbols[pair.left].next = next;
            if next != NONE {
                self.symbols[next].prev = pair.left;
                self.note(pair.left, next);
            }
            if prev != NONE {
                self.note(prev, pair.left);
            }
        }
    }

    /// Puts two neighbours on the heap if together they are a token.
    fn note(&mut self, left: usize, right: usize) {
        let (first, second) = (&self.symbols[left], &self.symbols[right]);
        let len = first.len + second.len;
        if len > self.spm.longest {
            return;
        }
        let text: &'a str = &self.text[first.start..first.start + len];
        if let Some(entry) = self.spm.entries.get(text) {
            if entry.unused {
                self.parts.insert(text, first.len);
            }
            self.pairs.push(Pair { score: entry.score, left, right, len });
        }
    }

    fn collect(&self, ids: &mut Vec<u32>) -> Result<()> {
        let mut after_unknown = false;
        let mut stack: Vec<&str> = Vec::new();
        for symbol in self.symbols.iter().filter(|symbol| symbol.len > 0) {
            stack.push(&self.text[symbol.start..symbol.start + symbol.len]);
            while let Some(text) = stack.pop() {
                match self.spm.entries.get(text) {
                    Some(Entry { unused: true, .. }) if self.parts.contains_key(text) => {
                        let (left, right) = text.split_at(self.parts[text]);
                        stack.extend([right, left]);
                        continue;
                    }
                    Some(entry) => {
                        ids.push(entry.id);
                        after_unknown = false;
                    }
                    None => {
                        self.spm.push_unknown(text, after_unknown, ids)?;
                        after_unknown = self.spm.unknown.is_some() && ids.last() == self.spm.unknown.as_ref();
                    }
                }
            }
        }
        Ok(())
    }
}
