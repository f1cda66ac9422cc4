//! Ids in, text out, while a model is still writing.
//!
//! Invariant: the pieces handed out are whole characters, and together with [`StreamDecoder::finish`] they are exactly
//! what decoding all the ids at once gives. A push costs the length of its token, however long the text already is.

use super::pieces::Pieces;
use crate::error::Result;
use std::sync::Arc;

/// Turns ids into text one at a time, never handing out half a character.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    pieces: Arc<Pieces>,
    skip_special: bool,
    /// Whether a space that comes next is the one the vocabulary puts before a text.
    drop_space: bool,
    /// The beginning of a character whose other bytes have not come yet; at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl StreamDecoder {
    pub(super) fn new(pieces: Arc<Pieces>, skip_special: bool, continues: bool) -> StreamDecoder {
        let drop_space = pieces.leading_space && !continues;
        StreamDecoder { pieces, skip_special, drop_space, pending: Vec::new() }
    }

    /// Takes the next id and returns the text that is complete with it; often empty.
    ///
    /// # Errors
    /// [`crate::error::Error::Text`] for an id outside the vocabulary; the decoder is as it was.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let mut text = String::new();
        self.push_into(id, &mut text)?;
        Ok(text)
    }

    pub(super) fn push_into(&mut self, id: u32, text: &mut String) -> Result<()> {
        let (bytes, special) = self.pieces.get(id)?;
        if special && self.skip_special {
            return Ok(());
        }
        let mut bytes = bytes;
        if self.drop_space && !bytes.is_empty() {
            self.drop_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            // Bytes at the very end may still become a character; those before others never will.
            if done + invalid.len() == self.pending.len() && may_become_char(invalid) {
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                done += invalid.len();
            }
        }
        self.pending.drain(..done);
        Ok(())
    }

    /// Ends the text: U+FFFD if it broke off inside a character, else nothing.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }
}

/// Whether `bytes`, which are no character, are the beginning of one.
fn may_become_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
}

/// Ends a text at the first of some strings, holding back what may be the beginning of one.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopStrings {
    /// Stops at any of `stops`; empty strings are left out.
    pub fn new(stops: impl IntoIterator<Item = String>) -> StopStrings {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        StopStrings { stops, held: String::new(), stopped: false }
    }

    /// Takes the next piece of text and returns what can be shown: everything that certainly comes before a stop
    /// string. Nothing comes after one.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop string has come.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Ends the text and returns what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that is a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
}
