//! The tokenizer of a GGUF file as the files of a Hugging Face folder.
//!
//! Invariant: what is handed out cuts a text of many kinds into the same ids as the source did; a tokenizer that those files cannot
//! describe is refused.

use super::export::SAMPLE;
use super::{Special, Tokenizer, gguf, pre};
use crate::config::{GgufVocabulary, TextSource, TokenizerSource};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

/// A file's name, and what is in it.
pub type HubFile = (String, Vec<u8>);

/// `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` of a vocabulary of GGUF metadata.
///
/// # Errors
/// Those of [`Tokenizer::new`]; [`Error::Unsupported`] for a tokenizer that is no byte-level BPE, or that is cut otherwise by its files.
pub fn hub_files(source: &TextSource) -> Result<Vec<HubFile>> {
    let refuse = |name: String| Error::Unsupported {
        what: "in a Hugging Face folder, the tokenizer of a GGUF file",
        name,
        supported: "byte-level BPE; `secateur convert --lora` writes a GGUF file, whatever the tokenizer".into(),
    };
    let vocabulary = match &source.tokenizer {
        TokenizerSource::Gguf(vocabulary) if vocabulary.model == "gpt2" => vocabulary,
        TokenizerSource::Gguf(vocabulary) => return Err(refuse(vocabulary.model.clone())),
        TokenizerSource::Json(_) => return Err(Error::Internal("a tokenizer.json is copied as it is".into())),
    };
    let original = Tokenizer::new(source)?;
    let file = tokenizer_json(vocabulary, source, &original)?;
    let file = serde_json::to_vec(&file).map_err(|error| Error::Internal(error.to_string()))?;
    let made = Tokenizer::new(&TextSource { tokenizer: TokenizerSource::Json(file.clone()), ..source.clone() })?;
    for special in [Special::Parse, Special::Text] {
        if made.encode(SAMPLE, special)? != original.encode(SAMPLE, special)? {
            return Err(refuse(format!("{}, split as {}", vocabulary.model, vocabulary.pre)));
        }
    }
    let settings = [("tokenizer_config.json", settings(source, &original)), ("generation_config.json", ids(source))];
    let written = settings.into_iter().map(|(name, value)| (name.to_owned(), format!("{value:#}\n").into_bytes()));
    Ok([("tokenizer.json".to_owned(), file)].into_iter().chain(written).collect())
}

fn tokenizer_json(vocabulary: &GgufVocabulary, source: &TextSource, tokenizer: &Tokenizer) -> Result<Value> {
    let rule = pre::by_name(&vocabulary.pre)?;
    let as_json = |value: serde_json::Result<Value>| value.map_err(|error| Error::Internal(error.to_string()));
    let mut structural = source.eos_token_ids.clone();
    structural.extend(source.bos_token_id);
    let added = gguf::added(vocabulary, &structural)?;
    let added: Vec<Value> = added
        .iter()
        .map(|token| {
            json!({"id": token.id, "content": token.content, "single_word": false, "lstrip": token.lstrip,
                   "rstrip": token.rstrip, "normalized": false, "special": token.special})
        })
        .collect();
    // Padding is sometimes written as empty tokens; they stand for nothing.
    let tokens = vocabulary.tokens.iter().zip(0u32..).filter(|(token, _)| !token.is_empty());
    let vocab: Map<String, Value> = tokens.map(|(token, id)| (token.clone(), id.into())).collect();
    let merges = gguf::merges(vocabulary)?;
    let unknown = vocabulary.unknown_token_id.and_then(|id| vocabulary.tokens.get(id as usize));
    let whole = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let post_processor = match source.bos_token_id.filter(|_| tokenizer.wants_bos()) {
        None => whole.clone(),
        Some(bos) => {
            let name = token(vocabulary, bos);
            let first = json!({"SpecialToken": {"id": name, "type_id": 0}});
            let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
            json!({"type": "TemplateProcessing", "single": [first, text("A", 0)],
                   "pair": [first, text("A", 0), text("B", 1)],
                   "special_tokens": {name: {"id": name, "ids": [bos], "tokens": [name]}}})
        }
    };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": as_json(serde_json::to_value(&rule.normalizer))?,
        "pre_tokenizer": as_json(serde_json::to_value(&rule.split))?,
        "post_processor": post_processor,
        "decoder": whole,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": rule.ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
    }))
}

fn token(vocabulary: &GgufVocabulary, id: u32) -> &str {
    vocabulary.tokens.get(id as usize).map_or("", String::as_str)
}

fn settings(source: &TextSource, tokenizer: &Tokenizer) -> Value {
    let name = |id: Option<u32>| match &source.tokenizer {
        TokenizerSource::Gguf(vocabulary) => id.map(|id| token(vocabulary, id)),
        TokenizerSource::Json(_) => None,
    };
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": name(source.bos_token_id),
        "eos_token": name(source.eos_token_ids.first().copied()),
        "add_bos_token": tokenizer.wants_bos(),
        "clean_up_tokenization_spaces": false,
        "chat_template": source.chat_template,
    })
}

fn ids(source: &TextSource) -> Value {
    json!({"bos_token_id": source.bos_token_id, "eos_token_id": source.eos_token_ids})
}
