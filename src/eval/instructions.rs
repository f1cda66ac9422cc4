//! Instructions with their answers, to learn from: rows with Alpaca's fields.
//!
//! Invariant: what a row says stays text, whatever special tokens it writes; only the end of an answer is a token of its own.

use super::rows::{DataFile, Row};
use crate::error::{Error, Result};
use crate::text::{ChatTemplate, Message, Special, Tokenizer};
use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};

/// What a person asks, and what the model is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The field `instruction`.
    pub instruction: String,
    /// The field `input`: what the instruction is about; empty where there is none.
    pub input: String,
    /// The field `output`.
    pub output: String,
}

/// All of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instructions {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// In the file's order; at least one.
    pub rows: Vec<Instruction>,
}

/// A row as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Prompt and answer.
    pub ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
}

impl Instructions {
    /// Whether a file holds instructions, and not texts: its first row says so.
    ///
    /// # Errors
    /// Those of [`DataFile::read`] and [`DataFile::rows`].
    pub fn are_in(path: &Path) -> Result<bool> {
        let (file, mut found) = (DataFile::read(path)?, false);
        if file.has_rows() {
            file.rows(&mut |row| {
                found = row.has("instruction") || row.has("output");
                Ok(Break(()))
            })?;
        }
        Ok(found)
    }

    /// Reads the first `limit` rows of a file, or all.
    ///
    /// # Errors
    /// Those of [`DataFile::read`] and [`DataFile::rows`]; [`Error::BadFile`] for a row without `instruction` or `output`, or with
    /// an empty one, with its place, and for a file without rows.
    pub fn read(path: &Path, limit: Option<usize>) -> Result<Instructions> {
        let file = DataFile::read(path)?;
        let mut rows = Vec::new();
        if limit != Some(0) {
            file.rows(&mut |row| {
                rows.push(instruction(&row)?);
                Ok(if limit.is_some_and(|limit| rows.len() >= limit) { Break(()) } else { Continue(()) })
            })?;
        }
        match rows.is_empty() {
            true => Err(Error::bad_file(path, "the file holds no instruction")),
            false => Ok(Instructions { path: path.to_path_buf(), sha256: file.sha256().to_owned(), rows }),
        }
    }
}

fn instruction(row: &Row<'_>) -> Result<Instruction> {
    let filled = |name: &str| match row.text(name)? {
        text if text.trim().is_empty() => Err(row.error(format!("`{name}` is empty"))),
        text => Ok(text.to_owned()),
    };
    let input = if row.has("input") { row.text("input")?.to_owned() } else { String::new() };
    Ok(Instruction { instruction: filled("instruction")?, input, output: filled("output")? })
}

impl Instruction {
    /// What the person says.
    fn question(&self) -> String {
        match self.input.trim().is_empty() {
            true => self.instruction.clone(),
            false => format!("{}\n\n{}", self.instruction, self.input),
        }
    }

    /// As tokens, in the form in which a conversation will ask the model: the answer with a token that ends it.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::prompt`] and [`Tokenizer::encode`].
    pub fn encode(&self, tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<Encoded> {
        let question = Message::new("user", self.question());
        let prompt = template.prompt(tokenizer, std::slice::from_ref(&question), true)?;
        let prompt = tokenizer.encode_prompt(&prompt)?;
        let answered = [question, Message::new("assistant", self.output.as_str())];
        let whole = tokenizer.encode_prompt(&template.prompt(tokenizer, &answered, false)?)?;
        // Up to the token that ends the answer: what a template writes behind it is never generated.
        let end = whole.iter().skip(prompt.len()).position(|&id| tokenizer.is_end(id));
        let length = prompt.len();
        let ids = match (whole.starts_with(&prompt), end) {
            (true, Some(end)) => whole[..=length + end].to_vec(),
            // A form that ends no answer.
            (true, None) => [&whole, tokenizer.eos_ids().get(..1).unwrap_or_default()].concat(),
            // A form that writes an old answer in another way than one that is to come.
            (false, _) => {
                let answer = tokenizer.encode(&self.output, Special::Text)?;
                [&prompt, &answer, tokenizer.eos_ids().get(..1).unwrap_or_default()].concat()
            }
        };
        Ok(Encoded { ids, prompt: length })
    }
}
