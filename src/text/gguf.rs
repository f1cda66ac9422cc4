//! A vocabulary of GGUF metadata to the parts of a tokenizer.
//!
//! Everything in it is checked here: lengths, ids, types, duplicates.

use super::added::AddedToken;
use super::bpe::{Bpe, BpeSpec};
use super::pieces::{Piece, Spelling, byte_token};
use super::pre;
use super::spm::{Entry, SPACE, Spm};
use super::tokenizer::{Model, Parts};
use crate::config::GgufVocabulary;
use crate::error::{Error, Result};
use std::collections::HashMap;

/// Tokens that leave the white space behind them alone, even where a family's others take it, as in llama.cpp.
const NEVER_STRIPPING: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// The kinds of tokens in `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte(u8),
}

/// The parts of the tokenizer in `vocabulary`. Tokens in `structural` are special whatever the file says.
///
/// # Errors
/// [`Error::Text`] naming what is wrong, [`Error::Unsupported`] for an unknown kind of tokenizer.
pub(super) fn read(vocabulary: &GgufVocabulary, structural: &[u32]) -> Result<Parts> {
    let tokens = &vocabulary.tokens;
    if tokens.is_empty() {
        return Err(Error::Text("the file's vocabulary (tokenizer.ggml.tokens) is empty".into()));
    }
    check_len("token_type", vocabulary.token_types.len(), tokens.len())?;
    check_len("scores", vocabulary.scores.len(), tokens.len())?;
    let mut ids = HashMap::with_capacity(tokens.len());
    for (token, id) in tokens.iter().zip(0u32..) {
        // Padding is sometimes written as empty tokens; they stand for nothing.
        if token.is_empty() {
            continue;
        }
        if let Some(other) = ids.insert(token.clone(), id) {
            return Err(Error::Text(format!("token `{token}` is in the file's vocabulary twice, as {other} and {id}")));
        }
    }
    let unknown = vocabulary.unknown_token_id;
    if let Some(id) = unknown.filter(|id| *id as usize >= tokens.len()) {
        return Err(Error::Text(format!("the unknown token's id is {id}, but there are {} tokens", tokens.len())));
    }
    let kinds = kinds(vocabulary, structural)?;
    let added = added_of(vocabulary, &kinds);
    match vocabulary.model.as_str() {
        "gpt2" => byte_level(vocabulary, &kinds, ids, added),
        "llama" => sentence_piece(vocabulary, &kinds, ids, added),
        other => Err(Error::Unsupported {
            what: "tokenizer (tokenizer.ggml.model)",
            name: other.to_string(),
            supported: "llama, gpt2".into(),
        }),
    }
}

/// The tokens that are cut out of the text as it is written.
///
/// # Errors
/// As [`read`].
pub(super) fn added(vocabulary: &GgufVocabulary, structural: &[u32]) -> Result<Vec<AddedToken>> {
    Ok(added_of(vocabulary, &kinds(vocabulary, structural)?))
}

fn added_of(vocabulary: &GgufVocabulary, kinds: &[Kind]) -> Vec<AddedToken> {
    let added = vocabulary.tokens.iter().zip(kinds).zip(0u32..).filter_map(|((token, kind), id)| match kind {
        Kind::Control | Kind::Unknown => Some(AddedToken::new(id, token, true)),
        Kind::UserDefined => Some(AddedToken::new(id, token, false)),
        _ => None,
    });
    let strips = vocabulary.special_rstrip && vocabulary.model == "llama";
    let rstrip = |token: &AddedToken| strips && !NEVER_STRIPPING.contains(&token.content.as_str());
    added.map(|token| AddedToken { rstrip: rstrip(&token), ..token }).collect()
}

fn check_len(name: &str, found: usize, expected: usize) -> Result<()> {
    if found == 0 || found == expected {
        return Ok(());
    }
    Err(Error::Text(format!("tokenizer.ggml.{name} has {found} entries, but there are {expected} tokens")))
}

fn kinds(vocabulary: &GgufVocabulary, structural: &[u32]) -> Result<Vec<Kind>> {
    let sentence_piece = vocabulary.model == "llama";
    let mut kinds = Vec::with_capacity(vocabulary.tokens.len());
    for (token, id) in vocabulary.tokens.iter().zip(0u32..) {
        let kind = match vocabulary.token_types.get(id as usize) {
            _ if structural.contains(&id) => Kind::Control,
            None if vocabulary.unknown_token_id == Some(id) => Kind::Unknown,
            // Without types, what looks like a byte of a SentencePiece vocabulary is one.
            None => byte_token(token).filter(|_| sentence_piece).map_or(Kind::Normal, Kind::Byte),
            // 0 is "undefined".
            Some(0 | 1) => Kind::Normal,
            Some(2) => Kind::Unknown,
            Some(3) => Kind::Control,
            Some(4) => Kind::UserDefined,
            Some(5) => Kind::Unused,
            Some(6) => Kind::Byte(byte_token(token).ok_or_else(|| {
                Error::Text(format!("token {id}, `{token}`, is said to be a byte but is not written <0xNN>"))
            })?),
            Some(other) => {
                return Err(Error::Text(format!("token {id}, `{token}`, is of type {other}; types are 0 to 6")));
            }
        };
        kinds.push(kind);
    }
    Ok(kinds)
}

fn pieces(vocabulary: &GgufVocabulary, kinds: &[Kind], spelling: &Spelling) -> Vec<Piece> {
    let piece = |(token, kind): (&String, &Kind)| match kind {
        Kind::Control | Kind::Unknown => Piece { bytes: token.as_bytes().to_vec(), special: true },
        Kind::UserDefined => Piece { bytes: token.as_bytes().to_vec(), special: false },
        Kind::Byte(byte) => Piece { bytes: vec![*byte], special: false },
        Kind::Normal | Kind::Unused => Piece { bytes: spelling.bytes(token), special: false },
    };
    vocabulary.tokens.iter().zip(kinds).map(piece).collect()
}

/// The two tokens of every merge.
///
/// # Errors
/// [`Error::Text`] for one that is not of two.
pub(super) fn merges(vocabulary: &GgufVocabulary) -> Result<Vec<(String, String)>> {
    let merges = vocabulary.merges.iter().enumerate().map(|(rank, merge)| {
        // A token may begin with a space, but not hold one further on.
        let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
        match space {
            Some((at, _)) if at + 1 < merge.len() => Ok((merge[..at].to_string(), merge[at + 1..].to_string())),
            _ => Err(Error::Text(format!("merge {rank} of the file's vocabulary, `{merge}`, is not two tokens"))),
        }
    });
    merges.collect()
}

fn byte_level(
    vocabulary: &GgufVocabulary,
    kinds: &[Kind],
    ids: HashMap<String, u32>,
    added: Vec<AddedToken>,
) -> Result<Parts> {
    let rule = pre::by_name(&vocabulary.pre)?;
    let spec = BpeSpec {
        vocab: ids,
        merges: merges(vocabulary)?,
        ignore_merges: rule.ignore_merges,
        special: added.iter().filter(|token| token.special).map(|token| token.content.clone()).collect(),
        ..BpeSpec::default()
    };
    let model = Bpe::new(spec.build()?, rule.normalizer, Some(rule.split), Vec::new())?;
    Ok(Parts {
        model: Model::Bpe(Box::new(model)),
        added,
        pieces: pieces(vocabulary, kinds, &Spelling::ByteLevel),
        leading_space: false,
        add_bos: rule.add_bos,
    })
}

fn sentence_piece(
    vocabulary: &GgufVocabulary,
    kinds: &[Kind],
    ids: HashMap<String, u32>,
    added: Vec<AddedToken>,
) -> Result<Parts> {
    if vocabulary.scores.is_empty() {
        return Err(Error::Text("a vocabulary of kind `llama` needs tokenizer.ggml.scores, which are missing".into()));
    }
    let mut entries = HashMap::with_capacity(ids.len());
    let mut bytes = [None; 256];
    for (token, id) in ids {
        let (kind, score) = (kinds[id as usize], vocabulary.scores[id as usize]);
        if !score.is_finite() {
            return Err(Error::Text(format!("token {id}, `{token}`, has the score {score}")));
        }
        match kind {
            Kind::Byte(byte) => bytes[usize::from(byte)] = Some(id),
            Kind::Normal | Kind::UserDefined | Kind::Unused => {
                entries.insert(token, Entry { id, score, unused: kind == Kind::Unused });
            }
            // No text becomes one of these by joining.
            Kind::Control | Kind::Unknown => {}
        }
    }
    let space_prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let replace = vec![(SPACE.to_string(), " ".to_string())];
    let spelling = Spelling::Plain { replace, byte_fallback: false };
    Ok(Parts {
        model: Model::Spm(Box::new(Spm::new(entries, bytes, vocabulary.unknown_token_id, space_prefix))),
        added,
        pieces: pieces(vocabulary, kinds, &spelling),
        leading_space: space_prefix,
        add_bos: true,
    })
}
