//! SentencePiece's `tokenizer.model`: one protobuf message of pieces, as `sentencepiece_model.proto` of that project defines it.
//!
//! Invariant: a model whose settings would give other ids than its pieces alone say is refused by name.

use crate::config::GgufVocabulary;
use crate::error::{Error, Result};
use std::path::Path;

/// `TrainerSpec.model_type` where the pieces are joined by score.
const BPE: u64 = 2;
/// `SentencePiece.type` of the unknown token, and of pieces that are cut out of the text.
const UNKNOWN: u64 = 2;
const USER_DEFINED: u64 = 4;
/// What `SentencePiece.type` and `TrainerSpec.model_type` are where the file leaves them out.
const DEFAULT: u64 = 1;

/// Reads the bytes of a `tokenizer.model`; `path` is for errors. Kinds of pieces have the numbers that GGUF took over.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<GgufVocabulary> {
    let refused = |what: &'static str, name: &str, supported: &str| {
        Err(Error::Unsupported { what, name: name.to_owned(), supported: supported.to_owned() })
    };
    let mut model = Model::default();
    model.read(bytes).ok_or_else(|| {
        Error::bad_file(
            path,
            "not a SentencePiece model: its protobuf is damaged or truncated, or the file is another's",
        )
    })?;
    if model.pieces.is_empty() {
        return Err(Error::bad_file(path, "a SentencePiece model without pieces"));
    }
    if model.kind != BPE {
        let name = ["Unigram", "BPE", "Word", "Char"].get(model.kind.wrapping_sub(1) as usize);
        return refused("kind of SentencePiece model", name.unwrap_or(&"(unknown)"), "BPE");
    }
    if model.changes_text {
        return refused("SentencePiece normalizer", &model.normalizer, "identity");
    }
    if model.removes_spaces || !model.escapes_spaces || model.spaces_behind {
        return refused(
            "SentencePiece's treatment of spaces",
            &format!(
                "remove_extra_whitespaces = {}, escape_whitespaces = {}, treat_whitespace_as_suffix = {}",
                model.removes_spaces, model.escapes_spaces, model.spaces_behind
            ),
            "false, true, false",
        );
    }
    // SentencePiece goes on behind such a piece as if it were text; other programs begin anew, with a space.
    if let Some(piece) = model.pieces.iter().find(|piece| piece.kind == USER_DEFINED) {
        let name = format!("user-defined (`{}`)", String::from_utf8_lossy(&piece.text));
        return refused("kind of SentencePiece's piece", &name, "others; convert it to a tokenizer.json");
    }
    let unknown = model.pieces.iter().position(|piece| piece.kind == UNKNOWN).and_then(|id| u32::try_from(id).ok());
    let mut vocabulary = GgufVocabulary {
        model: "llama".into(),
        pre: "default".into(),
        tokens: Vec::with_capacity(model.pieces.len()),
        scores: model.pieces.iter().map(|piece| piece.score).collect(),
        token_types: model.pieces.iter().map(|piece| i32::try_from(piece.kind).unwrap_or(i32::MAX)).collect(),
        merges: Vec::new(),
        unknown_token_id: unknown,
        add_space_prefix: Some(model.space_before),
        // Tokens that take white space are refused in these files.
        special_rstrip: false,
    };
    for (id, piece) in model.pieces.into_iter().enumerate() {
        let text = String::from_utf8(piece.text)
            .map_err(|error| Error::bad_file(path, format!("piece {id} is not UTF-8: {error}")))?;
        vocabulary.tokens.push(text);
    }
    Ok(vocabulary)
}

/// What matters of a `ModelProto`.
struct Model {
    pieces: Vec<Piece>,
    kind: u64,
    /// `treat_whitespace_as_suffix`.
    spaces_behind: bool,
    normalizer: String,
    /// Whether the normalizer has a table of replacements.
    changes_text: bool,
    /// `add_dummy_prefix`.
    space_before: bool,
    removes_spaces: bool,
    escapes_spaces: bool,
}

struct Piece {
    text: Vec<u8>,
    score: f32,
    kind: u64,
}

/// The defaults of the message's definition.
impl Default for Model {
    fn default() -> Model {
        Model {
            pieces: Vec::new(),
            kind: DEFAULT,
            spaces_behind: false,
            normalizer: String::new(),
            changes_text: false,
            space_before: true,
            removes_spaces: true,
            escapes_spaces: true,
        }
    }
}

impl Model {
    /// `None` if the bytes are no such message.
    fn read(&mut self, mut bytes: &[u8]) -> Option<()> {
        while let Some((number, value)) = field(&mut bytes)? {
            match (number, value) {
                (1, Value::Bytes(piece)) => self.pieces.push(Piece::read(piece)?),
                (2, Value::Bytes(trainer)) => self.read_trainer(trainer)?,
                (3, Value::Bytes(normalizer)) => self.read_normalizer(normalizer)?,
                (1..=3, _) => return None,
                _ => {}
            }
        }
        Some(())
    }

    fn read_trainer(&mut self, mut bytes: &[u8]) -> Option<()> {
        while let Some(field) = field(&mut bytes)? {
            match field {
                (3, Value::Number(kind)) => self.kind = kind,
                (24, Value::Number(behind)) => self.spaces_behind = behind != 0,
                _ => {}
            }
        }
        Some(())
    }

    fn read_normalizer(&mut self, mut bytes: &[u8]) -> Option<()> {
        while let Some(field) = field(&mut bytes)? {
            match field {
                (1, Value::Bytes(name)) => self.normalizer = String::from_utf8_lossy(name).into_owned(),
                (2, Value::Bytes(table)) => self.changes_text = !table.is_empty(),
                (3, Value::Number(before)) => self.space_before = before != 0,
                (4, Value::Number(removes)) => self.removes_spaces = removes != 0,
                (5, Value::Number(escapes)) => self.escapes_spaces = escapes != 0,
                _ => {}
            }
        }
        Some(())
    }
}

impl Piece {
    fn read(mut bytes: &[u8]) -> Option<Piece> {
        let mut piece = Piece { text: Vec::new(), score: 0.0, kind: DEFAULT };
        while let Some(field) = field(&mut bytes)? {
            match field {
                (1, Value::Bytes(text)) => piece.text = text.to_vec(),
                (2, Value::Word(score)) => piece.score = f32::from_bits(score),
                (3, Value::Number(kind)) => piece.kind = kind,
                (1..=3, _) => return None,
                _ => {}
            }
        }
        Some(piece)
    }
}

/// A field's value, by how protobuf writes it.
enum Value<'a> {
    Number(u64),
    Word(u32),
    Bytes(&'a [u8]),
    /// 8 bytes, which nothing here is.
    Long,
}

/// The next field of a message, which `bytes` is moved behind: its number and value. `Some(None)` at the end, `None` if
/// what follows is no field.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<Option<(u64, Value<'a>)>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let key = varint(bytes)?;
    let value = match key & 7 {
        0 => Value::Number(varint(bytes)?),
        1 => {
            *bytes = bytes.get(8..)?;
            Value::Long
        }
        2 => {
            let len = usize::try_from(varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Value::Bytes(value)
        }
        5 => {
            let (word, rest) = bytes.split_first_chunk::<4>()?;
            *bytes = rest;
            Value::Word(u32::from_le_bytes(*word))
        }
        _ => return None,
    };
    Some(Some((key >> 3, value)))
}

/// A number of 7 bits a byte, the lowest first; the top bit says that more follow.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
