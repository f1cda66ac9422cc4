//! Text data sets: reading, joining, cutting into chunks of tokens.
//!
//! Invariant: a text is joined and tokenised once, as a whole and with no special token added; chunks are consecutive
//! and do not overlap. What is cut this way depends on the file and the tokenizer alone.

use crate::error::{Error, Result};
use crate::text::{Special, Tokenizer};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What stands between two rows of a JSONL file.
const ROW_SEPARATOR: &str = "\n\n";
/// Largest file that is read, in bytes: far above what anyone scores, and an end to what a device file can pour out.
const MAX_BYTES: u64 = 1 << 30;

/// A text and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextData {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the whole file, in lower-case hexadecimal.
    pub sha256: String,
    /// The text, joined, and cut where a limit was set.
    pub text: String,
}

/// Consecutive chunks of a tokenised text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    /// `[chunk][seq_len]` token ids.
    pub ids: Vec<Vec<u32>>,
    /// Tokens of the whole text.
    pub tokens: usize,
}

#[derive(Deserialize)]
struct Row {
    text: Option<serde_json::Value>,
}

impl TextData {
    /// Reads a text: of `.jsonl` and `.ndjson` files the `text` fields of all rows, joined by a blank line; any other
    /// file as it is. With `max_chars` only the first so many characters (Unicode scalar values) of the joined text are
    /// kept.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::BadFile`] if it is not UTF-8, has a malformed row (with its
    /// line number), or holds no text.
    pub fn read(path: &Path, max_chars: Option<usize>) -> Result<TextData> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::bad_file(path, format!("the file is larger than the {MAX_BYTES} bytes that are read")));
        }
        let sha256 = hex(&Sha256::digest(&bytes));
        let raw = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
            Error::bad_file(path, format!("line {line} is not UTF-8 (byte {valid} of the file)"))
        })?;
        let mut text = if is_jsonl(path) { join_rows(path, &raw)? } else { raw };
        if let Some((end, _)) = max_chars.and_then(|limit| text.char_indices().nth(limit)) {
            text.truncate(end);
        }
        if text.trim().is_empty() {
            return Err(Error::bad_file(path, "the file holds no text"));
        }
        Ok(TextData { path: path.to_path_buf(), sha256, text })
    }

    /// The first chunks of `seq_len` tokens, at most `wanted`; fewer where the text ends before.
    ///
    /// # Errors
    /// [`Error::Setting`] for chunks too short to score, [`Error::BadFile`] for a text that does not fill one chunk,
    /// and those of [`Tokenizer::encode`].
    pub fn chunks(&self, tokenizer: &Tokenizer, seq_len: usize, wanted: usize) -> Result<Chunks> {
        if seq_len < 2 {
            return Err(Error::Setting(format!(
                "--seq-len is {seq_len}; a chunk needs at least 2 tokens to score one"
            )));
        }
        let ids = tokenizer.encode(&self.text, Special::Text)?;
        if ids.len() < seq_len {
            let found = ids.len();
            let what = format!("the text has {found} tokens, but one chunk needs {seq_len}: use a smaller --seq-len");
            return Err(Error::bad_file(&self.path, what));
        }
        let chunks = ids.chunks_exact(seq_len).take(wanted).map(<[u32]>::to_vec).collect();
        Ok(Chunks { ids: chunks, tokens: ids.len() })
    }
}

fn is_jsonl(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["jsonl", "ndjson"].iter().any(|name| extension.eq_ignore_ascii_case(name))
}

fn join_rows(path: &Path, raw: &str) -> Result<String> {
    let mut text = String::with_capacity(raw.len());
    let mut first = true;
    for (index, line) in raw.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |what: String| Error::bad_file(path, format!("line {}: {what}", index + 1));
        let row: Row = serde_json::from_str(line).map_err(|error| bad(format!("malformed JSON: {error}")))?;
        match row.text {
            Some(serde_json::Value::String(row)) => {
                if !first {
                    text.push_str(ROW_SEPARATOR);
                }
                text.push_str(&row);
                first = false;
            }
            Some(other) => return Err(bad(format!("the field `text` is not a string but {}", kind(&other)))),
            None => return Err(bad("the row has no field `text`".into())),
        }
    }
    Ok(text)
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
