//! BPE by ranked merges, after the `tokenizers` crate: normalise, split, merge.
//!
//! The crate trusts its input: a merge longer than every token, or a prefix that is none, makes it panic or worse. So
//! nothing reaches it but through [`BpeSpec::build`], which checks what the crate takes for granted.

use super::Special;
use super::added::{AddedToken, Cut, Matcher};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizer::Range;
use tokenizers::{
    Model, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, PreTokenizerWrapper, Result as CrateResult, Token,
};

/// What a BPE vocabulary is made of, as a file gives it.
#[derive(Debug, Default)]
pub(super) struct BpeSpec {
    pub vocab: HashMap<String, u32>,
    /// In order of rank.
    pub merges: Vec<(String, String)>,
    pub unknown: Option<String>,
    /// Stands before every part of a word but the first.
    pub prefix: Option<String>,
    /// Stands behind the last part of a word.
    pub suffix: Option<String>,
    pub fuse_unknown: bool,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
    /// Tokens that no text may become by being split and merged.
    pub special: HashSet<String>,
}

impl BpeSpec {
    /// Checks the vocabulary and hands it to the crate.
    ///
    /// # Errors
    /// [`Error::Text`] naming the token or merge that is wrong.
    pub fn build(mut self) -> Result<BPE> {
        if self.vocab.is_empty() {
            return Err(Error::Text("the tokenizer's vocabulary is empty".into()));
        }
        if let Some(unknown) = &self.unknown
            && !self.vocab.contains_key(unknown)
        {
            return Err(Error::Text(format!("the tokenizer's unknown token `{unknown}` is not in its vocabulary")));
        }
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let mut merged_specials = HashSet::new();
        for (rank, (left, right)) in self.merges.iter().enumerate() {
            let wrong =
                |what: String| Error::Text(format!("the tokenizer's merge {rank}, `{left}` + `{right}`, {what}"));
            let rest =
                right.strip_prefix(prefix).ok_or_else(|| wrong(format!("lacks the prefix `{prefix}` on the right")))?;
            let whole = format!("{left}{rest}");
            for token in [left, right, &whole] {
                if !self.vocab.contains_key(token) {
                    return Err(wrong(format!("needs `{token}`, which is not in the vocabulary")));
                }
                if self.special.contains(token) {
                    merged_specials.insert(token.clone());
                }
            }
        }
        if self.ignore_merges {
            // Whole stretches of text are looked up here, so a special token must not be found. Those that merges are
            // made of have to stay.
            self.vocab.retain(|token, _| !self.special.contains(token) || merged_specials.contains(token));
        }
        let mut builder = BPE::builder()
            .vocab_and_merges(self.vocab.into_iter().collect::<Vocab>(), self.merges)
            .fuse_unk(self.fuse_unknown)
            .byte_fallback(self.byte_fallback)
            .ignore_merges(self.ignore_merges);
        if let Some(unknown) = self.unknown {
            builder = builder.unk_token(unknown);
        }
        if let Some(prefix) = self.prefix {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if let Some(suffix) = self.suffix {
            builder = builder.end_of_word_suffix(suffix);
        }
        builder.build().map_err(|e| Error::Text(format!("the tokenizer's vocabulary cannot be used: {e}")))
    }
}

/// A BPE vocabulary with the rules around it.
#[derive(Debug)]
pub(super) struct Bpe {
    normalizer: Option<NormalizerWrapper>,
    /// Added tokens that are looked for in the normalised text, by their normalised content.
    normalized: Matcher,
    split: Option<PreTokenizerWrapper>,
    model: BPE,
}

impl Bpe {
    /// Puts the parts together; `normalized` are the added tokens to be matched after normalisation.
    ///
    /// # Errors
    /// [`Error::Text`] if a token cannot be normalised.
    pub fn new(
        model: BPE,
        normalizer: Option<NormalizerWrapper>,
        split: Option<PreTokenizerWrapper>,
        mut normalized: Vec<AddedToken>,
    ) -> Result<Bpe> {
        if let Some(normalizer) = &normalizer {
            for token in &mut normalized {
                let mut content = NormalizedString::from(token.content.as_str());
                normalizer.normalize(&mut content).map_err(failed)?;
                token.content = content.get().to_string();
            }
        }
        Ok(Bpe { normalizer, normalized: Matcher::new(normalized), split, model })
    }

    /// The ids of `text`, in which `cuts` are tokens already.
    ///
    /// # Errors
    /// [`Error::Text`] with what the crate says.
    pub fn encode(&self, text: &str, cuts: &[Cut]) -> Result<Vec<u32>> {
        let mut text = PreTokenizedString::from(text);
        self.tokenize(&mut text, cuts).map_err(failed)?;
        let splits = text.get_splits(OffsetReferential::Normalized, OffsetType::None);
        Ok(splits.iter().filter_map(|split| split.2.as_ref()).flatten().map(|token| token.id).collect())
    }

    fn tokenize(&self, text: &mut PreTokenizedString, cuts: &[Cut]) -> CrateResult<()> {
        text.split(|_, whole| slices(whole, cuts))?;
        text.split(|_, mut part| {
            if let Some(normalizer) = &self.normalizer {
                normalizer.normalize(&mut part)?;
            }
            let cuts = self.normalized.find(part.get(), Special::Parse);
            slices(part, &cuts)
        })?;
        if let Some(split) = &self.split {
            split.pre_tokenize(text)?;
        }
        text.tokenize(|part| self.model.tokenize(part.get()))
    }
}

/// `text` cut into tokens and what lies between them.
fn slices(text: NormalizedString, cuts: &[Cut]) -> CrateResult<Vec<(NormalizedString, Option<Vec<Token>>)>> {
    if cuts.is_empty() {
        return Ok(vec![(text, None)]);
    }
    let slice = |start: usize, end: usize| {
        let part = text.slice(Range::Normalized(start..end));
        part.ok_or_else(|| format!("bytes {start}..{end} are no piece of the text"))
    };
    let mut parts = Vec::with_capacity(2 * cuts.len() + 1);
    let mut at = 0;
    for cut in cuts {
        parts.push((slice(at, cut.range.start)?, None));
        let part = slice(cut.range.start, cut.range.end)?;
        let token = Token::new(cut.id, String::new(), (0, cut.range.len()));
        parts.push((part, Some(vec![token])));
        at = cut.range.end;
    }
    parts.push((slice(at, text.len())?, None));
    Ok(parts)
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Text(format!("the text cannot be tokenized: {error}"))
}
