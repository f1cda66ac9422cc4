//! What each token id stands for, in bytes.
//!
//! Invariant: the text of a sequence is the concatenation of its pieces, read as UTF-8, less one leading space where
//! the vocabulary puts one before every text.

use crate::error::{Error, Result};

/// How a vocabulary spells bytes as characters.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Spelling {
    /// One character for each byte, as GPT-2 does.
    ByteLevel,
    /// Text with some strings replaced ("▁" for a space).
    Plain {
        /// What stands in the vocabulary, and what it means.
        replace: Vec<(String, String)>,
        /// Whether `<0xNN>` is one byte.
        byte_fallback: bool,
    },
}

impl Spelling {
    /// The bytes that a token of the vocabulary stands for.
    pub fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            // A token with other characters is no byte-level one: added by hand, it stands for itself.
            Spelling::ByteLevel => {
                token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Spelling::Plain { replace, byte_fallback } => {
                if *byte_fallback && let Some(byte) = byte_token(token) {
                    return vec![byte];
                }
                let text = replace.iter().fold(token.to_string(), |text, (from, to)| text.replace(from, to));
                text.into_bytes()
            }
        }
    }
}

/// The byte that a character of a byte-level vocabulary stands for: printable Latin-1 stands for itself, the 68 others
/// are numbered from U+0100 in order.
pub(super) fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The byte of a `<0xNN>` token.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // `from_str_radix` would also take a sign.
    (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// One token before it is put into the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    pub bytes: Vec<u8>,
    pub special: bool,
}

/// The bytes of every token, by id.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// Where each token's bytes end in `bytes`.
    ends: Vec<usize>,
    special: Vec<bool>,
    /// Whether one space at the beginning of a decoded text is not part of it.
    pub leading_space: bool,
}

impl Pieces {
    /// The table of `pieces`, in order of id.
    pub fn new(pieces: impl IntoIterator<Item = Piece>, leading_space: bool) -> Pieces {
        let mut table = Pieces { bytes: Vec::new(), ends: Vec::new(), special: Vec::new(), leading_space };
        for piece in pieces {
            table.bytes.extend_from_slice(&piece.bytes);
            table.ends.push(table.bytes.len());
            table.special.push(piece.special);
        }
        table
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a token and whether it is special.
    ///
    /// # Errors
    /// [`Error::Text`] for an id outside the vocabulary.
    pub fn get(&self, id: u32) -> Result<(&[u8], bool)> {
        let index = id as usize;
        let Some(&end) = self.ends.get(index) else {
            return Err(Error::Text(format!("token id {id} is outside the vocabulary of {} tokens", self.len())));
        };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Ok((&self.bytes[start..end], self.special[index]))
    }
}
