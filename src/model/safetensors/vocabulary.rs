//! Vocabularies of folders without a `tokenizer.json`: `vocab.json` with `merges.txt`, as OPT has them, or SentencePiece's
//! `tokenizer.model`. Both become what a GGUF file would hold of them, and so does what the settings say of single tokens.
//!
//! Invariant: where these files leave open how text is cut, the folder is refused instead of guessed at.

use super::text::{AddedToken, Token, read_json};
use super::{parse_json, sentencepiece};
use crate::config::GgufVocabulary;
use crate::error::{Error, Result};
use crate::model::mapped::read_small;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const PIECES: &str = "tokenizer.model";
const SETTINGS: &str = "tokenizer_config.json";

/// GGUF's numbers for kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// Splitting rules by the class of tokenizer, and by `model_type` where the settings name no class.
const RULES: [(&[&str], &[&str], &str); 2] = [
    (&["GPT2Tokenizer", "GPT2TokenizerFast"], &["gpt2", "opt"], "gpt-2"),
    (&["Qwen2Tokenizer", "Qwen2TokenizerFast"], &["qwen2", "qwen3"], "qwen2"),
];

/// The fields of `tokenizer_config.json` that a `tokenizer.json` would make up for.
#[derive(Deserialize, Default)]
struct Settings {
    tokenizer_class: Option<String>,
    add_prefix_space: Option<bool>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, Added>,
    #[serde(flatten)]
    names: Names,
}

/// Which tokens are special, as `special_tokens_map.json` says it too.
#[derive(Deserialize, Default)]
struct Names {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    pad_token: Option<Token>,
    additional_special_tokens: Option<Vec<Token>>,
}

impl Names {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let single = [&self.bos_token, &self.eos_token, &self.unk_token, &self.pad_token];
        let several = self.additional_special_tokens.iter().flatten();
        single.into_iter().flatten().chain(several).map(Token::text)
    }
}

/// A token that the settings describe.
#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

/// Reads the vocabulary of `folder` and the tokens in it that are not made by merging.
///
/// # Errors
/// [`Error::BadFile`] for what is missing or malformed, [`Error::Unsupported`] for a way of cutting text that is not here.
pub(super) fn read(
    folder: &Path,
    model_type: Option<&str>,
    vocab_size: usize,
    limit: u64,
) -> Result<(GgufVocabulary, Vec<AddedToken>)> {
    let settings: Settings = read_json(&folder.join(SETTINGS))?.unwrap_or_default();
    let pairs = read_small(&folder.join(VOCAB), limit)?;
    let mut vocabulary = match (pairs, read_small(&folder.join(MERGES), limit)?) {
        (Some(vocab), Some(merges)) => byte_pairs(folder, &vocab, merges, rule(folder, &settings, model_type)?)?,
        (Some(_), None) => return Err(missing(folder, &format!("{VOCAB}, but no {MERGES} beside it"))),
        (None, _) => match read_small(&folder.join(PIECES), limit)? {
            Some(pieces) => sentencepiece::read(&pieces, &folder.join(PIECES))?,
            None => return Err(missing(folder, "no tokenizer.json")),
        },
    };
    if vocabulary.model == "llama" {
        vocabulary.add_space_prefix = settings.add_prefix_space.or(vocabulary.add_space_prefix);
    } else if settings.add_prefix_space == Some(true) {
        let what = "add_prefix_space is true, which is done with a tokenizer.json only: save the tokenizer with transformers' `save_pretrained`";
        return Err(Error::bad_file(folder.join(SETTINGS), what));
    }
    let added = add_tokens(folder, &mut vocabulary, settings)?;
    if vocabulary.tokens.len() > vocab_size {
        let what =
            format!("the vocabulary has {} tokens, but the embedding has {vocab_size} rows", vocabulary.tokens.len());
        return Err(Error::bad_file(folder, what));
    }
    Ok((vocabulary, added))
}

fn missing(folder: &Path, found: &str) -> Error {
    Error::bad_file(
        folder,
        format!(
            "the folder has {found}: a tokenizer is tokenizer.json, or {VOCAB} and {MERGES}, or SentencePiece's {PIECES}"
        ),
    )
}

/// The splitting rule of a `vocab.json`, which does not say it itself.
fn rule(folder: &Path, settings: &Settings, model_type: Option<&str>) -> Result<&'static str> {
    let class = settings.tokenizer_class.as_deref();
    let found = RULES.iter().find(|(classes, types, _)| match class {
        Some(class) => classes.contains(&class),
        None => model_type.is_some_and(|kind| types.contains(&kind)),
    });
    match (found, class) {
        (Some((_, _, rule)), _) => Ok(rule),
        (None, Some(class)) => Err(Error::Unsupported {
            what: "with vocab.json and merges.txt alone, the tokenizer_class",
            name: class.to_owned(),
            supported: "GPT2Tokenizer, Qwen2Tokenizer; others with a tokenizer.json".into(),
        }),
        (None, None) => Err(Error::bad_file(
            folder,
            format!(
                "{VOCAB} and {MERGES} do not say how text is split, and no {SETTINGS} names a tokenizer_class: add it, or a tokenizer.json"
            ),
        )),
    }
}

fn byte_pairs(folder: &Path, vocab: &[u8], merges: Vec<u8>, rule: &str) -> Result<GgufVocabulary> {
    let path = folder.join(VOCAB);
    let ids: BTreeMap<String, u32> = parse_json(vocab, &path)?;
    let merges = String::from_utf8(merges)
        .map_err(|error| Error::bad_file(folder.join(MERGES), format!("not UTF-8: {error}")))?;
    let mut vocabulary = GgufVocabulary {
        model: "gpt2".into(),
        pre: rule.into(),
        tokens: Vec::new(),
        scores: Vec::new(),
        token_types: Vec::new(),
        merges: merges
            .lines()
            .filter(|line| !line.starts_with("#version") && !line.is_empty())
            .map(str::to_owned)
            .collect(),
        unknown_token_id: None,
        add_space_prefix: None,
        // Tokens that take white space are refused in these files.
        special_rstrip: false,
    };
    for (token, &id) in &ids {
        put(&mut vocabulary, &path, id, token, NORMAL, ids.len())?;
    }
    Ok(vocabulary)
}

/// Puts a token into its place, which must be free or its own.
fn put(vocabulary: &mut GgufVocabulary, path: &Path, id: u32, token: &str, kind: i32, count: usize) -> Result<()> {
    let index = id as usize;
    // Files leave small gaps; an id far beyond the number of tokens is damage, and would take memory.
    if index > 2 * count + 65_536 {
        return Err(Error::bad_file(path, format!("token `{token}` has id {id}, but there are only {count} tokens")));
    }
    if vocabulary.tokens.len() <= index {
        vocabulary.tokens.resize(index + 1, String::new());
        vocabulary.token_types.resize(index + 1, NORMAL);
        if vocabulary.model == "llama" {
            vocabulary.scores.resize(index + 1, 0.0);
        }
    }
    let place = &mut vocabulary.tokens[index];
    if !place.is_empty() && place != token {
        return Err(Error::bad_file(path, format!("`{place}` and `{token}` both have id {id}")));
    }
    token.clone_into(place);
    vocabulary.token_types[index] = kind;
    Ok(())
}

/// Marks the tokens that the folder's settings describe, and adds those that its vocabulary lacks.
fn add_tokens(folder: &Path, vocabulary: &mut GgufVocabulary, settings: Settings) -> Result<Vec<AddedToken>> {
    let map: Names = read_json(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
    let listed: BTreeMap<String, u32> = read_json(&folder.join("added_tokens.json"))?.unwrap_or_default();
    let special: BTreeSet<&str> = settings.names.texts().chain(map.texts()).collect();
    let mut added: BTreeMap<u32, (String, bool)> = BTreeMap::new();
    for (token, id) in listed {
        let special = special.contains(token.as_str());
        added.insert(id, (token, special));
    }
    for (&id, token) in &settings.added_tokens_decoder {
        if token.lstrip || token.rstrip || token.single_word {
            let what = format!(
                "token `{}` takes white space around it, or stands alone, which is done with a tokenizer.json only: save the tokenizer with transformers' `save_pretrained`",
                token.content
            );
            return Err(Error::bad_file(folder.join(SETTINGS), what));
        }
        added.insert(id, (token.content.clone(), token.special || special.contains(token.content.as_str())));
    }
    // A name without an id means the token of the vocabulary; one that is not there would lie behind the embedding.
    for (token, id) in vocabulary.tokens.iter().zip(0u32..) {
        if special.contains(token.as_str()) {
            added.entry(id).or_insert_with(|| (token.clone(), true));
        }
    }
    let count = vocabulary.tokens.len() + added.len();
    for (&id, (token, special)) in &added {
        let known = vocabulary.unknown_token_id == Some(id);
        let kind = if *special { CONTROL } else { USER_DEFINED };
        let kind = if known { vocabulary.token_types[id as usize] } else { kind };
        put(vocabulary, folder, id, token, kind, count)?;
    }
    Ok(added.into_iter().map(|(id, (content, special))| AddedToken { id: i64::from(id), content, special }).collect())
}
