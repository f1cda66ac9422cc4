//! A tokenizer of any file as GGUF metadata has it.
//!
//! Invariant: what is handed out cuts a text of many kinds into the same ids as the source did; a tokenizer that GGUF cannot describe is
//! refused.

use super::json::{self, File};
use super::pieces::{Spelling, byte_token};
use super::{Special, Tokenizer, pre};
use crate::config::{GgufVocabulary, TextSource, TokenizerSource};
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;

/// What splitting rules and spellings differ in: words, contractions, numbers, blanks, line ends, scripts, signs, code. All of it is
/// composed already: that a tokenizer composes characters first is a remark, no refusal.
pub(super) const SAMPLE: &str = "The quick brown fox's 12345 jumps — it'll cost $3.50, WON'T it?\n\n\tif (x_1 >= 0x7F) { return \"naïve\"; }\r\n  \
    Straße ΑΒΓ привет мир עברית عربي हिन्दी 你好，世界 1234567 ３ 日本語テスト 한국어 🦙🏽👩‍👩‍👧 a   b    c\u{a0}d <s> </s> <|x|> \
    http://example.com/a?b=c&d=1 ...!!! ((())) #include <vec> f'{i}' 'S 'T HE'S I'VE \n \n   \n";

/// GGUF's kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// A tokenizer for GGUF.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The vocabulary, as long as the embedding.
    pub vocabulary: GgufVocabulary,
    /// Whether the model wants its BOS token before every text.
    pub adds_bos: bool,
    /// What GGUF cannot say of it, in words.
    pub remarks: Vec<String>,
}

/// The tokenizer of `source` for an embedding of `vocab_size` rows.
///
/// # Errors
/// Those of [`Tokenizer::new`]; [`Error::Unsupported`] for a tokenizer that no GGUF metadata describes.
pub fn export(source: &TextSource, vocab_size: usize) -> Result<Exported> {
    let original = Tokenizer::new(source)?;
    let adds_bos = original.wants_bos();
    let bytes = match &source.tokenizer {
        TokenizerSource::Gguf(vocabulary) => {
            return Ok(Exported { vocabulary: vocabulary.clone(), adds_bos, remarks: Vec::new() });
        }
        TokenizerSource::Json(bytes) => bytes,
    };
    let file = json::parse(bytes)?;
    let (spelling, leading_space) = json::spelling(file.decoder.as_ref())?;
    let byte_level = matches!(spelling, Spelling::ByteLevel);
    let mut vocabulary = tokens(&file, source, vocab_size, byte_level)?;
    let remarks = remarks(&file);
    let names: Vec<&'static str> = if byte_level {
        vocabulary.merges = merges(&file)?;
        match pre::by_patterns(&patterns(file.pre_tokenizer.as_ref()), file.model.ignore_merges) {
            Some(name) => vec![name],
            None => pre::names().collect(),
        }
    } else {
        vocabulary.model = "llama".into();
        vocabulary.scores = scores(&file, &vocabulary)?;
        vocabulary.add_space_prefix = Some(leading_space);
        vec!["default"]
    };
    let expected = original.encode(SAMPLE, Special::Parse)?;
    for name in names {
        vocabulary.pre = name.into();
        let tokenizer = TokenizerSource::Gguf(vocabulary.clone());
        let made = Tokenizer::new(&TextSource { tokenizer, ..source.clone() })?;
        if made.encode(SAMPLE, Special::Parse)? == expected {
            return Ok(Exported { vocabulary, adds_bos, remarks });
        }
    }
    Err(Error::Unsupported {
        what: "tokenizer.json",
        name: "one that cuts text as none of GGUF's kinds does".into(),
        supported: "byte-level BPE by a known splitting rule, and SentencePiece BPE".into(),
    })
}

fn tokens(file: &File, source: &TextSource, vocab_size: usize, byte_level: bool) -> Result<GgufVocabulary> {
    let mut tokens: Vec<Option<&str>> = vec![None; vocab_size];
    let mut token_types = vec![NORMAL; vocab_size];
    let structural = |id: u32| source.bos_token_id == Some(id) || source.eos_token_ids.contains(&id);
    let plain = file.model.vocab.0.iter().map(|(token, &id)| (id, token.as_str(), None));
    let added = file.added_tokens.iter().map(|token| (token.id, token.content.as_str(), Some(token.special)));
    for (id, token, special) in plain.chain(added) {
        let Some(place) = tokens.get_mut(id as usize) else {
            return Err(Error::Text(format!(
                "tokenizer.json: token `{token}` has id {id}, but the embedding has {vocab_size} rows"
            )));
        };
        *place = Some(token);
        token_types[id as usize] = match special {
            _ if structural(id) => CONTROL,
            // Bytes leave nothing unknown.
            _ if !byte_level && file.model.unk_token.as_deref() == Some(token) => UNKNOWN,
            Some(true) => CONTROL,
            Some(false) => USER_DEFINED,
            None if !byte_level && byte_token(token).is_some() => BYTE,
            None => NORMAL,
        };
    }
    let unknown_token_id = file.model.unk_token.as_ref().and_then(|token| file.model.vocab.0.get(token)).copied();
    // Rows of the embedding that no text leads to.
    let gap = |(id, token): (usize, &Option<&str>)| match token {
        Some(token) => (*token).to_owned(),
        None => format!("[PAD{id}]"),
    };
    for (kind, _) in token_types.iter_mut().zip(&tokens).filter(|(_, token)| token.is_none()) {
        *kind = UNUSED;
    }
    Ok(GgufVocabulary {
        model: "gpt2".into(),
        pre: "default".into(),
        tokens: tokens.iter().enumerate().map(gap).collect(),
        scores: Vec::new(),
        token_types,
        merges: Vec::new(),
        unknown_token_id,
        add_space_prefix: None,
        special_rstrip: file.added_tokens.iter().any(|token| token.special && token.rstrip),
    })
}

fn merges(file: &File) -> Result<Vec<String>> {
    let merge = |json::Merge(left, right): &json::Merge| match left.contains(' ') || right.contains(' ') {
        true => Err(Error::Text(format!(
            "tokenizer.json: the merge of `{left}` and `{right}` has a blank inside, which GGUF cannot write"
        ))),
        false => Ok(format!("{left} {right}")),
    };
    file.model.merges.iter().map(merge).collect()
}

/// The scores that a SentencePiece vocabulary was merged by. An export of one has for every token the pairs that make it, in the order of
/// the tokens' scores; so the first pair's place is the score, but for its size.
fn scores(file: &File, vocabulary: &GgufVocabulary) -> Result<Vec<f32>> {
    if !file.model.byte_fallback {
        return Err(Error::Unsupported {
            what: "tokenizer.json",
            name: "BPE of characters without bytes to fall back on".into(),
            supported: "byte-level BPE, and SentencePiece BPE with byte_fallback".into(),
        });
    }
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for json::Merge(left, right) in &file.model.merges {
        let next = ranks.len();
        ranks.entry(format!("{left}{right}")).or_insert(next);
    }
    let last = ranks.len();
    let score = |(token, &kind): (&String, &i32)| match kind {
        // What no pair makes is never joined to: its score only must not be in the way.
        NORMAL | USER_DEFINED => -(ranks.get(token).copied().unwrap_or(last) as f32),
        _ => 0.0,
    };
    Ok(vocabulary.tokens.iter().zip(&vocabulary.token_types).map(score).collect())
}

/// The patterns of a byte-level pre-tokenizer, one after the other.
fn patterns(splitter: Option<&Value>) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(splitter) = splitter {
        json::flatten(splitter, &mut steps);
    }
    let pattern = |step: &&Value| match step["type"].as_str() {
        Some("Split") => step["pattern"]["Regex"].as_str().map(str::to_owned),
        Some("Digits") if step["individual_digits"] == true => Some(r"\p{N}".to_owned()),
        Some("ByteLevel") if step["use_regex"] != false => Some(pre::GPT2.to_owned()),
        _ => None,
    };
    steps.iter().filter_map(pattern).collect()
}

/// What GGUF has no key for.
fn remarks(file: &File) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut steps = Vec::new();
    if let Some(normalizer) = &file.normalizer {
        json::flatten(normalizer, &mut steps);
    }
    // Of SentencePiece, blanks are part of the model.
    let lost = |step: &&&Value| !matches!(step["type"].as_str(), Some("Prepend" | "Replace" | "Sequence"));
    if let Some(step) = steps.iter().find(lost) {
        let kind = step["type"].as_str().unwrap_or("without a name");
        remarks.push(format!("the tokenizer's normalizer {kind} has no place in GGUF: text is cut as it is written"));
    }
    if let Some(token) = file.added_tokens.iter().find(|token| token.lstrip || token.rstrip || token.single_word) {
        remarks.push(format!("that `{}` takes blanks beside it, or stands alone, has no place in GGUF", token.content));
    }
    remarks
}
