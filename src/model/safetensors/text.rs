//! The text side of a Hugging Face folder: tokenizer, chat template and special tokens.
//!
//! Invariant: an id that is handed out names a row of the embedding.

use super::{parse_json, vocabulary};
use crate::config::{TextSource, TokenizerSource};
use crate::error::{Error, Result};
use crate::model::mapped::read_small;
use serde::Deserialize;
use std::path::{Path, PathBuf};

const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
const MAX_SMALL_BYTES: u64 = 16 << 20;
/// Special tokens that end a turn, which some configurations forget to list.
const END_OF_TURN: [&str; 3] = ["<|im_end|>", "<|eot_id|>", "<|end|>"];

/// The fields of `tokenizer_config.json` that matter.
#[derive(Deserialize, Default)]
struct TokenizerConfig {
    chat_template: Option<ChatTemplate>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    add_bos_token: Option<bool>,
}

/// One template, or several by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplate {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// A token by its text, bare or with its settings around it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Token {
    Text(String),
    Added { content: String },
}

impl Token {
    pub fn text(&self) -> &str {
        match self {
            Token::Text(text) | Token::Added { content: text } => text,
        }
    }
}

/// The token ids of `config.json` and of `generation_config.json`.
#[derive(Deserialize, Default)]
struct TokenIds {
    model_type: Option<String>,
    bos_token_id: Option<Ids>,
    eos_token_id: Option<Ids>,
}

/// One id, or several. Signed, since -1 stands for "none" in some files.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(i64),
    Many(Vec<i64>),
}

impl Ids {
    fn as_slice(&self) -> &[i64] {
        match self {
            Ids::One(id) => std::slice::from_ref(id),
            Ids::Many(ids) => ids,
        }
    }
}

/// The part of `tokenizer.json` that gives special tokens their ids.
#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

/// A token that is not made by merging.
#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub id: i64,
    pub content: String,
    #[serde(default)]
    pub special: bool,
}

/// Reads the folder's files about text; `raw_config` are the bytes of its `config.json`.
pub(super) fn read(folder: &Path, raw_config: &[u8], vocab_size: usize) -> Result<TextSource> {
    let settings: TokenizerConfig = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let generation: TokenIds = read_json(&folder.join("generation_config.json"))?.unwrap_or_default();
    let model: TokenIds = parse_json(raw_config, &folder.join("config.json"))?;

    let tokenizer_path = folder.join("tokenizer.json");
    let (tokenizer, added) = match read_small(&tokenizer_path, MAX_TOKENIZER_BYTES)? {
        Some(bytes) => {
            let added = parse_json::<TokenizerJson>(&bytes, &tokenizer_path)?.added_tokens;
            (TokenizerSource::Json(bytes), added)
        }
        None => {
            let kind = model.model_type.as_deref();
            let (vocabulary, added) = vocabulary::read(folder, kind, vocab_size, MAX_TOKENIZER_BYTES)?;
            (TokenizerSource::Gguf(vocabulary), added)
        }
    };

    let valid = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < vocab_size);
    let id_of = |text: &str| added.iter().find(|token| token.content == text).and_then(|token| valid(token.id));
    let first = |ids: &Option<Ids>| ids.as_ref().and_then(|ids| ids.as_slice().first()).and_then(|&id| valid(id));

    let bos_token_id = settings
        .bos_token
        .as_ref()
        .and_then(|token| id_of(token.text()))
        .or_else(|| first(&model.bos_token_id))
        .or_else(|| first(&generation.bos_token_id));
    let mut eos_token_ids: Vec<u32> = [&model.eos_token_id, &generation.eos_token_id]
        .into_iter()
        .flatten()
        .flat_map(Ids::as_slice)
        .filter_map(|&id| valid(id))
        .chain(settings.eos_token.as_ref().and_then(|token| id_of(token.text())))
        .chain(
            added
                .iter()
                .filter(|token| token.special && END_OF_TURN.contains(&token.content.as_str()))
                .filter_map(|token| valid(token.id)),
        )
        .collect();
    eos_token_ids.sort_unstable();
    eos_token_ids.dedup();
    let (chat_template, file) = chat_template(folder, settings.chat_template)?.unzip();
    Ok(TextSource {
        chat_template,
        chat_template_file: file.map(|file| file.display().to_string()),
        bos_token_id,
        eos_token_ids,
        // OPT was trained so, and not all of its folders say it.
        add_bos_token: settings.add_bos_token.or((model.model_type.as_deref() == Some("opt")).then_some(true)),
        tokenizer,
    })
}

/// `chat_template.jinja` where it exists, as transformers prefers it; of several named templates, "default". With its file.
fn chat_template(folder: &Path, configured: Option<ChatTemplate>) -> Result<Option<(String, PathBuf)>> {
    let path = folder.join("chat_template.jinja");
    if let Some(bytes) = read_small(&path, MAX_SMALL_BYTES)? {
        let text = String::from_utf8(bytes).map_err(|error| Error::bad_file(&path, format!("not UTF-8: {error}")))?;
        return Ok(Some((text, path)));
    }
    let template = match configured {
        None => None,
        Some(ChatTemplate::One(template)) => Some(template),
        Some(ChatTemplate::Named(mut templates)) => {
            let default = templates.iter().position(|named| named.name == "default").unwrap_or(0);
            (default < templates.len()).then(|| templates.swap_remove(default).template)
        }
    };
    Ok(template.map(|text| (text, folder.join("tokenizer_config.json"))))
}

/// Parses a JSON file of the folder; `None` if there is no such file.
pub(super) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    match read_small(path, MAX_SMALL_BYTES)? {
        Some(bytes) => parse_json(&bytes, path).map(Some),
        None => Ok(None),
    }
}
