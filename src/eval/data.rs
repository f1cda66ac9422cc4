//! Text data sets: reading, joining, cutting into chunks of tokens.
//!
//! Invariant: a text is joined and tokenised once, as a whole and with no special token added; chunks are consecutive
//! and do not overlap. What is cut this way depends on the file and the tokenizer alone.

use super::rows::DataFile;
use crate::error::{Error, Result};
use crate::text::{Special, Tokenizer};
use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};

/// What stands between two rows.
const ROW_SEPARATOR: &str = "\n\n";

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

impl TextData {
    /// Reads a text: of files of rows (see [`super::rows`]) the `text` fields, joined by a blank line; any other file as it
    /// is. With `max_chars` only the first so many characters (Unicode scalar values) of the joined text are kept, and
    /// rows behind them are not looked at.
    ///
    /// # Errors
    /// Those of [`DataFile::read`] and [`DataFile::rows`]; [`Error::BadFile`] if the file is not UTF-8, has a row without
    /// text (with its place), or holds no text at all.
    pub fn read(path: &Path, max_chars: Option<usize>) -> Result<TextData> {
        let file = DataFile::read(path)?;
        let mut text = if file.has_rows() { join_rows(&file, max_chars)? } else { file.text()?.to_owned() };
        if let Some((end, _)) = max_chars.and_then(|limit| text.char_indices().nth(limit)) {
            text.truncate(end);
        }
        if text.trim().is_empty() {
            return Err(Error::bad_file(path, "the file holds no text"));
        }
        Ok(TextData { path: path.to_path_buf(), sha256: file.sha256().to_owned(), text })
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

fn join_rows(file: &DataFile, max_chars: Option<usize>) -> Result<String> {
    let mut text = String::new();
    let (mut rows, mut chars) = (0, 0);
    file.rows(&mut |row| {
        if rows > 0 {
            text.push_str(ROW_SEPARATOR);
            chars += ROW_SEPARATOR.len();
        }
        let of_row = row.text("text")?;
        text.push_str(of_row);
        rows += 1;
        chars += of_row.chars().count();
        Ok(if max_chars.is_some_and(|limit| chars >= limit) { Break(()) } else { Continue(()) })
    })?;
    Ok(text)
}
