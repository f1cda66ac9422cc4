//! The tokenizer: one type for every kind of vocabulary.

use super::added::{AddedToken, Cut, Matcher};
use super::bpe::Bpe;
use super::pieces::{Piece, Pieces};
use super::prompt::ChatPrompt;
use super::spm::Spm;
use super::stream::StreamDecoder;
use super::{gguf, json};
use crate::config::{TextSource, TokenizerSource};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// What becomes of a special token's name that is written in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// It is the token: for text that a chat template made.
    Parse,
    /// It stays the characters it is written with: for everything a person or a data set wrote.
    Text,
}

/// Special tokens that end an answer in one or another chat format. Files often name only the one that ends a document.
const END_NAMES: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
];

/// The cutting of text into tokens.
#[derive(Debug)]
pub(super) enum Model {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
}

/// What a reader makes of a file.
#[derive(Debug)]
pub(super) struct Parts {
    pub model: Model,
    /// Tokens that are cut out of the text as it is written.
    pub added: Vec<AddedToken>,
    /// By id.
    pub pieces: Vec<Piece>,
    /// Whether the first space of a decoded text is not part of it.
    pub leading_space: bool,
    /// Whether the BOS token belongs before a text, where the model does not say.
    pub add_bos: bool,
}

/// Text to ids and back, the way a model was trained.
#[derive(Debug)]
pub struct Tokenizer {
    model: Model,
    added: Matcher,
    pieces: Arc<Pieces>,
    bos: Option<u32>,
    add_bos: bool,
    ends: Vec<u32>,
}

impl Tokenizer {
    /// The tokenizer of a model.
    ///
    /// # Errors
    /// [`Error::Text`] if the vocabulary is malformed, [`Error::Unsupported`] if it is of a kind that is not LLaMA's.
    pub fn new(source: &TextSource) -> Result<Tokenizer> {
        let mut structural = source.eos_token_ids.clone();
        structural.extend(source.bos_token_id);
        let parts = match &source.tokenizer {
            TokenizerSource::Json(bytes) => json::read(bytes, source.bos_token_id, &structural)?,
            TokenizerSource::Gguf(vocabulary) => gguf::read(vocabulary, &structural)?,
        };
        let pieces = Pieces::new(parts.pieces, parts.leading_space);
        for id in &structural {
            pieces.get(*id).map_err(|e| Error::Text(format!("the model's BOS or EOS token: {e}")))?;
        }
        let mut ends = source.eos_token_ids.clone();
        let named = parts.added.iter().filter(|token| token.special && END_NAMES.contains(&token.content.as_str()));
        ends.extend(named.map(|token| token.id));
        ends.sort_unstable();
        ends.dedup();
        Ok(Tokenizer {
            model: parts.model,
            added: Matcher::new(parts.added),
            pieces: Arc::new(pieces),
            bos: source.bos_token_id,
            add_bos: source.bos_token_id.is_some() && source.add_bos_token.unwrap_or(parts.add_bos),
            ends,
        })
    }

    /// The ids of `text`, with nothing added.
    ///
    /// # Errors
    /// [`Error::Text`] if the vocabulary cannot express it.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        self.encode_cut(text, &self.added.find(text, special))
    }

    /// The ids of `text` behind the BOS token, if the model wants one and the text does not bring it along.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_bos(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        let mut ids = self.encode(text, special)?;
        if let Some(bos) = self.bos.filter(|_| self.add_bos)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The ids of a conversation. The template brings its own special tokens, BOS included; those in a message stay
    /// text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, prompt: &ChatPrompt) -> Result<Vec<u32>> {
        if !prompt.is_masked() {
            return self.encode(prompt.masked(), Special::Parse);
        }
        // The special tokens are those of the masked text; all others are found in the text itself, between them.
        let masked = self.added.find_special(prompt.masked());
        let (text, special) = prompt.unmask(masked);
        let mut cuts = Vec::new();
        let mut at = 0;
        let between = |at: usize, end: usize, cuts: &mut Vec<Cut>| {
            let found = self.added.find(&text[at..end], Special::Text).into_iter();
            cuts.extend(found.map(|cut| Cut { range: cut.range.start + at..cut.range.end + at, id: cut.id }));
        };
        for cut in special {
            between(at, cut.range.start, &mut cuts);
            at = cut.range.end;
            cuts.push(cut);
        }
        between(at, text.len(), &mut cuts);
        self.encode_cut(&text, &cuts)
    }

    fn encode_cut(&self, text: &str, cuts: &[Cut]) -> Result<Vec<u32>> {
        match &self.model {
            Model::Bpe(model) => model.encode(text, cuts),
            Model::Spm(model) => model.encode(text, cuts),
        }
    }

    /// The text of `ids`. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Text`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let mut stream = self.stream(skip_special);
        let mut text = String::new();
        for &id in ids {
            stream.push_into(id, &mut text)?;
        }
        text.push_str(&stream.finish());
        Ok(text)
    }

    /// A decoder for a text that comes id by id, such as an answer.
    pub fn stream(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(Arc::clone(&self.pieces), skip_special, false)
    }

    /// A decoder for ids that go on with a text already there, such as a completion: a space at the beginning is kept.
    pub fn stream_continuing(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(Arc::clone(&self.pieces), skip_special, true)
    }

    /// Number of ids, gaps included: every id below it can be decoded.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token that opens a text, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether the model wants [`Tokenizer::bos`] before every text.
    pub fn wants_bos(&self) -> bool {
        self.add_bos
    }

    /// The tokens that end an answer, ascending: the model's own and the well-known ones of chat formats.
    pub fn eos_ids(&self) -> &[u32] {
        &self.ends
    }

    /// Whether `id` ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Whether `id` marks structure instead of standing for text.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.get(id).is_ok_and(|(_, special)| special)
    }

    /// What one token stands for, on its own: " the", "<|im_end|>". Half a character becomes U+FFFD.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.pieces.get(id).ok().map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The id of the special token written `name`.
    pub fn special_id(&self, name: &str) -> Option<u32> {
        let tokens = self.added.tokens();
        tokens.iter().find(|token| token.special && token.content == name).map(|token| token.id)
    }

    /// Where names of special tokens stand in `text`.
    pub(super) fn special_names(&self, text: &str) -> Vec<Range<usize>> {
        self.added.special_names(text)
    }
}
