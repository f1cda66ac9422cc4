//! Hugging Face `tokenizer.json` to the parts of a tokenizer.
//!
//! Only what LLaMA-family tokenizers are made of is taken: BPE, and the normalisers, splitters and decoders listed
//! here. Anything else is refused by name, since guessing would give wrong ids without a word.

use super::added::AddedToken;
use super::bpe::{Bpe, BpeSpec};
use super::pieces::{Piece, Spelling};
use super::tokenizer::{Model, Parts};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt;

const NORMALIZERS: &[&str] =
    &["Sequence", "Prepend", "Replace", "Strip", "StripAccents", "Lowercase", "NFC", "NFD", "NFKC", "NFKD"];
const SPLITTERS: &[&str] =
    &["Sequence", "ByteLevel", "Split", "Digits", "Metaspace", "Punctuation", "Whitespace", "WhitespaceSplit"];
const DECODERS: &[&str] = &["Sequence", "ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"];

#[derive(Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub added_tokens: Vec<FileToken>,
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    pub post_processor: Option<Value>,
    pub decoder: Option<Value>,
    pub model: FileModel,
}

#[derive(Deserialize)]
pub(super) struct FileToken {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
}

#[derive(Deserialize)]
pub(super) struct FileModel {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub vocab: Vocabulary,
    pub merges: Vec<Merge>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub fuse_unk: bool,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
}

/// Token to id; a token that comes twice is an error.
pub(super) struct Vocabulary(pub HashMap<String, u32>);

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vocabulary, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocabulary;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a BPE vocabulary: an object of ids by token (no other kind of model is supported)")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Vocabulary, A::Error> {
                let mut vocab = HashMap::new();
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    if let Some(other) = vocab.insert(token.clone(), id) {
                        return Err(de::Error::custom(format!("token `{token}` has two ids, {other} and {id}")));
                    }
                }
                Ok(Vocabulary(vocab))
            }
        }
        deserializer.deserialize_map(Tokens)
    }
}

/// Two tokens: "left right", or a pair in newer files.
pub(super) struct Merge(pub String, pub String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Merge, D::Error> {
        struct Two;
        impl<'de> Visitor<'de> for Two {
            type Value = Merge;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge: \"left right\" or [left, right]")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Merge, E> {
                match text.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => Ok(Merge(left.into(), right.into())),
                    _ => Err(E::custom(format!("the merge `{text}` is not two tokens"))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Merge, A::Error> {
                match (seq.next_element()?, seq.next_element()?, seq.next_element::<de::IgnoredAny>()?) {
                    (Some(left), Some(right), None) => Ok(Merge(left, right)),
                    _ => Err(de::Error::custom("a merge is not two tokens")),
                }
            }
        }
        deserializer.deserialize_any(Two)
    }
}

/// What the file says.
pub(super) fn parse(bytes: &[u8]) -> Result<File> {
    serde_json::from_slice(bytes).map_err(|e| Error::Text(format!("tokenizer.json: {e}")))
}

/// The parts of the tokenizer in `bytes`. Tokens in `structural` are special whatever the file says.
///
/// # Errors
/// [`Error::Text`] for a malformed file, [`Error::Unsupported`] for a kind of tokenizer that is not LLaMA's.
pub(super) fn read(bytes: &[u8], bos: Option<u32>, structural: &[u32]) -> Result<Parts> {
    let file = parse(bytes)?;
    if let Some(kind) = file.model.kind.as_deref()
        && kind != "BPE"
    {
        return Err(unsupported("model", kind, &["BPE"]));
    }
    check_types("normalizer", file.normalizer.as_ref(), NORMALIZERS)?;
    check_types("pre-tokenizer", file.pre_tokenizer.as_ref(), SPLITTERS)?;
    check_types("decoder", file.decoder.as_ref(), DECODERS)?;
    let (spelling, leading_space) = spelling(file.decoder.as_ref())?;

    let vocab = file.model.vocab.0;
    let mut table = Table::default();
    for (token, &id) in &vocab {
        table.put(id, token, vocab.len() + file.added_tokens.len())?;
    }
    for token in &file.added_tokens {
        table.put(token.id, &token.content, vocab.len() + file.added_tokens.len())?;
    }
    let tokens = table.0;

    let mut special: HashSet<u32> = structural.iter().copied().collect();
    special.extend(file.added_tokens.iter().filter(|token| token.special).map(|token| token.id));
    let added_ids: HashSet<u32> = file.added_tokens.iter().map(|token| token.id).collect();
    let pieces = tokens.iter().zip(0u32..).map(|(token, id)| {
        // An added token stands for its very text, even where that happens to look like byte-level characters.
        let bytes = match token {
            Some(text) if added_ids.contains(&id) || special.contains(&id) => text.as_bytes().to_vec(),
            Some(text) => spelling.bytes(text),
            None => Vec::new(),
        };
        Piece { bytes, special: special.contains(&id) }
    });
    let pieces: Vec<Piece> = pieces.collect();

    let (mut raw, mut normalized) = (Vec::new(), Vec::new());
    for token in file.added_tokens {
        let special = special.contains(&token.id);
        // A special token is its exact text: files that ask for it to be normalised first (older conversions of
        // SentencePiece vocabularies) mean words, and transformers overrides them too.
        let list = if token.normalized && !special { &mut normalized } else { &mut raw };
        list.push(AddedToken {
            id: token.id,
            content: token.content,
            special,
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
        });
    }
    for &id in structural.iter().filter(|id| !added_ids.contains(id)) {
        if let Some(Some(text)) = tokens.get(id as usize) {
            raw.push(AddedToken::new(id, text, true));
        }
    }

    let spec = BpeSpec {
        vocab,
        merges: file.model.merges.into_iter().map(|Merge(left, right)| (left, right)).collect(),
        unknown: file.model.unk_token,
        // Files write "no prefix" as null or as an empty string.
        prefix: file.model.continuing_subword_prefix.filter(|prefix| !prefix.is_empty()),
        suffix: file.model.end_of_word_suffix.filter(|suffix| !suffix.is_empty()),
        fuse_unknown: file.model.fuse_unk,
        byte_fallback: file.model.byte_fallback,
        ignore_merges: file.model.ignore_merges,
        special: raw.iter().filter(|token| token.special).map(|token| token.content.clone()).collect(),
    };
    let wrong = |part: &str, e: serde_json::Error| Error::Text(format!("tokenizer.json: the {part} is malformed: {e}"));
    let normalizer = file.normalizer.map(serde_json::from_value).transpose().map_err(|e| wrong("normalizer", e))?;
    let split = file.pre_tokenizer.map(serde_json::from_value).transpose().map_err(|e| wrong("pre-tokenizer", e))?;
    let model = Bpe::new(spec.build()?, normalizer, split, normalized)?;
    let add_bos = bos.is_some_and(|bos| begins_with(file.post_processor.as_ref(), bos));
    Ok(Parts { model: Model::Bpe(Box::new(model)), added: raw, pieces, leading_space, add_bos })
}

fn unsupported(part: &str, name: &str, known: &[&str]) -> Error {
    let what = match part {
        "model" => "tokenizer model",
        "normalizer" => "tokenizer normalizer",
        "decoder" => "tokenizer decoder",
        _ => "tokenizer pre-tokenizer",
    };
    Error::Unsupported { what, name: name.to_string(), supported: known.join(", ") }
}

/// Tokens by id.
#[derive(Default)]
struct Table(Vec<Option<String>>);

impl Table {
    fn put(&mut self, id: u32, token: &str, count: usize) -> Result<()> {
        let index = id as usize;
        // Real vocabularies leave small gaps; an id far beyond the number of tokens is damage, and would take memory.
        if index > 2 * count + 65_536 {
            return Err(Error::Text(format!(
                "tokenizer.json: token `{token}` has id {id}, but there are only {count} tokens"
            )));
        }
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        match &self.0[index] {
            Some(other) if other != token => {
                Err(Error::Text(format!("tokenizer.json: `{other}` and `{token}` both have id {id}")))
            }
            _ => {
                self.0[index] = Some(token.to_string());
                Ok(())
            }
        }
    }
}

/// The parts of a normalizer, pre-tokenizer or decoder, its sequences flattened.
pub(super) fn flatten<'a>(part: &'a Value, into: &mut Vec<&'a Value>) {
    let steps = ["normalizers", "pretokenizers", "decoders"].iter().find_map(|key| part.get(*key)?.as_array());
    match steps {
        Some(steps) if part["type"] == "Sequence" => steps.iter().for_each(|step| flatten(step, into)),
        _ => into.push(part),
    }
}

fn check_types(part: &'static str, value: Option<&Value>, known: &[&str]) -> Result<()> {
    let mut steps = Vec::new();
    if let Some(value) = value {
        flatten(value, &mut steps);
    }
    for step in steps {
        let kind = step["type"].as_str().unwrap_or("(without a type)");
        if !known.contains(&kind) {
            return Err(unsupported(part, kind, known));
        }
        // An empty pattern matches everywhere and never advances; a regex in a normalizer may do the same.
        if part == "normalizer" && kind == "Replace" && step["pattern"]["String"].as_str().is_none_or(str::is_empty) {
            return Err(unsupported(part, "Replace with a pattern that is not plain text", known));
        }
    }
    Ok(())
}

/// How the vocabulary spells text, and whether a decoded text loses its first space, from what the decoder undoes.
pub(super) fn spelling(decoder: Option<&Value>) -> Result<(Spelling, bool)> {
    let mut steps = Vec::new();
    if let Some(decoder) = decoder {
        flatten(decoder, &mut steps);
    }
    let (mut replace, mut byte_fallback, mut leading_space, mut fused) = (Vec::new(), false, false, false);
    for step in steps {
        match step["type"].as_str().unwrap_or_default() {
            "ByteLevel" => return Ok((Spelling::ByteLevel, false)),
            "ByteFallback" => byte_fallback = true,
            "Fuse" => fused = true,
            "Metaspace" => {
                let space = step["replacement"].as_str().unwrap_or("\u{2581}");
                replace.push((space.to_string(), " ".to_string()));
                let never = step["prepend_scheme"] == "never" || step["add_prefix_space"] == false;
                leading_space = !never;
            }
            "Replace" => match (step["pattern"]["String"].as_str(), step["content"].as_str()) {
                (Some(from), Some(to)) if !from.is_empty() => replace.push((from.to_string(), to.to_string())),
                _ => return Err(unsupported("decoder", "Replace with a pattern that is not plain text", DECODERS)),
            },
            // Anything else would strip each token, or more than the one space that was put there.
            "Strip" if fused && step["content"] == " " && step["start"] == 1 && step["stop"] == 0 => {
                leading_space = true;
            }
            other => return Err(unsupported("decoder", &format!("{other} (as it is set here)"), DECODERS)),
        }
    }
    Ok((Spelling::Plain { replace, byte_fallback }, leading_space))
}

/// Whether the post-processor puts the token `bos` before a text.
fn begins_with(processor: Option<&Value>, bos: u32) -> bool {
    let Some(processor) = processor else { return false };
    if let Some(steps) = processor["processors"].as_array() {
        return steps.iter().any(|step| begins_with(Some(step), bos));
    }
    let Some(name) = processor["single"][0]["SpecialToken"]["id"].as_str() else { return false };
    processor["special_tokens"][name]["ids"][0].as_u64() == Some(u64::from(bos))
}
